"""The attribution panel without a browser, on a small trained run: the picture holds what the library works out."""
import base64, json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmemo.explain.attribution import METHODS, attribute, join_windows
from mmemo.panels.attribution import AttributionPanel, FramePixels, attribution_panel, find_planted, read_bands, find_window
from mmemo.core import UserError
from mmemo.models.registry import build
from mmemo.panels.parts import NoPanel
from mmemo.panels.source import find_run, open_source
from mmemo.explain.evidence import cut_clip_windows
from small_run import small_run


@pytest.fixture(scope='module')
def source(): return open_source(small_run())


@pytest.fixture(scope='module')
def pixels(source): return FramePixels(source, find_run(small_run()))


@pytest.fixture
def panel(source, pixels): return AttributionPanel(source, pixels)


def drawn(panel):
    panel.controller.work.wait()
    return {n: json.dumps(c.figure, sort_keys=True) for n, c in panel.view.figures.items()}


def changed(panel, do):
    before = drawn(panel); do()
    return {n for n, f in drawn(panel).items() if f != before[n]}


def numbers(v): # as plotly sends them: a list, or packed
    return np.frombuffer(base64.b64decode(v['bdata']), v['dtype']) if isinstance(v, dict) else np.array(v)


def lines(panel): return {d['customdata'][0]: numbers(d['y']) for d in panel.view.rows.figure['data']}


def values_now(source, panel, **asked):
    w = source.settings
    batch = cut_clip_windows(source.corpus, source.store, panel.state.clip_id, w.length, w.eval_stride, w.task).whole()
    return join_windows(attribute(source.model, batch, **asked, width=.24))


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('target', ['Anger', 'Surprise'])
def test_the_rows_hold_what_was_added(panel, source, method, target):
    panel.view.method.value, panel.view.target.value = method, target
    found = values_now(source, panel, method=method, target=target)
    for m, y in lines(panel).items():
        values, at = found.clip(0, m)
        assert np.allclose(y*np.median(np.diff(at)), values, atol=2e-3)
        mine = panel.selection[panel.selection.modality == m]
        assert np.allclose(mine.value, values, atol=1e-4) and np.allclose(mine.time, at)
    assert target in panel.view.rows.figure['title'] and f'{float(found.output):.3g}' in panel.view.check.value


@pytest.mark.parametrize('name,value,touched', [('method', 'gradient_x_input', {'rows'}), ('sign', 'size', {'rows'}), ('smooth', .24, {'rows'}), ('target', 'Fear', {'rows', 'bars'})])
def test_a_control_changes_its_own_figures_only(panel, name, value, touched):
    assert changed(panel, lambda: setattr(getattr(panel.view, name), 'value', value)) == touched
    assert getattr(panel.state, name) == value


def test_another_clip_changes_every_figure_but_the_empty_one(panel):
    assert changed(panel, panel.view.next.click) == {'strip', 'rows', 'bars'}


def test_size_is_the_absolute_value(panel):
    signed = lines(panel)
    panel.view.sign.value = 'size'
    assert all(np.allclose(np.abs(signed[m]), y, atol=1e-3) for m, y in lines(panel).items())


def test_the_planted_interval_is_outlined_where_something_is_shown(panel, source):
    table = source.corpus.clips.set_index('clip_id')
    def outlined(): return sorted(s['x0'] for s in panel.view.rows.figure['layout'].get('shapes', []) if s['type'] == 'rect')
    for subset in ('audio', 'video', 'both', 'xor'):
        clip = table.index[table.subset == subset][0]
        panel.state.clip_id = clip
        shown = [table.loc[clip, f'{who}_onset'] for who in ('face', 'voice') if table.loc[clip, f'{who}_state'] != 'Neutral']
        assert np.allclose(outlined(), sorted(shown))


def test_a_click_goes_down_to_the_pixels(panel, pixels):
    assert 'Click on a moment' in str(panel.view.pixels.figure)
    assert changed(panel, lambda: setattr(panel.view.rows, 'picked', dict(curve=0, point=20, x=.82, y=0, about='visual', n=1))) == {'rows', 'pixels'}
    assert panel.state.moment == .82 and abs(panel.view.moment.value - .82) < .03
    found = pixels.map(panel.state.clip_id, .82, panel.controller.asked)
    assert found.frame.shape == (*found.values.shape, 3) and abs(found.delta) <= max(.35*abs(found.output - found.reference), .02)
    heat = next(d for d in panel.view.pixels.figure['data'] if d['type'] == 'heatmap')
    assert np.isclose(np.sum(numbers(heat['z'])), found.values.sum(), rtol=1e-3)
    other = panel.controller.table.clip_id.iloc[5]
    assert 'pixels' in changed(panel, lambda: setattr(panel.state, 'clip_id', other)) # the moment stays, its frame is the other clip's


def test_a_moment_beyond_the_clip_is_its_end(panel):
    panel.state.moment = 99.
    panel.controller.work.wait()
    end = panel.controller.seen.end
    assert panel.state.moment == end and np.isclose(panel.view.moment.value, end) and f'Frame at {end:.2f} s' in panel.view.pixels.figure['title']


def test_the_frame_is_the_one_of_the_moment(source, pixels):
    from mmemo.media.frames import VideoReader
    clip = source.offered.clip_id[3]
    reader = VideoReader(source.corpus.path(clip))
    at = float(reader.times[17])
    _, _, number, seconds = find_window(source, clip, at)
    assert number == 17 and np.isclose(seconds, at, atol=1e-3)
    assert np.array_equal(pixels.frame(clip, at), reader.frames([17])[0])


def test_attribution_is_worked_out_once(source):
    clip, calls = source.offered.clip_id[7], []
    forward = source.model.forward
    try:
        source.model.forward = lambda *a, **k: (calls.append(1), forward(*a, **k))[1]
        first = source.attribution(clip, METHODS[0], 'Fear'); n = len(calls)
        assert source.attribution(clip, METHODS[0], 'Fear') is first and len(calls) == n > 0
    finally: del source.model.forward


def test_bars_are_what_is_lost_without_a_modality(panel, source):
    whole = values_now(source, panel, method='ablation', target=panel.controller.asked, group='modality')
    bars = panel.view.bars.figure['data'][0]
    assert np.allclose(numbers(bars['x']), [*(float(v[0]) for v in whole.shares().values()), float(whole.output - whole.reference)], atol=1e-3)
    assert bars['y'] == ['without face', 'without voice', 'without all']


def test_the_player_follows(panel):
    panel.view.play.value = True
    player = panel.controller.player
    assert panel.view.stage.children == (player,) and player.show == 'integrated gradients' and player.clip_id == panel.state.clip_id
    bands, before = read_bands(panel.controller.attribution), player.map['values']
    assert np.isclose(np.frombuffer(before, np.float32).max(), max(v.max() for v, _ in bands.values()), atol=1e-3)
    panel.view.target.value = 'Fear'; assert player.map['values'] != before
    panel.view.method.value = 'occlusion'; assert player.show == 'occlusion'
    panel.view.next.click(); assert player.clip_id == panel.state.clip_id and player.show == 'occlusion'
    panel.view.play.value = False; assert panel.view.stage.children == ()


def test_the_attention_player_offers_attributions_and_works_out_none(source):
    asked = []
    source_attribution = source.attribution
    try:
        source.attribution = lambda *a: (asked.append(a), source_attribution(*a))[1]
        player = source.player(attributions=source.bands)
        assert [n for n, _ in player.options['show']] == ['attention', *(m.replace('_', ' ') for m in METHODS)] and not asked
        player.show = 'occlusion'
        assert player.map['names'] == ['face', 'voice'] and [a[1] for a in asked] == ['occlusion']
    finally: source.attribution = source_attribution


def test_windows_of_a_clip_add_up(source):
    w, clip = source.settings, source.offered.clip_id[0]
    batch = cut_clip_windows(source.corpus, source.store, clip, 24, 12, w.task).whole()
    assert len(batch) > 1
    each = attribute(source.model, batch, 'Anger', 'integrated_gradients')
    one = join_windows(each)
    assert torch.isclose(sum(one.shares().values()) - one.delta, each.output.mean() - each.reference.mean(), atol=1e-3).all()
    assert one.values['visual'].shape[1] == len(np.unique(batch.frame[batch.frame >= 0]))


def test_words_for_what_cannot_be(panel, tmp_path):
    with pytest.raises(UserError, match="no class 'Joy'"): panel.state.target = 'Joy'
    assert panel.state.target == 'predicted'
    with pytest.raises(UserError, match="no clip 'nobody'"): panel.state.clip_id = 'nobody'
    assert isinstance(attribution_panel(tmp_path/'none'), NoPanel)
    assert find_planted(dict(face_onset=float('nan'), face_offset=1., voice_onset=.1, voice_offset=.2, voice_state='cue1')) == dict(audio=(.1, .2))


def test_a_film_that_cannot_be_read_is_a_sentence(panel, source, pixels, monkeypatch):
    monkeypatch.setattr(pixels, 'frame', lambda *a: (_ for _ in ()).throw(UserError('the film is gone.')))
    panel.state.moment = 1.
    assert 'the film is gone' in str(panel.view.pixels.figure)


def test_a_model_without_eyes_says_so(source):
    blind = SimpleNamespace(model=SimpleNamespace(modalities=('audio',)))
    with pytest.raises(UserError, match='never sees the face'): FramePixels(blind, None).frame(source.offered.clip_id[0], 1.)


def test_a_model_that_reads_pixels_is_asked_by_grad_cam(source):
    torch.manual_seed(0)
    model = build('avtca-paper', dict(visual=64, audio=5), 8, frontend='pixels', width=.25, dim=16, heads=2).eval()
    clip, n = source.offered.clip_id[0], 6
    store = dict(visual=SimpleNamespace(values=np.random.default_rng(0).integers(0, 255, (n, 64, 64, 3), np.uint8), time=(np.arange(n) + .5)*.4, valid=np.ones(n, bool), offsets=np.array([0, n]), clip_ids=[clip], dim=64, missing={}),
                 audio=SimpleNamespace(values=np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32), time=(np.arange(60) + .5)*.04, valid=np.ones(60, bool), offsets=np.array([0, 60]), clip_ids=[clip], dim=5, missing={}))
    from mmemo.panels.source import ClipSource
    from mmemo.features.windows import WindowSettings
    own = ClipSource(model, source.corpus, store, WindowSettings(n, n))
    reads = FramePixels(own, None)
    found = reads.map(clip, 1., 'Fear')
    assert reads.reads_pixels and found.values.shape == (64, 64) and (found.values >= 0).all() and np.array_equal(found.frame, store['visual'].values[2])
    panel = AttributionPanel(own, reads, clip_id=clip, method='gradient_x_input', moment=1.)
    panel.controller.work.wait()
    assert 'Grad-CAM' in panel.view.pixels.figure['title']


def test_dark_theme_reaches_every_figure(panel):
    panel.view.watch.theme = 'dark'
    assert all(c.figure['layout']['template']['layout']['paper_bgcolor'] == '#111111' for c in panel.view.figures.values())


def test_page_without_a_kernel(panel):
    assert panel.to_html().count('class="figure"') == 3
    panel.state.moment = 1.
    text = panel.to_html()
    assert text.count('class="figure"') == 4 and panel.state.clip_id in text and len(text) < 10e6
