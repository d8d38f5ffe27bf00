"""Aff-Wild2: one test a defect of the data set, beside a naive reading of the same tree that gets it wrong."""
import csv, re
from fractions import Fraction

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmemo.corpora.affwild2 import find_tree, locate_crop, read_affwild2
from mmemo.corpora.affwild2_files import parse_labels, read_affwild2_folds, read_submission, write_submission
from mmemo.core import UserError
from mmemo.labels import EXPRESSION8
from mmemo.corpora.manifest import load_corpus, save_corpus
from mmemo.corpora.splits import check_disjoint
from mmemo.media.files import write_clip
from mmemo.media.frames import VideoReader
from mmemo.media.sound import read_audio
from mmemo.training.metrics import accuracy, score_classes, macro_f1

NAMES = ','.join(EXPRESSION8.classes)
EDITION = '6th_ABAW_Annotations'
EXPR, VA = f'{EDITION}/EXPR_Recognition_Challenge', f'{EDITION}/VA_Estimation_Challenge'


def put(root, place, text):
    (root/place).parent.mkdir(parents=True, exist_ok=True)
    (root/place).write_bytes(text.encode() if isinstance(text, str) else text)
    return root/place


def expr(*values, end='\n'): return end.join([NAMES, *map(str, values), ''])
def va(*pairs): return '\n'.join(['valence,arousal', *(f'{v},{a}' for v, a in pairs), ''])


def film(path, n, sound=True, fps=10, stamps=None):
    "A few grey frames; `stamps` are milliseconds, for a variable rate."
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.stack([np.full((16, 16, 3), 20 + 10*i % 200, np.uint8) for i in range(n)])
    if stamps is None: return write_clip(path, frames, fps, .1*np.ones(n*16000//fps) if sound else None)
    with av.open(str(path), 'w') as c:
        v = c.add_stream('libx264', rate=25)
        v.height, v.width, v.pix_fmt = 16, 16, 'yuv420p'
        v.codec_context.time_base = Fraction(1, 1000)
        for f, t in zip(frames, stamps):
            f = av.VideoFrame.from_ndarray(f, format='rgb24')
            f.pts, f.time_base = t, Fraction(1, 1000)
            c.mux(v.encode(f))
        c.mux(v.encode(None))


def pictures(folder, numbers):
    folder.mkdir(parents=True)
    for i in numbers: Image.new('RGB', (8, 8), (i, i, i)).save(folder/f'{i:05d}.jpg', quality=95)


def read(root, task='expr', **kwargs): return read_affwild2(root, task, progress=False, **kwargs)
def of(corpus, clip): return corpus.frames[corpus.frames.clip_id == clip]
def said(report, kind, where, what):
    t = report.of(kind)
    return t[t['where'].str.contains(re.escape(where)) & t.what.str.contains(re.escape(what))]


# --- folders

@pytest.mark.parametrize('edition', ['3rd_ABAW_Annotations', '6th ABAW Annotations', '10th ABAW_Annotations'])
@pytest.mark.parametrize('challenge', ['EXPR_Classification_Challenge', 'EXPR_Recognition_Challenge',
                                       'EXPR Recognition Challenge'])
@pytest.mark.parametrize('sets', [('Train_Set', 'Validation_Set'), ('Train Set', 'Validation Set')],
                         ids=['underscores', 'blanks'])
def test_folder_spelling(tmp_path, edition, challenge, sets):
    for s, name in zip(sets, 'ab'): put(tmp_path, f'{edition}/{challenge}/{s}/{name}.txt', expr(1, 2))
    corpus, _ = read(tmp_path)
    assert dict(zip(corpus.clips.clip_id, corpus.clips.split)) == dict(a='train', b='val')
    # one year's spelling, written down
    wrong = [d for d in ('EXPR_Classification_Challenge', 'EXPR_Recognition_Challenge')
             if not list(tmp_path.glob(f'3rd_ABAW_Annotations/{d}/Train_Set/*.txt'))]
    assert wrong


@pytest.mark.parametrize('root', [EDITION, EXPR, '.'], ids=['annotations', 'challenge', 'whole'])
def test_root_is_the_annotations_folder(tmp_path, root):
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(1, 2)); put(tmp_path, f'{EXPR}/Validation_Set/b.txt', expr(3))
    corpus, report = read(tmp_path/root)
    assert list(corpus.clips.clip_id) == ['a', 'b'] and len(corpus.frames) == 3
    assert len(said(report, 'missing', '.', 'no videos'))


def test_two_releases_are_not_mixed(tmp_path):
    put(tmp_path, f'3rd_ABAW_Annotations/EXPR_Classification_Challenge/Train_Set/a.txt', expr(1, 1))
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(2, 2))
    with pytest.raises(UserError, match='3rd_ABAW_Annotations.*6th_ABAW_Annotations.*annotations='): read(tmp_path)
    corpus, _ = read(tmp_path, annotations=EDITION)
    assert list(corpus.frames.label) == [2, 2]
    naive = sorted(tmp_path.rglob('a.txt'))[0] # the first file of that name
    assert naive.read_text() == expr(1, 1)


def test_no_challenge_folder_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match='expected one folder va_estimation_challenge'): read(tmp_path, 'va')
    with pytest.raises(UserError, match='no such folder'): read(tmp_path/'nowhere')
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', va((0, 0)))
    with pytest.raises(UserError, match='none that can be read.*expected the header'): read(tmp_path)
    with pytest.raises(UserError, match="'cropped' or 'cropped_aligned', got 'big'"): read(tmp_path, crops='big')


def test_new_videos_lie_in_another_folder(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/old.txt', expr(1, 2)); put(tmp_path, f'{EXPR}/Train_Set/new.txt', expr(1, 2))
    pictures(tmp_path/'cropped_aligned/old', [1, 2]); pictures(tmp_path/'cropped_aligned_new_50_vids/new', [1, 2])
    film(tmp_path/'batch1/old.mp4', 2); film(tmp_path/'new_vids/new.mp4', 2)
    corpus, report = read(tmp_path, crops='cropped_aligned')
    assert corpus.frames.has_crop.all() and corpus.clips.has_video.all()
    assert locate_crop(corpus, 'new', 1) == tmp_path/'cropped_aligned_new_50_vids/new/00002.jpg'
    assert not (tmp_path/'cropped_aligned/new').exists() # where a naive reading looks
    _, report = read(tmp_path) # `cropped` is not there at all: said, and the other taken
    assert len(said(report, 'missing', '.', "'cropped_aligned' is taken in its place"))


def test_an_avi_is_a_video_too(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(*[1]*6))
    (tmp_path/'batch2').mkdir()
    with av.open(str(tmp_path/'batch2/a.avi'), 'w') as c:
        v = c.add_stream('mpeg4', rate=10)
        v.height, v.width, v.pix_fmt = 16, 16, 'yuv420p'
        for i in range(6):
            c.mux(v.encode(av.VideoFrame.from_ndarray(np.full((16, 16, 3), 30*i, np.uint8), format='rgb24')))
        c.mux(v.encode(None))
    corpus, _ = read(tmp_path)
    assert corpus.clips.path[0] == 'batch2/a.avi' and corpus.clips.fps[0] == pytest.approx(10)
    assert np.allclose(corpus.frames.time, (np.arange(6) + .5)/10)
    assert not list(tmp_path.rglob('*.mp4'))


# --- labels

@pytest.fixture
def gaps(tmp_path):
    "Eight frames whose faces were found in five; the pictures carry their frame's number as their grey value."
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(0, 1, 2, 3, 4, 5, 6, 7))
    pictures(tmp_path/'cropped/a', [1, 2, 5, 6, 8]); film(tmp_path/'batch1/a.mp4', 8)
    return tmp_path


def test_missing_crop_is_marked_never_shifted(gaps):
    corpus, report = read(gaps)
    a = of(corpus, 'a')
    assert list(a.label) == list(range(8)) and list(a.has_crop) == [True, True, False, False, True, True, False, True]
    for frame in a.frame[a.has_crop]: # picture and label are of the same frame
        assert abs(int(np.asarray(Image.open(locate_crop(corpus, 'a', frame)))[0, 0, 0]) - (frame + 1)) <= 1
    assert said(report, 'missing', 'a', 'without a picture, 3 with a label')['count'].tolist() == [3]
    naive = list(zip(sorted(p.name for p in (gaps/'cropped/a').iterdir()), a.label)) # n-th picture, n-th label
    assert naive[2] == ('00005.jpg', 2) and a.label.iloc[4] == 4


def test_header_is_not_a_label(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(5, 0, 7))
    corpus, _ = read(tmp_path)
    assert list(corpus.frames.label) == [5, 0, 7]
    naive = (tmp_path/f'{EXPR}/Train_Set/a.txt').read_text().splitlines()
    assert naive[1] == '5' and not naive[0].isdigit() # line i is frame i only when the header is not counted


ALPHABETICAL = ','.join(sorted(EXPRESSION8.classes))


@pytest.mark.parametrize('header', ['valence,arousal', ALPHABETICAL, '3'],
                         ids=['of_another_task', 'classes_in_another_order', 'no_header'])
def test_another_header_is_refused(tmp_path, header):
    put(tmp_path, f'{EXPR}/Train_Set/bad.txt', f'{header}\n3\n4\n')
    put(tmp_path, f'{EXPR}/Train_Set/good.txt', expr(1))
    corpus, report = read(tmp_path)
    assert list(corpus.clips.clip_id) == ['good']
    assert len(said(report, 'skipped', 'bad.txt', f'expected the header \'{NAMES}\', found \'{header}\''))
    naive = pd.read_csv(tmp_path/f'{EXPR}/Train_Set/bad.txt', skiprows=1, header=None) # takes it for ABAW's order
    assert len(naive) == 2


def test_minus_one_is_no_label(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(-1, 7, -1, 0))
    corpus, report = read(tmp_path)
    assert list(corpus.frames.label) == [-1, 7, -1, 0]
    assert corpus.clips.n_labelled[0] == 2
    assert corpus.frames.label.dtype == np.int8
    assert not len(said(report, 'skipped', 'a.txt', ''))
    naive = np.eye(8)[corpus.frames.label] # one-hot: -1 silently becomes the last class, Other
    assert naive[0].argmax() == 7


def test_minus_five_in_either_value_is_no_label(tmp_path):
    put(tmp_path, f'{VA}/Train_Set/a.txt', va((.5, -.25), (-5, .5), (.5, -5), (-5, -5), (-1, 1)))
    corpus, report = read(tmp_path, 'va')
    there = corpus.frames.valence.notna() & corpus.frames.arousal.notna()
    assert list(there) == [True, False, False, False, True] and corpus.clips.n_labelled[0] == 2
    assert (corpus.frames.valence.isna() == corpus.frames.arousal.isna()).all()
    assert corpus.frames.valence.dtype == np.float32 and (corpus.frames.label == -1).all() and corpus.space == 'va'
    assert said(report, 'note', 'a.txt', 'one value of -5')['count'].tolist() == [2]
    naive = pd.read_csv(tmp_path/f'{VA}/Train_Set/a.txt')
    assert len(naive[naive.valence + naive.arousal != -10]) == 4 # drops a line only where both are -5


def test_impossible_values_are_refused_line_by_line(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(0, 9, 3, -2, 2.5, 4, 'x', 5))
    put(tmp_path, f'{VA}/Train_Set/b.txt', va((.5, .5), (1.5, 0), (0, -1.01), ('nan', 0), ('inf', 0), (1, -1)))
    corpus, report = read(tmp_path)
    assert list(corpus.frames.label) == [0, -1, 3, -1, -1, 4, -1, 5]
    row = said(report, 'skipped', 'a.txt', "line 3: '9' is no class from 0 to 7")
    assert row['count'].tolist() == [4]
    corpus, report = read(tmp_path, 'va')
    assert list(corpus.frames.valence.notna()) == [True, False, False, False, False, True]
    assert said(report, 'skipped', 'b.txt', "line 3: '1.5,0' is no pair of values")['count'].tolist() == [4]
    naive = pd.read_csv(tmp_path/f'{VA}/Train_Set/b.txt').dropna() # takes 1.5, -1.01 and inf for valence and arousal
    assert (naive.abs() > 1).any(axis=None)


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'], ids=['lf', 'crlf', 'cr'])
def test_a_blank_line_keeps_its_place(tmp_path, end):
    file = put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(0, 1, '', 3, '', 5, end=end))
    corpus, report = read(tmp_path)
    assert list(corpus.frames.label) == [0, 1, -1, 3, -1, 5]
    assert said(report, 'skipped', 'a.txt', "line 4: ''")['count'].tolist() == [2]
    # split, as most loaders do: all later labels move up
    assert [int(x) for x in file.read_text().split()[1:]] == [0, 1, 3, 5]


def test_fast_and_careful_parsing_agree():
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, (500, 2)).round(3)
    fast = parse_labels(va(*values).encode(), 'va').values
    careful = parse_labels(va(*values).replace(',', ' , ').replace('valence , ', 'valence,').encode(), 'va').values
    assert np.array_equal(fast, values.astype(np.float32)) and np.array_equal(fast, careful)
    labels = rng.integers(-1, 8, 500)
    text = expr(*labels)
    for written in (text, text.replace('\n', ' \n'), text.replace('\n', '\r\n'), '\ufeff' + text):
        assert np.array_equal(parse_labels(written.encode(), 'expr').values, labels)
    # one number too few, one too many: the sum is right
    assert list(parse_labels(expr(0, '', '3-1', 5).encode(), 'expr').values) == [0, -1, -1, 5]


def test_files_that_are_no_labels(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/good.txt', expr(1, 2))
    put(tmp_path, f'{EXPR}/Train_Set/._good.txt', b'\x00\x05\x16\x07')
    put(tmp_path, f'{EXPR}/Train_Set/.DS_Store', b'x')
    put(tmp_path, '__MACOSX/6th_ABAW_Annotations/EXPR_Recognition_Challenge/Train_Set/x.txt', expr(1))
    for name, data in dict(empty=b'', blank=b'\n\n', bare=f'{NAMES}\n'.encode(), binary=bytes(range(256))).items():
        put(tmp_path, f'{EXPR}/Train_Set/{name}.txt', data)
    put(tmp_path, f'{EXPR}/Train_Set/notes.docx', b'x'); (tmp_path/f'{EXPR}/Train_Set/folder.txt').mkdir()
    corpus, report = read(tmp_path)
    assert list(corpus.clips.clip_id) == ['good']
    reasons = dict(empty='the file is empty (0 bytes)', blank='the file is empty', bare='below the header',
                   binary='expected the header', notes='expected label files', folder='Is a directory')
    for name, why in reasons.items():
        assert len(said(report, 'skipped', name, why)) == 1, name
    assert len(list((tmp_path/f'{EXPR}/Train_Set').glob('*.txt'))) > 2 # what a naive glob takes for videos


# --- one video, two people

@pytest.fixture
def twins(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/v_left.txt', expr(1, 1, 1))
    put(tmp_path, f'{EXPR}/Train_Set/v_right.txt', expr(2, 2, 2))
    put(tmp_path, f'{EXPR}/Train_Set/w.txt', expr(0, 0, 0))
    put(tmp_path, f'{EXPR}/Validation_Set/w_right.txt', expr(5, 5, 5))
    for name in ('v_left', 'v_right'): pictures(tmp_path/'cropped'/name, [1, 2, 3])
    film(tmp_path/'batch1/v.mp4', 3); film(tmp_path/'batch1/w.mp4', 3)
    put(tmp_path, 'audio/v.wav', b'RIFF')
    return tmp_path


def test_left_and_right_are_one_video_and_one_sound(twins):
    corpus, report = read(twins)
    clips = corpus.clips.set_index('clip_id')
    assert set(clips.loc[['v_left', 'v_right']].path) == {'batch1/v.mp4'}
    assert set(clips.loc[['v_left', 'v_right']].audio_path) == {'audio/v.wav'}
    assert list(clips.loc[['v_left', 'v_right']].group) == ['v', 'v']
    assert clips.loc[['v_left', 'v_right']].subject.nunique() == 2
    assert clips.crops_dir['v_left'] == 'cropped/v_left' and list(of(corpus, 'v_right').label) == [2, 2, 2]
    assert len(said(report, 'note', 'v', '2 clips (v_left, v_right)'))
    assert not (twins/'batch1/v_left.mp4').exists() # where a naive reading looks


def test_left_and_right_on_two_sides_is_a_leak(twins):
    corpus, report = read(twins)
    with pytest.raises(UserError, match=r"group\(s\) stand on both sides of the split: 'w' \(train and val\)"):
        check_disjoint(corpus.clips)
    assert len(said(report, 'note', 'w', 'a leak: they stand in train and val'))
    check_disjoint(corpus.clips.drop(columns='group')) # by subject alone, nobody notices
    check_disjoint(corpus.subset(['v_left', 'v_right']).clips)


def test_a_name_in_two_lists_is_a_leak(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(1)); put(tmp_path, f'{EXPR}/Validation_Set/a.txt', expr(2))
    corpus, _ = read(tmp_path)
    assert list(corpus.clips.clip_id) == ['a', 'a@val'] and list(corpus.frames.label) == [1, 2]
    with pytest.raises(UserError, match="'a' .train and val."): check_disjoint(corpus.clips)
    assert len({p.stem: p for p in tmp_path.rglob('*.txt')}) == 1 # a dictionary by name drops one in silence


# --- frames, times, sound

def test_one_label_more_than_frames_is_cut(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(0, 1, 2, 3, 4, 5)); film(tmp_path/'batch1/a.mp4', 5)
    pictures(tmp_path/'cropped/a', [1, 2, 3, 4, 5, 6])
    corpus, report = read(tmp_path)
    assert list(corpus.frames.label) == [0, 1, 2, 3, 4]
    assert len(corpus.frames) == len(VideoReader(tmp_path/'batch1/a.mp4'))
    assert said(report, 'mended', 'a', 'labels past the last frame, cut (6 labels, 5 frames)')['count'].tolist() == [1]
    assert said(report, 'mended', 'a', 'pictures past the last frame')['count'].tolist() == [1]
    # by index ratio: the middle of the film gets a neighbour's label
    stretched = np.round(np.linspace(0, 5, 5)).astype(int)
    assert list(stretched) != list(range(5))


def test_several_labels_fewer_than_frames_are_marked(tmp_path):
    put(tmp_path, f'{VA}/Train_Set/a.txt', va((.1, .2), (.3, .4), (.5, .6))); film(tmp_path/'batch1/a.mp4', 6)
    corpus, report = read(tmp_path, 'va')
    assert np.allclose(corpus.frames.valence[:3], [.1, .3, .5])
    assert corpus.frames[['valence', 'arousal']][3:].isna().all(axis=None)
    row = said(report, 'mended', 'a', 'frames past the last label, marked as without (3 labels, 6 frames)')
    assert row['count'].tolist() == [3]
    naive = np.pad([.1, .3, .5], (0, 3)) # zero-padded labels say "neutral" where nobody said anything
    assert not np.isnan(naive).any()


def test_many_more_labels_than_frames_are_cut(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(*range(8), *range(8))); film(tmp_path/'batch1/a.mp4', 5)
    corpus, report = read(tmp_path)
    assert list(corpus.frames.label) == list(range(5))
    assert said(report, 'mended', 'a', 'cut (16 labels, 5 frames)')['count'].tolist() == [11]


def test_pictures_beyond_the_labels_without_a_video(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(0, 1)); pictures(tmp_path/'cropped/a', [0, 1, 2, 3])
    corpus, report = read(tmp_path)
    assert list(corpus.frames.label) == [0, 1, -1] and corpus.frames.has_crop.all()
    assert len(said(report, 'mended', 'a', '(2 labels, 3 frames)')) == 1
    assert len(said(report, 'skipped', 'a', '00000.jpg')) == 1


def test_variable_frame_rate_takes_time_stamps(tmp_path):
    stamps = [0, 33, 66, 500, 533, 1000, 2000]
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(*range(7)))
    (tmp_path/'batch1').mkdir()
    film(tmp_path/'batch1/a.mp4', 7, stamps=stamps)
    corpus, report = read(tmp_path)
    reader = VideoReader(tmp_path/'batch1/a.mp4')
    assert np.allclose(corpus.frames.time, reader.times, atol=1e-5)
    assert corpus.clips.fps[0] == pytest.approx(reader.fps, rel=1e-5)
    assert len(said(report, 'note', 'a.mp4', 'variable frame rate')) == 1
    even = (np.arange(7) + .5)/reader.fps
    assert np.abs(even - reader.times).max() > .3 # a header's mean rate is wrong by frames
    quick, report = read(tmp_path, probe_videos=False, fps=25.)
    assert np.allclose(quick.frames.time, (np.arange(7) + .5)/25)
    assert len(said(report, 'note', '.', 'not looked at: even times at 25'))


def test_frames_meet_the_video_in_time(tmp_path):
    from mmemo.features.windows import find_nearest_rows
    for name, n in (('a', 7), ('b', 5)):
        put(tmp_path, f'{EXPR}/Train_Set/{name}.txt', expr(*range(n))); film(tmp_path/f'batch1/{name}.mp4', n)
    corpus, _ = read(tmp_path)
    times = [VideoReader(tmp_path/f'batch1/{name}.mp4').times for name in 'ba']
    rows = find_nearest_rows(np.concatenate(times), np.array([0, 5, 12]), ['b', 'a'], corpus.frames, .01)
    assert list(rows) == [*range(7, 12), *range(7)]


def test_video_without_sound_is_noted(tmp_path):
    for name in 'ab':
        put(tmp_path, f'{EXPR}/Train_Set/{name}.txt', expr(1, 2, 3))
        film(tmp_path/f'batch1/{name}.mp4', 3, sound=name == 'a')
    corpus, report = read(tmp_path)
    assert said(report, 'missing', '', 'no sound track')['where'].tolist() == ['batch1/b.mp4'] and len(corpus) == 2
    assert read_audio(tmp_path/'batch1/b.mp4') is None # what a naive reading takes the length of
    put(tmp_path, 'wav/b.wav', b'RIFF') # sound in a file of its own is sound
    corpus, report = read(tmp_path)
    assert not len(said(report, 'missing', '', 'no sound track')) and corpus.clips.audio_path[1] == 'wav/b.wav'


def test_broken_and_missing_videos_keep_their_labels(tmp_path):
    for name in 'abc': put(tmp_path, f'{EXPR}/Train_Set/{name}.txt', expr(1, 2, 3))
    film(tmp_path/'batch1/a.mp4', 3); put(tmp_path, 'batch1/b.mp4', b'no film')
    corpus, report = read(tmp_path, fps=20.)
    assert list(corpus.clips.has_video) == [True, False, False] and np.allclose(corpus.clips.fps, [10, 20, 20])
    assert len(said(report, 'missing', 'b.mp4', 'video cannot be used')) == 1
    assert len(said(report, 'missing', 'c', 'no video of this name')) == 1
    assert np.allclose(of(corpus, 'c').time, [.025, .075, .125]) and list(of(corpus, 'b').label) == [1, 2, 3]
    with pytest.raises(UserError): VideoReader(tmp_path/'batch1/b.mp4') # where a naive reading stops


# --- lists

def test_official_lists_and_test_names(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/a.txt', expr(1)); put(tmp_path, f'{EXPR}/Validation_Set/b.txt', expr(2))
    film(tmp_path/'batch1/t.mp4', 4); pictures(tmp_path/'cropped/u', [2, 3])
    names = put(tmp_path, f'{EXPR}/test_set_release.txt', 't\nu.mp4\nnothing\n../../etc/passwd\n')
    for given in (None, names, f'{EXPR}/test_set_release.txt'):
        corpus, report = read(tmp_path, test_list=given)
        assert dict(zip(corpus.clips.clip_id, corpus.clips.split)) == dict(a='train', b='val', t='test', u='test')
        assert len(of(corpus, 't')) == 4 and len(of(corpus, 'u')) == 3 and (of(corpus, 't').label == -1).all()
        assert list(of(corpus, 'u').has_crop) == [False, True, True]
        assert len(said(report, 'skipped', 'nothing', 'neither labels nor video nor pictures')) == 1
        assert len(said(report, 'skipped', 'test_set_release.txt', 'line 4: expected a name, found a path')) == 1
        assert not len(said(report, 'mended', 't', 'label')) # no labels are not too few
    assert not {'t', 'u'} & {p.stem for p in tmp_path.rglob('*_Set/*.txt')} # label files alone know no test videos


def test_folds_keep_the_people_of_a_video_together(twins):
    corpus, report = read(twins)
    for i, names in enumerate((['v'], ['w.mp4', '../x'])): put(twins, f'lists/fold{i + 1}.txt', '\n'.join(names))
    put(twins, 'lists/fold1_train.txt', 'w')
    with pytest.raises(UserError, match='expected a name, found a path'): read_affwild2_folds(corpus.clips, twins/'lists')
    folds = read_affwild2_folds(corpus.clips, twins/'lists', report)
    assert [f.tolist() for f in folds] == [[True, True, False, False], [False, False, True, True]]
    assert folds[0].dtype == bool
    assert corpus.clips.clip_id.isin(['v']).sum() == 0 # by name alone, nobody is held out
    one = put(twins, 'six.txt', 'v_left, 1\nw, 10\nw_right, 10\nv_right 1\n')
    assert [f.sum() for f in read_affwild2_folds(corpus.clips, one)] == [2, 2]
    put(twins, 'six.txt', 'v_left, 1\nv_right, 2\nw, 3')
    with pytest.raises(UserError, match=r"different folds \('v'\)"): read_affwild2_folds(corpus.clips, one)
    put(twins, 'six.txt', 'v, 1\nv, 2')
    with pytest.raises(UserError, match="'v' is held out in fold 1 and in fold 2"): read_affwild2_folds(corpus.clips, one)
    put(twins, 'six.txt', 'v, 1\nzz, 2')
    with pytest.raises(UserError, match="1 name.s. are not in the corpus, the first is 'zz'"):
        read_affwild2_folds(corpus.clips, one)
    assert len(read_affwild2_folds(corpus.clips, one, report)) == 2 and len(said(report, 'missing', 'six.txt', "'zz'"))


def test_names_with_blanks_find_their_files(tmp_path):
    put(tmp_path, f'{EXPR}/Train_Set/my video_left.txt', expr(1, 2))
    film(tmp_path/'batch1/my_video.mp4', 2)
    pictures(tmp_path/'cropped/my_video_left', [1])
    corpus, _ = read(tmp_path)
    assert corpus.clips.path[0] == 'batch1/my_video.mp4'
    assert corpus.clips.group[0] == 'my_video'
    assert list(corpus.frames.has_crop) == [True, False]
    assert not (tmp_path/'batch1/my video_left.mp4').exists()


def test_saved_and_loaded(gaps):
    corpus, _ = read(gaps)
    save_corpus(corpus, gaps/'tables')
    again = load_corpus(gaps/'tables')
    assert again.frames.equals(corpus.frames)
    assert again.facts == corpus.facts
    assert again.clips.crops_dir[0] == 'cropped/a'
    kinds = dict(clip_id='category', frame='int32', time='float32', label='int8', valence='float32', arousal='float32',
                 has_crop='bool')
    assert again.frames.dtypes.astype(str).to_dict() == kinds


# --- submission

def test_submission_numbers_pictures_from_one(tmp_path):
    rng = np.random.default_rng(0)
    pred = pd.DataFrame(dict(clip_id=np.repeat(['a', 'b_left'], [300, 3000]), frame=np.r_[:300, 120456:123456],
                             predicted=rng.integers(0, 8, 3300)))
    write_submission(pred, tmp_path/'expr.txt', 'expr')
    lines = (tmp_path/'expr.txt').read_text().split('\n')
    assert lines[0] == f'image_location,{NAMES}' and lines[1] == f'a/00001.jpg,{pred.predicted[0]}' and lines[-1] == ''
    assert lines[-2] == f'b_left/123456.jpg,{pred.predicted.iloc[-1]}'
    again = read_submission(tmp_path/'expr.txt')
    for c in pred: assert list(again[c]) == list(pred[c])
    write_submission(again, tmp_path/'again.txt', 'expr')
    assert (tmp_path/'again.txt').read_bytes() == (tmp_path/'expr.txt').read_bytes()
    naive = f'{pred.clip_id[0]}/{pred.frame[0]:05d}.jpg' # the table counts from 0
    assert naive not in (tmp_path/'expr.txt').read_text()
    # a table reader takes the header's nine names for nine fields
    assert len(next(csv.reader([lines[1]]))) == 2 and len(next(csv.reader([lines[0]]))) == 9


def test_submission_of_values_reads_back_equal(tmp_path):
    rng = np.random.default_rng(1)
    drawn = np.r_[rng.uniform(-1, 1, 1994), 1, -1, 0, 1e-7, -3e-12, .1].astype(np.float32)
    pred = pd.DataFrame(dict(clip_id='v', frame=np.arange(2000), p_valence=drawn, p_arousal=drawn[::-1], valence=0.))
    write_submission(pred, tmp_path/'va.txt', 'va')
    again = read_submission(tmp_path/'va.txt')
    assert (tmp_path/'va.txt').read_text().startswith('image_location,valence,arousal\nv/00001.jpg,')
    # `valence` is the label, not the answer
    for c in ('frame', 'p_valence', 'p_arousal'): assert np.array_equal(again[c], pred[c])
    short = pred.p_valence.map('{:.3f}'.format).astype(np.float32)
    assert not np.array_equal(short, pred.p_valence) # three digits, as a naive writer gives


@pytest.mark.parametrize('change, told', [
    (dict(predicted=[0, -1, 2]), "clip 'a', frame 1: expected one class"), (dict(frame=[0, 0, 2]), "clip 'a', frame 0"),
    (dict(clip_id=['a', '../b', 'a']), "clip '../b', frame 1"), (dict(predicted=['Neutral', None, 'Fear']), 'frame 1'),
    (dict(predicted=['Neutral', 'Langeweile', 'Fear']), "'Langeweile' is no class"), (dict(frame=[0, .5, 1]), 'frame 0.5')],
    ids=['no_answer', 'twice', 'path', 'none', 'class', 'half_frame'])
def test_unfit_answers_are_not_written(tmp_path, change, told):
    pred = pd.DataFrame(dict(clip_id='a', frame=range(3), predicted=[0, 1, 2]))
    write_submission(pred.assign(predicted=pd.Categorical(['Neutral', 'Anger', 'Other'])), tmp_path/'s.txt', 'expr')
    before = (tmp_path/'s.txt').read_bytes()
    assert before.endswith(b'a/00001.jpg,0\na/00002.jpg,1\na/00003.jpg,7\n')
    with pytest.raises(UserError, match=told): write_submission(pred.assign(**change), tmp_path/'s.txt', 'expr')
    with pytest.raises(UserError, match="needs a column 'p_valence'"): write_submission(pred, tmp_path/'s.txt', 'va')
    with pytest.raises(UserError, match='1 frame.s. have no prediction, the first is frame 3'):
        write_submission(pred, tmp_path/'s.txt', 'expr', frames=pd.DataFrame(dict(clip_id='a', frame=range(4))))
    assert (tmp_path/'s.txt').read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ['s.txt']


@pytest.mark.parametrize('line', ['a/00003.jpg,8', 'a/00003.jpg', 'a/3.jpg,1', 'a/00000.jpg,1', 'a/00001.jpg,2', '',
                                  '../00003.jpg,1', '/a/00003.jpg,1', 'a/00003.jpg,1,1', 'a/00003.png,1'])
def test_bad_lines_of_a_submission_are_named(tmp_path, line):
    file = put(tmp_path, 's.txt', f'image_location,{NAMES}\na/00001.jpg,0\n{line}\na/00004.jpg,3\n')
    with pytest.raises(UserError, match=re.escape(f'1 line(s) are not') + '.*' + re.escape(f'line 3 ({line!r})')):
        read_submission(file)
    assert len(pd.read_csv(file, header=0, names=range(9))) >= 2 # pandas takes what is there
    put(tmp_path, 's.txt', 'image,Neutral\na/00001.jpg,0\n')
    with pytest.raises(UserError, match="line 1: expected 'image_location"): read_submission(file)
    head = 'image_location,valence,arousal'
    put(tmp_path, 's.txt', f'{head}\na/00001.jpg,0.5,1.5\na/00002.jpg,0.5,--1\na/00003.jpg,1,-1\n')
    with pytest.raises(UserError, match='2 line.*line 2 .*line 3 '): read_submission(file)


def test_always_answering_other_is_right_in_two_frames_of_five():
    counts = np.array([82258, 6126, 5296, 8408, 34511, 25157, 12332, 106444])
    conf = np.zeros((8, 8), np.int64); conf[:, 7] = counts
    assert round(100*float(accuracy(conf)), 1) == 37.9 and round(float(macro_f1(conf)), 3) == .069
    y = np.repeat(np.arange(8), counts)
    scores = score_classes(y, np.full_like(y, 7), 8, classes=EXPRESSION8.classes)
    assert np.array_equal(scores['confusion'], conf) and scores['n'] == 280_532
    assert scores['accuracy'] == float(accuracy(conf))
    assert scores['macro_f1'] == float(macro_f1(conf))
    assert scores['absent'] == []
    share = counts[7]/counts.sum()
    assert 2*share/(1 + share) > .5 # the mean over predicted classes only, as a naive macro-F1 has it


# --- damage

NUMBER = r'\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*'


def slow(data, task):
    "Labels of a file line by line, and the lines refused; None where it is no label file."
    head, *lines = data.decode('latin-1').replace('\r\n', '\n').replace('\r', '\n').rstrip('\n\t\r\f\v ').split('\n')
    header = (NAMES if task == 'expr' else 'valence,arousal').lower().split(',')
    if [w.strip().lower() for w in head.split(',')] != header or not lines:
        return None
    out, refused = [], 0
    for line in lines:
        cells = line.split(',')
        numbers = [float(c) for c in cells] if all(re.fullmatch(NUMBER, c) for c in cells) else []
        if task == 'expr': ok, none = len(numbers) == 1 and numbers[0] in range(-1, 8), False
        else: ok, none = len(numbers) == 2 and all(abs(n) <= 1 or n == -5 for n in numbers), -5 in numbers
        refused += not ok
        empty = -1 if task == 'expr' else [np.nan]*2
        out.append(empty if none or not ok else numbers[0] if task == 'expr' else numbers)
    return np.array(out), refused


def damage(data, rng):
    "Bytes flipped, cut or duplicated."
    data, a = bytearray(data), int(rng.integers(0, len(data)))
    b = min(len(data), a + int(rng.integers(1, 40)))
    kind = rng.integers(0, 3)
    if kind == 0:
        for i in rng.integers(0, len(data), int(rng.integers(1, 6))): data[i] ^= 1 << int(rng.integers(0, 8))
    elif kind == 1: del data[a:b if rng.random() < .7 else None]
    else: data[a:a] = data[a:b]
    return bytes(data)


@pytest.mark.parametrize('task', ['expr', 'va'])
def test_damaged_copies_do_no_harm(tmp_path, task):
    rng = np.random.default_rng(3)
    folder, sound = {'expr': EXPR, 'va': VA}[task], {}
    for i in range(8):
        n = int(rng.integers(20, 60))
        values = rng.uniform(-1, 1, (n, 2)).round(3); values[rng.random(n) < .1] = -5
        text = expr(*rng.integers(-1, 8, n)) if task == 'expr' else va(*values)
        sound[f'v{i}'] = put(tmp_path, f'{folder}/{"Train" if i < 6 else "Validation"}_Set/v{i}.txt', text)
    whole, _ = read(tmp_path, task)
    kept, refusals, unreadable = ['frame', 'time', 'label', 'valence', 'arousal', 'has_crop'], 0, 0
    for _ in range(30):
        hurt = rng.choice(list(sound), 2, replace=False)
        before = {name: sound[name].read_bytes() for name in hurt}
        for name in hurt: sound[name].write_bytes(damage(before[name], rng))
        corpus, report = read(tmp_path, task)
        fine = [name for name in sound if name not in hurt]
        for name in fine:
            assert of(corpus, name)[kept].reset_index(drop=True).equals(of(whole, name)[kept].reset_index(drop=True))
        for name in hurt:
            expected, mine = slow(sound[name].read_bytes(), task), said(report, 'skipped', f'{name}.txt', '')
            unreadable += expected is None
            if expected is None:
                assert name not in set(corpus.clips.clip_id) and len(mine) == 1 and len(mine.what.iloc[0]) > 20
            else:
                refusals += expected[1]
                got = of(corpus, name)[['label'] if task == 'expr' else ['valence', 'arousal']].to_numpy()
                assert np.array_equal(got, expected[0].reshape(got.shape).astype(got.dtype), equal_nan=task == 'va')
                assert mine['count'].sum() == expected[1]
            sound[name].write_bytes(before[name])
    assert refusals > 5 and unreadable > 1 # the damage was felt
    with pytest.raises(ValueError): # a naive reading stops at the first of them
        np.loadtxt(put(tmp_path, 'x.txt', expr(1, 'x', 2)), skiprows=1)
