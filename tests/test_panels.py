"""The clip panel without a browser: setting a value is the same as choosing it."""
import json

import numpy as np
import pytest

from mmemo.core import UserError
from mmemo.explain.evidence import Evidence
from mmemo.panels.clip import ClipPanel, attention_panel, choose_map, clip_panel
from mmemo.panels.parts import NoPanel
from mmemo.panels.source import find_run, open_source
from mmemo.explain.evidence import gather_evidence
from small_run import small_run


@pytest.fixture(scope='module')
def source(): return open_source(small_run())


@pytest.fixture
def panel(source): return ClipPanel(source)


def drawn(panel): return {n: json.dumps(c.figure, sort_keys=True) for n, c in panel.view.figures.items()}


def changed(panel, do):
    before = drawn(panel); do()
    return {n for n, f in drawn(panel).items() if f != before[n]}


def test_it_shows_the_chosen_clip(panel, source):
    ids = list(panel.controller.table.clip_id)
    for clip in (ids[3], ids[-1]):
        panel.view.clip.value = clip
        seen = source.evidence(clip, panel.state.window)
        lines = {d['name']: d for d in panel.view.curve.figure['data'] if d['type'] == 'scatter'}
        assert set(lines) == set(seen.classes) and clip in panel.view.facts.value
        assert panel.view.strip.figure['layout']['images'] and panel.state.clip_id == clip
        assert panel.view.curve.figure['layout']['xaxis']['range'] == [0, seen.end]
    assert np.allclose(panel.selection[list(seen.classes)].sum(1), 1, atol=1e-5)


def test_another_clip_changes_every_figure(panel):
    other = list(panel.controller.table.clip_id)[5]
    assert changed(panel, lambda: setattr(panel.view.clip, 'value', other)) == set(panel.view.figures)


@pytest.mark.parametrize('name,value,touched', [('scale', 'even', {'to_face', 'to_voice'}), ('head', 1, {'to_face', 'to_voice'}), ('head', -2, {'to_face', 'to_voice'}), ('sound', 'spectrogram', {'wave'}), ('window', .4, {'curve'})])
def test_a_control_changes_its_own_figures_only(panel, name, value, touched):
    assert changed(panel, lambda: setattr(getattr(panel.view, name), 'value', value)) == touched
    assert getattr(panel.state, name) == value


def test_filters_offer_what_they_say(panel):
    table = panel.controller.table
    panel.view.subset.value = 'xor'
    assert {v for _, v in panel.view.clip.options} == set(table.clip_id[table.subset == 'xor']) and 'xor' in panel.state.clip_id
    panel.view.outcome.value = 'wrong'
    wrong = set(table.clip_id[(table.subset == 'xor') & ~table.right])
    if wrong: assert {v for _, v in panel.view.clip.options} == wrong
    else: assert 'No clip' in panel.view.facts.value


def test_buttons_go_round(panel):
    first = panel.state.clip_id
    panel.view.next.click(); assert panel.state.clip_id != first
    panel.view.previous.click(); assert panel.state.clip_id == first
    panel.view.previous.click(); assert panel.state.clip_id == panel.controller.table.clip_id.iloc[-1]


def test_both_directions_of_the_map(panel, source):
    seen = source.evidence(panel.state.clip_id, 0.)
    for query, canvas, axis in (('visual', panel.view.to_face, 'voice time (s), keys'), ('audio', panel.view.to_voice, 'face time (s), keys')):
        weights, at, of, _ = choose_map(seen.maps, query)
        assert np.allclose(weights.sum(1), 1, atol=1e-2) and weights.shape == (len(at), len(of)), 'rows of present keys sum to one'
        assert canvas.figure['layout']['xaxis']['title']['text'] == axis
    heads = np.mean([choose_map(seen.maps, 'visual', head=h)[0] for h in range(seen.maps[0].weights.shape[1])], 0)
    assert np.allclose(heads, choose_map(seen.maps, 'visual')[0], atol=1e-6)


def test_the_largest_head_and_the_rollout(panel, source):
    seen = source.evidence(panel.state.clip_id, 0.)
    whole = seen.maps[0].clip(0)[0]
    panel.view.head.value = -2
    assert np.allclose(panel.view.to_face.figure['data'][0]['zmax'], whole.max(), atol=1e-4)
    assert ('rollout', -2) in panel.view.layer.options
    panel.view.head.value = -1
    before = choose_map(seen.maps, 'visual')[0]
    panel.view.layer.value = -2
    assert np.allclose(choose_map(seen.maps, 'visual', -2)[0], before, atol=1e-5), 'the rollout of one layer is its own map'


def test_the_lag_figure_is_the_curve_of_both_maps(panel, source):
    from mmemo.models.attention import trace_lag_curve
    maps = source.evidence(panel.state.clip_id, 0.).maps
    lines = {d['name']: d for d in panel.view.lag.figure['data'] if d.get('name')}
    for m, name in zip(maps, ('face asks voice', 'voice asks face')):
        found = trace_lag_curve(*m.clip(0))
        assert np.allclose(values(lines[name]['y']), found.weight.mean(0)) and np.allclose(values(lines[name]['x']), found.lag)


def values(x): # plotly's JSON holds arrays as bytes
    import base64
    return np.frombuffer(base64.b64decode(x['bdata']), x['dtype']) if isinstance(x, dict) else np.asarray(x)


@pytest.mark.parametrize('name', ['rcma-v1', 'rjcma-v4', 'rjcma-code', 'avtca-paper'])
def test_maps_of_every_system_are_shown(name):
    "RCMA's joint asks; the released one correlates features, and says so."
    import torch
    from mmemo.models.registry import build
    from mmemo.panels.clip import ClipState, plot_clip_lag, plot_map
    from mmemo.panels.player import list_map_options
    from mmemo.features.batch import Batch
    torch.manual_seed(0)
    own = {} if name == 'avtca-paper' else dict(length=12)
    model = build(name, dims=dict(visual=128, audio=128), **own).eval()
    at = {m: ((torch.arange(n) + .5)/hz)[None] for m, n, hz in (('visual', 12, 25), ('audio', 24, 50))}
    batch = Batch({m: torch.randn(1, t.shape[1], 128) for m, t in at.items()}, {m: torch.ones(1, t.shape[1], dtype=torch.bool) for m, t in at.items()}, at, frame=torch.arange(12)[None])
    with torch.no_grad(): maps = model(batch, maps=True).maps
    seen = Evidence('x', ('a',), np.zeros(12), np.ones((12, 1)), .48, np.ones(12, bool), maps)
    drawn = [plot_map(seen, of, ClipState()) for of in ('visual', 'audio')]
    assert all(f.data and f.data[0].type == 'heatmap' for f in drawn)
    for layer in (v for _, v in list_map_options(maps)[0]):
        for of in ('visual', 'audio'): plot_map(seen, of, ClipState(layer=layer)), plot_clip_lag(seen, layer)
    if name == 'avtca-paper': assert drawn[0].layout.yaxis.title.text == 'face time (s), queries'; return
    features = name == 'rjcma-code'
    assert [f.layout.xaxis.title.text for f in drawn] == [f'features of the {s}, keys' if features else f'{s} time (s), keys' for s in ('face', 'voice')]
    assert all('joint' in f.layout.yaxis.title.text and f.data[0].zmin == -f.data[0].zmax for f in drawn)
    assert (not plot_clip_lag(seen).data) == features, 'features have no offset in time'


def test_the_clip_plays_in_place_of_its_film_strip(panel):
    stage, strip = panel.view.stage, panel.view.strip
    assert stage.children == (strip,) and panel.player is None
    panel.view.play.value = True
    player = panel.player
    assert stage.children == (player,) and player.clip_id == panel.state.clip_id and player.media['video'] and not player.clips
    panel.view.next.click()
    assert player.clip_id == panel.state.clip_id == player.evidence.clip_id
    assert changed(panel, lambda: setattr(panel.state, 'query', 'audio')) == set() and player.map['query'] == 'audio'
    panel.state.player = False
    assert stage.children == (strip,) and panel.player is None and not panel.view.play.value
    player.head = 1
    assert panel.state.head == -1, 'a player that is gone moves nothing'


def test_what_player_and_panel_both_have_is_one_field(source):
    panel = ClipPanel(source, player=True, head=1, query='audio', time=.5)
    player = panel.player
    assert (player.head, player.query, player.time) == (1, 'audio', .5)
    before = player.map
    assert changed(panel, lambda: setattr(player, 'head', -2)) == {'to_face', 'to_voice'}
    assert panel.view.head.value == -2 and player.map != before
    panel.view.layer.value = -2
    assert player.layer == -2 and panel.state.layer == -2
    whole = panel.selection
    player.selection = [.2, .6] # as a drag does
    assert panel.state.interval == [.2, .6]
    assert panel.selection.equals(whole[(whole.time >= .2) & (whole.time <= .6)].reset_index(drop=True)) and 0 < len(panel.selection) < len(whole)
    panel.state.show = 'occlusion'
    assert player.map['names'] == ['face', 'voice']
    panel.view.next.click() # another clip begins at its beginning
    assert (player.time, panel.state.time, panel.state.interval, panel.state.head) == (0., 0., [], -2)
    assert 'id="player"' in panel.to_html() and len(panel.to_html()) < 10e6


def test_attention_panel_is_the_clip_panel_with_the_clip_playing():
    panel = attention_panel(small_run(), head=1)
    assert isinstance(panel, ClipPanel) and panel.state.player and panel.player.head == panel.view.head.value == 1
    assert panel.view.stage.children == (panel.player,) and [n for n, _ in panel.player.options['show']][:2] == ['attention', 'integrated gradients']


def test_unknown_clip_is_a_sentence_and_changes_nothing(panel):
    before = panel.state.clip_id
    with pytest.raises(UserError, match="no clip 'nobody'"): panel.state.clip_id = 'nobody'
    assert panel.state.clip_id == before and before in panel.view.facts.value


def test_dark_theme_reaches_every_figure(panel):
    panel.view.watch.theme = 'dark'
    assert all(c.figure['layout']['template']['layout']['paper_bgcolor'] == '#111111' for c in panel.view.figures.values())


def test_page_without_a_kernel(panel):
    text = panel.to_html()
    assert panel.state.clip_id in text and len(text) < 10e6 and text.count('class="figure"') == 6


def test_a_missing_run_is_one_sentence(tmp_path):
    nothing = clip_panel(tmp_path/'runs'/'demo')
    assert isinstance(nothing, NoPanel) and '`make demo`' in nothing.sentence and nothing.sentence.count('.') <= 2
    assert nothing.state.clip_id == '' and nothing.selection.empty and '`make demo`' in nothing.to_html()


def test_a_run_is_found_from_the_notebook_folder(monkeypatch, tmp_path):
    place = small_run()
    (tmp_path/'nbs'/'workbench').mkdir(parents=True); (tmp_path/'runs').symlink_to(place.parent)
    monkeypatch.chdir(tmp_path/'nbs'/'workbench')
    assert find_run(f'runs/{place.name}').samefile(place/'bicross')


def test_the_label_is_not_seen_by_the_model(source):
    "Evidence is the same whatever the clip is labelled."
    clip = source.offered.clip_id[0]
    before = gather_evidence(source.model, source.corpus, source.store, clip, source.settings).probs
    other = source.corpus.subset(list(source.corpus.clips.clip_id)); other.clips['label'] = 'Surprise'
    assert np.array_equal(before, gather_evidence(source.model, other, source.store, clip, source.settings).probs)


def test_a_longer_clip_is_judged_by_overlapping_windows():
    from types import SimpleNamespace
    import pandas as pd, torch
    from pathlib import Path
    from mmemo.corpora.manifest import Corpus
    from mmemo.features.windows import WindowSettings
    from mmemo.models.parts import Output
    n = 400
    class Counts(torch.nn.Module):
        modalities = ('visual',); seen = []
        def forward(self, batch, maps=False):
            Counts.seen.append(batch.frame.clone())
            return Output('expression', torch.zeros(len(batch), 8))
    pack = lambda hz, d: SimpleNamespace(values=np.zeros((n*hz//25, d), np.float32), time=(np.arange(n*hz//25) + .5)/hz, valid=np.ones(n*hz//25, bool), offsets=np.array([0, n*hz//25]), clip_ids=['x'], dim=d, missing={})
    corpus = Corpus('toy', Path('.'), pd.DataFrame(dict(clip_id=['x'], path=['x.mp4'])))
    seen = gather_evidence(Counts(), corpus, dict(visual=pack(25, 3), audio=pack(50, 2)), 'x', WindowSettings(60, 30))
    assert isinstance(seen, Evidence) and len(seen.time) == n and np.isclose(seen.end, n/25)
    held = torch.cat(Counts.seen[1:]).flatten(); held = held[held >= 0].bincount()
    assert len(held) == n and held[100:300].min() >= 2
