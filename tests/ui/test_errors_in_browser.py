"""The errors notebook in a real browser: a cell, a bar, a point and a strip are clicked, labels are ranked."""
import shutil, sys, time
from pathlib import Path

import numpy as np, pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'tests'))
from small_run import small_run
from conftest import CLIPPED, OUTSIDE, SHOTS, SMALL, changed, lab_for, open_and_run, tab, until, watched

pytestmark = pytest.mark.ui
NAMES = ('matrix', 'slices', 'confidence', 'outcomes', 'sheet')
WHAT = """() => [...document.querySelectorAll('.mmemo-figure')].map(g => ({
  title: g.parentElement.querySelector('.mmemo-title')?.textContent ?? '', drawn: !!g.querySelector('.main-svg'), width: g.offsetWidth, inside: g._fullLayout?.width, paper: g._fullLayout?.paper_bgcolor,
  about: Array.from((g.data ?? []).at(-1)?.customdata ?? []), pictures: (g.layout?.images ?? []).length, data: JSON.stringify([g.data ?? null, (g.layout?.images ?? []).map(i => i.source.length), g.layout?.shapes ?? null])}))"""
SPOT = """([k, j]) => { const g = document.querySelectorAll('.mmemo-figure')[k], d = g._fullData.at(-1), a = g._fullLayout, r = g.getBoundingClientRect(), flat = d.orientation === 'h';
  const x = flat ? d.x[j]/2 : d.x[j], y = flat ? d.y[j] : d.base ? d.base[j] + .6 : d.y[j];
  return { x: r.left + a.xaxis._offset + a.xaxis.d2p(x), y: r.top + a.yaxis._offset + a.yaxis.d2p(y), about: d.customdata[j] } }"""
CELL = """([i, j]) => { const g = document.querySelectorAll('.mmemo-figure')[0], a = g._fullLayout, r = g.getBoundingClientRect();
  return { x: r.left + a.xaxis._offset + a.xaxis.d2p(g._fullData[0].x[j]), y: r.top + a.yaxis._offset + a.yaxis.d2p(g._fullData[0].y[i]) } }"""


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    "The small run with a second one beside it that answers otherwise."
    folder = tmp_path_factory.mktemp('two')
    for name in ('corpus', 'bicross'): shutil.copytree(small_run()/name, folder/name)
    shutil.copytree(small_run()/'bicross', folder/'second')
    import pandas as pd
    p = pd.read_parquet(folder/'second'/'predictions.parquet')
    names = [c for c in p if c.startswith('p_')]
    p[names] = np.roll(p[names].to_numpy(), 1, 0) # the answer to the clip before
    p['predicted'] = pd.Categorical([names[i][2:] for i in p[names].to_numpy().argmax(1)], [c[2:] for c in names])
    p.to_parquet(folder/'second'/'predictions.parquet')
    (folder/'second'/'checksums.txt').unlink() # made by hand: what was written has changed
    return folder


@pytest.fixture(scope='module')
def errors_lab(tmp_path_factory, demo):
    "A JupyterLab with the errors notebook in it, pointed at a small run."
    with lab_for(tmp_path_factory, 'errors', demo, small_run()/'cache') as address: yield address


def figures(page) -> dict: return dict(zip(NAMES, page.evaluate(WHAT)))


def wait_for(page, condition, what, seconds=90): return until(page, figures, condition, what, 'errors', seconds)


@pytest.fixture(scope='module')
def page(browser, errors_lab):
    page = watched(browser, 2000)
    open_and_run(page, errors_lab, 'errors.ipynb', '.mmemo-figure')
    wait_for(page, lambda f: len(f) == 5 and all(f[n]['drawn'] for n in ('matrix', 'slices', 'sheet')), 'figures')
    page.wait_for_timeout(1000)
    yield page
    page.close()


@pytest.fixture(scope='module')
def twin(demo):
    "The same panel in Python."
    from mmemo.panels.errors import errors_panel
    return errors_panel(demo)


def click(page, spot):
    page.mouse.move(spot['x'] - 3, spot['y']); page.mouse.move(spot['x'], spot['y']); page.wait_for_timeout(300)
    page.mouse.click(spot['x'], spot['y'])


def point(page, figure, j): # the j-th of its last trace
    page.locator('.mmemo-figure').nth(NAMES.index(figure)).scroll_into_view_if_needed()
    spot = page.evaluate(SPOT, [NAMES.index(figure), j])
    click(page, spot)
    return spot['about']


def test_it_is_drawn_and_fits(page, twin):
    now = wait_for(page, lambda f: all(abs(f[n]['width'] - f[n]['inside']) <= 2 for n in ('matrix', 'slices', 'sheet')), 'figures as wide as their place')
    assert now['matrix']['width'] > 500 and now['sheet']['about'] == list(twin.selection.clip_id[:6]) and now['sheet']['pictures'] == 6
    assert page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    page.screenshot(path=SHOTS/'errors-1280-light.png', full_page=True)
    assert page.evaluate(CLIPPED) == [] and page.evaluate(SMALL) == [] and page.evaluate(OUTSIDE) == []
    assert not page.errors, page.errors


def test_a_cell_shows_its_clips(page, twin):
    from mmemo.explain.errors import tabulate_confusion
    table = tabulate_confusion(twin.source.pred)
    cell = table[table.label != table.predicted].sort_values('n').iloc[-1]
    before, names = figures(page), twin.source.classes
    started = time.monotonic()
    click(page, page.evaluate(CELL, [names.index(cell.label), names.index(cell.predicted)]))
    now = wait_for(page, lambda f: f['sheet']['title'].startswith(f'{cell.label} taken for {cell.predicted}: {cell.n} clip'), 'the clips of that cell')
    print(f'a cell clicked to its clips: {time.monotonic() - started:.2f} s')
    twin.state.cell = (cell.label, cell.predicted)
    assert now['sheet']['about'] == list(twin.selection.clip_id[:6]) and now['sheet']['pictures'] == min(6, cell.n)
    page.wait_for_timeout(500)
    assert changed(before, figures(page)) == {'matrix', 'sheet'}
    page.mouse.move(5, 5); page.wait_for_timeout(300)
    page.screenshot(path=SHOTS/'errors-cell-1280-light.png', full_page=True)


def test_an_unrelated_control_leaves_the_clips_alone(page):
    before = figures(page)
    page.locator('.widget-dropdown', has=page.locator('label:text-is("slice by")')).locator('select').select_option('subset')
    wait_for(page, lambda f: f['slices']['title'].startswith('By subset, '), 'other slices')
    page.wait_for_timeout(500)
    assert changed(before, figures(page)) == {'slices'}


def test_a_bar_shows_its_slice(page, twin):
    page.get_by_role('button', name='Show all mistakes').click()
    before = wait_for(page, lambda f: f['sheet']['title'].startswith('All mistakes: '), 'all mistakes')
    value = point(page, 'slices', 0)
    wait_for(page, lambda f: f'of subset: {value}' in f['sheet']['title'], 'the clips of that slice')
    now = wait_for(page, lambda f: changed(before, f) >= {'matrix', 'sheet'}, 'another matrix') # drawn one after the other
    twin.state.cell, twin.state.where = (), {'subset': value}
    assert now['sheet']['about'] == list(twin.selection.clip_id[:6])
    page.get_by_role('button', name='Show all mistakes').click()
    wait_for(page, lambda f: f['sheet']['title'].startswith('All mistakes: '), 'all mistakes')


def test_a_strip_plays(page):
    clip = point(page, 'sheet', 1)
    page.wait_for_selector('video, .mmemo-player', timeout=60_000)
    page.wait_for_function("clip => document.querySelector('.jp-OutputArea-output').textContent.includes(clip)", arg=clip, timeout=60_000)
    page.wait_for_timeout(2500)
    page.mouse.move(5, 5)
    page.screenshot(path=SHOTS/'errors-player-1280-light.png', full_page=True)
    assert page.evaluate(CLIPPED) == [] and page.evaluate(OUTSIDE) == []


def test_labels_are_ranked(page):
    tab(page, 'Labels')
    wait_for(page, lambda f: 'No label is ranked yet' in page.locator('.mmemo-figure').nth(4).text_content(), 'an empty place that speaks')
    page.get_by_role('button', name='Rank the labels').click()
    now = wait_for(page, lambda f: f['sheet']['title'].endswith('the most suspect label first'), 'a ranking', 120)
    assert now['sheet']['pictures'] == 6
    page.wait_for_timeout(500)
    assert page.get_by_text('out of fold').count() and page.evaluate(CLIPPED) == [] and page.evaluate(OUTSIDE) == []
    page.screenshot(path=SHOTS/'errors-labels-1280-light.png', full_page=True)


def test_a_point_of_the_diagram_shows_its_clips(page, twin):
    tab(page, 'Confidence')
    before = wait_for(page, lambda f: f['confidence']['drawn'] and f['confidence']['width'] > 400 and f['sheet']['title'].startswith('All mistakes'), 'the diagram')
    page.wait_for_timeout(500)
    k = point(page, 'confidence', 0)
    now = wait_for(page, lambda f: f['sheet']['title'].startswith('Confidence '), 'the clips of that point')
    twin.state.part, twin.state.bin = 'confidence', k
    assert now['sheet']['about'] == list(twin.selection.clip_id[:6]) and changed(before, now) == {'confidence', 'sheet'}
    page.mouse.move(5, 5); page.wait_for_timeout(300)
    page.screenshot(path=SHOTS/'errors-confidence-1280-light.png', full_page=True)
    assert page.evaluate(CLIPPED) == []


def test_two_runs(page, twin):
    tab(page, 'Two runs')
    before = wait_for(page, lambda f: f['outcomes']['drawn'] and f['outcomes']['width'] > 400 and f['sheet']['title'].startswith('bicross is right and second is not'), 'two runs')
    page.wait_for_timeout(500)
    k = twin.source.compared('second')['outcomes'].outcome.tolist().index('both wrong')
    assert point(page, 'outcomes', k) == 'both wrong'
    now = wait_for(page, lambda f: f['sheet']['title'].startswith('Both wrong: '), 'clips that both get wrong')
    twin.state.part, twin.state.outcome = 'runs', 'both wrong'
    assert now['sheet']['about'] == list(twin.selection.clip_id[:6]) and changed(before, now) == {'outcomes', 'sheet'}
    page.mouse.move(5, 5); page.wait_for_timeout(300)
    page.screenshot(path=SHOTS/'errors-runs-1280-light.png', full_page=True)
    assert page.evaluate(CLIPPED) == [] and not page.errors, page.errors


def test_dark_theme_and_a_narrow_window(page):
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    wait_for(page, lambda f: all(x['paper'] == '#111111' for x in f.values() if x['drawn']), 'dark figures')
    for name in ('Two runs', 'Confidence', 'Mistakes'):
        tab(page, name); page.wait_for_timeout(900)
        page.screenshot(path=SHOTS/f'errors-{name.lower().replace(" ", "-")}-1280-dark.png', full_page=True)
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    page.set_viewport_size(dict(width=900, height=2400))
    wait_for(page, lambda f: f['matrix']['paper'] == '#FFFFFF' and f['sheet']['width'] < 880, 'light figures in a narrow window')
    for name in ('Labels', 'Two runs', 'Confidence', 'Mistakes'):
        tab(page, name); page.wait_for_timeout(900)
        page.screenshot(path=SHOTS/f'errors-{name.lower().replace(" ", "-")}-900.png', full_page=True)
        assert page.evaluate(CLIPPED) == [] and page.evaluate(OUTSIDE) == [], name
    page.set_viewport_size(dict(width=1280, height=2000))
    assert not page.errors, page.errors
