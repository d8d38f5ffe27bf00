"""The player without a browser: its film in pieces, its cache, what it says when something is missing, and its state."""
import re
from importlib.resources import files

import numpy as np, pytest, torch

import mmemo.panels.film as film_module
import mmemo.panels.player as player_module
from mmemo.models.attention import AttentionMap
from mmemo.core import UserError
from mmemo.media.files import write_clip
from mmemo.media.frames import VideoReader
from mmemo.media.sound import read_audio
from mmemo.panels.film import PIECE, prepare_film
from mmemo.panels.player import Player, make_attention_row, make_band_row, make_map_row, make_player
from mmemo.explain.evidence import Evidence
from small_run import small_run

torch.set_num_threads(1)
EIGHT = ('Neutral', 'Anger', 'Disgust', 'Fear', 'Happiness', 'Sadness', 'Surprise', 'Other')


def marked(n, h=48, w=96):
    "Each frame carries its number in six blocks, black or white."
    bits = (np.arange(n)[:, None] >> np.arange(6) & 1).astype(np.uint8)*255
    return np.broadcast_to(np.repeat(bits, w//6, 1)[:, None, :, None], (n, h, w, 3))


def numbers(path): # of the frames in a small film
    r = VideoReader(path)
    white = r.frames(range(len(r)))[:, 24, 8::16, 0] > 127
    return white @ (1 << np.arange(6))


def evidence(end=2., maps=None, **facts):
    t = (np.arange(50) + .5)*end/50
    p = np.full((50, 8), .05); p[:, 3] = .65
    if maps is None:
        w = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(1))
        at = lambda n: (torch.arange(n)[None] + .5)*end/n
        maps = [AttentionMap('voice -> face', w, 'visual', 'audio', at(20), at(30)), AttentionMap('face -> voice', w.mT - .5, 'audio', 'visual', at(30), at(20), signed=True)]
    return Evidence('c1', EIGHT, t, p, end, np.ones(50, bool), maps, facts=dict(dict(subject='s9', label='Anger'), **facts))


@pytest.fixture
def clip(tmp_path):
    tone = np.zeros(32_000, np.float32); tone[16_000:16_200] = .9 # a click at one second
    write_clip(tmp_path/'clip.mp4', marked(50), 25, tone)
    return prepare_film(tmp_path/'clip.mp4', cache=tmp_path/'cache')


# the film

def test_pieces_are_small_in_order_and_give_the_same_bytes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 240, 320, 3), np.uint8)
    write_clip(tmp_path/'noise.mp4', noise, 25)
    player = make_player(evidence(1.6), prepare_film(tmp_path/'noise.mp4', cache=tmp_path))
    ask = lambda i: player.answer(dict(kind='piece', key=player.film.key, segment=0, piece=i, view='a'))
    n = ask(0)[0]['pieces']
    got = [ask(i) for i in range(n)]
    assert n >= 3 and all(len(b[0]) <= 256*1024 for _, b in got) and [s['piece'] for s, _ in got] == list(range(n))
    assert all(len(b[0]) == PIECE for _, b in got[:-1]) and all(s['view'] == 'a' for s, _ in got)
    assert b''.join(b[0] for _, b in got) == player.film.file(0).read_bytes()
    assert ask(n)[0]['kind'] == 'no-film', 'beyond the end: a sentence, no crash'


def test_no_piece_is_ever_sent_unasked(clip):
    player = make_player(evidence(), clip)
    sent = []
    player.send = lambda *a: sent.append(a)
    player.head = 1; player.time = 1.; player.playing = True
    assert not sent and not list(clip.cache.rglob('*.mp4')), 'nothing is encoded before the browser asks'
    player.heard(player, dict(kind='piece', key=clip.key, segment=0, piece=0), [])
    assert len(sent) == 1 and len(list(clip.cache.rglob('*.mp4'))) == 1
    player.heard(player, dict(kind='something else'), [])
    assert len(sent) == 1
    assert not any(isinstance(v, str) and len(v) > 20_000 for v in player.get_state().values() if v is not player._esm), 'no film in the state'


def test_segments_hold_each_frame_once(clip, monkeypatch):
    monkeypatch.setattr(film_module, 'SEGMENT', .6)
    assert clip.segments == [(0., .6), (.6, 1.2), (1.2, 1.8), (1.8, 2.)]
    found = np.concatenate([numbers(clip.file(i)) for i in range(4)])
    assert found.tolist() == list(range(50))


def test_sound_stands_where_it_stood(clip):
    heard = read_audio(clip.file(0), 16_000)
    assert abs(np.abs(heard).argmax()/16_000 - 1.006) < .012
    first = np.flatnonzero(np.abs(heard) > .3)[0]/16_000
    assert abs(first - 1.) < .006, 'the run-up of the encoder is gone'


def test_a_stretch_of_a_file(tmp_path, clip):
    part = prepare_film(clip.path, .4, 1.2, cache=tmp_path)
    assert numbers(part.file(0)).tolist() == list(range(10, 30)) and part.key != clip.key
    assert abs(part.seconds - .8) < .01
    heard = read_audio(part.file(0), 16_000)
    assert abs(np.flatnonzero(np.abs(heard) > .3)[0]/16_000 - .6) < .006


def test_every_half_second_a_key_frame_and_none_that_waits_for_later_ones(clip):
    import av
    with av.open(str(clip.file(0))) as c: packets = [p for p in c.demux(video=0) if p.size]
    keys = [float(p.pts*p.time_base) for p in packets if p.is_keyframe]
    assert np.diff([*keys, 2.]).max() <= .5 + 1e-6 and all(p.pts == p.dts for p in packets) and packets[0].pts == 0


def test_large_films_become_small_and_even(tmp_path):
    write_clip(tmp_path/'big.mp4', np.zeros((4, 722, 1282, 3), np.uint8), 25)
    r = VideoReader(prepare_film(tmp_path/'big.mp4', cache=tmp_path).file(0))
    assert r.height == 360 and r.width % 2 == 0 and abs(r.width/r.height - 1282/722) < .01


def test_the_cache_is_used_and_follows_the_file(tmp_path, clip):
    a = clip.file(0)
    stamp = a.stat().st_mtime_ns
    again = prepare_film(clip.path, cache=tmp_path/'cache')
    assert again.key == clip.key and again.file(0).stat().st_mtime_ns == stamp
    write_clip(clip.path, marked(49), 25)
    assert prepare_film(clip.path, cache=tmp_path/'cache').key != clip.key
    assert not [p for p in (tmp_path/'cache').rglob('.*')], 'no temporary file stays'


def test_a_film_that_breaks_leaves_nothing_behind(clip):
    player = make_player(evidence(), clip)
    clip.path.write_bytes(b'no longer a film')
    film_module._reader.cache_clear()
    said, buffers = player.answer(dict(kind='piece', key=clip.key, segment=0, piece=0))
    assert said['kind'] == 'no-film' and 'clip.mp4' in said['sentence'] and not buffers
    assert not list(clip.cache.rglob('*.mp4'))


def test_ten_minutes_are_cut_and_nothing_is_encoded_ahead(tmp_path):
    write_clip(tmp_path/'long.mp4', (f for f in marked(1200, 16, 24)), 2)
    film = prepare_film(tmp_path/'long.mp4', cache=tmp_path/'cache')
    assert len(film.segments) == 60 and film.segments[-1][1] == 600 and not (tmp_path/'cache').exists()
    assert len(VideoReader(film.file(48))) == film.frames and len(list((tmp_path/'cache').rglob('*.mp4'))) == 1


# what is missing

def test_without_sound(tmp_path):
    write_clip(tmp_path/'silent.mp4', marked(25), 25)
    film = prepare_film(tmp_path/'silent.mp4', cache=tmp_path)
    player = make_player(evidence(1.), film)
    assert film.video and not film.audio and 'mp4a' not in film.piece(0, 0)[2]
    assert player.rows['says']['sound'] == 'This clip has no sound track; the map shows the face alone.' and 'sound' not in player.rows


def test_without_picture(tmp_path):
    import soundfile
    soundfile.write(tmp_path/'voice.wav', .2*np.sin(np.arange(32_000)/9), 16_000)
    player = make_player(evidence(), prepare_film(tmp_path/'voice.wav', cache=tmp_path))
    assert not player.media['video'] and player.media['audio'] and 'no picture' in player.media['why']
    assert player.film.piece(0, 0)[2] == 'audio/mp4; codecs="mp4a.40.2"' and player.rows['sound']['low']


@pytest.mark.parametrize('name,content', [('gone.mp4', None), ('text.mp4', b'not a film'), ('empty.mp4', b'')])
def test_a_film_that_cannot_be_read(tmp_path, name, content):
    if content is not None: (tmp_path/name).write_bytes(content)
    player = make_player(evidence(), prepare_film(tmp_path/name, cache=tmp_path))
    assert not player.media['video'] and not player.media['audio'] and name in player.media['why'] and str(tmp_path) not in player.media['why']
    assert player.map['values'] and player.rows['curve']['values']


def test_maps_that_are_not_there():
    assert 'keeps no attention maps' in make_attention_row([], 'visual')['says']
    assert 'no voice in this clip' in make_map_row(np.zeros((4, 0)), np.arange(4), [])['says']
    assert 'nothing' in make_band_row(dict(visual=([], [])), 1.)['says']


# the rows

def test_signed_maps_and_features_are_marked():
    one = make_attention_row(evidence().maps, 'audio')
    assert one['signed'] and one['low'] < 0 and one['note'].startswith('Strongest')
    m = AttentionMap('columns', torch.rand(1, 1, 6, 5), 'visual', 'audio')
    assert make_attention_row([m], 'visual')['axes'] == dict(query='feature', key='feature')


@pytest.mark.parametrize('head,of', [(-1, lambda w: w.mean(0)), (-2, lambda w: w.max(0)), (1, lambda w: w[1]), (99, lambda w: w[2])])
def test_heads(head, of):
    maps = evidence().maps
    got = np.frombuffer(make_attention_row(maps, 'visual', head=head)['values'], np.float32).reshape(20, 30)
    assert np.allclose(got, of(maps[0].weights[0].numpy()))


def test_large_maps_go_as_bytes():
    z = np.random.default_rng(0).random((300, 400))
    row = make_map_row(z, np.arange(300), np.arange(400))
    got = np.frombuffer(row['values'], np.uint8).reshape(300, 400)/255*(row['high'] - row['low']) + row['low']
    assert row['bits'] == 8 and np.abs(got - z).max() <= 1/250
    assert len(make_map_row(np.ones((2000, 2000)), np.arange(2000), np.arange(2000))['values']) <= 256*1024


def test_a_signed_large_map_keeps_its_zero():
    row = make_map_row(np.linspace(-1, 3, 120_000).reshape(300, 400), np.arange(300), np.arange(400), signed=True)
    got = np.frombuffer(row['values'], np.uint8)/255*(row['high'] - row['low']) + row['low']
    assert abs(got[30_000]) < .02


def test_labels_and_words(clip):
    labels = ['Neutral']*20 + ['Anger']*30
    player = make_player(evidence(words='[["door", 0.2, 0.6]]'), clip, labels=labels, times=(np.arange(50) + .5)/25)
    assert [r[2] for r in player.rows['label']] == ['Neutral', 'Anger'] and abs(player.rows['label'][1][0] - .8) < .021
    assert player.rows['words'] == [['door', .2, .6]] and player.rows['words_timed']
    assert player.facts == [['clip', 'c1', ''], ['subject', 's9', ''], ['labelled', 'Anger', ''], ['predicted', 'Fear (0.65)', 'wrong']]
    assert player.rows['curve']['lead'] == 3


# the state

def test_another_head_sends_the_map_and_nothing_else(clip):
    player = make_player(evidence(), clip)
    sent = []
    player.observe(lambda c: sent.append(c['name']), ['map', 'rows', 'media', 'facts', 'options', 'time'])
    player.head = 2
    assert sent == ['map']
    player.query = 'audio'
    assert player.map['query'] == 'audio' and sent == ['map', 'map']


def test_attribution_stands_beside_attention(clip):
    t = np.arange(50)/25
    player = make_player(evidence(), clip, attributions={'occlusion': dict(visual=(np.sin(t), t), audio=(np.cos(t), t))})
    assert [n for n, _ in player.options['show']] == ['attention', 'occlusion']
    player.show = 'occlusion'
    assert player.map['names'] == ['face', 'voice'] and player.map['signed']
    face, voice = np.frombuffer(player.map['values'], np.float32).reshape(2, 600) # in the order of the names: player.js draws both from the top
    assert np.allclose(face[[0, -1]], np.sin([0, t[-1]]), atol=.05) and np.allclose(voice[[0, -1]], np.cos([0, t[-1]]), atol=.05)


def test_the_page_holds_its_film_or_says_why_not(clip, monkeypatch):
    player = make_player(evidence(), clip)
    html = player.to_html()
    assert len(html) < 10e6 and 'left out' not in html and not re.search(r'(src|href)="?https?:', html)
    monkeypatch.setattr(player_module, 'PAGE_FILM', 100)
    assert 'larger than 10 MB' in player.to_html()


def test_a_source_gives_a_player_of_its_clips():
    from mmemo.panels.clip import attention_panel
    from mmemo.panels.source import open_source
    source = open_source(small_run())
    player = source.player(head=1)
    ids = [c for _, c in player.clips]
    assert player.head == 1 and player.clip_id == ids[0] and set(ids) == set(source.offered.clip_id)
    assert player.rows['label'] and player.rows['words'] and player.media['video'] and player.media['audio']
    before, key = player.map, player.media['key']
    player.selection = [.2, .5]
    player.clip_id = ids[3]
    assert player.map != before and player.media['key'] != key and player.head == 1 and player.selection == [] and player.evidence.clip_id == ids[3]
    with pytest.raises(UserError, match='no clip'): player.clip_id = 'nobody'
    assert player.clip_id == ids[3]
    with pytest.raises(UserError, match='no clip'): source.player('nobody')
    assert 'make demo' in attention_panel('runs/none').sentence


def test_the_notebook_runs(tmp_path):
    from test_workbench import ROOT, run_notebook
    nb = run_notebook(ROOT/'nbs'/'workbench'/'attention.ipynb', tmp_path, run=str(small_run()))
    assert nb.cells[-1].outputs[0].text.strip() == 'ClipPanel' and 'Traceback' not in str(nb)
    assert sum('application/vnd.jupyter.widget-view+json' in o.get('data', {}) for c in nb.cells for o in c.get('outputs', [])) == 1


def test_the_module_stands_alone():
    text = files('mmemo').joinpath('static', 'player.js').read_text(encoding='utf8')
    assert not re.search(r'^\s*import |import\(|https?://', text, re.M) and text.rstrip().endswith('export default { render };')
    assert Player._esm is not None
