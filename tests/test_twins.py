"""The planted twins of the four data sets: whole, each is read back as it was planted; harmed, each is still read, and the report says what it met."""
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mmemo.core import UserError, rng_for
from mmemo.corpora.cremad import CREMAD_BROKEN, LETTERS, read_cremad
from mmemo.corpora.ravdess import read_ravdess
from mmemo.corpora.affwild2 import read_affwild2
from mmemo.corpora.mosei import load_mosei
from mmemo.corpora.readers import read_twin_facts
from mmemo.labels import CREMA6
from mmemo.media.files import probe
from mmemo.media.frames import VideoReader
from mmemo.media.sound import read_audio
from mmemo.planted.corpus import PlantedConfig, make_planted
from twins import (DEFECTS, SHAPES, answers, cut, place, plant, planted_words, ravdess_names, remux, sound_of, word_track, write_affwild2, write_cremad,
                   write_mosei, write_mosei_pickle, write_pictures, write_ravdess, write_twin)

SMALL = PlantedConfig(seed=18, both=.35, audio=.2, video=.2, coincidence=0., train_subjects=4, val_subjects=2, test_subjects=2, train_clips=32, val_clips=16, test_clips=16,
                      nuisance=.3, seconds=1., fps=10, size=64)


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
    return make_planted(tmp_path_factory.mktemp('planted'), SMALL, workers=1, progress=False)


@pytest.fixture(scope='module')
def first(planted): return planted.path(planted.clips.iloc[0])


@pytest.fixture(scope='module')
def tracks(planted):
    "Noise in place of features: modality -> clip -> (values, times)."
    rng = rng_for('demo tracks')
    noise = lambda hz, d: (rng.normal(size=(hz, d)).astype(np.float32), (np.arange(hz) + .5)/hz)
    return {m: {c: noise(hz, d) for c in planted.clips.clip_id} for m, hz, d in (('visual', 10, 6), ('audio', 50, 4))}


def by_clip(table, column='label'): return table.set_index('clip_id')[column].to_dict()


# media without rendering

def test_harm_done_to_a_link_leaves_the_planted_clip_whole(first, tmp_path):
    before = first.read_bytes()
    link = place(first, tmp_path/'a/link.mp4')
    cut(link, 100)
    assert link.stat().st_size == 100
    assert first.read_bytes() == before and len(before) > 1000


@pytest.mark.parametrize('name', ['a.flv', 'a.avi'])
def test_another_container_keeps_every_picture(first, tmp_path, name):
    film, again = VideoReader(first), VideoReader(remux(first, tmp_path/name))
    assert np.array_equal(again.frames(range(10)), film.frames(range(10)))
    assert np.allclose(again.times, film.times, atol=1e-3)
    assert probe(tmp_path/name).has_audio


def test_tracks_can_be_left_out_and_moved_in_time(first, tmp_path):
    assert not probe(remux(first, tmp_path/'mute.mp4', ['video'])).has_audio
    clock = lambda t: t*.5 if t < .5 else .25 + (t - .5)*1.5
    slow = VideoReader(remux(first, tmp_path/'slow.mp4', clock=clock)).starts
    assert np.allclose(slow, [clock(t) for t in VideoReader(first).starts], atol=2e-3)


def test_sound_and_pictures_as_files(first, tmp_path):
    assert np.allclose(read_audio(sound_of(first, tmp_path/'sound.wav')), read_audio(first), atol=1e-4)
    write_pictures(first, tmp_path/'cropped')
    assert sorted(p.name for p in (tmp_path/'cropped').iterdir()) == [f'{i:05d}.jpg' for i in range(1, 11)]


# Aff-Wild2

def test_affwild2(planted, tmp_path):
    twin = write_affwild2(planted, tmp_path/'wild')
    corpus, report = read_affwild2(twin, progress=False)
    assert report.table.empty
    both = corpus.frames.astype({'clip_id': str}).merge(planted.frames, on=['clip_id', 'frame'])
    seen = both.clip_id.isin(twin.truth.clip_id[twin.truth.split != 'test'])
    assert seen.any() and both.label_x[seen].tolist() == both.label_y[seen].tolist()
    assert corpus.clips.split.value_counts().to_dict() == dict(train=32, val=16, test=16)

    plant(twin, list(DEFECTS['affwild2']))
    corpus, report = read_affwild2(twin, progress=False)
    assert set(report.table.kind) == {'skipped', 'mended', 'missing', 'note'}
    second = twin.touched['left_right'][1]
    kept = corpus.frames[corpus.frames.clip_id == second].label
    was = planted.frames[planted.frames.clip_id == twin.row(second).planted].label
    assert kept.tolist() == was.tolist() # the second person keeps their own labels
    assert read_twin_facts(twin)['synthetic'] is True
    with pytest.raises(UserError, match="no defect of affwild2 called 'minus_on'. Did you mean 'minus_one'"): plant(twin, ['minus_on'])


# RAVDESS

def test_ravdess(planted, tmp_path):
    twin = write_ravdess(planted, tmp_path/'acted')
    corpus, report = read_ravdess(twin, check_sound=False)
    assert by_clip(corpus.clips) == by_clip(twin.truth)
    assert set(report.table.kind) == {'note', 'missing'} # 16 absent actors, and the clips that every small tree lacks

    plant(twin, list(DEFECTS['ravdess']))
    again, report = read_ravdess(twin, check_sound=False) # names alone; test_corpora.py looks into the files
    assert len(again) == len(corpus)
    assert len(list(twin.root.rglob('*.mp4'))) > 2*len(corpus) # what a naive reading takes for clips
    assert {'skipped', 'mended'} <= set(report.table.kind)


def test_ravdess_has_room_for_so_many_clips(planted):
    with pytest.raises(UserError, match='no room'): ravdess_names(pd.concat([planted.clips]*9))


# CREMA-D

def test_answers_of_ten_raters(): # the letters are ADFHNS
    assert answers('H') == [2, 0, 0, 8, 0, 0]
    assert answers('A:H') == [4, 2, 0, 4, 0, 0]


def test_cremad(planted, tmp_path):
    twin = write_cremad(planted, tmp_path/'crema')
    assert not set(twin.truth.clip_id) & set(CREMAD_BROKEN)
    for target, vote in (('intended', 'label'), ('perceived_audio', 'VoiceVote'), ('perceived_av', 'MultiModalVote')):
        corpus, report = read_cremad(twin, target=target)
        assert report.table.empty
        truth = twin.truth[vote].map(lambda v: dict(zip(LETTERS, CREMA6.classes)).get(v, v))
        assert by_clip(corpus.clips) == dict(zip(twin.truth.clip_id, truth))

    plant(twin, list(DEFECTS['crema-d']))
    again, report = read_cremad(twin, target='perceived_audio', ties='soft')
    assert again.clips.label.isna().sum() == twin.truth.xor.sum() > 0 # a tie is no label
    assert {'skipped', 'mended'} <= set(report.table.kind)


# CMU-MOSEI

def test_words_have_their_times_and_one_vector_each(planted):
    words, clip = planted_words(planted), planted.clips.clip_id[0]
    assert ' '.join(w for w, *_ in words[clip]) == planted.clips.transcript[0]
    early, late = word_track([('lamp', 0, 1)])[0], word_track([('lamp', 2, 3)])[0]
    assert np.array_equal(early, late)


def test_mosei(planted, tracks, tmp_path):
    twin = write_mosei(planted, tmp_path/'mosei', tracks)
    corpus, given, report = load_mosei(twin, progress=False, **twin.options)
    assert set(report.table['where']) == {'text'} # a clip of one second may be over before the first word
    truth = twin.truth.set_index('clip_id')
    for row in corpus.clips.itertuples():
        values, time = tracks['audio'][truth.planted[row.clip_id]]
        assert np.array_equal(given['audio'][row.clip_id].values, values)
        assert np.allclose(given['audio'][row.clip_id].time, time, atol=1e-6)
        assert (row.split, row.transcript or '') == tuple(truth.loc[row.clip_id, ['split', 'transcript']])
    assert np.allclose(corpus.clips.set_index('clip_id').sentiment[truth.index], truth.sentiment)

    plant(twin, list(DEFECTS['cmu-mosei']))
    again, _, report = load_mosei(twin, progress=False, **twin.options)
    assert set(corpus.clips.clip_id) - set(again.clips.clip_id) == set(twin.touched['impossible_segment'])
    assert {'skipped', 'mended'} <= set(report.table.kind)


def test_mosei_as_a_pickle(planted, tracks, tmp_path):
    twin, words = write_mosei_pickle(planted, tmp_path/'mmsa', tracks), planted_words(planted)
    corpus, given, _ = load_mosei(twin, progress=False, **twin.options)
    assert corpus.clips.group.unique()[0] == 'v_train03$x' # a name cut at the first _ or $ is another
    truth = twin.truth.set_index('clip_id')
    for clip, track in given['text'].items(): assert np.array_equal(track.values, word_track(words[truth.planted[clip]])[0])
    assert corpus.clips.set_index('clip_id').sentiment[truth.index].tolist() == truth.sentiment.astype('float32').tolist()

    plant(twin, list(DEFECTS['cmu-mosei-pickle']))
    again, _, report = load_mosei(twin, progress=False, **twin.options)
    assert set(again.clips.clip_id) == set(corpus.clips.clip_id)
    assert {'skipped', 'mended'} <= set(report.table.kind)


# one call for all

def test_one_call_writes_and_harms_a_twin(planted, tmp_path):
    twin = write_twin(planted, 'crema-d', tmp_path/'again', 'ties')
    assert list(twin.touched) == read_twin_facts(twin)['defects'] == ['ties']
    with pytest.raises(UserError, match='holds something already'): write_twin(planted, 'ravdess', tmp_path/'again')


@pytest.mark.parametrize('shape, sentence', [('mosei', "no shape 'mosei'"), ('cmu-mosei', 'features only; give tracks=')])
def test_what_cannot_be_written_is_said(planted, tmp_path, shape, sentence):
    with pytest.raises(UserError, match=sentence): write_twin(planted, shape, tmp_path/'b')


def test_a_twin_of_real_clips_would_look_real(tmp_path):
    real = SimpleNamespace(synthetic=False, name='real')
    with pytest.raises(UserError, match='planted corpora only'): write_twin(real, 'ravdess', tmp_path/'b')


def test_every_shape_has_defects(): assert all(DEFECTS[shape] for shape in SHAPES) and sum(map(len, DEFECTS.values())) == 87
