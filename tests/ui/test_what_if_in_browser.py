"""The what-if notebook in a real browser: a slider is dragged, a voice silenced, curves computed, a cell clicked."""
import sys, time
from pathlib import Path

import numpy as np, pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'tests'))
from small_run import small_run
from conftest import CLIPPED, OUTSIDE, SHOTS, SMALL, changed, lab_for, open_and_run, tab, until, watched

pytestmark = pytest.mark.ui
NAMES = ('strip', 'bars', 'share', 'curves', 'pair', 'winners')
WHAT = """() => [...document.querySelectorAll('.mmemo-figure')].map(g => ({
  title: g.parentElement.querySelector('.mmemo-title')?.textContent ?? '', drawn: !!g.querySelector('.main-svg'), width: g.offsetWidth, inside: g._fullLayout?.width, paper: g._fullLayout?.paper_bgcolor,
  bars: (g._fullData ?? []).filter(d => d.type === 'bar').map(d => [d.name, Array.from(d.orientation === 'h' ? d.x : d.y)]), data: JSON.stringify(g.data ?? null)}))"""


@pytest.fixture(scope='module')
def what_if_lab(tmp_path_factory):
    "A JupyterLab with the what-if notebook in it, pointed at a small run; its last code cell, which changes the clip, is left to the reader."
    with lab_for(tmp_path_factory, 'what_if', small_run(), small_run()/'cache') as address: yield address


def figures(page) -> dict: return dict(zip(NAMES, page.evaluate(WHAT)))


def wait_for(page, condition, what, seconds=90): return until(page, figures, condition, what, 'what_if', seconds)


@pytest.fixture(scope='module')
def page(browser, what_if_lab):
    page = watched(browser, 1800)
    open_and_run(page, what_if_lab, 'what_if.ipynb', '.mmemo-figure')
    wait_for(page, lambda f: len(f) == 6 and f['bars']['drawn'] and 'late, in noise of 1' in f['bars']['title'].replace('noise of 1, 0.4 s late', 'late, in noise of 1'), 'figures, and the change that code asked for')
    page.wait_for_timeout(1000)
    page.screenshot(path=SHOTS/'what_if-as-run.png', full_page=True)
    page.get_by_role('button', name='Reset').click()
    wait_for(page, lambda f: f['bars']['title'].startswith('As recorded'), 'the clip as recorded')
    yield page
    page.close()


@pytest.fixture(scope='module')
def twin():
    "The same panel in Python."
    from mmemo.panels.what_if import what_if_panel
    return what_if_panel(small_run())


def slider(page, name, n=0): return page.locator('.widget-slider', has=page.locator(f'label:text-is("{name}")')).nth(n)


def test_it_is_drawn_and_fits(page):
    now = wait_for(page, lambda f: all(abs(f[n]['width'] - f[n]['inside']) <= 2 for n in ('strip', 'bars', 'share')), 'figures as wide as the panel')
    assert now['bars']['width'] > 700 and page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    page.screenshot(path=SHOTS/'what_if-1280-light.png', full_page=True)
    assert page.evaluate(CLIPPED) == [] and page.evaluate(SMALL) == [] and page.evaluate(OUTSIDE) == []
    assert not page.errors, page.errors


def test_the_voice_is_silenced(page, twin):
    before = figures(page)
    page.get_by_role('button', name='Silence the voice').click()
    now = wait_for(page, lambda f: f['bars']['title'].startswith('Without the voice') and changed(before, f) == {'bars', 'share'}, 'a clip without its voice')
    twin.state.changes = {'audio': {'blackout': 1}}
    shown = dict(now['bars']['bars'])
    assert np.allclose(shown['after'], twin.selection.after, atol=1e-3) and np.allclose(shown['before'], twin.selection.before, atol=1e-3)
    assert dict(now['share']['bars'])['after'][1] == 0 and now['share']['title'] == twin.view.figures['share'].figure['title']
    page.wait_for_timeout(600)
    assert changed(before, figures(page)) == {'bars', 'share'}
    page.screenshot(path=SHOTS/'what_if-silent.png', full_page=True)
    page.get_by_role('button', name='Reset').click()
    wait_for(page, lambda f: f['bars']['title'].startswith('As recorded'), 'the clip as recorded')


def test_a_dragged_slider_is_followed(page, twin):
    before, handle = figures(page), slider(page, 'gain', 1).locator('.noUi-handle')
    handle.focus()
    started = time.monotonic()
    for _ in range(8): page.keyboard.press('ArrowRight')
    now = wait_for(page, lambda f: 'Voice at gain 1.8' in f['bars']['title'] and changed(before, f) == {'bars', 'share'}, 'a louder voice')
    print(f'eight steps of a slider to the last picture: {time.monotonic() - started:.2f} s')
    twin.state.changes = {'audio': {'gain': 1.8}}
    assert np.allclose(dict(now['bars']['bars'])['after'], twin.selection.after, atol=1e-3)
    page.wait_for_timeout(600)
    assert changed(before, figures(page)) == {'bars', 'share'}


def test_an_unrelated_control_leaves_the_bars_alone(page):
    before = figures(page)
    page.locator('.widget-dropdown', has=page.locator('label:text-is("explained class")')).locator('select').select_option('Fear')
    wait_for(page, lambda f: f['share']['title'].startswith('Fear: '), 'another class')
    page.wait_for_timeout(600)
    assert changed(before, figures(page)) == {'share'}


def test_curves_are_computed_while_the_panel_answers(page):
    tab(page, 'Curves')
    before = figures(page)
    page.get_by_role('button', name='Compute the curves').click()
    wait_for(page, lambda f: 'lines+markers' in f['curves']['data'], 'the first curve')
    wait_for(page, lambda f: f['curves']['data'].count('lines+markers') == 8, 'all curves', 120)
    page.wait_for_function("() => ![...document.querySelectorAll('button')].find(b => b.textContent.includes('Compute the curves')).disabled", timeout=60_000)
    assert changed(before, figures(page)) == {'curves'}
    page.wait_for_timeout(500)
    assert page.evaluate(CLIPPED) == [] and page.evaluate(OUTSIDE) == []
    page.screenshot(path=SHOTS/'what_if-curves-1280-light.png', full_page=True)


def test_a_cell_of_the_swap_shows_its_pair(page):
    tab(page, 'Swap')
    page.get_by_role('button', name='Swap all voices').click()
    wait_for(page, lambda f: 'pairs that disagree' in f['winners']['title'], 'the table', 120)
    page.wait_for_timeout(800)
    assert page.evaluate(CLIPPED) == [] and page.evaluate(OUTSIDE) == []
    before = figures(page)
    # the first cell that has a pair, other than the one that is shown
    spot = page.evaluate("""() => { const g = [...document.querySelectorAll('.mmemo-figure')][5], z = g._fullData[0].z, a = g._fullLayout, r = g.getBoundingClientRect();
      for (let i = z.length - 1; i >= 0; i--) for (let j = 0; j < z.length; j++) if (z[i][j] !== null && !Number.isNaN(z[i][j]))
        return { x: r.left + a.xaxis._offset + a.xaxis.d2p(g._fullData[0].x[j]), y: r.top + a.yaxis._offset + a.yaxis.d2p(g._fullData[0].y[i]), face: g._fullData[0].y[i], voice: g._fullData[0].x[j] } }""")
    page.mouse.move(spot['x'] - 3, spot['y']); page.mouse.move(spot['x'], spot['y']); page.wait_for_timeout(300)
    page.mouse.click(spot['x'], spot['y'])
    now = wait_for(page, lambda f: f['pair']['data'] != before['pair']['data'], 'the pair of that cell')
    assert f"{spot['face']}<br>(face)" in now['pair']['data'] and f"{spot['voice']}<br>(voice)" in now['pair']['data']
    assert changed(before, now) == {'pair'}
    page.mouse.move(5, 5); page.wait_for_timeout(400)
    page.screenshot(path=SHOTS/'what_if-swap-1280-light.png', full_page=True)
    assert not page.errors, page.errors


def test_dark_theme_and_a_narrow_window(page):
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    wait_for(page, lambda f: all(x['paper'] == '#111111' for x in f.values()), 'dark figures')
    page.wait_for_timeout(500)
    assert page.evaluate("() => getComputedStyle(document.querySelector('.widget-tab-contents')).backgroundColor") == 'rgb(17, 17, 17)', 'figures and tab on one ground'
    page.screenshot(path=SHOTS/'what_if-swap-1280-dark.png', full_page=True)
    tab(page, 'One clip'); page.wait_for_timeout(500)
    page.screenshot(path=SHOTS/'what_if-1280-dark.png', full_page=True)
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    page.set_viewport_size(dict(width=900, height=1800))
    wait_for(page, lambda f: all(x['paper'] == '#FFFFFF' for x in f.values()) and f['bars']['width'] < 880, 'light figures in a narrow window')
    for name in ('Swap', 'Curves', 'One clip'):
        tab(page, name); page.wait_for_timeout(700)
        page.screenshot(path=SHOTS/f'what_if-{name.lower().replace(" ", "-")}-900.png', full_page=True)
        assert page.evaluate(CLIPPED) == [] and page.evaluate(OUTSIDE) == [], name
    page.set_viewport_size(dict(width=1280, height=1800))
    assert not page.errors, page.errors
