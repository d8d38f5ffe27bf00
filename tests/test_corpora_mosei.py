"CMU-MOSEI as it lies on disks: each test names a defect, and shows what a plain reading makes of it."
import io, json, os, pickle, shutil, subprocess, sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from mmemo.core import UserError, rng_for
from mmemo.features.extract import extract
from mmemo.features.tracks import FeatureStore, pack_tracks
from mmemo.labels import MOSEI_EMOTIONS
from mmemo.corpora.manifest import Report
from mmemo.corpora.splits import check_disjoint, folds_by_subject
from mmemo.corpora.mosei import convert_pickle, load_mosei, read_mosei
from mmemo.corpora.mosei_csd import mend, read_csd_words, read_folds
from mmemo.corpora.plainpickle import load_plain_pickle, unwrap_array
from mmemo.training.metrics import (EACH_EMOTION, SCORES, SENTIMENT_SCORES, sum_for_emotions, sum_for_sentiment,
                                    to_seven_classes)

h5py = pytest.importorskip('h5py')
VIDEOS = ('-3g5yACwYnA', '0_8zVV8U$N0', '100178', 'Vbv_x-y', 'last')


# ---- small trees -------------------------------------------------------------------------------------------

def write_csd(path, name, entries, **options):
    with h5py.File(path, 'w') as f:
        for key, (features, intervals) in entries.items():
            f.create_dataset(f'{name}/data/{key}/features', data=features, **options)
            f.create_dataset(f'{name}/data/{key}/intervals', data=np.asarray(intervals, float).reshape(-1, 2),
                             **options)
        meta = f.create_group(f'{name}/metadata')
        meta.create_dataset('root name', data=[json.dumps(name)], dtype=h5py.string_dtype())


def label_rows(n, rng):
    return np.concatenate([rng.integers(-9, 10, (n, 1))/3, rng.integers(0, 10, (n, 6))*(rng.random((n, 6)) < .4)/3], 1)


def csd_tree(folder, seed=0, segments=3, seconds=2., **options):
    "As downloaded: every entry is a video, its segments are rows of the label file."
    rng, folder = rng_for('csd', seed), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    starts = np.arange(segments)*seconds + 1 # nobody speaks in the first second
    labels = {v: (label_rows(segments, rng), np.stack([starts, starts + seconds], 1)) for v in VIDEOS}
    def track(hz, d):
        t = np.arange(int((segments*seconds + 2)*hz))/hz
        return rng.normal(size=(len(t), d)), np.stack([t, t + 1/hz], 1)
    write_csd(folder/'CMU_MOSEI_Labels.csd', 'All Labels', labels, **options)
    write_csd(folder/'CMU_MOSEI_COVAREP.csd', 'COVAREP', {v: track(10, 4) for v in VIDEOS}, **options)
    write_csd(folder/'CMU_MOSEI_VisualFacet42.csd', 'FACET 4.2', {v: track(5, 3) for v in VIDEOS}, **options)
    write_csd(folder/'CMU_MOSEI_TimestampedWordVectors.csd', 'glove_vectors', {v: track(2, 5) for v in VIDEOS},
              **options)
    said = np.array([[b'sp' if i % 3 == 2 else f'w{i}'.encode()] for i in range(16)])
    words = {v: (said, track(2, 1)[1]) for v in VIDEOS}
    write_csd(folder/'CMU_MOSEI_TimestampedWords.csd', 'words', words, **options)
    return folder


def mmsa_part(split, n=4, aligned=False, seed=0):
    "Padded as MMSA pads: zeros after the data in sound and face; BERT's vectors of padding, which are not zero."
    rng = rng_for('mmsa', split, seed)
    steps = dict(audio=6, vision=6, text=6) if aligned else dict(audio=12, vision=9, text=6)
    words = rng.integers(3, 6, n)
    lengths = dict(audio=rng.integers(2, 12, n), vision=rng.integers(1, 9, n))
    if aligned: lengths = dict(audio=words, vision=words)
    part = dict(id=[f'{VIDEOS[i % 2]}{split}$_${i}' for i in range(n)],
                raw_text=np.array([f'words {i} of {split}' for i in range(n)]),
                regression_labels=(rng.integers(-9, 10, n)/3).astype(np.float32), classification_labels=np.ones(n),
                annotations=['Neutral']*n, text=rng.normal(size=(n, 6, 8)).astype(np.float32))
    for m, d in (('audio', 4), ('vision', 3)):
        part[m] = rng.normal(size=(n, steps[m], d)).astype(np.float32)
        part[m][np.arange(steps[m]) >= lengths[m][:, None]] = 0
        if not aligned: part[f'{m}_lengths'] = lengths[m].tolist()
    part['text_bert'] = np.zeros((n, 3, 6), np.float32)
    part['text_bert'][:, 1] = np.arange(6) < words[:, None]
    part['audio'][0, 1, 2], part['audio'][1, 0, 0], part['vision'][0, 0, 1] = -np.inf, np.nan, -np.inf
    return part


def mmsa(path, protocol=4, **options):
    data = {s: mmsa_part(s, **options) for s in ('train', 'valid', 'test')}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(pickle.dumps(data, protocol))
    return Path(path), data


def quiet(root, *a, **k): return load_mosei(root, *a, progress=False, **k)


# ---- .csd --------------------------------------------------------------------------------------------------

def test_order_of_the_seven_labels(tmp_path):
    row = [[-2., 3, 0, 1, 0, 0, 2/3]]
    write_csd(tmp_path/'l.csd', 'All Labels', {'v': (row, [[0, 1]])})
    sentiment, emotions = quiet(tmp_path)[0], quiet(tmp_path, 'emotions')[0]
    assert sentiment.space == 'sentiment' and sentiment.clips.label.tolist() == [-2.]
    assert emotions.labels.kind == 'multilabel' and emotions.clips.label.tolist() == ['Happiness+Anger+Fear']
    assert emotions.clips[list(emotions.labels.classes)].to_numpy().tolist() == [row[0][1:]]
    alphabet = dict(zip(sorted(MOSEI_EMOTIONS.classes), row[0][1:])) # the order of the older label file
    assert alphabet['Anger'] == 3 and emotions.clips.Anger[0] == 1


def test_six_column_labels_of_older_files_are_not_taken(tmp_path):
    write_csd(tmp_path/'CMU_MOSEI_LabelsEmotions.csd', 'Emotion Labels', {'v': (np.ones((1, 6)), [[0, 1]])})
    with pytest.raises(UserError, match='7 labels'): quiet(tmp_path)


def test_segments_are_rows_before_alignment_and_entries_after(tmp_path):
    rows = label_rows(3, rng_for('both'))
    times = [[0, 1], [1, 2], [2, 3]]
    (tmp_path/'a').mkdir(); (tmp_path/'b').mkdir()
    write_csd(tmp_path/'a/l.csd', 'All Labels', {'v_1': (rows, times)})
    write_csd(tmp_path/'b/l.csd', 'All Labels', {f'v_1[{i}]': (rows[i:i + 1], times[i:i + 1]) for i in range(3)})
    a, b = (quiet(tmp_path/x)[0].clips for x in 'ab')
    pd.testing.assert_frame_equal(a, b)
    with h5py.File(tmp_path/'a/l.csd') as f: assert len(f['All Labels/data']) == 1 # one entry is not one clip


def test_root_name_is_not_the_file_name(tmp_path):
    csd_tree(tmp_path)
    for f in list(tmp_path.glob('*.csd')): f.rename(tmp_path/f'{Counter(f.name)["e"]}-{len(f.name)}.csd')
    corpus, tracks, _ = quiet(tmp_path)
    assert len(corpus) == 15 and {m: len(t) for m, t in tracks.items()} == dict(visual=15, audio=15, text=15)
    with h5py.File(next(tmp_path.glob('*.csd'))) as f: assert 'data' not in f


def test_step_belongs_to_the_segment_of_its_middle(tmp_path):
    write_csd(tmp_path/'labels.csd', 'All Labels', {'v': (np.zeros((2, 7)), [[0, 1], [1, 2]])})
    times = np.array([[0, .4], [.4, .9], [.9, 1.5], [1.5, 2], [2, 2.5]])
    values = np.arange(1., 6)[:, None]
    write_csd(tmp_path/'covarep.csd', 'COVAREP', {'v': (values, times)})
    tracks = quiet(tmp_path, modalities=('audio',))[1]['audio']
    assert tracks['v[0]'].values[:, 0].tolist() == [1, 2] and tracks['v[1]'].values[:, 0].tolist() == [3, 4]
    np.testing.assert_allclose(tracks['v[1]'].time, [.2, .75])
    overlapping = [values[(times[:, 1] > a) & (times[:, 0] < b), 0].tolist() for a, b in ((0, 1), (1, 2))]
    by_share = [x.tolist() for x in np.split(values[:, 0], [len(values)//2])]
    assert overlapping == [[1, 2, 3], [3, 4]] and by_share[1] == [3, 4, 5] # both naive ways hand on a neighbour's step


def test_steps_out_of_order_and_impossible_times(tmp_path):
    write_csd(tmp_path/'labels.csd', 'All Labels', {'v': (np.zeros((1, 7)), [[0, 9]])})
    write_csd(tmp_path/'covarep.csd', 'COVAREP', {'v': ([[2.], [1], [3], [4]], [[1, 2], [0, 1], [5, 4], [np.nan, 9]])})
    _, tracks, report = quiet(tmp_path, modalities=('audio',))
    assert tracks['audio']['v[0]'].values[:, 0].tolist() == [1, 2]
    assert (report.of('skipped').what.str.contains('impossible interval') & (report.of('skipped')['count'] == 2)).any()
    assert report.of('mended').what.str.contains('order of time').any()


@pytest.mark.parametrize('label, reason', [
    ([7., 0, 0, 0, 0, 0, 0], 'sentiment is 7'), ([0., 0, -1, 0, 0, 0, 0], 'Sadness is -1'),
    ([0., 0, 0, 0, 0, 0, 3.5], 'Fear is 3.5'), ([np.nan, 0, 0, 0, 0, 0, 0], 'sentiment is nan')])
def test_label_out_of_range_is_no_label(tmp_path, label, reason):
    write_csd(tmp_path/'labels.csd', 'All Labels', {'v': ([label, [1., 0, 0, 0, 0, 0, 0]], [[0, 1], [1, 2]])})
    corpus, _, report = quiet(tmp_path)
    assert reason in report.of('skipped').what[0]
    assert corpus.clips[list(reason.split()[:1])].isna().to_numpy().tolist() == [[True], [False]]


@pytest.mark.parametrize('times', [[5, 4], [3, 3], [-1, 1], [0, np.inf], [0, 1e9]])
def test_impossible_segment_is_left_out_and_the_others_keep_their_numbers(tmp_path, times):
    write_csd(tmp_path/'labels.csd', 'All Labels', {'v': (np.zeros((2, 7)), [times, [6, 7]])})
    corpus, _, report = quiet(tmp_path)
    assert corpus.clips.clip_id.tolist() == ['v[1]'] and 'cannot be' in report.of('skipped').what[0]


def test_minus_infinity_becomes_zero(tmp_path):
    write_csd(tmp_path/'labels.csd', 'All Labels', {'v': (np.zeros((1, 7)), [[0, 9]])})
    raw = np.array([[1., -np.inf], [np.nan, 2], [np.inf, -np.inf], [0, 0]])
    write_csd(tmp_path/'covarep.csd', 'COVAREP', {'v': (raw, [[i, i + 1] for i in range(4)])})
    _, tracks, report = quiet(tmp_path, modalities=('audio',))
    track = tracks['audio']['v[0]']
    assert track.values.tolist() == [[1, 0], [0, 2], [0, 0], [0, 0]]
    assert track.valid.tolist() == [True, True, False, False]
    said = dict(zip(report.of('mended').what, report.of('mended')['count']))
    assert said == {'audio: values that are -inf, set to 0': 2, 'audio: values that are inf, set to 0': 1,
                    'audio: values that are NaN, set to 0': 1}
    assert np.nan_to_num(raw.astype(np.float32)).min() < -1e38 # the usual call


def test_values_beyond_float32_are_mended():
    values, valid, counts = mend(np.array([[1e300, -1e300, 1.]]))
    assert values.tolist() == [[0, 0, 1]] and counts == {'inf': 1, '-inf': 1}


def test_pauses_are_no_words(tmp_path):
    clips = quiet(csd_tree(tmp_path))[0].clips
    assert clips.transcript[0] == 'w3 w4' # seconds 1 to 3 hold w2 ... w5 at two a second, and every third is a pause
    words = read_csd_words(tmp_path/'CMU_MOSEI_TimestampedWords.csd', clips, Report('', tmp_path))
    assert 'sp' not in set(words.word) and words.start.min() >= 0 and words.end.max() <= 2
    with h5py.File(tmp_path/'CMU_MOSEI_TimestampedWords.csd') as f:
        naive = [w.decode() for w in f[f'words/data/{VIDEOS[0]}/features'][:, 0]]
    assert 'sp' in naive


def test_two_files_for_one_modality(tmp_path):
    csd_tree(tmp_path)
    write_csd(tmp_path/'CMU_MOSEI_VisualOpenFace2.csd', 'OpenFace_2',
              {v: (np.ones((40, 7)), [[i/5, i/5 + .2] for i in range(40)]) for v in VIDEOS})
    write_csd(tmp_path/'CMU_MOSEI_TimestampedPhones.csd', 'phones', {})
    width = lambda **k: next(iter(quiet(tmp_path, **k)[1]['visual'].values())).values.shape[1]
    assert (width(), width(use={'visual': 'OpenFace'})) == (3, 7)
    with pytest.raises(UserError, match='densepose'): width(use={'visual': 'densepose'})
    noted = set(quiet(tmp_path)[2].of('note')['where'])
    assert {'CMU_MOSEI_VisualOpenFace2.csd', 'CMU_MOSEI_TimestampedPhones.csd'} <= noted


def test_missing_features_are_counted(tmp_path):
    csd_tree(tmp_path)
    with h5py.File(tmp_path/'CMU_MOSEI_VisualFacet42.csd', 'a') as f: del f[f'FACET 4.2/data/{VIDEOS[2]}']
    corpus, tracks, report = quiet(tmp_path)
    assert len(corpus) == 15 and len(tracks['visual']) == 12 and len(tracks['audio']) == 15
    missing = report.of('missing').set_index('where')
    assert missing.loc['visual', 'count'] == 3 and VIDEOS[2] in missing.loc['visual', 'what']
    assert f'{VIDEOS[2]}[0]' not in tracks['visual']
    with h5py.File(tmp_path/'CMU_MOSEI_VisualFacet42.csd') as f, h5py.File(tmp_path/'CMU_MOSEI_Labels.csd') as g:
        pairs = list(zip(g['All Labels/data'], f['FACET 4.2/data']))
    assert any(a != b for a, b in pairs) # going through both files side by side gives one video another's face


def test_another_width_is_left_out(tmp_path):
    csd_tree(tmp_path)
    with h5py.File(tmp_path/'CMU_MOSEI_COVAREP.csd', 'a') as f:
        at = f[f'COVAREP/data/{VIDEOS[0]}']
        n = len(at['features']); del at['features']; at['features'] = np.ones((n, 9))
    _, tracks, report = quiet(tmp_path)
    assert len(tracks['audio']) == 12
    assert report.of('skipped').what.str.contains('9 features a step, expected 4').sum() == 3


@pytest.mark.parametrize('kind', ['external link', 'soft link', 'external storage', 'virtual'])
def test_csd_cannot_reach_another_file(tmp_path, kind):
    (tmp_path/'set').mkdir(); secret = tmp_path/'secret.csd'
    write_csd(secret, 'All Labels', {'v': (np.ones((1, 7)), [[0, 1]])})
    csd_tree(tmp_path/'set')
    with h5py.File(tmp_path/'set/CMU_MOSEI_Labels.csd', 'a') as f:
        data = f['All Labels/data']
        if kind == 'external link': data['stolen'] = h5py.ExternalLink('../secret.csd', '/All Labels/data/v')
        elif kind == 'soft link': data['stolen'] = h5py.SoftLink(f'/All Labels/data/{VIDEOS[0]}')
        else:
            data['stolen/intervals'] = [[0., 1]]
            if kind == 'external storage':
                data['stolen'].create_dataset('features', (1, 7), 'f8', external=[(str(secret), 0, 56)])
            else:
                layout = h5py.VirtualLayout((1, 7), 'f8')
                layout[:] = h5py.VirtualSource(str(secret), 'All Labels/data/v/features', (1, 7))
                data['stolen'].create_virtual_dataset('features', layout)
        assert f['All Labels/data/stolen/features'].shape[-1] == 7 # what a plain reading gets
    corpus, _, report = quiet(tmp_path/'set')
    assert len(corpus) == 15 and report.of('skipped').what.str.contains('not followed').any()


def test_saved_web_page_is_named(tmp_path):
    csd_tree(tmp_path)
    (tmp_path/'CMU_MOSEI_COVAREP.csd').write_text('<!DOCTYPE html><html>502</html>')
    corpus, tracks, report = quiet(tmp_path)
    assert len(corpus) == 15 and not tracks['audio'] and report.of('skipped').what.str.contains('saved web page').any()


# ---- folds -------------------------------------------------------------------------------------------------

FOLDS = dict(train=VIDEOS[:2], valid=VIDEOS[2:3], test=(*VIDEOS[3:], 'unheard-of'))

def folds_file(folder, kind):
    path = folder/f'folds.{kind}'
    if kind == 'json': path.write_text(json.dumps(FOLDS))
    elif kind == 'csv':
        rows = [(v, s) for s, vs in FOLDS.items() for v in vs]
        pd.DataFrame(rows, columns=['video', 'split']).to_csv(path, index=False)
    else:
        lists = '\n'.join(f'standard_{s}_fold={list(v)!r}' for s, v in FOLDS.items())
        path.write_text(f"open({str(folder/'ran')!r}, 'w')\n{lists}")
    return path


@pytest.mark.parametrize('kind', ['py', 'json', 'csv'])
def test_official_folds_come_from_a_file_that_is_never_run(tmp_path, kind):
    corpus, _, report = quiet(csd_tree(tmp_path/'set'), folds=folds_file(tmp_path, kind))
    assert corpus.clips.groupby('group').split.unique().map(list).to_dict() == {
        v: [s] for v, s in zip(VIDEOS, ('train', 'train', 'val', 'test', 'test'))}
    assert not (tmp_path/'ran').exists() and 'unheard-of' in report.of('missing').what[0]
    check_disjoint(corpus.clips)
    assert corpus.facts['protocol'] == f'folds by folds.{kind}'


def test_without_lists_there_are_no_folds(tmp_path):
    corpus, _, report = quiet(csd_tree(tmp_path))
    assert corpus.clips.split.isna().all() and 'not shipped' in report.of('note').what[0]
    assert corpus.facts['protocol'] == 'no folds given'


@pytest.mark.parametrize('text, said', [
    ('{"train": ["a"], "valid": ["b"], "test": ["a"]}', "'a' stands in train and in test"),
    ('{"train": ["a"], "test": ["b"]}', 'expected lists'), ('{', 'expected JSON'), ('[1]', 'expected lists')])
def test_bad_lists_are_a_sentence(tmp_path, text, said):
    (tmp_path/'f.json').write_text(text)
    with pytest.raises(UserError, match=said): read_folds(tmp_path/'f.json')
    (tmp_path/'f.py').write_bytes(b'train = [\0')
    with pytest.raises(UserError, match='expected lists of videos'): read_folds(tmp_path/'f.py')


def test_segments_of_a_video_never_part(tmp_path):
    clips = quiet(csd_tree(tmp_path))[0].clips
    assert (clips.subject == clips.group).all() and clips.group.nunique() == len(VIDEOS)
    for held in folds_by_subject(clips, 5): assert not set(clips.group[held]) & set(clips.group[~held])
    rows = np.arange(len(clips)) % 5 == 0 # every fifth clip held out
    assert set(clips.group[rows]) & set(clips.group[~rows])


# ---- MMSA's pickles ----------------------------------------------------------------------------------------

def test_pickle_is_read_only_where_it_is_named_and_allowed(tmp_path):
    path, _ = mmsa(tmp_path/'unaligned_50.pkl')
    with pytest.raises(UserError, match='convert_pickle'): quiet(path)
    with pytest.raises(UserError, match='unaligned_50.pkl is a pickle'):
        quiet(tmp_path, allow_pickle=True) # the folder names no file
    assert len(quiet(path, allow_pickle=True)[0]) == 12


class Marker:
    "Writes a file when a plain unpickler builds it."
    def __init__(self, path): self.path = str(path)
    def __reduce__(self): return open, (self.path, 'w')


@pytest.mark.parametrize('protocol', range(6))
def test_malicious_pickle_runs_nothing(tmp_path, protocol):
    path, marker = tmp_path/'evil.pkl', tmp_path/'it-ran'
    path.write_bytes(pickle.dumps({'train': {'id': ['a$_$0']}, 'more': Marker(marker)}, protocol))
    with open(path, 'rb') as f: pickle.load(f)['more'].close()
    assert marker.exists() # a plain reading runs it
    marker.unlink()
    with pytest.raises(UserError, match=r"evil.pkl.*'(_?io|builtins|__builtin__)\.open'"):
        quiet(path, allow_pickle=True)
    with pytest.raises(UserError, match=r'\.open'): convert_pickle(path, tmp_path/'out')
    assert not marker.exists() and not (tmp_path/'out').exists() and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize('name', [
    'os\nsystem', 'builtins\neval', 'builtins\ngetattr', 'numpy\nload', 'numpy.core.multiarray\nfromfile',
    'builtins\nlist', 'numpy.core.numeric\nfromfunction', 'pandas\nread_pickle', 'collections\nOrderedDict'])
def test_every_other_global_is_refused_by_name(tmp_path, name):
    (tmp_path/'g.pkl').write_bytes(b'c' + name.encode() + b'\n.')
    with pytest.raises(UserError, match=name.replace('\n', r'\.')): load_plain_pickle(tmp_path/'g.pkl')


def op(*parts): return b''.join(p if isinstance(p, bytes) else p.encode() for p in parts)
DTYPE = "cnumpy\ndtype\n"

@pytest.mark.parametrize('crafted', [
    op(DTYPE, "(S'V8'\nI00\nI01\ntR."),                                                  # fields make addresses of it
    op(DTYPE, "(S'f8'\nI00\nI01\ntR(I3\nS'<'\nNS'a'\n(dI8\nI1\nI0\ntb."),                # a type with names
    op(DTYPE, "(S'f8'\nI00\nI01\ntR(I3\nS'<'\n(I1\nI2\ntNNI8\nI1\nI0\ntb."),             # a type of types
    op("cnumpy\nndarray\n}S'__setstate__'\ncnumpy\ndtype\nsb."),                         # state on a class
    op("(cbuiltins\nset\no."), op("(icollections\nDeque\n."), op("Pperson\n."),          # other ways to make objects
    op("\x80\x02cbuiltins\nset\n)\x81."),
    op("cnumpy.core.multiarray\nscalar\n(", DTYPE, "(S'f8'\nI00\nI01\ntRS'123'\ntR."),   # three bytes for eight
    op("cnumpy.core.numeric\n_frombuffer\n(S''\n", DTYPE, "(S'f8'\nI00\nI01\ntR(I1000000\nI1000000\ntS'C'\ntR."),
    op("c_codecs\nencode\n(S'x'\nS'zlib'\ntR."),
], ids=range(11))
def test_crafted_pickle_is_a_sentence(tmp_path, crafted):
    (tmp_path/'c.pkl').write_bytes(crafted.replace(b'\xc2', b''))
    with pytest.raises(UserError, match='c.pkl'): load_plain_pickle(tmp_path/'c.pkl')


def test_announced_sizes_are_not_believed(tmp_path):
    for head in (b'\x80\x04\x8e', b'\x80\x05\x96', b'\x80\x04\x95', b'\x80\x04\x8d'):
        (tmp_path/'b.pkl').write_bytes(head + (2**50).to_bytes(8, 'little') + b'x')
        with pytest.raises(UserError): load_plain_pickle(tmp_path/'b.pkl')
    # a place far out in the memo: the C reader would allocate all places before it
    (tmp_path/'b.pkl').write_bytes(b'\x80\x04Nr\xff\xff\xff\x7f.')
    assert load_plain_pickle(tmp_path/'b.pkl') is None


@pytest.mark.parametrize('protocol', range(6))
def test_plain_arrays_come_back_as_they_were(tmp_path, protocol):
    arrays = [np.arange(24, dtype=d).reshape(2, 3, 4) for d in ('f2', 'f4', 'f8', '>f4', 'i1', 'u2', 'i8')]
    arrays += [np.asfortranarray(arrays[1]), arrays[2][:, ::2], np.array([True, False]), np.array(['ä', 'bc']),
               np.array([b'x', b'yz']),
               np.array(['a', None, 'b'], object), np.zeros((0, 3)), np.array(3.5)]
    other = [1, -2**70, 2.5, 'text', b'bytes', None, True, {'k': (1, 2)}, {3, 4}, frozenset([5])]
    data = dict(arrays=arrays, other=other, one=np.float32(1.5))
    (tmp_path/'p.pkl').write_bytes(pickle.dumps(data, protocol))
    back = load_plain_pickle(tmp_path/'p.pkl')
    for a, b in zip(arrays, map(unwrap_array, back['arrays'])):
        assert a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    assert back['other'] == data['other'] and back['one'] == 1.5


def test_padding_is_not_data_in_unaligned_files(tmp_path):
    path, data = mmsa(tmp_path/'u.pkl')
    corpus, tracks, _ = quiet(path, allow_pickle=True)
    assert corpus.facts['source'] == 'mmsa:unaligned'
    for part in data.values():
        for i, clip in enumerate(part['id']):
            assert len(tracks['audio'][clip]) == part['audio_lengths'][i]
            assert len(tracks['visual'][clip]) == part['vision_lengths'][i]
            n = int(part['text_bert'][i, 1].sum())
            np.testing.assert_array_equal(tracks['text'][clip].values, part['text'][i, :n])
            assert np.abs(part['text'][i, n:]).sum() > 0 # looking for zeros would have kept the padding
            seconds = max(part['audio_lengths'][i]/20, part['vision_lengths'][i]/15)
            assert tracks['text'][clip].time[-1] < seconds # words lie within the clip
    assert sum(len(t) for t in tracks['audio'].values()) < 12*12 # a plain reading takes 12 steps of every clip


def test_aligned_steps_stay_aligned(tmp_path):
    path, data = mmsa(tmp_path/'a.pkl', aligned=True)
    data['train']['audio'][2] = 0; data['train']['audio'][2, 2:4] = 1 # zeros before and after: padded on both sides
    path.write_bytes(pickle.dumps(data))
    corpus, tracks, _ = quiet(path, allow_pickle=True)
    clip = data['train']['id'][2]
    assert corpus.facts['source'] == 'mmsa:aligned' and len(tracks['audio'][clip]) == 2
    np.testing.assert_allclose(tracks['audio'][clip].time, [1.25, 1.75])
    np.testing.assert_allclose(tracks['text'][clip].time[:3], [.25, .75, 1.25]) # the same grid
    trimmed = (np.arange(2) + .5)/2 # counting from the first step kept moves the sound away from its words
    assert not np.allclose(tracks['audio'][clip].time, trimmed)


def test_minus_infinity_and_nan_in_pickles(tmp_path):
    path, data = mmsa(tmp_path/'u.pkl')
    _, tracks, report = quiet(path, allow_pickle=True)
    assert all(np.isfinite(t.values).all() for m in tracks.values() for t in m.values())
    kept = {m: [p[k][i, :n] for p in data.values() for i, n in enumerate(p[f'{k}_lengths'])]
            for m, k in (('audio', 'audio'), ('visual', 'vision'))}
    expected = {f'{m}: values that are {w}, set to 0': n for m, parts in kept.items()
                for w, n in (('-inf', sum((x == -np.inf).sum() for x in parts)),
                             ('NaN', sum(np.isnan(x).sum() for x in parts))) if n}
    assert dict(zip(report.of('mended').what, report.of('mended')['count'])) == expected and len(expected) == 3
    only_inf = np.where(data['train']['audio'] == -np.inf, 0, data['train']['audio'])
    assert np.isnan(only_inf).any() # the usual repair leaves NaN


def test_ids_are_cut_at_the_last_mark(tmp_path):
    clips = quiet(mmsa(tmp_path/'u.pkl')[0], allow_pickle=True)[0].clips
    assert set(clips.subject) == {f'{v}{s}' for v in VIDEOS[:2] for s in ('train', 'valid', 'test')}
    odd = clips.clip_id[clips.subject == '0_8zVV8U$N0train'].iloc[0]
    assert odd.split('_')[0] == '0' and odd.split('$')[0] == '0_8zVV8U'


def test_mmsa_folds_are_its_keys(tmp_path):
    path, data = mmsa(tmp_path/'u.pkl')
    corpus, _, report = quiet(path, allow_pickle=True)
    assert corpus.clips.split.value_counts().to_dict() == dict(train=4, val=4, test=4)
    check_disjoint(corpus.clips)
    data['test']['id'][0] = data['train']['id'][1][:-1] + '99' # a video on both sides
    path.write_bytes(pickle.dumps(data))
    corpus, _, report = quiet(path, allow_pickle=True)
    assert report.of('note').what.str.contains('more than one split').any()
    with pytest.raises(UserError, match='both sides'): check_disjoint(corpus.clips)


def test_mmsa_has_no_emotions(tmp_path):
    with pytest.raises(UserError, match='sentiment only'):
        quiet(mmsa(tmp_path/'u.pkl')[0], 'emotions', allow_pickle=True)


def test_clip_twice_and_odd_ids(tmp_path):
    path, data = mmsa(tmp_path/'u.pkl')
    data['train']['id'][1] = data['train']['id'][0]
    data['train']['id'][2] = '../../etc/passwd$_$0'
    data['train']['id'][3] = 'no mark'
    path.write_bytes(pickle.dumps(data))
    corpus, tracks, report = quiet(path, allow_pickle=True)
    assert len(corpus) == 9 and len(report.of('skipped')) == 3 and 'second time' in ' '.join(report.of('skipped').what)
    np.testing.assert_array_equal(tracks['text'][data['train']['id'][0]].values,
                                  data['train']['text'][0, :len(tracks['text'][data['train']['id'][0]])])


@pytest.mark.parametrize('length', [-1, 99, np.nan])
def test_impossible_length(tmp_path, length):
    path, data = mmsa(tmp_path/'u.pkl')
    true = data['train']['audio_lengths'][2]
    data['train']['audio_lengths'] = [float(x) for x in data['train']['audio_lengths']]
    data['train']['audio_lengths'][2] = length
    path.write_bytes(pickle.dumps(data))
    _, tracks, report = quiet(path, allow_pickle=True)
    assert len(tracks['audio'][data['train']['id'][2]]) == true
    assert report.of('mended').what.str.contains('item 2: length').any()


def test_clip_of_exactly_the_padded_length(tmp_path):
    path, data = mmsa(tmp_path/'u.pkl')
    data['train']['audio'][2] = 1; data['train']['audio_lengths'][2] = 12
    path.write_bytes(pickle.dumps(data))
    assert len(quiet(path, allow_pickle=True)[1]['audio'][data['train']['id'][2]]) == 12


def test_empty_transcript_is_kept(tmp_path):
    path, data = mmsa(tmp_path/'u.pkl')
    data['train']['raw_text'][1] = ''
    path.write_bytes(pickle.dumps(data))
    corpus, _, report = quiet(path, allow_pickle=True)
    assert len(corpus) == 12 and report.of('note').what.str.contains('empty transcript').any()


# ---- converter and the way on ------------------------------------------------------------------------------

@pytest.mark.parametrize('aligned', [True, False])
def test_converted_folder_says_the_same(tmp_path, aligned):
    path, _ = mmsa(tmp_path/'m.pkl', aligned=aligned)
    convert_pickle(path, tmp_path/'new')
    (a, x, r), (b, y, s) = quiet(path, allow_pickle=True), quiet(tmp_path/'new')
    pd.testing.assert_frame_equal(a.clips.drop(columns='path'), b.clips.drop(columns='path'))
    assert a.facts == b.facts and a.space == b.space
    pd.testing.assert_frame_equal(r.table, s.table)
    for m in x:
        assert set(x[m]) == set(y[m])
        for c in x[m]:
            for k in ('values', 'time', 'valid'):
                p, q = getattr(x[m][c], k), getattr(y[m][c], k)
                assert p.dtype == q.dtype and p.tobytes() == q.tobytes()
            assert x[m][c].source == y[m][c].source
    assert b.path(b.clips.clip_id[0]).is_file()
    with pytest.raises(UserError, match='something of this name'): convert_pickle(path, tmp_path/'new')


def test_conversion_is_whole_or_absent(tmp_path, monkeypatch):
    path, _ = mmsa(tmp_path/'m.pkl')
    import mmemo.corpora.mosei as module
    monkeypatch.setattr(module, 'write_json', lambda *a: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError): convert_pickle(path, tmp_path/'new')
    assert [p.name for p in tmp_path.iterdir()] == ['m.pkl']


def test_changed_file_of_a_converted_folder(tmp_path):
    convert_pickle(mmsa(tmp_path/'m.pkl')[0], tmp_path/'new')
    whole = quiet(tmp_path/'new')[0]
    for cut in (10, 400): # bytes left
        (tmp_path/'new/audio.safetensors').write_bytes((tmp_path/'new/audio.safetensors').read_bytes()[:cut])
        corpus, tracks, report = quiet(tmp_path/'new')
        assert 'audio' not in tracks and 'changed since' in report.of('skipped').what.iloc[-1]
        pd.testing.assert_frame_equal(whole.clips, corpus.clips)
    (tmp_path/'new/mosei.json').write_text('[1]')
    with pytest.raises(UserError, match='mosei.json'): quiet(tmp_path/'new')


def test_tracks_go_into_the_store(tmp_path):
    corpus, tracks, _ = quiet(csd_tree(tmp_path/'set'))
    del tracks['visual'][corpus.clips.clip_id[1]]
    store = extract(corpus, visual=tracks['visual'], speech=tracks['audio'], cache=tmp_path/'cache', progress=False)
    assert store.dims == dict(visual=3, audio=4) and len(store.clip(corpus.clips.clip_id[1], 'visual')) == 0
    clip = corpus.clips.clip_id[5]
    np.testing.assert_array_equal(store.clip(clip, 'audio').values, tracks['audio'][clip].values)
    three = FeatureStore({m: pack_tracks(t, list(corpus.clips.clip_id)) for m, t in tracks.items()})
    assert three.dims == dict(visual=3, audio=4, text=5)


def test_report_without_holding_the_features(tmp_path):
    csd_tree(tmp_path)
    corpus, report = read_mosei(tmp_path, progress=False)
    full, _, same = quiet(tmp_path)
    pd.testing.assert_frame_equal(corpus.clips, full.clips); pd.testing.assert_frame_equal(report.table, same.table)


@pytest.mark.parametrize('make, said', [(lambda p: p/'nowhere', 'no such'), (lambda p: p, 'expected .csd files'),
                                        (lambda p: (p/'x.txt').write_text('') and None or p/'x.txt', "found '.txt'")])
def test_wrong_place_is_a_sentence(tmp_path, make, said):
    with pytest.raises(UserError, match=said): quiet(make(tmp_path))


def test_wrong_choices_are_sentences(tmp_path):
    csd_tree(tmp_path)
    with pytest.raises(UserError, match="expected 'sentiment' or 'emotions'"): quiet(tmp_path, 'valence')
    with pytest.raises(UserError, match="modality 'smell'"): quiet(tmp_path, modalities=('smell',))
    (tmp_path/'CMU_MOSEI_Labels.csd').unlink()
    with pytest.raises(UserError, match='file of labels'): quiet(tmp_path)


# ---- damage ------------------------------------------------------------------------------------------------

def damaged(data:bytes, rng) -> bytes:
    "Bytes flipped, cut off or doubled."
    kind, n = rng.integers(3), len(data)
    if kind == 0:
        out = bytearray(data)
        for i in rng.integers(0, n, rng.integers(1, 30)): out[i] ^= int(rng.integers(1, 256))
        return bytes(out)
    if kind == 1: return data[:rng.integers(0, n)]
    a = rng.integers(0, n); b = min(n, a + rng.integers(1, 400))
    return data[:b] + data[a:b] + data[b:]


READ = '''
import pickle, sys
from pathlib import Path
from mmemo.core import UserError
from mmemo.corpora.mosei import load_mosei
out = []
for folder in sorted(Path(sys.argv[1]).iterdir(), key=lambda p: int(p.name)):
    try:
        corpus, tracks, report = load_mosei(folder, progress=False)
        out.append((corpus.clips, {m: {c: t.values for c, t in ts.items()} for m, ts in tracks.items()}, report.table))
    except UserError as e: out.append(str(e))
Path(sys.argv[2]).write_bytes(pickle.dumps(out))
'''

def test_damaged_csd_files(tmp_path):
    "In a process of its own: were the HDF5 library to crash, this test would fail and not end."
    whole, rng, hit = csd_tree(tmp_path/'whole', compression='gzip', fletcher32=True), rng_for('damage'), []
    files = sorted(p.name for p in whole.iterdir())
    for i in range(60):
        shutil.copytree(whole, tmp_path/'all'/str(i))
        hit.append(files[i % len(files)])
        (tmp_path/'all'/str(i)/hit[-1]).write_bytes(damaged((whole/hit[-1]).read_bytes(), rng))
    done = subprocess.run([sys.executable, '-c', READ, tmp_path/'all', tmp_path/'out.pkl'], capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    corpus, tracks, report = quiet(whole)
    of = {'COVAREP': 'audio', 'Facet': 'visual', 'WordVectors': 'text'}
    sentences = 0
    for name, result in zip(hit, pickle.loads((tmp_path/'out.pkl').read_bytes())):
        mine = next((m for k, m in of.items() if k in name), None)
        if isinstance(result, str):
            assert 'Labels' in name and name in result, result # only without labels is there nothing to read
            sentences += 1; continue
        clips, values, table = result
        changed = False
        if 'Labels' not in name: # a damaged feature file leaves the table alone
            same = [c for c in clips if c != 'transcript' or 'Words.csd' not in name]
            pd.testing.assert_frame_equal(clips[same], corpus.clips[same])
            changed = 'transcript' not in same and not clips.transcript.equals(corpus.clips.transcript)
        else: # what is still there is as it was
            there = corpus.clips[corpus.clips.clip_id.isin(clips.clip_id)]
            pd.testing.assert_frame_equal(clips, there.reset_index(drop=True))
            changed = len(clips) < len(corpus)
        for m in tracks:
            if m == mine or 'Labels' in name:
                assert all(np.array_equal(v, tracks[m][c].values) for c, v in values[m].items())
                changed |= len(values[m]) < len(tracks[m])
            else:
                assert set(values[m]) == set(tracks[m])
                assert all(np.array_equal(v, tracks[m][c].values) for c, v in values[m].items())
        if changed: assert len(table) > len(report.table) and (table.kind == 'skipped').any(), (name, table)
    assert 0 < sentences < 15


def test_damaged_pickles(tmp_path):
    path, _ = mmsa(tmp_path/'whole.pkl', seed=3)
    (whole, tracks, _), rng, data = quiet(path, allow_pickle=True), rng_for('damage', 'pickle'), path.read_bytes()
    sentences, read = 0, 0
    for i in range(60):
        bad = damaged(data, rng)
        (tmp_path/'bad.pkl').write_bytes(bad)
        try: corpus, values, report = quiet(tmp_path/'bad.pkl', allow_pickle=True)
        except UserError as e:
            assert 'bad.pkl' in str(e); sentences += 1; continue
        read += 1
        assert corpus.clips.sentiment.dropna().between(-3, 3).all()
        assert set(corpus.clips.split) <= {'train', 'val', 'test'}
        assert all(np.isfinite(t.values).all() for m in values.values() for t in m.values())
        if len(corpus) < len(whole) or corpus.clips.sentiment.isna().any():
            assert len(report.of('skipped')) + len(report.of('missing'))
        if bad != data:
            assert report.of('note').what.str.contains('not a published file').any() # numbers that changed silently
    assert sentences and read and quiet(path, allow_pickle=True)[0].clips.equals(whole.clips)


# ---- metrics -----------------------------------------------------------------------------------------------

def sdk_rule(a): # as the data set's page states it, case by case
    if a < -2: return -3
    if a < -1: return -2
    if a < 0: return -1
    if a == 0: return 0
    if a <= 1: return 1
    if a <= 2: return 2
    return 3


def sentiment_scores(y, p):
    "Every figure as `evaluate` comes to it, and on how many clips."
    sums = sum_for_sentiment(y, p)[1].sum(0)
    return {k: float(f(sums)) for k, f in SENTIMENT_SCORES.items()} | dict(n=sums[0], n_non0=sums[11:15].sum())


def acc2(y, p, rule='has0'): return sentiment_scores(y, p)[f'acc2_{rule}']
def acc7(y, p, rule='mmsa'): return sentiment_scores(y, p)[f'acc7_{rule}']
def sentiment_f1(y, p, rule='has0'): return sentiment_scores(y, p)[f'weighted_f1_{rule}']
def mae(y, p): return sentiment_scores(y, p)['mae']
def pearson_r(y, p): return sentiment_scores(y, p)['pearson_r']


def emotion_scores(y, p, classes, threshold=0.):
    "Each emotion where it is labelled, and their mean as `evaluate` comes to it."
    each = {}
    for i, c in enumerate(classes):
        conf = sum_for_emotions(y[:, i:i + 1], p[:, i:i + 1], threshold=threshold)[1].sum(0)[0]
        each[c] = {k: float(f(conf)) for k, f in EACH_EMOTION.items()} | dict(n=conf.sum(), n_present=conf[1].sum())
    total = sum_for_emotions(y, p, threshold=threshold)[1].sum(0)
    return each | dict(mean={k: float(f(total)) for k, f in SCORES['emotions'].items()})


@pytest.mark.parametrize('seed', range(60))
def test_sentiment_against_references(seed):
    rng = rng_for('sentiment', seed)
    n = int(rng.integers(5, 400))
    y = rng.integers(-9, 10, n)/3 if seed % 3 else rng.choice([-3., -1, 0, .5, 1.5, 2.5], n)
    p = y*rng.random() + rng.normal(0, 1 + seed % 2, n)
    if seed % 4 == 0: p = np.round(p) # predictions of exactly 0
    non0 = y != 0
    expected = dict(
        acc2_has0=accuracy_score(y >= 0, p >= 0), acc2_non0=accuracy_score(y[non0] > 0, p[non0] > 0),
        weighted_f1_has0=f1_score(y >= 0, p >= 0, average='weighted', zero_division=0),
        weighted_f1_non0=f1_score(y[non0] > 0, p[non0] > 0, average='weighted', zero_division=0),
        acc7_mmsa=np.mean(np.round(np.clip(p, -3, 3)) == np.round(np.clip(y, -3, 3))),
        acc7_sdk=np.mean([sdk_rule(a) == sdk_rule(b) for a, b in zip(y, p)]),
        ccc=2*np.cov(y, p, bias=True)[0, 1]/(y.var() + p.var() + (y.mean() - p.mean())**2),
        mae=np.abs(y - p).mean(), pearson_r=pearsonr(y, p)[0], n=n, n_non0=int(non0.sum()))
    got = sentiment_scores(y, p)
    assert set(got) == set(expected)
    for k, v in expected.items(): assert got[k] == pytest.approx(v, abs=1e-12), k
    holes = np.concatenate([y, [np.nan]*3]), np.concatenate([p, [np.nan, 0, 9]])
    assert sentiment_scores(*holes) == pytest.approx(got) # a clip without a label does not count


def test_the_two_rules_of_acc2_differ():
    y, p = [0., 0, 0, 1, -1], [-.1, -.1, -.1, .5, -.5]
    assert (acc2(y, p, 'has0'), acc2(y, p, 'non0')) == (.4, 1.)
    assert (acc2([1., 1], [0., 0], 'has0'), acc2([1., 1], [0., 0], 'non0')) == (1., 0.)
    assert sentiment_f1(y, p, 'has0') != sentiment_f1(y, p, 'non0')


def test_the_two_rules_of_acc7_differ():
    y = np.arange(-9, 10)/3
    assert to_seven_classes(y, 'sdk').tolist() == [sdk_rule(a) for a in y]
    assert (to_seven_classes(y, 'mmsa') != to_seven_classes(y, 'sdk')).sum() == 6 # every x.33 of either sign
    assert to_seven_classes([.5, 1.5, 2.5, -.5], 'mmsa').tolist() == [0, 2, 2, 0] # half to even
    assert np.floor(np.array([.5, 2.5]) + .5).tolist() == [1, 3] # and not away from zero, as schools have it
    assert (acc7([0.], [.2], 'mmsa'), acc7([0.], [.2], 'sdk')) == (1., 0.)
    assert to_seven_classes([9, -9], 'sdk').tolist() == to_seven_classes([9, -9], 'mmsa').tolist() == [3, -3]


def test_f1_is_weighted_by_labels_and_not_by_predictions():
    y, p = np.array([1, 1, 1, 1, -1.]), np.array([1, 1, -1, -1, -1.])
    assert sentiment_f1(y, p) == pytest.approx(f1_score(y >= 0, p >= 0, average='weighted'))
    assert sentiment_f1(y, p) != pytest.approx(f1_score(p >= 0, y >= 0, average='weighted'))


def test_scores_where_there_is_little_to_score():
    assert np.isnan([acc2([], []), acc2([0.], [1.], 'non0'), sentiment_f1([0.], [1.], 'non0'), acc7([], []),
                     mae([], []), pearson_r([1.], [1.])]).all()
    assert np.isnan(pearson_r([1., 1], [1., 2])) and pearson_r([1., 2, 3], [.1, .1, .1]) == 0
    for call, said in ((lambda: acc2([1], [1, 2]), 'as many'), (lambda: to_seven_classes([1], 'zadeh'), 'mmsa, sdk'),
                       (lambda: mae([1], [np.inf]), 'got inf')):
        with pytest.raises(UserError, match=said): call()


@pytest.mark.parametrize('seed', range(40))
def test_emotions_against_references(seed):
    rng = rng_for('emotions', seed)
    n, threshold = int(rng.integers(20, 300)), float(rng.choice([0, .5]))
    y = np.where(rng.random((n, 6)) < rng.uniform(.05, .6, 6), rng.integers(1, 10, (n, 6))/3, 0.)
    y[0], y[1] = 1, 0 # both kinds in every emotion
    p = (y > 0)*rng.random((n, 6)) + rng.normal(0, .5, (n, 6))
    got = emotion_scores(y, p, MOSEI_EMOTIONS.classes, threshold)
    for i, c in enumerate(MOSEI_EMOTIONS.classes):
        t, q = y[:, i] > 0, p[:, i] > threshold
        assert got[c]['weighted_accuracy'] == pytest.approx(balanced_accuracy_score(t, q))
        pos, neg = t.sum(), (~t).sum() # as multimodal papers write it
        assert got[c]['weighted_accuracy'] == pytest.approx(((t & q).sum()*neg/pos + (~t & ~q).sum())/(2*neg))
        assert got[c]['weighted_f1'] == pytest.approx(f1_score(t, q, average='weighted', zero_division=0))
        assert got[c]['f1_present'] == pytest.approx(f1_score(t, q, zero_division=0))
        assert got[c]['n_present'] == pos
    assert got['mean']['weighted_f1'] == pytest.approx(np.mean([got[c]['weighted_f1'] for c in MOSEI_EMOTIONS.classes]))


def test_emotion_never_present_has_no_weighted_accuracy():
    y = np.zeros((10, 6)); y[:5, 0] = 1/3
    got = emotion_scores(y, y, MOSEI_EMOTIONS.classes)
    assert got['Happiness']['weighted_accuracy'] == 1
    assert np.isnan(got['Fear']['weighted_accuracy'])
    assert got['mean']['weighted_accuracy'] == 1
    assert accuracy_score(y[:, 5] > 0, y[:, 5] > 0) == 1 # plain accuracy praises it
    y[0, 0] = np.nan
    assert emotion_scores(y, np.zeros_like(y), MOSEI_EMOTIONS.classes)['Happiness']['n'] == 9
