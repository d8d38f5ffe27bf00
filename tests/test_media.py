"""Media: what is exhaustive or needs odd files; the plain behaviour is tested in the notebook itself."""
import hashlib, os, subprocess, sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from mmemo.core import real_data
from mmemo.media.files import MediaError, probe, write_clip
from mmemo.media.frames import VideoReader, decord_version, torchcodec_version
from mmemo.media.sound import loudness_db, read_audio, read_audio_chunks

needs_decord = pytest.mark.skipif(decord_version() is None, reason='decord does not import on this machine')
needs_torchcodec = pytest.mark.skipif(torchcodec_version() is None, reason='torchcodec is not installed, or finds no FFmpeg')
OTHERS = [pytest.param('decord', marks=needs_decord), pytest.param('torchcodec', marks=needs_torchcodec)]


def pattern(n, h=96, w=128, start=0):
    "Frames that differ from each other everywhere."
    y, x = np.mgrid[:h, :w]
    for i in range(start, start + n):
        yield np.stack([128 + 90*np.sin((x + 2*i)/19), 128 + 60*np.cos((y - i)/17), (x + y + 3*i) % 256], -1).astype(np.uint8)


def write(path, n=30, codec='libx264', pixels='yuv420p', stamps=None, rotate=0, start=0, options=None, h=96, w=128, **context):
    "A video file of any kind; `stamps` are milliseconds, for a variable rate."
    with av.open(str(path), 'w') as c:
        v = c.add_stream(codec, rate=25, options=options or {})
        v.height, v.width, v.pix_fmt = h, w, pixels
        if rotate: v.set_display_rotation(rotate)
        if stamps is not None: v.codec_context.time_base = Fraction(1, 1000)
        for k, value in context.items(): setattr(v.codec_context, k, value)
        for i, f in enumerate(pattern(n, h, w)):
            f = av.VideoFrame.from_ndarray(f, format='rgb24')
            if stamps is not None: f.pts, f.time_base = stamps[i], Fraction(1, 1000)
            c.mux(v.encode(f))
        c.mux(v.encode(None))
    return path


def write_sound(path, samples, rate, codec='pcm_s16le'):
    "Sound of shape (channels, n) in any container."
    samples = np.atleast_2d(samples)
    layout = 'mono' if len(samples) == 1 else 'stereo'
    with av.open(str(path), 'w') as c:
        a = c.add_stream(codec, rate=rate, layout=layout)
        f = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format='fltp', layout=layout)
        f.sample_rate = rate
        c.mux(a.encode(f)); c.mux(a.encode(None))
    return path


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp('media')/'clip.mp4'
    write_clip(path, pattern(60), 25, .1*np.sin(np.arange(38_400)/6))
    return path


# --- bad input: one sentence that names the file

def sentence(action, path, *parts):
    with pytest.raises(MediaError) as e: action(path)
    text = str(e.value)
    assert path.name in text and '\n' not in text, text
    for part in parts: assert part in text, text


@pytest.mark.parametrize('action', [VideoReader, read_audio, probe])
def test_unreadable(action, tmp_path, clip):
    (tmp_path/'empty.mp4').touch()
    (tmp_path/'text.mp4').write_text('a diary, not a film\n'*100)
    (tmp_path/'noise.mp4').write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path/'head.mp4').write_bytes(clip.read_bytes()[:400])
    sentence(action, tmp_path/'nowhere.mp4', 'no such file')
    sentence(action, tmp_path/'empty.mp4', '0 bytes')
    for name in ('text.mp4', 'noise.mp4', 'head.mp4'): sentence(action, tmp_path/name, 'expected a video or sound file')
    sentence(action, tmp_path, 'found a folder')


def test_playlists_open_nothing_else(tmp_path, clip):
    (tmp_path/'list.mp4').write_text(f'ffconcat version 1.0\nfile {clip}\n')
    (tmp_path/'list.m3u8').write_text(f'#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.4,\n{clip}\n#EXT-X-ENDLIST\n')
    for name in ('list.mp4', 'list.m3u8'): sentence(VideoReader, tmp_path/name, 'expected a video')


@pytest.mark.parametrize('share', [.5, .65, .8])
def test_truncated(share, tmp_path, clip):
    path = tmp_path/'cut.mp4'
    path.write_bytes(clip.read_bytes()[:int(clip.stat().st_size*share)])
    sentence(VideoReader, path, 'cut short', 'promises 60 frames')


def test_still_pictures(tmp_path):
    from PIL import Image
    for name in ('x.jpg', 'x.png', 'x.bmp', 'x.webp'): Image.fromarray(next(pattern(1))).save(tmp_path/name)
    os.rename(tmp_path/'x.png', tmp_path/'png.mp4')
    for name in ('x.jpg', 'x.bmp', 'x.webp', 'png.mp4'):
        sentence(VideoReader, tmp_path/name, 'is a still picture, not a video')
        assert probe(tmp_path/name).is_image and not probe(tmp_path/name).has_video


def test_sound_only_and_cover(tmp_path):
    path = write_sound(tmp_path/'song.wav', np.zeros(8000), 8000)
    sentence(VideoReader, path, 'no video track')
    assert probe(path).has_audio and not probe(path).has_video


# --- frames

KINDS = [('x.mp4', 'libx264', {}), ('x.mkv', 'libx264', {}), ('x.mov', 'libx264', dict(pixels='yuv444p')),
         ('bt709.mp4', 'libx264', dict(colorspace=1, color_range=1)), ('full.mp4', 'libx264', dict(colorspace=5, color_range=2)),
         ('x.webm', 'libvpx', dict(options={'deadline': 'realtime', 'cpu-used': '8'})), ('m4.mp4', 'mpeg4', {}),
         ('h265.mp4', 'libx265', dict(options={'x265-params': 'log-level=none'})),
         ('gop.mp4', 'libx264', dict(options=dict(g='5', bf='2'))), ('turned.mp4', 'libx264', dict(rotate=90))]
PYAV_ONLY = [('x.mpg', 'mpeg1video', {}), ('x.ts', 'libx264', {}), ('x.avi', 'mpeg4', {}), ('b.avi', 'libx264', {}),
             ('ten.mp4', 'libx264', dict(pixels='yuv420p10le'))]


@pytest.mark.parametrize('backend', OTHERS)
@pytest.mark.parametrize('name,codec,how', KINDS, ids=[k[0] for k in KINDS])
def test_decoders_agree(name, codec, how, backend, tmp_path):
    path = write(tmp_path/name, codec=codec, **how)
    a, b = VideoReader(path, backend=backend), VideoReader(path)
    assert (a.backend, b.backend, len(a)) == (backend, 'pyav', 30)
    everything = a.frames(range(30))
    assert np.array_equal(everything, b.frames(range(30)))
    order = np.random.default_rng(0).permutation(30)[:12]
    assert np.array_equal(VideoReader(path, backend=backend).frames(order), everything[order])
    for i in (29, 3, 17, 17, 16, 0):
        for reader in (a, b): assert np.array_equal(reader.frames([i])[0], everything[i])
    if 'turned' in name: assert everything.shape[1:3] == (128, 96)


@pytest.mark.parametrize('name,codec,how', PYAV_ONLY, ids=[k[0] for k in PYAV_ONLY])
def test_pyav_takes_the_rest(name, codec, how, tmp_path):
    path = write(tmp_path/name, codec=codec, **how)
    r = VideoReader(path)
    assert r.backend == 'pyav' and len(r) == 30
    everything = r.frames(range(30))
    truth = np.stack(list(pattern(30)))[..., :2].astype(int) # two smooth channels
    closest = np.abs(everything[:, None, ::4, ::4, :2].astype(int) - truth[None, :, ::4, ::4]).mean((2, 3, 4)).argmin(1)
    assert np.abs(closest - np.arange(30)).max() <= 1
    for i in (29, 3, 17, 16, 0, 25): assert np.array_equal(VideoReader(path).frames([i])[0], everything[i]), i
    for i in (29, 3, 17, 16, 0, 25): assert np.array_equal(r.frames([i])[0], everything[i]), i


def test_damage_inside_keeps_the_frame_before(tmp_path, clip):
    data = bytearray(clip.read_bytes())
    data[len(data)*6//10:len(data)*6//10 + 400] = bytes(400)
    (tmp_path/'hurt.mp4').write_bytes(data)
    r = VideoReader(tmp_path/'hurt.mp4')
    assert r.frames(range(60)).shape == (60, 96, 128, 3)


@pytest.mark.parametrize('backend', ['pyav', *OTHERS])
def test_variable_rate(backend, tmp_path):
    stamps = np.cumsum(np.r_[0, np.random.default_rng(0).integers(10, 120, 39)])
    path = write(tmp_path/'vfr.mkv', n=40, stamps=stamps.tolist(), options=dict(preset='ultrafast'))
    r = VideoReader(path, backend=backend)
    np.testing.assert_allclose(r.starts, stamps/1000, atol=.0011)
    np.testing.assert_allclose(r.times[:-1], (stamps[1:] + stamps[:-1])/2000, atol=.0011)
    for t in (.5, 1., 2.):
        assert np.array_equal(r.at(t), r.frames([np.searchsorted(stamps/1000, t + .001) - 1])[0])
    part = VideoReader(path, start=.7, end=1.5, backend=backend)
    inside = np.flatnonzero(((r.times >= .7) & (r.times < 1.5)))
    np.testing.assert_allclose(part.times, r.times[inside] - .7, atol=1e-9)
    assert np.array_equal(part.frames(range(len(part))), r.frames(inside))


def test_segments_part_a_clip(clip):
    cuts = [None, .5, .77, 1.9, None]
    parts = [VideoReader(clip, a, b) for a, b in zip(cuts, cuts[1:])]
    assert sum(map(len, parts)) == 60
    whole = np.concatenate([p.frames(range(len(p))) for p in parts])
    assert np.array_equal(whole, VideoReader(clip).frames(range(60)))
    assert len(VideoReader(clip, float('nan'), float('nan'))) == 60 # empty cells of a table


@pytest.mark.parametrize('size,step,out', [(64, 1, None), (7, 1, None), (7, 3, 48), (64, 1, (40, 60)), (5, 2, 160)])
def test_chunks(size, step, out, clip):
    r = VideoReader(clip)
    got = list(r.chunks(size, step, out))
    assert np.array_equal(np.concatenate([i for i, _ in got]), np.arange(0, 60, step))
    assert all(len(i) == len(f) <= size for i, f in got)
    shape = {None: (96, 128), 48: (48, 64), (40, 60): (40, 60), 160: (160, 213)}[out]
    assert got[0][1].shape[1:] == (*shape, 3)


def test_chunks_do_not_depend_on_their_size(clip):
    a, b = (np.concatenate([f for _, f in VideoReader(clip).chunks(n, out_size=50)]) for n in (3, 64))
    assert np.array_equal(a, b)


def test_constant_memory(tmp_path):
    "Three minutes of video and sound in at most 60 MB more than the first chunk took; whole it would be 270 MB."
    path = tmp_path/'long.mp4'
    few = list(pattern(50, 128, 160))
    write_clip(path, (few[i % 50] for i in range(180*25)), 25, np.zeros(180*16_000, np.float32), preset='ultrafast')
    code = ('import sys, psutil\nfrom mmemo.media.frames import VideoReader\n'
            'from mmemo.media.sound import read_audio_chunks\n'
            'rss = lambda: psutil.Process().memory_info().rss/2**20\nr = VideoReader(sys.argv[1])\n'
            'chunks = r.chunks(64); next(chunks); n = 64\nnext(read_audio_chunks(sys.argv[1])); first = most = rss()\n'
            'for i, _ in chunks: n += len(i); most = max(most, rss())\n'
            's = sum(len(x) for x in read_audio_chunks(sys.argv[1])); most = max(most, rss())\nprint(n, s, most - first)')
    out = subprocess.run([sys.executable, '-c', code, str(path)], capture_output=True, text=True, check=True).stdout.split()
    assert int(out[0]) == 4500 and abs(int(out[1]) - 180*16_000) < 1600
    assert float(out[2]) < 60, out


# --- sound

@pytest.mark.parametrize('rate', [8000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize('channels', [1, 2])
def test_sound_length_and_level(rate, channels, tmp_path):
    t = np.arange(3*rate)/rate
    path = write_sound(tmp_path/'s.wav', np.stack([.2*np.sin(2*np.pi*440*t)]*channels), rate)
    heard = read_audio(path)
    assert heard.dtype == np.float32 and abs(len(heard) - 48_000) <= 2
    assert abs(loudness_db(heard) - (20*np.log10(.2) - 3.01)) < .1 # neither the rate nor the channels change the level
    expected = .2*np.sin(2*np.pi*440*np.arange(len(heard))/16_000)
    assert np.abs(heard - expected)[200:-200].max() < .005 # nor shift it


def test_sound_segment_equals_a_cut(tmp_path):
    noise = np.random.default_rng(0).normal(0, .1, 10*48_000)
    path = write_sound(tmp_path/'s.wav', noise, 48_000)
    whole, part = read_audio(path), read_audio(path, start=4.5, end=6.25)
    assert len(part) == 28_000
    assert np.corrcoef(part, whole[72_000:100_000])[0, 1] > .999
    assert len(read_audio(path, start=9, end=20)) == 16_000 and len(read_audio(path, start=15)) == 0


def test_sound_of_a_clip(clip, tmp_path):
    assert len(read_audio(clip)) == 38_400 # the encoder's padding is gone
    write_clip(tmp_path/'silent.mp4', pattern(5), 25)
    assert read_audio(tmp_path/'silent.mp4') is None and not list(read_audio_chunks(tmp_path/'silent.mp4'))
    assert loudness_db(np.zeros(0)) == loudness_db(np.zeros(100)) == -120


def test_sound_that_starts_late_stays_late(tmp_path):
    path = tmp_path/'late.mkv'
    with av.open(str(path), 'w') as c:
        v, a = c.add_stream('libx264', rate=25), c.add_stream('pcm_s16le', rate=16_000, layout='mono')
        v.height, v.width, v.pix_fmt = 96, 128, 'yuv420p'
        for f in pattern(50): c.mux(v.encode(av.VideoFrame.from_ndarray(f, format='rgb24')))
        c.mux(v.encode(None))
        for begin in (8000, 24_000): # half a second late, and a hole of half a second
            for k in range(0, 8000, 1000):
                f = av.AudioFrame.from_ndarray(np.full((1, 1000), 8000, np.int16), format='s16', layout='mono')
                f.sample_rate, f.pts, f.time_base = 16_000, begin + k, Fraction(1, 16_000)
                for p in a.encode(f): c.mux(p)
        c.mux(a.encode(None))
    heard = read_audio(path)
    assert abs(len(heard) - 32_000) < 40
    loud = np.array([np.abs(heard[i:i + 7000]).mean() > .2 for i in (500, 8500, 16_500, 24_500)])
    assert loud.tolist() == [False, True, False, True]
    part = read_audio(path, start=1.25, end=1.75)
    assert len(part) == 8000 and np.abs(part[:3900]).max() < .01 and np.abs(part[4100:]).min() > .2


# --- writing

def test_same_bytes_in_every_process(tmp_path):
    code = ('import sys, numpy as np\nfrom mmemo.media.files import write_clip\ny, x = np.mgrid[:64, :64]\n'
            'f = [np.stack([x*3 + i, y*2, x + y], -1).astype(np.uint8) for i in range(30)]\n'
            'write_clip(sys.argv[1], f, 30, .1*np.sin(np.arange(16000)/5))')
    found = set()
    for i in range(2):
        subprocess.run([sys.executable, '-c', code, str(tmp_path/f'{i}.mp4')], check=True)
        found.add(hashlib.md5((tmp_path/f'{i}.mp4').read_bytes()).hexdigest())
    assert len(found) == 1


def test_failed_write_leaves_nothing(tmp_path):
    def frames():
        yield from pattern(5)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): write_clip(tmp_path/'x.mp4', frames(), 25)
    with pytest.raises(MediaError, match='none'): write_clip(tmp_path/'x.mp4', [], 25)
    assert not list(tmp_path.iterdir())


def test_odd_rates(tmp_path):
    for fps in (10, 29.97, 30000/1001, 50):
        write_clip(tmp_path/'x.mp4', pattern(20), fps)
        assert abs(VideoReader(tmp_path/'x.mp4').fps - fps) < .02


# --- real files

def test_real_clips():
    if real_data() is None: pytest.skip('MMEMO_REAL_DATA is not set: no real clips to try')
    clips = real_data()/'clips'
    expected = {'01-01-01-01-01-01-01.mp4': (98, 3.3), 'grid_bbaf2n.mpg': (75, 2.98), 'single_face_near_silent.mp4': (72, 2.42)}
    for name, (n, seconds) in expected.items():
        r = VideoReader(clips/name)
        assert len(r) == n and abs(len(read_audio(clips/name))/16_000 - seconds) < .05
        last = r.frames([n - 1])[0]
        assert np.array_equal(VideoReader(clips/name, backend='pyav').frames([5, n - 1])[1], last)
    assert loudness_db(read_audio(clips/'single_face_near_silent.mp4')) < -50
    sentence(VideoReader, clips/'multi_face.jpg', 'is a still picture, not a video')


@pytest.mark.parametrize('size', [112, 224])
def test_the_same_pictures_give_the_same_bytes_every_time(tmp_path, size):
    "x264's macroblock tree made two films of one input: at 224 pixels nearly every time, at 112 once in eighty."
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (6, 6, 3), np.uint8)
    film = np.stack([cv2.resize(np.roll(base, i//8, 0), (size, size), interpolation=cv2.INTER_CUBIC) for i in range(60)])
    film = (film + rng.integers(-4, 4, film.shape)).clip(0, 255).astype(np.uint8)
    seen = set()
    for i in range(8):
        write_clip(tmp_path/f'{i}.mp4', film, 25)
        rng.integers(0, 255, (20 + i, size, size, 3)).sum() # leave other rubbish in memory
        seen.add((tmp_path/f'{i}.mp4').read_bytes())
    assert len(seen) == 1
