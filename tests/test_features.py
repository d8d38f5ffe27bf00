"Extraction on odd files, in odd orders, beside another process, and interrupted."
import subprocess, sys, threading, wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmemo.core import UserError
from mmemo.encoders import VisualEncoder, load_speech, load_visual, write_random_speech, write_random_visual
from mmemo.faces import FaceSettings
from mmemo.features import (ExtractSettings, Track, cache_list, cache_prune, compact, extract, load_track, pack_tracks,
                            read_ahead, save_track, track_bytes, tracks_from_table)
from mmemo.manifest import Corpus
from mmemo.media import write_clip


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
    for kw in (dict(every=2), dict(backend='pyav'), dict(faces=FaceSettings(size=32)),
               dict(faces=FaceSettings('haar'))):
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
from mmemo.manifest import Corpus, read_manifest
from mmemo.features import extract
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
    assert len({track_bytes(track) for _ in range(20)}) == 1
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
    held = cache_list(tmp_path)
    assert held.tracks.tolist()[:2] == [5, 5] and (held.modality == 'pack').sum() == 1
    (tmp_path/'tracks'/'00').mkdir(exist_ok=True); (tmp_path/'tracks'/'00'/'x.safetensors').write_bytes(b'?')
    assert set(cache_prune(tmp_path).modality) == {'pack', 'unreadable'}
    cache_prune(tmp_path, encoders[0].weight_hash)
    assert cache_list(tmp_path).modality.tolist() == ['audio']
    assert len(cache_list(tmp_path/'nothing')) == 0 and len(cache_prune(tmp_path/'nothing')) == 0


def test_reading_stays_a_bounded_way_ahead():
    made = []
    def make(job):
        for i in range(10): made.append(i); yield i
    reading = read_ahead(range(3), make, workers=1, depth=2)
    for _ in range(4): next(reading)
    import time; time.sleep(.2)
    assert len(made) <= 4 + 2 + 1
    reading.close()
