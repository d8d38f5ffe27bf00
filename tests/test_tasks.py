"""Every task the whole way: labels of a corpus, windows, training, a run folder, figures, and the page that shows them."""
import base64, json, re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from mmemo.training import evaluation as E
from mmemo.core import UserError
from mmemo.features.extract import extract
from mmemo.features.tracks import FeatureStore, pack_tracks
from mmemo.labels import MOSEI_EMOTIONS, task_space
from mmemo.corpora.manifest import load_corpus
from mmemo.training.metrics import HEADLINES, SHOWN
from mmemo.corpora.mosei import load_mosei
from mmemo.pages.score_plots import prettify
from mmemo.commands.predict import Prediction, tabulate_frames
from mmemo.explain.evidence import gather_evidence
from mmemo.pages.report import write_report
from mmemo.training.run_config import RunConfig
from mmemo.training.runs import build_for, load_run, run_experiment
from mmemo.training.loop import TrainConfig
from mmemo.corpora.readers import read_twin_facts
from mmemo.features.windows import Windows, WindowSettings
from small_run import small_run
from twins import write_twin

torch.set_num_threads(1)
TRAIN = TrainConfig(epochs=3, lr=5e-3, batch=8, device='cpu', progress=False, lambda_text=0.)


@lru_cache
def planted():
    place = small_run()
    corpus = load_corpus(place/'corpus')
    return corpus, extract(corpus, 'tiny', 'tiny', cache=place/'cache', progress=False)


@pytest.fixture(scope='session')
def twin(tmp_path_factory):
    "The planted clips in the shape of CMU-MOSEI: the tiny encoders' tracks in .csd files."
    corpus, store = planted()
    tracks = {m: {c: store.clip(c, m) for c in corpus.clips.clip_id} for m in ('visual', 'audio')}
    return write_twin(corpus, 'cmu-mosei', tmp_path_factory.mktemp('mosei')/'tree', (), tracks)


def mosei(twin, labels):
    corpus, tracks, _ = load_mosei(twin, labels, progress=False, **twin.options)
    corpus.facts |= read_twin_facts(twin)
    return corpus, FeatureStore({m: pack_tracks(t, list(corpus.clips.clip_id)) for m, t in tracks.items()}, dict(synthetic_only=True))


def check_run(run, corpus, store, task, level='clip'):
    "What every run of a task must hold: figures, columns, a page, and the same answers when it is loaded again."
    space, again = task_space(task, corpus.labels), load_run(run.folder)
    assert again.metrics == run.metrics and again.classes == list(space.classes)
    found = run.scores['all']
    assert set(SHOWN[task]) <= set(found)
    for name in SHOWN[task]:
        f = found[name]
        assert f['unit'] == level and f['convention'] and f['n_groups'] > 1 and f['split'] == 'test'
        assert f['ci95'] is None or f['ci95'][0] <= f['ci95'][1]
    assert np.isfinite(found[HEADLINES[task]]['value'])
    test = again.predictions[again.predictions.split == 'test'].reset_index(drop=True)
    assert set(space.columns) <= set(test) and E.infer_task(test) == task and E.list_classes(test) == list(space.classes)
    p, reach = E.get_probabilities(test), (0, 1) if space.kind == 'multilabel' else (-space.reach, space.reach)
    assert reach[0] <= p.min() and p.max() <= reach[1]
    if level == 'clip':
        fresh = E.predict(again.model, again.windows(corpus, store, 'test'))
        np.testing.assert_allclose(E.get_probabilities(fresh), p, atol=1e-6)
        assert E.evaluate(fresh, corpus)['all'][HEADLINES[task]]['value'] == pytest.approx(found[HEADLINES[task]]['value'], abs=1e-6)
    assert E.compare_predictions(test, test)['value'] == 0
    page = write_report(run.folder).read_text()
    assert all(prettify(name) in page for name in SHOWN[task]) and found[HEADLINES[task]]['convention'] in page
    figures = {n: json.loads(f) for n, f in re.findall(r'data-at="(\w+)">(.*?)</script>', page, re.S)}
    assert set(figures) == {'scores', 'history', 'emotions' if task == 'emotions' else 'values'}
    if task == 'emotions': assert {x for d in figures['emotions']['data'] for x in d['y']} <= set(space.classes)
    else:
        drawn = [np.frombuffer(base64.b64decode(d['y']['bdata']), d['y']['dtype']) for d in figures['values']['data'][1::2]] # between them the diagonals
        labelled = test[list(space.classes)].notna().all(axis=1).to_numpy()
        np.testing.assert_allclose(np.stack(drawn, 1), p[labelled], atol=6e-4)
    return found, test


@pytest.mark.parametrize('model', ['bicross', 'visual'])
@pytest.mark.parametrize('task', ['sentiment', 'emotions'])
def test_mosei_the_whole_way(task, model, twin, tmp_path):
    corpus, store = mosei(twin, task)
    small = dict(dim=16, heads=2, tcn_levels=2) if model == 'bicross' else dict(dim=16)
    config = RunConfig(model, 'mosei', window=WindowSettings(length=24, stride=24, eval_stride=24, task=task), train=TRAIN, options=small)
    run = run_experiment(config, corpus, store, tmp_path/'run')
    found, test = check_run(run, corpus, store, task)
    card = (tmp_path/'run'/'card.md').read_text()
    if task == 'sentiment':
        labels = corpus.clips.set_index('clip_id').sentiment[test.clip_id].to_numpy(float)
        np.testing.assert_allclose(test.sentiment, labels)
        assert found['mae']['value'] == pytest.approx(np.abs(labels - test.p_sentiment).mean(), abs=1e-6)
        assert 'acc2_non0: clips pooled; negative against positive, labels of 0 left out' in card.replace('acc2_non0, weighted_f1_non0', 'acc2_non0')
    else:
        labels = corpus.clips.set_index('clip_id').loc[test.clip_id, list(MOSEI_EMOTIONS.classes)].to_numpy(float)
        hits = (labels > 0) == (E.get_probabilities(test) > .5)
        kinds = [(hits[labels[:, i] > 0, i], hits[labels[:, i] <= 0, i]) for i in range(6)]
        want = np.mean([np.mean([a.mean(), b.mean()]) for a, b in kinds if len(a) and len(b)])
        assert found['weighted_accuracy']['value'] == pytest.approx(want)
        assert set(found['per_emotion']) == set(MOSEI_EMOTIONS.classes) and 'weighted_accuracy, Fear' in card


@pytest.mark.parametrize('task', ['valence', 'va', 'sentiment', 'emotions'])
def test_one_clip_is_looked_at_and_told_in_words(task, twin):
    corpus, store = planted() if task in ('valence', 'va') else mosei(twin, task)
    settings = WindowSettings(length=24, stride=24, task=task)
    model = build_for(RunConfig('bicross', window=settings, options=dict(dim=16, heads=2, tcn_levels=2)), Windows(corpus, store, settings, 'train'))
    seen = gather_evidence(model, corpus, store, corpus.clips.clip_id[0], settings)
    space = task_space(task, corpus.labels)
    assert tuple(seen.classes) == space.classes and seen.probs.shape == (len(seen.time), space.n) and seen.maps
    told, table = str(Prediction(Path('a.mp4'), seen, None, [], {})), tabulate_frames(seen)
    assert 'label' not in table and set(space.classes) <= set(table)
    if task == 'emotions': assert all((c in told) == (p > .5) for c, p in zip(space.classes, seen.clip_probs))
    else: assert told.startswith(f'a.mp4: mean {space.classes[0]} ')


@pytest.mark.parametrize('level', ['clip', 'frame'])
@pytest.mark.parametrize('task', ['valence', 'arousal'])
def test_one_value_alone(task, level, tmp_path):
    corpus, store = planted()
    config = RunConfig('bicross', 'planted', window=WindowSettings(length=24, stride=24, eval_stride=24, level=level, task=task), train=TRAIN, options=dict(dim=16, heads=2, tcn_levels=2))
    run = run_experiment(config, corpus, store, tmp_path/'run')
    found, test = check_run(run, corpus, store, task, level)
    assert set(found) == {'ccc', 'n', 'n_clips'} and run.metrics['smoothing']['chosen_on'] == 'val'


def test_a_learnable_emotion_is_learned(twin):
    "Planted sentiment and emotions are in the features: training beats the constant answer, which has CCC 0 and weighted accuracy 0.5."
    from mmemo.training.loop import train
    for task in ('sentiment', 'emotions'):
        corpus, store = mosei(twin, task)
        config = RunConfig('bicross', window=WindowSettings(length=24, stride=24, task=task), train=replace(TRAIN, epochs=12, patience=0), options=dict(dim=16, heads=2, tcn_levels=2))
        windows = Windows(corpus, store, config.window, 'train')
        model = build_for(config, windows)
        history = train(model, windows, windows, config.train) # on what it has seen: a check of the loop, not of the model
        assert history[-1]['train_loss'] < .8*history[0]['train_loss']
        assert max(h['val_score'] for h in history) > dict(sentiment=.3, emotions=.7)[task]


def test_classes_are_refused_where_there_are_none(twin, tmp_path):
    corpus, store = mosei(twin, 'sentiment')
    config = RunConfig('bicross', window=WindowSettings(length=24), train=TRAIN)
    with pytest.raises(UserError, match="use task 'sentiment'"): run_experiment(config, corpus, store, tmp_path/'run')
    assert not (tmp_path/'run').exists()
    with pytest.raises(UserError, match="needs a column 'sentiment'"):
        run_experiment(replace(config, window=WindowSettings(length=24, task='sentiment')), *planted(), tmp_path/'run')


def test_layers_along_time_fit_the_windows():
    "A model for one length takes the windows' own, unless another is asked for."
    corpus, store = planted()
    settings = WindowSettings(length=24, stride=24, level='clip')
    windows = Windows(corpus, store, settings, 'train')
    own = lambda **o: build_for(RunConfig('rjcma-code', window=settings, options=o), windows)
    assert own().fixed_length == 24
    assert own()(windows.gather([0, 1])).logits.shape[0] == 2
    with pytest.raises(UserError, match='windows of 30 frames, and got 24'): own(length=30)(windows.gather([0, 1]))
