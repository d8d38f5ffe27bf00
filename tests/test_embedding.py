"""Vectors among words: what goes into them, that maps repeat themselves, and that waiting is never overtaken by something old."""
import asyncio, threading

import numpy as np
import pandas as pd
import pytest
import torch

import mmemo.explain.embedding as em
from mmemo.core import UserError, rng_for
from mmemo.corpora.readers import open_corpus
from mmemo.panels.jobs import JobRunner
from mmemo.explain.embedding import (Embedded, MapSettings, PromptBook, edit_prompts, embed_clips, lay_out, make_map_key, compute_cosines, measure_trust, score_zero_shot)
from mmemo.labels import EXPRESSION8
from mmemo.pages.explain_plots import SYMBOLS, place_star_labels, plot_embedding
from small_run import small_run


def unit(x): return (x/np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def clouds(n=160, d=24, seed=0):
    rng = rng_for('clouds', seed)
    middles, y = rng.normal(size=(8, d)), rng.integers(8, size=n)
    return unit(middles[y]*1.4 + rng.normal(size=(n, d))), y, unit(middles)


@pytest.fixture(scope='module')
def guided(tmp_path_factory):
    "A model trained for a moment with the text guide on, its corpus and its features."
    from mmemo.features.extract import extract
    from mmemo.training.run_config import RunConfig
    from mmemo.training.runs import run_experiment
    from mmemo.training.loop import TrainConfig
    place = small_run()
    corpus = open_corpus(place/'corpus')
    store = extract(corpus, 'tiny', 'tiny', progress=False)
    train = TrainConfig(epochs=1, lr=2e-3, lambda_text=.1, device='cpu', progress=False)
    return run_experiment(RunConfig(corpus=str(place/'corpus'), train=train), corpus, store, tmp_path_factory.mktemp('guided')/'run'), corpus, store


# vectors

def test_a_run_gives_each_clip_one_vector(guided):
    run, corpus, store = guided
    every, test = embed_clips(run, corpus, store), embed_clips(run, corpus, store, 'test', size=3)
    assert len(every) == len(corpus) and np.allclose(np.linalg.norm(every.vectors, axis=1), 1, atol=1e-5)
    at = every.clips.set_index('clip_id').index.get_indexer(test.clips.clip_id)
    assert (at >= 0).all() and len(test) == (corpus.clips.split == 'test').sum()
    assert np.allclose(every.vectors[at], test.vectors, atol=1e-2), 'who else is laid out changes nothing but the stride of training clips'
    assert list(every.prompts) == list(EXPRESSION8.classes) and every.prompts == run.about['prompts']


def test_the_table_says_what_the_run_said(guided):
    run, corpus, store = guided
    test = embed_clips(run, corpus, store, 'test').clips.set_index('clip_id')
    said = run.predictions.set_index('clip_id').reindex(test.index)
    assert (test.predicted.astype(str) == said.predicted.astype(str)).all()
    assert ((test.answer == 'right') == (test.label == test.predicted)).all() and {'subject', 'subset'} <= set(test)


def test_without_the_guide_there_is_a_sentence():
    from mmemo.features.extract import extract
    from mmemo.training.runs import load_run
    corpus = open_corpus(small_run()/'corpus')
    with pytest.raises(UserError, match='no text-aligned visual vectors'):
        embed_clips(load_run(small_run()/'bicross'), corpus.subset('test'), extract(corpus, 'tiny', 'tiny', progress=False))


def test_a_frame_without_a_face_has_no_say():
    "At frame level the vector is the mean direction of the frames in which a face was seen."
    from mmemo.models.parts import embed
    torch.manual_seed(0)
    V, project = torch.randn(1, 6, 4), torch.nn.Linear(4, 5)
    seen = torch.tensor([[True, True, False, True, False, False]])

    class Model(torch.nn.Module):
        name = 'stub'
        def forward(self, batch):
            from mmemo.models.parts import Output
            return Output('expression', torch.zeros(1, 6, 8), batch.time['visual'], batch.grid, embed(project, V, seen, 'frame'))

    class Windows:
        def to(self, device): return self
        def batches(self, size):
            from mmemo.features.batch import Batch
            yield Batch({}, {}, dict(visual=torch.zeros(1, 6)), clip_index=torch.tensor([0]), frame=torch.tensor([[0, 1, 2, 3, -1, -1]]))
    _, u, p = em.embed_windows(Model(), Windows())
    expected = torch.nn.functional.normalize(project(V[0, seen[0]]), dim=-1).sum(0)
    assert np.allclose(u[0], expected.detach().numpy(), atol=1e-5) and np.allclose(p.sum(1), 1, atol=1e-5)


# maps

@pytest.fixture(scope='module')
def plane():
    x, y, stars = clouds()
    return lay_out(x), x, y, stars


def test_the_same_map_again(plane):
    first, x, _, stars = plane
    assert lay_out(x.copy()) is first, 'kept'
    em.MAPS.clear()
    again = lay_out(x)
    assert again is not first and np.array_equal(again.points, first.points), 'and made again it is the same'
    assert np.array_equal(again.place(stars), first.place(stars))


def test_new_points_stand_by_themselves(plane):
    first, _, y, stars = plane
    whole = first.place(stars)
    first.known.clear()
    assert np.array_equal(first.place(stars[::-1])[::-1], whole), 'the order, and who comes along, changes no place'
    near = np.argsort(((first.points[None] - whole[:, None])**2).sum(-1), 1)[:, :9]
    assert [np.bincount(y[n], minlength=8).argmax() for n in near] == list(range(8))


def test_progress_goes_forward_and_umap_is_left_as_it_was():
    from umap import layouts
    own, said = layouts.tqdm, []
    lay_out(clouds(60, seed=5)[0], progress=lambda share, text: said.append((share, text)))
    shares = [s for s, _ in said]
    assert shares == sorted(shares) and shares[-1] == 1 and sum('epoch' in t for _, t in said) > 20
    assert layouts.tqdm is own


def test_a_failing_map_leaves_no_lock_behind(monkeypatch):
    import umap
    monkeypatch.setattr(umap.UMAP, 'fit_transform', lambda *a, **k: 1/0)
    with pytest.raises(ZeroDivisionError): lay_out(clouds(50, seed=6)[0])
    monkeypatch.undo()
    assert not em.UMAP_LOCK.locked() and len(lay_out(clouds(50, seed=6)[0]).points) == 50


@pytest.mark.parametrize('change', [dict(seed=1), dict(neighbours=5), dict(min_dist=.3), dict(method='pca')])
def test_the_key_holds_every_setting(change):
    x = clouds()[0]
    assert make_map_key(x, MapSettings()) != make_map_key(x, MapSettings(**change))
    y = x.copy(); y[3, 3] += 1e-6
    assert make_map_key(x, MapSettings()) != make_map_key(y, MapSettings())


def test_only_the_last_maps_are_kept(monkeypatch):
    monkeypatch.setattr(em, 'KEEP', 3)
    planes = [lay_out(clouds(20, seed=s)[0], MapSettings('pca')) for s in range(5)]
    assert list(em.MAPS.values()) == planes[-3:]


@pytest.mark.parametrize('n', [4, 5, 7])
def test_few_clips(n):
    p = lay_out(clouds(n, seed=n)[0], MapSettings('pca'))
    assert p.points.shape == (n, 2) and 'PCA' in p.line()
    with pytest.raises(UserError, match='four clips'): lay_out(clouds(n)[0][:3])


def test_trustworthiness_is_sklearns_and_says_when_it_samples():
    from sklearn.manifold import trustworthiness
    x = clouds(200)[0]
    flat = x[:, :2].astype(float)
    assert measure_trust(x, flat)[0] == pytest.approx(trustworthiness(x, flat, n_neighbors=15, metric='cosine'))
    value, k, n = measure_trust(x, flat, MapSettings(sample=80))
    assert n == 80 and k == 15
    assert '80 of 200 clips' in lay_out(x, MapSettings('pca', sample=80)).line()


@pytest.mark.parametrize('bad', [dict(method='tsne'), dict(neighbours=1), dict(min_dist=2)])
def test_impossible_settings(bad):
    with pytest.raises(UserError): MapSettings(**bad)


# beside the main thread

def test_the_newest_job_counts():
    job, gate, got = JobRunner(), threading.Event(), []
    job.start(lambda progress: gate.wait(10) and 'old', got.append)
    job.start(lambda progress: 'new', got.append)
    gate.set(); job.wait(10)
    assert got == ['new'] and not job.busy


def test_an_error_is_told_and_the_next_job_runs():
    job, got, wrong = JobRunner(), [], []
    def broken(progress): raise UserError('no')
    job.start(broken, got.append, on_error=wrong.append); job.wait(10)
    job.start(lambda progress: 1, got.append); job.wait(10)
    assert got == [1] and [str(e) for e in wrong] == ['no']


def test_on_a_loop_answers_come_on_the_loops_thread():
    "A notebook's kernel has a loop: no widget is touched by two threads, and the loop goes round while the job runs."
    async def kernel():
        job, gate, where, turns = JobRunner(), threading.Event(), [], 0
        def work(progress): progress(.5, 'half'); gate.wait(10); return 'map'
        job.start(work, lambda r: where.append((r, threading.get_ident())), lambda s, t: where.append((t, threading.get_ident())))
        while not where: await asyncio.sleep(.002)
        for _ in range(5): await asyncio.sleep(.002); turns += job.busy
        gate.set()
        while len(where) < 2: await asyncio.sleep(.002)
        return where, turns
    where, turns = asyncio.run(kernel())
    assert [w for w, _ in where] == ['half', 'map'] and {t for _, t in where} == {threading.get_ident()} and turns == 5


def test_a_star_is_placed_while_another_map_is_made(plane):
    import numba
    if numba.threading_layer() not in ('omp', 'tbb'): pytest.skip('numba serves one thread at a time here')
    first, _, _, stars = plane
    expected, job, begun = first.place(stars), JobRunner(), threading.Event()
    def work(progress): return lay_out(clouds(1500, seed=9)[0], progress=lambda share, said: share > .4 and begun.set())
    job.start(work); assert begun.wait(120)
    first.known.clear()
    assert np.array_equal(first.place(stars), expected) and job.busy, 'the same places, and nobody waited'
    job.wait(120)


# reading

def test_zero_shot_is_recall_with_intervals_over_people():
    from sklearn.metrics import balanced_accuracy_score, recall_score
    x, y, stars = clouds(300)
    s = compute_cosines(x, stars) + rng_for('zs').normal(size=(300, 8))*.25
    names = np.array(EXPRESSION8.classes, object)[y]; names[:20] = None
    who = np.array([f's{i % 15}' for i in range(300)])
    t = score_zero_shot(s, names, EXPRESSION8, who).set_index('class')
    said, true = s.argmax(1)[20:], y[20:]
    for i, c in enumerate(EXPRESSION8.classes): assert t.value[c] == pytest.approx(recall_score(true, said, labels=[i], average=None)[0])
    assert t.value['mean of classes'] == pytest.approx(balanced_accuracy_score(true, said)) and t.value['all clips'] == pytest.approx((true == said).mean())
    assert t.n['all clips'] == 280 and t.n_groups['all clips'] == 15 and not t.few_groups['all clips']
    assert (t.low <= t.value).all() and (t.value <= t.high).all() and (t.low < t.high)[t.value < 1].all() # a class that is always right has no spread to draw from


def test_one_person_gives_no_interval_and_absent_classes_no_row():
    x, y, stars = clouds(60)
    names = [EXPRESSION8.classes[i] if i < 3 else None for i in y]
    t = score_zero_shot(compute_cosines(x, stars), names, EXPRESSION8, ['s'] * 60)
    assert t['class'].tolist() == ['Neutral', 'Anger', 'Disgust', 'mean of classes', 'all clips'] and t.low.isna().all() and t.few_groups.all()


# prompts

class Tower:
    "Knows a direction for each sentence, and remembers what it was asked."
    def __init__(self): self.asked = []
    def __call__(self, sentences):
        self.asked += sentences
        return unit(np.stack([rng_for('tower', s).normal(size=24) for s in sentences]))


@pytest.fixture
def words():
    x, y, _ = clouds()
    prompts = {c: [f'{c} one', f'{c} two'] for c in EXPRESSION8.classes}
    return Embedded(x, pd.DataFrame(dict(clip_id=[str(i) for i in range(160)], label=np.array(EXPRESSION8.classes)[y], subject=np.arange(160) % 14)), EXPRESSION8, prompts)


def test_each_sentence_is_encoded_once(words):
    tower = Tower(); book = PromptBook(tower)
    edit_prompts(EXPRESSION8, {}, words, book)
    assert len(tower.asked) == 16
    edit_prompts(EXPRESSION8, dict(Anger=['Fear one', 'Anger two']), words, book)
    assert len(tower.asked) == 16
    edit_prompts(EXPRESSION8, dict(Anger='a furious face'), words, book)
    assert tower.asked[16:] == ['a furious face'] and len(set(tower.asked)) == len(tower.asked)


def test_an_edit_is_what_the_tower_would_say(words, plane):
    tower = Tower()
    r = edit_prompts(EXPRESSION8, dict(fear=['x', 'y']), words, PromptBook(tower), plane[0])
    assert np.allclose(r.anchors[3], unit(tower(['x', 'y']).mean(0)[None])[0], atol=1e-6)
    assert np.allclose(r.similar, words.vectors @ r.anchors.T) and r.score == pytest.approx((r.named == words.clips.label).mean())
    plain = edit_prompts(EXPRESSION8, {}, words, PromptBook(tower), plane[0])
    assert [c for c in plain.stars if plain.stars[c] != r.stars[c]] == ['Fear']
    assert words.prompts['Fear'] == ['Fear one', 'Fear two'], 'an edit leaves the clips as they were'


def test_prompts_without_labels_still_read(words):
    words.clips = words.clips.drop(columns='label')
    r = edit_prompts(EXPRESSION8, {}, words, PromptBook(Tower()))
    assert r.table is None and np.isnan(r.score) and len(r.named) == 160


@pytest.mark.parametrize('edit,said', [(dict(Rage='x'), 'no class'), (dict(Fear=[]), 'no prompt'), (dict(Fear=' '), 'no prompt')])
def test_impossible_edits(words, edit, said):
    with pytest.raises(UserError, match=said): edit_prompts(EXPRESSION8, edit, words, PromptBook(Tower()))


def test_another_encoders_tower_is_refused(words):
    with pytest.raises(UserError, match='width 5'): edit_prompts(EXPRESSION8, {}, words, PromptBook(lambda s: np.ones((len(s), 5), np.float32)))


# figure

def test_every_clip_is_drawn_once_whatever_the_column():
    rng = rng_for('fig')
    p, ids = rng.normal(size=(50, 2)), [f'k{i}' for i in range(50)]
    for column in (np.array(EXPRESSION8.classes)[rng.integers(8, size=50)], np.array(['a', None]*25, object), rng.random(50), np.arange(50) % 3, np.arange(50) % 2 == 0):
        fig = plot_embedding(p, column, 'c', ids)
        drawn = [row[0] for t in fig.data for row in t.customdata]
        assert sorted(drawn) == sorted(ids)
        for t in fig.data:
            for row, x in zip(t.customdata, t.x): assert p[ids.index(row[0]), 0] == x


def test_class_marks_are_all_different(): assert len(set(SYMBOLS.values())) == len(SYMBOLS)


def test_labels_of_near_stars_take_different_sides():
    assert len(set(place_star_labels([[0, 0], [.001, 0], [10, 10]], 500, 400)[:2])) == 2
    assert place_star_labels(np.zeros((0, 2)), 500, 400) == [] and place_star_labels([[1, 1]], 500, 400) == ['top center']
