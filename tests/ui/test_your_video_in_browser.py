"""A video of one's own in JupyterLab: uploaded, predicted, played, pointed at, saved."""
import json, re, struct, sys
from pathlib import Path

import pandas as pd, pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'tests'))
from small_run import small_run
from conftest import SHOTS, lab_for, open_and_run, watched

pytestmark = pytest.mark.ui
SAID = "() => [...document.querySelectorAll('.widget-html-content')].map(e => e.textContent).join(' | ')"


@pytest.fixture(scope='module')
def clips(): return sorted((small_run()/'corpus'/'clips').glob('test-both*.mp4'))


@pytest.fixture(scope='module')
def page(browser, tmp_path_factory):
    "The notebook, run from top to bottom: the example is shown."
    with lab_for(tmp_path_factory, 'your_video', small_run(), small_run()/'cache') as lab:
        page = watched(browser, 1700)
        open_and_run(page, lab, 'your_video.ipynb', '.jp-OutputArea-output video')
        page.wait_for_function("() => document.querySelector('video').readyState >= 2", timeout=60_000)
        yield page
        page.close()


@pytest.fixture(scope='module')
def chosen(tmp_path_factory):
    "A clip with several stretches, and the lines that the library makes of them."
    from mmemo.commands.predict import predict_file
    from mmemo.training.runs import load_run
    from mmemo.panels.video import format_segments, cut_segments
    run, place = load_run(small_run()/'bicross'), tmp_path_factory.mktemp('expected')
    for clip in sorted((small_run()/'corpus'/'clips').glob('test-*.mp4')):
        lines = [' '.join(x.split()) for x in format_segments(cut_segments(predict_file(clip, run, place, cache=place/'cache').evidence))]
        if len(lines) > 1: return clip, lines
    pytest.fail('no clip of the small run has more than one stretch')


def bring(page, name, content):
    "As a person uploads."
    with page.expect_file_chooser() as chooser: page.get_by_role('button', name='Upload a video').click()
    chooser.value.set_files(dict(name=name, mimeType='video/mp4', buffer=content))


def until_said(page, words, seconds=90): page.wait_for_function(f"() => ({SAID})().includes({json.dumps(words)})", timeout=seconds*1000)


def until_predicted(page, name, seconds=90): page.wait_for_function(f"() => /{re.escape(name)}: [A-Z][a-z]+ \\([0-9.]+\\) over/.test(({SAID})())", timeout=seconds*1000)


def test_the_example_is_shown_and_the_warning_stands(page):
    said = page.evaluate(SAID)
    assert 'mean nothing' in said and 'planted clip' in said
    assert page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    assert page.locator('.mmemo-segments option').count() >= 1
    page.screenshot(path=SHOTS/'your-video-example.png', full_page=True)


def test_an_upload_is_predicted_and_plays(page, chosen):
    clip, lines = chosen
    bring(page, 'mine.mp4', clip.read_bytes())
    until_predicted(page, 'mine.mp4')
    page.wait_for_function("() => document.querySelector('video').readyState >= 2", timeout=60_000)
    assert [' '.join(x.split()) for x in page.locator('.mmemo-segments option').all_inner_texts()] == lines
    page.wait_for_timeout(500)
    assert page.get_by_role('button', name='Loop clip').count() == 1 # no stretch is selected yet
    page.screenshot(path=SHOTS/'your-video-upload.png', full_page=True)


def test_a_segment_moves_the_playhead_and_nothing_else(page):
    options = page.locator('.mmemo-segments option')
    before = page.evaluate(SAID)
    n = options.count()
    assert n > 1 and page.evaluate("document.querySelector('video').currentTime") < .1
    start = float(options.nth(n - 1).inner_text().split()[0])
    assert start > .1
    page.locator('.mmemo-segments select').select_option(index=n - 1)
    page.wait_for_function(f"() => Math.abs(document.querySelector('video').currentTime - {start}) < .1", timeout=20_000)
    assert page.evaluate(SAID) == before


def test_the_table_and_the_page_are_saved(page, browser, tmp_path):
    for name, file in (('Save the table (CSV)', 'mine.csv'), ('Save the page (HTML)', 'mine.html')):
        with page.expect_download(timeout=90_000) as found: page.get_by_role('button', name=name).click()
        assert found.value.suggested_filename == file
        found.value.save_as(tmp_path/file)
    table = pd.read_csv(tmp_path/'mine.csv')
    assert {'time', 'label', 'Anger', 'warning'} <= set(table) and len(table) > 20
    other, errors, asked = browser.new_page(viewport=dict(width=1280, height=1100)), [], []
    other.on('pageerror', lambda e: errors.append(str(e))); other.on('request', lambda r: asked.append(r.url))
    other.goto((tmp_path/'mine.html').as_uri())
    other.wait_for_function("() => document.querySelector('video')?.readyState >= 2", timeout=30_000)
    other.screenshot(path=SHOTS/'your-video-page.png', full_page=True)
    assert not errors and [u for u in asked if not u.startswith(('file:', 'data:', 'blob:'))] == []
    assert 'Segments' in other.inner_text('body') and (tmp_path/'mine.html').stat().st_size < 10e6
    other.close()


def test_a_file_of_14_MB_arrives(page, chosen):
    "More than a notebook server takes in one message; the rest of the file is a box that players skip."
    size = 14*1024*1024
    bring(page, 'large.mp4', chosen[0].read_bytes() + struct.pack('>I', size) + b'free' + bytes(size - 8))
    page.wait_for_function(f"() => /uploading large.mp4: [0-9.]+ of 14/i.test(({SAID})())", timeout=30_000) # it says how far it is
    until_predicted(page, 'large.mp4')
    assert [' '.join(x.split()) for x in page.locator('.mmemo-segments option').all_inner_texts()] == chosen[1]


def test_a_bad_file_is_one_sentence(page):
    bring(page, 'notes.mp4', b'no film'*99)
    until_said(page, 'notes.mp4: expected a video')
    page.screenshot(path=SHOTS/'your-video-bad.png', full_page=True)
    assert 'large.mp4' in page.evaluate(SAID) and page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0


def test_a_path_is_read_where_it_lies(page, clips):
    field = page.locator('input[placeholder^="or the path"]')
    field.fill(str(clips[0])); field.press('Enter')
    until_predicted(page, clips[0].name)


def test_looks(page):
    for theme in ('Light', 'Dark'):
        page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
        for width in (1280, 900):
            page.set_viewport_size(dict(width=width, height=1700))
            page.wait_for_timeout(1500)
            page.screenshot(path=SHOTS/f'your-video-{theme.lower()}-{width}.png', full_page=True)
            assert not page.evaluate("() => [...document.querySelectorAll('.jp-OutputArea .widget-button, .jp-OutputArea .widget-text, .jp-OutputArea video, .jp-OutputArea canvas')].filter(g => g.offsetWidth).some(g => g.getBoundingClientRect().right > innerWidth)")
    page.set_viewport_size(dict(width=1280, height=1700))
    assert not page.errors, page.errors
