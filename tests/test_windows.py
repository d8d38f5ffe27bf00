"Windows against a slow reference, over awkward corpora."
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mmemo.core import UserError
from mmemo.labels import MOSEI_EMOTIONS, task_space
from mmemo.corpora.manifest import Corpus
from mmemo.features.batch import pick_rows, without
from mmemo.features.windows import WindowSettings, Windows, describe_overhang, measure_overhang

torch.set_num_threads(1)


def make_corpus(seed, n=12, rates=(25, 50), jitter=False, shuffle=True):
    rng = np.random.default_rng(seed)
    ids, store = [f'c{i}' for i in range(n)], {}
    seconds = rng.uniform(.1, 7, n)
    gone = dict(visual={3, 7}, audio={5, 7})
    for m, hz, d in (('visual', rates[0], 5), ('audio', rates[1], 3)):
        order = rng.permutation(n) if shuffle else np.arange(n)
        order = [i for i in order if not (i == 9 and m == 'audio')]  # c9 is not in the audio pack at all
        time, count = [], []
        for i in order:
            k = 0 if i in gone[m] else max(1, int(seconds[i] * hz))
            t = (np.arange(k) + .5) / hz
            if jitter: t = np.sort(t + rng.uniform(-.3, .3, k) / hz)
            time.append(t); count.append(k)
        total = sum(count)
        store[m] = types.SimpleNamespace(values=rng.normal(size=(total, d)).astype('float16'), time=np.concatenate(time), dim=d,
                                         valid=rng.random(total) > .15, offsets=np.r_[0, np.cumsum(count)], clip_ids=[ids[i] for i in order])
    clips = pd.DataFrame(dict(clip_id=ids, path='x', subject=[f's{i % 4}' for i in range(n)], label=rng.integers(-1, 8, n),
                              valence=rng.uniform(-1, 1, n), arousal=rng.uniform(-1, 1, n), split=['train', 'val', 'test', 'train'] * (n // 4)))
    v = store['visual']
    frames = pd.concat([pd.DataFrame(dict(clip_id=c, frame=np.arange(b - a), time=v.time[a:b], label=rng.integers(-1, 8, b - a), valence=.5,
                                          arousal=rng.choice([-5, .2], b - a))) for c, a, b in zip(v.clip_ids, v.offsets, v.offsets[1:])], ignore_index=True)
    return Corpus('awkward', Path('.'), clips, frames), store


def track(store, m, clip):
    p = store[m]
    if clip not in p.clip_ids: return p.values[:0], p.time[:0], p.valid[:0]
    i = p.clip_ids.index(clip)
    s = slice(p.offsets[i], p.offsets[i + 1])
    return p.values[s].astype('float32'), p.time[s], p.valid[s]


def reference(store, clip, length, stride):
    "All windows of one clip that has a picture, slowly: (start, face, face mask, voice, voice mask, seconds)."
    (face, t, seen), (voice, s, heard) = (track(store, m, clip) for m in ('visual', 'audio'))
    starts = list(range(0, max(len(t) - length, 0) + 1, stride))
    if len(t) > length and starts[-1] != len(t) - length: starts.append(len(t) - length)
    for a in starts:
        z = min(a + length, len(t))
        left = -np.inf if a == 0 else (t[a - 1] + t[a]) / 2
        right = np.inf if z == len(t) else (t[z - 1] + t[z]) / 2
        inside = (s >= left) & (s < right)
        yield a, face[a:z] * seen[a:z, None], seen[a:z], voice[inside] * heard[inside, None], heard[inside], t[a:z]


@pytest.mark.parametrize('seed, length, stride, rates, jitter', [
    (0, 60, 30, (25, 50), False), (1, 60, 30, (29.97, 50), True), (2, 16, 5, (12.5, 50), True), (3, 200, 200, (25, 3), False),
    (4, 1, 1, (5, 50), False), (5, 60, 15, (30, 100), True)])
def test_equals_the_slow_way(seed, length, stride, rates, jitter):
    corpus, store = make_corpus(seed, rates=rates, jitter=jitter)
    w = Windows(corpus, store, WindowSettings(length=length, stride=stride))
    b = w.whole()
    for clip in corpus.clips.clip_id:
        mine = [i for i, c in enumerate(b.clip_id) if c == clip]
        if clip == 'c7': assert not mine and w.absent == ['c7']; continue  # neither picture nor sound
        if clip == 'c3':  # sound only
            assert mine and not b.mask['visual'][mine].any() and b.grid[mine].any(1).all()
            assert sum(b.mask['audio'][mine].sum(1)) >= track(store, 'audio', clip)[2].sum()
            continue
        want = list(reference(store, clip, length, stride))
        assert len(mine) == len(want)
        for i, (start, face, seen, voice, heard, seconds) in zip(mine, want):
            n, k = len(face), len(voice)
            assert b.frame[i].tolist() == list(range(start, start + n)) + [-1] * (length - n)
            np.testing.assert_allclose(b.x['visual'][i, :n], face); np.testing.assert_allclose(b.x['audio'][i, :k], voice)
            assert b.mask['visual'][i].tolist() == list(seen) + [False] * (length - n)
            assert b.mask['audio'][i].tolist() == list(heard) + [False] * (b.mask['audio'].shape[1] - k)
            assert not b.x['audio'][i, k:].any() and not b.x['visual'][i, n:].any()
            np.testing.assert_allclose(b.time['visual'][i, :n], seconds, atol=1e-5)


def make_even(seconds, rates=(('visual', 25), ('audio', 50))):
    "Clips whose streams last `seconds[m]` each."
    ids, store = [f'c{i}' for i in range(len(seconds['visual']))], {}
    for m, hz in rates:
        count = np.round(np.asarray(seconds[m])*hz).astype(int)
        time = np.concatenate([(np.arange(k) + .5)/hz for k in count])
        store[m] = types.SimpleNamespace(values=np.ones((len(time), 2), 'float16'), time=time, dim=2, clip_ids=ids,
                                         valid=np.ones(len(time), bool), offsets=np.r_[0, count.cumsum()])
    return Corpus('even', Path('.'), pd.DataFrame(dict(clip_id=ids, path='x', label=0))), store


def test_one_film_with_long_sound_pads_no_batch():
    seconds = dict(visual=np.full(50, 10.), audio=np.r_[np.full(49, 10.), 130.])
    corpus, store = make_even(seconds)
    w = Windows(corpus, store, WindowSettings(length=50, stride=50))
    assert w.steps['audio'] == 102 # two seconds and, at both ends, one step's grace
    lost = measure_overhang(store, corpus.clips.clip_id).set_index('clip_id').seconds
    assert lost['c49'] == pytest.approx(120, abs=.1) and not lost.drop('c49').any()
    assert describe_overhang(store, corpus.clips.clip_id).startswith("sound without a picture is left out in 1 of 50 clips, most in 'c49' (119.9")
    alone = Windows(corpus, store, WindowSettings(length=50, stride=50), modalities=('audio',))
    heard = alone.whole().mask['audio'].sum()
    assert heard == 49*500 + 6500 # the voice alone keeps its length
    assert describe_overhang(dict(audio=store['audio']), corpus.clips.clip_id) == ''


def test_a_long_gap_inside_a_film_pads_no_batch():
    "Nobody is seen for two minutes of one film of fifty, and the sound goes on: no window reaches over, no frame is lost, and it is told."
    corpus, store = make_even(dict(visual=np.full(50, 10.), audio=np.r_[np.full(49, 10.), 130.]))
    store['visual'].time[-125:] += 120.
    w = Windows(corpus, store, WindowSettings(length=50, stride=30))
    assert w.steps['audio'] == 102 # as where a film ends: two seconds and one step's grace at both ends
    all_of_it = w.whole()
    own = all_of_it.clip_index == 49
    seconds, heard = all_of_it.time['visual'][own], all_of_it.time['audio'][own]
    is_there, is_heard = all_of_it.mask['visual'][own], all_of_it.mask['audio'][own]
    assert len(np.unique(seconds[is_there])) == 250, 'each frame stands in a window'
    for t, m, a, n in zip(seconds, is_there, heard, is_heard):
        assert t[m].max() - t[m].min() < 2 and abs(a[n].min() - t[m].min()) < .1 and abs(a[n].max() - t[m].max()) < .1
    lost = measure_overhang(store, corpus.clips.clip_id).set_index('clip_id').seconds
    assert lost['c49'] == pytest.approx(120, abs=.2) and not lost.drop('c49').any()
    assert describe_overhang(store, ['c49']) .startswith('119.9')
    silent = make_even(dict(visual=np.full(2, 10.), audio=np.full(2, 10.)))[1] # and where there is no sound in it either
    silent['visual'].time[-125:] += 120.; silent['audio'].time[-250:] += 120.
    assert Windows(corpus.subset(corpus.clips.clip_id.isin(['c0', 'c1'])), silent, WindowSettings(length=50, stride=30)).steps['audio'] <= 102
    assert not measure_overhang(silent, ['c0', 'c1']).seconds.any()


def test_a_short_gap_and_a_slow_film_are_not_parted():
    for more, rate, parted in ((4.9, 25, False), (5.2, 25, True), (5.2, 1, False)):
        corpus, store = make_even(dict(visual=[60., 60.], audio=[70., 70.]), (('visual', rate), ('audio', 50)))
        store['visual'].time[-30*rate:] += more
        grid = Windows(corpus, store, WindowSettings(length=10_000)).whole()
        assert (grid.clip_index == 1).sum() == 1 + parted, (more, rate)


@pytest.mark.parametrize('more, kept', [(0, 500), (.02, 501), (.04, 502), (.06, 502), (3., 502)])
def test_one_step_of_grace(more, kept):
    corpus, store = make_even(dict(visual=[10., 10.], audio=[10., 10. + more]))
    heard = Windows(corpus, store, WindowSettings(length=250)).whole().mask['audio'].sum(1)
    assert heard.tolist() == [500, kept]


def test_sound_before_the_picture_is_cut_as_well():
    corpus, store = make_even(dict(visual=[10., 4.], audio=[10., 10.]))
    store['visual'].time[250:] += 6.
    w = Windows(corpus, store, WindowSettings(length=100, stride=100)).whole()
    assert w.time['audio'][w.clip_index == 1][w.mask['audio'][w.clip_index == 1]].min() > 5.94
    assert measure_overhang(store, ['c0', 'c1']).seconds.tolist() == pytest.approx([0, 5.96], abs=.03)


@pytest.mark.parametrize('one', ['visual', 'audio'])
def test_one_step_stands_for_its_whole_clip_however_long(one):
    corpus, store = make_even({m: [10., 130.] for m in ('visual', 'audio')}, (('visual', 25), ('audio', 50)))
    short, p = store[one], make_even({one: [.04, .04]}|{'visual': [.04, .04]}, ((one, 25),))[1][one]
    p.time = np.array([5., 65.])
    w = Windows(corpus, dict(store, **{one: p}), WindowSettings(length=4000))
    other = 'audio' if one == 'visual' else 'visual'
    assert w.whole().mask[other].sum(1).tolist() == np.diff(store[other].offsets).tolist()
    assert w.whole().mask[one].sum(1).tolist() == [1, 1]


def test_without_overlap_every_step_of_sound_is_used_once():
    corpus, store = make_corpus(6, jitter=True)
    store['visual'].valid[:], store['audio'].valid[:] = True, True
    whole = [c for c in corpus.clips.clip_id if len(track(store, 'visual', c)[1]) and len(track(store, 'visual', c)[1]) % 10 == 0]
    for clip in corpus.clips.clip_id:
        n = len(track(store, 'visual', clip)[1])
        if not n: continue
        b = Windows(corpus, store, WindowSettings(length=n), split=[clip]).whole()
        assert len(b) == 1 and b.mask['audio'].sum() == len(track(store, 'audio', clip)[1])
    for clip in whole:
        b = Windows(corpus, store, WindowSettings(length=10, stride=10, eval_stride=10), split=[clip]).whole()
        assert b.mask['audio'].sum() == len(track(store, 'audio', clip)[1])


def test_one_step_a_clip_spans_the_clip():
    corpus, store = make_corpus(7)
    v = store['visual']
    v.values, v.time, v.valid = v.values[:12], np.full(12, 1.), np.ones(12, bool)
    v.offsets, v.clip_ids = np.arange(13), [f'c{i}' for i in range(12)]
    b = Windows(corpus, store).whole()
    assert len(b) == 12
    for i, clip in enumerate(b.clip_id): assert b.mask['audio'][i].sum() == track(store, 'audio', clip)[2].sum()


@pytest.mark.parametrize('task', ['expression', 'va'])
def test_frame_labels(task):
    corpus, store = make_corpus(8)
    b = Windows(corpus, store, WindowSettings(length=20, level='frame', task=task)).whole()
    table = corpus.frames.set_index(['clip_id', 'frame'])
    for i, clip in enumerate(b.clip_id):
        for j, f in enumerate(b.frame[i].tolist()):
            there = f >= 0 and (clip, f) in table.index
            r = table.loc[(clip, f)] if there else None
            if task == 'expression':
                assert b.y[i, j] == (r.label if there else -1) and b.y_mask[i, j] == (there and r.label >= 0)
            else:
                ok = there and r.arousal >= -1
                assert b.y_mask[i, j] == ok and torch.allclose(b.y[i, j], torch.tensor([r.valence, r.arousal] if ok else [0., 0.]).float())


@pytest.mark.parametrize('task', ['valence', 'arousal', 'sentiment', 'emotions'])
def test_labels_of_every_kind(task):
    corpus, store = make_corpus(8)
    rng = np.random.default_rng(0)
    clips = corpus.clips.assign(sentiment=rng.choice([-3, -1/3, 0, 2, 3.2, np.nan], 12), **{c: rng.choice([0, 1/3, 3, np.nan], 12, p=[.5, .2, .2, .1]) for c in MOSEI_EMOTIONS.classes})
    clips.loc[:3, 'arousal'] = -5
    corpus, space = replace(corpus, clips=clips), task_space(task)
    b = Windows(corpus, store, WindowSettings(length=20, task=task)).whole()
    assert b.y.dtype == torch.float32 and b.y.shape == (len(b), space.n) and 0 < b.y_mask.float().mean() <= 1
    for i, row in enumerate(clips.set_index('clip_id').loc[b.clip_id, space.columns].to_numpy(float)):
        there = not np.isnan(row).any() if space.kind == 'multilabel' else bool((np.abs(row) <= space.reach).all())
        want = (row > 0 if space.kind == 'multilabel' else row) if there else np.zeros(space.n)
        assert b.y_mask[i] == there and torch.allclose(b.y[i], torch.tensor(want).float())
    if task in ('valence', 'arousal'): # frames have these two
        f = Windows(corpus, store, WindowSettings(length=20, level='frame', task=task)).whole()
        assert f.y.shape == (len(f), 20, 1) and not f.y[~f.y_mask].any() and f.y_mask[f.grid].any()
        both = Windows(corpus, store, WindowSettings(length=20, level='frame', task='va')).whole()
        assert (f.y_mask >= both.y_mask).all() and f.y_mask.sum() - both.y_mask.sum() == (0 if task == 'arousal' else (f.y_mask & ~both.y_mask).sum())


def test_frame_labels_with_features_of_every_second_frame():
    corpus, store = make_corpus(9)
    v, keep, offsets = store['visual'], [], [0]
    for a, z in zip(v.offsets, v.offsets[1:]): keep += range(a, z, 2); offsets.append(len(keep))
    v.values, v.time, v.valid, v.offsets = v.values[keep], v.time[keep], v.valid[keep], np.array(offsets)
    b = Windows(corpus, store, WindowSettings(length=10, level='frame')).whole()
    table = corpus.frames.set_index(['clip_id', 'frame']).label
    for i, clip in enumerate(b.clip_id):
        if clip == 'c3': continue
        f = b.frame[i][b.grid[i]]
        assert (f % 2 == 0).all()
        assert b.y[i][b.grid[i]].tolist() == [table[(clip, k)] for k in f.tolist()]


def test_clip_labels_and_subjects():
    corpus, store = make_corpus(10)
    b = Windows(corpus, store).whole()
    clips = corpus.clips.set_index('clip_id')
    assert b.y.tolist() == [int(clips.label[c]) for c in b.clip_id] # a label is a name: '6' is the seventh class
    assert b.y_mask.tolist() == [int(clips.label[c]) >= 0 for c in b.clip_id]
    assert corpus.clips.clip_id.to_numpy()[b.clip_index.numpy()].tolist() == b.clip_id
    assert len(set(zip(b.group.tolist(), (clips.subject[c] for c in b.clip_id)))) == 4


def test_splits_share_memory_and_nothing_else():
    corpus, store = make_corpus(11)
    parts = {s: Windows(corpus, store, split=s) for s in ('train', 'val', 'test')}
    assert len({w.flat['audio'].values.data_ptr() for w in parts.values()}) == 1
    seen = [set(w.whole().clip_id) for w in parts.values()]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert parts['train'].stride == WindowSettings().stride and Windows(corpus, store, WindowSettings(eval_stride=7), 'val').stride == 7


def test_clips_without_labels_can_be_predicted_on():
    corpus, store = make_corpus(12)
    corpus.clips = corpus.clips[['clip_id', 'path']]
    b = Windows(corpus, store).gather([0, 1])
    assert b.y is None and b.x['visual'].shape[0] == 2


def test_memory_mapped_and_in_memory_are_equal(tmp_path):
    corpus, store = make_corpus(13)
    for m, p in store.items():
        np.save(tmp_path/f'{m}.npy', p.values)
    b = Windows(corpus, store).whole()
    for m, p in store.items(): p.values = np.load(tmp_path/f'{m}.npy', mmap_mode='r')
    assert all(torch.equal(x, b.x[m]) for m, x in Windows(corpus, store).whole().x.items())


def test_rows_and_without():
    corpus, store = make_corpus(14)
    b = Windows(corpus, store).whole()
    some = pick_rows(b, b.y == b.y[0])
    assert some.clip_id[0] == b.clip_id[0] and len(some) == int((b.y == b.y[0]).sum())
    deaf = without(b, 'audio')
    assert not deaf.mask['audio'].any() and b.mask['audio'].any() and torch.equal(deaf.x['visual'], b.x['visual'])


def test_messages():
    corpus, store = make_corpus(15)
    with pytest.raises(UserError, match="no modality 'text'"): Windows(corpus, store, modalities=('text',))
    with pytest.raises(UserError, match="no clip in split 'dev'"): Windows(corpus, store, split='dev')
    with pytest.raises(UserError, match="'length' is 0"): WindowSettings(length=0)
    with pytest.raises(UserError, match="'task' is 'emotion'; .*Did you mean 'emotions'"): WindowSettings(task='emotion')
    with pytest.raises(UserError, match="use task 'emotions'"): Windows(replace(corpus, space='mosei'), store)
    with pytest.raises(UserError, match="needs a column 'sentiment'"): Windows(corpus, store, WindowSettings(task='sentiment'))
    with pytest.raises(UserError, match='none of the 1 clips has features'): Windows(corpus, store, split=['c7'])


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU on this machine')
def test_on_gpu():
    corpus, store = make_corpus(16)
    a, b = Windows(corpus, store).whole(), Windows(corpus, store).to('cuda')
    other = Windows(corpus, store, split='test').to('cuda')
    assert b.flat['audio'].values.data_ptr() == other.flat['audio'].values.data_ptr()
    assert all(torch.equal(x, b.whole().x[m].cpu()) for m, x in a.x.items())
