"""The errors panel without a browser: a cell, a bar, a point and a strip are clicked, labels are ranked beside the main thread."""
import json, threading

import numpy as np
import pandas as pd
import pytest
import torch

from mmemo.core import UserError
from mmemo.explain.errors import measure_calibration, list_cell_clips, compare_runs, tabulate_confusion, select_slice, compare_clips, score_slices, find_worst_slice
from mmemo.panels.errors import PAGE, ErrorsPanel, errors_panel, describe_labels, find_runs_beside, plot_slices
from mmemo.training.evaluation import list_classes, get_probabilities
from mmemo.panels.parts import NoPanel
from mmemo.panels.source import ClipSource, open_source
from small_run import small_run

torch.set_num_threads(1)


@pytest.fixture(scope='module')
def source(): return open_source(small_run())


@pytest.fixture(scope='module')
def pred(source): return source.predictions[source.predictions.clip_id.isin(source.offered.clip_id)].reset_index(drop=True)


@pytest.fixture(scope='module')
def other(source):
    "Another run's answers: right in two clips of three."
    p, names = source.predictions.copy(), list_classes(source.predictions)
    y = np.array([names.index(c) for c in p.label])
    said = np.where(np.arange(len(p)) % 3 > 0, y, (y + 1) % 8)
    p[[f'p_{c}' for c in names]] = (.05 + .6*np.eye(8)[said]).astype('float32')
    return p.assign(predicted=pd.Categorical([names[i] for i in said], names))


@pytest.fixture
def panel(source, other): return ErrorsPanel(source, dict(other=other), 'mine')


def drawn(panel): return {n: json.dumps(c.figure, sort_keys=True) for n, c in panel.view.figures.items()}


def touched(panel, do):
    before = drawn(panel); do()
    return {n for n, f in drawn(panel).items() if f != before[n]}


def click(panel, name, **point):
    "As the browser tells it."
    canvas = panel.view.figures[name]
    canvas.picked = dict(point, n=(canvas.picked or {}).get('n', 0) + 1)


def work(job):
    "Press a button and wait, as a script does it."
    go = threading.Thread(target=job.start.click); go.start(); go.join()
    job.background.wait(120)


def on_sheet(panel): return panel.view.figures['sheet'].figure['data'][0]['customdata']


def fullest(pred): # a cell off the diagonal with the most clips
    found = tabulate_confusion(pred)
    return found[found.label != found.predicted].sort_values('n').iloc[-1]


def test_all_mistakes_at_first(panel, pred):
    wrong = pred[pred.label.astype(str) != pred.predicted.astype(str)]
    assert len(wrong) > PAGE and set(panel.selection.clip_id) == set(wrong.clip_id)
    assert panel.selection.confidence.is_monotonic_decreasing, 'the surest first'
    assert on_sheet(panel) == list(panel.selection.clip_id[:PAGE])
    assert len(panel.view.figures['sheet'].figure['layout']['images']) == PAGE
    assert panel.view.figures['sheet'].figure['title'] == f'All mistakes: {len(wrong)} clips, the surest first'
    assert f'{1 - len(wrong)/len(pred):.2f}' in panel.view.facts.value and 'synthetic' in panel.view.facts.value


def test_a_cell_leads_to_its_clips_and_back(panel, pred):
    cell = fullest(pred)
    assert cell.n > 1
    assert touched(panel, lambda: click(panel, 'matrix', x=cell.predicted, y=cell.label)) == {'matrix', 'sheet'}
    own = pred[(pred.label == cell.label) & (pred.predicted == cell.predicted)]
    assert set(panel.selection.clip_id) == set(own.clip_id) and len(own) == cell.n
    assert panel.view.figures['sheet'].figure['title'].startswith(f'{cell.label} taken for {cell.predicted}: {cell.n} clips')
    assert panel.view.figures['matrix'].figure['layout']['shapes'][-1]['line']['width'] == 4
    click(panel, 'matrix', x=cell.predicted, y=cell.label)
    assert panel.state.cell == () and panel.view.every.disabled


def test_the_matrix_tells_its_intervals(panel, pred):
    data, found = panel.view.figures['matrix'].figure['data'][0], tabulate_confusion(pred)
    about = np.array(data['customdata'], float)
    assert np.array_equal(about[..., 0].ravel(), found.n)
    assert np.allclose(about[..., 1].ravel(), found.low, equal_nan=True) and np.allclose(about[..., 2].ravel(), found.high, equal_nan=True)


def test_a_bar_leads_to_its_slice(panel, source, pred):
    assert touched(panel, lambda: setattr(panel.view.by, 'value', 'subset')) == {'slices'}
    bars, _, whole = panel.view.figures['slices'].figure['data']
    known = score_slices(pred, source.corpus, 'subset', min_clips=1)
    assert np.allclose(bars['x'], known.score) and known.score.is_monotonic_increasing and whole['customdata'] == [w['subset'] for w in known['where']]
    assert touched(panel, lambda: click(panel, 'slices', about='audio')) == {'matrix', 'slices', 'sheet'}
    assert panel.state.where == {'subset': 'audio'} and set(panel.selection.subset) == {'audio'}
    own = pred[pred.subset == 'audio']
    assert np.nansum(np.array(panel.view.figures['matrix'].figure['data'][0]['customdata'], float)[..., 0]) == len(own)
    cell = fullest(own)
    click(panel, 'matrix', x=cell.predicted, y=cell.label)
    assert len(panel.selection) == cell.n and set(panel.selection.subset) == {'audio'}, 'a cell of a slice'
    panel.view.every.click()
    assert panel.state.where == {} and panel.state.cell == () and set(panel.selection.subset) > {'audio'}


def test_pages_begin_anew_with_other_clips(panel):
    assert panel.view.previous.disabled
    first = on_sheet(panel)
    assert touched(panel, panel.view.next.click) == {'sheet'} and not set(first) & set(on_sheet(panel))
    assert panel.view.where.value.count(f'{PAGE + 1} to ') == 1
    panel.state.part = 'confidence'
    assert panel.state.start == 0 and panel.view.previous.disabled


def test_a_strip_opens_the_player(panel):
    clip = on_sheet(panel)[1]
    assert panel.view.stage.children == () and touched(panel, lambda: click(panel, 'sheet', about=clip)) == set()
    player, = panel.view.stage.children
    assert panel.state.clip_id == player.clip_id == clip
    other = on_sheet(panel)[0]
    click(panel, 'sheet', about=other)
    assert panel.view.stage.children == (player,) and player.clip_id == other, 'the same player shows the next clip'
    player.clip_id = clip
    assert panel.state.clip_id == clip, 'and tells what was chosen in it'
    panel.state.clip_id = ''
    assert panel.view.stage.children == ()


def test_confidence(panel, pred):
    panel.state.part = 'confidence'
    table, found = panel.source.calibrated
    known = measure_calibration(pred, 10)
    assert found['value'] == known['value'] and f"{known['value']:.2f}" in panel.view.figures['confidence'].figure['title']
    assert touched(panel, lambda: click(panel, 'confidence', about=len(table) - 1)) == {'confidence', 'sheet'}
    top = get_probabilities(pred).max(1)
    inside = pred.clip_id[(top >= table.start.iloc[-1]) & (top <= table.end.iloc[-1])]
    assert len(panel.selection) == table.n.iloc[-1] and set(panel.selection.clip_id) == set(inside)
    assert sum(len(panel.selection) for panel.state.bin in range(len(table))) == len(pred), 'each clip in one bin'


def test_two_runs(panel, pred, other):
    panel.state.part = 'runs'
    other = other[other.clip_id.isin(pred.clip_id)].reset_index(drop=True)
    known, gap = compare_clips(other, pred), compare_runs(other, pred, 'accuracy')['gap']
    for outcome in ('broken', 'both wrong', 'both right', 'fixed'):
        assert touched(panel, lambda: click(panel, 'outcomes', about=outcome)) <= {'outcomes', 'sheet'}
        assert set(panel.selection.clip_id) == set(known.clip_id[known.outcome == outcome]) and panel.view.outcome.value == outcome
    n = known.outcome.value_counts()
    assert panel.view.figures['outcomes'].figure['title'].startswith(f"mine mends {n.get('fixed', 0)} of other's mistakes and breaks {n['broken']}: accuracy {gap['value']:+.2f} [{gap['ci95'][0]:+.2f}")
    panel.view.outcome.value = 'broken'
    assert (panel.selection.a == panel.selection.label).all() and (panel.selection.b != panel.selection.label).all()


def test_labels_are_ranked_in_the_background(panel, pred):
    panel.state.part = 'labels'
    assert panel.selection.empty and 'No label is ranked yet' in str(panel.view.figures['sheet'].figure)
    before = drawn(panel); work(panel.view.label_work)
    assert {n for n, f in drawn(panel).items() if f != before[n]} == {'sheet'} and panel.view.label_work.said.value == ''
    assert set(panel.selection.clip_id) == set(pred.clip_id) and panel.selection.quality.is_monotonic_increasing
    assert 'none of its labels is wrong' in panel.view.ranked.value and 'linear, out of fold' in panel.view.ranked.value


def test_a_stopped_ranking_ranks_nothing(panel, monkeypatch):
    panel.state.part, job = 'labels', panel.view.label_work
    def folds(*args, progress, **kwargs): job.stop.click(); progress(.2, 'the first fold')
    monkeypatch.setattr('mmemo.panels.errors.predict_out_of_fold', folds)
    work(job)
    assert 'Stopped' in job.said.value and panel.selection.empty and not job.start.disabled


def test_what_the_planted_corpus_knows_is_said(panel, source):
    work(panel.view.label_work)
    ranked = panel.controller.issues
    wrong = source.corpus.clips.clip_id.isin(ranked.clip_id[:4])
    changed = type(source.corpus)('noisy', source.corpus.root, source.corpus.clips.assign(true_label=source.corpus.clips.label.where(~wrong, 'nothing of it')))
    assert '4 of its labels are wrong on purpose: of the first 4 here 100% are' in describe_labels(ranked, changed)
    unknown = type(source.corpus)('real', source.corpus.root, source.corpus.clips.drop(columns='true_label'))
    assert 'planted' not in describe_labels(ranked, unknown)


def test_the_search_says_on_whom_it_was_judged(panel, source, pred, monkeypatch):
    monkeypatch.setattr('mmemo.panels.errors.find_worst_slice', lambda pred, corpus, by: find_worst_slice(pred, corpus, by='clip_id', min_clips=2, min_subjects=2)) # of three subjects there are no halves
    assert panel.view.show_worst.layout.display == 'none'
    before = drawn(panel); work(panel.view.worst_work)
    found = panel.controller.found
    assert drawn(panel) == before and f'Worst of {found.looked_at.iloc[0]} slices' in panel.view.worst.value and 'Believe the other half' in panel.view.worst.value
    assert f'{found.score_where_found.iloc[0]:.2f}. On the other half {found.score.iloc[0]:.2f}' in panel.view.worst.value
    panel.view.show_worst.click()
    here = select_slice(pred, source.corpus, found['where'].iloc[0])
    assert panel.state.where == found['where'].iloc[0]
    assert set(panel.selection.clip_id) == set(list_cell_clips(here).query('label != predicted').clip_id)


def test_a_search_that_finds_too_few_clips_is_a_sentence(panel):
    work(panel.view.worst_work)
    assert 'no slice has 15 clips' in panel.view.worst_work.said.value and not panel.view.worst_work.start.disabled


@pytest.mark.parametrize('name,value,said', [('cell', ('Rage', 'Fear'), "'Rage' is no class"), ('cell', ('Fear',), 'a label and a prediction'), ('by', 'shoe', "no column 'shoe'"), ('where', {'shoe': 'red'}, "no column 'shoe'"),
                                             ('where', {'subset': 'smell'}, 'no clip is in the slice subset: smell'), ('bin', 99, 'no bin 99'), ('other', 'nobody', "no run to compare with 'nobody'"), ('clip_id', 'nobody', "no clip 'nobody'")])
def test_what_cannot_be_is_a_sentence_and_changes_nothing(panel, name, value, said):
    before, was = drawn(panel), getattr(panel.state, name)
    with pytest.raises(UserError, match=said): setattr(panel.state, name, value)
    assert getattr(panel.state, name) == was and drawn(panel) == before
    assert touched(panel, lambda: setattr(panel.view.by, 'value', 'subset')) == {'slices'}, 'and the panel goes on'


def test_the_theme_is_followed(panel):
    before = drawn(panel)
    panel.view.watch.theme = 'dark'
    assert all(f != before[n] for n, f in drawn(panel).items()) and '#111111' in drawn(panel)['matrix']


def test_a_slice_of_few_people_says_so(source, pred):
    said = plot_slices(score_slices(pred, source.corpus, 'subset', min_clips=1), 'subset').layout.title.subtitle.text
    assert 'too narrow' in said, 'three subjects'
    many = score_slices(pred, source.corpus, 'subset', min_clips=1).assign(few_groups=False)
    assert 'too narrow' not in plot_slices(many, 'subset').layout.title.subtitle.text


def test_a_page_for_readers_without_a_kernel(panel, pred):
    panel.state.part = 'confidence'
    text = panel.to_html()
    assert len(text) < 10e6 and panel.selection.clip_id.iloc[0] in text and 'calibration error' in text and "of other" in text
    assert text.count('class="figure"') == 5


def test_from_a_folder(tmp_path, panel):
    assert isinstance(errors_panel(tmp_path), NoPanel) and '`make demo`' in errors_panel(tmp_path).sentence
    assert find_runs_beside(small_run()/'bicross') == {}
    alone = errors_panel(small_run(), part='runs')
    assert alone.source.name == 'bicross' and alone.view.other.disabled and alone.selection.empty
    assert 'no other run' in str(alone.view.figures['outcomes'].figure) and 'no other run' in str(alone.view.figures['sheet'].figure)


def test_without_predictions_or_labels_there_is_a_sentence(source, pred):
    def bare(p): return ClipSource(source.model, source.corpus, source.store, source.settings, 'test', p)
    with pytest.raises(UserError, match='no predictions'): ErrorsPanel(bare(None))
    with pytest.raises(UserError, match='none of the clips'): ErrorsPanel(bare(pred.assign(label=pd.Categorical([None]*len(pred), list_classes(pred)))))
    with pytest.raises(UserError, match="task 'va'"): ErrorsPanel(bare(pred[['clip_id', 'subject']].assign(valence=0., p_valence=0., arousal=0., p_arousal=0.)))
