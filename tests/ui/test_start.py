"""The workbench notebook and the report pages in a real browser."""
import hashlib, shutil, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'tests'))
from small_run import small_run
from conftest import CLIPPED, SHOTS, changed, lab_for, no_warning, open_and_run, pick, select, until, watched

pytestmark = pytest.mark.ui


@pytest.fixture(scope='session')
def lab(tmp_path_factory):
    "A JupyterLab with the workbench notebook in it, pointed at a small run."
    with lab_for(tmp_path_factory, 'start', small_run(), small_run()/'cache') as address: yield address


WHAT = """() => [...document.querySelectorAll('.mmemo-figure')].map(g => ({
  title: g.parentElement.querySelector('.mmemo-title')?.textContent ?? '', drawn: !!g.querySelector('.main-svg'), width: g.offsetWidth, inside: g._fullLayout?.width, paper: g._fullLayout?.paper_bgcolor,
  data: JSON.stringify(g.data ?? null), images: (g.layout?.images ?? []).map(i => i.source)}))"""
NAMES = ('strip', 'wave', 'curve', 'to_face', 'to_voice', 'lag')


def figures(page) -> dict:
    "What each figure on the page holds, as the browser has it."
    found = page.evaluate(WHAT)
    return {n: dict(f, data=hashlib.md5((f['data'] + ''.join(f['images'])).encode()).hexdigest(), drawn=f['drawn']) for n, f in zip(NAMES, found)}


def wait_for(page, condition, what, seconds=90): return until(page, figures, condition, what, 'start', seconds)


@pytest.fixture(scope='module')
def page(browser, lab):
    "The notebook, run from top to bottom."
    page = watched(browser, 1800)
    open_and_run(page, lab, 'start.ipynb', '.mmemo-figure, .jp-OutputArea-output .warning')
    no_warning(page)
    wait_for(page, lambda f: len(f) == 6 and all(x['drawn'] for x in f.values()), 'six figures')
    yield page
    page.close()


def choose(page, label, value):
    "Choose an entry of the dropdown with this description."
    select(page, label).select_option(value)


def clip_choice(page): return page.locator('.widget-dropdown').first.locator('select')


def test_everything_is_drawn_and_fits(page):
    now = wait_for(page, lambda f: all(abs(x['width'] - x['inside']) <= 2 for x in f.values()), 'figures as wide as the panel')
    assert all(x['width'] > 700 for x in now.values())
    assert page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    page.screenshot(path=SHOTS/'start.png', full_page=True)
    assert not page.errors, page.errors


def test_another_clip_changes_the_picture_to_that_clips_data(page):
    before = figures(page)
    options = clip_choice(page).locator('option').all_inner_texts()
    other = next(o for o in options[1:] if 'xor' not in o)
    clip_choice(page).select_option(label=other)
    now = wait_for(page, lambda f: changed(before, f) == set(NAMES), 'another clip')
    expected = in_python(other.split()[1])
    # the browser holds exactly what the library makes of that clip
    assert page.evaluate("() => document.querySelectorAll('.mmemo-figure')[0].layout.images.map(i => i.source)") == expected['images']
    assert now['curve']['title'] == expected['curve'] and now['to_face']['title'] == expected['to_face'] and now['wave']['title'] == expected['wave']
    page.screenshot(path=SHOTS/'start-other-clip.png', full_page=True)


def in_python(clip_id) -> dict:
    from mmemo.panels.clip import ClipPanel
    from mmemo.panels.source import open_source
    panel = ClipPanel(open_source(small_run()), clip_id=clip_id)
    f = {n: c.figure for n, c in panel.view.figures.items()}
    return dict(images=[i['source'] for i in f['strip']['layout']['images']], **{n: f[n]['title'] for n in ('curve', 'wave', 'to_face')})


def test_an_unrelated_control_changes_nothing_else(page):
    before = figures(page)
    pick(select(page, 'head'), '2')
    now = wait_for(page, lambda f: changed(before, f), 'another head')
    page.wait_for_timeout(800)
    assert changed(before, figures(page)) == {'to_face', 'to_voice'}
    before = figures(page)
    choose(page, 'sound', 'spectrogram')
    wait_for(page, lambda f: changed(before, f) == {'wave'}, 'the spectrogram')
    page.wait_for_timeout(800)
    assert changed(before, figures(page)) == {'wave'}


def test_the_clip_plays_in_place_of_its_frames(page):
    before = figures(page)
    page.get_by_role('button', name='Play this clip').click()
    page.wait_for_function("() => document.querySelector('.mmemo-player')?.querySelector('video').readyState >= 2", timeout=120_000)
    assert page.locator('.mmemo-figure').count() == 5, 'the film strip has gone'
    pick(page.locator('select[data-of="head"]'), '3')
    page.wait_for_timeout(1500)
    assert select(page, 'head').locator('option:checked').inner_text().split('(')[0].strip() == '3', 'one choice, shown twice'
    page.screenshot(path=SHOTS/'start-playing.png', full_page=True)
    page.get_by_role('button', name='Play this clip').click()
    now = wait_for(page, lambda f: len(f) == 6 and all(x['drawn'] for x in f.values()), 'the film strip is back')
    assert changed(before, now) == {'to_face', 'to_voice'} and page.locator('.mmemo-player').count() == 0
    assert not page.errors, page.errors


def test_dark_theme(page):
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    wait_for(page, lambda f: all(x['paper'] == '#111111' for x in f.values()), 'dark figures')
    page.screenshot(path=SHOTS/'start-dark.png', full_page=True)
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    wait_for(page, lambda f: all(x['paper'] == '#FFFFFF' for x in f.values()), 'light figures')


def test_a_narrow_window(page):
    page.set_viewport_size(dict(width=900, height=1800))
    wait_for(page, lambda f: all(abs(x['width'] - x['inside']) <= 2 for x in f.values()) and f['curve']['width'] < 880, 'figures follow the window')
    page.wait_for_timeout(500)
    assert not page.evaluate("() => [...document.querySelectorAll('.mmemo-figure, .mmemo-title')].some(g => g.getBoundingClientRect().right > innerWidth)")
    assert page.evaluate(CLIPPED) == [], 'nothing is clipped, though the file browser takes a third'
    page.screenshot(path=SHOTS/'start-900.png', full_page=True)
    page.set_viewport_size(dict(width=1280, height=1800))


# pages

SMALL = "() => [...document.querySelectorAll('svg text, body *')].filter(t => t.children.length === 0 && t.textContent.trim() && parseFloat(getComputedStyle(t).fontSize) < 12 && !t.closest('script, style')).map(t => t.textContent)"


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    from mmemo.commands.predict import predict_file
    from mmemo.pages.html import render_figure, render_page
    from mmemo.pages.report import write_report
    from mmemo.pages.clip_plots import plot_attention, plot_loudness, plot_spectrogram, plot_values
    from mmemo.pages.score_plots import plot_history, plot_nuisance, plot_scores
    import numpy as np, pandas as pd
    out = tmp_path_factory.mktemp('pages')
    shutil.copytree(small_run()/'bicross', out/'run')
    clip = next((small_run()/'corpus'/'clips').glob('test-both*.mp4'))
    predict_file(clip, out/'run', out/'predicted')
    f = lambda v: dict(value=v, ci95=[v - .05, min(1, v + .05)])
    rows = [dict(model=m, subset=s, macro_f1=f(v)) for m, v in dict(bicross=.95, visual=.55, audio=.53, linear=.62).items() for s in ('all', 'both', 'audio', 'video', 'xor')]
    curve = pd.DataFrame([dict(nuisance=x, model=m, value=a - .1*x, low=a - .1*x - .04, high=a - .1*x + .04) for x in (0, 1, 2) for m, a in (('bicross', .98), ('visual', .8), ('pixels', .4))])
    history = [dict(epoch=e, train_loss=2/(e + 1), train_text=1/(e + 1), val_loss=2.2/(e + 1), val_macro_f1=1 - 1/(e + 2), val_accuracy=1 - .9/(e + 2)) for e in range(20)]
    w = np.exp(-((np.arange(120)[None]/50 - np.arange(60)[:, None]/25)/.2)**2)
    figs = [plot_scores(rows), plot_nuisance(curve, chance=.13), plot_history(history, 12), plot_attention(w/w.sum(1, keepdims=True), np.arange(60)/25, np.arange(120)/50),
            plot_attention(w - .2, np.arange(60)/25, np.arange(120)/50, signed=True), plot_loudness(np.random.default_rng(0).normal(0, .1, 38400)), plot_spectrogram(np.random.default_rng(0).normal(0, .1, 38400)),
            plot_values(np.arange(60)/25, np.stack([np.sin(np.arange(60)/9), np.cos(np.arange(60)/9)], 1))]
    (out/'all.html').write_text(render_page('all figures', [render_figure(g, f'f{i}') for i, g in enumerate(figs)]), encoding='utf8')
    return dict(report=write_report(out/'run'), predicted=out/'predicted'/'report.html', figures=out/'all.html')


@pytest.mark.parametrize('name', ['report', 'predicted', 'figures'])
@pytest.mark.parametrize('width,scheme', [(1280, 'light'), (900, 'light'), (1280, 'dark')])
def test_pages_fit_and_need_no_network(browser, pages, name, width, scheme):
    SHOTS.mkdir(exist_ok=True)
    page = browser.new_page(viewport=dict(width=width, height=900), color_scheme=scheme)
    errors, asked = [], []
    page.on('pageerror', lambda e: errors.append(str(e))); page.on('request', lambda r: asked.append(r.url))
    page.goto(pages[name].as_uri())
    page.wait_for_function("() => { const f = [...document.querySelectorAll('.figure')]; return f.length && f.every(g => g.querySelector('.main-svg')) }", timeout=60_000)
    page.wait_for_timeout(300)
    page.screenshot(path=SHOTS/f'{name}-{width}-{scheme}.png', full_page=True)
    assert page.evaluate('document.documentElement.scrollWidth') <= width, 'nothing overflows'
    assert page.evaluate(CLIPPED) == [], 'nothing is clipped'
    assert page.evaluate(SMALL) == [], 'text is 12 px or more'
    assert not errors and [u for u in asked if not u.startswith(('file:', 'data:', 'blob:'))] == []
    paper = page.evaluate("() => document.querySelector('.figure')._fullLayout.paper_bgcolor")
    assert paper == ('#111111' if scheme == 'dark' else '#FFFFFF')
    page.close()
