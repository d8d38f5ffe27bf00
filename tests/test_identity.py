"""Identity is text: names as they are written, in and back out, through everything that reads or writes a table."""
import csv, io, json, sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmemo.commands.cli import main
from mmemo.core import UserError
from mmemo.corpora.cells import find_form, label_groups
from mmemo.corpora.leaks import check_leaks, guard
from mmemo.corpora.manifest import Corpus, check_manifest, load_corpus, read_manifest, save_corpus
from mmemo.corpora.splits import check_disjoint, folds_by_subject, split_by_subject
from mmemo.corpora.readers import read_corpus
from mmemo.features.tables import tracks_from_table
from mmemo.features.words import add_words
from mmemo.training.run_clips import list_split

# every kind of cell that a reader may bend, one column each; five clips
KINDS = {
    'zeros': ['001', '01', '1', '0', '00'], 'decimals': ['3.1', '3.10', '3.100', '3', '03.1'], 'fixed': ['1.50', '2.00', '0.10', '10.00', '9.90'],
    'powers': ['1e3', '1000', '1E3', '1e03', '2e-5'], 'none_words': ['NA', 'null', 'None', 'nan', 'N/A'], 'more_words': ['NULL', '<NA>', '#N/A', '-', '?'],
    'truth': ['TRUE', 'FALSE', 'TRUE', 'FALSE', 'TRUE'], 'small_truth': ['true', 'false', 'true', 'true', 'false'], 'mixed_truth': ['True', 'TRUE', '', 'False', '1'],
    'gaps': ['1', '', '3', '', '5'], 'empty': ['']*5, 'big': ['9007199254740993', '9007199254740992', '12345678901234567890123', '1', '2'],
    'signs': ['+1', '-0', '-0.0', '0', '+0'], 'points': ['.5', '5.', '0.5', '5', '-.5'], 'commas': ['1,5', '2,75', '1.000,5', '0,1', ','],
    'blanks': [' a', 'a ', ' a ', '\ta', '  '], 'no_break': ['a\u00a0b', 'a b', '\u2009a', 'a\u200b', '\ufeffa'],
    'quotes': ['"', '""', 'say "hi"', "'", '"quoted"'], 'lines': ['a\nb', 'a\r\nb', 'a\rb', '\n', 'a\n\nb'],
    'unicode': ['é', 'e\u0301', 'Ａ', '人', '😀'], 'dates': ['2026-11-30', '30.11.2026', '11/30/26', '2026-11-30T00:00:00', '1/2'],
    'times': ['00:01:02', '1:02', '12:00', '0:00', '24:00'], 'formulas': ['=1+1', '+A1', '-A1', '@x', '#x'], 'html': ['<!--<script>', '&amp;', '</td>', '<b>', '%s'],
    'json': ['{"a": 1}', '[1, 2]', '[]', '{}', 'null'], 'backslash': ['\\', '\\n', 'C:\\x', '\\"', '\\\\'], 'inf': ['inf', '-inf', 'Infinity', 'INF', '1'],
    'hex': ['0x10', '0b1', '1_000', '0o7', '١٢'], 'percent': ['5%', '50 %', '0.5%', '%', '100%'], 'age': ['31', '29', '55', '18', '42'],
    'score': ['0.25', '0.5', '0.75', '1.25', '2.125'], 'label_like': ['Langeweile', 'Frust', 'joy', 'ANGER', 'neutral ']}
NAMED = {
    'clip_id': ['001', '01', '1', 'NA', 'nan'], 'path': ['001.wav', '01.wav', '1.wav', 'NA.wav', 'nan.wav'], 'subject': ['NA', 'null', '', 'None', '1001'],
    'group': ['3.10', '3.1', '', 'True', '1e3'], 'split': ['train', 'train', 'val', 'test', ''], 'label': ['Anger', 'anger', '3', '', 'Fear'],
    'transcript': ['NA', ' so ', '', '12', 'a "b"\nc'], 'start': ['0', '1.50', '', '0.0', '.5'], 'end': ['2', '3.00', '', '1e1', '9.'], 'fps': ['25', '', '25.0', '29.97', '30']}
CELLS = NAMED | KINDS


def text_of(columns, sep=',', newline='\n') -> str:
    out = io.StringIO(newline='')
    write = csv.writer(out, delimiter=sep, lineterminator=newline, quoting=csv.QUOTE_ALL)
    write.writerow(columns)
    write.writerows(zip(*columns.values()))
    return out.getvalue()


def cells_of(path) -> dict:
    "What another program reads in the file."
    with open(path, newline='', encoding=find_form(path).encoding) as f:
        names, *rows = csv.reader(f, delimiter=find_form(path).sep)
    return dict(zip(names, map(list, zip(*rows))))


@pytest.fixture
def folder(tmp_path):
    "A folder with a table of 42 columns and its clips."
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'manifest.csv').write_text(text_of(CELLS), newline='')
    for name in CELLS['path']: (tmp_path/'mine'/name).write_bytes(b'x')
    return tmp_path/'mine'


def assert_same(now, wanted=CELLS, but=()):
    assert [c for c in now if c in wanted] == list(wanted) # in their order
    for c in wanted:
        if c not in but: assert now[c] == wanted[c], c


def test_the_table_has_forty_columns(): assert len(CELLS) >= 40 and {len(v) for v in CELLS.values()} == {5}


def test_names_are_as_written(folder):
    corpus = load_corpus(folder)
    clips = corpus.clips
    assert corpus.labels.encode(clips.label.where(clips.label.notna(), None)).tolist() == [1, 1, 3, -1, 3]
    for c in ('clip_id', 'path', 'subject', 'group', 'split', 'transcript'):
        assert clips[c].where(clips[c].notna(), '').tolist() == CELLS[c], c
    assert clips.start.fillna(-1).tolist() == [0, 1.5, -1, 0, .5] and clips.fps.fillna(0).tolist() == [25, 0, 25, 29.97, 30]
    assert clips.age.tolist() == [31, 29, 55, 18, 42] and clips.score.mean() == .975 and clips.truth.sum() == 3 # what is measured can be reckoned with
    for c in ('zeros', 'decimals', 'powers', 'big', 'none_words', 'mixed_truth', 'hex', 'inf'): assert clips[c].fillna('').tolist() == KINDS[c], c


def test_round_trip_by_hand(folder, tmp_path):
    save_corpus(load_corpus(folder), tmp_path/'out')
    assert_same(cells_of(tmp_path/'out'/'manifest.csv'))
    assert set(cells_of(tmp_path/'out'/'manifest.csv')) == set(CELLS) # and no column is added
    save_corpus(load_corpus(folder), folder) # over itself
    assert_same(cells_of(folder/'manifest.csv'))
    save_corpus(load_corpus(tmp_path/'out'), tmp_path/'again')
    assert_same(cells_of(tmp_path/'again'/'manifest.csv'))


def test_round_trip_through_corpus(folder, tmp_path, capsys):
    assert main(['corpus', 'folder', str(folder), '--out', str(tmp_path/'out'), '--pictures', '0']) == 0
    assert_same(cells_of(tmp_path/'out'/'manifest.csv'))
    page = (tmp_path/'out'/'page.html').read_text()
    assert '<!--<script>' not in page.split('<body', 1)[1]


def test_round_trip_through_transcribe(folder, tmp_path, monkeypatch, capsys):
    import mmemo.features.transcripts as transcripts
    hear = lambda corpus, *a, **k: add_words(corpus, {'01': [('yes', .1, .4)]}, 'machine: planted')
    monkeypatch.setattr(transcripts, 'transcribe', hear)
    for out, place in (([], folder), (['--out', str(tmp_path/'out')], tmp_path/'out')):
        assert main(['transcribe', str(folder), *out]) == 0
        now = cells_of(place/'manifest.csv')
        assert_same(now, but=('transcript',))
        assert now['transcript'] == ['NA', 'yes', '', '12', 'a "b"\nc'] and now['transcript_by'] == ['', 'machine: planted', '', '', '']
        assert json.loads(now['words'][1]) == [['yes', .1, .4]]


def test_a_first_table_is_read_as_it_was_written(tmp_path, capsys):
    for name in ('angry/001.wav', 'angry/01.wav', 'sad/NA.wav', 'sad/3.10.wav', 'sad/null.wav'):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_bytes(b'x')
    said = {'angry/001.txt': 'NA', 'angry/01.txt': 'one\rtwo\nthree "four"', 'sad/NA.txt': '007', 'sad/3.10.txt': '1e3'}
    for name, text in said.items(): (tmp_path/name).write_bytes(text.encode())
    assert main(['manifest', 'init', str(tmp_path), '--subject', r'/([^/]*)\.wav']) == 0
    clips = load_corpus(tmp_path).clips.set_index('path')
    assert clips.clip_id.to_dict() == clips.subject.to_dict() == {p: Path(p).stem for p in clips.index}
    read = clips.transcript
    assert [read['angry/001.wav'], read['sad/NA.wav'], read['sad/3.10.wav']] == ['NA', '007', '1e3'] and pd.isna(read['sad/null.wav'])
    assert read['angry/01.wav'].replace('\n', '\r') == 'one\rtwo\rthree "four"'
    first = cells_of(tmp_path/'manifest.csv')
    save_corpus(load_corpus(tmp_path), tmp_path)
    assert_same(cells_of(tmp_path/'manifest.csv'), first)


@pytest.mark.parametrize('sep, newline, encoding', [(',', '\r\n', 'utf-8-sig'), (';', '\r\n', 'utf-8-sig'), ('\t', '\n', 'utf-16'), (';', '\n', 'utf-8')])
def test_a_file_is_written_as_it_was(folder, sep, newline, encoding):
    "As Excel leaves it in several countries: the mark before the first letter, the separator and the line's end stay."
    cells = {c: v for c, v in CELLS.items()}
    (folder/'manifest.csv').write_text(text_of(cells, sep, newline), encoding=encoding, newline='')
    before = find_form(folder/'manifest.csv')
    save_corpus(load_corpus(folder), folder)
    now = find_form(folder/'manifest.csv')
    assert (now.sep, now.newline, now.encoding) == (before.sep, before.newline, before.encoding) == (sep, newline, encoding)
    assert_same(cells_of(folder/'manifest.csv'))


def test_headers_stay(tmp_path):
    "Two columns of one name, one without a name, blanks around a name."
    text = 'clip_id,path,note,note, note ,\n1,a,x,y,z,w\n'
    (tmp_path/'manifest.csv').write_text(text)
    save_corpus(load_corpus(tmp_path), tmp_path)
    assert (tmp_path/'manifest.csv').read_text() == text


def test_a_changed_value_alone_changes(folder):
    corpus = load_corpus(folder)
    clips = corpus.clips.copy()
    clips.loc[1, 'age'], clips.loc[2, 'label'] = 30, 'Sadness'
    clips = clips.iloc[[3, 1, 2]] # other rows, in another order
    save_corpus(replace(corpus, clips=clips.reset_index(drop=True)), folder)
    now, wanted = cells_of(folder/'manifest.csv'), {c: [v[i] for i in (3, 1, 2)] for c, v in CELLS.items()}
    assert_same(now, wanted, but=('age', 'label'))
    assert now['age'] == ['18', '30', '55'] and now['label'] == ['', 'anger', 'Sadness']


@pytest.mark.parametrize('values, names', [
    ([7, 8, 10], ['7', '8', '10']), ([1001., None, 1002.], ['1001', None, '1002']), ([1.5, 2., None], ['1.5', '2', None]),
    (pd.array([1, None, 3], 'Int64'), ['1', None, '3']), (pd.array(['01', None, '1'], 'string'), ['01', None, '1']),
    (pd.Categorical([3, 1, 3]), ['3', '1', '3']), (pd.Categorical(['NA', None, 'b']), ['NA', None, 'b']), ([True, False, None], ['True', 'False', None]),
    (pd.to_datetime(['2026-11-30', None, '2026-12-01']), ['2026-11-30', None, '2026-12-01']), ([Decimal('1001'), None, Decimal('1.50')], ['1001', None, '1.50']),
    (pd.Series([2**60 + 1, 2**60, None], dtype=object), [str(2**60 + 1), str(2**60), None]), (['', 'NA', pd.NA], [None, 'NA', None]), ([7, '7 ', '07'], ['7', '7 ', '07']),
    (np.array([1, 2, 3], np.int8), ['1', '2', '3']), ([b'a', b'\xc3\xa9', None], ['a', 'é', None])])
def test_names_from_python_and_from_parquet(values, names, tmp_path):
    "Whatever type a name has, one rule makes it text: in a Corpus, in a checked table, and read from Parquet."
    table = pd.DataFrame(dict(clip_id=list('abc'), path='x', subject=values, group=values, other=values))
    show = lambda column: column.astype(object).where(column.notna(), None).tolist()
    for clips in (check_manifest(table), Corpus('mine', tmp_path, table).clips):
        assert show(clips.subject) == show(clips.group) == names
    try: table.to_parquet(tmp_path/'manifest.parquet')
    except Exception: return # what Parquet does not hold
    clips = load_corpus(tmp_path).clips
    assert show(clips.subject) == show(clips.group) == names
    assert label_groups(values).tolist() == [n or '' for n in names]


def test_integer_names_from_python_behave_like_text(tmp_path):
    table = pd.DataFrame(dict(clip_id=range(40), path='x', subject=np.arange(40) % 10, label=np.arange(40) % 3))
    corpus = Corpus('mine', tmp_path, table, pd.DataFrame(dict(clip_id=np.arange(40).repeat(2), frame=[0, 1]*40)))
    assert len(corpus.subset([7, '8', np.int64(9)]).frames) == 6 and corpus.path(7) == tmp_path/'x'
    assert [fold.sum() for fold in folds_by_subject(corpus.clips, [[1, 2.], ['3']])] == [8, 4]
    dealt = replace(corpus, clips=split_by_subject(corpus.clips))
    check_disjoint(dealt.clips)
    sides = json.loads(json.dumps(list_split(dealt)))
    assert sorted(p for side in sides.values() for p in side['subjects']) == [str(i) for i in range(10)]
    assert corpus.labels.encode(corpus.clips.label).tolist() == table.label.tolist()


def test_a_parquet_goes_back_with_its_types(tmp_path):
    table = pd.DataFrame(dict(clip_id=[1, 2], path=['a', 'b'], subject=pd.array([1001, None], 'Int64'), when=pd.to_datetime(['2026-11-30']*2),
                              words=[[['hm', '0.1', '0.4']], None], n=np.array([1, 2], np.int8)))
    table.to_parquet(tmp_path/'manifest.parquet')
    corpus = load_corpus(tmp_path)
    from mmemo.corpora.cells import put_back
    pd.testing.assert_frame_equal(put_back(corpus.clips, corpus.sheet), pd.read_parquet(tmp_path/'manifest.parquet'))
    table.set_index('clip_id').to_parquet(tmp_path/'manifest.parquet') # as an index, as pandas people have it
    assert load_corpus(tmp_path).clips.clip_id.tolist() == ['1', '2']


@pytest.mark.parametrize('line, column, value, wants', [
    ('1,a,soon,,', 'start', 'soon', 'seconds'), ('1,a,"1,5",,', 'start', '1,5', 'seconds'), ('1,a,,inf,', 'end', 'inf', 'seconds'),
    ('1,a,,,fast', 'fps', 'fast', 'frames a second'), ('1,a,0:01,,', 'start', '0:01', 'seconds')])
def test_a_number_that_is_none_is_named_with_its_line(line, column, value, wants, tmp_path):
    (tmp_path/'m.csv').write_text(f'clip_id,path,start,end,fps\n0,"b\nb",,,\n\n{line}\n')
    with pytest.raises(UserError, match=rf"m.csv, line 5: '{column}' is '{value}', expected {wants}"): read_manifest(tmp_path/'m.csv')


def test_labels_01_and_1(tmp_path):
    (tmp_path/'a').write_bytes(b'x')
    (tmp_path/'manifest.csv').write_text('clip_id,path,label\n1,a,1\n2,a,1.0\n3,a,\n')
    corpus = read_corpus('folder', tmp_path)[0]
    assert corpus.labels.encode(corpus.clips.label.where(corpus.clips.label.notna(), None)).tolist() == [1, 1, -1]
    (tmp_path/'manifest.csv').write_text('clip_id,path,label\n1,a,1\n2,a,01\n')
    with pytest.raises(UserError, match="'01' is no class of expression8"): read_corpus('folder', tmp_path)
    (tmp_path/'manifest.csv').write_text('clip_id,path,label\n1,a,Langeweile\n2,a,Frust\n')
    assert read_corpus('folder', tmp_path)[0].labels.classes == ('Frust', 'Langeweile')
    (tmp_path/'corpus.json').write_text('{"space": "expression8"}')
    with pytest.raises(UserError, match="'Langeweile' is no class of expression8; expected one of Neutral, Anger"): read_corpus('folder', tmp_path)


SPELT = {'case': ('Anna', 'anna'), 'blank after': ('Anna', 'Anna '), 'no-break space': ('Anna B', 'Anna\u00a0B'), 'two blanks': ('Anna B', 'Anna  B'),
         'width': ('A1', 'Ａ１'), 'composed': ('Zo\u00eb', 'Zoe\u0308'), 'no width': ('Anna', 'An\u200bna'), 'a mark before it': ('Anna', '\ufeffAnna')}


@pytest.mark.parametrize('way', SPELT)
def test_two_spellings_on_two_sides_are_said(way, tmp_path):
    a, b = SPELT[way]
    table = pd.DataFrame(dict(clip_id=list('abcd'), path='all.npz', subject=[a, b, 'Bo', 'Cy'], split=['train', 'test', 'train', 'test']))
    corpus = Corpus('spelt', tmp_path, check_manifest(table))
    with pytest.warns(UserWarning, match='look like one subject spelt in 2 ways and stand on both sides'): report = guard(corpus, cache=tmp_path, progress=False)
    assert report.spellings and 'spelt in 2 ways' in str(report) and 'spelt in 2 ways' in report.facts['said']
    same = replace(corpus, clips=corpus.clips.assign(split=['train', 'train', 'test', 'test']))
    assert not check_leaks(same, cache=tmp_path, progress=False).spellings


def test_other_names_are_others(tmp_path):
    names = ['01', '1', 'Zoe', 'Zoë', 'NA', 'nan', 'None', 'null', 'True', '3.1', '3.10', 'a-b', 'ab']
    table = pd.DataFrame(dict(clip_id=names, path='all.npz', subject=names, split=['train', 'test']*6 + ['train']))
    report = check_leaks(Corpus('others', tmp_path, check_manifest(table)), cache=tmp_path, progress=False)
    assert not report.spellings and not len(report.leaks) and report.checked['subject'] == len(names)


def test_one_person_called_na_on_two_sides_is_a_leak(tmp_path):
    for name in ('NA', 'nan', 'None', 'null', 'True', '0'):
        (tmp_path/'m.csv').write_text(f'clip_id,path,subject,split\na,a,{name},train\nb,b,{name},test\nc,c,,train\nd,d,,test\n')
        with pytest.raises(UserError, match=rf"1 subject\(s\) stand on both sides of the split: '{name}'"): check_disjoint(read_manifest(tmp_path/'m.csv'))


def test_feature_tables_keep_names(tmp_path):
    (tmp_path/'t.csv').write_text('clip_id,time,label,AU1\n01,0,1,1\n01,1,1,2\n1,0,2,3\nNA,0,2,4\n')
    tracks = tracks_from_table(tmp_path/'t.csv')
    assert {c: t.values.ravel().tolist() for c, t in tracks.items()} == {'01': [1, 2], '1': [3], 'NA': [4]} # and a label is no feature
    pd.DataFrame(dict(clip_id=[7., 7., 8.], time=[0., 1., 0.], x=1.)).to_parquet(tmp_path/'t.parquet')
    assert list(tracks_from_table(tmp_path/'t.parquet')) == ['7', '8']


PEOPLE = dict(zip(['NA', '01', '3.10', 'True', '1', '1e3', 'None', 'null', 'nan', '3.1', 'none', ''], ['train']*4 + ['val']*2 + ['test']*6))


@pytest.fixture(scope='module')
def odd_run(tmp_path_factory):
    "A run on features of people whose names a program could take for numbers or for nobody; one of them has no name."
    from mmemo.features.tracks import FeatureStore, Track, pack_tracks
    from mmemo.features.windows import WindowSettings
    from mmemo.training.loop import TrainConfig
    from mmemo.training.run_config import RunConfig
    from mmemo.training.runs import run_experiment
    place = tmp_path_factory.mktemp('odd')
    rows = [f'{clip}-{who},all.npz,{who},{side},{"Fear" if i % 2 else "3"}' if i else f'{who or "001"},all.npz,{who},{side},Anger'
            for who, side in PEOPLE.items() for i, clip in enumerate(['', '01', '1', '1.0'])]
    (place/'manifest.csv').write_text('\n'.join(['clip_id,path,subject,split,label', *rows]) + '\n')
    corpus, rng = load_corpus(place), np.random.default_rng(0)
    track = lambda: Track(rng.normal(size=(5, 4)).astype(np.float32), np.arange(5)/5 + .1, np.ones(5, bool), dict(encoder='x'))
    packs = {m: pack_tracks({c: track() for c in corpus.clips.clip_id}, list(corpus.clips.clip_id)) for m in ('visual', 'audio')}
    config = RunConfig(model='linear', train=TrainConfig(epochs=1, lambda_text=0., progress=False, device='cpu'), window=WindowSettings(length=5))
    return corpus, run_experiment(config, corpus, FeatureStore(packs, dict(encoders={})), place/'run')


def test_a_run_keeps_names(odd_run):
    from mmemo.pages.report import write_report
    from mmemo.training.runs import load_run
    corpus, run = odd_run
    sides = json.loads((run.folder/'split.json').read_text())
    for side, members in sides.items():
        assert members['subjects'] == sorted(w for w, s in PEOPLE.items() if s == side and w)
        assert members['clips'] == corpus.clips.clip_id[corpus.clips.split == side].tolist()
    pred = load_run(run.folder).predictions
    assert pred.clip_id.tolist() == corpus.clips.clip_id[corpus.clips.split != 'train'].tolist()
    assert pred.subject.fillna('').drop_duplicates().tolist() == [w for w, s in PEOPLE.items() if s != 'train']
    assert run.scores['all']['accuracy']['n_groups'] == 6 # five by name, and those without one
    assert pred.label.value_counts()[['Anger', 'Fear']].tolist() == [8, 24] # '3' is an index of Fear
    page = write_report(run.folder)
    assert '3.1, None, nan, none, null' in page.read_text()


def test_slices_of_odd_names(odd_run):
    from mmemo.explain.errors import compare_clips, count_outcomes, name_slice_values, score_slices, select_slice, sum_groups
    from mmemo.training.evaluation import compare_predictions
    corpus, run = odd_run
    pred = run.predictions[run.predictions.split == 'test'].reset_index(drop=True)
    table = score_slices(pred, corpus, columns='subject', min_clips=1)
    assert sorted(w['subject'] for w in table['where']) == sorted(w or '(empty)' for w, s in PEOPLE.items() if s == 'test') # the unnamed are one
    assert all(len(select_slice(pred, corpus, where)) == 4 for where in table['where'])
    assert name_slice_values(pd.Series(['none', None, 'None'])).tolist() == ['none', '(empty)', 'None']
    assert name_slice_values(pd.Series(['a', None])).tolist() == ['a', 'none']
    assert len(sum_groups(pred, pred.subject == 'nan', 'subject')) == 6
    assert set(count_outcomes(compare_clips(pred, pred)).n_groups) == {6} and compare_predictions(pred, pred)['n_groups'] == 6


def test_labels_by_number_are_counted_as_classes(odd_run):
    from mmemo.pages.corpus import count_labels
    counts = count_labels(odd_run[0])
    assert counts.loc['Anger'].sum() == 12 and counts.loc['Fear'].sum() == 36 and '3' not in counts.index


def test_lists_of_videos_keep_names(tmp_path):
    from mmemo.corpora.mosei_csd import read_folds
    (tmp_path/'folds.csv').write_text('video,split\n007,train\n7,valid\nNA,test\n-1e3,test\n')
    assert read_folds(tmp_path/'folds.csv') == {'007': 'train', '7': 'val', 'NA': 'test', '-1e3': 'test'}


def test_quarantine_keeps_names_of_other_corpora(tmp_path):
    from mmemo.features.extract import write_quarantine
    from types import SimpleNamespace
    for name in ('007', '7', 'NA'):
        corpus = Corpus(name, tmp_path, pd.DataFrame(dict(clip_id=['01', '1'], path=['01.wav', '1.wav'])))
        write_quarantine(tmp_path, corpus, [SimpleNamespace(error=f'{name} is bad', clip_id='01')])
    kept = cells_of(tmp_path/'quarantine.csv')
    assert kept['corpus'] == ['007', '7', 'NA'] and kept['clip_id'] == ['01']*3


def test_words_in_lists_beside_new_words(tmp_path):
    "Parquet holds words as lists; a clip that is transcribed now has them as JSON; both go back, into Parquet and into CSV."
    from mmemo.corpora.manifest import write_clips
    from mmemo.features.words import read_words
    pd.DataFrame(dict(clip_id=['01', '1'], path='x', words=[[['hm', '0.1', '0.4']], None])).to_parquet(tmp_path/'manifest.parquet')
    corpus = add_words(load_corpus(tmp_path), {'1': [('yes', .2, .5)]})
    for name in ('back.parquet', 'back.csv'):
        write_clips(corpus, tmp_path/name)
        now = load_corpus(tmp_path/name).clips.set_index('clip_id').words
        assert [read_words(now[c]).rows for c in ('01', '1')] == [[['hm', .1, .4]], [['yes', .2, .5]]], name
