"""The attribution notebook in a real browser: a class, a click on a moment, the player, dark, narrow."""
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'tests'))
from small_run import small_run
from conftest import CLIPPED, SHOTS, lab_for, no_warning, open_and_run, select, until, watched

pytestmark = pytest.mark.ui
NAMES = ('strip', 'rows', 'pixels', 'bars')
WHAT = """() => [...document.querySelectorAll('.mmemo-figure')].map(g => ({
  title: g.parentElement.querySelector('.mmemo-title')?.textContent ?? '', drawn: !!g.querySelector('.main-svg'), width: g.offsetWidth, inside: g._fullLayout?.width, paper: g._fullLayout?.paper_bgcolor,
  values: (g._fullData ?? []).map(d => d.z ? d.z.map(r => Array.from(r)) : Array.from(d.orientation === 'h' ? d.x : d.y)), lines: (g.layout?.shapes ?? []).map(s => s.x0), images: (g.layout?.images ?? []).map(i => i.source)}))"""


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    with lab_for(tmp_path_factory, 'attribution', small_run(), small_run()/'cache') as address: yield address


def figures(page) -> dict: return dict(zip(NAMES, page.evaluate(WHAT)))


def wait_for(page, condition, what, seconds=90): return until(page, figures, condition, what, 'attribution', seconds)


@pytest.fixture(scope='module')
def page(browser, lab):
    "The notebook, run from top to bottom."
    page = watched(browser, 2000)
    open_and_run(page, lab, 'attribution.ipynb', '.mmemo-figure, .jp-OutputArea-output .warning')
    no_warning(page)
    # the last cell asks for clips that were answered wrongly, and for their label
    wait_for(page, lambda f: len(f) == 4 and all(x['drawn'] for x in f.values()) and select(page, 'class').input_value().startswith('labelled'), 'four figures')
    page.wait_for_timeout(800)
    yield page
    page.close()


def clip_now(page): return select(page, 'clip').locator('option:checked').inner_text().split()[1]
def changed(before, after): return {n for n in before if any(before[n][k] != after[n][k] for k in ('title', 'values', 'lines', 'images'))}


@pytest.fixture(scope='module')
def python(): # the same panel, without a browser
    from mmemo.panels.attribution import attribution_panel
    return attribution_panel(small_run())


def densities(python, clip, target):
    from mmemo.panels.attribution import read_bands
    return [v for v, _ in read_bands(python.source.attribution(clip, 'integrated_gradients', target)).values()]


def test_everything_is_drawn_and_fits(page):
    now = wait_for(page, lambda f: all(abs(x['width'] - x['inside']) <= 2 for x in f.values()), 'figures as wide as their places')
    assert now['rows']['width'] > 700 and 'Click on a moment' in page.locator('.mmemo-figure').nth(2).text_content()
    assert page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    assert page.evaluate(CLIPPED) == []
    page.screenshot(path=SHOTS/'attribution.png', full_page=True)
    assert not page.errors, page.errors


def test_another_class_shows_what_was_added_to_it(page, python):
    before, clip = figures(page), clip_now(page)
    select(page, 'class').select_option(label='Surprise')
    now = wait_for(page, lambda f: changed(before, f) == {'rows', 'bars'}, 'another class')
    for shown, worked_out in zip(now['rows']['values'], densities(python, clip, 'Surprise')): assert np.allclose(shown, worked_out, atol=2e-3)
    assert 'Surprise' in now['rows']['title'] and 'Surprise' in page.locator('.mmemo-figure').nth(3).text_content()


def test_a_reading_leaves_strip_and_bars_alone(page):
    before = figures(page)
    select(page, 'reading').select_option(label='size alone')
    wait_for(page, lambda f: changed(before, f) == {'rows'}, 'size alone')
    page.wait_for_timeout(600)
    now = figures(page)
    assert changed(before, now) == {'rows'}
    assert all(np.allclose(np.abs(a), b, atol=2e-3) for a, b in zip(before['rows']['values'], now['rows']['values']))
    select(page, 'reading').select_option(label='for and against')
    wait_for(page, lambda f: f['rows']['values'] == before['rows']['values'], 'signs again')


def test_a_click_on_a_moment_shows_its_pixels(page, python):
    before, clip = figures(page), clip_now(page)
    box = page.locator('.mmemo-figure').nth(1).locator('.nsewdrag').first.bounding_box()
    page.mouse.move(box['x'] + box['width']*.5, box['y'] + box['height']*.5)
    page.wait_for_timeout(300)
    page.mouse.click(box['x'] + box['width']*.5, box['y'] + box['height']*.5)
    now = wait_for(page, lambda f: 'its pixels added' in f['pixels']['title'] and 'working' not in f['pixels']['title'] and f['pixels']['values'], 'the map of pixels')
    assert changed(before, now) == {'rows', 'pixels'} and len(now['pixels']['images']) == 2
    moment = float(now['pixels']['title'].split(' at ')[1].split(' s')[0])
    assert abs(moment - 1.2) < .1, 'the middle of the clip was clicked'
    from mmemo.pages.explain_plots import sum_tiles
    said = python.controller.pixels.map(clip, next(x for x in now['rows']['lines'] if abs(x - moment) < .006), 'Surprise')
    worked_out = sum_tiles(said.values)
    assert np.allclose(now['pixels']['values'][0], worked_out, atol=.002*np.abs(worked_out).max())
    page.wait_for_timeout(500)
    assert page.evaluate(CLIPPED) == []
    page.screenshot(path=SHOTS/'attribution-pixels.png', full_page=True)


def test_another_clip(page, python):
    before = figures(page)
    page.locator('.jupyter-button[title="next clip"]').click()
    now = wait_for(page, lambda f: changed(before, f) == set(NAMES) and 'its pixels added' in f['pixels']['title'] and 'working' not in f['pixels']['title'], 'another clip')
    for shown, worked_out in zip(now['rows']['values'], densities(python, clip_now(page), 'Surprise')): assert np.allclose(shown, worked_out, atol=2e-3)


def test_the_playing_clip_stands_over_the_same_contributions(page):
    before = figures(page)
    page.locator('.jupyter-button', has_text='Play this clip').click()
    page.wait_for_selector('video', timeout=60_000)
    page.wait_for_function("() => document.querySelector('video')?.readyState >= 2", timeout=60_000)
    page.wait_for_timeout(1200)
    assert not changed(before, figures(page))
    page.screenshot(path=SHOTS/'attribution-player.png', full_page=True)


def test_dark_theme(page):
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    wait_for(page, lambda f: all(x['paper'] == '#111111' for x in f.values()), 'dark figures')
    wait_for(page, lambda f: f['pixels']['values'], 'the map in the dark')
    page.wait_for_timeout(1200)
    page.screenshot(path=SHOTS/'attribution-dark.png', full_page=True)
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    wait_for(page, lambda f: all(x['paper'] == '#FFFFFF' for x in f.values()), 'light figures')


def test_a_narrow_window(page):
    page.set_viewport_size(dict(width=900, height=2000))
    wait_for(page, lambda f: all(abs(x['width'] - x['inside']) <= 2 for x in f.values()) and f['rows']['width'] < 880 and f['pixels']['values'], 'figures follow the window')
    page.wait_for_timeout(800)
    page.screenshot(path=SHOTS/'attribution-900.png', full_page=True)
    assert not page.evaluate("() => [...document.querySelectorAll('.mmemo-figure, .mmemo-title')].some(g => g.getBoundingClientRect().right > innerWidth)")
    assert page.evaluate(CLIPPED) == []
    assert not page.errors, page.errors
