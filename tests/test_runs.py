"""Evaluation against plain loops, and run folders: whole, repeatable, refused where they should be."""
import json, os, shlex, signal, subprocess, sys, time, types
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mmemo.training import evaluation as E
from mmemo.core import UserError, read_json
from mmemo.media.faces import FaceSettings
from mmemo.features.reading import ExtractSettings
from mmemo.corpora.manifest import Corpus
from mmemo.models.registry import MODELS, available
from mmemo.training.published import find_published
from mmemo.training.run_config import RunConfig, choose_settings, make_run_config, write_command
from mmemo.training.runs import FILES, load_run, run_experiment
from mmemo.training.loop import TrainConfig
from mmemo.features.windows import WindowSettings, Windows
from mmemo.models.parts import Output

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent
NAMES = ('Neutral', 'Anger', 'Disgust', 'Fear', 'Happiness', 'Sadness', 'Surprise', 'Other')


def stand_in(n=120, seed=0, dims=(10, 9), steps=(20, 40), lengths=None, words=False):
    "Clips whose class is written into both streams, and into words where asked for; frame labels with holes; valence and arousal."
    rng, store = np.random.default_rng(seed), {}
    ids, labels = [f'c{i:03d}' for i in range(n)], np.arange(n) % 8
    long = lengths if lengths is not None else np.full(n, steps[0])
    count = dict(visual=long, audio=long*steps[1]//steps[0]) | (dict(text=np.maximum(long//4, 1)) if words else {})
    for m, d in zip(count, (*dims, 8)):
        own = np.repeat(labels, count[m])
        x = rng.normal(size=(len(own), d)); x[:, :8] += 1.5*np.eye(8)[own]
        time_ = np.concatenate([(np.arange(k) + .5)/k*l/25 for k, l in zip(count[m], long)])
        store[m] = types.SimpleNamespace(values=x.astype('float32'), time=time_, valid=np.ones(len(x), bool), offsets=np.r_[0, count[m].cumsum()], clip_ids=ids, dim=d)
    split = np.array(['train', 'train', 'train', 'val', 'test'])[np.arange(n)//8 % 5]
    va = np.stack([np.cos(labels), np.sin(labels)], 1)
    clips = pd.DataFrame(dict(clip_id=ids, path='x.mp4', subject=[f'{s}{i % 13}' for i, s in enumerate(split)], split=split, label=[NAMES[i] for i in labels],
                              valence=va[:, 0], arousal=va[:, 1], subset=np.where(np.isin(labels, (1, 4)), 'xor', 'both')))
    own = np.repeat(np.arange(n), long)
    frames = pd.DataFrame(dict(clip_id=np.repeat(ids, long), frame=np.concatenate([np.arange(k) for k in long]), time=store['visual'].time,
                               label=np.where(rng.random(len(own)) < .2, -1, labels[own]), valence=va[own, 0], arousal=va[own, 1]))
    return Corpus('stand-in', Path('.'), clips, frames, facts=dict(synthetic=True)), store


def quick(model='bicross', level='clip', task='expression', train={}, **changes):
    known = {f.name for f in fields(MODELS[model].config)}
    small = {k: v for k, v in dict(dim=16, heads=2, tcn_levels=2, levels=2, length=20).items() if k in known}
    return RunConfig(**{**dict(model=model, corpus='stand-in', window=WindowSettings(length=20, stride=10, level=level, task=task, eval_stride=10), options=small,
                               train=TrainConfig(**{**dict(epochs=3, lr=5e-3, device='cpu', progress=False, lambda_text=0.), **train})), **changes})


def tower(sentences): return np.stack([np.random.default_rng(len(s)).normal(size=12) for s in sentences])


class Reader(torch.nn.Module):
    "Says what the visual features say, per frame."
    def __init__(self): super().__init__(); self.register_buffer('one', torch.ones(()))
    def forward(self, b, maps=False): return Output('expression', b.x['visual'][..., :8]*b.mask['visual'][..., None], b.time['visual'])


# --- evaluation ---------------------------------------------------------------------------------------------------

def by_frame(seed=0):
    lengths = np.random.default_rng(seed).integers(5, 75, 40)
    corpus, store = stand_in(40, seed, lengths=lengths)
    return corpus, store, Windows(corpus, store, WindowSettings(20, 10, 'frame', eval_stride=7), corpus.clips.clip_id.tolist(), ('visual',))


def test_predictions_are_the_mean_over_windows_frame_by_frame():
    corpus, store, w = by_frame()
    pred = E.predict(Reader(), w, size=13)
    total, count = {}, {}
    for i in range(len(w)):
        b = w.gather(torch.tensor([i])); p = Reader()(b).probabilities[0].numpy()
        for f, row in zip(b.frame[0].tolist(), p):
            if f >= 0: total[b.clip_id[0], f] = total.get((b.clip_id[0], f), 0) + row; count[b.clip_id[0], f] = count.get((b.clip_id[0], f), 0) + 1
    assert len(pred) == len(total) == len(corpus.frames) and max(count.values()) >= 3
    want = np.stack([total[k]/count[k] for k in zip(pred.clip_id, pred.frame)])
    np.testing.assert_allclose(E.get_probabilities(pred), want, atol=1e-6)
    at = corpus.frames.set_index(['clip_id', 'frame'])
    own = at.loc[list(zip(pred.clip_id, pred.frame))]
    assert (pd.Categorical(pred.label, NAMES).codes == own.label.to_numpy()).all()
    np.testing.assert_allclose(pred.time, own.time, atol=1e-5)
    assert list(pred.predicted) == [NAMES[i] for i in want.argmax(1)]


def test_prediction_does_not_depend_on_batch_size_and_leaves_the_mode():
    corpus, store, w = by_frame(1); r = Reader().train()
    a, b = E.predict(r, w, 1), E.predict(r, w, 500)
    pd.testing.assert_frame_equal(a, b); assert r.training


@pytest.mark.parametrize('width', [0, .04, .1, .37, 1, 100])
def test_smoothing_equals_a_plain_loop(width):
    corpus, store, w = by_frame(2); pred = E.predict(Reader(), w)
    soft, p = E.smooth(pred, width), E.get_probabilities(pred)
    for clip in pred.clip_id.unique()[:6]:
        rows = np.flatnonzero(pred.clip_id == clip); t = pred.time.to_numpy()[rows]
        want = np.stack([p[rows][np.abs(t - s) <= width/2 + 1e-6].mean(0) for s in t])
        np.testing.assert_allclose(E.get_probabilities(soft)[rows], want, atol=1e-6)
    assert soft.attrs['smoothing_s'] == width and E.smooth(pred[:0], width).empty


def test_filling_equals_numpy_interpolation():
    corpus, store, w = by_frame(3); pred = E.predict(Reader(), w)
    keep = np.random.default_rng(0).random(len(pred)) < .5
    keep[(pred.clip_id == 'c001').to_numpy()] = False; keep[np.flatnonzero(pred.clip_id == 'c001')[2]] = True # a single prediction
    full = E.complete(pred[keep], w)
    assert len(full) == corpus.frames.clip_id.isin(pred[keep].clip_id.unique()).sum()
    assert full.filled.sum() == len(full) - keep.sum() and full.label.notna().sum() == (corpus.frames[corpus.frames.clip_id.isin(full.clip_id)].label >= 0).sum()
    assert full.subject.notna().all() and full.time.notna().all()
    for clip, own in full.groupby('clip_id'):
        known = own[~own.filled]
        for c in ('p_Neutral', 'p_Other'): np.testing.assert_allclose(own[c], np.interp(own.time, known.time, known[c]), atol=1e-5)
    np.testing.assert_allclose(E.get_probabilities(full).sum(1), 1, atol=1e-5)


def test_smoothing_is_chosen_where_it_is_told_and_clip_level_has_none():
    corpus, store, w = by_frame(4); pred = E.predict(Reader(), w)
    chosen = E.choose_smoothing(pred)
    assert chosen['width'] > 0 and chosen['scores'][chosen['width']] == max(chosen['scores'].values())
    for width, value in chosen['scores'].items(): assert value == pytest.approx(E.evaluate(E.smooth(pred, width), corpus)['all']['macro_f1']['value'])
    clip = pred.drop(columns=['frame', 'time']).drop_duplicates('clip_id')
    assert E.choose_smoothing(clip)['width'] == 0


def test_every_figure_says_what_it_is():
    corpus, store, w = by_frame(5); pred = E.smooth(E.predict(Reader(), w), .4)
    found = E.evaluate(pred, corpus)
    def walk(x):
        if isinstance(x, dict) and 'value' in x: yield x
        elif isinstance(x, dict):
            for v in x.values(): yield from walk(v)
    figures = list(walk(found))
    assert len(figures) > 30
    for f in figures:
        assert {'value', 'ci95', 'n_groups', 'few_groups', 'by', 'unit', 'split', 'smoothing', 'convention'} <= set(f)
        assert f['unit'] == 'frame' and f['smoothing'] == .4 and f['convention']
        if f['ci95']: assert f['ci95'][0] - 1e-9 <= f['value'] <= f['ci95'][1] + 1e-9 or f['value'] > .99
    json.dumps(E.evaluate(pred, corpus), default=float)
    assert found['xor']['classes'] == ['Anger', 'Happiness'] and found['xor']['n'] < found['all']['n']


def test_restricted_decides_between_two_classes_only():
    rng = np.random.default_rng(0); p = rng.dirichlet(np.ones(8), 200)
    y = rng.integers(0, 8, 200)
    pred = pd.DataFrame(p, columns=[f'p_{c}' for c in NAMES]).assign(clip_id=[str(i) for i in range(200)], subject=[f's{i % 20}' for i in range(200)], split='test',
                                                                    label=pd.Categorical.from_codes(y, NAMES))
    corpus = Corpus('x', Path('.'), pred[['clip_id', 'subject', 'split']].assign(path='x', label=[NAMES[i] for i in y]))
    r = E.evaluate(pred, corpus, subsets=dict(two=dict(clips=pred.clip_id, restrict=('Happiness', 'Anger')), few=pred.clip_id[:30], where="subject == 's1'"))
    own = np.isin(y, (1, 4))
    assert r['two']['accuracy']['value'] == pytest.approx(((p[own, 4] > p[own, 1]) == (y[own] == 4)).mean())
    assert r['two']['log_loss']['value'] == pytest.approx(-np.log(np.where(y[own] == 4, p[own, 4], p[own, 1])/(p[own, 1] + p[own, 4])).mean(), abs=1e-6)
    assert r['few']['n'] == 30 and r['where']['n'] == 10 and r['where']['accuracy']['ci95'] is None
    with pytest.raises(UserError, match='no class'): E.restrict_classes(pred, ('Happiness', 'Joy'))


def test_prior_log_loss_is_that_of_the_training_shares():
    corpus, store = stand_in(); w = Windows(corpus, store, WindowSettings(20, level='clip'), 'test', ('visual',))
    class Coin(Reader):
        def forward(self, b, maps=False): return Output('expression', torch.zeros(len(b), 8))
    r = E.evaluate(E.predict(Coin(), w), corpus)
    assert r['all']['log_loss']['value'] == pytest.approx(np.log(8), abs=1e-6)
    assert r['all']['log_loss_gain']['value'] == pytest.approx(0, abs=1e-6) # the training shares are equal here
    assert r['xor']['prior_log_loss']['value'] == pytest.approx(np.log(2), abs=1e-6)


def test_paired_difference_of_predictions():
    corpus, store, w = by_frame(6); pred = E.predict(Reader(), w); soft = E.smooth(pred, .5)
    gap = E.compare_predictions(soft, pred.sample(frac=1, random_state=1))
    assert gap['value'] == pytest.approx(E.score(soft) - E.score(pred)) and gap['ci95'][0] > 0
    with pytest.raises(UserError, match='do not match'): E.compare_predictions(soft, pred[:-3])


# --- config -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('seed', range(12))
def test_the_command_on_a_card_gives_the_config_back(seed):
    import tyro
    rng = np.random.default_rng(seed)
    some = lambda values: {k: v for k, v in values.items() if rng.random() < .5}
    config = RunConfig(**some(dict(model='audio', corpus='/data/my clips', smoothing=.5, by='group', options=dict(dim=32, product=False, norm='pre', dropout=.25),
                                   prompts=dict(Other='a torn face | "two" faces', Anger="an angry man's face"))),
                       settings=ExtractSettings(faces=FaceSettings(**some(dict(detector='haar', smooth=.4, margin=.3))), **some(dict(every=2, precision='fp32'))),
                       window=WindowSettings(**some(dict(length=90, stride=15, level='frame', task='va'))),
                       train=TrainConfig(**some(dict(lr=3e-4, progress=False, learn_scale=False, seed=7, loss='focal', precision='bf16', lambda_text=0.))))
    words = shlex.split(write_command(config))
    assert words[:2] == ['mmemo', 'train'] and tyro.cli(RunConfig, args=words[4:]) == config
    assert make_run_config(json.loads(json.dumps(read_back(config)))) == config


def read_back(config):
    from mmemo.core import to_jsonable
    return to_jsonable(config)


def test_new_clips_are_cut_as_the_training_clips_were(tmp_path):
    corpus, store = stand_in(40)
    made = ExtractSettings(faces=FaceSettings(detector='haar'), every=2, workers=3, limit=39)
    run_experiment(quick(), corpus, type('Store', (dict,), dict(facts=dict(settings=made)))(store), tmp_path/'run')
    run = load_run(tmp_path/'run')
    assert run.config.settings == made # what the features say, not what the config had
    own = choose_settings(run)
    assert (own.faces, own.every, own.workers, own.limit) == (made.faces, 2, 0, 0)
    with pytest.raises(UserError, match="'yunet' cuts them otherwise"): choose_settings(run, 'yunet', 'y.onnx')


@pytest.mark.parametrize('stored', [dict(modle='x'), dict(train=dict(lrr=1)), dict(window=dict(levle='clip')), dict(settings=dict(faces=dict(detectr='haar'))), dict(window=dict(level='clop'))])
def test_a_config_with_a_typing_error_is_refused(stored):
    with pytest.raises(UserError): make_run_config(stored)


# --- runs ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('model', list(available().index))
def test_every_model_makes_a_whole_run_and_loads_again(model, tmp_path):
    corpus, store = stand_in(words=model == 'text')
    run = run_experiment(quick(model), corpus, store, tmp_path/'r')
    assert {p.name for p in (tmp_path/'r').iterdir()} == set(FILES) - {'report.html'}
    again = load_run(tmp_path/'r')
    assert again.config == run.config and again.metrics == run.metrics and again.model.name == model and not again.model.training
    test = again.predictions[again.predictions.split == 'test'].reset_index(drop=True)
    fresh = E.predict(again.model, again.windows(corpus, store, 'test'))
    np.testing.assert_allclose(E.get_probabilities(fresh), E.get_probabilities(test), atol=1e-6)
    assert set(again.predictions.split) == {'val', 'test'} and (test.clip_id.to_numpy() == fresh.clip_id.to_numpy()).all()
    assert len(again.history) == (1 if model == 'linear' else 3)
    card = (tmp_path/'r'/'card.md').read_text()
    for word in ('synthetic', '## Result', '## Stated and chosen', '## Repeat', 'mmemo train', 'Convention'): assert word in card
    assert ('0.3334 (arXiv 2603.11971' in card) == (model == 'bicross-paper')
    assert ('Published figures are' in card) == (find_published(model, 'expression', 'accuracy')[0] is not None)


@pytest.mark.parametrize('level, task', [('frame', 'expression'), ('clip', 'va'), ('frame', 'va')])
@pytest.mark.parametrize('model', ['bicross', 'linear'])
def test_frame_level_and_valence_arousal(model, level, task, tmp_path):
    corpus, store = stand_in(lengths=np.random.default_rng(0).integers(12, 50, 120))
    run = run_experiment(quick(model, level, task), corpus, store, tmp_path/'r')
    key = 'ccc' if task == 'va' else 'macro_f1'
    assert run.scores['all'][key]['unit'] == level and load_run(tmp_path/'r').metrics == run.metrics
    assert run.metrics['smoothing']['chosen_on'] == 'val' and run.scores['all'][key]['smoothing'] == run.metrics['smoothing']['width']
    if level == 'frame':
        shown = run.predictions[run.predictions.split == 'test']
        assert len(shown) == corpus.frames.clip_id.isin(corpus.clips[corpus.clips.split == 'test'].clip_id).sum()


def test_the_guide_uses_the_run_s_prompts(tmp_path):
    corpus, store = stand_in(); asked = []
    def spy(sentences): asked.extend(sentences); return tower(sentences)
    run = run_experiment(quick(train=dict(lambda_text=.2), prompts=dict(Other='a torn face | two faces at once')), corpus, store, tmp_path/'r', text_tower=spy)
    assert {'a torn face', 'two faces at once'} <= set(asked) and run.about['prompts']['Other'] == ['a torn face', 'two faces at once']
    assert run.model.config.text_dim == 12 and 'train_text' in run.history[0] and run.metrics['training']['text_scale'] <= 100.001
    asked.clear()
    for kw in (dict(), dict(model='linear', train=dict(lambda_text=.2)), dict(model='audio', train=dict(lambda_text=.2))):
        run_experiment(quick(**kw), corpus, store, tmp_path/'r2', text_tower=spy, overwrite=True)
    assert asked == [] # neither lambda 0 nor a model without a face needs words
    with pytest.raises(UserError, match='no class of'): run_experiment(quick(train=dict(lambda_text=.2), prompts=dict(Langeweile='x')), corpus, store, tmp_path/'r3', text_tower=tower)


CODE = """
import sys, torch; sys.path.insert(0, 'tests'); torch.set_num_threads(1)
import test_runs as t
from mmemo.training.runs import run_experiment
corpus, store = t.stand_in()
run_experiment(t.quick(train=dict(lambda_text=.2, epochs={epochs})), corpus, store, {folder!r}, text_tower=t.tower)
"""


def test_same_seed_same_files_in_another_process(tmp_path):
    for name, seed in (('a', '1'), ('b', '2')):
        subprocess.run([sys.executable, '-c', CODE.format(epochs=3, folder=str(tmp_path/name))], check=True, cwd=ROOT, env={**os.environ, 'PYTHONHASHSEED': seed})
    for f in ('model.safetensors', 'config.json', 'split.json', 'predictions.parquet'):
        assert (tmp_path/'a'/f).read_bytes() == (tmp_path/'b'/f).read_bytes(), f
    a, b = (read_json(tmp_path/n/'metrics.json') for n in 'ab')
    assert a['test'] == b['test'] and a['val'] == b['val']


def test_a_killed_run_says_so_and_can_be_run_again(tmp_path):
    folder = tmp_path/'r'
    p = subprocess.Popen([sys.executable, '-c', CODE.format(epochs='100000, patience=0', folder=str(folder))], cwd=ROOT)
    deadline = time.time() + 240
    written = lambda: sum(h.read_text().count('\n') for h in tmp_path.glob('.half/*/r/history.jsonl'))
    while time.time() < deadline and written() <= 2: time.sleep(.1)
    corpus, store = stand_in()
    with pytest.raises(UserError, match=f'another process .{p.pid} on .* is writing here'): run_experiment(quick(), corpus, store, folder)
    p.send_signal(signal.SIGKILL); p.wait()
    with pytest.raises(UserError, match='no such folder'): load_run(folder) # nothing half stands in its place
    run_experiment(quick(), corpus, store, folder)
    assert load_run(folder).history and os.listdir(tmp_path) == ['r'] and not list(folder.glob('.*'))


def test_a_finished_run_is_not_overwritten_by_accident(tmp_path):
    corpus, store = stand_in()
    run_experiment(quick('linear'), corpus, store, tmp_path/'r'); before = (tmp_path/'r'/'metrics.json').read_bytes()
    with pytest.raises(UserError, match='finished run is here already'): run_experiment(quick(), corpus, store, tmp_path/'r')
    leaky = replace(corpus, clips=corpus.clips.assign(subject='s'))
    with pytest.raises(UserError, match='both sides'): run_experiment(quick(), leaky, store, tmp_path/'r', overwrite=True)
    assert (tmp_path/'r'/'metrics.json').read_bytes() == before
    assert run_experiment(quick('visual'), corpus, store, tmp_path/'r', overwrite=True).config.model == 'visual'


def test_leaks_are_named(tmp_path):
    corpus, store = stand_in()
    clips = corpus.clips.copy(); clips.loc[0, 'subject'] = clips[clips.split == 'test'].subject.iloc[0]
    with pytest.raises(UserError, match=f"'{clips.subject[0]}'"): run_experiment(quick(), replace(corpus, clips=clips), store, tmp_path/'r')
    nobody = replace(corpus, clips=corpus.clips.drop(columns=['split', 'subject', 'group'], errors='ignore')) # nothing to deal by
    with pytest.raises(UserError, match="column 'subject'"): run_experiment(quick(), nobody, store, tmp_path/'r')
    with pytest.raises(UserError, match="split 'train'"): run_experiment(quick(), replace(corpus, clips=corpus.clips.assign(split='test')), store, tmp_path/'r')
    assert not (tmp_path/'r').exists()


def test_corpora_with_something_missing(tmp_path):
    corpus, store = stand_in()
    no_val = replace(corpus, clips=corpus.clips.assign(split=corpus.clips.split.replace({'val': 'train'})))
    assert run_experiment(quick('linear'), no_val, store, tmp_path/'a').metrics['smoothing']['chosen_on'] is None
    no_test = replace(corpus, clips=corpus.clips[corpus.clips.split != 'test'].reset_index(drop=True))
    assert run_experiment(quick('linear'), no_test, store, tmp_path/'b').scores['all']['accuracy']['split'] == 'val'
    nobody = replace(corpus, clips=corpus.clips.drop(columns='subject'))
    run = run_experiment(quick('linear'), nobody, store, tmp_path/'c')
    assert run.scores['all']['accuracy']['by'] == 'clip_id' and any('no subjects' in w for w in run.metrics['warnings'])
    holes = {m: types.SimpleNamespace(**vars(p)) for m, p in store.items()}
    for m, p in holes.items(): # the last clips could not be read at all
        p.offsets = p.offsets.copy(); p.offsets[-5:] = end = p.offsets[-6]
        p.values, p.time, p.valid = p.values[:end], p.time[:end], p.valid[:end]
    run = run_experiment(quick('linear'), corpus, holes, tmp_path/'d')
    assert sum(d['without_features'] for d in run.metrics['data'].values()) == 5


def test_features_of_other_encoders_and_foreign_weights_are_refused(tmp_path):
    corpus, store = stand_in()
    class Store(dict): facts = dict(encoders=dict(visual='tiny-clip', audio='tiny-wav2vec2'), synthetic_only=True)
    run = run_experiment(quick('visual'), corpus, Store(store), tmp_path/'r')
    assert any('planted faces' in w for w in run.metrics['warnings'])
    other = Store(store); other.facts = dict(encoders=dict(visual='ViT-B-32', audio='tiny-wav2vec2'))
    with pytest.raises(UserError, match="'tiny-clip', these are of 'ViT-B-32'"): run.windows(corpus, other)
    other.facts = dict(encoders=dict(visual='tiny-clip', audio='something else')) # it never listened
    run.windows(corpus, other, 'test')
    run_experiment(quick('audio'), corpus, store, tmp_path/'s')
    (tmp_path/'r'/'model.safetensors').write_bytes((tmp_path/'s'/'model.safetensors').read_bytes())
    with pytest.raises(UserError, match='model.safetensors: it has changed since the training'): load_run(tmp_path/'r')
    (tmp_path/'r'/'checksums.txt').unlink() # a run of before there were any
    with pytest.raises(UserError, match='do not fit'): load_run(tmp_path/'r')
    (tmp_path/'r'/'model.safetensors').write_bytes(b'half')
    with pytest.raises(UserError, match='model.safetensors'): load_run(tmp_path/'r')
    with pytest.raises(UserError, match='no such folder'): load_run(tmp_path/'nowhere')


def test_a_run_whose_split_or_card_was_changed_says_one_true_thing(tmp_path):
    import warnings
    from mmemo.pages.report import write_report
    corpus, store = stand_in()
    run_experiment(quick('visual'), corpus, store, tmp_path/'r')
    whole, notes = {n: (tmp_path/'r'/n).read_text() for n in ('split.json', 'card.md')}, {}
    for name, text in whole.items():
        path = tmp_path/'r'/name
        path.unlink()
        for how in ('gone', 'folder', 'cut', 'odd', 'edited'):
            if how == 'folder': path.mkdir()
            if how in ('cut', 'odd', 'edited'): path.write_text(dict(cut=text[:len(text)//2], odd='{"train": 3}', edited=text.replace('1', '2', 1))[how])
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter('always')
                run = load_run(tmp_path/'r')
            assert len(seen) == 1, (name, how, [str(w.message) for w in seen])
            notes[name, how] = str(seen[0].message).removeprefix(str(path))
            if name == 'split.json' and how != 'edited': # whoever needs it is told the same
                with pytest.raises(UserError) as caught: run.sides
                assert notes[name, how] == str(caught.value).removeprefix(str(path)).rstrip('.') + '; the run opens without it.'
            if name == 'card.md':
                with warnings.catch_warnings():
                    warnings.simplefilter('ignore')
                    write_report(tmp_path/'r')
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        path.write_text(text)
    as_it_stands = ' has changed since the training, and is read as it stands.'
    assert notes['split.json', 'gone'] == notes['card.md', 'gone'] == ': there is no such file; the run opens without it.'
    assert notes['split.json', 'edited'] == notes['card.md', 'edited'] == notes['card.md', 'cut'] == as_it_stands
    lines = (tmp_path/'r'/'checksums.txt').read_text().splitlines(True) # a list of before the card was in it
    (tmp_path/'r'/'checksums.txt').write_text(''.join(line for line in lines if 'card.md' not in line))
    (tmp_path/'r'/'card.md').write_text('mine')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        load_run(tmp_path/'r')


def test_sound_alone_is_enough_for_a_model_that_only_listens(tmp_path):
    corpus, store = stand_in(); sound = dict(audio=store['audio'])
    run = run_experiment(quick('audio', train=dict(epochs=10, lr=1e-2)), corpus, sound, tmp_path/'r')
    assert run.scores['all']['macro_f1']['value'] > .5 and load_run(tmp_path/'r').metrics == run.metrics
    run_experiment(quick('linear', options=dict(modalities='audio')), corpus, sound, tmp_path/'s')
    with pytest.raises(UserError, match='visual'): run_experiment(quick('bicross'), corpus, sound, tmp_path/'t')
    assert not (tmp_path/'t'/'history.jsonl').exists()
