"""A run's clips stand on the side on which they were in training, whatever their table says: in every panel, by command and from Python."""
import importlib, json, shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mmemo
from mmemo.commands.cli import main
from mmemo.corpora.manifest import load_corpus
from mmemo.corpora.readers import open_corpus
from mmemo.panels.parts import NoPanel
from mmemo.planted.corpus import PlantedConfig, make_planted
from mmemo.training.loop import TrainConfig
from mmemo.training.runs import load_run
from twins import write_twin

SMALL = PlantedConfig(seed=160, both=.35, audio=.2, video=.2, coincidence=0., train_subjects=3, val_subjects=2, test_subjects=2, train_clips=32, val_clips=16, test_clips=16,
                      seconds=1., fps=10, size=64, nuisance=.3)
QUICK = ('--encoders', 'tiny+logmel', '--train.epochs', '1', '--train.device', 'cpu', '--train.no-progress')
TABLES = ['no split', 'dealt anew', 'crema-d', *(pytest.param(name, marks=pytest.mark.slow) for name in ('empty split', 'all filled', 'ravdess'))]
PANELS = ('clip', 'attribution', 'embedding', 'errors', 'what_if', 'truth', 'train', 'video')


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    "A few planted clips (synthetic), rendered once."
    return make_planted(tmp_path_factory.mktemp('films'), SMALL, workers=1, progress=False)


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMEMO_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield


def lay_out(films, kind:str, place:Path) -> str: # what --corpus is given
    "A person's table of these clips."
    if kind in ('ravdess', 'crema-d'):
        write_twin(films, kind, place, defects=())
        return f'{kind}:{place}'
    place.mkdir()
    (place/'clips').symlink_to(Path(films.root)/'clips')
    table = films.clips[['clip_id', 'path', 'subject', 'label', 'group', 'split']]
    if kind == 'no split': table = table.drop(columns='split')
    if kind == 'empty split': table = table.assign(split=None)
    table.to_csv(place/'manifest.csv', index=False)
    return str(place)


def deal_anew(place):
    "The other way round: who was learnt from is test now."
    table = pd.read_csv(Path(place)/'manifest.csv')
    table['split'] = table.split.map(dict(train='test', val='train', test='val'))
    table.to_csv(Path(place)/'manifest.csv', index=False)


def open_panel(name:str, run, **state):
    if name == 'truth': state = dict(clips=1) | state # what it measures takes a while
    return getattr(importlib.import_module(f'mmemo.panels.{name}'), f'{name}_panel')(run, **state)


def list_offered(panel) -> set: # clip ids
    "The clips that a panel lets one choose from."
    source = panel.controller.source
    source = getattr(source, 'source', None) or getattr(source, 'clips', None) or source
    return set(source.offered.clip_id)


@pytest.fixture(scope='module', params=TABLES)
def trained(request, films, cache, tmp_path_factory):
    "The same table by command and from Python; one of them is dealt anew afterwards."
    home = tmp_path_factory.mktemp('mine')
    place = lay_out(films, request.param, home/'table')
    assert main(['train', '--corpus', place, '--out', str(home/'command'), *QUICK]) == 0
    train = TrainConfig(device='cpu', progress=False)
    mmemo.train(open_corpus(place), model='linear', encoders='tiny+logmel', out=home/'python', train=train)
    if request.param == 'dealt anew': deal_anew(place)
    return request.param, home, place


def read_test_clips(run) -> set:
    return set(json.loads((Path(run)/'split.json').read_text())['test']['clips'])


def test_python_deals_as_the_command_does(trained):
    kind, home, place = trained
    by_command, from_python = (json.loads((home/n/'split.json').read_text()) for n in ('command', 'python'))
    assert by_command == from_python and set(by_command) == {'train', 'val', 'test'}
    people = [set(part['subjects']) for part in by_command.values()]
    assert sum(map(len, people)) == len(set.union(*people)), 'nobody is on two sides'


def test_panels_show_the_test_clips_of_the_run(trained, tmp_path):
    kind, home, place = trained
    dealt, is_anew = read_test_clips(home/'command'), kind == 'dealt anew'
    for name in PANELS:
        panel = open_panel(name, home/'command', **(dict(out=str(tmp_path)) if name == 'train' else {}))
        assert not isinstance(panel, NoPanel), f'{name}: {panel.sentence}'
        if name == 'video':
            assert panel.prediction is None or panel.prediction.file.stem in dealt
            continue
        if name == 'train': assert set(panel.session.corpus.clips.query('split == "test"').clip_id) == dealt
        else: assert list_offered(panel) == dealt, name
        if name == 'truth': panel.controller.job.wait()
        assert ('have another side there' in panel.note) == is_anew == bool(panel.note), name
        if is_anew: assert 'have another side there' in panel.to_html(), name
    assert list_offered(open_panel('clip', home/'python')) == dealt, 'the same by Python'


# what a person does with table and run afterwards

@pytest.fixture(scope='module')
def own(films, cache, tmp_path_factory):
    "A table without a split, with names of people as people have them, and a run on it."
    home = tmp_path_factory.mktemp('own')
    place = lay_out(films, 'no split', home/'table')
    table = pd.read_csv(home/'table'/'manifest.csv')
    names = ['李娜', 'Zoë Müller', 'O’Brien, Ann', 'NA\u00efve', 'Ольга', '  x y ', '"q"']
    table['subject'] = table.subject.map(dict(zip(table.subject.unique(), names)))
    table.to_csv(home/'table'/'manifest.csv', index=False)
    assert main(['train', '--corpus', place, '--out', str(home/'run'), *QUICK]) == 0
    return home


@pytest.fixture
def mine(own, tmp_path):
    "A copy that a test may change; both were moved together, so the run finds its table beside it."
    shutil.copytree(own, tmp_path/'mine', symlinks=True)
    home = tmp_path/'mine'
    (home/'table').rename(home/'corpus')
    about = json.loads((home/'run'/'config.json').read_text())
    about['run']['corpus'] = str(tmp_path/'away')
    (home/'run'/'config.json').write_text(json.dumps(about))
    return home


def change_table(home, change):
    path = home/'corpus'/'manifest.csv'
    change(pd.read_csv(path)).to_csv(path, index=False)


def pick_clips(home, split:str) -> list:
    return json.loads((home/'run'/'split.json').read_text())[split]['clips']


def copy_film(home, clip:str, film:Path):
    "Another file in a clip's place; the films of the others stay."
    clips = home/'corpus'/'clips'
    if clips.is_symlink():
        films = clips.resolve()
        clips.unlink()
        clips.mkdir()
        for f in films.iterdir(): (clips/f.name).symlink_to(f)
    target = clips/f'{clip}.mp4'
    target.unlink()
    shutil.copyfile(film, target)


def test_a_run_is_found_with_its_table_beside_it(mine):
    panel = open_panel('clip', mine/'run')
    assert list_offered(panel) == set(pick_clips(mine, 'test')) and not panel.note


def test_what_has_changed_is_said(mine):
    test, train = pick_clips(mine, 'test'), pick_clips(mine, 'train')
    def change(t):
        t = t[t.clip_id != test[0]]
        t.loc[t.clip_id == test[1], 'label'] = 'Fear' if t.label[t.clip_id == test[1]].iloc[0] != 'Fear' else 'Anger'
        new = t.iloc[:1].assign(clip_id='new', path=t.path.iloc[1], split='test')
        return pd.concat([t, new])
    change_table(mine, change)
    copy_film(mine, test[2], mine/'corpus'/'clips'/f'{train[0]}.mp4')
    panel = open_panel('clip', mine/'run')
    assert list_offered(panel) == set(test[1:]) - {test[2]}, 'a film that was learnt is no test'
    for part in ('1 clip is gone', '1 clip is new', '1 clip has another label', '1 clip is another film', 'is a film of the training now and is left out'):
        assert part in panel.note and part in panel.to_html()


def test_a_learnt_film_is_not_scored(mine, cache, capsys):
    "By command and from Python; with all clips asked for it is said how many were learnt."
    test, train = pick_clips(mine, 'test'), pick_clips(mine, 'train')
    def change(t):
        t.loc[t.clip_id == test[0], 'path'] = t.path[t.clip_id == train[0]].iloc[0]
        return t
    change_table(mine, change)
    scores = mmemo.evaluate(mine/'run')
    assert scores['all']['n_clips'] == len(test) - 1
    assert 'of the test is a film of the training now and is left out' in capsys.readouterr().out
    assert main(['evaluate', str(mine/'run'), '--split', 'all']) == 0
    n = len(load_run(mine/'run').sides)
    assert f'{n - len(test)} of the {n} clips scored here were in this run' in capsys.readouterr().out


def test_no_test_clip_is_left(mine):
    test = pick_clips(mine, 'test')
    change_table(mine, lambda t: t[~t.clip_id.isin(test)])
    for name in ('clip', 'errors', 'what_if'):
        assert f'none of the {len(test)} test clips of this run' in open_panel(name, mine/'run').sentence


def test_a_film_that_cannot_be_read_any_more(mine):
    test = pick_clips(mine, 'test')
    (mine/'broken.mp4').write_bytes(b'no film')
    copy_film(mine, test[0], mine/'broken.mp4')
    panel = open_panel('clip', mine/'run')
    assert list_offered(panel) == set(test[1:]) and 'One clip is not shown' in panel.note


def test_a_side_that_the_run_does_not_have(own):
    for name in ('clip', 'attribution', 'embedding', 'errors', 'what_if', 'truth'):
        assert "no split 'dev' in this run; expected one of train, val, test" in open_panel(name, own/'run', split='dev').sentence


def test_training_clips_are_shown_where_they_are_asked_for(own):
    assert list_offered(open_panel('clip', own/'run', split='train')) == set(pick_clips(own, 'train'))


def test_a_loaded_run_opens_a_panel(own):
    run = load_run(own/'run')
    for name in ('clip', 'errors', 'embedding'):
        assert list_offered(open_panel(name, run)) == set(pick_clips(own, 'test'))


def test_a_misspelt_state_is_told(own):
    assert "no 'colur' to set here" in open_panel('clip', own/'run', colur=1).sentence
    assert "Did you mean 'outcome'?" in open_panel('clip', own/'run', outcom='right').sentence
    assert 'expected one of all, right, wrong' in open_panel('clip', own/'run', outcome='maybe').sentence
    panel = open_panel('embedding', own/'run')
    with pytest.raises(mmemo.core.UserError, match="split is 'nosuch', and there is no such choice"): panel.state.split = 'nosuch'
    assert panel.state.split == panel.view.split.value == 'test'
    errors = open_panel('errors', own/'run', clip_id='nosuch').sentence
    assert ', '.join(c for c in load_run(own/'run').predictions.query('split == "test"').clip_id) in errors, 'in the order of the table'


def test_a_damaged_split_is_one_sentence(mine):
    (mine/'run'/'split.json').write_text('["train"]')
    assert 'the file is damaged' in open_panel('clip', mine/'run').sentence
    assert main(['evaluate', str(mine/'run')]) == 2


def test_evaluate_takes_the_clips_of_training(own, mine, capsys):
    want = json.loads((own/'run'/'metrics.json').read_text())['test']['all']['macro_f1']
    change_table(mine, lambda t: t.assign(split=np.where(t.clip_id.isin(pick_clips(mine, 'train')), 'test', 'train')))
    read = lambda name: json.loads((mine/name/'metrics.json').read_text())['all']['macro_f1']
    assert main(['evaluate', str(mine/'run'), '--out', str(mine/'a')]) == 0
    assert 'have another side there' in capsys.readouterr().out
    assert main(['evaluate', str(own/'run'), '--corpus', str(mine/'corpus'), '--out', str(mine/'b')]) == 0 # another place, the same films
    assert "in this run's training or validation" in capsys.readouterr().out
    assert read('a') == read('b') == want


def test_predict_knows_a_film_of_its_training(own, tmp_path, capsys):
    for split, said in (('train', True), ('test', False)):
        film = own/'table'/'clips'/f"{pick_clips(own, split)[0]}.mp4"
        assert main(['predict', str(film), '--run', str(own/'run'), '--out', str(tmp_path/split)]) == 0
        assert ('knows this very file' in capsys.readouterr().out) == said


# tables as people have them

def train_on(table:pd.DataFrame, films, home, *more) -> int:
    (home/'table').mkdir()
    (home/'table'/'clips').symlink_to(Path(films.root)/'clips')
    table.to_csv(home/'table'/'manifest.csv', index=False)
    return main(['train', '--corpus', str(home/'table'), '--out', str(home/'run'), *QUICK, *more])


def test_a_split_that_is_partly_filled(films, cache, tmp_path, capsys):
    table = films.clips[['clip_id', 'path', 'subject', 'label', 'split']].copy()
    left_out = [*table.clip_id[table.split == 'test'][:5]]
    table.loc[table.clip_id.isin(left_out), 'split'] = None
    assert train_on(table, films, tmp_path) == 0
    assert f'5 of {len(table)} clips have no split in the table' in capsys.readouterr().out
    panel = open_panel('clip', tmp_path/'run')
    assert list_offered(panel) == set(table.clip_id[table.split == 'test']) and not panel.note


def test_dealt_by_chance_is_remembered(films, cache, tmp_path):
    "The table has a split by subject; the run was told to deal by chance."
    table = films.clips[['clip_id', 'path', 'subject', 'label', 'split']]
    assert train_on(table, films, tmp_path, '--split', 'random') == 0
    panel = open_panel('clip', tmp_path/'run')
    assert list_offered(panel) == read_test_clips(tmp_path/'run') != set(table.clip_id[table.split == 'test'])
    assert 'have another side there' in panel.note
    assert 'No subject is on two sides' not in (tmp_path/'run'/'report.html').read_text()


def test_only_train_and_test(films, cache, tmp_path):
    table = films.clips[films.clips.split != 'val'][['clip_id', 'path', 'subject', 'label', 'split']]
    assert train_on(table, films, tmp_path) == 0
    for name in ('clip', 'embedding', 'errors', 'what_if'):
        assert list_offered(open_panel(name, tmp_path/'run')) == set(table.clip_id[table.split == 'test'])
    assert "no clips of split 'val'" in open_panel('train', tmp_path/'run', out=str(tmp_path/'live')).sentence


@pytest.mark.parametrize('word', ['Train', ' train', 'training', 'dev', 'validation', 'valid', '0', 'TEST'])
def test_sides_in_other_words(films, word, tmp_path, capsys):
    "Named with its line, and with the word that is meant; nothing is trained on a guess."
    table = films.clips[['clip_id', 'path', 'subject', 'label', 'split']].copy()
    table.loc[3, 'split'] = word
    assert train_on(table, films, tmp_path) == 2
    said = capsys.readouterr().err
    meant = dict(dev='val', validation='val', valid='val', TEST='test').get(word, 'train')
    assert 'line 5' in said and f"split '{word}'" in said and 'train, val, test' in said
    assert word == '0' or f"'{meant}'" in said.split('expected')[1]


def test_python_lines_on_a_corpus_in_memory(films, cache, tmp_path):
    "No table on disk, no split: dealt, trained, and the panel says where it looks for the table."
    from mmemo.training.compare import compare
    from mmemo.training.run_config import RunConfig
    from mmemo.training.runs import run_experiment
    corpus = load_corpus(films.root)
    corpus.place, corpus.root = '', Path(films.root)/'clips'
    corpus.clips = corpus.clips.drop(columns='split').assign(path=[Path(p).name for p in corpus.clips.path])
    store = mmemo.extract(corpus, 'tiny', 'logmel', progress=False)
    train = TrainConfig(epochs=1, device='cpu', progress=False)
    run = run_experiment(RunConfig(train=train, model='linear', encoders='tiny+logmel'), corpus, store, tmp_path/'one')
    assert set(run.sides.split) == {'train', 'val', 'test'}
    result = compare(corpus, store, ['linear'], tmp_path/'two', RunConfig(train=train), seeds=1, workers=1, progress=False)
    assert load_run(tmp_path/'two'/'linear-0').sides.split.to_dict() == run.sides.split.to_dict() and result['trained'] == 1
    assert 'is not there' in open_panel('clip', run).sentence
    corpus.root = corpus.root.resolve()
    mmemo.corpora.manifest.save_corpus(corpus, tmp_path/'corpus')
    assert list_offered(open_panel('clip', run)) == read_test_clips(tmp_path/'one')


@pytest.mark.slow
@pytest.mark.parametrize('how', [('--window.task', 'va'), ('--window.task', 'valence'), ('--window.level', 'frame'), ('--window.task', 'va', '--window.level', 'frame')])
def test_other_labels_than_a_class_a_clip(films, cache, how, tmp_path):
    "Values, and labels of frames: each panel opens on the run's test clips, or says what it needs."
    assert main(['train', '--corpus', str(films.root), '--out', str(tmp_path/'run'), *QUICK, *how]) == 0
    for name in ('clip', 'attribution', 'embedding', 'errors', 'what_if', 'truth', 'train'):
        panel = open_panel(name, tmp_path/'run', **(dict(out=str(tmp_path/'live')) if name == 'train' else {}))
        if isinstance(panel, NoPanel): assert 'none of the clips asked for has features' not in panel.sentence, name
        elif name != 'train': assert list_offered(panel) == read_test_clips(tmp_path/'run')
        if name == 'truth' and not isinstance(panel, NoPanel): panel.controller.job.wait()
    listed = open_panel('clip', tmp_path/'run').source.clip_list()
    if 'va' in how: assert listed.right.isna().all() and listed.predicted.str.startswith('valence ').all()
