"""Predicting on a video of one's own, without a browser: uploads, paths, bad files, downloads, and what is left behind."""
import os, subprocess, sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmemo.media.files import write_clip
from mmemo.media.frames import VideoReader
from mmemo.panels.clip import clip_panel
from mmemo.panels.parts import NoPanel
from mmemo.commands.predict import predict_file
from mmemo.panels.video import VideoDesk, VideoPanel, video_panel
from small_run import small_run


@pytest.fixture
def panel():
    panel = video_panel(str(small_run()), example=False)
    yield panel
    panel.desk.job.wait(60)


@pytest.fixture(scope='module')
def clip(): return sorted((small_run()/'corpus'/'clips').glob('test-both*.mp4'))[-1]


def upload(panel, name, content, piece=240_000):
    "As the browser does it: the next piece when the kernel asks for it."
    button, asked = panel.view.upload, []
    button.send = lambda said, buffers=None: asked.append(said)
    button.heard(button, dict(kind='begin', name=name, size=len(content)), [])
    while asked[-1]['kind'] == 'more' and asked[-1]['at'] < len(content):
        at = asked[-1]['at']
        button.heard(button, dict(kind='piece', at=at), [memoryview(content[at:at + piece])])
    panel.desk.job.wait(90)
    return asked


def give_path(panel, path):
    panel.view.path.value = str(path); panel.view.go.click()
    panel.desk.job.wait(90)


def test_an_upload_is_predicted_as_the_command_line_does(panel, clip, tmp_path):
    upload(panel, 'mine.mp4', clip.read_bytes())
    expected = predict_file(clip, small_run()/'bicross', tmp_path, cache=tmp_path/'cache')
    made = panel.prediction.table.drop(columns='warning')
    pd.testing.assert_frame_equal(made, expected.table, check_exact=False, atol=2e-4)
    assert panel.view.player.facts[0] == ['clip', 'mine', ''] and panel.view.player.media['video'] and panel.view.answer.layout.display is None
    assert not panel.view.upload.disabled and panel.prediction.file.read_bytes() == clip.read_bytes()
    assert expected.evidence.predicted in panel.view.said.value


def test_command_clip_panel_and_this_panel_say_the_same_of_one_clip(panel, clip, tmp_path):
    command = predict_file(clip, small_run()/'bicross', tmp_path, cache=tmp_path/'cache')
    start = clip_panel(str(small_run()), clip_id=clip.stem)
    give_path(panel, clip)
    seen = command.evidence
    assert seen.window < seen.end/2 and start.state.window == 0, 'one window as long as the clip would give a flat line'
    playing = start.source.player(clip.stem)
    shown = start.source.evidence(clip.stem, start.state.window)
    for other in (shown, playing.evidence, panel.prediction.evidence):
        assert other.window == pytest.approx(seen.window) and np.allclose(other.time, seen.time)
        assert np.allclose(other.probs, seen.probs, atol=2e-4) and other.answer == seen.answer
    assert np.allclose(start.selection[list(seen.classes)], seen.probs, atol=2e-4)
    assert all(seen.answer in text for text in (str(command), start.view.facts.value, panel.view.said.value, str(playing.facts)))


def test_sound_that_goes_on_without_a_picture_is_told(clip, tmp_path):
    frames = np.stack(list(VideoReader(clip).frames(range(50))))
    hum = (.2*np.sin(np.arange(16000*9)/20)).astype('float32')
    write_clip(tmp_path/'credits.mp4', frames, 25, hum, 16000)
    found = predict_file(tmp_path/'credits.mp4', small_run()/'bicross', tmp_path/'out', faces='none', cache=tmp_path/'cache')
    assert found.evidence.end == pytest.approx(2., abs=.1)
    assert any('s of sound have no picture and are left out' in w for w in found.warnings), found.warnings


def test_the_film_comes_and_segments_point_at_it(panel, clip):
    give_path(panel, clip)
    said, buffers = panel.view.player.answer(dict(kind='piece', key=panel.view.player.media['key'], segment=0, piece=0))
    assert said['kind'] == 'piece' and len(buffers[0]) > 1000 and panel.desk.folder in panel.view.player.film.file(0).parents
    found, p = panel.controller.found, panel.prediction.evidence
    assert found.start[0] == 0 and found.end.iloc[-1] == pytest.approx(p.end) and (found.start[1:].to_numpy() == found.end[:-1].to_numpy()).all()
    for r in found.itertuples(): assert set(np.array(p.names)[(p.time >= r.start) & (p.time < r.end)]) == {r.label}
    assert panel.view.player.selection == [] and panel.state.segment == -1 and len(panel.selection) == len(found) # nobody has chosen one yet
    last = len(found) - 1
    panel.view.segments.index = last
    assert panel.view.player.time == found.start[last] and panel.view.player.selection == [found.start[last], found.end[last]]
    assert panel.selection.label.iloc[-1] == found.label[last] and panel.state.segment == last
    panel.view.player.selection = []
    assert len(panel.selection) == len(found)


def test_the_tiny_encoders_are_warned_of_before_and_after(panel, clip):
    assert 'mean nothing' in panel.view.doubt.value
    upload(panel, 'me.mp4', clip.read_bytes())
    assert 'mean nothing' in panel.view.doubt.value and 'mean nothing' in panel.to_html()
    shown = video_panel(str(small_run()))
    assert shown.prediction is not None and 'planted clip' in shown.view.said.value and 'mean nothing' in shown.view.doubt.value
    panel.desk.run.config.encoders = 'clip-vit-b32+wav2vec2-base'
    assert 'mean nothing' not in VideoPanel(VideoDesk(panel.desk.run), example=False).view.doubt.value
    panel.desk.run.config.encoders = 'tiny'


def bad_files(folder, clip):
    (folder/'empty.mp4').write_bytes(b'')
    (folder/'text.mp4').write_text('no film at all\n'*50)
    (folder/'cut.mp4').write_bytes(clip.read_bytes()[:3000])
    import av
    with av.open(str(folder/'sound.wav'), 'w') as c:
        track = c.add_stream('pcm_s16le', rate=16000, layout='mono')
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format='s16', layout='mono'); frame.sample_rate = 16000
        for packet in [*track.encode(frame), *track.encode(None)]: c.mux(packet)
    write_clip(folder/'long.mp4', np.zeros((260, 32, 32, 3), np.uint8), 1)
    return {'empty.mp4': 'is empty', 'text.mp4': 'expected a video', 'cut.mp4': 'cut.mp4:', 'sound.wav': 'no video track', 'long.mp4': '4 min 20 s long', 'nowhere.mp4': 'no such file', '': 'no path'}


def test_a_bad_file_is_one_sentence_and_what_was_shown_stays(panel, clip, tmp_path, capsys):
    panel.desk.longest = 250
    give_path(panel, clip)
    before = panel.view.player.map, panel.state.file
    for name, sentence in bad_files(tmp_path, clip).items():
        give_path(panel, tmp_path/name if name else '')
        said = panel.view.said.value
        assert sentence in said and 'class="warning"' in said and str(tmp_path) not in said, said
        assert 'Traceback' not in said and 'Error' not in said.replace('UserError', '')
        assert (panel.view.player.map, panel.state.file) == before and f'still {clip.name}' in said and not panel.view.go.disabled
    upload(panel, 'text.mp4', b'no film'*99)
    assert 'text.mp4: expected a video' in panel.view.said.value and 'mmemo-video' not in panel.view.said.value
    assert 'Traceback' not in capsys.readouterr().err


def test_progress_is_told(panel, clip):
    heard = []
    panel.view.said.observe(lambda c: heard.append(c['new']), 'value')
    shares = []
    panel.view.bar.observe(lambda c: shares.append(c['new']), 'value')
    give_path(panel, clip)
    assert any('encoding it' in x for x in heard) and any('asking the model' in x.lower() for x in heard) and (np.diff(shares) > -1e-9).all() and max(shares) > .8
    assert panel.view.bar.layout.display == 'none'


def test_downloads_are_what_they_say(panel, clip):
    assert not panel.view.csv.ready
    give_path(panel, clip)
    sent = []
    for button in (panel.view.csv, panel.view.page):
        button.send = lambda said, buffers=None: sent.append((said, buffers))
        button.heard(button, dict(kind='make'), []); button.job.wait(60)
        for i in range(1, sent[-1][0]['pieces']): button.heard(button, dict(kind='piece', piece=i), [])
    assert max(len(b[0]) for _, b in sent) <= 256_000
    names = [s['name'] for s, _ in sent]
    assert names[0] == f'{clip.stem}.csv' and set(names[1:]) == {f'{clip.stem}.html'}
    import io
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(sent[0][1][0])), panel.prediction.table, check_dtype=False)
    html = b''.join(b[0] for _, b in sent[1:]).decode()
    assert 'Segments' in html and 'mean nothing' in html and '</html>' in html and len(html) < 10e6


def test_an_upload_that_breaks_off_or_does_not_fit_says_so(panel, clip):
    button = panel.view.upload
    button.send = lambda *a: None
    button.heard(button, dict(kind='begin', name='a.mp4', size=999), [])
    assert button.disabled and panel.view.go.disabled and 'a.mp4' in panel.view.said.value
    button.heard(button, dict(kind='lost'), [])
    assert 'interrupted' in panel.view.said.value and not button.disabled and panel.prediction is None
    asked = upload(panel, 'b.mp4', type('Huge', (bytes,), dict(__len__=lambda self: 10**18))(b''))
    assert asked == [dict(kind='stop')] and 'MB left' in panel.view.said.value and not button.disabled


def test_only_the_last_upload_is_kept(panel, clip):
    for name in ('a.mp4', 'b.mp4'): upload(panel, name, clip.read_bytes())
    assert [p.name for p in panel.desk.folder.glob('uploads/*/*')] == ['b.mp4']


def test_without_a_run_or_with_one_that_reads_words(tmp_path):
    assert isinstance(video_panel(str(tmp_path)), NoPanel) and 'make demo' in video_panel(str(tmp_path)).sentence


def test_nothing_stays_behind(tmp_path, clip):
    "A script that uploads, looks at the film, and ends; another that is in the middle of it."
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from mmemo.panels.video import video_panel
panel = video_panel({str(small_run())!r}, example=False)
content = Path({str(clip)!r}).read_bytes()
button = panel.view.upload
button.heard(button, dict(kind='begin', name='private.mp4', size=len(content)), [])
button.heard(button, dict(kind='piece', at=0), [content])
if sys.argv[1] == 'whole':
    panel.desk.job.wait(); panel.view.player.film.file(0); panel.to_html()
    assert panel.prediction is not None
print(panel.desk.folder, flush=True)
"""
    for how in ('whole', 'middle'):
        home, temporary = tmp_path/how/'home', tmp_path/how/'tmp'
        home.mkdir(parents=True); temporary.mkdir()
        env = {k: v for k, v in os.environ.items() if k != 'MMEMO_SMALL_RUN'} | dict(HOME=str(home), MMEMO_CACHE=str(home/'cache'), TMPDIR=str(temporary), MMEMO_SMALL_RUN=str(small_run()))
        done = subprocess.run([sys.executable, '-c', code, how], env=env, cwd=home, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-1500:]
        assert str(temporary) in done.stdout and not Path(done.stdout.strip()).exists()
        left = [str(p) for p in tmp_path.joinpath(how).rglob('*') if p.is_file() and ('private' in p.name or 'cache' in str(p) and 'mmemo' in str(p)) or p.name.startswith('mmemo-video')]
        assert left == [] and not list((home/'cache').rglob('*.mp4')) and not list((home/'cache').rglob('*.safetensors'))
