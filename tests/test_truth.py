"""The verdict on maps, and the truth panel without a browser."""
import threading
import json
from dataclasses import replace

import numpy as np
import pytest

from mmemo.explain.map_scores import interval_auc
from mmemo.core import UserError
from mmemo.panels.parts import NoPanel
from mmemo.panels.source import open_source
from mmemo.explain.truth import RANDOM, JudgedClips, judge_maps, gather_judged_clips, tabulate_verdict
from mmemo.panels.truth import TruthPanel, truth_panel
from small_run import small_run


@pytest.fixture(scope='module')
def source(): return open_source(small_run())


@pytest.fixture(scope='module')
def panel(source):
    p = TruthPanel(source, clips=8)
    p.controller.job.wait(120)
    return p


def drawn(panel): return {n: json.dumps(c.figure, sort_keys=True) for n, c in panel.view.figures.items()}


def changed(panel, do):
    before = drawn(panel); do()
    return {n for n, f in drawn(panel).items() if f != before[n]}


def test_clips_are_of_many_subjects_and_hold_their_truth(source):
    j = gather_judged_clips(source, 6)
    assert len(j.batch) == 6 and list(j.batch.clip_id) == list(j.clips.clip_id) and j.clips.subject.nunique() == 3
    row = j.clips.iloc[2]
    for m, who in dict(visual='face', audio='voice').items():
        want = [row[f'{who}_onset'], row[f'{who}_offset']] if row[f'{who}_state'] != 'Neutral' else [np.nan]*2
        assert np.array_equal(j.interval[m][2], want, equal_nan=True)
    assert set(gather_judged_clips(source, 0, 'xor').clips.subset) == {'xor'}
    with pytest.raises(UserError, match="no clip of part 'nothing'"): gather_judged_clips(source, 4, 'nothing')


def test_a_map_of_the_truth_scores_one_and_its_opposite_nought(source):
    j = gather_judged_clips(source, 8)
    for m, e in j.interval.items():
        t = j.batch.time[m].numpy()
        inside = ((t >= e[:, :1]) & (t < e[:, 1:])).astype(float)
        for scores, want in ((inside, 1), (1 - inside, 0)):
            found = interval_auc(scores, t, j.batch.mask[m], e)
            assert np.isnan(found).sum() == np.isnan(e[:, 0]).sum() and np.allclose(found[~np.isnan(found)], want)


def test_energy_follows_the_film(source):
    "Motion in pixels is that of the clip's own frames, loudness that of its own sound."
    from mmemo.explain.map_scores import measure_loudness, measure_motion
    from mmemo.media.frames import VideoReader
    from mmemo.media.sound import read_audio
    j = gather_judged_clips(source, 2)
    for i, clip in enumerate(j.clips.clip_id):
        reader, n = VideoReader(source.corpus.path(clip)), int(j.batch.mask['visual'][i].sum())
        assert np.allclose(j.energy['pixels move']['visual'][i, :n], measure_motion(reader.frames(np.arange(n))[None])[0], atol=1e-4)
        assert np.allclose(j.energy['loudness']['audio'][i], measure_loudness(read_audio(source.corpus.path(clip)), j.batch.time['audio'][i]))


def test_the_table_is_the_verdict(panel):
    rows, v = panel.selection, panel.controller.verdict[0]
    assert {'attention', 'integrated_gradients', 'occlusion', 'pixels move', 'loudness', 'features change', 'middle of the clip', 'integrated_gradients' + RANDOM} <= set(rows['map'])
    one = rows[(rows['map'] == 'occlusion') & (rows.modality == 'audio')].iloc[0]
    assert np.isclose(one.auc, np.nanmean(v.auc('occlusion', 'audio'))) and one.low <= one.auc <= one.high and one.clips == (~np.isnan(v.auc('occlusion', 'audio'))).sum()
    assert rows.groupby('map').kind.first()['middle of the clip'] == 'reference' and rows.groupby('map').kind.first()['attention'] == 'map'


def test_weights_drawn_anew_change_the_map_and_not_the_reference(panel):
    v = panel.controller.verdict[0]
    assert not np.allclose(v.scores['integrated_gradients']['visual'], v.scores['integrated_gradients' + RANDOM]['visual'])
    assert all((v.attributions[k].target == r.target).all() for k, r in v.redrawn.items()), 'both explain the same class'


@pytest.mark.parametrize('name,value,touched', [('modality', 'audio', {'agree', 'each'}), ('method', 'occlusion', {'orders', 'each'})])
def test_a_control_changes_its_own_figures_only(source, panel, name, value, touched):
    s = panel.state
    s.method, s.modality, s.clip_id = 'integrated_gradients', 'visual', ''
    assert changed(panel, lambda: setattr(getattr(panel.view, name), 'value', value)) == touched and getattr(s, name) == value


def test_a_click_on_a_dot_shows_its_clips_and_a_click_on_a_clip_its_map(panel):
    v = panel.controller.verdict[0]
    panel.state.method, panel.state.modality, panel.state.clip_id = 'integrated_gradients', 'visual', ''
    dots = panel.view.auc.figure['data']
    at = next(i for i, d in enumerate(dots) if d['customdata'][0] == ['attention', 'audio'])
    panel.view.auc.picked = dict(curve=at, point=0, x=.5, y=0, about=dots[at]['customdata'][0], n=1)
    assert (panel.view.method.value, panel.view.modality.value) == ('attention', 'audio') and 'ttention of the voice' in panel.view.each.figure['title']
    clip = v.judged.clips.clip_id[int(np.nanargmin(v.auc('attention', 'audio')))]
    assert f'worst {clip}' in panel.view.each.figure['title']
    assert changed(panel, lambda: setattr(panel.view.each, 'picked', dict(curve=0, point=0, about=clip, n=2))) == {'each', 'steps'}
    i = list(v.judged.clips.clip_id).index(clip)
    shape = panel.view.steps.figure['layout']['shapes'][0]
    assert [shape['x0'], shape['x1']] == v.judged.interval['audio'][i].tolist() and clip in panel.view.steps.figure['title']


def test_other_clips_are_measured_once(source, monkeypatch):
    panel = TruthPanel(source, clips=4)
    panel.controller.job.wait(120)
    first, fig = panel.controller.verdict, panel.view.auc.figure
    assert panel.view.progress.layout.visibility == 'hidden' and '4 clips of' in panel.view.line.value
    go, start = threading.Event(), panel.controller.job.start
    monkeypatch.setattr(panel.controller.job, 'start', lambda work, *rest: start(lambda *a: go.wait(60) and work(*a), *rest)) # it waits until we have looked
    panel.view.subset.value = 'xor'
    assert 'Measuring' in panel.view.line.value and panel.view.auc.figure == fig, 'the old figure stays while the new one is made'
    assert set(panel.controller.known) == {(4, 'all')}
    go.set()
    assert len(panel.selection) and (4, 'xor') in panel.controller.known and set(panel.controller.verdict[0].judged.clips.subset) == {'xor'}
    assert panel.view.auc.figure != fig
    panel.view.subset.value = 'all'
    assert panel.controller.verdict is first and panel.view.auc.figure == fig and not panel.controller.job.busy


def test_what_goes_wrong_is_a_sentence(source):
    panel = TruthPanel(source, clips=4)
    panel.controller.job.wait(120)
    before = drawn(panel)
    panel.controller.failed(UserError('the film is gone.'))
    assert 'The film is gone.' in panel.view.line.value and 'choose other clips' in panel.view.line.value and drawn(panel) == before
    with pytest.raises(UserError, match="no part 'nowhere'"): TruthPanel(source, subset='nowhere')


def test_without_planted_truth_the_rest_stands(source):
    j = gather_judged_clips(source, 4)
    v = judge_maps(JudgedClips(j.model, j.batch, j.clips), ('integrated_gradients', 'occlusion'))
    rows = tabulate_verdict(v).set_index('map')
    assert rows.auc.isna().all() and rows.loc['integrated_gradients', 'deletion'].notna().all() and len(v.agree('visual')) == 3
    from mmemo.panels.truth import plot_auc, plot_clips
    assert 'no planted intervals' in str(plot_auc(rows.reset_index()).layout.annotations[0].text).replace('<br>', ' ')
    assert plot_clips(v, 'occlusion', 'visual').layout.xaxis.title.text == 'area under deletion'


def test_deletion_begins_at_the_answer_and_insertion_ends_there(panel):
    v = panel.controller.verdict[0]
    for both in v.curves.values():
        assert np.allclose(both['deletion'][:, 0], both['insertion'][:, -1], atol=1e-5) and np.allclose(both['deletion'][:, -1], both['insertion'][:, 0], atol=1e-5)
    assert 'random order' in v.curves


def test_a_page_without_a_kernel(panel):
    text = panel.to_html()
    assert 'Do maps tell the truth?' in text and len(text) < 10e6 and text.count('class="figure"') == 5 and 'drawn anew' in text


def test_a_missing_run_is_one_sentence(tmp_path):
    nothing = truth_panel(tmp_path/'runs'/'demo')
    assert isinstance(nothing, NoPanel) and '`make demo`' in nothing.sentence and nothing.selection.empty


@pytest.mark.parametrize('name', ['visual', 'linear', 'rcma-v1'])
def test_other_models_can_be_judged(source, name):
    "One stream, no attention, or the joint that asks."
    from mmemo.models.registry import build
    j = gather_judged_clips(source, 3)
    model = build(name, dims={m: x.shape[-1] for m, x in j.batch.x.items()}).eval()
    v = judge_maps(replace(j, model=model), ('integrated_gradients',))
    rows = tabulate_verdict(v)
    assert set(rows[rows['map'] == 'integrated_gradients'].modality) == set(model.modalities)
    assert np.isfinite(rows[rows['map'] == 'integrated_gradients'].auc).all()
