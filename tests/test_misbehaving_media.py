"""Media that misbehaves: each file is made here, and where a naive reading goes wrong the test shows that it does."""
import json, math, os, struct, subprocess, sys
from collections import Counter
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

import mmemo.media.frames as media_frames
import mmemo.media.sound as media_sound
from mmemo.core import UserError, real_data, rng_for
from mmemo.features.encoder_files import write_random_speech, write_random_visual
from mmemo.features.encoders import load_speech, load_visual
from mmemo.media.faces import FaceSettings, FaceTracker, read_face_chunks, haar
from mmemo.features.extract import extract
from mmemo.features.reading import ExtractSettings, make_jobs, open_frames
from mmemo.corpora.manifest import Corpus
from mmemo.media.files import MediaError, probe, write_clip
from mmemo.media.frames import VideoReader, decord_version, torchcodec_version
from mmemo.media.sound import loudness_db, read_audio, read_audio_chunks
from mmemo.planted.face import FaceMotion, sample_face
from mmemo.planted.render import render_face
from mmemo.planted.scene import Scene

no_decord = pytest.mark.skipif(decord_version() is None, reason='decord does not import')
no_torchcodec = pytest.mark.skipif(torchcodec_version() is None, reason='torchcodec is not installed, or finds no FFmpeg')
BACKENDS = ['pyav', pytest.param('decord', marks=no_decord), pytest.param('torchcodec', marks=no_torchcodec)]


def needs(encoder):
    try: av.Codec(encoder, 'w')
    except av.codec.codec.UnknownCodecError: return pytest.mark.skip(reason=f'this PyAV has no {encoder} encoder')
    return ()


def numbered(n, h=96, w=128, start=0):
    "Frames that carry their number as twelve black or white blocks, and differ in all four corners."
    for i in range(start, start + n):
        f = np.full((h, w, 3), 128, np.uint8)
        f[:h//4, :w//4], f[-(h//4):, -(w//4):] = (220, 40, 40), (40, 40, 220)
        for bit in range(12):
            y, x = h//4 + bit//6*(h//4), w//8 + bit % 6*(w//8)
            f[y:y + h//4, x:x + w//8] = 235*(i >> bit & 1) + 10
        yield f


def numbers(frames):
    "The numbers that decoded frames carry."
    h, w = frames.shape[1:3]
    blocks = [frames[:, h//4*(1 + b//6):, w//8*(1 + b % 6):][:, h//16:h//5, w//40:w//10] for b in range(12)]
    return (np.stack([b.mean((1, 2, 3)) > 128 for b in blocks], 1) << np.arange(12)).sum(1).tolist()


def film(path, frames, rate=25, codec='libx264', pixels='yuv420p', stamps=None, sound=None, hz=16_000, voice='aac',
         turn=None, layout='mono', **options):
    "A file of any kind; `stamps` in milliseconds, `sound` (channels, n), `turn` for the display matrix."
    options = dict(preset='ultrafast') | options if codec == 'libx264' else options
    with av.open(str(path), 'w') as c:
        v, a, packets = None, None, []
        for i, pixel in enumerate(frames):
            if v is None:
                v = c.add_stream(codec, rate=rate, options={k.replace('_', '-'): str(x) for k, x in options.items()})
                v.height, v.width, v.pix_fmt = *pixel.shape[:2], pixels
                if turn: v.set_display_rotation(**turn)
                if stamps is not None: v.codec_context.time_base = Fraction(1, 1000)
                if sound is not None: a = c.add_stream(voice, rate=hz, layout=layout)
            f = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixel), format='rgb24')
            if stamps is not None: f.pts, f.time_base = int(stamps[i]), Fraction(1, 1000)
            packets += v.encode(f)
        if v: packets += v.encode(None)
        elif sound is not None: a = c.add_stream(voice, rate=hz, layout=layout)
        if a:
            packed = np.ascontiguousarray(np.atleast_2d(sound).T, np.float32).reshape(1, -1)
            f = av.AudioFrame.from_ndarray(packed, format='flt', layout=layout)
            f.sample_rate, f.pts, f.time_base = hz, 0, Fraction(1, hz)
            packets += a.encode(f) + a.encode(None)
        for p in sorted(packets, key=lambda p: p.dts*p.time_base): c.mux(p) # picture and sound side by side
    return path


def tone(seconds, hz=16_000, level=.2): return level*np.sin(2*np.pi*440*np.arange(round(seconds*hz))/hz)


def refused(action, path, *parts):
    with pytest.raises(MediaError) as e: action(path)
    text = str(e.value)
    assert path.name in text and '\n' not in text and len(text) < 400, text
    for part in parts: assert part in text, text


# --- names and extensions

LYING = [('mp4', 'mkv', 'libx264'), ('avi', 'mp4', 'libx264'), ('jpg', 'mp4', 'libx264'), ('txt', 'mp4', 'mpeg4'),
         ('wav', 'mov', 'libx264'), ('mpg', 'avi', 'mpeg4')]


@pytest.mark.parametrize('wrong,right,codec', LYING)
def test_wrong_extension(wrong, right, codec, tmp_path):
    voice = 'aac' if right == 'mp4' else 'pcm_s16le'
    film(tmp_path/f'x.{right}', numbered(12), codec=codec, sound=tone(.48), voice=voice)
    os.rename(tmp_path/f'x.{right}', path := tmp_path/f'x.{wrong}')
    reader = VideoReader(path)
    assert numbers(reader.frames(range(12))) == list(range(12)) and not probe(path).is_image
    assert abs(len(read_audio(path)) - 7680) < 1100


NAMES = ['two words.mp4', '表情 视频 01.mp4', 'é\u0301😀.mp4', '100%.mp4', 'x%03d.mp4', '-x.mp4', '[1]*.mp4', "o'n\"e.mp4",
         'take:2.mp4', 'http:x.mp4', 'pipe:0.mp4', 'concat:a.mp4']


@pytest.mark.parametrize('name', NAMES)
def test_names(name, tmp_path, monkeypatch):
    write_clip(tmp_path/name, numbered(5), 25, tone(.2))
    monkeypatch.chdir(tmp_path) # a bare name that begins like an address
    for path in (tmp_path/name, Path(name)):
        for backend in ('pyav', 'decord')[:1 + bool(decord_version())]:
            assert numbers(VideoReader(path, backend=backend).frames(range(5))) == list(range(5))
        assert len(read_audio(path)) == 3200 and probe(path).n_frames == 5
    if name.startswith('take'):
        with pytest.raises(av.FFmpegError): av.open(name) # the naive way


@pytest.mark.parametrize('kind', ['jpg', 'gif', 'tiff', 'avif', 'ico'])
def test_picture_renamed_to_mp4(kind, tmp_path):
    from PIL import Image, features
    if kind == 'avif' and not features.check('avif'): pytest.skip('this Pillow writes no avif')
    Image.fromarray(next(numbered(1))).save(tmp_path/f'x.{kind}')
    os.rename(tmp_path/f'x.{kind}', path := tmp_path/'x.mp4')
    refused(VideoReader, path, 'is a still picture, not a video')
    assert probe(path).is_image and not probe(path).has_video


def test_moving_gif_is_a_film(tmp_path):
    path = film(tmp_path/'x.gif', numbered(7), codec='gif', pixels='rgb8')
    assert numbers(VideoReader(path).frames(range(7))) == list(range(7)) and probe(path).has_video


# --- cut in the middle

CUTS = [('faststart.mp4', 'libx264', 'aac', .6), ('faststart.mp4', 'libx264', 'aac', .99), ('late.mp4', 'libx264', 'aac', .6), ('x.mkv', 'libx264', 'aac', .6),
        ('x.mkv', 'libx264', 'aac', .98), ('x.avi', 'mpeg4', 'pcm_s16le', .6), ('x.mov', 'mpeg4', 'pcm_s16le', .6),
        ('x.webm', 'libvpx', 'libopus', .6)]


@pytest.mark.parametrize('name,codec,voice,share', CUTS, ids=[f'{c[0]}-{c[3]}' for c in CUTS])
def test_cut_in_the_middle(name, codec, voice, share, tmp_path):
    path = tmp_path/name
    if name == 'faststart.mp4': write_clip(path, numbered(40), 25, tone(1.6))
    else:
        quick = dict(deadline='realtime', cpu_used=8) if codec == 'libvpx' else {}
        film(path, numbered(40), codec=codec, sound=tone(1.6, 48_000), hz=48_000, voice=voice, **quick)
    assert len(VideoReader(path)) == 40
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size*share)])
    refused(VideoReader, path, 'cut short'); refused(read_audio, path, 'cut short')
    if name == 'x.mkv' and share < .9: # the naive reading: a shorter clip, and nobody is told
        with av.open(str(path)) as c: assert 5 < sum(1 for _ in c.decode(video=0)) < 40


@pytest.mark.parametrize('name,voice', [('x.wav', 'pcm_s16le'), ('x.m4a', 'alac')])
def test_sound_cut_in_the_middle(name, voice, tmp_path):
    path = film(tmp_path/name, (), sound=np.random.default_rng(0).normal(0, .1, 48_000), voice=voice)
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole)*6//10])
    refused(read_audio, path, 'cut short')
    path.write_bytes(whole + b'a careless program wrote this')
    assert len(read_audio(path)) == 48_000


def test_written_into_a_pipe_is_not_cut(tmp_path):
    path = film(tmp_path/'x.wav', (), sound=tone(1), voice='pcm_s16le')
    for size in (b'\xff'*4, b'\0'*4):
        path.write_bytes(b'RIFF' + size + path.read_bytes()[8:])
        assert len(read_audio(path)) == 16_000


# --- one frame, odd sizes, other codecs

@pytest.mark.parametrize('name,codec', [('x.mp4', 'libx264'), ('x.mkv', 'libx264'), ('x.avi', 'mpeg4'),
                                        ('x.mpg', 'mpeg1video'), ('x.webm', 'libvpx')])
def test_one_frame(name, codec, tmp_path):
    reader = VideoReader(film(tmp_path/name, numbered(1, start=5), codec=codec))
    assert len(reader) == 1 and np.allclose([reader.duration, reader.fps, reader.times[0]], [.04, 25, .02], atol=1e-3)
    assert numbers(reader.frames([0])) == numbers(reader.at([7.])) == [5]
    crops, boxes, valid = FaceTracker(FaceSettings('none'), reader.fps).crop(reader.frames([0]), [0], reader.times)
    assert crops.shape == (1, 96, 96, 3) and valid.all()


def test_one_frame_without_a_length(tmp_path):
    from PIL import Image
    with av.open(str(tmp_path/'x.mkv'), 'w') as c:
        v = c.add_stream('mjpeg', rate=25)
        v.height, v.width, v.pix_fmt, v.codec_context.time_base = 96, 128, 'yuvj420p', Fraction(1, 1000)
        f = av.VideoFrame.from_ndarray(next(numbered(1)), format='rgb24')
        f.pts, f.time_base = 0, Fraction(1, 1000)
        for p in v.encode(f) + v.encode(None):
            p.duration = 0
            c.mux(p)
    reader = VideoReader(tmp_path/'x.mkv')
    assert len(reader) == 1 and 0 < reader.duration < 2 and math.isfinite(reader.fps)


vp9, svt, aom = ((e, needs(e)) for e in ('libvpx-vp9', 'libsvtav1', 'libaom-av1'))
ODD = [('libx264', 'yuv444p', 'mp4', 95, 127), ('mpeg4', 'yuv420p', 'mp4', 95, 127),
       ('libx264', 'yuv444p', 'mp4', 33, 47), ('mpeg4', 'yuv420p', 'avi', 95, 128),
       pytest.param(vp9[0], 'yuv420p', 'webm', 95, 127, marks=vp9[1])]


@pytest.mark.parametrize('codec,pixels,ext,h,w', ODD)
def test_odd_sizes(codec, pixels, ext, h, w, tmp_path):
    truth = np.stack(list(numbered(9, h, w)))
    path = film(tmp_path/f'x.{ext}', truth, codec=codec, pixels=pixels)
    reader = VideoReader(path)
    frames = reader.frames(range(9))
    assert frames.shape == (9, h, w, 3) and numbers(frames) == list(range(9)) and probe(path).width == w
    assert np.abs(frames[:, -3:, -3:].astype(int) - truth[:, -3:, -3:]).mean() < 25 # the last row and column are there
    try: other = VideoReader(path, backend='decord')
    except MediaError as e: assert 'decord' in str(e)
    else: assert np.array_equal(other.frames(range(9)), frames)


MODERN = [pytest.param(codec, name, marks=mark) for (codec, mark), name in
          ((svt, 'av1.mp4'), (svt, 'av1.mkv'), (aom, 'aom.mp4'), (vp9, 'vp9.webm'), (vp9, 'vp9.mp4'))]


@pytest.mark.parametrize('codec,name', MODERN)
def test_av1_and_vp9(codec, name, tmp_path):
    how = dict(preset=10) if codec == 'libsvtav1' else dict(deadline='realtime', cpu_used=8)
    sound = dict(sound=tone(1.2, 48_000), hz=48_000, voice='libopus')
    path = film(tmp_path/name, numbered(30), codec=codec, g=10, **sound, **how)
    reader = VideoReader(path)
    assert numbers(reader.frames(range(30))) == list(range(30))
    assert np.allclose(reader.starts, np.arange(30)/25, atol=.002)
    assert numbers(VideoReader(path, .6, 1.).frames([7, 0, 3])) == [22, 15, 18]
    assert abs(len(read_audio(path)) - 19_200) < 400 and abs(loudness_db(read_audio(path)) - loudness_db(tone(1))) < .5


def test_size_that_changes_midway(tmp_path):
    "A stream of two resolutions is scaled to the first, in chunks of any size."
    parts = [film(tmp_path/f'{h}.ts', numbered(10, h, w, start)) for h, w, start in ((96, 128, 0), (192, 256, 10))]
    path = tmp_path/'x.mkv'
    with av.open(str(path), 'w') as c:
        for k, part in enumerate(parts):
            with av.open(str(part)) as s:
                v = c.add_stream_from_template(s.streams.video[0]) if k == 0 else v
                packets = [p for p in s.demux(video=0) if p.size]
                first = min(p.dts for p in packets)
                for p in packets:
                    shift = round(k*Fraction(10, 25)/p.time_base) - first
                    p.pts, p.dts, p.stream = p.pts + shift, p.dts + shift, v
                    c.mux(p)
    frames = VideoReader(path).frames(range(20))
    assert frames.shape == (20, 96, 128, 3) and numbers(frames) == list(range(20))
    with av.open(str(path)) as c: sizes = {(f.height, f.width) for f in c.decode(video=0)}
    assert len(sizes) == 2 # the file is what it should be


# --- time

@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', ['x.mp4', 'x.mkv'])
def test_variable_rate(backend, name, tmp_path):
    "A phone that slows down in the dark: 33 ms a frame, then 100 ms."
    stamps = np.r_[0, np.cumsum([33]*30 + [100]*29)]
    path = film(tmp_path/name, numbered(60), stamps=stamps)
    reader = VideoReader(path, backend=backend)
    np.testing.assert_allclose(reader.starts, stamps/1000, atol=.0011)
    asked = np.array([.5, .95, 1.2, 2., 3.5])
    shown = [int(np.searchsorted(stamps/1000, t, 'right') - 1) for t in asked]
    assert numbers(reader.at(asked)) == shown
    naive = (asked*reader.fps).astype(int) # index = time*fps
    assert (np.abs(naive - shown) >= 3).sum() >= 3
    part = VideoReader(path, 1., 2.5, backend=backend)
    assert numbers(part.frames(range(len(part)))) == np.flatnonzero((reader.times >= 1) & (reader.times < 2.5)).tolist()


def test_clock_that_jumps(tmp_path):
    "A damaged time stamp nine hours ahead is said to be one, and is not nine hours of silence in memory."
    stamps = np.r_[np.arange(10)*40, 9*3_600_000 + np.arange(10)*40]
    path = film(tmp_path/'x.mkv', numbered(20), stamps=stamps)
    refused(VideoReader, path, 'time stamps jump by 9.0 hours')
    path = tmp_path/'sound.mka'
    with av.open(str(path), 'w', format='matroska') as c:
        a = c.add_stream('pcm_s16le', rate=8000, layout='mono')
        for begin in (0, 8000*1800, 8000*3600*12):
            f = av.AudioFrame.from_ndarray(np.full((1, 8000), 8000, np.int16), format='s16', layout='mono')
            f.sample_rate, f.pts, f.time_base = 8000, begin, Fraction(1, 8000)
            c.mux(a.encode(f))
    refused(read_audio, path, 'jump by')
    sizes = [len(x) for x in read_audio_chunks(path, end=1801)] # half an hour of silence is possible, and comes in pieces
    assert sum(sizes) == 1801*16_000 and max(sizes) <= 160_000


# --- rotation

TURNS = [dict(degrees=90), dict(degrees=180), dict(degrees=-90), dict(degrees=0, hflip=True),
         dict(degrees=0, vflip=True), dict(degrees=90, hflip=True)]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('turn', TURNS, ids=['-'.join(f'{k}{int(x)}' for k, x in t.items()) for t in TURNS])
def test_rotation_flag(turn, backend, tmp_path):
    truth = np.stack(list(numbered(4)))
    upright = np.rot90(truth, turn['degrees']//90, (1, 2))
    if turn.get('hflip'): upright = upright[:, :, ::-1]
    if turn.get('vflip'): upright = upright[:, ::-1]
    path = film(tmp_path/'x.mp4', truth, turn=turn)
    try: reader = VideoReader(path, backend=backend)
    except MediaError as e: # neither of them mirrors
        assert backend != 'pyav' and 'flip' in str(turn) and 'other pixels' in str(e)
        return
    assert (reader.height, reader.width) == (probe(path).height, probe(path).width)
    frames = reader.frames(range(4))
    assert frames.shape == upright.shape == (4, reader.height, reader.width, 3)
    assert np.abs(frames.astype(int) - upright).mean() < 6
    with av.open(str(path)) as c: naive = next(c.decode(video=0)).to_ndarray(format='rgb24') # as stored
    assert naive.shape != upright[0].shape or np.abs(naive.astype(int) - upright[0]).mean() > 10


# --- frames after a jump

def x265(**params): return {'x265-params': ':'.join(['log-level=none', *(f'{k}={v}' for k, v in params.items())])}


JUMPS = [('open.mp4', 'libx265', x265(keyint=30, min_keyint=30, bframes=4)), ('open.mkv', 'libx265', x265(keyint=30, min_keyint=30, bframes=4)),
         ('closed.mp4', 'libx265', x265(open_gop=0, keyint=30, bframes=4)), ('b.mp4', 'mpeg4', dict(g=12, bf=2)),
         ('b.mkv', 'mpeg4', dict(g=12, bf=2)), ('b.avi', 'mpeg4', dict(g=12, bf=2)),
         ('open264.mp4', 'libx264', dict(bf=3, x264_params='open-gop=1:keyint=20:min-keyint=20')),
         ('bit.by.bit.mp4', 'libx264', dict(x264_params='intra-refresh=1:keyint=20'))]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name,codec,how', JUMPS, ids=[j[0] for j in JUMPS])
def test_frames_after_a_jump(name, codec, how, backend, tmp_path):
    "Single frames and stretches out of the middle are those that reading in order shows."
    path = film(tmp_path/name, numbered(90), codec=codec, **how)
    assert numbers(VideoReader(path).frames(range(90))) == list(range(90))
    try: VideoReader(path, backend=backend)
    except MediaError as e: # torchcodec's jump is off where a film is refreshed bit by bit
        assert backend != 'pyav' and ('avi' in name or 'bit' in name) and backend in str(e)
        return
    for i in range(8, 90, 9): assert numbers(VideoReader(path, backend=backend).frames([i])) == [i]
    for start in (.72, 1.16, 2.32, 3.2):
        part = VideoReader(path, start, start + .4, backend=backend)
        assert numbers(part.frames(range(len(part)))) == [round(start*25) + k for k in range(10)]
    again = VideoReader(path, backend=backend)
    assert [numbers(again.frames([i]))[0] for i in (80, 3, 60, 59, 61, 89, 0)] == [80, 3, 60, 59, 61, 89, 0]


def test_strides_without_jumps_decode_once(tmp_path, monkeypatch):
    "Where jumps cannot be relied on, each tenth frame is not sought from the start each time."
    path = film(tmp_path/'x.mp4', numbered(90), x264_params='intra-refresh=1:keyint=20')
    seen, plain = Counter(), media_frames.decode_packets
    def counting(container, track, *rest):
        for frame in plain(container, track, *rest):
            seen['video'] += 1
            yield frame
    reader = VideoReader(path)
    monkeypatch.setattr(media_frames, 'decode_packets', counting)
    assert numbers(reader.frames(range(5, 90, 10))) == list(range(5, 90, 10))
    assert seen['video'] < 180


def test_decord_alone_jumps_beside(tmp_path):
    "What the test above would show if decord's own jumps were taken."
    if decord_version() is None: pytest.skip('decord does not import')
    import decord
    path = film(tmp_path/'x.mp4', numbered(90), codec='libx265', **x265(keyint=30, min_keyint=30, bframes=4))
    shown = [numbers(decord.VideoReader(str(path))[i].asnumpy()[None])[0] for i in range(20, 90, 3)]
    assert shown != list(range(20, 90, 3))


def test_a_backend_that_is_not_there(tmp_path):
    path = film(tmp_path/'x.mp4', numbered(3))
    with pytest.raises(UserError, match="'pyav', 'decord' or 'torchcodec', got 'ffmpeg'"): VideoReader(path, backend='ffmpeg')
    if torchcodec_version() is None:
        with pytest.raises(UserError, match="'torchcodec' is not installed, or does not load"): VideoReader(path, backend='torchcodec')
    assert VideoReader(path).backend == 'pyav' == ExtractSettings(backend='auto').backend # the word of earlier runs


# --- what a file stores and does not show

def replace_box(path, kind, body, track=0):
    "Another body for a box of an mp4 whose index stands at its end; the boxes around it grow with it."
    data, at = path.read_bytes(), -1
    for _ in range(track + 1): at = data.find(kind, at + 1)
    size = int.from_bytes(data[at - 4:at], 'big')
    out = bytearray(data[:at - 4] + (len(body) + 8).to_bytes(4, 'big') + kind + body + data[at - 4 + size:])
    around = [b'moov', b'trak', b'edts'] if kind == b'elst' else [b'moov', b'trak', b'mdia', b'minf', b'stbl']
    for name in around:
        k = data.rfind(name, 0, at) - 4
        out[k:k + 4] = (int.from_bytes(data[k:k + 4], 'big') + len(body) + 8 - size).to_bytes(4, 'big')
    path.write_bytes(out)
    return path


def edit(path, *pieces): # of (seconds, first shown second or None for a pause)
    "Write an edit list over that of the picture."
    data = path.read_bytes()
    lead = int.from_bytes(data[data.find(b'elst') + 16:][:4], 'big', signed=True) # the reordering's delay, in ticks
    rows = [struct.pack('>IiI', round(1000*n), -1 if at is None else lead + round(at*12_800), 65536) for n, at in pieces]
    return replace_box(path, b'elst', struct.pack('>II', 0, len(rows)) + b''.join(rows))


EDITS = [('trimmed', [(1.6, 0)], 0, range(40)), ('late', [(2, 1)], 0, range(25, 75)), ('in a group', [(1.4, .6)], 0, range(15, 50)),
         ('a pause', [(.5, None), (4, 0)], .5, range(100)), ('a pause and trimmed', [(.48, None), (1, 1)], .48, range(25, 50)),
         ('two pieces', [(1, 0), (1, 2)], 0, [*range(25), *range(50, 75)]), ('turned round', [(1, 2), (1, 0)], 0, [*range(50, 75), *range(25)])]


@pytest.mark.parametrize('name,pieces,begin,shown', EDITS, ids=[e[0] for e in EDITS])
def test_edit_list(name, pieces, begin, shown, tmp_path):
    "What lies outside the edit is not shown, in step with the sound, and the file is not cut short."
    path = edit(film(tmp_path/'x.mp4', numbered(100), sound=tone(4), bf=2, g=25), *pieces)
    reader = VideoReader(path)
    got = numbers(reader.frames(range(len(reader))))
    assert abs(len(got) - len(shown)) <= 1 and set(got) <= set(shown) and got[:20] == list(shown)[:20]
    assert reader.starts[0] == pytest.approx(begin, abs=.001)
    assert np.allclose(np.diff(reader.starts)[:20], .04, atol=.001)
    for i in (len(got) - 1, 3, len(got)//2): assert numbers(VideoReader(path).frames([i])) == [got[i]]
    assert len(read_audio(path)) == 64_000


def test_a_pause_alone_is_not_the_start(tmp_path):
    "With nothing else in the file the clock starts with the picture, as in a player."
    reader = VideoReader(edit(film(tmp_path/'x.mp4', numbered(50), bf=2), (.5, None), (2, 0)))
    assert len(reader) == 50 and reader.starts[0] == 0 and numbers(reader.at([0., .5])) == [0, 12]


def test_one_time_stamp_twice(tmp_path):
    "Both are frames, as whoever numbered them counted; the second is on show."
    path = film(tmp_path/'x.mp4', numbered(75), bf=2)
    runs = [(20, 512), (1, 0), (1, 1024), (53, 512)]
    table = struct.pack('>II', 0, len(runs)) + b''.join(struct.pack('>II', *r) for r in runs)
    reader = VideoReader(replace_box(path, b'stts', table))
    assert len(reader) == 75 and (np.diff(reader.starts) >= 0).all() and (np.diff(reader.starts) == 0).sum() == 1
    film_again = reader.frames(range(75))
    assert sorted(numbers(film_again)) == list(range(75))
    for i in (19, 20, 21, 22, 40, 74): assert np.array_equal(VideoReader(path).frames([i])[0], film_again[i])


def test_a_sample_without_bytes(tmp_path):
    "Recorders of the screen write 'nothing new' so; the frame before it stays, and nothing is cut short."
    path = film(tmp_path/'x.mp4', numbered(40), bf=0, g=60)
    data = path.read_bytes()
    at = data.find(b'stsz') + 16 + 4*39
    path.write_bytes(data[:at] + bytes(4) + data[at + 4:])
    reader = VideoReader(path)
    assert numbers(reader.frames(range(len(reader)))) == list(range(39))


def remux(path, new, change):
    "The packets of a film in another file; `change` gives for (number, packet) the packets to be written."
    with av.open(str(path)) as s, av.open(str(new), 'w') as c:
        v = c.add_stream_from_template(s.streams.video[0])
        for k, p in enumerate(p for p in s.demux(video=0) if p.size):
            for q in change(k, p):
                q.stream = v
                c.mux(q)
    return new


def test_pairs_of_frames_with_one_time_stamp(tmp_path):
    def pair(k, p):
        p.pts = p.dts = k//2*2*512
        return [p]
    path = remux(film(tmp_path/'x.mp4', numbered(40), bf=0, g=10), tmp_path/'x.mkv', pair)
    reader = VideoReader(path)
    assert numbers(reader.frames(range(40))) == list(range(40))
    for i in (0, 9, 10, 11, 20, 21, 39): assert numbers(VideoReader(path).frames([i])) == [i]
    assert numbers(reader.at([.0, .09])) == [1, 3]


def test_reference_pictures_of_vp8_are_not_shown(tmp_path):
    def hide(k, p):
        if k not in (7, 20): return [p]
        data = bytearray(bytes(p))
        data[0] &= ~16 # the bit that says "show it"
        hidden = av.Packet(bytes(data))
        hidden.pts, hidden.dts, hidden.time_base = p.pts, p.dts, p.time_base
        return [hidden, p]
    path = remux(film(tmp_path/'x.webm', numbered(30), codec='libvpx', deadline='realtime', cpu_used=8), tmp_path/'y.webm', hide)
    with av.open(str(path)) as c: assert sum(1 for p in c.demux(video=0) if p.size) == 32
    reader = VideoReader(path)
    assert numbers(reader.frames(range(len(reader)))) == list(range(30))


def test_before_the_first_key_frame(tmp_path):
    "A stream cut into on the air: nothing is left out, and what cannot be decoded yet shows the first that can."
    path = remux(film(tmp_path/'x.mp4', numbered(75), bf=0, g=25), tmp_path/'x.mkv', lambda k, p: [p] if k > 5 else [])
    reader = VideoReader(path, 0, 1.)
    shown = numbers(reader.frames(range(len(reader))))
    assert shown[0] >= 6 and sorted(shown) == shown and shown[-1] == 30


# --- clocks

CLOCKS = [('wraps.ts', 95_442.5), ('far.ts', 40_000.), ('early.ts', -1.), ('far.mkv', 90_000.), ('far.mp4', 90_000.)]


@pytest.mark.parametrize('name,begin', CLOCKS, ids=[c[0] for c in CLOCKS])
def test_clock_that_starts_elsewhere(name, begin, tmp_path):
    "Broadcasts begin anywhere, and their clock wraps after 26.5 hours."
    path = tmp_path/name
    with av.open(str(path), 'w', options=dict(output_ts_offset=str(begin), avoid_negative_ts='disabled')) as c:
        v = c.add_stream('libx264', rate=25, options=dict(preset='ultrafast', bf='2', g='20'))
        v.height, v.width, v.pix_fmt = 96, 128, 'yuv420p'
        for f in numbered(60): c.mux(v.encode(av.VideoFrame.from_ndarray(f, format='rgb24')))
        c.mux(v.encode(None))
    reader = VideoReader(path)
    assert numbers(reader.frames(range(len(reader)))) == list(range(60))
    assert np.allclose(reader.starts, np.arange(60)/25, atol=.002)
    assert numbers(VideoReader(path, 1., 1.4).frames([0, 9])) == [25, 34]


@pytest.mark.parametrize('name,codec', [('x.ts', 'libx264'), ('x.mpg', 'mpeg2video')])
def test_films_glued_together(name, codec, tmp_path):
    path = film(tmp_path/name, numbered(50), codec=codec)
    path.write_bytes(path.read_bytes()*2)
    refused(VideoReader, path, 'its clock is set back by', 'glued together')


@pytest.mark.parametrize('name,codec', [('x.h264', 'libx264'), ('x.hevc', 'libx265')])
def test_a_bare_stream_is_counted(name, codec, tmp_path):
    how = x265() if codec == 'libx265' else dict(bf=2)
    reader = VideoReader(film(tmp_path/name, numbered(30), codec=codec, **how))
    assert numbers(reader.frames(range(len(reader)))) == list(range(30))
    assert np.allclose(reader.starts, np.arange(30)/25)


@pytest.mark.parametrize('how', [dict(codec='mpeg4'), dict(codec='mjpeg', pixels='yuvj420p'), dict(codec='mpeg4', bf=2), dict(codec='libx264', bf=2)],
                         ids=['mpeg4', 'mjpeg', 'mpeg4-b', 'h264-b'])
def test_empty_chunks_of_avi_take_up_time(how, tmp_path):
    "A webcam that lost frames: the picture must not run ahead of the sound."
    kept = [k for k in range(90) if not (10 <= k < 15 or 30 <= k < 40)]
    film_ = list(numbered(90))
    path = tmp_path/'x.avi'
    with av.open(str(path), 'w') as c:
        options = dict(preset='ultrafast') if how['codec'] == 'libx264' else {}
        v = c.add_stream(how['codec'], rate=25, options=options | {'bf': str(how.get('bf', 0))})
        v.height, v.width, v.pix_fmt = 96, 128, how.get('pixels', 'yuv420p')
        v.codec_context.time_base = Fraction(1, 25)
        for k in kept:
            f = av.VideoFrame.from_ndarray(film_[k], format='rgb24')
            f.pts, f.time_base = k, Fraction(1, 25)
            c.mux(v.encode(f))
        c.mux(v.encode(None))
    reader = VideoReader(path)
    assert numbers(reader.frames(range(len(reader)))) == kept
    late = .08 if how.get('bf') else .001 # AVI says when a frame is decoded, and not when it is shown
    assert np.abs(reader.starts - np.array(kept)/25).max() <= late
    assert reader.duration == pytest.approx(3.6, abs=late)
    assert numbers(VideoReader(path, 2., 2.4).frames([0])) == [50]


# --- the size as it is shown

ASPECTS = [('pal.mpg', 'mpeg2video', (576, 720), '64/45', (576, 1024)), ('hdv.mp4', 'libx264', (270, 360), '4/3', (270, 480)),
           ('ntsc.mkv', 'libx264', (480, 720), '8/9', (480, 640)), ('nearly.mp4', 'libx264', (96, 128), '1279/1280', (96, 128)),
           ('turned.mp4', 'libx264', (270, 360), '4/3', (480, 270)), ('nonsense.mp4', 'libx264', (96, 128), '1/50', (96, 128))]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name,codec,stored,aspect,shown', ASPECTS, ids=[a[0] for a in ASPECTS])
def test_pixels_that_are_not_square(name, codec, stored, aspect, shown, backend, tmp_path):
    "A circle is drawn as it is to be seen, stored as the camera would, and is a circle again."
    import cv2
    (h, w), aspect = stored, Fraction(aspect)
    wide = w if name.startswith('no') or name.startswith('near') else round(w*aspect)
    true = np.full((h, wide, 3), 90, np.uint8)
    cv2.circle(true, (wide//2, h//2), h//3, (240, 240, 240), -1)
    with av.open(str(tmp_path/name), 'w') as c:
        v = c.add_stream(codec, rate=25)
        v.height, v.width, v.pix_fmt, v.codec_context.sample_aspect_ratio, v.bit_rate = h, w, 'yuv420p', aspect, 8_000_000
        if name == 'turned.mp4': v.set_display_rotation(90)
        for _ in range(5):
            c.mux(v.encode(av.VideoFrame.from_ndarray(cv2.resize(true, (w, h), interpolation=cv2.INTER_AREA), format='rgb24')))
        c.mux(v.encode(None))
    try: reader = VideoReader(tmp_path/name, backend=backend)
    except MediaError as e: # mpg
        assert backend != 'pyav' and name == 'pal.mpg' and backend in str(e)
        return
    frame = reader.frames([2])[0]
    y, x = np.where(frame.mean(2) > 170)
    assert abs((np.ptp(x) + 1)/(np.ptp(y) + 1) - 1) < .03
    info = probe(tmp_path/name)
    assert frame.shape[:2] == (reader.height, reader.width) == (info.height, info.width) == shown
    assert np.array_equal(frame, VideoReader(tmp_path/name).frames([2])[0]) # whoever decodes


def test_a_codec_that_nobody_decodes_is_named(tmp_path):
    "Also beside a sound that can be heard: the face is not missing in silence."
    path = film(tmp_path/'x.mp4', numbered(10), sound=tone(.4))
    whole = path.read_bytes()
    for tag, name in ((b'evc1', "'evc'"), (b'zzzz', "'zzzz'")):
        path.write_bytes(whole[:40] + whole[40:].replace(b'avc1', tag))
        refused(VideoReader, path, 'the picture is written as', name, 'convert the film')
        assert probe(path).has_video and probe(path).has_audio and len(read_audio(path)) == 6400
        corpus = Corpus('strange', tmp_path, pd.DataFrame(dict(clip_id=['x'], path=['x.mp4'])))
        job = make_jobs(corpus)[0]
        with pytest.raises(MediaError, match=name): open_frames(job, ExtractSettings(), sound=True)
    silent = film(tmp_path/'y.mp4', numbered(10))
    silent.write_bytes(silent.read_bytes()[:40] + silent.read_bytes()[40:].replace(b'avc1', b'evc1'))
    refused(probe, silent, "written as 'evc'")


OTHER_KINDS = [('ten.mkv', 'libx265', 'yuv420p10le', x265()), ('alpha.mov', 'qtrle', 'argb', {}), ('png.mov', 'png', 'rgba', {}),
               ('interlaced.mpg', 'mpeg2video', 'yuv420p', dict(flags='+ildct+ilme', bf=2)), ('x.apng', 'apng', 'rgb24', {}),
               ('x.wmv', 'wmv2', 'yuv420p', {}), ('x.flv', 'flv1', 'yuv420p', {}), ('x.mxf', 'mpeg2video', 'yuv420p', {}),
               ('x.mov', 'mjpeg', 'yuvj422p', {}), ('x.ts', 'libx264', 'yuv420p', dict(bf=3, g=12)), ('gray.mkv', 'ffv1', 'gray', {})]


@pytest.mark.parametrize('name,codec,pixels,how', OTHER_KINDS, ids=[k[0] for k in OTHER_KINDS])
def test_other_kinds_of_film(name, codec, pixels, how, tmp_path):
    path = film(tmp_path/name, numbered(30), codec=codec, pixels=pixels, **how)
    everything = VideoReader(path).frames(range(30))
    assert numbers(everything) == list(range(30))
    for i in (29, 3, 17, 28): assert np.array_equal(VideoReader(path).frames([i])[0], everything[i])


@pytest.mark.parametrize('how', [dict(movflags='frag_keyframe+empty_moov'), dict(movflags='cmaf+frag_keyframe+delay_moov'), dict(live='1')],
                         ids=['fragments', 'cmaf', 'matroska-without-cues'])
def test_no_index(how, tmp_path):
    path = tmp_path/('x.mkv' if 'live' in how else 'x.mp4')
    with av.open(str(path), 'w', options=how) as c:
        v = c.add_stream('libx264', rate=25, options=dict(preset='ultrafast', bf='2', g='20'))
        v.height, v.width, v.pix_fmt = 96, 128, 'yuv420p'
        for f in numbered(60): c.mux(v.encode(av.VideoFrame.from_ndarray(f, format='rgb24')))
        c.mux(v.encode(None))
    reader = VideoReader(path)
    assert numbers(reader.frames(range(60))) == list(range(60)) and np.allclose(reader.starts, np.arange(60)/25, atol=.002)
    for i in (59, 3, 45, 20): assert numbers(VideoReader(path).frames([i])) == [i]


# --- sound

@pytest.mark.parametrize('hz', [8000, 11_025, 96_000, 192_000])
@pytest.mark.parametrize('layout', ['mono', 'stereo'])
def test_rates(hz, layout, tmp_path):
    sound = np.stack([tone(1, hz)]*len(channels(layout)))
    path = film(tmp_path/'x.mkv', numbered(25), sound=sound, hz=hz, voice='pcm_s16le', layout=layout)
    heard = read_audio(path)
    assert abs(len(heard) - 16_000) <= 2 and heard.dtype == np.float32
    assert np.abs(heard - tone(1)[:len(heard)])[200:-200].max() < .005 # neither shifted nor louder


@pytest.mark.parametrize('hz', [8000, 96_000])
def test_rates_of_aac(hz, tmp_path):
    heard = read_audio(film(tmp_path/'x.mp4', numbered(50), sound=np.random.default_rng(0).normal(0, .1, 2*hz), hz=hz))
    assert len(heard) == 32_000 # the encoder's run-up and padding are gone


def channels(layout): return [c.name for c in av.AudioLayout(layout).channels]


@pytest.mark.parametrize('layout', ['5.1', '5.1(side)', '5.0', '7.1'])
@pytest.mark.parametrize('name,voice', [('x.wav', 'pcm_s16le'), ('x.flac', 'flac'), ('x.mkv', 'flac')])
def test_surround(layout, name, voice, tmp_path):
    n, loud = len(channels(layout)), tone(1, 48_000, .9)
    written = lambda sound: film(tmp_path/name, (), sound=sound, hz=48_000, voice=voice, layout=layout)
    heard = read_audio(path := written(np.stack([loud]*n)))
    assert len(heard) == 16_000 and heard.ndim == 1
    assert abs(loudness_db(heard[200:-200]) - loudness_db(loud)) < .1 # as loud as each channel
    assert np.abs(heard).max() < .91
    with av.open(str(path)) as c: # the naive ways: a sum of channels, and the usual downmix
        stereo = av.AudioResampler('fltp', 'stereo', 16_000)
        frames = [f for frame in c.decode(audio=0) for f in stereo.resample(frame)]
    assert np.abs(np.concatenate([f.to_ndarray() for f in frames], 1)).max() > 1.5 and n*.9 > 1
    level = {}
    for k, which in enumerate(channels(layout)):
        alone = np.zeros((n, 48_000)); alone[k] = loud
        level[which] = np.abs(read_audio(written(alone))[500:-500]).max()/.9
    assert abs(sum(level.values()) - 1) < .02 and level.get('LFE', 0) < .001 # bass is none of speech
    assert level['FC'] > level['FL'] == pytest.approx(level['FR'], abs=1e-3)
    assert level['FL'] > max(x for k, x in level.items() if k[0] in 'BS')


def test_many_channels_are_refused(tmp_path):
    "PyAV reads wild memory beyond eight planar channels; a damaged stream claims forty."
    path = film(tmp_path/'x.wav', (), sound=np.zeros((16, 4800)), hz=48_000, voice='pcm_s16le', layout='hexadecagonal')
    refused(read_audio, path, 'the sound track cannot be decoded')


def test_sound_beyond_full_scale_and_not_a_number(tmp_path):
    wave = tone(1, 16_000, .5)
    wave[100] = 40
    heard = read_audio(film(tmp_path/'x.wav', (), sound=wave, voice='pcm_f32le'))
    assert np.abs(heard).max() == 1 and np.abs(heard[200:] - wave[200:]).max() < 1e-6
    wave[100] = np.nan
    refused(read_audio, film(tmp_path/'y.wav', (), sound=wave, voice='pcm_f32le'), 'no numbers')


def test_damaged_packets_of_sound_are_passed_over(tmp_path):
    "AAC fails in its own words on a broken packet; the rest is still heard, and a wholly broken track is named."
    write_clip(tmp_path/'x.mp4', numbered(50), 25, tone(2))
    with av.open(str(tmp_path/'x.mp4')) as c: packets = [(p.pos, p.size) for p in c.demux(audio=0) if p.size]
    data = (tmp_path/'x.mp4').read_bytes()
    for name, hurt in (('some.mp4', packets[10:14]), ('all.mp4', packets)):
        broken = bytearray(data)
        for pos, size in hurt: broken[pos:pos + size] = b'\xff'*size
        (tmp_path/name).write_bytes(broken)
    heard = read_audio(tmp_path/'some.mp4')
    assert len(heard) == 32_000 and np.abs(heard[20_000:31_000] - tone(2)[20_000:31_000]).max() < .05
    refused(read_audio, tmp_path/'all.mp4', 'the sound track cannot be decoded (aac)')
    assert len(VideoReader(tmp_path/'all.mp4')) == 50


# --- an hour

@pytest.fixture(scope='module')
def hour(tmp_path_factory):
    "A numbered picture a second and a click every minute, whose pitch says which."
    beep = np.zeros(3600*8000, np.float32)
    for minute in range(60): beep[minute*480_000:][:800] = .5*np.sin(2*np.pi*(300 + 40*minute)*np.arange(800)/8000)
    path = tmp_path_factory.mktemp('hour')/'hour.mkv'
    return film(path, numbered(3600, 64, 96), rate=1, sound=beep, hz=8000, voice='flac', g=60)


def test_the_middle_of_an_hour(hour, monkeypatch):
    seen, plain = Counter(), media_frames.decode_packets
    def counting(container, track, *rest):
        for frame in plain(container, track, *rest):
            seen[track.type] += getattr(frame, 'samples', 1)
            yield frame
    for room in (media_frames, media_sound): monkeypatch.setattr(room, 'decode_packets', counting)
    part = VideoReader(hour, 1801, 1811)
    assert numbers(part.frames(range(len(part)))) == list(range(1801, 1811)) and part.duration == pytest.approx(10)
    heard = read_audio(hour, start=1799.5, end=1801.5)
    assert len(heard) == 32_000 and np.abs(heard[:7900]).max() < .01 and np.abs(heard[9700:]).max() < .01
    pitch = np.abs(np.fft.rfft(heard[8000:9600])).argmax()*10
    assert pitch == 300 + 40*30
    assert seen['video'] < 200 and seen['audio'] < 8000*90 # of 3600, and of 28,800,000


def test_an_hour_in_constant_memory(hour):
    code = ('import sys, psutil\nfrom mmemo.media.frames import VideoReader\n'
            'from mmemo.media.sound import read_audio_chunks\n'
            'rss = lambda: psutil.Process().memory_info().rss/2**20\nr = VideoReader(sys.argv[1], backend="pyav")\n'
            'chunks = r.chunks(64); next(chunks); n = 64\nnext(read_audio_chunks(sys.argv[1])); first = most = rss()\n'
            'for i, _ in chunks: n += len(i); most = max(most, rss())\ns = 0\n'
            'for x in read_audio_chunks(sys.argv[1]): s += len(x); most = max(most, rss())\nprint(n, s, most - first)')
    done = subprocess.run([sys.executable, '-c', code, str(hour)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    out = done.stdout.split()
    assert int(out[0]) == 3600 and abs(int(out[1]) - 3600*16_000) < 16_000
    assert float(out[2]) < 40, out # the sound alone would be 220


# --- faces

def heads(n, *people, h=240, w=360):
    "Drawn faces on a wall: each person is (seed, function of the frame -> left, top or None, size)."
    y, x = np.mgrid[:h, :w]
    wall = np.stack([150 + 30*np.sin(x/60), 140 + 20*np.cos(y/50), 150 + 20*np.sin((x + y)/70)], -1).astype(np.uint8)
    film = np.repeat(wall[None], n, 0)
    for seed, where, size in people:
        face = render_face(sample_face(rng_for('face', seed)), FaceMotion.zeros(1), Scene(), rng_for('still'), size)[0]
        for i in range(n):
            if (at := where(i)) is not None: film[i, at[1]:at[1] + size, at[0]:at[0] + size] = face
    return film


def followed(path, frames, **settings):
    "The face of a film, from its file."
    if not path.exists(): write_clip(path, frames, 25)
    parts = list(read_face_chunks(VideoReader(path), FaceSettings('haar', size=48, **settings), size=16))
    return [np.concatenate(x) for x in list(zip(*parts))[1:]]


def middles(boxes): return (boxes[:, :2] + boxes[:, 2:])/2


def test_a_face_that_is_absent(tmp_path, encoders):
    crops, boxes, valid = followed(tmp_path/'x.mp4', heads(30))
    assert not valid.any() and (boxes == [60, 0, 300, 240]).all() and crops.shape == (30, 48, 48, 3)
    corpus = Corpus('empty rooms', tmp_path, pd.DataFrame(dict(clip_id=['x'], path=['x.mp4'])))
    settings = ExtractSettings(FaceSettings('haar'))
    store = extract(corpus, encoders[0], None, cache=tmp_path/'cache', progress=False, settings=settings)
    assert store['visual'].missing == {'x': 'no face'} and len(store.quarantine) == 0
    assert len(store['visual'].valid) == 30 and not store['visual'].valid.any()


def test_two_faces(tmp_path):
    "The nearer one is followed, also when it wanders; the largest of each frame would jump to who comes closer."
    left, right = (31, lambda i: (20 + i//3, 60), 128), (5, lambda i: (220, 60) if i < 30 else None, 112)
    near = (32, lambda i: (205, 30) if i >= 30 else None, 144) # the same person comes closer
    film = heads(60, left, right, near)
    find = haar(FaceSettings('haar'))
    found = [find(film[i]) for i in (0, 20, 40, 59)]
    assert all(len(f) == 2 for f in found) # both are seen all the time
    largest = [f[f[:, 2].argmax(), 0] + f[f[:, 2].argmax(), 2]/2 for f in found]
    assert largest[0] < 180 < largest[-1] # the naive choice jumps
    _, boxes, valid = followed(tmp_path/'x.mp4', film, every=2)
    assert valid.all() and np.abs(middles(boxes)[:, 0] - (84 + np.arange(60)/3)).max() < 16
    assert np.abs(np.diff(middles(boxes), axis=0)).max() < 3 # and never jumps


def test_a_bystander_does_not_take_over(tmp_path):
    "A hand before the face for less than `gap`: the other person is there all the time and stays a bystander."
    film = heads(60, (31, lambda i: None if 25 <= i < 36 else (30, 60), 128), (5, lambda i: (220, 60), 112))
    _, boxes, valid = followed(tmp_path/'x.mp4', film, every=2)
    assert valid.all() and np.abs(middles(boxes)[:, 0] - 94).max() < 12
    gone = heads(60, (31, lambda i: (30, 60) if i < 25 else None, 128), (5, lambda i: (220, 60), 112))
    _, boxes, valid = followed(tmp_path/'gone.mp4', gone, every=2)
    x = middles(boxes)[:, 0]
    assert np.abs(x[valid & (x < 180)] - 94).max() < 12
    assert np.abs(x[45:] - 276).max() < 12 # lost for longer: afresh, in one step
    assert 24 + 12 <= np.flatnonzero(x > 180)[0] <= 24 + 16


def test_a_face_that_leaves(tmp_path):
    film = heads(75, (31, lambda i: (30, 60) if i < 25 else (200, 50) if i >= 55 else None, 128))
    for gap in (.5, .2):
        _, boxes, valid = followed(tmp_path/'x.mp4', film, every=1, gap=gap)
        held = 25 + int(gap*25 - 1e-9)
        assert valid[:held].all() and not valid[held + 1:55].any() and valid[55:].all()
        assert (boxes[held + 1:55] == [60, 0, 300, 240]).all() # no stale box
        assert np.abs(middles(boxes)[55:] - (264, 117)).max() < 12 # back at once, no gliding over


def test_a_face_that_leaves_in_a_film_of_variable_rate(tmp_path):
    "After `gap` seconds of the film's clock: frames divided by the mean rate would wait for four seconds."
    stamps = np.r_[0, np.cumsum([20]*40 + [400]*20)]
    path = film(tmp_path/'x.mp4', heads(61, (31, lambda i: (30, 60) if i < 41 else None, 128)), stamps=stamps)
    reader = VideoReader(path)
    _, _, valid = followed(path, None, every=1)
    seen = reader.times[40] # the last frame with a face
    assert valid.tolist() == (reader.times <= seen + .5).tolist() and valid[:41].all()
    tracker = FaceTracker(FaceSettings('haar', size=48, every=1), reader.fps)
    naive = tracker.crop(reader.frames(range(61)), np.arange(61))[2]
    assert naive.sum() > valid.sum() + 1


@pytest.mark.parametrize('fps', [1, 4, 25])
def test_a_face_that_stays_at_few_frames_a_second(fps, tmp_path):
    write_clip(tmp_path/'x.mp4', heads(20, (31, lambda i: (30, 60), 128)), fps)
    _, boxes, valid = followed(tmp_path/'x.mp4', None)
    assert valid.all() and np.abs(middles(boxes) - (94, 130)).max() < 16


def test_five_real_faces(tmp_path):
    if real_data() is None: pytest.skip('MMEMO_REAL_DATA is not set: no real faces to try')
    from PIL import Image
    picture = np.asarray(Image.open(real_data()/'clips'/'multi_face.jpg').convert('RGB'))[:666, :1000]
    assert len(haar(FaceSettings('haar'))(picture)) >= 4
    pan = np.stack([picture[i:i + 600, i:i + 940] for i in range(0, 60, 2)]) # the camera moves a little
    _, boxes, valid = followed(tmp_path/'x.mp4', pan, every=2)
    steps = np.abs(np.diff(middles(boxes), axis=0))
    assert valid.all() and steps.max() < 8, steps.max() # a jump to a neighbour would be a hundred


# --- the whole way

@pytest.fixture(scope='module')
def encoders(tmp_path_factory):
    root = tmp_path_factory.mktemp('encoders')
    return load_visual(str(write_random_visual(root/'clip'))), load_speech(str(write_random_speech(root/'wave')))


def good_clips(root):
    "Odd, and yet good: name -> frames, has sound."
    write_clip(root/'plain.mp4', numbered(30), 25, tone(1.2))
    write_clip(root/'no sound.mp4', numbered(20), 25)
    film(root/'只有 声音.wav', (), sound=tone(1), voice='pcm_s16le')
    film(root/'one.mp4', numbered(1), sound=tone(.4))
    film(root/'turned.mp4', numbered(12), turn=dict(degrees=90), sound=tone(.5, 8000), hz=8000)
    surround = dict(sound=np.stack([tone(.5, 48_000)]*6), hz=48_000, layout='5.1', voice='alac')
    film(root/'odd.mp4', numbered(11, 95, 127), codec='mpeg4', **surround)
    film(root/'slow.mkv', numbered(15), stamps=np.arange(15)**2*10, sound=tone(2, 96_000), hz=96_000, voice='flac')
    return {'plain.mp4': 30, 'no sound.mp4': 20, '只有 声音.wav': 0, 'one.mp4': 1, 'turned.mp4': 12, 'odd.mp4': 11,
            'slow.mkv': 15}


def bad_clips(root):
    "Name -> a word of the reason."
    from PIL import Image
    whole, mkv = (root/'plain.mp4').read_bytes(), (root/'slow.mkv').read_bytes()
    (root/'zero.mp4').touch()
    (root/'cut.mp4').write_bytes(whole[:len(whole)*3//4])
    (root/'cut.mkv').write_bytes(mkv[:len(mkv)*3//4])
    (root/'head.mp4').write_bytes(whole[:300])
    (root/'text.mp4').write_text('happy\n'*50)
    Image.fromarray(next(numbered(1))).save(root/'x.jpg')
    os.rename(root/'x.jpg', root/'picture.mp4')
    film(root/'jump.mkv', numbered(9), stamps=np.r_[np.arange(8)*40, 10**8])
    film(root/'nan.mkv', numbered(9), sound=np.full(6000, np.nan), voice='pcm_f32le')
    with av.open(str(root/'plain.mp4')) as c: places = [(p.pos, p.size) for p in c.demux(video=0) if p.size]
    broken = bytearray(whole)
    for pos, size in places: broken[pos:pos + size] = b'\xff'*size
    (root/'picture broken.mp4').write_bytes(broken)
    (root/'folder.mp4').mkdir()
    return {'zero.mp4': '0 bytes', 'cut.mp4': 'promises 30 frames', 'cut.mkv': 'cut short',
            'jump.mkv': 'time stamps jump', 'head.mp4': 'neither picture nor sound', 'text.mp4': 'another kind of file',
            'picture.mp4': 'still picture', 'nan.mkv': 'no numbers', 'picture broken.mp4': 'cannot be decoded (h264)',
            'folder.mp4': '', 'absent.mp4': 'No such file'}


def tracks(cache): return {p.name: p.read_bytes() for p in (cache/'tracks').rglob('*.safetensors')}


def corpus_of(root, names): return Corpus('some', root, pd.DataFrame(dict(clip_id=list(names), path=list(names))))


def test_bad_files_cost_themselves_only(tmp_path, encoders):
    good = good_clips(tmp_path)
    both = dict(visual=encoders[0], speech=encoders[1], progress=False)
    alone = extract(corpus_of(tmp_path, good), cache=tmp_path/'a', settings=ExtractSettings(faces=FaceSettings('none')), **both)
    assert len(alone.quarantine) == 0 and np.diff(alone['visual'].offsets).tolist() == list(good.values())
    assert alone['visual'].missing == {'只有 声音.wav': 'no picture'}
    assert alone['audio'].missing == {'no sound.mp4': 'no sound'}
    bad = bad_clips(tmp_path)
    mixed = [n for pair in zip([*good, *[None]*len(bad)], bad) for n in pair if n] # a bad one after each good one
    store = extract(corpus_of(tmp_path, mixed), cache=tmp_path/'b', settings=ExtractSettings(workers=2, faces=FaceSettings('none')), **both)
    table = pd.read_csv(tmp_path/'b'/'quarantine.csv').set_index('clip_id').reason
    assert set(table.index) == set(bad) == set(store.quarantine.clip_id)
    for name, part in bad.items(): assert name in table[name] and part in table[name], table[name]
    assert table.str.len().max() < 400
    assert tracks(tmp_path/'a') == tracks(tmp_path/'b') # the same files of features, and no other
    for name in good:
        for m in ('visual', 'audio'): assert np.array_equal(alone.clip(name, m).values, store.clip(name, m).values)


# --- damage

def damage(data, seed):
    "Bytes flipped (anywhere, or in the header), cut out, cut off, or doubled."
    rng, data = np.random.default_rng([5, seed]), bytearray(data)
    kind, n = seed % 5, len(data)
    if kind == 0:
        for i in rng.integers(0, n, int(rng.integers(1, 12))): data[i] ^= int(rng.integers(1, 256))
    if kind == 1:
        for i in rng.integers(0, 1500, int(rng.integers(1, 4))): data[i] ^= 1 << int(rng.integers(8))
    if kind == 2: del data[int(rng.integers(1, n)):]
    if kind == 3: del data[(i := int(rng.integers(0, n - 1))):i + int(rng.integers(1, 200))]
    if kind == 4: i, j = sorted(rng.integers(0, n, 2)); data[j:j] = data[i:j]
    return bytes(data)


def walk(root, copies):
    "Extract a corpus of good clips and damaged copies; in a process of its own, for a decoder may take it down."
    encoders = load_visual(str(root/'clip')), load_speech(str(root/'wave'))
    good = ['a.mp4', 'b.mp4', 'c.mp4']
    for k, name in enumerate(good): write_clip(root/name, numbered(8 + 4*k, 64, 96, 100*k), 25, tone(.5 + k/10))
    film(root/'d.mkv', numbered(12, 64, 96), sound=tone(.5))
    sources = [(root/n).read_bytes() for n in ('a.mp4', 'b.mp4', 'c.mp4', 'd.mkv')]
    settings = ExtractSettings(workers=2, faces=FaceSettings('none')) # numbers are no faces
    extract(corpus_of(root, good), *encoders, cache=root/'alone', progress=False, settings=settings)
    hurt = [f'{i}.{"mkv" if i % 7 == 6 else "mp4"}' for i in range(copies)] # every seventh a Matroska
    for i, name in enumerate(hurt): (root/name).write_bytes(damage(sources[3 if i % 7 == 6 else i % 3], i))
    mixed = corpus_of(root, [*hurt[:copies//2], *good, *hurt[copies//2:]])
    store = extract(mixed, *encoders, cache=root/'mixed', progress=False, settings=settings)
    said = dict(zip(store.quarantine.clip_id, store.quarantine.reason))
    for name in hurt: # everything once more, with the decoder that takes all files
        try:
            frames = sum(len(f) for _, f in VideoReader(root/name, backend='pyav').chunks(5))
            sound = read_audio(root/name)
        except MediaError as e: frames, sound = str(e), None
        shown = 0 # by PyAV alone
        with suppress(Exception), av.open(str(root/name), metadata_errors='ignore') as c:
            for p in c.demux(video=0):
                with suppress(av.FFmpegError): shown += len(p.decode())
        whole = isinstance(frames, int) and (sound is None or bool(np.isfinite(sound).all()))
        steps = 0 if name in said else len(store.clip(name, 'visual').values)
        print(json.dumps(dict(name=name, frames=frames, whole=whole, shown=shown, said=said.get(name), steps=steps,
                              missing=store['visual'].missing.get(name))))
    kept = {k: v for k, v in tracks(root/'mixed').items() if k in tracks(root/'alone')}
    print(json.dumps(dict(name='good', equal=bool(kept == tracks(root/'alone') and not set(good) & set(said)))))


@pytest.mark.parametrize('copies', [30, pytest.param(300, marks=pytest.mark.slow)])
def test_damaged_copies(copies, tmp_path):
    write_random_visual(tmp_path/'clip'); write_random_speech(tmp_path/'wave')
    command = [sys.executable, '-X', 'faulthandler', __file__, str(tmp_path), str(copies)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 5*copies)
    assert done.returncode == 0, done.stderr[-3000:] # neither a crash nor a hang
    *rows, last = map(json.loads, done.stdout.splitlines())
    assert last['equal'] and len(rows) == copies
    lost = [r for r in rows if r['said']]
    assert copies/4 < len(lost) < copies*.9 # damage does harm, and not all of it
    for r in rows:
        if r['said']: # a sentence, and not an exception's name
            raw = any(x in r['said'] for x in ('\n', 'Error:', 'Errno'))
            r['fine'] = r['name'] in r['said'] and len(r['said']) < 400 and not raw
        elif r['missing']: r['fine'] = r['missing'] == 'no picture' and not r['shown'] # its sound is left
        else: r['fine'] = r['whole'] and r['steps'] == r['frames'] and r['shown'] > 0
    assert not [r for r in rows if not r['fine']]


if __name__ == '__main__': walk(Path(sys.argv[1]), int(sys.argv[2]))
