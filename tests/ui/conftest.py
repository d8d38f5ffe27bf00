"""What tests in a real browser share: one browser a session, and a JupyterLab on a folder of notebooks."""
import os, shutil, socket, subprocess, sys, time, urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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
