"""The leak guard and the probes: what the notebooks do not show. Each copy is one that names and file hashes do not show."""
import threading
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

import mmemo.corpora.duplicates as fingerprints_module
import mmemo.corpora.leaks as guard_module
from mmemo.corpora.duplicates import KEYS, MIRROR, NEAR, PART, match_parts, place_part, space_rows, spread_rows
from mmemo.core import UserError, file_hash, real_data, rng_for
from mmemo.corpora.duplicates import fingerprint_sound, number_sets, write_waves
from mmemo.corpora.leaks import RANDOM, check_leaks, group_twins, guard
from mmemo.corpora.splits import deal_clips
from mmemo.media.threads import map_in_threads
from mmemo.corpora.manifest import Corpus, check_manifest, load_corpus, save_corpus
from mmemo.corpora.splits import folds_by_subject, split_by_subject
from mmemo.media.files import write_clip
from mmemo.media.frames import VideoReader
from mmemo.media.sound import read_audio
from mmemo.planted.corpus import PlantedConfig, PlanRow, make_planted, plan_corpus, render_face_take, sample_subject_face
from mmemo.planted.face import sample_idle_motion
from mmemo.planted.render import render_face
from mmemo.planted.scene import sample_scene
from mmemo.explain.probe import read_clip_properties, predict_held_out, describe_columns, check_shortcuts, tabulate_shortcuts, probe_subject
from mmemo.training.metrics import count_confusion, uar

RAVDESS_FOLDS = [(1, 7, 13, 19), (2, 8, 14, 20), (3, 9, 15, 21), (4, 10, 16, 23), (6, 11, 18, 24)]


def voice(seed, n=12000, level=.1):
    return level*rng_for('guard-voice', seed).normal(size=n)


def write_sound(path, samples, codec='pcm_s16le', rate=16000, channels=1):
    with av.open(str(path), 'w') as c:
        track = c.add_stream(codec, rate=rate, layout='mono' if channels == 1 else 'stereo')
        ints = np.repeat((np.asarray(samples)*32767).astype(np.int16), channels)[None]
        frame = av.AudioFrame.from_ndarray(ints, format='s16', layout=track.layout.name)
        frame.sample_rate = rate
        fifo = av.AudioFifo()
        fifo.write(frame)
        while (piece := fifo.read(track.codec_context.frame_size or 4096, partial=True)) is not None: c.mux(track.encode(piece))
        c.mux(track.encode(None))
    return path


def write_coded(path, samples, codec, **options):
    with av.open(str(path), 'w') as c:
        track = c.add_stream(codec, rate=16000, layout='mono', **options)
        frame = av.AudioFrame.from_ndarray((np.asarray(samples)*32767).astype(np.int16)[None], format='s16', layout='mono')
        frame.sample_rate = 16000
        fit = av.AudioResampler(track.codec_context.format, 'mono', 16000, track.codec_context.frame_size or None)
        for f in [*fit.resample(frame), *fit.resample(None)]: c.mux(track.encode(f))
        c.mux(track.encode(None))


def corpus_of(root, rows):  # rows: clip id, file, subject, split
    return Corpus('some', root, check_manifest(pd.DataFrame(rows, columns=['clip_id', 'path', 'subject', 'split'])))


@pytest.fixture
def own(tmp_path):
    return dict(cache=tmp_path/'cache', progress=False)


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
    "Face takes of one planted subject, and the plan they come from."
    folder = tmp_path_factory.mktemp('takes')
    config = PlantedConfig(seed=3, train_clips=496, val_clips=144, test_clips=384, both=.35, audio=.2, video=.2, coincidence=0.)
    plan = plan_corpus(config)
    who = plan[(plan.subject == plan.subject[0]) & (plan.subset != 'xor')].head(4)
    takes = [render_face_take(PlanRow(**r._asdict()), config) for r in who.itertuples(index=False)]
    for i, t in enumerate(takes): write_clip(folder/f'take{i}.mp4', t, 25)
    return folder, takes


def naive_copies(root, clips):
    "What a guard that compares names and bytes would find."
    hashes = [file_hash(Path(root)/p) for p in clips.path]
    return len(hashes) - len(set(hashes)) + len(clips) - clips.clip_id.nunique()


# ---- sound

COPIES = {'flac': dict(codec='flac'), 'mov': {}, 'stereo.wav': dict(channels=2), 'aiff': dict(codec='pcm_s16be')}

@pytest.mark.parametrize('kind', COPIES)
def test_identical_sound_under_another_name_and_container(tmp_path, own, kind):
    write_sound(tmp_path/'01.wav', voice(0))
    write_sound(tmp_path/f'02.{kind}', voice(0), **COPIES[kind])
    write_sound(tmp_path/'03.wav', voice(1))
    corpus = corpus_of(tmp_path, [('a', '01.wav', 's1', 'train'), ('b', f'02.{kind}', 's2', 'test'), ('c', '03.wav', 's3', 'test')])
    assert naive_copies(tmp_path, corpus.clips) == 0
    with pytest.raises(UserError, match=r"identical sound: 'a' \(train, subject s1\) and 'b' \(test, subject s2\)"): guard(corpus, **own)
    assert guard(corpus.subset(['a', 'c']), **own).checked['sound'] == 2
    assert guard(corpus, sound=False, **own).checked.keys() == {'subject', 'source', 'video'}


def test_a_film_and_its_remuxed_copy_sound_the_same(tmp_path, planted):
    folder, takes = planted
    write_clip(tmp_path/'a.mp4', takes[0], 25, voice(0, 38400))
    with av.open(str(tmp_path/'a.mp4')) as i, av.open(str(tmp_path/'b.mkv'), 'w') as o:
        tracks = {s: o.add_stream_from_template(s) for s in i.streams}
        for p in i.demux():
            if p.dts is not None: p.stream = tracks[p.stream]; o.mux(p)
    assert file_hash(tmp_path/'a.mp4') != file_hash(tmp_path/'b.mkv')
    sets = number_sets('sound', [fingerprint_sound(tmp_path/'a.mp4'), fingerprint_sound(tmp_path/'b.mkv')])
    assert sets[0] == sets[1] != -1


def test_silence_and_missing_sound_never_match(tmp_path, own, planted):
    for i in range(2): write_sound(tmp_path/f'silent{i}.wav', np.zeros(8000))
    for i in range(2): write_sound(tmp_path/f'offset{i}.wav', np.full(8000, .02))
    for i in range(2): write_clip(tmp_path/f'film{i}.mp4', planted[1][i], 25)
    write_clip(tmp_path/'silenttrack0.mp4', planted[1][2], 25, np.zeros(38400)); write_clip(tmp_path/'silenttrack1.mp4', planted[1][3], 25, np.zeros(38400))
    names = sorted(p.name for p in tmp_path.glob('*.*'))
    corpus = corpus_of(tmp_path, [(n, n, f's{i}', 'train' if i % 2 else 'test') for i, n in enumerate(names)])
    assert naive_copies(tmp_path, corpus.clips) == 2             # by bytes the silent files are copies of each other
    report = guard(corpus, **own)
    assert report.checked['sound'] == 0 and report.checked['video'] == 4 and len(report.notes.table) == 0


def test_soft_speech_is_no_silence(tmp_path, own):
    for n, ext in (('a', 'wav'), ('b', 'flac')): write_sound(tmp_path/f'{n}.{ext}', voice(0, level=10**(-66/20)), 'flac' if ext == 'flac' else 'pcm_s16le')
    with pytest.raises(UserError, match='identical sound'):
        guard(corpus_of(tmp_path, [('a', 'a.wav', 's1', 'train'), ('b', 'b.flac', 's2', 'test')]), **own)


@pytest.mark.parametrize('change', [lambda x: x[4000:], lambda x: x[:-9000], lambda x: np.r_[np.zeros(777), x, np.zeros(5)], lambda x: np.r_[voice(9, 8000), x]],
                         ids=['begins later', 'ends earlier', 'padded', 'with something before'])
def test_a_trimmed_or_padded_copy_sounds_the_same(tmp_path, own, change):
    "One hash over all samples, the naive way, misses each of these."
    write_sound(tmp_path/'a.wav', voice(0, 32000)); write_sound(tmp_path/'b.wav', change(voice(0, 32000)))
    assert not np.array_equal(*(np.trim_zeros(read_audio(tmp_path/f'{n}.wav')) for n in 'ab')) or len(change(np.ones(32000))) == 32782
    with pytest.raises(UserError, match='identical sound'):
        guard(corpus_of(tmp_path, [('a', 'a.wav', 's1', 'train'), ('b', 'b.wav', 's2', 'test')]), **own)


def test_a_shared_signal_does_not_make_clips_identical(tmp_path, own):
    "The same beep before everything that is said."
    beep = .3*np.sin(np.arange(8000)*.4)*np.hanning(8000)
    for i in range(4): write_sound(tmp_path/f'{i}.wav', np.r_[beep, np.zeros(4000), voice(i, 32000)])
    report = guard(corpus_of(tmp_path, [(str(i), f'{i}.wav', f's{i}', 'train' if i % 2 else 'test') for i in range(4)]), **own)
    assert report.checked['sound'] == 4


def speech(seed, n=40000): # tones whose pitch and strength wander, with pauses
    rng, knots = rng_for('guard-speech', seed), np.arange(0, n + 4000, 2000)
    def glide(low, high): return np.interp(np.arange(n), knots, rng.uniform(low, high, len(knots)))
    phase = np.cumsum(glide(100, 250))*2*np.pi/16000
    return .02*np.clip(glide(-1, 4), 0, 1)*sum(glide(0, 1)*np.sin(k*phase) for k in range(1, 20))


HEARD = { # samples -> samples, codec and its options
    'mp3': lambda x: (x, 'libmp3lame', dict(bit_rate=32000)), 'opus': lambda x: (x, 'libopus', dict(bit_rate=24000)), 'aac': lambda x: (x, 'aac', dict(bit_rate=48000)),
    'louder': lambda x: (np.clip(x*3, -1, 1), 'flac', {}), 'shifted': lambda x: (np.r_[np.zeros(1113), x], 'libopus', dict(bit_rate=32000)),
    'first half': lambda x: (x[:len(x)//2], 'libmp3lame', dict(bit_rate=48000)), 'second half, softer': lambda x: (.2*x[len(x)//2:], 'libopus', dict(bit_rate=32000)),
    'with a noise': lambda x: (x + .003*rng_for('noise').normal(size=len(x)), 'pcm_s16le', {})}

@pytest.mark.parametrize('edit', HEARD)
def test_sound_that_was_changed(tmp_path, own, edit):
    endings = dict(libmp3lame='mp3', libopus='ogg', aac='m4a', flac='flac', pcm_s16le='wav')
    rows = []
    for i in range(4):
        samples, codec, options = HEARD[edit](speech(i))
        write_sound(tmp_path/f'take{i}.wav', speech(i))
        write_coded(tmp_path/f'copy{i}.{endings[codec]}', samples, codec, **options)
        rows += [(f'take{i}', f'take{i}.wav', f's{i}', 'train'), (f'copy{i}', f'copy{i}.{endings[codec]}', f't{i}', 'test')]
    report = check_leaks(corpus_of(tmp_path, rows), refuse=False, **own)
    assert sorted(sorted(c) for c in report.leaks.clips) == [[f'copy{i}', f'take{i}'] for i in range(4)]


# ---- video

EDITS = dict(quality=lambda f: (f, 25, 34), half=lambda f: (f[:, ::2, ::2], 25, 28), slower=lambda f: (f[::2], 12.5, 26),
             bright=lambda f: (np.clip(f*1.15 + 8, 0, 255).astype(np.uint8), 25, 26))

@pytest.mark.parametrize('edit', EDITS)
def test_near_identical_video(tmp_path, own, planted, edit):
    folder, takes = planted
    for i, t in enumerate(takes):
        frames, fps, crf = EDITS[edit](t)
        write_clip(tmp_path/f'copy{i}.mp4', frames, fps, crf=crf)
        (tmp_path/f'take{i}.mp4').write_bytes((folder/f'take{i}.mp4').read_bytes())
    rows = [(f'{n}{i}', f'{n}{i}.mp4', f's{i}{n}', side) for i in range(4) for n, side in (('take', 'train'), ('copy', 'test'))]
    corpus = corpus_of(tmp_path, rows)
    assert naive_copies(tmp_path, corpus.clips) == 0
    report = check_leaks(corpus, refuse=False, **own)
    assert sorted(sorted(c) for c in report.leaks.clips) == [[f'copy{i}', f'take{i}'] for i in range(4)]
    with pytest.raises(UserError, match='near-identical video'): guard(corpus, **own)
    assert guard(corpus, video=False, **own).checked.keys() == {'subject', 'source', 'sound'}


def cut(a, b): return lambda f: f[int(a*len(f)):int(b*len(f))]

def shrink(f):
    import cv2
    return np.stack([cv2.resize(x, (80, 96), interpolation=cv2.INTER_AREA) for x in f]) # and another shape

PARTS = { # frames of a take -> frames, frames a second, quality; how many of four are found at least
    'mirrored': (lambda f: (f[:, :, ::-1], 25, 28), 4), 'first half': (lambda f: (cut(0, .5)(f), 25, 28), 4), 'second half': (lambda f: (cut(.5, 1)(f), 25, 28), 4),
    'middle': (lambda f: (cut(.21, .78)(f), 25, 26), 3), 'begins later': (lambda f: (f[5:], 25, 30), 4), 'half, smaller': (lambda f: (shrink(cut(0, .6)(f)), 25, 26), 3),
    'half, mirrored': (lambda f: (cut(.4, 1)(f)[:, :, ::-1], 25, 26), 1), 'half, half the rate': (lambda f: (cut(.4, 1)(f)[::2], 12.5, 26), 1),
    'half, brighter': (lambda f: (np.clip(cut(0, .6)(f)*1.1 + 5, 0, 255).astype(np.uint8), 25, 26), 3)}

@pytest.mark.parametrize('edit', PARTS)
def test_parts_and_mirrored_films(tmp_path, own, planted, edit):
    folder, takes = planted
    change, least = PARTS[edit]
    rows = []
    for i, take in enumerate(takes):
        (tmp_path/f'take{i}.mp4').write_bytes((folder/f'take{i}.mp4').read_bytes())
        frames, fps, crf = change(take)
        write_clip(tmp_path/f'part{i}.mp4', np.ascontiguousarray(frames), fps, crf=crf)
        rows += [(f'take{i}', f'take{i}.mp4', f's{i}', 'train'), (f'part{i}', f'part{i}.mp4', f't{i}', 'test')]
    found = sorted(sorted(c) for c in check_leaks(corpus_of(tmp_path, rows), refuse=False, **own).leaks.clips)
    assert len(found) >= least and all(c in [[f'part{i}', f'take{i}'] for i in range(4)] for c in found)


def test_halves_of_one_film_are_no_copies_of_each_other(tmp_path, own, planted):
    for i, take in enumerate(planted[1]):
        write_clip(tmp_path/f'a{i}.mp4', take[:len(take)//2], 25)
        write_clip(tmp_path/f'b{i}.mp4', take[len(take)//2:], 25)
    names = sorted(p.stem for p in tmp_path.glob('*.mp4'))
    report = check_leaks(corpus_of(tmp_path, [(n, f'{n}.mp4', f's{n}', 'train' if n[0] == 'a' else 'test') for n in names]), refuse=False, **own)
    assert report.table.empty and report.checked['video'] == 8


def test_two_clips_of_one_subject_are_not_identical(planted, own):
    folder, _ = planted
    report = guard(corpus_of(folder, [(f'take{i}', f'take{i}.mp4', f's{i}', 'train' if i % 2 else 'test') for i in range(4)]), **own)
    assert report.checked['video'] == 4 and report.table.empty


def sign_bits(path): # the usual fingerprint: signs of the slow waves of eight pictures
    import cv2
    r = VideoReader(path)
    grey = [cv2.resize(f.mean(-1), (32, 32), interpolation=cv2.INTER_AREA) for f in r.frames(np.linspace(0, len(r) - 1, 8))]
    waves = np.stack([cv2.dct(g.astype(np.float32))[:8, :8].ravel()[1:] for g in grey])
    return waves > np.median(waves, 1, keepdims=True)


@pytest.mark.parametrize('nuisance', [0., .3])
def test_still_faces_of_one_set_are_not_identical(tmp_path, own, nuisance):
    scene = replace(sample_scene(rng_for('set'), .3), pan=(0., 0.), occluder='none', flicker=0.)
    takes = [render_face(sample_subject_face(3, 'sitter'), sample_idle_motion(rng_for('still', i), 60, 25., nuisance), scene, rng_for('grain', i), 112) for i in range(8)]
    for i, t in enumerate(takes):
        write_clip(tmp_path/f'take{i}.mp4', t, 25)
        write_clip(tmp_path/f'copy{i}.mp4', t, 25, crf=34)
    bits = {f'{n}{i}': sign_bits(tmp_path/f'{n}{i}.mp4') for n in ('take', 'copy') for i in range(8)}
    apart = [(bits[f'take{i}'] != bits[f'take{j}']).mean() for i in range(8) for j in range(i)]
    copied = [(bits[f'take{i}'] != bits[f'copy{i}']).mean() for i in range(8)]
    if not nuisance: assert min(apart) < 1.5*max(copied)     # the usual fingerprint leaves no room between them
    corpus = corpus_of(tmp_path, [(n, f'{n}.mp4', f's{n}', 'train' if n.startswith('take') else 'test') for n in bits])
    found = check_leaks(corpus, refuse=False, **own).table
    assert sorted(sorted(c) for c in found.clips) == [[f'copy{i}', f'take{i}'] for i in range(8)]


@pytest.mark.skipif(real_data() is None, reason='MMEMO_REAL_DATA is not set')
@pytest.mark.parametrize('name', ['01-01-01-01-01-01-01.mp4', 'grid_bbaf2n.mpg', 'single_face_near_silent.mp4'])
def test_real_film_its_copy_and_its_halves(tmp_path, own, name):
    import cv2
    reader = VideoReader(real_data()/'clips'/name)
    h, w = (s//4*2 for s in reader.shape)
    small = (cv2.resize(f, (w, h), interpolation=cv2.INTER_AREA) for _, part in reader.chunks() for f in part)
    write_clip(tmp_path/'copy.mp4', small, reader.fps, crf=32)
    half = reader.duration/2
    clips = pd.DataFrame(dict(clip_id=['whole', 'copy', 'first', 'second'], path=[str(real_data()/'clips'/name), str(tmp_path/'copy.mp4')]*1 + [str(tmp_path/'copy.mp4')]*2,
                              start=[None, None, 0, half], end=[None, None, half, None], subject=list('abcd')))
    found = check_leaks(Corpus('film', tmp_path, check_manifest(clips)), sound=False, refuse=False, **own).table
    assert [sorted(c) for c in found[found.kind == 'video'].clips] == [['copy', 'first', 'second', 'whole']]
    assert sorted(map(sorted, found[found.kind == 'source'].clips)) == [['copy', 'first', 'second']]


# ---- real speech

@pytest.mark.skipif(real_data() is None, reason='MMEMO_REAL_DATA is not set')
def test_real_speech_and_a_copy_under_another_actor(tmp_path, own):
    root = real_data()/'ravdess_speech_16k'
    names = sorted(p.name for p in root.glob('*.flac'))
    clips = pd.DataFrame(dict(clip_id=[n[:-5] for n in names], path=[str(root/n) for n in names], subject=[n[-7:-5] for n in names]))
    by_actor = [[f'{a:02d}' for a in f] for f in RAVDESS_FOLDS]
    corpus = Corpus('ravdess', root, check_manifest(clips))
    report = guard(corpus, folds=folds_by_subject(corpus.clips, by_actor), **own)
    assert report.table.empty and report.checked['sound'] == report.n == 1184
    # one clip of actor 01 once more, filed under actor 02, in another container
    source = root/'03-01-05-01-01-01-01.flac'
    write_sound(tmp_path/'03-01-05-01-01-02-02.wav', read_audio(source)*32768/32767)
    assert np.array_equal(read_audio(source), read_audio(tmp_path/'03-01-05-01-01-02-02.wav'))
    copied = clips[clips.clip_id != '03-01-05-01-01-02-02']
    copied = pd.concat([copied, pd.DataFrame([dict(clip_id='03-01-05-01-01-02-02', path=str(tmp_path/'03-01-05-01-01-02-02.wav'), subject='02')])])
    corpus = Corpus('ravdess', root, check_manifest(copied))
    assert corpus.clips.clip_id.is_unique and file_hash(tmp_path/'03-01-05-01-01-02-02.wav') not in {file_hash(p) for p in clips.path}
    folds = folds_by_subject(corpus.clips, by_actor)
    with pytest.raises(UserError, match="1 set.*identical sound: '03-01-05-01-01-01-01' .*subject 01.* and '03-01-05-01-01-02-02' .*subject 02"): guard(corpus, folds=folds, **own)
    with pytest.raises(UserError, match='identical sound'): check_leaks(corpus, **own)          # before any split
    together = group_twins(corpus, check_leaks(corpus, refuse=False, **own))
    assert guard(together, folds=folds_by_subject(together.clips, 5), **own).leaks.empty


# ---- subjects, sources, sides

def test_a_subject_is_refused_before_anything_is_decoded(tmp_path, own, monkeypatch):
    write_sound(tmp_path/'a.wav', voice(0)); write_sound(tmp_path/'b.wav', voice(1))
    monkeypatch.setattr(fingerprints_module, 'make_fingerprint', lambda *_: pytest.fail('decoded'))
    corpus = corpus_of(tmp_path, [('a', 'a.wav', 's1', 'train'), ('b', 'b.wav', 's1', 'test')])
    with pytest.raises(UserError, match=r"'s1' \(test and train\)"): guard(corpus, **own)
    apart = replace(corpus, clips=corpus.clips.assign(subject=['s1', 's2'], group='g'))
    with pytest.raises(UserError, match='1 group'): guard(apart, **own)
    with pytest.raises(UserError, match='1 subject'): guard(replace(corpus, clips=corpus.clips.drop(columns='split')), folds=[[True, False], [False, True]], **own)


def test_segments_of_one_file_on_two_sides(tmp_path, own):
    write_sound(tmp_path/'long.wav', voice(0, 32000))
    clips = corpus_of(tmp_path, [('a', 'long.wav', 's1', 'train'), ('b', './long.wav', 's2', 'test')]).clips.assign(start=[0., 1.], end=[1., 2.])
    with pytest.raises(UserError, match="clips of one file: 'a'.*'b'"): guard(Corpus('c', tmp_path, clips), **own)
    guard(Corpus('c', tmp_path, clips.assign(split='train')), **own)


def test_a_shared_sound_file_is_a_shared_source(tmp_path, own, planted):
    for i in range(2): (tmp_path/f'{i}.mp4').write_bytes((planted[0]/f'take{i}.mp4').read_bytes())
    write_sound(tmp_path/'sound.wav', voice(0))
    corpus = corpus_of(tmp_path, [('a', '0.mp4', 's1', 'train'), ('b', '1.mp4', 's2', 'test')])
    guard(corpus, **own)
    with pytest.raises(UserError, match='clips of one file.*identical sound'):
        guard(replace(corpus, clips=corpus.clips.assign(audio_path='sound.wav')), **own)


def write_pictures(folder, seeds):
    from PIL import Image
    folder.mkdir(parents=True)
    for i, s in enumerate(seeds): Image.fromarray(rng_for('crop', s).integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder/f'{i + 1:05d}.png')


@pytest.mark.parametrize('second,what', [('x', 'clips of one file'), ('./x', 'clips of one file'), ('copy', 'the same pictures'), ('renumbered', 'the same pictures'),
                                         ('few', 'the same pictures'), ('one', None), ('other', None), ('empty', None), ('single', 'the same pictures')])
def test_one_folder_of_pictures_on_both_sides(tmp_path, own, second, what):
    for name, seeds in dict(x=range(12), copy=range(12), renumbered=range(6, 18), few=[20, 3, 21, 22, 7, 23], one=[30, 31, 3, 32], other=range(40, 52), empty=[], single=[5]).items():
        write_pictures(tmp_path/name, seeds)
    corpus = corpus_of(tmp_path, [('a', 'all.csv', 's1', 'train'), ('b', 'all.csv', 's2', 'test'), ('c', 'all.csv', 's3', 'test')])
    (tmp_path/'all.csv').write_text('features')
    corpus = replace(corpus, clips=corpus.clips.assign(crops_dir=['x', second, None]))
    if what is None:
        assert guard(corpus, **own).table.empty
        return
    with pytest.raises(UserError, match=f"{what}: 'a' .train, subject s1. and 'b' .test, subject s2"): guard(corpus, **own)
    together = group_twins(corpus, check_leaks(corpus, refuse=False, **own)).clips.group
    assert together[0] == together[1] and pd.isna(together[2])


def test_a_folder_of_pictures_that_is_not_there_is_noted(tmp_path, own):
    write_pictures(tmp_path/'x', range(3))
    corpus = corpus_of(tmp_path, [('a', 'a.mp4', 's1', 'train'), ('b', 'b.mp4', 's2', 'test')])
    report = guard(replace(corpus, clips=corpus.clips.assign(crops_dir=['x', 'gone'])), **own)
    assert report.checked['pictures'] == 1 and 'media files or folders' in str(report.notes.of('missing').what.tolist())


def test_what_was_found_is_kept_until_a_clip_changes(tmp_path, own, monkeypatch):
    for i in range(4): write_sound(tmp_path/f'{i}.wav', speech(i))
    corpus = corpus_of(tmp_path, [(str(i), f'{i}.wav', f's{i}', 'train' if i % 2 else 'test') for i in range(4)])
    compared, compare = [], fingerprints_module.match_sounds
    monkeypatch.setattr(fingerprints_module, 'match_sounds', lambda prints: compared.append(len(prints)) or compare(prints))
    for _ in range(2): guard(corpus, **own)
    assert compared == [4]
    for p in (tmp_path/'cache'/'guard'/'sets').glob('*.json'): p.write_text('{"pairs": [[')
    guard(corpus, **own)
    write_sound(tmp_path/'3.wav', speech(0)[500:])
    with pytest.raises(UserError, match="near-identical sound: '0' .*'3'"): guard(corpus, **own)
    assert compared == [4]*3


def test_the_same_sound_on_one_side_is_said_and_not_refused(tmp_path, own):
    write_sound(tmp_path/'a.wav', voice(0)); write_sound(tmp_path/'b.flac', voice(0), 'flac'); write_sound(tmp_path/'c.wav', voice(1))
    rows = [('a', 'a.wav', 's1', 'train'), ('b', 'b.flac', 's2', 'train'), ('c', 'c.wav', 's3', 'test')]
    report = guard(corpus_of(tmp_path, rows), **own)
    assert report.leaks.empty and report.twins.clips.tolist() == [['a', 'b']] and 'identical sound' in str(report)
    one = corpus_of(tmp_path, rows)
    assert guard(replace(one, clips=one.clips.assign(subject=['s1', 's1', 's3'])), **own).table.empty   # one person's two files
    unsplit = replace(one, clips=one.clips.drop(columns='split'))
    with pytest.raises(UserError, match="expected a column 'split'"): guard(unsplit, **own)
    folds = [np.array([1, 0, 0], bool), np.array([0, 1, 0], bool), np.array([0, 0, 1], bool)]
    with pytest.raises(UserError, match=r"'a' \(fold 1, subject s1\) and 'b' \(fold 2, subject s2\)"): guard(unsplit, folds=folds, **own)
    guard(unsplit, folds=[folds[0] | folds[1], folds[2]], **own)
    with pytest.raises(UserError, match='folds of 3 clips'): guard(unsplit, folds=[f[:2] for f in folds], **own)


def test_clips_on_no_side_do_not_count(tmp_path, own):
    write_sound(tmp_path/'a.wav', voice(0)); write_sound(tmp_path/'b.flac', voice(0), 'flac')
    corpus = corpus_of(tmp_path, [('a', 'a.wav', 's1', 'train'), ('b', 'b.flac', 's2', None)])
    assert guard(corpus, **own).table.empty


def test_group_twins_keeps_copies_and_old_groups_together(tmp_path, own):
    for i in range(3): write_sound(tmp_path/f'{i}.wav', voice(i))
    write_sound(tmp_path/'copy.flac', voice(0), 'flac')
    corpus = corpus_of(tmp_path, [('a', '0.wav', 's0', None), ('b', 'copy.flac', 's1', None), ('c', '1.wav', 's2', None), ('d', '2.wav', 's3', None)])
    corpus = replace(corpus, clips=corpus.clips.drop(columns='split').assign(group=[None, 'g', 'g', None]))
    kept = group_twins(corpus, check_leaks(corpus, refuse=False, **own)).clips
    assert kept.group[:3].tolist() == ['g']*3 and pd.isna(kept.group[3])
    assert split_by_subject(kept, dict(train=.5, test=.5)).split[:3].nunique() == 1


# ---- random splits

def test_random_only_by_name_and_marked(tmp_path, own):
    for i in range(12): write_sound(tmp_path/f'{i}.wav', voice(i))
    clips = corpus_of(tmp_path, [(f'c{i}', f'{i}.wav', f's{i % 3}', None) for i in range(12)]).clips.drop(columns='split')
    corpus = Corpus('dealt', tmp_path, deal_clips(clips, 'random', seed=1))
    with pytest.warns(UserWarning, match='random split: subjects stand on both sides'): report = guard(corpus, **own)
    assert report.mark == RANDOM['known'] == report.facts['mark'] and report.mark in str(report.notes.of('note').what.tolist())
    save_corpus(replace(corpus, root=tmp_path), tmp_path/'kept')
    assert (load_corpus(tmp_path/'kept').clips.split_rule == 'random').all()                # the mark travels with the manifest
    for unmarked in (corpus.clips.drop(columns='split_rule'), corpus.clips.assign(split_rule=['random']*11 + ['subject'])):
        with pytest.raises(UserError, match='stand on both sides'): guard(replace(corpus, clips=unmarked), **own)
    with pytest.warns(UserWarning, match='is not known'): assert guard(replace(corpus, clips=corpus.clips.drop(columns='subject')), **own).mark == RANDOM['unknown']
    again = deal_clips(corpus.clips, 'subject')
    assert guard(replace(corpus, clips=again), **own).mark == '' and 'split_rule' not in again
    with pytest.raises(UserError, match="expected 'subject' or 'random'"): deal_clips(clips, 'speaker')


def test_features_without_media_take_no_time_and_say_so(tmp_path, own, monkeypatch):
    monkeypatch.setattr(guard_module, 'collect_fingerprints', lambda *_, **__: pytest.fail('looked for media'))
    (tmp_path/'all.csd').write_bytes(b'features')
    (tmp_path/'crops').mkdir()
    clips = check_manifest(pd.DataFrame(dict(clip_id=[f'c{i}' for i in range(20000)], path='all.csd', subject=[f's{i % 900}' for i in range(20000)])))
    clips['path'] = np.where(np.arange(20000) % 2, 'crops', 'all.csd')
    report = guard(Corpus('features', tmp_path, split_by_subject(clips)), **own)
    assert report.checked == dict(subject=20000) and 'no media files' in str(report) and report.seconds < 20
    assert not (tmp_path/'cache').exists()


# ---- cache, damage, threads

def test_a_copy_is_decoded_once_and_a_second_look_decodes_nothing(tmp_path, own, monkeypatch):
    for n in 'ab': write_sound(tmp_path/f'{n}.wav', voice(0))
    write_sound(tmp_path/'c.wav', voice(1))
    corpus = corpus_of(tmp_path, [(n, f'{n}.wav', 's', 'train') for n in 'abc'])
    made, make = [], fingerprints_module.make_fingerprint
    monkeypatch.setattr(fingerprints_module, 'make_fingerprint', lambda *a: made.append(a) or make(*a))
    first = check_leaks(corpus, **own)
    assert sorted(m[0] for m in made) == ['sound']*2 + ['video']*2
    made.clear()
    assert check_leaks(corpus, **own).checked == first.checked and made == []
    write_sound(tmp_path/'c.wav', voice(2))                             # the same name, other content
    check_leaks(corpus, **own)
    assert {Path(m[1]).name for m in made} == {'c.wav'}
    for p in (tmp_path/'cache').rglob('*.json'): p.write_text('{"print": ')     # damaged: made anew
    made.clear()
    assert check_leaks(corpus, **own).checked == first.checked and len(made) == 4


def test_what_was_stopped_goes_on(tmp_path, own, monkeypatch):
    for i in range(8): write_sound(tmp_path/f'{i}.wav', voice(i))
    corpus = corpus_of(tmp_path, [(str(i), f'{i}.wav', f's{i}', 'train') for i in range(8)])
    make, made = fingerprints_module.make_fingerprint, []
    def stop(*a):
        if len(made) == 3: raise KeyboardInterrupt
        made.append(a); return make(*a)
    monkeypatch.setattr(fingerprints_module, 'make_fingerprint', stop)
    with pytest.raises(KeyboardInterrupt): check_leaks(corpus, video=False, workers=1, **own)
    assert not [p for p in (tmp_path/'cache').rglob('.*')]              # nothing half-written
    monkeypatch.setattr(fingerprints_module, 'make_fingerprint', lambda *a: made.append(a) or make(*a))
    assert check_leaks(corpus, video=False, **own).checked['sound'] == 8
    assert len(made) == 8 and len({m[1] for m in made}) == 8            # none twice


def test_bad_files_are_noted_and_the_rest_goes_on(tmp_path, own):
    write_sound(tmp_path/'a.wav', voice(0)); write_sound(tmp_path/'b.flac', voice(0), 'flac')
    (tmp_path/'empty.mp4').write_bytes(b''); (tmp_path/'text.wav').write_text('version https://git-lfs.github.com/spec/v1')
    rng = rng_for('damage')
    for i in range(12):
        data = np.frombuffer((tmp_path/'b.flac').read_bytes(), np.uint8).copy()
        data[rng.integers(len(data), size=40)] = rng.integers(256, size=40)
        (tmp_path/f'bad{i}.flac').write_bytes(data.tobytes()[:rng.integers(1, len(data))])
    names = ['a.wav', 'b.flac', 'empty.mp4', 'text.wav', 'gone.wav', *(f'bad{i}.flac' for i in range(12))]
    corpus = corpus_of(tmp_path, [(n, n, f's{i}', 'train' if i % 2 else 'test') for i, n in enumerate(names)])
    report = check_leaks(corpus, refuse=False, **own)
    sets = list(map(set, report.leaks.clips))   # damaged copies of b.flac that end at the same place are one sound, too
    assert any({'a.wav', 'b.flac'} <= s for s in sets) and all(c.startswith('bad') for s in sets for c in s - {'a.wav', 'b.flac'})
    skipped = dict(zip(report.notes.of('skipped')['where'], report.notes.of('skipped')['what']))
    assert 'empty' in skipped['empty.mp4'] and 'another kind of file' in skipped['text.wav'] and len(skipped) == len(report.notes.of('skipped'))
    assert report.notes.of('missing')['where'].tolist() == ['gone.wav']
    assert report.checked['sound'] + len(skipped) + 1 <= len(names)


def test_threads_keep_order_and_work_side_by_side():
    here = threading.Barrier(4, timeout=10)
    assert map_in_threads(lambda i: (here.wait(), i)[1], list(range(4)), workers=4, progress=False) == list(range(4))


def test_many_clips_are_compared_without_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    unit = lambda x: x/np.linalg.norm(x)
    marks = [(90*unit(rng.normal(size=(1, 63)) + rng.normal(size=(16, 63)))).astype(np.float16) for _ in range(1500)]
    marks[1400] = marks[3]*np.float16(1.01)
    sets = number_sets('video', ['', *(write_waves(m, .1) for m in marks)])
    assert sets[0] == -1 and sets[4] == sets[1401] and len(set(sets)) == 1500
    words = [rng.integers(1, 1 << 32, size=150).astype('>u4') for _ in range(3000)]
    words[2000] = np.r_[rng.integers(1, 1 << 32, size=30), words[7][20:110]].astype('>u4')     # a part, and something before it
    sets = number_sets('sound', [w.tobytes().hex() for w in words])
    assert sets[7] == sets[2000] and len(set(sets)) == 2999


def match_pair_by_pair(films):
    "What `match_parts` finds, one pair after the other."
    size = [w/np.linalg.norm(w)*len(w)**.5 for w in films]
    def shows(a, b, turn):
        keys = space_rows(size[a], 1, KEYS, len(films[a])/KEYS)*turn
        gap = np.square(keys[:, None] - size[b]).sum(-1).min(1)
        return (gap <= NEAR*min(size[a].var(0).sum(), size[b].var(0).sum())).sum() >= KEYS/2
    pairs = [(a, b) for a in range(len(films)) for b in range(len(films)) if (len(films[a]), a) < (len(films[b]), b)]
    return [p for turn in (1., MIRROR) for p in pairs if shows(*p, turn) and place_part(films[p[0]]*turn, films[p[1]]) >= PART]


@pytest.mark.parametrize('seed', range(3))
def test_parts_are_those_that_a_look_at_every_pair_finds(seed):
    "Films that drift, pan and flicker, and parts of them: moved between pictures, with noise, something before or behind, mirrored."
    rng, films = rng_for('parts', seed), []
    for i in range(24):
        n, knots = int(rng.integers(8, 60)), rng.normal(size=(int(rng.integers(3, 9)), 63))*rng.choice([.5, 3, 30])
        walk = spread_rows(knots, np.linspace(0, len(knots) - 1, n))
        films.append(rng.normal(size=63)*rng.choice([0, 8, 20]) + walk + .1*rng.normal(size=(n, 63)))
    for i in range(16):
        film = films[rng.integers(24)]
        at = np.arange(8 + rng.integers(len(film) - 7)) + rng.choice([0, .25, .5, len(film)/4])
        part = spread_rows(film, at) + rng.choice([0, .3, 1])*rng.normal(size=(len(at), 63))
        other = rng.normal(size=(len(at)//2*(i % 3 == 0), 63))
        films.append(np.r_[other, part]*(MIRROR if i % 4 == 0 else 1) if i % 2 else np.r_[part, other])
    films = [f.astype(np.float32) for f in films]
    pairs = match_parts(films).tolist()
    assert sorted(pairs) == sorted(map(list, match_pair_by_pair(films))) and len(pairs) >= 5
    assert match_parts(films[:1]).shape == (0, 2)


# ---- probes

def test_shortcut_is_raised_where_it_was_planted(tmp_path):
    small = PlantedConfig(seed=55, both=.35, audio=.2, video=.2, coincidence=0., train_subjects=8, val_subjects=1, test_subjects=2, train_clips=32, val_clips=16, test_clips=16, seconds=.8, fps=10, size=48)
    for on in (True, False):
        corpus = make_planted(tmp_path/str(on), replace(small, shortcut=on), workers=1, progress=False)
        table = check_shortcuts(corpus, progress=False).set_index('property')
        assert table.raised['background'] == on and (table.n == 32).all() and not table.few_groups.any()
        if on: assert table.low['background'] > table.luck['background']
        if on: assert not check_shortcuts(corpus, split='test', draws=50, progress=False).set_index('property').raised['background'] # training only


def test_a_bad_file_does_not_stop_the_check(tmp_path):
    for i in range(24): write_sound(tmp_path/f'{i}.wav', voice(i, level=.3 if i % 2 else .03))
    (tmp_path/'0.wav').write_bytes(b'')
    clips = corpus_of(tmp_path, [(str(i), f'{i}.wav', f's{i // 2}', None) for i in range(24)]).clips.drop(columns='split').assign(label=np.array(['Neutral', 'Anger'])[np.arange(24) % 2])
    corpus = Corpus('loud', tmp_path, clips)
    table = check_shortcuts(corpus, progress=False).set_index('property')
    assert table.raised['loudness'] and not table.raised['codec'] and (table.unreadable == 1).all()
    assert 'empty' in read_clip_properties(corpus, progress=False)[1].of('skipped')['what'][0]
    with pytest.raises(UserError, match='no media files'): check_shortcuts(replace(corpus, clips=clips.assign(path='x.csd')), progress=False)
    with pytest.raises(UserError, match="needs a column 'subject'"): check_shortcuts(replace(corpus, clips=clips.drop(columns='subject')), progress=False)


def test_false_alarms_are_rare():
    "Properties that differ between people but know nothing of the label: a check of seven raises something at most about once in twenty."
    alarms = 0
    for k in range(12):
        rng = rng_for('alarm', k)
        who, y = np.arange(160) % 16, rng.integers(6, size=160)
        table = pd.DataFrame(2*rng.normal(size=(16, 7))[who] + rng.normal(size=(160, 7)), columns=list('abcdefg'))
        folds = [who % 4 == i for i in range(4)]
        alarms += tabulate_shortcuts(table, y, who, folds, draws=160, columns={c: [c] for c in table}).raised.any()
    assert alarms <= 2


def test_a_trait_of_people_is_seldom_taken_for_a_shortcut():
    "Twelve people with one label each (who is ill, who is not) and a camera each: dealt clip by clip, luck would look far smaller than it is."
    alarms, clipwise = 0, 0
    for k in range(20):
        rng = rng_for('trait', k)
        who = np.repeat(np.arange(12), 8)
        y, table = rng.permutation(np.arange(12) % 2)[who], pd.DataFrame(dict(a=2*rng.normal(size=12)[who] + .1*rng.normal(size=96)))
        folds = [who % 4 == i for i in range(4)]
        row = tabulate_shortcuts(table, y, who, folds, draws=100, columns=dict(a=['a'])).iloc[0]
        alarms += row.p <= .05
        lots = rng.permuted(np.tile(y, (100, 1)), axis=1)
        luck = [uar(count_confusion(lot, said, 2)) for lot, said in zip(lots, predict_held_out(describe_columns(table), lots, folds, 2))]
        clipwise += np.mean(np.array(luck) >= row.value) <= .05
    assert alarms <= 3 and clipwise > alarms


def test_classifier_learns_a_hump_and_a_name():
    "What a straight line cannot: the class in the middle, and a codec."
    y = np.arange(120) % 2
    x = rng_for('hump').normal(size=120)
    folds = [np.arange(120) < 60, np.arange(120) >= 60]
    hump = pd.DataFrame(dict(size=np.where(y, np.sign(x)*(2 + abs(x)), x/3)))
    line = ((hump - hump.mean())/hump.std()).to_numpy()
    right = lambda z: (predict_held_out(z, y, folds, 2) == y).mean()
    assert right(describe_columns(hump)) > .85 > .7 > right(line)
    assert right(describe_columns(pd.DataFrame(dict(codec=np.array(['h264', 'vp9'])[y])))) == 1


def test_subject_probe_needs_people_with_two_takes():
    rng = np.random.default_rng(0)
    who = np.repeat([f's{i}' for i in range(8)], 12)
    face = rng.normal(size=(8, 5))[np.repeat(np.arange(8), 12)]
    assert probe_subject(face + .1*rng.normal(size=(96, 5)), who)['value'] == 1
    lonely = probe_subject(np.r_[face, [[9.]*5]], [*who, 'once'])
    assert lonely['n'] == 96 and lonely['n_groups'] == 8 and lonely['chance'] == 1/8
    chance = [probe_subject(rng.normal(size=(96, 5)), who, seed=s)['raised'] for s in range(4)]
    assert sum(chance) <= 1
    with pytest.raises(UserError, match='subject for each of 96'): probe_subject(face, who[:5])
