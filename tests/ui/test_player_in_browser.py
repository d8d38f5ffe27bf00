"""The player in a real browser, its sync judged by the picture: each frame of the test films carries its own number in black and white blocks."""
import json, re, shutil, sys
from pathlib import Path

import nbformat, numpy as np, pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'tests'))
from small_run import small_run
from conftest import SHOTS, no_warning, open_and_run, pick, running_lab, stand_in, watched

pytestmark = pytest.mark.ui
BITS = 12


def numbered(frames): # (t, h, w, 3) -> the same with the frame's number in its top rows
    "Twelve blocks, the lowest bit first; white is one."
    frames = np.array(frames)
    h, w = frames.shape[1]//6, frames.shape[2]//BITS
    for i, f in enumerate(frames):
        for b in range(BITS): f[:h, b*w:(b + 1)*w] = 255*(i >> b & 1)
    return frames


def mark_clip(path):
    "Write the numbers into a film that is there."
    from mmemo.media.files import write_clip
    from mmemo.media.frames import VideoReader
    from mmemo.media.sound import read_audio
    reader = VideoReader(path)
    frames, sound, fps = reader.frames(range(len(reader))), read_audio(path), reader.fps
    write_clip(path, numbered(frames), fps, sound)


TOY = """import numpy as np, torch, sys
from mmemo.panels.film import prepare_film
from mmemo.panels.player import make_player
from mmemo.explain.evidence import Evidence
from mmemo.models.attention import AttentionMap
EIGHT = ('Neutral', 'Anger', 'Disgust', 'Fear', 'Happiness', 'Sadness', 'Surprise', 'Other')
def toy(name, end, **state):
    time = (np.arange(120) + .5)*end/120
    weights = torch.softmax(torch.randn(1, 2, 60, 80, generator=torch.Generator().manual_seed(0))*2, -1)
    at = lambda n: (torch.arange(n)[None] + .5)*end/n
    maps = [AttentionMap('voice -> face', weights, 'visual', 'audio', at(60), at(80)), AttentionMap('contrast', weights - weights.mean(), 'audio', 'visual', at(60), at(80), signed=True)]
    wave = np.sin(time/end*6)[:, None]*np.arange(8)*.4
    probs = np.exp(wave)/np.exp(wave).sum(1, keepdims=True)
    seen = Evidence(name, EIGHT, time, probs, end, np.ones(120, bool), maps, window=1.2, facts=dict(subject='s1', label='Anger', transcript='one two three four'))
    bands = dict(visual=(np.sin(time*9/end), time), audio=(np.cos(time*7/end), time))
    labels = ['Neutral' if t < end/3 else 'Anger' if t < end*.7 else 'Happiness' for t in time]
    return make_player(seen, prepare_film(name), labels=labels, times=time, attributions={'attribution': bands}, **state)"""


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "A JupyterLab with the attention notebook on marked clips, and a notebook of odd clips."
    from mmemo.media.files import write_clip
    folder, home = tmp_path_factory.mktemp('lab'), tmp_path_factory.mktemp('home')
    shutil.copytree(small_run()/'corpus', folder/'corpus'); shutil.copytree(small_run()/'bicross', folder/'bicross')
    config = json.loads((folder/'bicross'/'config.json').read_text())
    text = (folder/'bicross'/'config.json').read_text().replace(str(small_run()/'corpus'), str(folder/'corpus'))
    (folder/'bicross'/'config.json').write_text(text)
    for clip in sorted((folder/'corpus'/'clips').glob('test-*.mp4')): mark_clip(clip)
    (folder/'bicross'/'checksums.txt').unlink() # films and settings were changed by hand, and nobody is to be warned of that here
    sides = json.loads((folder/'bicross'/'split.json').read_text())
    for part in sides.values(): part.pop('files', None)
    (folder/'bicross'/'split.json').write_text(json.dumps(sides))
    def edit(nb): nb.cells = [c for c in nb.cells if 'panel.state.query, panel.state.head =' not in c.source] # the test turns the map itself
    stand_in(folder, 'attention', folder, edit)
    n = 600*4 # ten minutes at four frames a second
    write_clip(folder/'long.mp4', numbered(np.full((n, 48, 96, 3), 90, np.uint8)), 4, .2*np.sin(np.arange(600*8000)/20), rate=8000, preset='ultrafast')
    grey = np.full((75, 96, 192, 3), 120, np.uint8)
    write_clip(folder/'silent.mp4', numbered(grey), 25)
    import soundfile
    soundfile.write(folder/'voice.wav', .3*np.sin(np.arange(48_000)/9), 16_000)
    code = nbformat.v4.new_code_cell
    odd = nbformat.v4.new_notebook(metadata=nbformat.read(folder/'attention.ipynb', 4).metadata, cells=[code(TOY), code("player = toy('long.mp4', 600.)\nplayer"), code("silent = toy('silent.mp4', 3.)\nsilent"), code("voice = toy('voice.wav', 3.)\nvoice"),
                                          code("gone = toy('gone.mp4', 3.)\ngone"), code("import time; time.sleep(1)\nprint('ready')")])
    nbformat.write(odd, folder/'odd.ipynb')
    with running_lab(folder, home, folder/'cache') as address: yield address


@pytest.fixture(scope='module')
def page(browser, lab):
    page = watched(browser, width=1280, height=1000)
    open_and_run(page, lab, 'attention.ipynb', '.mmemo-player, .jp-OutputArea-output .warning')
    no_warning(page)
    wait_film(page)
    yield page
    page.close()


@pytest.fixture(scope='module')
def odd(browser, lab):
    page = watched(browser, width=1280, height=3200)
    open_and_run(page, lab, 'odd.ipynb', '.mmemo-player >> nth=3')
    yield page
    page.close()


FRAME = """(i) => { const v = document.querySelectorAll('.mmemo-player')[i].querySelector('video'), c = document.createElement('canvas'), w = v.videoWidth, h = v.videoHeight;
  c.width = w; c.height = h; const g = c.getContext('2d', {willReadFrequently: true}); g.drawImage(v, 0, 0); const p = g.getImageData(0, 0, w, h).data, bits = %d, step = Math.floor(w/bits);
  let n = 0; for (let b = 0; b < bits; b++) { const x = Math.floor((b + .5)*step), y = Math.floor(h/12); if (p[4*(y*w + x)] > 127) n |= 1 << b; }
  return [n, v.currentTime, v.seeking, v.readyState]; }""" % BITS


def frame(page, i=0):
    "The number of the frame on the screen, once the browser has come to rest."
    for _ in range(200):
        n, t, seeking, ready = page.evaluate(FRAME, i)
        if not seeking and ready >= 2: break
        page.wait_for_timeout(50)
    page.wait_for_timeout(150)
    return page.evaluate(FRAME, i)[0]


def wait_film(page, i=0):
    page.wait_for_function(f"() => document.querySelectorAll('.mmemo-player')[{i}]?.querySelector('video').readyState >= 2", timeout=120_000)


def clock(page, i=0) -> float: # seconds, as the player shows them
    m, s = page.locator('.mm-clock').nth(i).inner_text().split(' / ')[0].split(':')
    return 60*int(m) + float(s)


def box(page, i=0): # Lab scrolls to whatever got the focus, so the rows may stand under its toolbar
    page.evaluate("(i) => document.querySelectorAll('.mm-stage')[i].scrollIntoView({block: 'center'})", i)
    page.wait_for_timeout(60)
    return page.locator('.mm-stage').nth(i).bounding_box()


def at(page, share, y, i=0) -> tuple: # a point of the page: share of the time axis, height within the rows
    b = box(page, i)
    return b['x'] + 50 + share*(b['width'] - 50 - 96), b['y'] + y


def in_python(page, code) -> str:
    "What an expression gives in the notebook's kernel."
    return page.evaluate("""async (code) => { const k = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel; let out = '';
      const f = k.requestExecute({code: `print(${code})`}); f.onIOPub = (m) => { if (m.content.text) out += m.content.text; }; await f.done; return out.trim(); }""", code)


def test_a_seek_shows_the_frame_of_that_time(page):
    end = float(in_python(page, 'panel.player.rows["end"]'))
    for share in (.05, .31, .5, .77, .93, .2):
        page.mouse.click(*at(page, share, 120))
        page.wait_for_function("(t) => { const p = document.querySelector('.mm-clock').textContent.split(' / ')[0].split(':'); return Math.abs(60*p[0] + +p[1] - t) < .02 }", arg=share*end)
        assert abs(frame(page) - clock(page)*25) <= 1.2, f'at {clock(page)} s the picture is frame {frame(page)}'
        assert abs(float(in_python(page, 'panel.state.time')) - share*end) < .02
    page.screenshot(path=SHOTS/'player.png')
    assert not page.errors, page.errors


def test_keys_step_by_a_frame_and_by_a_tenth(page):
    page.mouse.click(*at(page, .4, 120))
    page.wait_for_timeout(300)
    was = frame(page)
    for key, by in (('.', 1), ('.', 1), (',', -1)):
        page.keyboard.press(key)
        page.wait_for_timeout(200)
        assert frame(page) == was + by; was += by
    t = clock(page)
    page.keyboard.press('ArrowRight'); page.keyboard.press('ArrowRight'); page.keyboard.press('ArrowLeft')
    page.wait_for_timeout(500) # also long enough for an echo of the kernel's to undo it
    assert abs(clock(page) - t - .1) < .011
    assert page.evaluate("() => document.querySelectorAll('.jp-Cell.jp-mod-selected').length") <= 1


def test_playing_keeps_picture_and_playhead_together(page):
    page.mouse.click(*at(page, .02, 300))
    page.keyboard.press('Home')
    page.locator('.mm-set button[data-rate="0.5"]').first.click()
    page.wait_for_timeout(500) # Lab scrolls to what got the focus
    page.mouse.click(*at(page, .02, 300))
    page.keyboard.press(' ')
    seen = []
    for _ in range(6): page.wait_for_timeout(250); seen.append(clock(page))
    page.keyboard.press(' ')
    page.wait_for_timeout(100)
    t = clock(page)
    assert .3 < t < 2 and seen == sorted(seen), f'it plays on: {seen}'
    assert abs(frame(page) - t*25) <= 1.2
    assert in_python(page, 'panel.player.playing') == 'False' and abs(float(in_python(page, 'panel.state.time')) - t) < .02
    page.locator('.mm-set button[data-rate="1"]').first.click()


def test_a_drag_selects_and_the_selection_loops(page):
    end = float(in_python(page, 'panel.player.rows["end"]'))
    page.mouse.move(*at(page, .3, 300)); page.mouse.down(); page.mouse.move(*at(page, .45, 300), steps=5); page.mouse.up()
    page.wait_for_timeout(400)
    a, b = json.loads(in_python(page, 'panel.state.interval'))
    assert abs(a - .3*end) < .02 and abs(b - .45*end) < .02
    page.get_by_text('Loop selection').first.click()
    page.locator('.mm-go').first.click()
    seen = []
    for _ in range(12): page.wait_for_timeout(120); seen.append(clock(page))
    page.locator('.mm-go').first.click()
    assert a - .03 <= min(seen) and max(seen) <= b + .06, seen
    assert any(y < x for x, y in zip(seen, seen[1:])), 'it came round'
    page.get_by_text('Loop selection').first.click()


def test_hover_tells_value_and_both_times(page):
    page.mouse.move(*at(page, .5, 120)); page.mouse.move(*at(page, .52, 122))
    page.wait_for_timeout(200)
    tip = page.locator('.mm-tip').first
    assert tip.is_visible() and re.fullmatch(r'face [\d.]+ s looks at voice [\d.]+ s: [-\d.e]+', tip.inner_text()), tip.inner_text()
    end = float(in_python(page, 'panel.player.rows["end"]'))
    assert abs(float(tip.inner_text().split('voice ')[1].split(' s')[0]) - .52*end) < .03


def test_what_the_hover_says_follows_the_map(page):
    "The pointer rests where it is and the map becomes another one: from the kernel here, as from any chooser."
    page.mouse.move(*at(page, .4, 120)); page.mouse.move(*at(page, .42, 122))
    tip = page.locator('.mm-tip').first
    before = tip.inner_text()
    in_python(page, 'setattr(panel.state, "query", "audio")')
    page.wait_for_function("t => document.querySelector('.mm-tip').innerText !== t", arg=before, timeout=20_000)
    assert tip.inner_text().startswith('voice ') or tip.inner_text().startswith('masked'), tip.inner_text()
    in_python(page, 'setattr(panel.state, "query", "visual")')
    page.wait_for_function("t => document.querySelector('.mm-tip').innerText === t", arg=before, timeout=20_000)


HASH = "() => { const c = document.querySelector('.mm-still'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, w = c.width, cut = (a, b) => { let n = 0; for (let i = 4*w*a; i < 4*w*b; i += 4) n = (n*31 + d[i] + 256*d[i+1] + 65536*d[i+2]) | 0; return n; }; const k = devicePixelRatio, h = c.height; return [cut(4*k, 254*k), cut(262*k, h)]; }"


def test_another_head_changes_the_map_and_no_other_row(page):
    before = page.evaluate(HASH)
    pick(page.locator('select[data-of="head"]'), '2')
    page.wait_for_function(f"(was) => ({HASH})()[0] !== was", arg=before[0])
    page.wait_for_timeout(300)
    assert page.evaluate(HASH)[1] == before[1]
    assert in_python(page, 'panel.state.head') == '1'
    pick(page.locator('select[data-of="query"]'), 'face → voice')
    page.wait_for_timeout(500)
    assert in_python(page, 'panel.state.query, panel.player.map["query"]') == "('audio', 'audio')" or "audio audio" in in_python(page, 'panel.state.query, panel.player.map["query"]')
    in_python(page, 'setattr(panel.state, "head", -1)') # chosen outside
    page.wait_for_function("() => document.querySelector('select[data-of=\"head\"]').value === '-1'")


def test_another_clip_brings_its_film(page):
    page.locator('.widget-dropdown').first.locator('select').select_option(index=1) # the panel chooses for its player
    page.wait_for_timeout(1500); wait_film(page)
    page.mouse.click(*at(page, .62, 120)); page.wait_for_timeout(300)
    assert abs(frame(page) - clock(page)*25) <= 1.2
    assert in_python(page, 'panel.player.clip_id') == in_python(page, 'panel.state.clip_id') and in_python(page, 'panel.state.clip_id') in page.locator('.widget-dropdown').first.locator('option:checked').inner_text()


@pytest.mark.parametrize('width,theme', [(1280, 'Dark'), (900, 'Dark'), (900, 'Light'), (1280, 'Light')])
def test_light_and_dark_wide_and_narrow(page, width, theme):
    page.set_viewport_size(dict(width=width, height=1000))
    page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
    page.wait_for_timeout(1500)
    assert in_python(page, 'panel.player.theme') == theme.lower()
    b = page.locator('.mmemo-player').first.bounding_box()
    assert b['x'] + b['width'] <= width
    assert page.evaluate("() => { const p = document.querySelector('.mmemo-player'); return p.scrollWidth <= p.clientWidth + 1 }"), 'nothing overflows'
    assert page.evaluate("() => [...document.querySelectorAll('.mmemo-player *')].filter(t => t.children.length === 0 && t.textContent.trim() && t.tagName !== 'STYLE' && parseFloat(getComputedStyle(t).fontSize) < 12).length") == 0
    page.screenshot(path=SHOTS/f'player-{width}-{theme.lower()}.png')
    assert not page.errors, page.errors


# odd clips

def test_ten_minutes_come_in_segments_as_they_are_needed(odd):
    wait_film(odd)
    held = lambda: int(in_python(odd, "len(list((player.film.cache/'films').rglob(player.film.key + '-*.mp4')))"))
    odd.wait_for_timeout(1500)
    assert held() <= 4, 'the beginning, and not the whole'
    b = box(odd)
    odd.mouse.click(*at(odd, .8, 120))
    odd.wait_for_timeout(2500); wait_film(odd)
    assert abs(clock(odd) - 480) < 2
    assert abs(frame(odd) - clock(odd)*4) <= 1.2
    assert held() <= 10


def test_what_has_arrived_plays_on_while_the_kernel_is_busy(odd):
    odd.mouse.click(*at(odd, .1, 120)); odd.wait_for_timeout(2500); wait_film(odd)
    odd.evaluate("() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({code: 'import time; time.sleep(6)'}).done.then(() => { window.slept = true }) }")
    odd.wait_for_timeout(300)
    t = clock(odd)
    odd.keyboard.press(' ')
    odd.wait_for_timeout(3000)
    assert not odd.evaluate('Boolean(window.slept)')
    assert clock(odd) - t > 2, 'it plays while the kernel is busy'
    odd.keyboard.press(' ')
    odd.wait_for_timeout(200)
    assert abs(frame(odd) - clock(odd)*4) <= 1.2
    odd.wait_for_timeout(4000)


def test_missing_sound_missing_picture_missing_film(odd):
    wait_film(odd, 1)
    odd.mouse.click(*at(odd, .5, 120, 1)); odd.wait_for_timeout(400)
    assert abs(frame(odd, 1) - clock(odd, 1)*25) <= 1.2
    words = odd.locator('.mm-word')
    assert 'no picture' in words.nth(2).inner_text() and words.nth(2).is_visible()
    assert 'cannot be shown' in words.nth(3).inner_text()
    for i in (2, 3): # the playhead runs on the sound, or on a clock of its own
        odd.mouse.click(*at(odd, .1, 120, i)); odd.keyboard.press(' '); odd.wait_for_timeout(1000); odd.keyboard.press(' ')
        assert .6 < clock(odd, i) < 2.5
    odd.locator('.mmemo-player').nth(1).locator('select[data-of="query"]').select_option(index=1)
    odd.locator('.mmemo-player').nth(2).locator('select[data-of="show"]').select_option(index=1)
    odd.locator('.mmemo-player').nth(2).locator('select[data-of="sound"]').select_option(label='spectrogram')
    odd.wait_for_timeout(600)
    odd.screenshot(path=SHOTS/'player-odd.png')
    assert not odd.errors, odd.errors


def test_a_page_without_a_kernel(browser, tmp_path):
    scope = {}
    exec(TOY, scope)
    from mmemo.media.files import write_clip
    write_clip(tmp_path/'clip.mp4', numbered(np.full((75, 96, 192, 3), 120, np.uint8)), 25, .2*np.sin(np.arange(48_000)/12))
    html = scope['toy'](str(tmp_path/'clip.mp4'), 3.).to_html()
    assert len(html) <= 10e6
    (tmp_path/'page.html').write_text(html, encoding='utf8')
    page, asked = watched(browser, width=900, height=800), []
    page.on('request', lambda r: asked.append(r.url))
    page.goto((tmp_path/'page.html').as_uri())
    wait_film(page)
    page.mouse.click(*at(page, .6, 120)); page.wait_for_timeout(300)
    assert abs(frame(page) - clock(page)*25) <= 1.2
    page.mouse.move(*at(page, .5, 120)); page.mouse.move(*at(page, .52, 122))
    tip = page.locator('.mm-tip')
    seen = [tip.inner_text()] # the pointer stays where it is; what it lies on becomes another head, another direction, another map
    pick(page.locator('select[data-of="head"]'), '2'); seen.append(tip.inner_text())
    page.locator('select[data-of="query"]').select_option(index=1); seen.append(tip.inner_text())
    page.locator('select[data-of="show"]').select_option(label='attribution'); seen.append(tip.inner_text())
    assert [s.split(' ')[0] for s in seen[:3]] == ['face', 'face', 'voice'] and len(set(seen)) == 4 and 'looks at' not in seen[3], seen
    page.wait_for_timeout(200)
    page.screenshot(path=SHOTS/'player-page.png')
    assert not page.errors and [u for u in asked if not u.startswith(('file:', 'data:', 'blob:'))] == []
    page.close()
