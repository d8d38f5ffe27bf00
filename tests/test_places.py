"""Where results are written: odd places, other people's files, and what is refused before any work."""
import json, os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmemo.commands.cli import COMMANDS, STOPPED
from mmemo.core import UserError
from mmemo.corpora.manifest import Corpus, load_corpus, read_table, save_corpus
from mmemo.places import KINDS, check_free, name_kind, whole_entries, whole_folder
from typed import type_words


def fill(folder, kind='', **files):
    "A folder with files of one kind, or any files."
    for name in KINDS[kind][0] if kind else (): files[name] = 'of mmemo'
    for name, text in files.items(): (p := Path(folder)/name).parent.mkdir(parents=True, exist_ok=True); p.write_text(text)
    return Path(folder)


def content(folder): return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob('*') if p.is_file()}


@pytest.fixture
def said(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path); monkeypatch.setenv('MMEMO_CACHE', str(tmp_path/'cache'))
    return partial(type_words, capsys)


TRAIN = ('train', '--corpus', 'nowhere') # the place is looked at first of all, so that nothing is encoded for nothing

@pytest.mark.parametrize('argv, found', [
    ((*TRAIN, '--out', 'a-file'), 'a-file: is a file'),
    ((*TRAIN, '--out', 'a-file/run'), 'a-file is a file'),
    ((*TRAIN, '--out', 'config'), 'config.json already, which no run of ours wrote'),
    ((*TRAIN, '--out', 'config', '--overwrite'), 'config.json already, which no run of ours wrote'),
    ((*TRAIN, '--out', 'corpus', '--overwrite'), 'this is a corpus'),
    ((*TRAIN, '--out', 'scores', '--overwrite'), 'which belongs to the table of scores'),
    ((*TRAIN, '--out', 'shelf', '--overwrite'), "there are other folders in it, such as 'mine'"),
    ((*TRAIN, '--out', '.'), 'other things stand in'),
    ((*TRAIN, '--out', '/', '--overwrite'), 'other things stand in'),
    ((*TRAIN, '--out', '~home', '--overwrite'), 'other things stand in'),
    ((*TRAIN, '--out', 'run'), 'nowhere'), # it did not finish, and may be replaced
    ((*TRAIN, '--out', 'shelf/mine/', '--overwrite'), 'nowhere'),
    (('evaluate', 'run', '--out', 'run'), 'which belongs to the run'),
    (('evaluate', 'run', '--out', 'a-file'), 'a-file: is a file'),
    (('predict', 'x.mp4', '--out', 'run'), 'report.html already, which belongs to the run'),
    (('predict', 'x.mp4', '--out', 'demo'), 'report.html already, which belongs to the demo'),
    (('predict', 'x.mp4', '--out', 'a-file/x'), 'a-file is a file'),
    (('compare', '--corpus', 'nowhere', '--out', 'a-file'), 'a-file: is a file'),
    (('compare', '--corpus', 'nowhere', '--out', 'pages'), 'compare.html already, which no comparison of ours wrote'),
    (('demo', '--clips', '48', '--out', 'a-file'), 'a-file: is a file'),
    (('demo', '--clips', '48', '--out', 'shelf2'), 'bicross already, which no demo of ours wrote'),
    (('demo', '--clips', '47'), 'expected 48 to'),
    (('corpus', 'folder', 'nowhere', '--out', 'pages'), 'page.html already, which no corpus of ours wrote'),
    (('corpus', 'folder', 'nowhere', '--out', 'a-file'), 'a-file: is a file'),
    (('transcribe', 'ravdess:/data', '--model', 'x'), 'has no table yet; name a folder')])
def test_what_stands_there_is_kept(argv, found, said, tmp_path, monkeypatch):
    fill(tmp_path, **{'a-file': 'mine', 'config/config.json': 'of another program', 'run/report.html': 'r', 'demo/report.html': 'd', 'pages/compare.html': 'c', 'pages/page.html': 'p',
                      'shelf/mine/notes.txt': 'n', 'shelf2/bicross/thesis.tex': 't', 'scores/metrics.json': '{}'})
    for kind, folder in (('run', 'run'), ('demo', 'demo'), ('corpus', 'corpus'), ('table of scores', 'scores')): fill(tmp_path/folder, kind)
    monkeypatch.setenv('HOME', str(fill(tmp_path/'~home', **{'letter.txt': 'l'})))
    before = content(tmp_path)
    status, _, err = said(*argv)
    assert status == 2 and found in err and err.startswith('mmemo: ') and err.count('\n') == 1, err
    assert content(tmp_path) == before


@pytest.mark.parametrize('name', ['plain', 'with blanks', 'Gefühle und Töne', 'v1.2', '[0-9]*', 'ends/', '-x', 'a'*200])
def test_names_of_folders(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ('old', 'new'):
        with whole_folder(name) as half:
            (half/'x').write_text(text)
            assert half.name == Path(name).name
        with whole_entries(name, ['y']) as half: (half/'y').write_text(text)
    assert content(tmp_path/name) == dict(x=b'new', y=b'new') and os.listdir(tmp_path) == [Path(name).name]


def test_a_link_stays_a_link(tmp_path):
    disk, link = tmp_path/'disk'/'run', tmp_path/'runs'/'mine'
    disk.mkdir(parents=True); link.parent.mkdir(); link.symlink_to(disk)
    (disk/'notes.txt').write_text('n')
    with whole_folder(link) as half: (half/'x').write_text('1')
    assert link.is_symlink() and content(disk) == {'notes.txt': b'n', 'x': b'1'} and not (tmp_path/'runs'/'.half').exists()
    (tmp_path/'a.csv').write_text('old'); (tmp_path/'b.csv').symlink_to('a.csv')
    from mmemo.core import atomic_path
    with atomic_path(tmp_path/'b.csv') as tmp: tmp.write_text('new')
    assert (tmp_path/'b.csv').is_symlink() and (tmp_path/'a.csv').read_text() == 'new'


def test_what_others_put_into_a_run_stays(tmp_path):
    fill(tmp_path/'run', 'run', **{'report.html': 'old', 'on-other/metrics.json': '{}', 'notes.txt': 'mine'})
    with whole_folder(tmp_path/'run', ('report.html', *KINDS['run'][0])) as half: (half/'config.json').write_text('new')
    assert content(tmp_path/'run') == {'config.json': b'new', 'on-other/metrics.json': b'{}', 'notes.txt': b'mine'} # no report of the old one


def test_without_an_exchange_of_folders(tmp_path, monkeypatch):
    "As on a system whose folders change places in two steps: the same, and what was killed between them is put back."
    import mmemo.places as places
    monkeypatch.setattr(places, 'exchange_folders', lambda a, b: False)
    for text in ('old', 'new'):
        with whole_folder(tmp_path/'run') as half: (half/'x').write_text(text)
    assert content(tmp_path) == {'run/x': b'new'}
    real = Path.rename
    def killed(self, target):
        if Path(target) == tmp_path/'run': os._exit(9)
        return real(self, target)
    child = os.fork()
    if not child:
        Path.rename = killed
        with whole_folder(tmp_path/'run') as half: (half/'x').write_text('half')
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9 and not (tmp_path/'run').exists()
    with whole_folder(tmp_path/'other') as half: (half/'y').write_text('1')
    assert content(tmp_path) == {'run/x': b'new', 'other/y': b'1'}


@pytest.mark.parametrize('out, found', [('x'*300, 'File name too long'), ('y'*250, 'File name too long'), ('d/'*2100, 'File name too long'),
                                        ('file', 'is a file'), ('file/below', 'is a file'), ('a\0b', 'null byte'), ('', "found ''"), ('locked/run', 'may not be written to')])
def test_a_bad_place_is_a_sentence_from_python_too(out, found, tmp_path, monkeypatch):
    "Before any work; `y` leaves no room for the lock and the half beside it."
    import mmemo
    from mmemo.models.registry import save_pretrained
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, file='x')
    (tmp_path/'locked').mkdir()
    may, locked = os.access, tmp_path/'locked'
    monkeypatch.setattr(os, 'access', lambda path, mode: Path(path) != locked and may(path, mode))
    corpus, net = Corpus('x', tmp_path, pd.DataFrame(dict(clip_id=['a']))), mmemo.build('linear')
    doors = [lambda: mmemo.train('nowhere', out=out), lambda: mmemo.compare('linear', corpus, {}, out), lambda: mmemo.predict('film.mp4', out=out),
             lambda: mmemo.predict(['film.mp4'], out=out), lambda: mmemo.run_demo(out), lambda: mmemo.make_planted(out), lambda: save_corpus(corpus, out),
             lambda: save_pretrained(net, out)]
    for door in doors:
        with pytest.raises(UserError, match=found): door()
    assert set(os.listdir(tmp_path)) == {'file', 'locked'}


@pytest.mark.parametrize('place', ['x'*300, 'd/'*2100, 'file/below', 'a\0b'])
def test_a_name_that_nothing_can_have_is_not_there(place, tmp_path, monkeypatch):
    import mmemo
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, file='x')
    for door in (mmemo.load_run, mmemo.open_corpus, mmemo.load_corpus, mmemo.write_report, lambda p: mmemo.predict(p, out='out'),
                 lambda p: mmemo.read_corpus('folder', p)):
        with pytest.raises(UserError, match='there is no such'): door(place)


def test_a_disk_of_its_own_is_written_within(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, 'ismount', lambda p: Path(p) == tmp_path/'out')
    (tmp_path/'out'/'lost+found').mkdir(parents=True)
    for text in ('old', 'new'):
        with whole_folder(tmp_path/'out', ['stale']) as half:
            assert half.parents[2] == tmp_path/'out'
            fill(half, x=text, **({'stale': 's'} if text == 'old' else {}))
    assert content(tmp_path) == {'out/x': b'new'} and not (tmp_path/'out'/'.half').exists()


def test_a_table_is_not_written_beside_the_one_that_is_read(tmp_path):
    clips = pd.DataFrame(dict(clip_id=['a', 'b'], path=['a.mp4', 'b.mp4']))
    clips.to_parquet(tmp_path/'manifest.parquet')
    save_corpus(Corpus('x', tmp_path, clips.assign(label='Fear')), tmp_path)
    assert not (tmp_path/'manifest.csv').exists() and set(load_corpus(tmp_path).clips.label) == {'Fear'}


def test_every_command_says_what_is_there_after_a_stop(said, monkeypatch):
    assert set(STOPPED) == set(COMMANDS)
    def stop(): raise KeyboardInterrupt
    for name in COMMANDS:
        monkeypatch.setitem(COMMANDS, name, type(COMMANDS[name])(name, 'x', (), stop))
        status, _, err = said(name)
        assert status == 130 and err == f'mmemo: stopped. {STOPPED[name]}\n'
