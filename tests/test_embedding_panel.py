"""The embedding panel without a browser: a click, a lasso, a colour and a prompt are values that are set."""
import base64, json, threading, time

import numpy as np
import pandas as pd
import pytest

import mmemo.panels.embedding as ep
from mmemo.core import UserError
from mmemo.explain.embedding import MAPS, Plane, edit_prompts, lay_out, MapSettings
from mmemo.panels.parts import NoPanel
from mmemo.panels.embedding import EmbeddingPanel, embedding_panel, open_vectors
from mmemo.panels.embedding_figures import list_colour_columns
from small_run import guided_run, small_run


@pytest.fixture(scope='module')
def source(): return open_vectors(guided_run())


@pytest.fixture
def panel(source): return EmbeddingPanel(source, lambda m, s: open_vectors(guided_run().parent/m, s), ['guided'], ['train', 'val', 'test'], method='pca')


def click(panel, clip_id): panel.view.plane.picked = dict(about=[clip_id, ''], n=panel.view.plane.picked.get('n', 0) + 1)
def lasso(panel, ids): panel.view.plane.lassoed = dict(points=[dict(about=[i, '']) for i in ids], n=panel.view.plane.lassoed.get('n', 0) + 1)
def plain(v): return np.frombuffer(base64.b64decode(v['bdata']), v['dtype']).tolist() if isinstance(v, dict) else v # as plotly.js reads it
def stars(panel): return {r[1]: (x, y) for t in panel.view.plane.figure['data'] if t.get('name') == 'prompts' for r, x, y in zip(t['customdata'], plain(t['x']), plain(t['y']))}
def drawn(panel): return {n: json.dumps(getattr(panel.view, n).figure, sort_keys=True) for n in ('plane', 'likeness')}


def test_a_click_brings_that_clip(panel, source):
    assert panel.controller.player is None and panel.selection.empty
    before = drawn(panel)
    for clip in source.embedded.clips.clip_id[[3, 9]]:
        click(panel, clip)
        player = panel.controller.player
        assert player in panel.view.side.children and player.clip_id == clip and player.evidence.clip_id == clip
        assert panel.selection.clip_id.tolist() == [clip] and clip in panel.view.list.value
        i = source.embedded.clips.clip_id.tolist().index(clip)
        assert panel.view.plane.marked == dict(x=[round(panel.controller.plane.points[i, 0], 5)], y=[round(panel.controller.plane.points[i, 1], 5)])
        bars = dict(zip(panel.view.likeness.figure['data'][0]['y'], plain(panel.view.likeness.figure['data'][0]['x'])))
        assert bars == pytest.approx(dict(zip(source.embedded.space.classes, panel.reading.similar[i])), abs=1e-5)
    assert drawn(panel)['plane'] == before['plane'], 'a click draws no plane anew'


def test_a_lasso_is_a_table(panel, source):
    ids = source.embedded.clips.clip_id[5:25].tolist()
    lasso(panel, ids)
    assert set(panel.selection.clip_id) == set(ids) and {'label', 'predicted', 'answer', 'subject'} <= set(panel.selection)
    assert f'{len(ids)} clips' in panel.view.list.value
    click(panel, ids[2])
    assert len(panel.selection) == len(ids) and {v for _, v in panel.controller.player.clips} == set(ids)
    panel.controller.player.clip_id = ids[7] # chosen in the player's own list
    assert panel.state.clip_id == ids[7]
    lasso(panel, [])
    assert panel.selection.clip_id.tolist() == [ids[7]]


def test_a_colour_computes_no_layout(panel, monkeypatch):
    called = []
    for name in ('lay_out', 'edit_prompts'): monkeypatch.setattr(ep, name, lambda *a, **k: called.append(name))
    before = drawn(panel)
    for _, column in panel.view.by.options[1:]:
        panel.view.by.value = column
        assert not called and panel.state.by == column
    panel.view.by.value = 'answer'
    names = [t['name'].split(' (')[0] for t in panel.view.plane.figure['data']]
    assert set(names) <= {'right', 'wrong', 'no label', 'prompts'} and drawn(panel)['plane'] != before['plane']
    assert drawn(panel)['likeness'] == before['likeness']


def test_search_finds_ids_and_columns(panel, source):
    clips = source.embedded.clips
    panel.view.search.value = clips.clip_id[4].upper()
    assert panel.selection.clip_id.tolist() == [clips.clip_id[4]] and len(panel.view.plane.marked['x']) == 1
    panel.view.search.value = clips.subject[0]
    assert set(panel.selection.subject) == {clips.subject[0]} and len(panel.selection) == (clips.subject == clips.subject[0]).sum()
    panel.view.search.value = 'nothing like it'
    assert 'No clip holds “nothing like it”' in panel.view.list.value and panel.selection.empty
    panel.view.search.value = ''
    assert panel.selection.empty and panel.view.plane.marked == dict(x=[], y=[])


def test_the_editor_changes_reading_and_its_own_star(panel, source):
    before, plane = stars(panel), panel.controller.plane
    panel.view.edited.value = 'Fear'
    assert panel.view.text.value.splitlines() == source.embedded.prompts['Fear']
    panel.view.text.value = 'a happy face\na person who looks happy'
    assert stars(panel) == before, 'nothing before Apply'
    panel.view.apply.click()
    after = stars(panel)
    assert {c for c in after if after[c] != before[c]} == {'Fear'} and panel.controller.plane is plane
    expected = edit_prompts(source.embedded.space, dict(Fear=['a happy face', 'a person who looks happy']), source.embedded, source.book)
    assert np.array_equal(panel.reading.similar, expected.similar) and panel.reading.score == expected.score
    said = panel.view.reading.value
    assert f'{expected.score:.3f} of' in said and 'Edited: Fear' in said and 'named otherwise' in said
    panel.view.edited.value = 'Anger'; panel.view.edited.value = 'Fear'
    assert panel.view.text.value == 'a happy face\na person who looks happy', 'an edit is kept while another class is looked at'
    panel.view.reset.click()
    assert stars(panel) == before and panel.state.prompts == {} and panel.view.text.value.splitlines() == source.embedded.prompts['Fear']


def test_unknown_words_are_told(panel):
    panel.state.prompts = dict(Fear=['a petrified face'])
    assert '“petrified”' in panel.view.reading.value and 'reads every unknown word alike' in panel.view.reading.value
    panel.state.prompts = dict(Fear=['a fearful face'])
    assert 'does not know' not in panel.view.reading.value


def test_no_prompt_is_a_sentence_and_the_last_reading_stays(panel):
    now = panel.reading
    panel.view.text.value = '\n  \n'; panel.view.apply.click()
    assert 'has no prompt' in panel.view.reading.value and panel.reading is now
    panel.state.prompts = dict(Rage=['x'])
    assert "'Rage' is no class" in panel.view.reading.value.replace('&#x27;', "'") and panel.reading is now


def test_live_reads_while_one_types(panel):
    panel.view.live.value = True
    panel.view.edited.value = 'Sadness'; panel.view.text.value = 'a sad face'
    assert panel.state.prompts == dict(Sadness=['a sad face'])
    panel.view.live.value = False; panel.view.text.value = 'a happy face'
    assert panel.state.prompts == dict(Sadness=['a sad face'])


def test_a_star_opens_its_prompts(panel):
    panel.view.plane.picked = dict(about=[None, 'Surprise'], n=1)
    assert panel.view.edited.value == 'Surprise' and 'surprised' in panel.view.text.value and panel.state.clip_id == ''


def test_clips_of_another_split_are_placed_and_change_nothing_else(panel, source):
    old = panel.controller.points.copy()
    panel.view.added.value = 'val'; panel.wait(60)
    other = open_vectors(guided_run(), 'val').embedded
    assert np.array_equal(panel.controller.points[:len(old)], old) and len(panel.controller.points) == len(old) + len(other)
    assert np.allclose(panel.controller.points[len(old):], panel.controller.plane.place(other.vectors))
    assert f'{len(other)} clips of val placed into it' in panel.view.line.value and panel.reading.table.n.iloc[-1] == source.embedded.clips.label.notna().sum()
    click(panel, other.clips.clip_id[0])
    assert panel.controller.player.evidence.clip_id == other.clips.clip_id[0] and panel.selection.split.tolist() == ['val']
    panel.view.added.value = ''
    assert len(panel.controller.points) == len(old) and panel.state.clip_id == ''


def test_another_split_is_laid_out_anew(panel):
    panel.view.split.value = 'val'; panel.wait(60)
    other = open_vectors(guided_run(), 'val').embedded
    assert len(panel.controller.points) == len(other) and panel.controller.source.split == 'val'


def test_a_split_that_cannot_be_read_is_a_sentence(source):
    gate = threading.Event()
    def broken(model, split): gate.wait(10); raise UserError('the films are gone.')
    panel = EmbeddingPanel(source, broken, ['guided'], ['val', 'test'], method='pca')
    panel.view.split.value = 'val'; gate.set(); panel.wait(10)
    assert 'the films are gone.' in panel.view.line.value and panel.view.split.value == 'test' and len(panel.controller.points) == len(source.embedded)


def test_umap_comes_in_the_background_and_prompts_do_not_wait(source, monkeypatch):
    gate, real = threading.Event(), lay_out
    def slow(x, settings, progress=lambda s, t: None):
        if settings.method == 'pca': return real(x, settings)
        progress(.3, 'laying out'); gate.wait(30)
        return real(x, MapSettings('pca', seed=5))
    monkeypatch.setattr(ep, 'lay_out', slow); MAPS.clear()
    panel = EmbeddingPanel(source, method='umap')
    first = panel.controller.plane
    assert first.settings.method == 'pca' and 'PCA' in panel.view.line.value and panel.controller.job.busy
    click(panel, source.embedded.clips.clip_id[0]); assert panel.controller.player is not None
    began = time.perf_counter(); panel.state.prompts = dict(Fear=['a happy face']); assert time.perf_counter() - began < 2 and panel.controller.job.busy
    assert stars(panel)['Fear'] == panel.reading.stars['Fear']
    gate.set(); panel.wait(30)
    assert panel.controller.plane is not first and panel.view.progress.layout.visibility == 'hidden'


def test_pca_chosen_while_umap_runs_stays(source, monkeypatch):
    gate, real = threading.Event(), lay_out
    monkeypatch.setattr(ep, 'lay_out', lambda x, s, progress=None: real(x, s) if s.method == 'pca' else (gate.wait(30), real(x, MapSettings('pca', seed=1)))[1]); MAPS.clear()
    panel = EmbeddingPanel(source, method='umap')
    panel.view.method.value = 'pca'
    kept = panel.controller.plane
    gate.set(); panel.wait(30)
    assert panel.controller.plane is kept


def test_dark_theme_and_a_page(panel):
    panel.view.watch.theme = 'dark'
    assert panel.view.plane.figure['layout']['template']['layout']['paper_bgcolor'] == '#111111'
    lasso(panel, panel.controller.clips.clip_id[:3])
    text = panel.to_html()
    assert len(text) < 10e6 and panel.controller.clips.clip_id[1] in text and 'class="figure"' in text and 'The prompts alone name' in text


def test_without_words_or_without_a_run_there_is_a_sentence(tmp_path):
    assert 'no text-aligned visual vectors' in embedding_panel(small_run()).sentence
    nothing = embedding_panel(tmp_path/'nowhere')
    assert isinstance(nothing, NoPanel) and '`make demo`' in nothing.sentence


def test_columns_that_tell_nothing_are_not_offered(source):
    offered = [c for _, c in list_colour_columns(source.embedded.clips)]
    assert offered[:2] == ['label', 'predicted'] and not {'clip_id', 'group', 'split'} & set(offered)


def test_an_unknown_clip_is_refused_by_name(panel):
    with pytest.raises(UserError, match="no clip 'nobody'"): panel.state.clip_id = 'nobody'
