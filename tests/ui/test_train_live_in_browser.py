"""Training in JupyterLab: pressed, watched, asked other things meanwhile, stopped; the picture is the history in the run's folder."""
import json, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'tests'))
from small_run import small_run
from conftest import CLIPPED, SHOTS, lab_for, open_and_run, select, watched

pytestmark = pytest.mark.ui
DATA = "() => { const g = document.querySelector('.mmemo-figure'); return (g?.data ?? []).map(d => ({name: d.name, x: Array.from(d.x ?? []), y: Array.from(d.y ?? [])})) }"


@pytest.fixture(scope='module')
def place(tmp_path_factory): return tmp_path_factory.mktemp('trained')


@pytest.fixture(scope='module')
def page(browser, place, tmp_path_factory):
    "The notebook, run from top to bottom."
    def edit(nb): next(c for c in nb.cells if 'parameters' in c.metadata.get('tags', [])).source = f'run, out = {str(small_run())!r}, {str(place)!r}'
    with lab_for(tmp_path_factory, 'train_live', small_run(), small_run()/'cache', edit) as lab:
        page = watched(browser, 1500)
        open_and_run(page, lab, 'train_live.ipynb', '.mmemo-figure .main-svg')
        page.wait_for_function("() => document.querySelector('input[type=number]')?.value === '6'", timeout=60_000) # the last cell ran: code sets what the hand sets
        yield page
        page.close()


def button(page, name): return page.get_by_role('button', name=name, exact=True)
def choose(page, label, value): select(page, label).select_option(value)


def fill(page, label, value):
    field = page.locator('.widget-text', has=page.locator(f'label:text-is("{label}")')).locator('input')
    field.fill(str(value)); field.press('Enter')


def train_and_wait(page, n):
    button(page, 'Train').click()
    page.wait_for_function(f"() => document.querySelectorAll('.lm-Widget table tbody tr').length && [...document.querySelectorAll('.widget-html table')].some(t => t.rows.length === {n + 1})", timeout=120_000)
    page.wait_for_timeout(300)


def recorded(folder): return [json.loads(x) for x in (folder/'history.jsonl').read_text().splitlines()]


def test_a_training_draws_its_history(page, place):
    assert page.evaluate(DATA) == [] or not [d for d in page.evaluate(DATA) if d['y']]
    assert page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    page.screenshot(path=SHOTS/'train-live-before.png', full_page=True)
    choose(page, 'model', 'audio'); fill(page, 'epochs', 5); fill(page, 'learning rate', 0.002)
    train_and_wait(page, 1)
    lines, history = {d['name']: d for d in page.evaluate(DATA)}, recorded(place/'audio')
    assert lines['training']['y'] == pytest.approx([h['train_loss'] for h in history]) and len(history) == 5
    assert [d['y'] for d in page.evaluate(DATA) if d['name'] == 'validation'][1] == pytest.approx([h['val_score'] for h in history])


def test_an_unrelated_control_leaves_the_picture_alone(page):
    before = page.evaluate(DATA)
    fill(page, 'seed', 3); choose(page, 'model', 'visual')
    page.wait_for_timeout(700)
    assert page.evaluate(DATA) == before


def test_it_is_stopped_while_other_cells_answer(page, place):
    fill(page, 'epochs', 400)
    button(page, 'Train').click()
    page.wait_for_function("() => [...document.querySelectorAll('.widget-html-content')].some(e => /[2-9][0-9]* of 400 epochs done/.test(e.textContent))", timeout=90_000)
    cell = page.locator('.jp-CodeCell', has_text='panel.selection.tail()')
    cell.locator('.cm-content').click(); page.keyboard.press('Control+Enter')
    page.wait_for_function("() => [...document.querySelectorAll('.jp-OutputArea-output table.dataframe')].some(t => t.textContent.includes('visual'))", timeout=30_000)
    assert button(page, 'Stop').is_enabled() and button(page, 'Train').is_disabled() # it was training all the while
    page.mouse.wheel(0, -3000); page.wait_for_timeout(200)
    page.screenshot(path=SHOTS/'train-live-running.png', full_page=True)
    button(page, 'Stop').click()
    page.wait_for_function("() => [...document.querySelectorAll('.widget-html-content')].some(e => /was stopped/.test(e.textContent))", timeout=60_000)
    page.wait_for_timeout(500)
    history, data = recorded(place/'visual'), page.evaluate(DATA)
    assert len(history) < 400 and {d['name']: d for d in data}['training']['y'] == pytest.approx([h['train_loss'] for h in history])
    assert [d for d in data if d['name'] == 'training 1 (audio)'][1]['y'] == pytest.approx([h['val_score'] for h in recorded(place/'audio')]) # thin, beside it


def test_the_test_subjects_are_looked_at_once(page, place):
    metrics = {m: json.loads((place/m/'metrics.json').read_text()) for m in ('audio', 'visual')}
    assert page.get_by_text('Test subjects:').count() == 0
    button(page, 'Look at the test subjects').click()
    page.wait_for_selector('text=Test subjects:', timeout=20_000)
    said = page.get_by_text('Test subjects:').inner_text()
    best = max(metrics, key=lambda m: metrics[m]['val']['all']['macro_f1']['value'])
    assert f"{metrics[best]['test']['all']['macro_f1']['value']:.2f}" in said and best in said
    assert button(page, 'Look at the test subjects').is_disabled()


def test_looks(page):
    for theme, dark in (('Light', False), ('Dark', True)):
        page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
        page.wait_for_function(f"() => document.querySelector('.mmemo-figure')._fullLayout.paper_bgcolor === '{'#111111' if dark else '#FFFFFF'}'", timeout=30_000)
        for width in (1280, 900):
            page.set_viewport_size(dict(width=width, height=1500))
            page.wait_for_function("() => { const g = document.querySelector('.mmemo-figure'); return Math.abs(g.offsetWidth - g._fullLayout.width) <= 2 }", timeout=30_000)
            page.wait_for_timeout(600)
            page.screenshot(path=SHOTS/f'train-live-{theme.lower()}-{width}.png', full_page=True)
            assert page.evaluate(CLIPPED) == []
            assert not page.evaluate("() => [...document.querySelectorAll('.jp-OutputArea .widget-button, .jp-OutputArea .widget-text, .mmemo-figure')].some(g => g.getBoundingClientRect().right > innerWidth)")
    page.set_viewport_size(dict(width=1280, height=1500))
    assert not page.errors, page.errors
