"""A study of somebody's own: classes that nobody here has thought of, from the table to the page, in processes that know nothing of each other."""
import json

import pandas as pd
import pytest

from mmemo.core import UserError, read_json
from mmemo.corpora.manifest import load_corpus
from mmemo.corpora.readers import read_corpus
from mmemo.labels import read_space
from mmemo.training.runs import load_run
from small_run import call_mmemo, small_run

GERMAN = {'Neutral': 'Langeweile', 'Anger': 'Frust', 'Happiness': 'Interesse', 'Sadness': 'Müdigkeit', 'Fear': 'Stress', 'Surprise': 'Staunen',
          'Disgust': 'Überdruss', 'Other': 'Zweifel'}


def write_study(folder, about=None):
    "The clips of the small corpus under German names, in a table of their own."
    corpus = load_corpus(small_run()/'corpus')
    clips = corpus.clips[['clip_id', 'path', 'subject', 'split', 'label']]
    folder.mkdir(parents=True)
    clips.assign(path=[str(corpus.path(row)) for _, row in clips.iterrows()], label=clips.label.map(GERMAN)).to_csv(folder/'manifest.csv', index=False)
    if about: (folder/'corpus.json').write_text(json.dumps(about), encoding='utf8')
    return folder


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    place = tmp_path_factory.mktemp('study')
    folder = write_study(place/'clips')
    code, said = call_mmemo('train', '--corpus', folder, '--out', place/'run', '--train.epochs', 2, '--train.lambda-text', 0, '--train.no-progress')
    assert code == 0, said
    return place


def test_a_run_of_own_classes_opens_in_another_process(study):
    about, table = read_json(study/'run'/'config.json'), pd.read_csv(study/'clips'/'manifest.csv')
    assert about['classes'] == about['space']['classes'] == sorted(table.label.dropna().unique(), key=str.casefold)
    code, said = call_mmemo('evaluate', study/'run')
    assert code == 0 and 'macro-F1' in said, said
    clip = load_corpus(study/'clips').clips.path.iloc[0]
    code, said = call_mmemo('predict', clip, '--run', study/'run', '--out', study/'page')
    assert code == 0, said
    table = pd.read_csv(study/'page'/'frames.csv')
    assert set(about['classes']) <= set(table) and 'Anger' not in table
    page = (study/'page'/'report.html').read_text(encoding='utf8')
    assert 'Langeweile' in page and 'Neutral' not in page


def test_the_classes_of_a_table_are_those_that_stand_there(tmp_path):
    folder = write_study(tmp_path/'clips')
    table = pd.read_csv(folder/'manifest.csv')
    table[table.label.isin(['Frust', 'Interesse'])].to_csv(folder/'manifest.csv', index=False)
    assert load_corpus(folder).labels.classes == ('Frust', 'Interesse')
    table.replace({'label': {'Frust': 'angry', 'Interesse': 'joy'}}).query("label in ['angry', 'joy']").to_csv(folder/'manifest.csv', index=False)
    corpus = load_corpus(folder)
    assert corpus.labels.classes == ('Anger', 'Happiness') and set(corpus.clips.label) == {'Anger', 'Happiness'} # two, not eight


def test_a_slip_of_the_pen_is_asked_about(tmp_path):
    folder = write_study(tmp_path/'clips')
    one = pd.read_csv(folder/'manifest.csv').iloc[[0]*12]
    table = one.assign(clip_id=range(12), label=['Frust']*10 + ['Langeweile', 'Frsut'])
    table.to_csv(folder/'manifest.csv', index=False)
    with pytest.raises(UserError, match=r"manifest.csv, line \d+: label 'Frsut' looks like 'Frust'"): load_corpus(folder)


def test_a_space_stands_with_the_corpus(tmp_path):
    space = dict(name='study', classes=list(GERMAN.values()), prompts={'Frust': ['a frustrated face']}, synonyms={'Frust': ['Ärger']}, colours={'Frust': '#112233'})
    folder = write_study(tmp_path/'clips', dict(name='study', space=space))
    corpus = load_corpus(folder)
    assert corpus.labels.classes == tuple(GERMAN.values()) and corpus.labels.index('ärger') == 1 and corpus.labels.colours['Frust'] == '#112233'
    (folder/'corpus.json').write_text(json.dumps(dict(space=space | dict(classes=['Frust']))), encoding='utf8')
    with pytest.raises(UserError, match="corpus.json.*'classes' is \\['Frust'\\]; expected a list of 2 or more"): load_corpus(folder)


def test_a_run_refuses_a_label_that_it_never_heard_of(study, tmp_path):
    run, folder = load_run(study/'run'), write_study(tmp_path/'clips')
    assert run.labels == load_corpus(folder).labels
    (folder/'manifest.csv').write_text((folder/'manifest.csv').read_text(encoding='utf8').replace('Frust', 'Jubel'), encoding='utf8')
    code, said = call_mmemo('evaluate', study/'run', '--corpus', folder)
    assert code == 2 and "label 'Jubel' is no class of own; expected one of Frust" in said and 'Traceback' not in said, said


def test_features_of_own_classes(tmp_path):
    pd.DataFrame(dict(clip_id=[*'abcdef'], subject=[*'aabbcc'], label=['Langeweile', 'Frust', 'joy']*2, AU1=range(6))).to_csv(tmp_path/'f.csv', index=False)
    corpus, _ = read_corpus('features', tmp_path/'f.csv')
    assert corpus.labels.classes == ('Happiness', 'Frust', 'Langeweile') and read_space('Frust, Langeweile').n == 2


def test_from_a_spreadsheet_to_a_run(tmp_path):
    "Semicolons, an old encoding, German titles; the classes travel from the table into the run, and words of one's own guide it."
    corpus = load_corpus(small_run()/'corpus')
    rows = corpus.clips.rename(columns=dict(path='Dateiname', subject='VP')).assign(Gefühl=corpus.clips.label.map(GERMAN), Datensatz=corpus.clips.split)
    (tmp_path/'daten.csv').write_text(rows[['Dateiname', 'VP', 'Gefühl', 'Datensatz']].to_csv(sep=';', index=False), encoding='cp1252')
    words = dict(Langeweile='a neutral face', Frust='an angry face', Interesse='a happy face', Müdigkeit='a sad face', Stress='a fearful face', Staunen='a surprised face',
                 Überdruss='a disgusted face', Zweifel='a face with a mixed expression')
    there = set(rows.Gefühl.dropna())
    told = ('manifest', 'import', tmp_path/'daten.csv', '--root', corpus.root, '--columns', 'split=Datensatz', '--out', tmp_path/'studie')
    code, said = call_mmemo(*told)
    assert code == 0 and 'Dateiname: read as path' in said and 'Gefühl: read as label' in said and "the text guide has" in said, said
    code, said = call_mmemo('train', '--corpus', tmp_path/'studie', '--out', tmp_path/'run', '--train.epochs', 2)
    assert code == 2 and 'the text encoder does not tell' in said and '--train.lambda-text 0' in said, said
    code, said = call_mmemo(*told, '--overwrite', '--prompts', *(f'{c}={s}' for c, s in words.items() if c in there))
    assert code == 0 and "the text guide has" not in said, said
    code, said = call_mmemo('train', '--corpus', tmp_path/'studie', '--out', tmp_path/'run', '--train.epochs', 2, '--train.no-progress')
    assert code == 0, said
    run = load_run(tmp_path/'run')
    assert set(run.classes) == there and run.about['prompts']['Frust'] == ['an angry face'] and run.labels == load_corpus(tmp_path/'studie').labels


def test_a_spreadsheet_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path/'films').mkdir()
    for name, text, sentence in (('empty.csv', 'file;label\n', 'found no row'), ('odd.csv', 'x;y\n1;2\n', 'say which'), ('gone.csv', 'file;label\na;b\n', 'none of its 1 files is below')):
        (tmp_path/name).write_text(text)
        code, said = call_mmemo('manifest', 'import', tmp_path/name, '--root', tmp_path/'films', '--out', tmp_path/'out')
        assert code == 2 and sentence in said and 'Traceback' not in said and not (tmp_path/'out').exists(), said
