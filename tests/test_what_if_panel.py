"""The what-if panel without a browser: a moved slider, a clicked cell, work in the background."""
import json

import numpy as np
import pandas as pd
import pytest
import torch

from mmemo.core import UserError
from mmemo.explain.modalities import change_stream, judge_swaps, measure_degradation, tabulate_swaps
from mmemo.explain.shapley import answer_coalitions, tabulate_shapley
from mmemo.panels.parts import NoPanel
from mmemo.panels.source import ClipSource, open_source
from mmemo.panels.what_if import LEVELS, WhatIfPanel, what_if_panel
from mmemo.features.windows import Windows
from small_run import small_run

torch.set_num_threads(1)


@pytest.fixture(scope='module')
def source(): return open_source(small_run())


@pytest.fixture
def panel(source): return WhatIfPanel(source)


def drawn(panel): return {n: json.dumps(c.figure, sort_keys=True) for n, c in panel.view.figures.items()}


def touched(panel, do):
    before = drawn(panel); do()
    return {n for n, f in drawn(panel).items() if f != before[n]}


def bars(panel, name='bars'): return {d['name']: np.array(d['y']) for d in panel.view.figures[name].figure['data']}


def test_nothing_is_changed_at_first(panel, source):
    assert panel.state.changes == {} and list(bars(panel)) == ['recorded']
    found = panel.selection.set_index('class')
    own = source.predictions.groupby('clip_id')[[f'p_{c}' for c in found.index]].mean().loc[panel.state.clip_id]
    assert np.allclose(found.before, own, atol=1e-5) and (found.before == found.after).all(), 'as the run predicted it'
    assert panel.view.figures['bars'].figure['title'].startswith('As recorded: ')


@pytest.mark.parametrize('modality,name,value,change', [('audio', 'gain', .5, dict(gain=.5)), ('visual', 'noise', 1.5, dict(noise=1.5)), ('visual', 'shift', -.2, dict(shift=-.2)), ('audio', 'blackout', (.2, .8), dict(blackout=(.2, .8)))])
def test_a_slider_gives_what_the_library_gives(panel, modality, name, value, change):
    slider = panel.view.streams[modality].sliders[name]
    assert touched(panel, lambda: setattr(slider, 'value', value)) == {'bars', 'share'}
    assert panel.state.changes == {modality: change}
    batch = change_stream(panel.source.batch(panel.state.clip_id), modality, **change, spread=panel.source.spread[modality] if 'noise' in change else None)
    p = answer_coalitions(panel.source.model, batch)[-1].mean(0).numpy()
    assert np.allclose(bars(panel)['after'], p, atol=1e-4) and np.allclose(panel.selection.after, p)
    assert not np.allclose(bars(panel)['before'], bars(panel)['after'], atol=1e-4)
    panel.view.reset.click()
    assert panel.state.changes == {} and list(bars(panel)) == ['recorded'] and slider.value == ((0, 0) if name == 'blackout' else 1 if name == 'gain' else 0)


def test_who_is_silent_adds_nothing(panel, source):
    clip = panel.state.clip_id
    panel.view.streams['audio'].drop.click()
    assert panel.state.changes == {'audio': {'blackout': 1.}} and panel.view.figures['bars'].figure['title'].startswith('Without the voice: ')
    low, high = panel.view.streams['audio'].blackout.value
    assert low == 0 and high == pytest.approx(panel.controller.end(), abs=.01)
    share = {d['name']: d for d in panel.view.figures['share'].figure['data']}
    assert share['after']['x'][1] == 0
    known = tabulate_shapley(source.model, panel.source.windows).set_index('clip_id').loc[clip]
    assert share['before']['x'] == pytest.approx([known.phi_visual, known.phi_audio], abs=1e-4), 'as recorded'
    found = panel.selection
    assert np.allclose(found.nothing + found.phi_visual + found.phi_audio, found.after)
    panel.view.streams['visual'].drop.click()
    assert panel.view.figures['bars'].figure['title'].startswith('Without the face and the voice: ')
    assert np.allclose(panel.selection.after, panel.selection.nothing)


def test_the_sum_is_in_words(panel):
    panel.view.target.value = 'Fear'
    row = panel.selection.set_index('class').loc['Fear']
    said = panel.view.figures['share'].figure['title']
    assert said.startswith(f'Fear: {row.nothing:.2f} with neither ') and said.endswith(f' makes {row.after:.2f}') and f'{abs(row.phi_audio):.2f} from the voice' in said


def test_an_unrelated_control_leaves_the_rest_alone(panel):
    other = 'Anger' if panel.controller.source.classes[panel.selection.before.argmax()] != 'Anger' else 'Fear'
    assert touched(panel, lambda: setattr(panel.view.target, 'value', other)) == {'share'}
    assert touched(panel, lambda: setattr(panel.view.voice, 'value', panel.controller.table.clip_id.iloc[-1])) == {'pair'}
    assert touched(panel, lambda: setattr(panel.state, 'part', 'curves')) == set() and panel.view.tabs.selected_index == 1


def test_another_clip_keeps_the_changes(panel):
    panel.view.streams['visual'].drop.click()
    first = panel.state.clip_id
    assert touched(panel, panel.view.next.click) == {'strip', 'bars', 'share'}
    assert panel.state.clip_id == panel.view.clip.value != first and panel.state.clip_id in panel.view.facts.value
    assert panel.state.changes == {'visual': {'blackout': 1.}} and np.allclose(panel.selection.after, panel.source.recorded(panel.state.clip_id)[2])
    panel.view.previous.click(); assert panel.state.clip_id == first
    panel.view.previous.click(); assert panel.state.clip_id == panel.controller.table.clip_id.iloc[-1]


@pytest.mark.parametrize('name,value,said', [('changes', dict(smell=dict(gain=2)), "no modality 'smell'"), ('changes', dict(audio=dict(volume=2)), "no change 'volume'"), ('changes', dict(audio=dict(noise=-1)), '0 or more'),
                                             ('changes', dict(audio=dict(blackout=(2, 1))), r'\(from, to\)'), ('changes', dict(audio=dict(gain='loud')), 'expected a number'),
                                             ('clip_id', 'nobody', "no clip 'nobody'"), ('pair', ('nobody', 'nobody'), "no clip 'nobody'"), ('target', 'Joy', "no class 'Joy'")])
def test_what_cannot_be_is_a_sentence_and_changes_nothing(panel, name, value, said):
    panel.state.changes = dict(audio=dict(gain=.5))
    before, was = drawn(panel), getattr(panel.state, name)
    with pytest.raises(UserError, match=said): setattr(panel.state, name, value)
    assert getattr(panel.state, name) == was and drawn(panel) == before
    panel.view.streams['audio'].gain.value = .7 # and the panel goes on
    assert panel.state.changes == dict(audio=dict(gain=.7))


def test_curves_come_in_the_background(panel, source, monkeypatch):
    monkeypatch.setattr('mmemo.panels.what_if.LEVELS', dict(noise=(0., 2.), blackout=(0., 1.)))
    panel.state.part = 'curves'
    assert panel.selection.empty and 'Nothing is computed yet' in str(panel.view.figures['curves'].figure)
    job = panel.view.curve_work
    before = drawn(panel); job.start.click(); job.background.wait(120)
    assert {n for n, f in drawn(panel).items() if f != before[n]} == {'curves'} and not job.start.disabled and job.said.value == ''
    found = panel.selection
    assert found.groupby(['modality', 'change']).size().tolist() == [2]*4
    mine = found[(found.modality == 'audio') & (found.change == 'noise')].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine.drop(columns=['modality', 'change']), measure_degradation(source.model, panel.source.windows, 'audio', 'noise', [0., 2.]), check_dtype=False)
    lines = [d for d in panel.view.figures['curves'].figure['data'] if d.get('mode') == 'lines+markers']
    assert len(lines) == 4 and [d['y'] for d in lines if d['name'] == 'voice'][0] == pytest.approx(mine.score)
    assert 'too narrow' in panel.view.figures['curves'].figure['subtitle'], 'three subjects are few'


def test_curves_can_be_stopped(panel):
    job = panel.view.curve_work
    panel.source.curves = lambda levels=None, count=None: (job.stop.click(), count(panel.source.batch(panel.state.clip_id))) and iter(())
    job.start.click(); job.background.wait(60)
    assert job.said.value.startswith('Stopped.') and not job.start.disabled and job.stop.disabled and panel.controller.lost().empty


def test_work_that_fails_says_why(panel):
    def broken(levels=None, count=None): raise RuntimeError('no memory'); yield
    panel.source.curves = broken
    panel.view.curve_work.start.click(); panel.view.curve_work.background.wait(60)
    assert 'no memory' in panel.view.curve_work.said.value and not panel.view.curve_work.start.disabled


def test_who_wins_a_pair(panel):
    panel.state.part = 'swap'
    found = judge_swaps(panel.source.model, panel.source.windows)
    for row in found.iloc[[1, 9, 20]].itertuples():
        panel.state.pair = (row.face_clip, row.voice_clip)
        mine = panel.selection.iloc[0]
        assert (mine.face, mine.voice, mine.predicted, mine.wins) == (row.face, row.voice, row.predicted, row.wins) and mine.p_voice == pytest.approx(row.p_voice, abs=1e-5)
        assert (panel.view.face.value, panel.view.voice.value) == panel.state.pair
    p = bars(panel, 'pair')
    assert np.allclose(p['the clip of the face'], panel.source.recorded(panel.state.pair[0])[-1], atol=1e-4), 'these clips have one window'


def test_a_click_on_a_cell_shows_its_pairs(panel):
    panel.state.part = 'swap'
    panel.view.swap_work.start.click(); panel.view.swap_work.background.wait(120)
    every = panel.selection
    pd.testing.assert_frame_equal(every, judge_swaps(panel.source.model, panel.source.windows))
    panel.controller.found = every = judge_swaps(panel.source.model, panel.source.windows, list(panel.controller.table.clip_id), each=3) # more than one pair a cell
    panel.controller.draw(('winners',))
    cells = tabulate_swaps(every)
    texts = next(d for d in panel.view.figures['winners'].figure['data'] if d.get('mode') == 'text')
    assert len(texts['text']) == len(cells)
    cell = cells.loc[cells.n.idxmax()]
    before = drawn(panel)
    panel.view.figures['winners'].picked = dict(curve=0, point=None, x=cell.voice, y=cell.face, about='', n=1) # as the browser tells of a click
    assert {n for n, f in drawn(panel).items() if f != before[n]} <= {'pair'}
    mine = panel.selection
    assert len(mine) == cell.n and set(mine.face) == {cell.face} and set(mine.voice) == {cell.voice}
    assert panel.state.pair == (mine.face_clip[0], mine.voice_clip[0])
    panel.view.figures['winners'].picked = dict(curve=0, point=None, x=cell.voice, y=cell.face, about='', n=2)
    assert panel.state.pair == (mine.face_clip[1], mine.voice_clip[1])
    panel.view.face.value = panel.controller.table.clip_id.iloc[-1]
    assert panel.state.cell == () and len(panel.selection) == len(every)


def test_a_clip_without_a_voice(source):
    "Its voice cannot be changed, and the rest works."
    panel, clip = WhatIfPanel(source), source.offered.clip_id[3]
    batch = panel.source.batch(clip)
    batch.mask['audio'][:] = False; batch.x['audio'][:] = 0
    panel.state.clip_id = clip
    assert all(s.disabled for s in panel.view.streams['audio'].sliders.values()) and panel.view.streams['audio'].drop.disabled
    assert not panel.view.streams['visual'].gain.disabled and (panel.selection.phi_audio == 0).all()
    panel.view.previous.click(); assert not panel.view.streams['audio'].gain.disabled


def test_a_model_of_the_face_alone(source):
    class Face(torch.nn.Module):
        modalities = ('visual',)
        def __init__(self, model): super().__init__(); self.model = model
        def forward(self, batch, maps=False): return self.model(batch, maps=maps)
    panel = WhatIfPanel(ClipSource(Face(source.model), source.corpus, source.store, source.settings, 'test', source.predictions))
    assert list(panel.view.streams) == ['visual'] and panel.view.swap_work.start.disabled
    assert 'no face and voice to' in panel.view.figures['pair'].figure['layout']['annotations'][0]['text']
    assert panel.view.figures['share'].figure['title'].count('from the') == 1


def test_a_run_without_classes_is_a_sentence(source):
    from dataclasses import replace
    with pytest.raises(UserError, match='valence, arousal and no class'):
        WhatIfPanel(ClipSource(source.model, source.corpus, source.store, replace(source.settings, task='va'), 'test', source.predictions))


def test_dark_theme_reaches_every_figure(panel):
    panel.view.watch.theme = 'dark'
    assert all(c.figure['layout']['template']['layout']['paper_bgcolor'] == '#111111' for c in panel.view.figures.values())


def test_page_without_a_kernel(panel):
    panel.view.streams['audio'].drop.click()
    text = panel.to_html()
    assert panel.state.clip_id in text and 'without the voice' in text and len(text) < 10e6 and text.count('class="figure"') == 6


def test_a_missing_run_is_one_sentence(tmp_path):
    nothing = what_if_panel(tmp_path/'runs'/'demo')
    assert isinstance(nothing, NoPanel) and '`make demo`' in nothing.sentence
    assert isinstance(what_if_panel(small_run(), clip_id='nobody'), NoPanel)


def test_all_changes_have_levels_and_a_level_that_changes_nothing():
    from mmemo.explain.modalities import CHANGES
    assert set(LEVELS) == set(CHANGES) and 1. in LEVELS['gain'] and all(0. in LEVELS[k] for k in ('noise', 'blackout', 'shift'))
