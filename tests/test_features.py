"Extraction on odd files, in odd orders, beside another process, and interrupted."
import json, os, shutil, subprocess, sys, threading, wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mmemo.features.extract as features
import mmemo.features.reading as reading
from mmemo.core import UserError, file_hash, stable_hash
from mmemo.corpora.readers import read_corpus
from mmemo.features.encoder_files import write_random_speech, write_random_visual
from mmemo.features.encoders import load_speech, load_visual
from mmemo.media.faces import FaceSettings
from mmemo.features.cache import list_cache, prune_cache
from mmemo.features.extract import Extraction, extract, find_missing
from mmemo.features.reading import ExtractSettings, make_jobs
from mmemo.features.tables import tracks_from_table
from mmemo.features.tracks import Track, compact, load_track, pack_tracks, save_track, encode_track
from mmemo.media.threads import read_ahead
from mmemo.corpora.manifest import Corpus, load_corpus, save_corpus
from mmemo.media.files import write_clip
from mmemo.media.frames import VideoReader, decoder_version, decord_version
from mmemo.media.sound import SILENCE_DB, SOUND_READING, read_audio
from mmemo.features.windows import Windows, WindowSettings
from twins import victims, write_affwild2, plant


def picture(n, seed, size=64):
    "Frames in which something moves."
    t, y, x = np.ogrid[:n, :size, :size]
    wave = [127 + 120*np.sin((x + seed*5 + t)/(4 + c))*np.cos((y + t*c)/9) for c in range(3)]
    return np.stack(wave, -1).astype(np.uint8)


def sound(seconds, seed, level=.1):
    return np.random.default_rng(seed).normal(0, level, int(16000*seconds)).astype(np.float32)


@pytest.fixture(scope='module')
def encoders(tmp_path_factory):
    root = tmp_path_factory.mktemp('encoders')
    return load_visual(str(write_random_visual(root/'clip'))), load_speech(str(write_random_speech(root/'wave')))


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp('corpus')
    lengths = [20, 64, 130, 7, 45]
    for i, n in enumerate(lengths): write_clip(root/f'{i}.mp4', picture(n, i), 25, sound(n/25, i))
    clips = pd.DataFrame(dict(clip_id=[f'c{i}' for i in range(5)], path=[f'{i}.mp4' for i in range(5)]))
    return Corpus('five', root, clips)


def files(cache): return {p.relative_to(cache): p.read_bytes() for p in cache.rglob('*') if p.is_file()}


def run(corpus, encoders, cache, **kw):
    return extract(corpus, *encoders, cache=cache, progress=False, settings=ExtractSettings(**kw))


def test_bytes_do_not_depend_on_company(corpus, encoders, tmp_path):
    "All together, in another order with several readers, and one by one: the same files."
    run(corpus, encoders, tmp_path/'all')
    wanted = {k: v for k, v in files(tmp_path/'all').items() if k.parts[0] == 'tracks'}
    assert len(wanted) == 10
    turned = Corpus('five', corpus.root, corpus.clips[::-1].reset_index(drop=True))
    run(turned, encoders, tmp_path/'turned', workers=3, ahead=1)
    for c in corpus.clips.clip_id: run(corpus.subset([c]), encoders, tmp_path/'single')
    for other in ('turned', 'single'):
        assert {k: v for k, v in files(tmp_path/other).items() if k.parts[0] == 'tracks'} == wanted


def test_store(corpus, encoders, tmp_path):
    store = run(corpus, encoders, tmp_path)
    assert store.facts['counts'] == dict(encoded=10, cached=0, frames=266, batches=5, pieces=5, quarantined=0)
    assert store.dims == dict(visual=64, audio=64) and store.modalities == ('visual', 'audio')
    track = store.clip('c2', 'visual')
    assert len(track) == 130 and np.allclose(track.time, (np.arange(130) + .5)/25, atol=1e-5) and track.valid.all()
    assert track.values.dtype == np.float16 and not store.facts['synthetic_only']
    again = run(corpus, encoders, tmp_path)
    assert again.facts['counts']['encoded'] == 0 and again.facts['counts']['cached'] == 10
    with pytest.raises(UserError, match="no 'text' features"): store['text']
    with pytest.raises(UserError, match="'nobody'"): store.clip('nobody', 'visual')
    assert len(run(corpus, encoders, tmp_path, limit=2)['visual']) == 2


def test_a_corpus_can_move(corpus, encoders, tmp_path):
    import shutil
    shutil.copytree(corpus.root, tmp_path/'moved')
    run(corpus, encoders, tmp_path/'cache')
    moved = run(Corpus('elsewhere', tmp_path/'moved', corpus.clips), encoders, tmp_path/'cache')
    assert moved.facts['counts']['encoded'] == 0
    assert str(tmp_path).encode() not in b''.join(files(tmp_path/'cache').values())


def test_what_changes_the_bytes_changes_the_key(corpus, encoders, tmp_path):
    one = corpus.subset(['c3'])
    visual, _ = encoders
    run(one, (visual, None), tmp_path)
    others = [dict(backend='decord')] if decord_version() else []
    for kw in (dict(every=2), *others, dict(faces=FaceSettings(size=32)), dict(faces=FaceSettings('haar'))):
        assert run(one, (visual, None), tmp_path, **kw).facts['counts']['encoded'] == 1, kw
    assert run(one, (visual, None), tmp_path, workers=2, ahead=1).facts['counts']['encoded'] == 0
    part = Corpus('part', one.root, one.clips.assign(start=0., end=.1))
    store = run(part, (visual, None), tmp_path)
    assert len(store.clip('c3', 'visual')) in (2, 3) and store.facts['counts']['encoded'] == 1
    lost = run(one, (visual, None), tmp_path, faces=FaceSettings('haar'))
    assert not lost.clip('c3', 'visual').valid.any() and lost['visual'].missing == {'c3': 'no face'}
    with pytest.raises(UserError, match='yunet'): run(one, (visual, None), tmp_path, faces=FaceSettings('yunet'))


def test_odd_files(encoders, tmp_path):
    "Each odd file costs itself only, and says why."
    import PIL.Image
    root = tmp_path/'odd'
    write_clip(root/'good.mp4', picture(30, 0), 25, sound(1.2, 0))
    write_clip(root/'film.mp4', picture(30, 1), 25)
    write_clip(root/'quiet.mp4', picture(30, 2), 25, sound(1.2, 1, 1e-4))
    with wave.open(str(root/'voice.wav'), 'wb') as w:
        w.setparams((1, 2, 16000, 0, 'NONE', '')); w.writeframes((sound(1, 2)*32767).astype('<i2').tobytes())
    (root/'text.mp4').write_text('no video')
    (root/'cut.mp4').write_bytes((root/'good.mp4').read_bytes()[:900])
    PIL.Image.fromarray(picture(1, 0)[0]).save(root/'still.png')
    names = ['good.mp4', 'film.mp4', 'quiet.mp4', 'voice.wav', 'text.mp4', 'cut.mp4', 'still.png', 'absent.mp4']
    corpus = Corpus('odd', root, pd.DataFrame(dict(clip_id=[n.split('.')[0] for n in names], path=names)))
    store = run(corpus, encoders, tmp_path/'cache')
    assert set(store.quarantine.clip_id) == {'text', 'cut', 'still', 'absent'}
    assert store.quarantine.reason.str.len().between(10, 400).all()
    assert pd.read_csv(tmp_path/'cache'/'quarantine.csv').equals(store.quarantine)
    steps = {m: dict(zip(store[m].clip_ids, np.diff(store[m].offsets))) for m in store.modalities}
    assert [steps['visual'][c] for c in ('good', 'film', 'voice', 'text', 'absent')] == [30, 30, 0, 0, 0]
    assert steps['audio']['film'] == 0 and steps['audio']['voice'] == 49
    assert store['audio'].missing['film'] == 'no sound' and 'below -50 dB' in store['audio'].missing['quiet']
    assert store['visual'].missing == {'voice': 'no picture'}
    assert not store.clip('quiet', 'audio').valid.any() and store.clip('quiet', 'visual').valid.all()
    only = Corpus('odd', root, corpus.clips[corpus.clips.clip_id.isin(['good'])].reset_index(drop=True))
    assert len(run(only, encoders, tmp_path/'cache').quarantine) == 0
    assert not (tmp_path/'cache'/'quarantine.csv').exists()
    bad = Corpus('bad', root, corpus.clips[corpus.clips.clip_id == 'text'].reset_index(drop=True))
    assert run(bad, encoders, tmp_path/'cache')['visual'].values.shape == (0, 64)


def test_interrupted(corpus, encoders, tmp_path):
    "An interrupt ends the reading threads and leaves whole tracks only."
    before, seen = threading.active_count(), []
    def stop(event, modality, key):
        seen.append(event)
        if seen.count('finish') == 3: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): extract(corpus, *encoders, cache=tmp_path, progress=False, watch=stop)
    assert threading.active_count() == before
    assert sum(load_track(p) is not None for p in tmp_path.rglob('*.safetensors')) == 3
    assert run(corpus, encoders, tmp_path).facts['counts']['encoded'] == 7


def test_two_processes(corpus, encoders, tmp_path):
    "Both end well, and the cache is what one alone makes."
    run(corpus, encoders, tmp_path/'alone')
    corpus.clips.to_csv(tmp_path/'manifest.csv', index=False)
    code = f'''
import torch; torch.set_num_threads(1)
from pathlib import Path
from mmemo.corpora.manifest import Corpus, read_manifest
from mmemo.features.extract import extract
store = extract(Corpus('five', Path({str(corpus.root)!r}), read_manifest({str(tmp_path/'manifest.csv')!r})),
                {str(encoders[0].files.folder)!r}, {str(encoders[1].files.folder)!r},
                cache={str(tmp_path/'both')!r}, progress=False)
assert len(store['visual'].values) == 266
'''
    both = [subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.PIPE) for _ in range(2)]
    for p in both: assert p.wait() == 0, p.stderr.read().decode()
    assert files(tmp_path/'both') == files(tmp_path/'alone')


def test_wide_values_stay_wide(tmp_path):
    wide, narrow = np.array([[1., 1e6]]), np.array([[1., 2.]])
    assert compact(wide).dtype == np.float32 and compact(narrow).dtype == np.float16
    assert compact(np.array([[np.nan, 1.]])).dtype == np.float32
    save_track(tmp_path/'t.safetensors', Track(compact(wide), np.zeros(1), np.ones(1, bool)))
    assert load_track(tmp_path/'t.safetensors').values[0, 1] == 1e6
    track = Track(compact(narrow), np.zeros(1), np.ones(1, bool), dict(z=1, a=2, m=3))
    assert len({encode_track(track) for _ in range(20)}) == 1
    with pytest.raises(UserError, match='one time'): Track(narrow, np.zeros(2), np.ones(1, bool))


@pytest.mark.parametrize('end', ['csv', 'parquet', 'npz'])
def test_tables(end, tmp_path, corpus, encoders):
    rows = pd.DataFrame(dict(clip_id=['c0']*3 + ['c2']*2, time=[.1, .2, .3, .1, .2], AU1=np.arange(5.), AU2=1.))
    place = tmp_path/f'au.{end}'
    values = rows[['AU1', 'AU2']].to_numpy()
    if end == 'npz': np.savez(place, values=values, clip_id=rows.clip_id.to_numpy(str), time=rows.time)
    else: getattr(rows, {'csv': 'to_csv', 'parquet': 'to_parquet'}[end])(place, index=False)
    tracks = tracks_from_table(place)
    assert tracks['c0'].values.tolist() == [[0, 1], [1, 1], [2, 1]] and tracks['c2'].time.tolist() == [.1, .2]
    store = extract(corpus, f'table:{place}', encoders[1], cache=tmp_path/'cache', progress=False)
    assert store.dims == dict(visual=2, audio=64) and np.diff(store['visual'].offsets).tolist() == [3, 0, 2, 0, 0]


def test_bad_tables(tmp_path):
    def table(**columns):
        pd.DataFrame(columns).to_csv(tmp_path/'t.csv', index=False)
        return tmp_path/'t.csv'
    for columns, said in ((dict(name=['a'], x=[1]), "column 'clip_id'"), (dict(clip_id=['a'], x=['b']), 'numeric'),
                          (dict(clip_id=['a', 'a'], x=[1, 2]), 'nor a rate'),
                          (dict(clip_id=['a', 'a'], time=[.2, .1], x=[1, 2]), "'time' to rise")):
        with pytest.raises(UserError, match=said): tracks_from_table(table(**columns))
    np.savez(tmp_path/'pickled.npz', a=np.array([{}], object))
    with pytest.raises(UserError, match='plain arrays'): tracks_from_table(tmp_path/'pickled.npz')
    gaps = tracks_from_table(table(clip_id=['a', 'b'], x=[1, None], y=[2., 3.]))
    assert gaps['a'].valid.all() and not gaps['b'].valid.any() and np.isfinite(gaps['b'].values).all()
    with pytest.raises(UserError, match='expected tracks'): pack_tracks(gaps, ['z'])


def test_prune(corpus, encoders, tmp_path):
    run(corpus, encoders, tmp_path)
    held = list_cache(tmp_path)
    assert held.tracks.tolist()[:2] == [5, 5] and (held.modality == 'pack').sum() == 1
    (tmp_path/'tracks'/'00').mkdir(exist_ok=True); (tmp_path/'tracks'/'00'/'x.safetensors').write_bytes(b'?')
    assert set(prune_cache(tmp_path).modality) == {'pack', 'unreadable'}
    prune_cache(tmp_path, encoders[0].weight_hash)
    assert list_cache(tmp_path).modality.tolist() == ['audio']
    assert len(list_cache(tmp_path/'nothing')) == 0 and len(prune_cache(tmp_path/'nothing')) == 0


def test_reading_stays_a_bounded_way_ahead():
    made = []
    def make(job):
        for i in range(10): made.append(i); yield i
    reading = read_ahead(range(3), make, workers=1, depth=2)
    for _ in range(4): next(reading)
    import time; time.sleep(.2)
    assert len(made) <= 4 + 2 + 1
    reading.close()


def test_keys_are_those_of_before(corpus, encoders, tmp_path):
    "Features that somebody has waited a night for are still found: the key, and what a track says of itself."
    settings = ExtractSettings(faces=FaceSettings('none'))
    run, jobs = Extraction(dict(zip(('visual', 'audio'), encoders)), settings, tmp_path), make_jobs(corpus)
    find_missing(run, jobs)
    reading = dict(visual=dict(decoder=[decoder_version('pyav')], decoding=3, every=1, crop={'detector': 'none'}),
                   audio=dict(decoder=decoder_version('pyav'), sound=SOUND_READING, silence=SILENCE_DB))
    for m, e in run.encoders.items():
        facts = dict(weights=e.weight_hash, layers='last', precision=e.precision, version=1, batch=64 if m == 'visual' else 1)
        if m == 'visual': facts['preprocess'] = 1
        file = file_hash(corpus.root/'0.mp4')
        assert jobs[0].keys[m] == stable_hash(dict(kind=m, file=file, segment=[None, None], encoder=facts, reading=reading[m], format=2))
    extract(corpus.subset(['c0']), *encoders, cache=tmp_path, settings=settings, progress=False)
    source = load_track(run.path(jobs[0].keys['visual'])).source
    assert source == dict(modality='visual', encoder='clip', file=file, segment=[None, None], missing='', preprocess=1, key=jobs[0].keys['visual'],
                          **{k: encoders[0].facts[k] for k in ('weights', 'layers', 'precision', 'version', 'batch')}, **reading['visual'])


AVTCA = dict(frames=15, seconds=3.6, faces=FaceSettings('none'))


@pytest.fixture(scope='module')
def takes(tmp_path_factory):
    "Clips of 2.5, 3.6, 5 and 6.8 seconds: black, with a flash and a beep at one second and again at a quarter to five."
    root, lengths = tmp_path_factory.mktemp('takes'), (2.5, 3.6, 5., 6.8)
    for seconds in lengths:
        n = round(seconds*25)
        face, t = np.zeros((n, 48, 64, 3), np.uint8), np.arange(round(16000*seconds))/16000
        voice = .02*np.random.default_rng(0).normal(size=len(t))
        for at, colour in ((1., 0), (4.75, 2)):
            face[round(at*25) - 3:round(at*25) + 4, ..., colour] = 250
            voice += .5*np.sin(2*np.pi*800*t)*(np.abs(t - at) < .14)
        write_clip(root/f'{seconds}.mp4', face, 25, voice)
    (root/'bad.mp4').write_text('no film')
    names = [*map(str, lengths), 'bad']
    return Corpus('takes', root, pd.DataFrame(dict(clip_id=names, path=[f'{n}.mp4' for n in names], label=['Anger', 'Fear', 'Anger', 'Fear', 'Fear'])))


def test_pixels_and_mfcc_through_extract(takes, tmp_path):
    store = run(takes, ('pixels-40', 'mfcc'), tmp_path, **AVTCA)
    assert store.quarantine.clip_id.tolist() == ['bad'] and not store.facts['synthetic_only']
    face, voice = store['visual'], store['audio']
    assert face.values.shape == (10 + 3*15, 40, 40, 3) and face.values.dtype == np.uint8 and isinstance(face.values, np.memmap)
    assert voice.values.dtype == np.float32 and store.dims == dict(visual=40, audio=10)
    assert store.facts['encoders'] == dict(visual='pixels-40', audio='mfcc') and '40 x 40 x 3, uint8' in repr(store)
    reader = VideoReader(takes.root/'5.0.mp4')
    wanted = reader.at((np.arange(15) + .5)*.24)
    mine = store.clip('5.0', 'visual')
    assert np.allclose(mine.time, (np.arange(15) + .5)*.24, atol=.021) and mine.valid.all()
    assert np.abs(mine.values.mean((1, 2)) - wanted.mean((1, 2))).max() < 3 and mine.values[4, ..., 0].mean() > 150 # red, and not blue
    again = run(takes, ('pixels-40', 'mfcc'), tmp_path, **AVTCA)
    assert again.facts['counts']['encoded'] == 0 and again['visual'].values.tobytes() == face.values.tobytes()
    assert run(takes, ('pixels-24', 'logmel'), tmp_path, **AVTCA).facts['counts']['encoded'] == 8
    listed = list_cache(tmp_path).set_index('encoder')
    assert listed.tracks['pixels-40'] == listed.tracks['mfcc'] == 4 and listed.precision['pixels-24'] == 'uint8'
    alone = run(takes.subset(['5.0']), ('pixels-40', 'mfcc'), tmp_path/'alone', workers=2, ahead=1, **AVTCA)
    assert alone['visual'].values.tobytes() == mine.values.tobytes()


def test_face_and_voice_of_one_stretch(takes, tmp_path):
    "3.6 s exactly has its sound; a long clip's sound is not its middle; what is too short is filled up and said to be so."
    store = run(takes, ('pixels-40', 'mfcc'), tmp_path, **AVTCA)
    for clip in ('2.5', '3.6', '5.0', '6.8'):
        face, voice = store.clip(clip, 'visual'), store.clip(clip, 'audio')
        assert len(voice) == 156 and voice.valid.sum() == (156 if clip != '2.5' else int(2.5*22050/512) + 1), clip
        assert np.array_equal(voice.valid, voice.time < (2.5 if clip == '2.5' else 9) + 1e-6)
        red, blue = face.values[..., 0].mean((1, 2)), face.values[..., 2].mean((1, 2))
        loud = voice.time[voice.values[:, 0] > voice.values[voice.valid, 0].max() - 40]
        assert red.argmax() == 4 and blue.max() < 60 # the flash at 4.75 s lies outside
        assert abs(np.median(loud) - 1.) < .05 and loud.max() - loud.min() < .5
    whole = run(takes.subset(['6.8']), ('pixels-40', 'mfcc'), tmp_path)
    assert len(whole['visual'].values) == 170 and len(whole['audio'].values) == 1 + round(6.8*22050)//512
    # the reference's centre crop of a clip as long as the crop ends at -0
    x = read_audio(takes.root/'3.6.mp4', 22050)
    assert len(x) == 79_380 and not len(x[0:-0])


def test_speech_encoders_hear_the_stretch_and_no_filling(takes, encoders, tmp_path):
    store = run(takes, (None, encoders[1]), tmp_path, seconds=3.6)
    assert [len(store.clip(c, 'audio')) for c in ('2.5', '3.6', '6.8')] == [124, 179, 179]
    cut = encoders[1](read_audio(takes.root/'6.8.mp4', end=3.6))[0]
    assert np.allclose(store.clip('6.8', 'audio').values, cut, rtol=2e-3, atol=2e-3)


def test_faces_are_looked_for_in_each_of_few_frames(takes, tmp_path, monkeypatch):
    looked = []
    class Tracker(reading.FaceTracker):
        def crop(self, frames, indices, times=None):
            looked.append((self.settings.every, *np.round(times, 2)))
            return super().crop(frames, indices, times)
    monkeypatch.setattr(reading, 'FaceTracker', Tracker)
    store = run(takes.subset(['5.0']), ('pixels-40', None), tmp_path, **AVTCA | dict(faces=FaceSettings('haar')))
    assert [t for _, *t in looked] == [[round(float(t), 2) for t in store.clip('5.0', 'visual').time]] and {e for e, *_ in looked} == {1}
    assert not store.clip('5.0', 'visual').valid.any() and store['visual'].missing == {'5.0': 'no face'}


def test_an_hour_of_pixels_is_refused(takes, tmp_path, monkeypatch):
    monkeypatch.setattr(features, 'TRACK_BYTES', 100*40*40*3)
    store = run(takes, ('pixels-40', 'mfcc'), tmp_path)
    assert set(store.quarantine.clip_id) == {'5.0', '6.8', 'bad'}
    assert store.quarantine.reason.iloc[0].endswith('or smaller ones.') and '125 frames as pixels-40' in store.quarantine.reason.iloc[0]
    assert not run(takes, ('pixels-40', 'mfcc'), tmp_path, **AVTCA).quarantine.clip_id.isin(['5.0']).any()


def test_windows_of_pixels(takes, tmp_path):
    "A batch of pixels against the tracks it is made of; invalid and missing frames are black."
    store = run(takes, ('pixels-40', 'mfcc'), tmp_path, **AVTCA)
    pack = store['visual']
    pack.valid = pack.valid.copy(); pack.valid[12] = False # the third frame of the second clip
    w = Windows(takes, store, WindowSettings(length=15, stride=15, eval_stride=15))
    b = w.whole()
    x = b.x['visual']
    assert x.shape == (4, 15, 3, 40, 40) and str(x.dtype) == 'torch.uint8' and w.dims == dict(visual=40, audio=10)
    assert b.x['audio'].shape == (4, 156, 10) and b.mask['visual'].sum(1).tolist() == [10, 14, 15, 15]
    assert b.grid.sum(1).tolist() == [10, 15, 15, 15] # a broken frame is there, and not seen
    for i, clip in enumerate(b.clip_id):
        values, n = store.clip(clip, 'visual').values.copy(), int(b.grid[i].sum())
        if clip == '3.6': values[2] = 0
        assert np.array_equal(x[i, :n].permute(0, 2, 3, 1).numpy(), values) and not x[i, n:].any()
    assert np.array_equal(pack.values, run(takes, ('pixels-40', 'mfcc'), tmp_path, **AVTCA)['visual'].values) # the store's own are untouched
    assert set(w.moments()) == {'audio'} and Windows(takes, store, WindowSettings(length=15), modalities=('visual',)).moments() == {}
    none = Windows(takes, features.FeatureStore(dict(store.packs, visual=features.pack_tracks({'2.5': store.clip('2.5', 'visual')}, ['2.5']))),
                   WindowSettings(length=15), ['5.0']).whole()
    assert none.x['visual'].shape[1:] == (15, 3, 40, 40) and not none.x['visual'].any() and none.mask['audio'].any()


def test_pixels_from_the_command_line(takes, tmp_path, capsys):
    from mmemo.commands.cli import main
    save_corpus(takes, tmp_path/'corpus')
    asked = ['--encoders', 'pixels-16+logmel', '--settings.frames', '15', '--settings.seconds', '3.6', '--cache', str(tmp_path/'cache')]
    assert main(['extract', str(tmp_path/'corpus'), *asked]) == 3 # one file is none
    said = capsys.readouterr()
    assert '55 steps x 16 x 16 x 3, uint8' in said.out and '4 clips' not in said.err and 'bad.mp4' in said.err
    assert main(['cache', 'list', '--cache', str(tmp_path/'cache')]) == 0 and 'pixels-16' in capsys.readouterr().out
    assert main(['extract', str(tmp_path/'corpus'), '--encoders', 'pixels-4+mfcc']) and 'a side of 8 to 1024 pixels' in capsys.readouterr().err
    assert main(['doctor', 'encoders']) in (0, 1)
    said = capsys.readouterr().out
    assert all(f'✓ {name}' in said for name in ('pixels (face)', 'mfcc (voice)', 'logmel (voice)'))
    assert main(['fetch', 'pixels-112+mfcc']) == 0


FRAMES, PEOPLE = 16, 22


@pytest.fixture(scope='module')
def coloured(tmp_path_factory):
    "Clips in which red says whose picture it is, and green which frame."
    root = tmp_path_factory.mktemp('coloured')
    clips, frames = [], []
    for i in range(PEOPLE):
        film = np.full((FRAMES, 48, 48, 3), 128, np.uint8)
        film[..., 0], film[..., 1] = 20 + 9*i, (10 + 10*np.arange(FRAMES))[:, None, None]
        write_clip(root/f'{i}.mp4', film, 25, sound(FRAMES/25, i), crf=10)
        clips.append(dict(clip_id=f'p{i}', path=f'{i}.mp4', subject=f's{i}', split='train' if i else 'val'))
        frames.append(pd.DataFrame(dict(clip_id=f'p{i}', frame=range(FRAMES), label=np.arange(FRAMES) % 8, valence=0., arousal=0.)))
    return Corpus('coloured', root, pd.DataFrame(clips), pd.concat(frames, ignore_index=True))


def whose(track): # number of the clip and of the frame that each valid picture shows
    r, g, _ = track.values[track.valid].reshape(-1, 16*16, 3).mean(1).T
    return np.round((r - 20)/9).astype(int), np.round((g - 10)/10).astype(int)


def read_tree(root):
    corpus, _ = read_corpus('affwild2-expr', root, progress=False)
    return corpus


DEFECTS = ('missing_crops', 'left_right', 'no_video', 'cut_video', 'picture_past_the_end', 'picture_zero')


@pytest.fixture
def tree(coloured, tmp_path):
    twin = write_affwild2(coloured, tmp_path/'tree')
    return plant(twin, DEFECTS)


def planted_number(twin, clip): return int(twin.row(clip).planted[1:])


def test_pictures_in_place_of_the_video(tree, tmp_path):
    corpus = read_tree(tree.root)
    store = run(corpus, ('pixels-16', 'mfcc'), tmp_path/'cache')
    assert store.quarantine.empty and len(corpus) == PEOPLE
    gaps, = victims(tree, 'missing_crops')
    for clip, frames in corpus.frames.groupby('clip_id', observed=True):
        face = store.clip(clip, 'visual')
        assert np.allclose(face.time, frames.time, atol=1e-6) and np.array_equal(face.valid, frames.has_crop)
        person, frame = whose(face)
        assert set(person) == {planted_number(tree, clip)} # also of two who share a video
        assert np.array_equal(frame, frames.frame[frames.has_crop])
    assert store.clip(gaps, 'visual').valid.sum() == FRAMES - 3 and not store.clip(gaps, 'visual').values[1].any()
    # the naive reading, in the order of the files, is wrong after the first gap
    named = sorted((tree.root/'cropped'/gaps).glob('*.jpg'))
    assert [int(p.stem) - 1 for p in named][1:] != list(range(1, len(named)))
    # a video that is not there, or was cut, costs the sound alone
    lost = {*victims(tree, 'no_video'), *victims(tree, 'cut_video')}
    assert set(store['audio'].missing) == lost and len(lost) == 2
    for clip in corpus.clips.clip_id: assert (len(store.clip(clip, 'audio')) > 0) == (clip not in lost)
    left, right = (f'{victims(tree, "left_right")[0].removesuffix("_left")}_{s}' for s in ('left', 'right'))
    assert store.clip(left, 'audio').values.tobytes() == store.clip(right, 'audio').values.tobytes()
    assert not (tmp_path/'cache'/'quarantine.csv').exists()


def test_labels_meet_their_pictures(tree, tmp_path):
    corpus = read_tree(tree.root)
    store = run(corpus, ('pixels-16', 'mfcc'), tmp_path/'cache')
    b = Windows(corpus, store, WindowSettings(length=8, level='frame', stride=8, eval_stride=8)).whole()
    seen = b.mask['visual']
    green = np.round((b.x['visual'][:, :, 1].float().mean((2, 3)).numpy() - 10)/10)
    assert np.array_equal(green[seen], b.frame[seen].numpy()) and np.array_equal(b.y[seen & b.y_mask] % 8, b.frame[seen & b.y_mask] % 8)
    assert b.grid.sum() > seen.sum()


def test_pictures_are_known_by_content(tree, tmp_path):
    corpus, cache = read_tree(tree.root), tmp_path/'cache'
    again = lambda c=corpus: run(c, ('pixels-16', 'mfcc'), cache).facts['counts']
    first = again()
    assert first['quarantined'] == 0 and again()['encoded'] == 0
    save_corpus(corpus, tmp_path/'tables')
    assert again(load_corpus(tmp_path/'tables'))['encoded'] == 0
    shutil.copytree(tree.root, tmp_path/'moved') # other dates, another place
    for p in (tmp_path/'moved').rglob('*.jpg'): os.utime(p, (1e9, 1e9))
    assert again(read_tree(tmp_path/'moved'))['encoded'] == 0
    assert str(tmp_path).encode() not in b''.join(p.read_bytes() for p in cache.rglob('*') if p.is_file())
    one, other = (tree.root/'cropped'/'p0'/f'0000{i}.jpg' for i in (3, 4))
    other.write_bytes(one.read_bytes())
    assert again()['encoded'] == 1
    one.write_bytes(one.read_bytes()[:200]); (tree.root/'cropped'/'p0'/'00005.jpg').write_bytes(b'')
    store = run(corpus, ('pixels-16', 'mfcc'), cache)
    assert np.flatnonzero(~store.clip('p0', 'visual').valid).tolist() == [2, 4] and whose(store.clip('p0', 'visual'))[1][2] == 2
    sources = [load_track(p).source for p in (cache/'tracks').rglob('*.safetensors')]
    assert sorted(s['broken'] for s in sources if 'broken' in s)[-1] == 2
    listed = list_cache(cache)
    assert (listed.modality == 'stamp').any() and 'stamp' in set(prune_cache(cache).modality) and 'stamp' not in set(list_cache(cache).modality)


def test_stamps_save_reading(tree, tmp_path, monkeypatch):
    corpus, read = read_tree(tree.root), []
    run(corpus, ('pixels-16', None), tmp_path/'cache')
    whole = Path.read_bytes
    monkeypatch.setattr(Path, 'read_bytes', lambda p: (read.append(p), whole(p))[1])
    run(corpus, ('pixels-16', None), tmp_path/'cache')
    assert not [p for p in read if p.suffix == '.jpg']


def test_some_of_the_pictures(tree, encoders, tmp_path):
    "Sampling, real encoders, sizes that differ, and no dependence on company."
    from PIL import Image
    corpus = read_tree(tree.root)
    for i in (2, 9, 10): Image.fromarray(np.full((30 + i, 52, 3), 90, np.uint8)).save(tree.root/'cropped'/'p0'/f'{i:05d}.jpg')
    few = run(corpus, ('pixels-16', 'mfcc'), tmp_path/'few', frames=4, seconds=.6)
    assert np.allclose(few.clip('p0', 'visual').time, [.075, .225, .375, .525], atol=.021)
    assert len(few.clip('p0', 'audio')) == 1 + round(.6*22050)//512
    store = run(corpus, encoders, tmp_path/'all', workers=2)
    assert np.isfinite(store['visual'].values).all() and store['visual'].dim == 64
    alone = run(corpus.subset(['p0']), encoders, tmp_path/'alone', ahead=1)
    assert alone.clip('p0', 'visual').values.tobytes() == store.clip('p0', 'visual').values.tobytes()
    every = run(corpus, encoders, tmp_path/'all', every=3)
    assert np.array_equal(every.clip('p0', 'visual').values, store.clip('p0', 'visual').values[::3])


def test_pictures_without_a_clock(tree, tmp_path):
    "Without a table of frames the video's stamps tell the time, else the manifest's rate; without either, a sentence."
    corpus = read_tree(tree.root)
    bare = Corpus('bare', corpus.root, corpus.clips)
    store, table = run(bare, ('pixels-16', None), tmp_path/'cache'), run(corpus, ('pixels-16', None), tmp_path/'cache')
    lost = {*victims(tree, 'no_video'), *victims(tree, 'cut_video')}
    for clip in corpus.clips.clip_id:
        assert np.allclose(store.clip(clip, 'visual').time, table.clip(clip, 'visual').time, atol=1e-3 if clip not in lost else .1), clip
    told = run(Corpus('bare', corpus.root, corpus.clips.drop(columns='fps')), ('pixels-16', None), tmp_path/'cache')
    assert set(told.quarantine.clip_id) == lost and told.quarantine.reason.str.contains("a column 'fps'").all()
    shutil.rmtree(corpus.root/'cropped'/'p0')
    gone = run(corpus, ('pixels-16', 'mfcc'), tmp_path/'cache')
    assert gone.quarantine.clip_id.tolist() == ['p0'] and 'expected a folder of pictures' in gone.quarantine.reason[0]


def test_cache_lists_transcripts(tmp_path):
    (tmp_path/'transcripts'/'ab').mkdir(parents=True)
    (tmp_path/'transcripts'/'ab'/'ab1.json').write_text(json.dumps(dict(words=[], missing='', model='openai/whisper-tiny', weights='w', precision='fp32')))
    held = list_cache(tmp_path)
    assert held[['modality', 'encoder', 'tracks']].values.tolist() == [['transcript', 'openai/whisper-tiny', 1]]
    assert not len(prune_cache(tmp_path)) and len(prune_cache(tmp_path, 'openai/whisper-tiny')) == 1 and not len(list_cache(tmp_path))
