"""What tests in a real browser share: one browser a session, and a JupyterLab on a folder of notebooks."""
import os, shutil, socket, subprocess, sys, time, urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT/'screenshots'
CHROMIUM = next((c for c in ('/usr/bin/chromium', shutil.which('chromium') or '', shutil.which('google-chrome') or '') if c and Path(c).exists()), None)
SLOW = '[anywidget] Failed to initialize model' # anywidget gives a model two seconds; on a busy machine it takes longer and is drawn all the same, which the tests look at


@pytest.fixture(scope='session')
def browser():
    if not CHROMIUM:
        said = "no chromium on this machine, so nothing was tried in a browser: apt install chromium"
        if os.environ.get('MMEMO_UI') == '1': pytest.fail(said)
        pytest.skip(said)
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield b
        b.close()


@contextmanager
def running_lab(folder, home, cache): # -> address
    "A JupyterLab on a folder, with its settings and its cache elsewhere."
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    env = dict(os.environ, HOME=str(home), PYTHONPATH=f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", JUPYTER_CONFIG_DIR=str(home/'config'), JUPYTER_DATA_DIR=str(home/'data'),
               JUPYTER_RUNTIME_DIR=str(home/'runtime'), MMEMO_CACHE=str(cache))
    quiet = home/'config'/'lab'/'user-settings'/'@jupyterlab'/'apputils-extension'/'notification.jupyterlab-settings'
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with open(home/'lab.log', 'w') as log:
        server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', f'--port={port}', '--IdentityProvider.token=', '--ServerApp.password=',
                                   f'--ServerApp.root_dir={folder}', '--LabApp.expose_app_in_browser=True', '--LabApp.extension_manager=readonly', '--LabApp.news_url=None'],
                                  env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            for _ in range(240):
                try: urllib.request.urlopen(f'http://127.0.0.1:{port}/api').read(); break
                except OSError: time.sleep(.5)
            else: pytest.fail('JupyterLab did not start: ' + (home/'lab.log').read_text()[-800:])
            yield f'http://127.0.0.1:{port}'
        finally: server.terminate(); server.wait(30)


def open_and_run(page, lab, name, wait_for): # wait_for: a selector that the last cell's output holds
    "A notebook, run from top to bottom."
    page.goto(f'{lab}/lab/tree/{name}?reset')
    page.wait_for_selector('.jp-Notebook .jp-Cell', timeout=120_000)
    page.wait_for_function('window.jupyterapp')
    # cells that are run before the kernel has answered once are lost without a word
    page.wait_for_function("window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=180_000)
    page.wait_for_timeout(1000)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }") # not awaited: it ends when the last cell has
    page.wait_for_selector(wait_for, timeout=240_000)


def stand_in(folder, name, run, # of the small kind
             edit=lambda nb: None): # changes the notebook further
    "A workbench notebook, copied into a folder and pointed at a run."
    nb = nbformat.read(ROOT/'nbs'/'workbench'/f'{name}.ipynb', 4)
    at = next(c for c in nb.cells if 'parameters' in c.metadata.get('tags', []))
    at.source = at.source.replace("'runs/demo'", repr(str(run)))
    edit(nb)
    nbformat.write(nb, folder/f'{name}.ipynb')


@contextmanager
def lab_for(tmp_path_factory, name, run, cache, edit=lambda nb: None): # -> address
    "A JupyterLab with one workbench notebook in it."
    folder, home = tmp_path_factory.mktemp('lab'), tmp_path_factory.mktemp('home')
    stand_in(folder, name, run, edit)
    with running_lab(folder, home, cache) as address: yield address


OURS = ('mmemo', 'plotly', 'Plotly', 'anywidget')

def watched(browser, height, width=1280):
    "A page that remembers what went wrong in it: `page.errors`."
    SHOTS.mkdir(exist_ok=True)
    page = browser.new_page(viewport=dict(width=width, height=height))
    page.errors = []
    page.on('pageerror', lambda e: page.errors.append(str(e)))
    page.on('console', lambda m: page.errors.append(m.text) if m.type == 'error' and SLOW not in m.text and any(k in m.text for k in OURS) else None)
    return page


def no_warning(page):
    "A panel is there, and not the sentence that stands in its place."
    if said := page.locator('.jp-OutputArea-output .warning').all_inner_texts(): pytest.fail(f'no panel: {said[0]}')


def until(page, look, condition, what, shot, seconds=90): # look: page -> name -> figure
    "What is on the page once the condition holds."
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if condition(now := look(page)): return now
        page.wait_for_timeout(200)
    page.screenshot(path=SHOTS/f'{shot}-failed.png', full_page=True)
    pytest.fail(f'{what}: not within {seconds} s; the page shows ' + str({n: (f['title'], f['drawn']) for n, f in look(page).items()}))


def select(page, label): return page.locator('.widget-dropdown', has=page.locator(f'label:text-is("{label}")')).locator('select') # the dropdown with this description


def pick(choice, text): # choice: a locator of a select; the option of this text, whatever stands behind it in brackets
    options = [o.replace('\xa0', ' ') for o in choice.locator('option').all_inner_texts()] # widgets keep their blanks
    choice.select_option(index=next(i for i, o in enumerate(options) if o == text or o.startswith(f'{text} (')))


def tab(page, name): page.locator('.jp-OutputArea-output').get_by_role('tab', name=name).click()


def changed(before, after): return {n for n in before if before[n]['data'] != after[n]['data']}


CLIPPED = """() => [...document.querySelectorAll('svg text')].filter(t => { const r = t.getBoundingClientRect(), g = t.closest('.js-plotly-plot');
  if (!r.width || !g) return false; const q = g.getBoundingClientRect();
  return r.left < q.left - 1 || r.right > q.right + 1 || r.top < q.top - 1 || r.bottom > q.bottom + 1 }).map(t => t.textContent)"""
SMALL = "() => [...document.querySelectorAll('.jp-OutputArea-output svg text, .jp-OutputArea-output .widget-label, .jp-OutputArea-output button')].filter(t => t.textContent.trim() && parseFloat(getComputedStyle(t).fontSize) < 12).map(t => t.textContent)"
OUTSIDE = "() => [...document.querySelectorAll('.mmemo-figure, .mmemo-title, .widget-dropdown, .widget-slider, .jp-OutputArea-output button')].filter(g => g.offsetWidth && g.getBoundingClientRect().right > innerWidth).map(g => g.className)"
