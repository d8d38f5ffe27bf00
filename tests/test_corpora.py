"""The four data sets as they lie on disk, each known defect by its name: it is told, it costs its own clips only, and a naive reading of the
same tree gets it wrong. Then the truth of planted twins, read back, and the whole way to a trained model.

Details of one reader stand in test_corpora_acted.py, test_corpora_affwild2.py and test_corpora_mosei.py."""
import csv, json, os, pickle, re, shutil
from dataclasses import replace
from functools import partial

import h5py
import numpy as np
import pandas as pd
import pytest

import test_corpora_acted as acted
import test_corpora_affwild2 as wild
import test_corpora_mosei as mosei
import twins
from mmemo.corpora.ravdess import make_ravdess_folds
from mmemo.corpora.affwild2 import locate_crop
from mmemo.core import UserError, read_json, rng_for
from mmemo.corpora.readers import read_corpus, read_twin_facts
from mmemo.features.extract import extract
from mmemo.corpora.leaks import check_leaks
from mmemo.labels import CREMA6, MOSEI_EMOTIONS
from mmemo.corpora.manifest import save_corpus
from mmemo.corpora.splits import check_disjoint, folds_by_subject
from mmemo.media.frames import VideoReader
from mmemo.media.sound import read_audio
from mmemo.training.metrics import HEADLINES
from mmemo.corpora.mosei import load_mosei
from mmemo.planted.corpus import PlantedConfig, make_planted
from mmemo.training.run_config import RunConfig
from mmemo.training.runs import run_experiment
from mmemo.features.sources import open_features
from mmemo.training.loop import TrainConfig
from mmemo.features.windows import WindowSettings
from twins import CHALLENGE, COUNTS, CSD, DEFECTS, PEOPLE, SHAPES, SUMMARY, SET, plant, victims, write_twin

ALL = [(shape, name) for shape, known in DEFECTS.items() for name in known]
CONFIG = PlantedConfig(seed=18, both=.35, audio=.2, video=.2, coincidence=0., train_subjects=4, val_subjects=3, test_subjects=3, train_clips=32, val_clips=16, test_clips=16,
                       nuisance=.3, seconds=1.2, fps=20, size=64)


# --- trees, made once

@pytest.fixture(scope='session')
def planted(tmp_path_factory):
    "64 short clips of ten subjects; about ten seconds of work."
    return make_planted(tmp_path_factory.mktemp('twins')/'planted', CONFIG, workers=1, progress=False)


@pytest.fixture(scope='session')
def noise(planted):
    "Tracks of noise: readers do not look at what features mean."
    rng = rng_for('twin tracks')
    def random(n, d): return {c: (rng.normal(size=(n, d)).astype('float16'), (np.arange(n) + .5)/n*1.2) for c in planted.clips.clip_id}
    return dict(visual=random(24, 6), audio=random(60, 4))


@pytest.fixture(scope='session')
def clean(planted, noise, tmp_path_factory):
    "Trees without a defect, by shape."
    made = {}
    def of(shape):
        if shape not in made: made[shape] = write_twin(planted, shape, tmp_path_factory.mktemp('clean')/shape, (), noise)
        return made[shape]
    return of


@pytest.fixture(scope='session')
def readings(clean):
    "What readers make of them, by shape and options."
    made = {}
    def of(shape, reader, **options):
        key = (shape, reader, *sorted(options.items()))
        if key not in made: made[key] = read(clean(shape), reader, **options)
        return made[key]
    return of


def harmed(twin, folder, names):
    "The same tree with defects; the clean one keeps its bytes, since nothing is written in place."
    shutil.copytree(twin.root, folder, copy_function=os.link)
    return plant(replace(twin, root=folder, truth=twin.truth.copy(), touched={}), names)


def read(twin, reader=None, **options):
    "Corpus, report, and for CMU-MOSEI the tracks."
    reader = reader or SHAPES[twin.shape]
    options = twin.options | options
    if not reader.startswith(('ravdess', 'crema')): options['progress'] = False
    corpus, report = read_corpus(reader, twin, **options)
    tracks = load_mosei(twin, **options)[1] if reader == 'cmu-mosei' else {}
    return corpus, report, tracks


def is_told(report, told) -> bool:
    rows = report.of(told[0])
    return any(told[1] in w for w in rows.what)


def same_reading(a, b, touched, ignore=()):
    "All clips but the touched ones, with their frames and tracks."
    one, two = (x[0].clips[~x[0].clips.clip_id.isin(touched)].drop(columns=list(ignore), errors='ignore').set_index('clip_id').sort_index() for x in (a, b))
    pd.testing.assert_frame_equal(one, two[one.columns], check_dtype=False)
    if a[0].frames is not None:
        one, two = (x[0].frames.astype({'clip_id': str}).sort_values(['clip_id', 'frame'], ignore_index=True) for x in (a, b))
        one, two = (f[~f.clip_id.isin(touched)].reset_index(drop=True) for f in (one, two))
        pd.testing.assert_frame_equal(one, two)
    for m in a[2]:
        for clip in set(a[2][m]) | set(b[2][m]):
            if clip in touched: continue
            for k in ('values', 'time', 'valid'): np.testing.assert_array_equal(getattr(a[2][m][clip], k), getattr(b[2][m][clip], k), f'{clip} {m} {k}')
    return len(one)


# --- readings that a hurried person would write, each of which must go wrong

def lines(twin, clip, task='expr'): return (twin.root/CHALLENGE[task]/SET['train']/f'{clip}.txt').read_text().split('\n')[1:-1]
def films(twin): return sorted(p.stem for p in twin.root.rglob('*.mp4'))
def crops(twin, clip): return sorted(p.stem for p in (twin.root/'cropped'/clip).iterdir())
def label_files(twin): return {p.stem for p in twin.root.rglob('EXPR*/Train_Set/*.txt')}
def of_train(twin): return set(twin.truth.clip_id[twin.truth.split == 'train'])
def film(twin, clip): return twin.root/'batch1'/f'{clip}.mp4'
def raises(call, *what):
    try: call()
    except what: return True


WILD = dict(
    minus_one=lambda t, c: np.eye(8)[[int(x) for x in lines(t, c)]][lines(t, c).index('-1'), 7] == 1,     # -1 becomes the last class
    minus_five=lambda t, c: sum(sum(map(float, x.split(','))) != -10 for x in lines(t, c, 'va')) == 24,      # dropped where both are -5
    one_label_more=lambda t, c: len(lines(t, c)) != len(VideoReader(film(t, c))),
    labels_missing=lambda t, c: len(lines(t, c)) != len(VideoReader(film(t, c))),
    ninth_class=lambda t, c: max(map(int, lines(t, c))) > 7,
    impossible_valence=lambda t, c: max(float(x.split(',')[0]) for x in lines(t, c, 'va')) > 1,
    blank_line=lambda t, c: len(' '.join(lines(t, c)).split()) == 23,                                       # all later labels move up
    crlf=lambda t, c: (t.root/CHALLENGE['expr']/SET['train']/f'{c}.txt').read_bytes().split(b'\n')[0].decode() != twins.HEADERS['expr'],
    another_header=lambda t: label_files(t) != of_train(t), empty_file=lambda t: label_files(t) != of_train(t),
    hidden_files=lambda t: label_files(t) != of_train(t),
    missing_crops=lambda t, c: crops(t, c)[1] != '00002',                                                   # second picture, second label
    no_crops=lambda t, c: raises(lambda: crops(t, c), OSError),
    picture_past_the_end=lambda t, c: len(crops(t, c)) != len(lines(t, c)), picture_zero=lambda t, c: crops(t, c)[0] != '00001',
    left_right=lambda t, a, b: not film(t, f'{a}_left').exists() and not film(t, f'{a}_right').exists(),
    no_sound=lambda t, c: read_audio(film(t, c)) is None, avi=lambda t, c: c not in films(t),
    variable_rate=lambda t, c: np.abs((np.arange(24) + .5)/20 - VideoReader(film(t, c)).times).max() > .1,
    no_video=lambda t, c: raises(lambda: VideoReader(film(t, c)), UserError), cut_video=lambda t, c: raises(lambda: VideoReader(film(t, c)), UserError),
    second_copy=lambda t, c: films(t).count(c) == 2,
    odd_test_names=lambda t: any('..' in n for n in (t.root/CHALLENGE['expr']/'test_set.txt').read_text().split()),
    new_videos_folder=lambda t, c: not film(t, c).exists() and not (t.root/'cropped'/c).exists(),
    aligned_only=lambda t: not (t.root/'cropped').exists(), old_folder_names=lambda t: not label_files(t))


def performances(twin): return sorted(p.stem for e in ('mp4', 'wav') for p in twin.root.rglob(f'*.{e}')) # every file is a clip
def more(twin, *_): return len(performances(twin)) > len(twin.truth)


RAVDESS = dict.fromkeys(DEFECTS['ravdess'], more) | dict(
    av_without_sound=lambda t, c: read_audio(twins.actor_file(t, c)) is None,
    pair_in_place_of_av=lambda t, c: not twins.actor_file(t, c).exists(),
    cut_short=lambda t, c: raises(lambda: VideoReader(twins.actor_file(t, c)), UserError),
    wrong_folder=lambda t, c: any(p.parent.name[-2:] != p.stem[-2:] for p in t.root.rglob('*.mp4')),
    link_to_nothing=lambda t, c: raises(lambda: [p.stat() for p in t.root.rglob('*.mp4')], OSError),
    other_files=lambda t: any(not re.fullmatch(r'[\d-]{20}', p.stem) for p in t.root.rglob('*.*') if p.name[0] != '.'))


def sounds(twin): return {p.stem for p in twin.root.rglob('*.wav')}
def table(twin, name): return pd.read_csv(twin.root/name, on_bad_lines='skip', engine='python', quoting=csv.QUOTE_MINIMAL)
def in_names(twin, *_): return sounds(twin) != set(twin.truth.clip_id)


CREMA = dict(
    lfs_pointers=lambda t, c: raises(lambda: VideoReader(twins.flv(t, c)), UserError),
    known_broken=in_names, misnamed=in_names, no_wav=in_names, only_mp3=in_names, impossible_names=in_names, hidden_files=in_names,
    empty_file=lambda t, c: raises(lambda: read_audio(twins.wav(t, c)), UserError),
    second_copy=lambda t, c: len(list(t.root.rglob('*.wav'))) > len(t.truth),
    ties=lambda t: not set(table(t, SUMMARY).VoiceVote) <= set('ADFHNS'),
    no_vote=lambda t, c: c not in set(table(t, SUMMARY).FileName), not_in_the_summary=lambda t, c: c not in set(table(t, SUMMARY).FileName),
    contradicting_tables=lambda t, c: table(t, SUMMARY).set_index('FileName').MultiModalVote[c] != table(t, COUNTS).set_index('fileName').emoVote[c].iloc[2],
    answers_do_not_add_up=lambda t, c: table(t, COUNTS).set_index('fileName').loc[c, list('ADFHNS')].sum(axis=1).iloc[0] == 10,
    row_twice=lambda t, c: len(t.truth.merge(table(t, SUMMARY), left_on='clip_id', right_on='FileName')) > len(t.truth), # a join doubles the clip
    lost_quotation_mark=lambda t, c: raises(lambda: set(table(t, SUMMARY).FileName) == set(t.truth.clip_id) or 1/0, ZeroDivisionError, csv.Error),
    row_that_leads_out=lambda t: any('..' in n for n in table(t, SUMMARY).FileName),
    actor_unknown=lambda t: t.truth.subject[0] not in set(table(t, PEOPLE).ActorID.astype(str)), impossible_age=lambda t: table(t, PEOPLE).Age.max() == 511)


def raw(twin, role):
    with h5py.File(twin.root/CSD[role][0]) as f: return {v: (e['features'][:], e['intervals'][:]) for v, e in f[CSD[role][1]]['data'].items() if e}


def listed(twin): return [v for part in read_json(twin.root/'folds.json').values() for v in part]


MOSEI = dict(
    minus_infinity=lambda t, c: any(np.nan_to_num(x).min() < -1e38 for x, _ in raw(t, 'audio').values()),
    not_a_number=lambda t, c: any(np.isnan(x.mean()) for x, _ in raw(t, 'visual').values()),
    label_out_of_range=lambda t, c: max(x[:, 0].max() for x, _ in raw(t, 'labels').values()) == 7,
    impossible_segment=lambda t, c: min((s[:, 1] - s[:, 0]).min() for _, s in raw(t, 'labels').values()) < 0,
    no_features=lambda t: any(a != b for a, b in zip(raw(t, 'labels'), raw(t, 'visual'))),                  # file beside file, entry by entry
    another_width=lambda t: raises(lambda: np.concatenate([x for x, _ in raw(t, 'audio').values()]), ValueError),
    steps_out_of_order=lambda t: any((np.diff(s[:, 0]) < 0).any() for _, s in raw(t, 'audio').values()),
    impossible_interval=lambda t: any((s[:, 1] < s[:, 0]).any() for _, s in raw(t, 'visual').values()),
    pauses=lambda t: any(b'sp' in x for x, _ in raw(t, 'words').values()), second_visual_file=lambda t: len(list(t.root.glob('*Visual*'))) == 2,
    phones=lambda t: raises(lambda: h5py.File(t.root/'CMU_MOSEI_TimestampedPhones.csd'), OSError),
    link_out=lambda t: raises(lambda: [e['features'] for e in h5py.File(t.root/CSD['labels'][0])['All Labels/data'].values()], KeyError, TypeError, OSError),
    unknown_video_in_lists=lambda t: raises(lambda: [raw(t, 'labels')[v] for v in listed(t)], KeyError),
    video_in_no_list=lambda t: set(listed(t)) != set(raw(t, 'labels')))


def loaded(twin): return pickle.loads(twin.place.read_bytes()) # which no stranger's file must ever be read with
def ids(twin): return [i for part in loaded(twin).values() for i in part['id']]


MMSA = dict(
    minus_infinity=lambda t, c: np.nan_to_num(loaded(t)['train']['audio']).min() < -1e38,
    not_a_number=lambda t, c: np.isnan(np.where(loaded(t)['train']['vision'] == -np.inf, 0, loaded(t)['train']['vision'])).any(), # the usual repair
    empty_text=lambda t, c: '' in loaded(t)['train']['raw_text'], label_out_of_range=lambda t, c: loaded(t)['train']['regression_labels'].max() == 7,
    clip_twice=lambda t, c: len(ids(t)) > len(set(ids(t))), odd_id=lambda t, c: any('..' in i for i in ids(t)),
    impossible_length=lambda t, c: max(loaded(t)['train']['audio_lengths']) > loaded(t)['train']['audio'].shape[1],
    padding_not_zero=lambda t: (loaded(t)['train']['text'] != 0).any(-1).all(),                           # looking for zeros finds no end
    no_raw_text=lambda t: raises(lambda: [p['raw_text'] for p in loaded(t).values()], KeyError),
    older_protocol=lambda t: t.place.read_bytes()[:2] == b'\x80\x02')
NAIVE = dict(zip(SHAPES, (WILD, RAVDESS, CREMA, MOSEI, MMSA)))


# --- one defect at a time

@pytest.mark.parametrize('shape, name', ALL, ids=[f'{s}-{n}' for s, n in ALL])
def test_a_defect_is_told_and_costs_its_own_clips_only(shape, name, clean, readings, tmp_path):
    d, before = DEFECTS[shape][name], readings(shape, DEFECTS[shape][name].reader, **DEFECTS[shape][name].options)
    mine = victims(clean(shape), name)
    twin = harmed(clean(shape), tmp_path/'tree', [name])
    after, touched = read(twin, d.reader, **d.options), set(twin.touched[name])
    if d.told:
        assert is_told(after[1], d.told), after[1].table.to_string()
        assert not is_told(before[1], d.told)
    left = same_reading(before, after, touched, ('crops_dir',) if name == 'aligned_only' else ())
    assert left > 40 or name == 'aligned_only'
    assert NAIVE[shape][name](twin, *mine), 'a naive reading gets this right, so this test cannot fail'
    assert d.what.endswith('.') and set(NAIVE[shape]) == set(DEFECTS[shape])


@pytest.mark.parametrize('shape', SHAPES)
def test_all_defects_at_once(shape, clean, readings, tmp_path):
    twin = harmed(clean(shape), tmp_path/'tree', list(DEFECTS[shape]))
    touched = {c for name, clips in twin.touched.items() if name != 'aligned_only' for c in clips}
    asked = {(d.reader, *sorted(d.options.items())) for d in DEFECTS[shape].values()}
    for reader, *options in asked:
        after = read(twin, reader, **dict(options))
        same_reading(readings(shape, reader, **dict(options)), after, touched, ('crops_dir',))
        for d in DEFECTS[shape].values():
            if (reader, *options) == (d.reader, *sorted(d.options.items())) and d.told: assert is_told(after[1], d.told), (d.name, after[1].table.to_string())
        assert set(after[0].clips.clip_id) <= set(twin.truth.clip_id)


def test_nothing_is_written_into_the_planted_clips(planted, clean, tmp_path):
    before = {p: p.read_bytes() for p in sorted((planted.root/'clips').iterdir())}
    for shape in ('affwild2', 'ravdess'): # whose films are links
        twin = harmed(clean(shape), tmp_path/shape, list(DEFECTS[shape]))
        assert any(p.stat().st_nlink > 1 for p in twin.root.rglob('*.mp4'))
    assert before == {p: p.read_bytes() for p in before}


# --- what is no damage of one file, but how the data sets are: each of these tests holds its naive reading, too

NATURE = {
    'affwild2-header_is_no_label': wild.test_header_is_not_a_label,
    'affwild2-names_with_blanks': wild.test_names_with_blanks_find_their_files,
    'affwild2-new_videos_in_another_folder': wild.test_new_videos_lie_in_another_folder,
    'affwild2-two_releases_side_by_side': wild.test_two_releases_are_not_mixed,
    'affwild2-frames_meet_the_video_in_time': wild.test_frames_meet_the_video_in_time,
    'affwild2-one_name_in_two_lists': wild.test_a_name_in_two_lists_is_a_leak,
    'affwild2-submission_counts_from_one': wild.test_submission_numbers_pictures_from_one,
    'affwild2-always_other': lambda tmp_path: wild.test_always_answering_other_is_right_in_two_frames_of_five(),
    'ravdess-neutral_is_half_as_frequent': acted.test_ravdess_neutral_is_half_as_frequent,
    'ravdess-song_has_six_emotions': acted.test_ravdess_song_has_six_emotions_and_actor_18_none,
    'ravdess-song_and_speech': acted.test_ravdess_song_and_speech_are_told_apart,
    'ravdess-name_in_words': acted.test_ravdess_name_in_words,
    'ravdess-same_sound_in_two_files': acted.test_ravdess_twins_kept_on_request_never_part,
    'ravdess-folds_by_actor': acted.test_ravdess_folds_keep_actors_whole,
    'crema-d-name_in_words': acted.test_cremad_name_in_words,
    'crema-d-nothing_but_lfs_pointers': acted.test_cremad_git_lfs_pointers_all,
    **{f'crema-d-broken_{c}': partial(acted.test_cremad_known_broken_clips, stem=c) for c in acted.CREMAD_BROKEN},
    'crema-d-intended_is_not_perceived': acted.test_cremad_intended_is_not_perceived,
    'crema-d-three_kinds_of_stimulus': acted.test_cremad_counts_of_three_kinds_of_stimulus,
    'crema-d-sound_comes_from_the_wav': acted.test_cremad_sound_comes_from_the_wav,
    'crema-d-demographics': acted.test_cremad_demographics_are_joined,
    'cmu-mosei-order_of_the_seven_labels': mosei.test_order_of_the_seven_labels,
    'cmu-mosei-segments_are_rows_or_entries': mosei.test_segments_are_rows_before_alignment_and_entries_after,
    'cmu-mosei-name_in_the_file': mosei.test_root_name_is_not_the_file_name,
    'cmu-mosei-step_on_a_border': mosei.test_step_belongs_to_the_segment_of_its_middle,
    'cmu-mosei-dead_host': mosei.test_saved_web_page_is_named,
    'cmu-mosei-segments_of_a_video_stay_together': mosei.test_segments_of_a_video_never_part,
    'cmu-mosei-pickle-asks_first': mosei.test_pickle_is_read_only_where_it_is_named_and_allowed,
    **{f'cmu-mosei-pickle-runs_nothing_{p}': partial(mosei.test_malicious_pickle_runs_nothing, protocol=p) for p in (0, 4)},
    'cmu-mosei-pickle-padding': mosei.test_padding_is_not_data_in_unaligned_files,
    'cmu-mosei-pickle-aligned': mosei.test_aligned_steps_stay_aligned,
    'cmu-mosei-pickle-exactly_the_padded_length': mosei.test_clip_of_exactly_the_padded_length,
    'cmu-mosei-pickle-ids_with_marks': mosei.test_ids_are_cut_at_the_last_mark,
    'cmu-mosei-pickle-folds_are_keys': mosei.test_mmsa_folds_are_its_keys,
    'cmu-mosei-pickle-sentiment_only': mosei.test_mmsa_has_no_emotions,
    'cmu-mosei-two_rules_of_acc2': lambda tmp_path: mosei.test_the_two_rules_of_acc2_differ(),
    'cmu-mosei-two_rules_of_acc7': lambda tmp_path: mosei.test_the_two_rules_of_acc7_differ()}


@pytest.mark.parametrize('name', NATURE)
def test_the_data_sets_are_so(name, tmp_path): NATURE[name](tmp_path)


def test_a_third_challenge_lies_beside(clean, readings, tmp_path):
    "Action units have label files of the same names, with twelve columns; they are nobody's expressions."
    twin = harmed(clean('affwild2'), tmp_path/'tree', [])
    for p in list((twin.root/CHALLENGE['expr']/SET['train']).iterdir()):
        place = twin.root/twins.ABAW/'AU_Detection_Challenge'/SET['train']/p.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text('AU1,AU2\n0,1\n')
    assert len(list(twin.root.rglob('Train_Set/*.txt'))) == 3*len(of_train(twin)) # a naive search finds three files a video
    after = read(twin, 'affwild2-expr')
    assert same_reading(readings('affwild2', 'affwild2-expr'), after, ()) and len(after[0]) == 64 and after[1].table.empty


def test_several_emotions_at_once(clean, tmp_path):
    "An emotion is present where its value is above 0; a naive reading takes the largest as the class."
    twin = harmed(clean('cmu-mosei'), tmp_path/'tree', [])
    clip = twin.free[0]
    twins._relabel_segment(twin, clip, features=[1, .33, 0, 0, 0, 0, 2/3])
    row = read(twin, labels='emotions')[0].clips.set_index('clip_id').loc[clip]
    assert row.label == 'Happiness+Fear' and row.loc[list(MOSEI_EMOTIONS.classes)].tolist().index(2/3) == 5
    assert MOSEI_EMOTIONS.classes[int(np.argmax(row.loc[list(MOSEI_EMOTIONS.classes)].astype(float)))] == 'Fear'


# --- the truth, read back

def planted_rows(twin, planted): # the planted clip of each row of the truth
    return planted.clips.set_index('clip_id').loc[twin.truth.planted]


@pytest.mark.parametrize('task', ['expr', 'va'])
def test_affwild2_frames_are_the_planted_ones(task, clean, readings, planted):
    corpus, report, _ = readings('affwild2', f'affwild2-{task}')
    assert report.table.empty and len(corpus) == 64
    assert dict(zip(corpus.clips.clip_id, corpus.clips.split)) == dict(zip(planted.clips.clip_id, planted.clips.split))
    both = corpus.frames.astype({'clip_id': str}).merge(planted.frames, on=['clip_id', 'frame'], validate='1:1')
    assert len(both) == len(planted.frames) and both.has_crop.all()
    np.testing.assert_allclose(both.time_x, both.time_y, atol=1e-4)
    open_ = both.clip_id.isin(planted.clips.clip_id[planted.clips.split != 'test'])
    for c in ['label'] if task == 'expr' else ['valence', 'arousal']:
        np.testing.assert_array_equal(both[f'{c}_x'][open_], both[f'{c}_y'][open_])
        assert both[f'{c}_x'][~open_].isin([-1]).all() or both[f'{c}_x'][~open_].isna().all() # the challenge keeps them
    check_disjoint(corpus.clips)


def test_affwild2_pictures_are_of_their_frames(clean, readings):
    from PIL import Image
    corpus, _, _ = readings('affwild2', 'affwild2-expr')
    clip = corpus.clips.clip_id[3]
    film_ = VideoReader(corpus.path(clip))
    for i in (0, 7, 23): assert np.abs(np.asarray(Image.open(locate_crop(corpus, clip, i))).astype(int) - film_.frames([i])[0]).mean() < 4


def test_left_and_right_keep_their_own_labels_and_share_a_group(clean, tmp_path, planted):
    twin = harmed(clean('affwild2'), tmp_path/'tree', ['left_right'])
    corpus, _, _ = read(twin, 'affwild2-va')
    pair = twin.touched['left_right'][:2]
    rows = corpus.clips.set_index('clip_id').loc[pair]
    assert rows.group.nunique() == rows.path.nunique() == 1 and rows.subject.nunique() == rows.crops_dir.nunique() == 2
    for clip in pair:
        own = planted.frames[planted.frames.clip_id == twin.row(clip).planted]
        np.testing.assert_array_equal(corpus.frames.valence[corpus.frames.clip_id == clip], own.valence)
    assert all(len({bool(fold[list(corpus.clips.clip_id).index(c)]) for c in pair}) == 1 for fold in folds_by_subject(corpus.clips, 4))


def test_ravdess_actors_are_the_planted_subjects(clean, readings, planted):
    twin, (corpus, _, _) = clean('ravdess'), readings('ravdess', 'ravdess')
    truth, was = twin.truth.set_index('clip_id').loc[corpus.clips.clip_id], planted_rows(twin, planted)
    assert len(corpus) == len(twin.truth) == (planted.clips.label != 'Other').sum()
    for c in ('subject', 'group', 'label'): assert corpus.clips[c].tolist() == truth[c].tolist()
    assert twin.truth.groupby('subject').planted.agg(lambda p: planted.clips.set_index('clip_id').subject[list(p)].nunique()).eq(1).all()
    weak = (was.label == 'Neutral') & (was.intensity < twins.WEAK)
    assert twin.truth.label.tolist() == was.label.mask(weak, 'Calm').tolist() and weak.any()
    check_disjoint(corpus.clips.assign(split=truth.split.tolist()))
    for fold in make_ravdess_folds(corpus): assert not set(truth.subject[fold]) & set(truth.subject[~fold])


@pytest.mark.parametrize('target, column', [('intended', 'label'), ('perceived_audio', 'VoiceVote'), ('perceived_video', 'FaceVote'), ('perceived_av', 'MultiModalVote')])
def test_crema_d_labels_are_the_planted_states(target, column, clean, readings, planted):
    twin, (corpus, report, _) = clean('crema-d'), readings('crema-d', 'crema-d', target=target)
    truth, was = twin.truth.set_index('clip_id').loc[corpus.clips.clip_id], planted_rows(twin, planted)
    assert report.table.empty and len(corpus) == planted.clips.label.isin(CREMA6.classes).sum()
    named = truth[column].replace(dict(zip(twins.LETTERS, CREMA6.classes)))
    assert corpus.clips.label.tolist() == named.tolist() and corpus.clips.subject.tolist() == truth.subject.tolist()
    state = {'label': 'label', 'VoiceVote': 'voice_state', 'FaceVote': 'face_state', 'MultiModalVote': 'label'}[column]
    plain = ~was[state].str.startswith('cue').to_numpy()
    assert twin.truth[column].replace(dict(zip(twins.LETTERS, CREMA6.classes)))[plain].tolist() == was[state][plain].tolist()
    check_disjoint(corpus.clips.assign(split=truth.split.tolist()))
    if target != 'intended': assert (corpus.clips.label != corpus.clips.intended).any() == (target != 'perceived_av')


@pytest.mark.parametrize('target', ['perceived_audio', 'perceived_video'])
def test_ties_are_kept_as_shares(target, clean, tmp_path):
    twin = harmed(clean('crema-d'), tmp_path/'tree', ['ties'])
    soft, _, _ = read(twin, target=target, ties='soft')
    tied = soft.clips.clip_id.isin(twin.truth.clip_id[twin.truth.xor])
    assert tied.any() and soft.clips.label[tied].isna().all() and soft.clips.label[~tied].notna().all()
    assert (soft.clips.loc[tied, ['p_Anger', 'p_Happiness']] == .4).all(axis=None)
    dropped, _, _ = read(twin, target=target)
    assert set(dropped.clips.clip_id) == set(soft.clips.clip_id[~tied])


def test_films_in_flash_show_the_same_frames_with_the_same_sound(clean, planted):
    twin = clean('crema-d')
    for clip in twin.truth.clip_id[:4]:
        was, now = VideoReader(twin.source(clip)), VideoReader(twins.flv(twin, clip))
        np.testing.assert_array_equal(was.frames(range(24)), now.frames(range(24)))
        np.testing.assert_allclose(was.times, now.times, atol=2e-3)
        a, b, c = read_audio(twin.source(clip)), read_audio(twins.flv(twin, clip)), read_audio(twins.wav(twin, clip))
        assert np.abs(a[2048:18000] - b[2048:18000]).max() < 1e-4 and np.abs(a - c).max() < 1e-4


@pytest.mark.parametrize('shape', ['cmu-mosei', 'cmu-mosei-pickle'])
def test_mosei_tracks_and_labels_are_the_planted_ones(shape, clean, readings, planted, noise):
    twin, (corpus, report, tracks) = clean(shape), readings(shape, 'cmu-mosei')
    assert not len(report.of('skipped')) and not len(report.of('mended')) and len(corpus) == 64
    truth, clips = twin.truth.set_index('clip_id'), corpus.clips.set_index('clip_id')
    was = planted.clips.set_index('clip_id').loc[truth.planted[clips.index]]
    kind = np.float64 if shape == 'cmu-mosei' else np.float32
    np.testing.assert_array_equal(clips.sentiment, (3*was.valence).astype(kind))
    assert clips.split.tolist() == was.split.tolist() and clips.subject.tolist() == [f'v_{s}$x' for s in was.subject]
    assert (clips.subject == clips.group).all()
    assert clips.transcript.fillna('').tolist() == was.transcript.fillna('').tolist()
    for m in ('visual', 'audio'):
        for clip in clips.index:
            values, time = noise[m][truth.planted[clip]]
            np.testing.assert_array_equal(tracks[m][clip].values, values.astype(np.float32))
            if shape == 'cmu-mosei': np.testing.assert_allclose(tracks[m][clip].time, time, atol=1e-9)
    check_disjoint(corpus.clips)


def test_mosei_emotions_are_the_planted_classes(clean, planted):
    twin = clean('cmu-mosei')
    corpus, _ = read_corpus('cmu-mosei', twin, labels='emotions', progress=False, **twin.options)
    was = planted.clips.set_index('clip_id').loc[twin.truth.set_index('clip_id').planted[corpus.clips.clip_id]]
    assert corpus.clips.label.tolist() == [c if c in MOSEI_EMOTIONS.classes else 'none' for c in was.label]
    held = corpus.clips.set_index('clip_id')[list(MOSEI_EMOTIONS.classes)].max(axis=1).to_numpy()
    np.testing.assert_allclose(held, np.where(was.label.isin(MOSEI_EMOTIONS.classes), 3*was.intensity, 0))
    cut_early = {c.split('_')[0] for c in corpus.clips.group} | {c.split('$')[0] for c in corpus.clips.group}
    assert not cut_early & set(corpus.clips.group) # names that hold the marks of ids


# --- refusals

def test_refusals(planted, tmp_path):
    real = replace(planted, facts={})
    with pytest.raises(UserError, match='planted corpora only'): write_twin(real, 'ravdess', tmp_path/'a')
    with pytest.raises(UserError, match="no defect of ravdess called 'tie'"): write_twin(planted, 'ravdess', tmp_path/'a', ['tie'])
    assert not (tmp_path/'a').exists()
    few = planted.subset(planted.clips.split.isin(['val', 'test']) | (planted.clips.subset == 'xor'))
    with pytest.raises(UserError, match='all defects need 21 training clips, this corpus has 8 for them'): write_twin(few, 'affwild2', tmp_path/'b')
    many = replace(planted, clips=planted.clips.assign(subject=planted.clips.clip_id))
    with pytest.raises(UserError, match='RAVDESS has 24 actors'): write_twin(many, 'ravdess', tmp_path/'c')


@pytest.mark.parametrize('shape', SHAPES)
def test_a_twin_says_that_it_is_synthetic(shape, clean):
    twin = clean(shape)
    facts = read_twin_facts(twin)
    assert facts['synthetic'] and facts['twin_of'] == shape and facts['generator']
    assert read_twin_facts(twin.root.parent) == {}


# --- the whole way

@pytest.fixture(scope='session')
def cache(tmp_path_factory): return tmp_path_factory.mktemp('twin-cache')


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch): monkeypatch.setenv('MMEMO_CACHE', str(cache)) # of the guard's prints


@pytest.fixture(scope='session')
def seen(planted, cache):
    "What the tiny encoders make of the planted clips."
    return extract(planted, 'tiny', 'tiny', cache=cache, progress=False)


def small(level='clip', task='expression', model='bicross', **options):
    train = TrainConfig(epochs=1, device='cpu', progress=False, lambda_text=0.)
    return RunConfig(model=model, window=WindowSettings(length=24, stride=24, eval_stride=24, level=level, task=task), train=train, options=options)


def with_planted_splits(corpus, twin):
    "The planted lists, since neither RAVDESS nor CREMA-D has any; a subject is on one side."
    split = corpus.clips.subject.map(twin.truth.drop_duplicates('subject').set_index('subject').split)
    return replace(corpus, clips=corpus.clips.assign(split=split), facts=corpus.facts | read_twin_facts(twin))


def check_run(run, figure, unit, split='test'):
    found = json.loads((run.folder/'metrics.json').read_text())
    best = found[split]['all'][figure]
    assert np.isfinite(best['value']) and best['unit'] == unit and len(best['ci95']) == 2 and best['n_groups'] > 1
    assert any('synthetic' in w for w in found['warnings']) and run.about['data']['facts']['synthetic']
    assert (run.folder/'card.md').exists() and len(run.predictions)


@pytest.mark.slow
@pytest.mark.parametrize('task', ['expr', 'va'])
def test_from_affwild2_to_a_model(task, planted, cache, seen, tmp_path):
    twin = write_twin(planted, 'affwild2', tmp_path/'tree')
    corpus, _, _ = read(twin, f'affwild2-{task}')
    corpus.facts |= read_twin_facts(twin)
    store = extract(corpus, 'tiny', 'tiny', cache=cache, progress=False)
    # pictures stand in for a video that cannot be read; what cannot be heard is missing, with its reason
    assert store.quarantine.empty and set(store['audio'].missing) >= {*victims(twin, 'no_video'), *victims(twin, 'cut_video'), *victims(twin, 'no_sound')}
    check_leaks(corpus, progress=False)
    run = run_experiment(small('frame', 'va' if task == 'va' else 'expression', dim=16, heads=2), corpus, store, tmp_path/'run')
    check_run(run, 'ccc' if task == 'va' else 'macro_f1', 'frame', 'val') # test labels are the challenge's secret


def test_from_ravdess_to_a_model(planted, cache, seen, tmp_path):
    twin = write_twin(planted, 'ravdess', tmp_path/'tree')
    corpus = with_planted_splits(read(twin)[0], twin)
    store = extract(corpus, 'tiny', 'tiny', cache=cache, progress=False)
    assert store.quarantine.empty
    check_leaks(corpus, progress=False)
    check_run(run_experiment(small(dim=16, heads=2), corpus, store, tmp_path/'run'), 'macro_f1', 'clip')


@pytest.mark.slow
@pytest.mark.parametrize('target', ['intended', 'perceived_audio'])
def test_from_crema_d_to_a_model(target, planted, cache, tmp_path):
    twin = write_twin(planted, 'crema-d', tmp_path/'tree')
    corpus = with_planted_splits(read(twin, target=target)[0], twin)
    model = 'audio' if target == 'perceived_audio' else 'bicross'
    store = extract(corpus, 'tiny', 'tiny', cache=cache, progress=False)
    assert store.quarantine.empty
    check_run(run_experiment(small(model=model, dim=16, **({} if model == 'audio' else dict(heads=2))), corpus, store, tmp_path/'run'), 'macro_f1', 'clip')


@pytest.mark.parametrize('shape', ['cmu-mosei', 'cmu-mosei-pickle'])
def test_from_mosei_to_a_model(shape, planted, seen, tmp_path):
    tracks = {m: {c: seen.clip(c, m) for c in planted.clips.clip_id} for m in ('visual', 'audio')}
    twin = write_twin(planted, shape, tmp_path/'tree', tracks=tracks)
    labels = 'emotions' if shape == 'cmu-mosei' else 'sentiment'
    corpus, _ = read_corpus('cmu-mosei', twin, labels=labels, progress=False, **twin.options)
    save_corpus(corpus.subset(corpus.clips.split.notna().to_numpy()), tmp_path/'table') # with all defects: some videos are in no list
    corpus, store = open_features(tmp_path/'table', progress=False)
    assert store.dims['text'] == 12 and corpus.synthetic
    assert check_leaks(corpus, progress=False).mark == ''
    run = run_experiment(small(task=labels, dim=16, heads=2), corpus, store, tmp_path/'run')
    check_run(run, HEADLINES[labels], 'clip')
