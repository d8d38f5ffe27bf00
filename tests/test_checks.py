"""What can be known of a training is said before its first epoch, from the command, from Python and from `compare`."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mmemo
import mmemo.training.loop as loop
from mmemo.commands.train import train
from mmemo.core import UserError
from mmemo.corpora.manifest import Corpus, load_corpus, save_corpus
from mmemo.features.tracks import FeatureStore, Track, pack_tracks
from mmemo.features.windows import Windows
from mmemo.training.compare import compare
from mmemo.training.run_config import RunConfig, make_run_config
from mmemo.training.runs import load_run, run_experiment

QUICK = dict(epochs=2, progress=False, device='cpu', lambda_text=0.)
LABELS = ['Anger', 'Fear', 'Happiness']


def make_corpus(n=36, **columns) -> Corpus:
    "Clips of twelve people, dealt, three classes; no media."
    table = dict(clip_id=[f'c{i}' for i in range(n)], path=[f'c{i}.mp4' for i in range(n)], subject=[f's{i//3}' for i in range(n)],
                 split=['train']*18 + ['val']*9 + ['test']*9, label=LABELS*(n//3))
    table |= columns
    return Corpus('mine', Path('.'), pd.DataFrame({k: v for k, v in table.items() if v is not None}), facts=dict(features_only=True))


def make_store(corpus, change=lambda x: x, ids=None, source=None, voice=True) -> FeatureStore:
    rng, packs = np.random.default_rng(0), {}
    for m, d in (('visual', 6), ('audio', 5))[:1 + voice]:
        tracks = {}
        for i, c in enumerate(corpus.clips.clip_id if ids is None else ids):
            x = rng.normal(size=(8, d)).astype(np.float32)
            x[:, i % 3] += 2
            x = change(x) if m == 'visual' else x
            tracks[c] = Track(x, (np.arange(8) + .5)/8, np.isfinite(x).all(1) if source == 'table' else np.ones(8, bool), dict(encoder='made', columns=[f'f{j}' for j in range(d)]))
        packs[m] = pack_tracks(tracks, list(tracks))
    return FeatureStore(packs, dict(encoders=dict.fromkeys(packs, 'made')))


@pytest.fixture
def no_epoch(monkeypatch):
    "A training that begins fails the test."
    def begin(*_, **__): raise AssertionError('an epoch began')
    monkeypatch.setattr(loop.Trainer, 'one_epoch', begin)


def begin(corpus, store, out, model='visual', **settings):
    return run_experiment(make_run_config(dict(model=model, options=dict(dim=8, heads=2, tcn_levels=1) if model != 'linear' else {}, train=QUICK, window=dict(length=8) | settings.pop('window', {})) | settings), corpus, store, out)


VA = dict(window=dict(task='va'))
REFUSED = [
    ('no column label', dict(label=None), {}, "needs a column 'label'"), ('an empty column label', dict(label=[None]*36), {}, 'none of 36 clips has a label; fill in label'),
    ('nobody labelled in training', dict(label=[None]*18 + LABELS*6), {}, "none of the 18 clips of split 'train' has a label"),
    ('nobody labelled in validation', dict(label=LABELS*6 + [None]*9 + LABELS*3), {}, "none of the 9 clips of split 'val' has a label"),
    ('no training clip', dict(split=['val']*18 + ['test']*18), {}, "expected clips with split 'train', found test, val"),
    ('an unknown class', dict(label=['Ennui']*36), {}, "'Ennui' is no class of"),
    ('no valence', {}, VA, "task 'va' needs a column 'valence'"), ('valence without a value', dict(valence=np.nan, arousal=.5), VA, 'none of 36 clips has a label; fill in valence, arousal'),
    ('valence in words', dict(valence=['high']*36, arousal=.5), VA, "clip 'c0': valence is 'high'; expected a number"),
    ('a decimal comma', dict(valence=['0,5']*36, arousal=.5), VA, r"valence is '0,5'; expected a number .write 0.5, with a point"),
    ('a point for thousands and a decimal comma', dict(valence=['1.234,5']*36, arousal=.5), VA, r"valence is '1.234,5'; expected a number .write 1234.5, with a point and without a mark"),
    ('valence from 2 to 9', dict(valence=list(range(2, 8))*6, arousal=.5), VA, 'valence is outside -1 to 1 in 36 of 36 rows, such as 2 of'),
    ('no sentiment', {}, dict(window=dict(task='sentiment')), "needs a column 'sentiment'"), ('no emotions', {}, dict(window=dict(task='emotions')), 'needs a column'),
    ('frames asked for', {}, dict(window=dict(level='frame')), "level 'frame' needs a table of frames"),
    ('intervals over what is not there', {}, dict(by='speaker'), "intervals by 'speaker' were asked for; expected subject or clip_id"),
    ('intervals over groups that are not there', {}, dict(by='group'), "by 'group'"), ('a loss of another task', {}, dict(train=QUICK | dict(loss='ccc')), "loss 'ccc' does not fit"),
]


@pytest.mark.parametrize('columns, settings, said', [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused_before_an_epoch(columns, settings, said, tmp_path, no_epoch):
    corpus = make_corpus(**columns)
    with pytest.raises(UserError, match=said): begin(corpus, make_store(corpus), tmp_path/'run', **dict(settings))
    assert not (tmp_path/'run').exists() # nothing was begun
    if corpus.facts: # and before anything is encoded, by the call that notebooks use
        corpus.facts = {}
        with pytest.raises(UserError, match=said): train(corpus, model='visual', out=tmp_path/'run', cache=tmp_path/'cache', **dict(train=QUICK) | settings)
        assert not (tmp_path/'cache').exists()


@pytest.mark.parametrize('how, change', [('NaN', lambda x: x*[1, 1, np.nan, 1, 1, 1]), ('infinity', lambda x: x + [0, 0, np.inf, 0, 0, 0])])
def test_features_that_are_no_numbers(how, change, tmp_path, no_epoch):
    corpus = make_corpus()
    with pytest.raises(UserError, match='NaN or infinity in 1 of 6 columns: f2'): begin(corpus, make_store(corpus, change), tmp_path/'run')
    with pytest.raises(UserError, match='nothing to learn from: no step of the visual'): begin(corpus, make_store(corpus, change, source='table'), tmp_path/'run')
    with pytest.raises(UserError, match='NaN or infinity'): compare(corpus, make_store(corpus, change), 'visual', tmp_path/'out', RunConfig(train=loop.TrainConfig(**QUICK)), 1, progress=False)


def test_features_that_never_change(tmp_path, no_epoch, capsys):
    corpus = make_corpus()
    with pytest.raises(UserError, match='nothing to learn from: the visual features are the same'): begin(corpus, make_store(corpus, lambda x: x*0), tmp_path/'run')
    with pytest.raises(AssertionError, match='an epoch began'): begin(corpus, make_store(corpus, lambda x: x*[1, 0, 1, 1, 0, 1]), tmp_path/'run')
    assert 'Mind: 2 of 6 columns of the visual features never change in training: f1, f4.\n' in capsys.readouterr().out


def test_features_of_other_clips(tmp_path, no_epoch):
    corpus = make_corpus()
    with pytest.raises(UserError, match="none of 36 clips has features; they are of 'film0' and others, the table's first clip is 'c0'"):
        begin(corpus, make_store(corpus, ids=[f'film{i}' for i in range(36)]), tmp_path/'run')


NOTES = [
    ('only training', dict(split=['train']*36), 'all clips are in split .train.: nothing is validated or tested, so there will be no figures'),
    ('no test', dict(split=['train']*18 + ['val']*18), 'no clip is in split .test.'), ('no validation', dict(split=['train']*18 + ['test']*18), 'no clip is in split .val.'),
    ('a class never seen', dict(label=LABELS*9 + ['Anger', 'Fear', 'Disgust']*3), "class 'Disgust' has no label in training, and 3 of test: it cannot be learnt"),
    ('nobody labelled in test', dict(label=LABELS*9 + [None]*9), 'none of the 9 clips of split .test. has a label: they are answered, not scored'),
    ('one class', dict(label=['Anger']*18 + LABELS*6), "every training label is 'Anger'"), ('a few without a label', dict(label=[None]*2 + ['Happiness'] + LABELS*11), '2 of 18 clips of split .train. have no label'),
    ('some nobody', dict(subject=[None]*4 + [f's{i//3}' for i in range(4, 36)]), '`subject` is empty in 4 of 36 clips'), ('some on no side', dict(split=['train']*18 + ['val']*9 + ['test']*5 + [None]*4), '`split` is empty in 4 of 36 clips'),
]


@pytest.mark.parametrize('columns, said', [r[1:] for r in NOTES], ids=[r[0] for r in NOTES])
def test_a_note_is_printed_and_kept_and_the_run_is_whole(columns, said, tmp_path, capsys):
    from mmemo.pages.report import write_report
    corpus = make_corpus(**columns)
    run = begin(corpus, make_store(corpus), tmp_path/'run')
    told = capsys.readouterr().out
    assert sum(line.startswith('Mind: ') and bool(pd.Series([line]).str.contains(said)[0]) for line in told.splitlines()) == 1
    assert any(pd.Series(run.metrics['warnings']).str.contains(said))
    again = load_run(tmp_path/'run')
    assert again.metrics['warnings'] == run.metrics['warnings'] and repr(again)
    assert 'Nothing was validated or tested' in write_report(tmp_path/'run').read_text() or run.scores
    assert '**Mind:**' in (tmp_path/'run'/'card.md').read_text()


def test_nothing_is_noted_where_all_is_well(tmp_path, capsys):
    corpus = make_corpus()
    run = begin(corpus, make_store(corpus), tmp_path/'run')
    assert 'Mind' not in capsys.readouterr().out and not run.metrics['warnings']


def test_an_empty_column_of_subjects_is_one_that_is_not_there(tmp_path):
    for i, subject in enumerate((None, [None]*36)):
        corpus = make_corpus(subject=subject)
        run = begin(corpus, make_store(corpus), tmp_path/f'{i}')
        assert run.scores['all']['accuracy']['by'] == 'clip_id' and any('names no subjects' in w for w in run.metrics['warnings'])


@pytest.mark.parametrize('subject, said', [([None]*36, 'is empty in 36 of 36'), (['a']*30 + [None]*6, 'is empty in 6 of 36'), (['a']*30 + [' ']*6, 'is empty in 6 of 36'), (None, 'is missing in 36 of 36'), (['a', 'b']*18, 'at least 3 separate subjects')])
def test_nobody_is_dealt_by_subject(subject, said, tmp_path):
    corpus = make_corpus(subject=subject, split=None)
    corpus.facts = {}
    with pytest.raises(UserError, match=said): train(corpus, model='visual', out=tmp_path/'run', cache=tmp_path/'cache')
    assert not (tmp_path/'cache').exists()


def test_nothing_to_compare_by(tmp_path, no_epoch):
    corpus = make_corpus(split=['train']*36)
    with pytest.raises(UserError, match="all clips are in split 'train'"): compare(corpus, make_store(corpus), 'visual', tmp_path/'out', seeds=1, progress=False)


def test_comparison_says_it_once(tmp_path, capsys):
    corpus = make_corpus(split=['train']*18 + ['val']*18)
    base = RunConfig(window=replace(RunConfig().window, length=8), train=loop.TrainConfig(**QUICK))
    result = compare(corpus, make_store(corpus), ['visual', 'linear'], tmp_path/'out', base, 2, options={'visual.dim': 8, 'visual.heads': 2}, workers=1, progress=False)
    assert capsys.readouterr().out.count("no clip is in split 'test'") == 1
    assert [r['model'] for r in result['rows']] == ['visual', 'linear']


def test_dictionaries_are_settings(tmp_path):
    corpus = make_corpus()
    run = train(corpus, make_store(corpus), model='visual', out=tmp_path/'run', train=QUICK | dict(epochs=1), window=dict(length=8), options=dict(dim=8, heads=2))
    assert len(run.history) == 1 and run.config.window.length == 8
    with pytest.raises(UserError, match="'epochs' is no setting.*Did you mean 'train.epochs'"): train(corpus, make_store(corpus), epochs=3)
    with pytest.raises(UserError, match="train: 'epoch' is no setting.*Did you mean 'epochs'"): train(corpus, make_store(corpus), train=dict(epoch=3))
    with pytest.raises(UserError, match="run setting 'train' is 3; expected TrainConfig"): train(corpus, make_store(corpus), train=3)


def test_a_place_does_where_a_corpus_is_asked_for(tmp_path):
    corpus = make_corpus()
    corpus.root, corpus.facts = tmp_path, {}
    save_corpus(corpus, tmp_path)
    assert load_corpus(corpus) is corpus and mmemo.open_corpus(corpus) is corpus
    assert len(Windows(tmp_path, make_store(corpus), split='train')) == len(Windows(corpus, make_store(corpus), split='train'))
    assert mmemo.check_leaks(str(tmp_path), progress=False).n == 36
    tracks = {c: Track(np.ones((2, 3), np.float32), np.array([.1, .2]), np.ones(2, bool)) for c in corpus.clips.clip_id}
    assert len(mmemo.extract(tmp_path, tracks, None, cache=tmp_path/'cache', progress=False)['visual']) == 36


def test_a_stretch_outside_its_film_is_told_with_its_reason_before_anything_is_encoded(tmp_path, monkeypatch, capsys):
    import mmemo.features.extract as extract
    from mmemo.media.files import write_clip
    for k in range(12):
        write_clip(tmp_path/f'c{k}.mp4', np.full((6, 32, 32, 3), 20*k, np.uint8), 25, .3*np.sin(np.arange(3840)*(.05 + .01*k)))
    clips = make_corpus(12, split=['train']*6 + ['val']*3 + ['test']*3, subject=[f's{i}' for i in range(12)]).clips
    def train_on(start, end, n=12):
        table = clips.assign(start=[start]*n + [np.nan]*(12 - n), end=[end]*n + [np.nan]*(12 - n))
        save_corpus(Corpus('odd', tmp_path, table), tmp_path)
        return train(tmp_path, model='linear', out=tmp_path/'run', cache=tmp_path/'cache', overwrite=True, train=dict(progress=False))
    def refuse(*_): raise AssertionError('something was read')
    for start, end, why in ((-1, 99, 'expected 0 <= start < end'), (5, 9, 'nothing lies between 5 s and 9 s; it ends at 0.24 s')):
        with monkeypatch.context() as m:
            m.setattr(extract, 'run_jobs', refuse)
            with pytest.raises(UserError, match=f"Clip 'c0' could not be read: c0.mp4: .*{why}.* All 12 of them stand in {tmp_path}/cache/quarantine.csv"): train_on(start, end)
    capsys.readouterr()
    notes = train_on(5, 9, 1).metrics['warnings']
    assert any("1 of 12 clips have no features, such as 'c0'. Clip 'c0' could not be read: c0.mp4: nothing lies" in n for n in notes), notes
    assert '11 clips to encode (0 in the cache)' in capsys.readouterr().out


@pytest.mark.parametrize('change, expected', [
    (dict(split=None), 'Clips without a split are dealt by subject when training begins.'),
    (dict(split=None, subject=[None] + [f's{i//3}' for i in range(1, 36)]), 'Training refuses this table as it stands: `subject` is empty in 1 of 36 clips'),
    (dict(split=None, subject=None), 'Training refuses this table as it stands: `subject` is missing'),
    (dict(split=None, subject=['one']*36), 'Training refuses this table as it stands: '),
    (dict(split=['train']*18 + ['val']*9 + ['test']*8 + [None]), 'Clips without a split take no part in training.')])
def test_what_the_page_of_a_corpus_foretells_is_what_training_does(change, expected, tmp_path):
    from mmemo.pages.corpus import find_gaps
    corpus = make_corpus(**change)
    foretold = find_gaps(corpus)[-1]
    assert foretold.startswith(expected)
    begin = lambda: train(corpus, make_store(corpus), 'linear', tmp_path/'run', train=QUICK)
    if 'refuses' not in foretold: begin()
    else:
        with pytest.raises(UserError): begin()
        with pytest.raises(UserError) as caught: train(corpus, model='linear', out=tmp_path/'run')
        assert str(caught.value).removeprefix('mine: ') == foretold.removeprefix('Training refuses this table as it stands: ')
