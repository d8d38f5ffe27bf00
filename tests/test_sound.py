"""Sound as people have it: holes, tracks, joined recordings, stretches, headers that are wrong; each file is made here."""
import os, pickle, struct
from fractions import Fraction

import av
import numpy as np
import pytest

from mmemo.core import UserError, file_hash
from mmemo.corpora.manifest import load_corpus
from mmemo.corpora.readers import read_corpus
from mmemo.media.files import MediaError, find_kind, probe
from mmemo.media.frames import VideoReader
from mmemo.media.sound import read_audio

DEFAULT, PLAIN = av.stream.Disposition.default, av.stream.Disposition(0)


def make_beeps(seconds, hz, pitch=400):
    "A tenth of a second of tone at each whole second, 100 Hz higher each time."
    x, t = np.zeros(round(seconds*hz), np.float32), np.arange(hz//10)/hz
    for k in range(int(seconds)): x[k*hz:k*hz + len(t)] = .5*np.sin(2*np.pi*(pitch + 100*k)*t)
    return x


def find_beeps(x, hz=16_000):
    "Seconds at which beeps begin."
    k = hz//200
    loud = np.abs(x[:len(x)//k*k]).reshape(-1, k).max(1) > .08
    return [i*k/hz for i in np.flatnonzero(loud) if not loud[max(0, i - 6):i].any()]


def cut_sound(track, x, hz, at=0, step=960, shift=lambda n: 0, lost=lambda n: False): # -> packets
    "Sound in pieces of `step` samples that begin at sample `at`; some come at another time, some are lost."
    fmt, packets = 's16' if track.codec_context.name == 'pcm_s16le' else 'fltp', []
    for n, i in enumerate(range(0, len(x), step)):
        if lost(n): continue
        piece = x[None, i:i + step]
        piece = (piece*32767).astype(np.int16) if fmt == 's16' else piece
        f = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format=fmt, layout='mono')
        f.sample_rate, f.pts, f.time_base = hz, at + i + shift(n), Fraction(1, hz)
        packets += track.encode(f)
    return packets + track.encode(None)


def write_film(path, *sounds, seconds=8, hz=48_000, codec='pcm_s16le', picture='mpeg4', first=0, form=None, options=None, **how):
    "A film of 25 grey frames a second that get brighter, from `first` ms on, with tracks of (samples, disposition)."
    with av.open(str(path), 'w', format=form, options=options or {}) as c:
        packets = []
        if picture:
            v = c.add_stream(picture, rate=25)
            v.width, v.height, v.pix_fmt = 64, 48, 'yuv420p'
            v.codec_context.time_base = Fraction(1, 25)
            for i in range(25*seconds):
                f = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 + i//25*10, np.uint8))
                f.pts, f.time_base = (first + 40*i)//40, Fraction(1, 25)
                packets += v.encode(f)
            packets += v.encode(None)
        for samples, disposition in sounds:
            a = c.add_stream(codec, rate=hz, layout='mono')
            a.disposition = disposition
            packets += cut_sound(a, samples, hz, **how)
        for p in sorted(packets, key=lambda p: p.dts*p.time_base): c.mux(p)
    return path


def write_sound(path, codec, hz, seconds=8, form=None, **attributes):
    with av.open(str(path), 'w', format=form) as c:
        a = c.add_stream(codec, rate=hz, layout='mono')
        for k, v in attributes.items(): setattr(a, k, v)
        packets = cut_sound(a, make_beeps(seconds, hz), hz, step=seconds*hz)
        for p in packets: c.mux(p)
    return path


# --- time

HOLES = {'20 ms of 240': dict(lost=lambda n: n % 12 == 11), '40 ms of 500': dict(lost=lambda n: n % 25 in (23, 24)),
         '60 ms of 800': dict(lost=lambda n: n % 40 > 36), 'a clock 1 in 1000 slow': dict(shift=lambda n: n),
         'a clock that trembles': dict(shift=lambda n: n*7919 % 480 - 240)}


@pytest.mark.parametrize('kind', HOLES)
def test_sound_keeps_to_its_time_stamps(kind, tmp_path):
    path = write_film(tmp_path/'x.mkv', (make_beeps(20, 48_000), DEFAULT), seconds=20, **HOLES[kind])
    beeps = find_beeps(read_audio(path))
    assert len(beeps) == 20 and np.abs(np.array(beeps) - np.arange(20)).max() < .03


def test_repeated_sound_is_heard_once(tmp_path):
    "A stretch of packets whose stamps were given before: what came first stays, and the rest is in time."
    path = write_film(tmp_path/'x.mkv', (make_beeps(8, 48_000), DEFAULT), shift=lambda n: -960*6*(100 <= n < 106))
    heard = read_audio(path)
    assert len(heard) == 128_000 and find_beeps(heard) == [0., 1., 3., 4., 5., 6., 7.]


@pytest.mark.parametrize('name', ['x.mkv', 'x.mov'])
@pytest.mark.parametrize('late', [-.5, .5])
def test_sound_before_and_after_the_picture(name, late, tmp_path):
    path = write_film(tmp_path/name, (make_beeps(8, 48_000), DEFAULT), at=round(late*48_000))
    shown = VideoReader(path)
    beeps = [b for b in find_beeps(read_audio(path)) if b > .1]
    brighter = [float(shown.starts[25*k]) for k in range(1, 8)] # a second of film later
    apart = np.subtract.outer(beeps, brighter)
    assert np.abs(np.abs(apart).min(1) - .5).max() < .03 # half a second off, as they were written


def test_far_from_zero(tmp_path):
    path = write_film(tmp_path/'x.ts', (make_beeps(8, 48_000), DEFAULT), codec='aac', picture='mpeg2video', at=36_000*48_000,
                      first=36_000_000)
    assert np.abs(np.array(find_beeps(read_audio(path))) - np.arange(8)).max() < .03
    assert len(VideoReader(path)) == 200 and abs(probe(path).duration - 8) < .1


JOINED = [('x.opus', 'libopus', 48_000, 'ogg'), ('x.ogg', 'flac', 44_100, None), ('x.mp3', 'libmp3lame', 44_100, None),
          ('x.aac', 'aac', 44_100, 'adts')]


@pytest.mark.parametrize('name,codec,hz,form', JOINED, ids=[j[0] for j in JOINED])
def test_two_recordings_one_behind_the_other(name, codec, hz, form, tmp_path):
    part = write_sound(tmp_path/name, codec, hz, form=form).read_bytes()
    (tmp_path/name).write_bytes(part + part)
    heard = read_audio(tmp_path/name)
    assert abs(len(heard)/16_000 - 16) < .15
    assert np.abs(np.array(find_beeps(heard)) - np.arange(16)).max() < .1


def test_two_films_one_behind_the_other(tmp_path):
    "The picture is refused, the sound alone goes on."
    path = write_film(tmp_path/'x.ts', (make_beeps(8, 48_000), DEFAULT), codec='aac', picture='mpeg2video')
    path.write_bytes(path.read_bytes()*2)
    with pytest.raises(MediaError, match='set back'): VideoReader(path)
    assert np.abs(np.array(find_beeps(read_audio(path))) - np.arange(16)).max() < .07


def test_a_rate_that_changes_midway(tmp_path):
    parts = [write_sound(tmp_path/f'{hz}.aac', 'aac', hz, 4, 'adts').read_bytes() for hz in (48_000, 22_050)]
    (tmp_path/'x.aac').write_bytes(b''.join(parts))
    beeps = find_beeps(read_audio(tmp_path/'x.aac'))
    assert np.abs(np.array(beeps) - np.arange(8)).max() < .12


# --- tracks

def hum(seconds): return .5*np.sin(2*np.pi*3000*np.arange(seconds*48_000)/48_000).astype(np.float32)


TRACKS = {'the second': [PLAIN, DEFAULT, PLAIN], 'the first of two': [PLAIN, DEFAULT, DEFAULT], 'no track': [PLAIN]*3,
          'a commentary': [PLAIN, DEFAULT | av.stream.Disposition.comment, PLAIN]}


@pytest.mark.parametrize('which', TRACKS)
def test_the_default_sound_is_read(which, tmp_path):
    sounds, flags = [hum(4), make_beeps(4, 48_000), hum(4)], TRACKS[which]
    if which == 'no track': sounds = sounds[1::-1] + sounds[2:]
    path = write_film(tmp_path/'x.mkv', *zip(sounds, flags), seconds=4)
    assert find_beeps(read_audio(path)) == [0., 1., 2., 3.]


def test_a_default_that_nobody_decodes(tmp_path):
    path = write_film(tmp_path/'x.mkv', (hum(4), DEFAULT), (make_beeps(4, 48_000), PLAIN), seconds=4)
    path.write_bytes(path.read_bytes().replace(b'A_PCM/INT/LIT', b'A_XYZ/INT/LIT', 1))
    assert find_beeps(read_audio(path)) == [0., 1., 2., 3.]


@pytest.mark.parametrize('form', ['matroska', 'mov'])
def test_a_picture_or_a_preview_beside_the_film(form, tmp_path):
    with av.open(str(tmp_path/'x'), 'w', format=form) as c:
        tracks = [c.add_stream(codec, rate=25) for codec in ('mjpeg', 'mpeg4', 'mpeg4')]
        for t, (w, flag) in zip(tracks, ((64, PLAIN), (32, PLAIN), (128, DEFAULT))):
            t.width, t.height, t.disposition = w, w, flag
            t.pix_fmt = 'yuvj420p' if t is tracks[0] else 'yuv420p'
        packets = []
        for t, n in zip(tracks, (1, 50, 50)):
            for i in range(n):
                f = av.VideoFrame.from_ndarray(np.full((t.height, t.width, 3), i, np.uint8))
                f.pts, f.time_base = i, Fraction(1, 25)
                packets += t.encode(f)
            packets += t.encode(None)
        for p in sorted(packets, key=lambda p: p.dts*p.time_base): c.mux(p)
    shown = VideoReader(tmp_path/'x')
    assert len(shown) == 50 and shown.width == probe(tmp_path/'x').width == 128


# --- stretches

STRETCHES = [('x.wav', 'pcm_s16le', 44_100, None), ('x.wav', 'pcm_s24le', 44_100, None), ('x.wav', 'pcm_alaw', 8000, None),
             ('x.wav', 'adpcm_ima_wav', 22_050, None), ('x.wav', 'adpcm_ms', 22_050, None), ('x.wav', 'g722', 16_000, None),
             ('x.mp3', 'libmp3lame', 44_100, None), ('x.aac', 'aac', 44_100, 'adts'), ('x.opus', 'libopus', 48_000, 'ogg'),
             ('x.ac3', 'ac3', 48_000, None), ('x.aiff', 'pcm_s16be', 44_100, None), ('x.au', 'pcm_s16be', 44_100, None),
             ('x.caf', 'pcm_s16be', 44_100, 'caf'), ('x.w64', 'pcm_s16le', 44_100, None), ('x.wv', 'wavpack', 44_100, None)]


STRETCHES = [(*s, rate) for s in STRETCHES for rate in (0, 9000, 1_000_000) if not rate or s[0] == 'x.wav'] # bytes a second


@pytest.mark.parametrize('name,codec,hz,form,rate', STRETCHES, ids=[f'{s[0]}-{s[1]}-{s[4]}' for s in STRETCHES])
def test_a_stretch_is_that_stretch_of_the_whole(name, codec, hz, form, rate, tmp_path):
    "Also where a wav's header gives a byte rate that is wrong."
    path = write_sound(tmp_path/name, codec, hz, form=form, **(dict(bit_rate=128_000) if codec[0] in 'ag' and name == 'x.wav' else {}))
    if rate:
        data = bytearray(path.read_bytes())
        struct.pack_into('<I', data, data.index(b'fmt ') + 16, rate)
        path.write_bytes(data)
    whole = read_audio(path)
    assert len(find_beeps(whole)) == 8
    for a, b in ((3.3, 6.125), (5.5, None), (2.01, 2.02), (7.9, 30)):
        part, right = read_audio(path, start=a, end=b), whole[round(a*16_000):b and round(b*16_000)]
        assert len(part) == len(right) and np.abs(part - right).max(initial=0) < 1e-5, (a, b)


FILMS = [('x.ts', 'aac', 'mpeg2video', 1e-4), ('x.flv', 'aac', 'flv', 1e-4), ('x.avi', 'pcm_s16le', 'mpeg4', 1e-4),
         ('x.mpg', 'mp2', 'mpeg1video', 1e-4), ('x.vob', 'ac3', 'mpeg2video', 1e-4), ('x.mov', 'pcm_s16le', 'mpeg4', .01),
         ('x.mkv', 'pcm_s16le', 'mpeg4', 1.)] # Matroska's times are rounded to a millisecond


@pytest.mark.parametrize('name,codec,picture,apart', FILMS, ids=[f[0] for f in FILMS])
def test_a_stretch_of_a_film(name, codec, picture, apart, tmp_path):
    path = write_film(tmp_path/name, (make_beeps(8, 44_100), DEFAULT), hz=44_100, codec=codec, picture=picture)
    whole, part = read_audio(path), read_audio(path, start=4.5, end=6.5)
    assert np.abs(part - whole[72_000:104_000]).max() < apart
    assert np.allclose(find_beeps(part), [.5, 1.5], atol=.03)


# --- what the header says

def test_recorded_by_a_browser(tmp_path):
    path = write_film(tmp_path/'x.mkv', (make_beeps(8, 48_000), DEFAULT), options=dict(live='1'))
    info = probe(path)
    assert abs(info.duration - 8) < .05 and abs(info.fps - 25) < .1 and info.n_frames == 200
    assert np.abs(read_audio(path, start=4.5, end=6) - read_audio(path)[72_000:96_000]).max() < 1e-5


def test_a_thousand_frames_a_second(tmp_path):
    path = tmp_path/'x.mkv'
    with av.open(str(path), 'w') as c:
        v = c.add_stream('mpeg4', rate=1000)
        v.width, v.height, v.pix_fmt = 64, 48, 'yuv420p'
        for i in range(60):
            f = av.VideoFrame.from_ndarray(np.full((48, 64, 3), i, np.uint8))
            f.pts, f.time_base = 40*i, Fraction(1, 1000)
            c.mux(v.encode(f))
        c.mux(v.encode(None))
    info = probe(path)
    assert abs(info.fps - 25) < .1 and info.n_frames == 60 and abs(info.duration - 2.4) < .05


def test_a_stream_without_a_length(tmp_path):
    "Half noise, half silence: a length from the first second's byte rate would be far off."
    x = np.r_[np.random.default_rng(0).normal(0, .2, 20*44_100), np.zeros(60*44_100)].astype(np.float32)
    with av.open(str(tmp_path/'x.aac'), 'w', format='adts') as c:
        a = c.add_stream('aac', rate=44_100, layout='mono')
        for p in cut_sound(a, x, 44_100, step=44_100): c.mux(p)
    assert abs(probe(tmp_path/'x.aac').duration - 80) < .2
    with av.open(str(tmp_path/'x.aac')) as c: assert abs(c.duration/1e6 - 80) > 5 # the naive number


def test_an_mp4_in_pieces(tmp_path):
    path = write_film(tmp_path/'x.mp4', (make_beeps(8, 48_000), DEFAULT), codec='aac', options=dict(movflags='frag_keyframe+empty_moov'))
    data = path.read_bytes()
    path.write_bytes(data[:data.rindex(b'mfra') - 4]) # no index at its end, as a server sends it
    assert abs(probe(path).duration - 8) < .1 and len(find_beeps(read_audio(path))) == 8


@pytest.mark.parametrize('size', [0, 0xffffffff])
def test_a_wav_written_into_a_pipe(size, tmp_path):
    path = write_sound(tmp_path/'x.wav', 'pcm_s16le', 44_100)
    data = bytearray(path.read_bytes())
    struct.pack_into('<I', data, data.index(b'data') + 4, size)
    struct.pack_into('<I', data, 4, size)
    path.write_bytes(data)
    assert len(read_audio(path)) == 128_000 and abs(probe(path).duration - 8) < .01
    assert len(read_audio(path, start=4, end=5)) == 16_000


def test_one_channel_of_two(tmp_path):
    with av.open(str(tmp_path/'x.wav'), 'w') as c:
        a = c.add_stream('pcm_s16le', rate=48_000, layout='stereo')
        pairs = np.zeros((1, 2*4*48_000), np.int16)
        pairs[0, ::2] = make_beeps(4, 48_000)*32767
        f = av.AudioFrame.from_ndarray(pairs, format='s16', layout='stereo')
        f.sample_rate = 48_000
        c.mux(a.encode(f))
    heard = read_audio(tmp_path/'x.wav')
    assert find_beeps(heard) == [0., 1., 2., 3.] and abs(np.abs(heard).max() - .25) < .01


# --- refused at once

CLAIMS = [(24, '<I', 1, '1 Hz'), (24, '<I', 900_000, '900,000 Hz'), (22, '<H', 0, '0 channels'), (22, '<H', 255, '255 channels'),
          (24, '<I', 0, 'expected a video or sound file')]


@pytest.mark.parametrize('place,form,value,words', CLAIMS, ids=[c[3] for c in CLAIMS])
def test_headers_that_claim_what_cannot_be(place, form, value, words, tmp_path):
    path = write_sound(tmp_path/'x.wav', 'pcm_s16le', 44_100)
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, place, value)
    path.write_bytes(data)
    with pytest.raises(MediaError, match=words) as e: read_audio(path)
    assert str(path) in str(e.value) and '\n' not in str(e.value)


def test_what_is_no_file_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path/'pipe.mp4')
    (tmp_path/'zeros.wav').symlink_to('/dev/zero')
    for name in ('pipe.mp4', 'zeros.wav'):
        for action in (probe, read_audio, VideoReader, file_hash):
            with pytest.raises(UserError, match='found .*a pipe, a socket or a device'): action(tmp_path/name)


def test_a_pickle_is_no_film_and_no_table(tmp_path):
    for name in ('x.mp4', 'x.wav', 'manifest.csv'): (tmp_path/name).write_bytes(pickle.dumps(dict(a=np.arange(9000))))
    for name in ('x.mp4', 'x.wav'):
        with pytest.raises(MediaError, match='expected a video or sound file'): probe(tmp_path/name)
    with pytest.raises(UserError, match='manifest.csv: expected'): load_corpus(tmp_path)


# --- endings and words

def put(root, *names):
    for name in names:
        (root/name).parent.mkdir(parents=True, exist_ok=True)
        (root/name).write_bytes(b'x')
    return root


def test_every_clip_of_a_folder_is_read_or_named(tmp_path):
    names = ['happy/a.wav', 'happy/b.opus', 'happy/c.3gp', 'sad/d.WMA', 'sad/e.amr', 'sad/f.MTS', 'sad/g.aiff']
    others = ['sad/notes.pdf', 'README', 'sad/h.weird']
    corpus, report = read_corpus('folder', put(tmp_path, *names, *others))
    assert sorted(corpus.clips.path) == sorted(names)
    named = ' '.join(report.table.what)
    assert all(n.split('/')[-1] in named or n in named for n in others), named


def test_files_without_an_ending_are_shown_to_the_decoder(tmp_path):
    put(tmp_path, 'happy/notes')
    (tmp_path/'sad').mkdir()
    write_sound(tmp_path/'x.wav', 'pcm_s16le', 8000, 1).rename(tmp_path/'happy'/'S01.1')
    write_film(tmp_path/'x.mp4', seconds=1).rename(tmp_path/'sad'/'take three')
    corpus, report = read_corpus('folder', tmp_path)
    assert corpus.clips.clip_id.tolist() == ['S01.1', 'take three'] and 'happy/notes' in ' '.join(report.table.what)
    assert [find_kind(tmp_path/p) for p in corpus.clips.path] == ['sound', 'film']


def test_usual_endings_come_first(tmp_path):
    put(tmp_path, 'happy/a.3gp', 'happy/a.mp4', 'happy/a.ac3', 'happy/a.wav')
    corpus, report = read_corpus('folder', tmp_path)
    assert corpus.clips.path.tolist() == ['happy/a.mp4'] and corpus.clips.audio_path.tolist() == ['happy/a.wav']
    assert sorted(report.of('skipped')['where']) == ['happy/a.3gp', 'happy/a.ac3']


WORDS = {'joy': 'Happiness', 'angry': 'Anger', 'sadness': 'Sadness', ' HAPPY ': 'Happiness', 'Fearful': 'Fear', 'neutral\xa0': 'Neutral',
         '03_disgust': 'Disgust', 'surprised': 'Surprise', 'ang': 'Anger'}


def test_the_same_words_in_folders_and_tables(tmp_path):
    files = [f'{word.strip()}/{i}.wav' for i, word in enumerate(WORDS)]
    corpus, _ = read_corpus('folder', put(tmp_path, *files))
    assert corpus.clips.sort_values('clip_id').label.tolist() == list(WORDS.values())
    rows = [f'{i},{path},{word}' for i, (path, word) in enumerate(zip(files, WORDS))]
    (tmp_path/'manifest.csv').write_text('clip_id,path,label\n' + '\n'.join(rows) + '\n')
    for corpus in (read_corpus('folder', tmp_path)[0], load_corpus(tmp_path)):
        assert corpus.clips.label.tolist() == list(WORDS.values())


@pytest.mark.parametrize('space,word', [('expression8', 'Langeweile'), ('expression8', 'calm'), ('crema6', 'surprised')])
def test_a_word_for_no_class_is_named_with_its_line(space, word, tmp_path):
    put(tmp_path, 'a.wav', 'b.wav')
    (tmp_path/'manifest.csv').write_text(f'clip_id,path,label\na,a.wav,angry\nb,b.wav,{word}\n')
    with pytest.raises(UserError, match=rf"manifest.csv, line 3: label '(?i:{word[:4]}).*' is no class of {space}; expected one of"):
        read_corpus('folder', tmp_path, space=space)
