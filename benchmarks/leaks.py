"""What the leak guard finds, and what it does not: clips are changed in one way each, filed under another name on the other side of the split, and looked for.

    python benchmarks/leaks.py                              # on the demo's planted clips; `mmemo demo` makes them
    MMEMO_REAL_DATA=... python benchmarks/leaks.py          # and, for false alarms, on real speech: everybody says the same two sentences twice

Synthetic clips of 2.4 seconds, 112 pixels wide. A change of the film changes its sound in the same way (a half has half of the sound), so each is counted twice: by the picture alone, and by the sound alone.
"""
import shutil, tempfile, time, warnings
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import tyro

from mmemo.core import real_data, write_json
from mmemo.corpora.duplicates import fingerprint_sound, match_sounds
from mmemo.corpora.leaks import check_leaks
from mmemo.corpora.manifest import Corpus, check_manifest
from mmemo.corpora.readers import open_corpus
from mmemo.media.files import write_clip
from mmemo.media.frames import VideoReader
from mmemo.media.sound import read_audio


@dataclass
class Config:
    corpus: Path = Path('runs/demo/corpus') # films with sound
    clips: int = 40 # that are changed, evenly spread over the corpus
    out: Path | None = None # a JSON file for the figures


def part(a, b): return lambda f, s, fps: (f[int(a*len(f)):int(b*len(f))], s[int(a*len(s)):int(b*len(s))], fps)
def resized(f, w, h): return np.stack([cv2.resize(x, (w, h), interpolation=cv2.INTER_AREA) for x in f])
def framed(f, share): # cut to another frame, and as large as before
    h, w = f.shape[1:3]; y, x = int(h*share), int(w*share)
    return resized(f[:, y:h - y, x:w - x], w, h)


def faster(s, by): # as a tape that runs faster
    return np.interp(np.arange(0, len(s) - 1, by), np.arange(len(s)), s)


FILMS = { # frames, samples, frames a second -> the same; CRF
    'copied in poor quality': (lambda f, s, fps: (f, s, fps), 34),
    'half the size': (lambda f, s, fps: (resized(f, 56, 56), s, fps), 28),
    'half the frame rate': (lambda f, s, fps: (f[::2], s, fps/2), 28),
    'brighter by 10 %': (lambda f, s, fps: (np.clip(f*1.1 + 5, 0, 255).astype(np.uint8), s, fps), 28),
    'mirrored': (lambda f, s, fps: (f[:, :, ::-1], s, fps), 28),
    'first half': (part(0, .5), 26), 'second half': (part(.5, 1), 26), 'out of the middle': (part(.23, .77), 26),
    'first 60 %, mirrored': (lambda f, s, fps: part(0, .6)(f[:, :, ::-1], s, fps), 26),
    'last 60 %, half the frame rate': (lambda f, s, fps: (f[int(.4*len(f))::2], s[int(.4*len(s)):], fps/2), 26),
    'first 60 %, half the size': (lambda f, s, fps: part(0, .6)(resized(f, 56, 56), s, fps), 28),
    'first quarter': (part(0, .25), 26),
    'cut to a frame 5 % smaller': (lambda f, s, fps: (framed(f, .025), s, fps), 26),
    'cut to a frame 20 % smaller': (lambda f, s, fps: (framed(f, .1), s, fps), 26),
    '4 % faster': (lambda f, s, fps: (f, faster(s, 1.04), fps*1.04), 26),
    '25 % faster': (lambda f, s, fps: (f, faster(s, 1.25), fps*1.25), 26),
    'upside down': (lambda f, s, fps: (f[:, ::-1], s, fps), 26),
    'backwards': (lambda f, s, fps: (f[::-1], s[::-1], fps), 26)}
SOUNDS = { # samples -> samples; codec, ending, options
    'MP3, 32 kbit/s': (lambda s: s, 'libmp3lame', 'mp3', dict(bit_rate=32000)), 'Opus, 24 kbit/s': (lambda s: s, 'libopus', 'ogg', dict(bit_rate=24000)),
    'AAC, 32 kbit/s': (lambda s: s, 'aac', 'm4a', dict(bit_rate=32000)), 'three times as loud, clipped': (lambda s: np.clip(3*s, -1, 1), 'flac', 'flac', {}),
    'shifted by 37 ms, Opus': (lambda s: np.r_[np.zeros(592), s], 'libopus', 'ogg', dict(bit_rate=24000)),
    'second half, MP3': (lambda s: s[len(s)//2:], 'libmp3lame', 'mp3', dict(bit_rate=32000)),
    'with noise, 20 dB below': (lambda s: s + .1*s.std()*np.random.default_rng(0).normal(size=len(s)), 'flac', 'flac', {}),
    'with noise, 6 dB below': (lambda s: s + .5*s.std()*np.random.default_rng(0).normal(size=len(s)), 'flac', 'flac', {}),
    'first quarter, MP3': (lambda s: s[:len(s)//4], 'libmp3lame', 'mp3', dict(bit_rate=32000)),
    '4 % faster and higher': (lambda s: faster(s, 1.04), 'flac', 'flac', {})}


def write_sound(path, samples, codec, **options):
    with av.open(str(path), 'w') as c:
        track = c.add_stream(codec, rate=16000, layout='mono', **options)
        frame = av.AudioFrame.from_ndarray((np.clip(samples, -1, 1)*32767).astype(np.int16)[None], format='s16', layout='mono')
        frame.sample_rate = 16000
        fit = av.AudioResampler(track.codec_context.format, 'mono', 16000, track.codec_context.frame_size or None)
        for f in [*fit.resample(frame), *fit.resample(None)]: c.mux(track.encode(f))
        c.mux(track.encode(None))


def count(originals:list, copies:list, cache) -> dict: # sound, picture: how many are found; wrong: sets that join two clips
    rows = [(f'{name}{i}', str(p), f'{name}{i}', side) for name, side, files in (('take', 'train', originals), ('copy', 'test', copies)) for i, p in enumerate(files)]
    clips = check_manifest(pd.DataFrame(rows, columns=['clip_id', 'path', 'subject', 'split']))
    table = check_leaks(Corpus('changed', Path('/'), clips), refuse=False, cache=cache, progress=False).table
    found = {}
    for kind in ('video', 'sound'):
        sets = [set(c) for c in table[table.kind == kind].clips]
        found[kind] = sum({f'take{i}', f'copy{i}'} <= s for i in range(len(originals)) for s in sets)
        found[f'{kind}_wrong'] = sum(len({c[4:] for c in s}) > 1 for s in sets)
    return found


def find_changes(config, work) -> list: # of dicts
    corpus = open_corpus(config.corpus)
    clips = corpus.clips.drop_duplicates('face_take').drop_duplicates('voice_take') # a quartet shares its takes by design
    ids = clips.clip_id.iloc[np.linspace(0, len(clips) - 1, config.clips).round().astype(int)]
    films = [corpus.path(i) for i in ids]
    seen = [(r.frames(range(len(r))), read_audio(p), r.fps) for p, r in ((p, VideoReader(p)) for p in films)]
    rows = []
    for what, (change, crf) in FILMS.items():
        for i, film in enumerate(seen):
            frames, samples, fps = change(*film)
            write_clip(work/f'{i}.mp4', np.ascontiguousarray(frames), fps, samples, crf=crf)
        rows.append(dict(what=what, n=len(films), **count(films, [work/f'{i}.mp4' for i in range(len(films))], work/'cache')))
        print(rows[-1], flush=True)
    for what, (change, codec, ending, options) in SOUNDS.items():
        files = [work/f'{i}.{ending}' for i in range(len(films))]
        for path, (_, samples, _) in zip(files, seen): write_sound(path, change(samples), codec, **options)
        found = count(films, files, work/'cache')
        rows.append(dict(what=what, n=len(films), sound=found['sound'], sound_wrong=found['sound_wrong']))
        print(rows[-1], flush=True)
    return rows


def find_false_alarms(config, work) -> list: # of dicts
    corpus = open_corpus(config.corpus)
    shared = corpus.clips.assign(split='train', subject=[f'{f} {v}' for f, v in zip(corpus.clips.face_take, corpus.clips.voice_take)])
    one = shared.drop_duplicates('face_take').drop_duplicates('voice_take').assign(subject=lambda t: t.clip_id) # each a person of its own
    begun = time.perf_counter()
    report = check_leaks(Corpus('separate', corpus.root, one.drop(columns='group')), refuse=False, cache=work/'cache', progress=False)
    rows = [dict(what='separate takes of planted clips', n=len(one), wrong=len(report.table), seconds=round(time.perf_counter() - begun, 1))]
    if real_data():
        files = sorted((real_data()/'ravdess_speech_16k').glob('*.flac'))
        prints = {f.stem: fingerprint_sound(f) for f in files}
        names = list(prints)
        pairs = [(names[a], names[b]) for a, b in match_sounds(list(prints.values()))]
        rows.append(dict(what='real utterances (RAVDESS)', n=len(names), wrong=len(pairs), which=pairs))
    return rows


def main(config:Config):
    warnings.simplefilter('ignore')
    work = Path(tempfile.mkdtemp())
    try: changed, alarms = find_changes(config, work), find_false_alarms(config, work)
    finally: shutil.rmtree(work, ignore_errors=True)
    table = pd.DataFrame(changed).fillna({'video': -1, 'video_wrong': 0})
    share = lambda found, n: '' if found < 0 else f'{found:.0f} of {n}'
    print('\n| a clip that was | by its picture | by its sound |\n|---|---|---|')
    for r in table.itertuples(): print(f'| {r.what} | {share(r.video, r.n)} | {share(r.sound, r.n)} |')
    print(f'\nSets that join two separate clips: {int(table.video_wrong.sum())} by the picture, {int(table.sound_wrong.sum())} by the sound.')
    for r in alarms: print(r)
    if config.out: write_json(config.out, dict(changed=changed, alarms=alarms))


if __name__ == '__main__': main(tyro.cli(Config, description=__doc__))
