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

SMALL = PlantedConfig(seed=160, train_subjects=3, val_subjects=2, test_subjects=2, train_clips=24, val_clips=16, test_clips=16,
                      seconds=1.2, fps=10, size=64, nuisance=.3)
QUICK = ('--train.epochs', '1', '--train.device', 'cpu', '--train.no-progress')
TABLES = ('no split', 'empty split', 'all filled', 'dealt anew', 'ravdess', 'crema-d')
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
    mmemo.train(open_corpus(place), out=home/'python', train=TrainConfig(epochs=1, device='cpu', progress=False))
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


@pytest.mark.parametrize('name', PANELS)
def test_panels_show_the_test_clips_of_the_run(trained, name, tmp_path):
    kind, home, place = trained
    dealt = read_test_clips(home/'command')
    panel = open_panel(name, home/'command', **(dict(out=str(tmp_path)) if name == 'train' else {}))
    assert not isinstance(panel, NoPanel), panel.sentence
    if name == 'video': assert panel.prediction is None or panel.prediction.file.stem in dealt
    elif name == 'train': assert set(panel.session.corpus.clips.query('split == "test"').clip_id) == dealt
    else: assert list_offered(panel) == dealt
    if name != 'video': assert bool(panel.note) == (kind == 'dealt anew')
    if kind == 'dealt anew' and name != 'video': assert 'have another side there' in panel.to_html()
