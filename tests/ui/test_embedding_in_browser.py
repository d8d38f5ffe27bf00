"""The embedding notebook in a real browser: a click, a colour, a lasso, a prompt, both themes and two widths."""
import sys, time
from pathlib import Path

import numpy as np, pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'tests'))
from small_run import guided_run, small_run
from conftest import SHOTS, lab_for, no_warning, open_and_run, select, watched

pytestmark = pytest.mark.ui
PLANE = """() => { const g = document.querySelector('.mmemo-figure'); if (!g || !g._fullLayout?.xaxis) return null; const f = g._fullLayout, box = g.getBoundingClientRect();
  const at = (x, y) => [box.left + f.xaxis._offset + f.xaxis.l2p(x), box.top + f.yaxis._offset + f.yaxis.l2p(y)];
  return { paper: f.paper_bgcolor, width: g.offsetWidth, inside: f.width, title: g.parentElement.querySelector('.mmemo-title').textContent, names: g._fullData.map(t => t.name),
    points: g._fullData.flatMap(t => t.customdata.map((c, i) => ({ id: c[0], about: c[1], x: t.x[i], y: t.y[i], at: at(t.x[i], t.y[i]), colour: Array.isArray(t.marker.color) ? t.marker.color[i] : t.marker.color }))) } }"""
CLIPPED = """() => [...document.querySelectorAll('.mmemo-figure svg text')].filter(t => { const r = t.getBoundingClientRect(), q = t.closest('.js-plotly-plot').getBoundingClientRect();
  return r.width && (r.left < q.left - 1 || r.right > q.right + 1 || r.top < q.top - 1 || r.bottom > q.bottom + 1) }).map(t => t.textContent)"""
RINGS = "() => [...document.querySelectorAll('.mmemo-ring')].map(r => { const b = r.getBoundingClientRect(); return [b.left + b.width/2, b.top + b.height/2] })"


@pytest.fixture(scope='module')
def page(browser, tmp_path_factory):
    "The notebook, run from top to bottom, until UMAP has taken the place of PCA."
    with lab_for(tmp_path_factory, 'embedding', guided_run(), small_run()/'cache') as lab:
        page = watched(browser, 1500)
        open_and_run(page, lab, 'embedding.ipynb', '.mmemo-figure .main-svg, .jp-OutputArea-output .warning')
        no_warning(page)
        page.get_by_text('Stars are prompts').wait_for(timeout=60_000)
        page.get_by_text('UMAP, ').wait_for(timeout=180_000)
        yield page
        page.close()


def plane(page): return page.evaluate(PLANE)


def wait_for(page, condition, what, seconds=30):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        now = plane(page)
        if now and condition(now): return now
        page.wait_for_timeout(100)
    page.screenshot(path=SHOTS/'embedding-failed.png', full_page=True)
    pytest.fail(f'{what}: not within {seconds} s')


def expected(**state):
    "What the library makes of the same run and state."
    from concurrent.futures import ThreadPoolExecutor
    from mmemo.panels.embedding import embedding_panel
    def make(): panel = embedding_panel(guided_run(), **state); panel.wait(180); return panel
    with ThreadPoolExecutor(1) as apart: return apart.submit(make).result() # the browser's driver runs a loop on this thread


def alone(now): # a point that no other covers
    at = np.array([p['at'] for p in now['points']])
    away = np.linalg.norm(at[:, None] - at[None], axis=-1) + 1e9*np.eye(len(at))
    return now['points'][max((i for i, p in enumerate(now['points']) if p['id']), key=lambda i: away[i].min())]


def choose(page, label, value): select(page, label).select_option(label=value)


def test_the_plane_is_the_librarys(page):
    now, panel = plane(page), expected()
    want = {c: tuple(p) for c, p in zip(panel.controller.clips.clip_id, panel.controller.points)}
    assert {p['id'] for p in now['points'] if p['id']} == set(want)
    assert all(np.allclose(want[p['id']], (p['x'], p['y']), atol=1e-4) for p in now['points'] if p['id'])
    stars = {p['about']: (p['x'], p['y']) for p in now['points'] if not p['id']}
    assert all(np.allclose(stars[c], panel.reading.stars[c], atol=1e-4) for c in panel.reading.stars)
    page.screenshot(path=SHOTS/'embedding-first-1280.png', full_page=True)


def test_a_click_brings_the_clips_film(page):
    before = plane(page)
    point = alone(before)
    page.mouse.click(*point['at'])
    page.locator('.mmemo-player').wait_for(timeout=20_000)
    page.wait_for_function(f"() => document.querySelector('.mmemo-player .mm-facts')?.textContent.includes('{point['id']}')", timeout=20_000)
    page.wait_for_function("() => document.querySelector('.mmemo-player video')?.readyState >= 2", timeout=30_000)
    page.wait_for_timeout(500)
    ring = page.evaluate(RINGS)
    assert len(ring) == 1 and np.allclose(ring[0], alone(plane(page))['at'], atol=2)
    assert [p['colour'] for p in plane(page)['points']] == [p['colour'] for p in before['points']], 'nothing else was coloured'
    panel = expected(); i = panel.controller.clips.clip_id.tolist().index(point['id'])
    nearest = panel.reading.named[i]
    assert page.locator('.mmemo-title').nth(1).inner_text() == f'Nearest are the prompts of {nearest}'
    page.screenshot(path=SHOTS/'embedding-click-1280.png', full_page=True)


def test_a_colour_moves_no_point(page):
    before = plane(page)
    choose(page, 'colour', 'subject')
    now = wait_for(page, lambda n: 'by subject' in n['title'], 'another colour')
    place = lambda n: {p['id'] or p['about']: (p['x'], p['y']) for p in n['points']}
    assert place(now) == place(before)
    subjects = expected().controller.clips.set_index('clip_id').subject
    assert all(p['about'] == subjects[p['id']] for p in now['points'] if p['id'])
    choose(page, 'colour', 'label')
    wait_for(page, lambda n: 'by label' in n['title'], 'the labels again')


def test_a_lasso_fills_the_table(page):
    now = plane(page)
    at = np.array([p['at'] for p in now['points'] if p['id']])
    (x0, y0), (x1, y1) = at.min(0) - 12, at.max(0) + 12
    page.mouse.move(x0, y0); page.mouse.down()
    for x, y in ((x1, y0), (x1, y1), (x0, y1), (x0, y0 + 2)): page.mouse.move(x, y, steps=6)
    page.mouse.up()
    n = sum(1 for p in now['points'] if p['id'])
    page.get_by_text(f'{n} clips').first.wait_for(timeout=20_000)
    page.screenshot(path=SHOTS/'embedding-lasso-1280.png', full_page=True)


def test_a_prompt_moves_its_star_and_no_other(page):
    before = {p['about']: (p['x'], p['y']) for p in plane(page)['points'] if not p['id']}
    choose(page, 'prompts of', 'Fear')
    text = page.locator('.widget-textarea textarea')
    page.wait_for_function("() => document.querySelector('.widget-textarea textarea').value.includes('fearful')")
    text.fill('a happy face\nan utterly jolly person')
    page.get_by_role('button', name='Apply').click()
    stars = lambda n: {p['about']: (p['x'], p['y']) for p in n['points'] if not p['id']}
    now = wait_for(page, lambda n: stars(n) != before, 'another star')
    assert {c for c in before if stars(now)[c] != before[c]} == {'Fear'}
    panel = expected(prompts=dict(Fear=['a happy face', 'an utterly jolly person']))
    assert np.allclose(stars(now)['Fear'], panel.reading.stars['Fear'], atol=1e-4)
    assert f'{panel.reading.score:.3f} of' in page.locator('body').inner_text() and '“utterly”' in page.locator('body').inner_text()
    page.screenshot(path=SHOTS/'embedding-prompts-1280.png', full_page=True)
    page.get_by_role('button', name='Reset all').click()
    wait_for(page, lambda n: stars(n) == before, 'the own star again')


def test_while_typing(page):
    page.wait_for_function("() => document.querySelector('.widget-textarea textarea').value.includes('fearful')")
    page.get_by_text('while typing').click()
    page.locator('.widget-textarea textarea').fill('a sad face')
    page.get_by_text('Edited: Fear').wait_for(timeout=10_000)
    page.get_by_text('while typing').click(); page.get_by_role('button', name='Reset all').click()
    page.get_by_text('Edited: Fear').wait_for(state='detached', timeout=10_000)


def test_dark_and_narrow(page):
    for theme, paper in (('Dark', '#111111'), ('Light', '#FFFFFF')):
        page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
        wait_for(page, lambda n: n['paper'] == paper, theme)
        for width in (900, 1280):
            page.set_viewport_size(dict(width=width, height=1500))
            wait_for(page, lambda n: abs(n['width'] - n['inside']) <= 2, 'the figure follows the window')
            page.wait_for_timeout(700)
            page.screenshot(path=SHOTS/f'embedding-{theme.lower()}-{width}.png', full_page=True)
            assert page.evaluate(CLIPPED) == [] and not page.evaluate("() => [...document.querySelectorAll('.mmemo-figure, .mmemo-player, .mmemo-title')].some(g => g.getBoundingClientRect().right > innerWidth)")
            small = page.evaluate("() => [...document.querySelectorAll('.mmemo-figure text, .jp-OutputArea-output div, .jp-OutputArea-output label')].filter(t => t.children.length === 0 && t.textContent.trim() && parseFloat(getComputedStyle(t).fontSize) < 12).map(t => t.textContent)")
            assert small == []


def test_nothing_went_wrong(page):
    assert page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    assert not page.errors, page.errors
