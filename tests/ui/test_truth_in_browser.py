"""The truth notebook in a real browser: measured, clicked, filtered, in both themes and widths."""
import json, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'tests'))
from small_run import small_run
from conftest import CLIPPED, SHOTS, changed, lab_for, no_warning, open_and_run, select, until, watched

pytestmark = pytest.mark.ui
NAMES = ('auc', 'orders', 'agree', 'each', 'steps')
WHAT = """() => [...document.querySelectorAll('.mmemo-figure')].map(g => ({title: g.parentElement.querySelector('.mmemo-title')?.textContent ?? '', drawn: !!g.querySelector('.main-svg'),
  width: g.offsetWidth, inside: g._fullLayout?.width, paper: g._fullLayout?.paper_bgcolor, data: JSON.stringify([g.data ?? null, g.layout?.shapes ?? null])}))"""
SMALL = "() => [...document.querySelectorAll('.mmemo-figure svg text')].filter(t => t.textContent.trim() && parseFloat(getComputedStyle(t).fontSize) < 12).map(t => t.textContent)"


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    def edit(nb):
        at = next(c for c in nb.cells if 'parameters' in c.metadata.get('tags', []))
        at.source = at.source.replace('clips = 32', 'clips = 16')
        nb.cells = [c for c in nb.cells if 'panel.state.method' not in c.source] # choosing is left to the browser
    with lab_for(tmp_path_factory, 'truth', small_run(), small_run()/'cache', edit) as address: yield address


def figures(page) -> dict: return dict(zip(NAMES, page.evaluate(WHAT)))


def wait_for(page, condition, what, seconds=120): return until(page, figures, lambda f: len(f) == len(NAMES) and condition(f), what, 'truth', seconds)


@pytest.fixture(scope='module')
def page(browser, lab):
    page = watched(browser, 2900)
    open_and_run(page, lab, 'truth.ipynb', '.mmemo-figure, .jp-OutputArea-output .warning')
    no_warning(page)
    wait_for(page, lambda f: all(x['drawn'] for x in f.values()) and 'AUC' in f['auc']['title'], 'the maps are measured')
    yield page
    page.close()


@pytest.fixture(scope='module')
def here(): # the same in Python
    from mmemo.panels.source import open_source
    from mmemo.panels.truth import TruthPanel
    panel = TruthPanel(open_source(small_run()), clips=16)
    panel.controller.job.wait(300)
    return panel


def choose(page, label, value): select(page, label).select_option(value)


def test_measured_and_drawn_as_the_library_does(page, here):
    now = wait_for(page, lambda f: all(abs(x['width'] - x['inside']) <= 2 for x in f.values()), 'figures as wide as the panel')
    assert now['auc']['title'] == here.view.auc.figure['title'] and now['agree']['title'] == here.view.agree.figure['title']
    assert 'subjects' in page.locator('.jp-OutputArea-output').first.inner_text()
    assert page.locator('.jp-OutputArea-output table').count() >= 1, 'the table of the selection'
    assert page.evaluate(CLIPPED) == [] and page.evaluate(SMALL) == []
    page.screenshot(path=SHOTS/'truth-1280.png', full_page=True)
    assert not page.errors, page.errors


def test_another_modality_leaves_the_dots_alone(page, here):
    before = figures(page)
    choose(page, 'modality', 'voice')
    wait_for(page, lambda f: changed(before, f) == {'agree', 'each'}, 'the voice')
    page.wait_for_timeout(600)
    now = figures(page)
    assert changed(before, now) == {'agree', 'each'}
    here.state.modality = 'audio'
    assert now['agree']['title'] == here.view.agree.figure['title'] and now['each']['title'] == here.view.each.figure['title']


def dot(page, figure:int, trace:int, point:int = 0): # where a point stands on the page
    return page.evaluate("""([f, c, i]) => { const g = document.querySelectorAll('.mmemo-figure')[f], d = g.calcdata[c][i], t = g._fullData[c], r = g.getBoundingClientRect();
      const x = g._fullLayout[t.xaxis.replace('x', 'xaxis')], y = g._fullLayout[t.yaxis.replace('y', 'yaxis')];
      return [r.left + x._offset + x.d2p(d.x), r.top + y._offset + y.d2p(d.y)] }""", [figure, trace, point])


def test_a_click_on_a_dot_and_on_a_clip(page, here):
    data = json.loads(figures(page)['auc']['data'])[0]
    at = next(i for i, d in enumerate(data) if d['customdata'][0] == ['occlusion', 'visual'])
    before = figures(page)
    page.mouse.click(*dot(page, 0, at))
    now = wait_for(page, lambda f: 'cclusion of the face' in f['each']['title'], 'the clips of occlusion')
    assert 'auc' not in changed(before, now)
    page.wait_for_timeout(500)
    here.state.method, here.state.modality = 'occlusion', 'visual'
    assert figures(page)['each']['title'] == here.view.each.figure['title']
    clip = json.loads(figures(page)['each']['data'])[0][0]['customdata'][0]
    page.mouse.click(*dot(page, 3, 0))
    now = wait_for(page, lambda f: clip in f['steps']['title'], 'the map of that clip')
    here.state.clip_id = clip
    assert now['steps']['title'] == here.view.steps.figure['title']
    page.wait_for_timeout(400)
    page.screenshot(path=SHOTS/'truth-clip.png', full_page=True)
    assert page.evaluate(CLIPPED) == []


def test_other_clips_are_measured_while_the_panel_answers(page):
    choose(page, 'part', 'xor')
    page.wait_for_function("() => document.body.innerText.includes('Measuring')", timeout=20_000)
    choose(page, 'modality', 'voice') # answered or kept until the clips are measured: nothing breaks
    now = wait_for(page, lambda f: 'of the voice' in f['each']['title'] and 'both' not in json.dumps(f['each']), 'the XOR clips')
    assert 'occlusion'.capitalize() in now['each']['title']
    choose(page, 'part', 'all')
    wait_for(page, lambda f: changed(now, f) >= {'auc', 'each'}, 'all parts again', 10)
    assert not page.errors, page.errors


def test_dark_and_narrow(page):
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    wait_for(page, lambda f: all(x['paper'] == '#111111' for x in f.values()), 'dark figures')
    page.screenshot(path=SHOTS/'truth-dark.png', full_page=True)
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    wait_for(page, lambda f: all(x['paper'] == '#FFFFFF' for x in f.values()), 'light figures')
    page.set_viewport_size(dict(width=900, height=2900))
    wait_for(page, lambda f: all(abs(x['width'] - x['inside']) <= 2 for x in f.values()) and f['auc']['width'] < 880, 'figures follow the window')
    page.wait_for_timeout(500)
    page.screenshot(path=SHOTS/'truth-900.png', full_page=True)
    assert not page.evaluate("() => [...document.querySelectorAll('.mmemo-figure, .mmemo-title')].some(g => g.getBoundingClientRect().right > innerWidth)")
    assert page.evaluate(CLIPPED) == []
    assert not page.errors, page.errors
