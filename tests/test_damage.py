"""What a disk, a download or a full machine does to our files is mended or named: OSErrors in every command, odd JSON, damaged runs, and a small part of `benchmarks/damage.py`."""
import errno, json, os, shutil, subprocess, sys, warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import damage
from mmemo.commands.cli import COMMANDS, Command
from mmemo.core import DamagedFile, DamageWarning, UserError, atomic_path, read_json, read_kept, seal, write_json
from mmemo.features.tracks import Track, build_pack, load_pack, load_track, open_arrays, save_track
from typed import type_words

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def said(capsys): return partial(type_words, capsys)


def is_sentence(err): return err.startswith('mmemo: ') and err.count('\n') == 1 and 'Traceback' not in err


# --- what the machine cannot do

@pytest.mark.parametrize('code', ['ENOSPC', 'EROFS', 'EACCES', 'EMFILE', 'ENAMETOOLONG', 'ENOTDIR', 'EISDIR', 'EIO', 'EDQUOT'])
def test_what_the_machine_says_is_a_sentence(code, said, monkeypatch):
    number = getattr(errno, code)
    def build(): raise OSError(number, os.strerror(number), 'runs/x/card.md')
    monkeypatch.setitem(COMMANDS, 'doctor', Command('doctor', 'x', (), build))
    status, out, err = said('doctor')
    assert status == 2 and is_sentence(err) and os.strerror(number) in err and 'runs/x/card.md' in err


@pytest.mark.parametrize('error', [MemoryError('Unable to allocate 8.0 TiB'), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")])
def test_too_little_memory_is_a_sentence(error, said, monkeypatch):
    def build(): raise error
    monkeypatch.setitem(COMMANDS, 'doctor', Command('doctor', 'x', (), build))
    status, out, err = said('doctor')
    assert status == 2 and is_sentence(err) and 'not enough memory' in err


def corpus_of_two(folder):
    from mmemo.media.files import write_clip
    folder.mkdir()
    for k in 'ab': write_clip(folder/f'{k}.mp4', np.zeros((4, 64, 64, 3), np.uint8) + 60*(k == 'a'), 25, np.sin(np.arange(2560)*.1*(1 + (k == 'a'))))
    (folder/'manifest.csv').write_text('clip_id,path,label\na,a.mp4,Anger\nb,b.mp4,Fear\n')
    return folder


def test_a_file_where_a_folder_should_be(said, tmp_path):
    corpus = corpus_of_two(tmp_path/'c')
    (tmp_path/'file').write_text('x')
    for argv in (['corpus', 'folder', corpus, '--out', tmp_path/'file'], ['extract', corpus, '--cache', tmp_path/'file'],
                 ['extract', corpus, '--cache', tmp_path/('n'*300)], ['corpus', 'folder', corpus, '--out', tmp_path/('n'*300)]):
        status, out, err = said(*argv)
        assert status == 2 and 'Traceback' not in err and err.splitlines()[-1].startswith('mmemo: ') and str(tmp_path) in err, (argv, err)


def test_a_full_disk_names_the_file_that_was_to_be(tmp_path, monkeypatch):
    def write(*_, **__): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(Path, 'write_text', write)
    with pytest.raises(OSError, match='metrics.json') as caught: write_json(tmp_path/'metrics.json', {})
    assert caught.value.errno == errno.ENOSPC and os.listdir(tmp_path) == []


def test_a_full_disk_is_no_fault_of_a_clip(said, tmp_path, monkeypatch):
    "Nothing is set aside for it, and no table of clips that were left out is written."
    corpus = corpus_of_two(tmp_path/'c')
    import mmemo.features.extract as extract
    def place(data, path, cache): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    monkeypatch.setattr(extract, 'place_bytes', place)
    status, out, err = said('extract', corpus, '--cache', tmp_path/'cache')
    assert status == 2 and 'No space left' in err and not (tmp_path/'cache'/'quarantine.csv').exists()


def test_a_pack_asks_for_its_room_before_it_is_filled(tmp_path, monkeypatch):
    if not hasattr(os, 'posix_fallocate'): pytest.skip('no such call here')
    def full(*_): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, 'posix_fallocate', full)
    with pytest.raises(OSError): open_arrays(tmp_path, 10, (4,), np.float16)


SMALL_DISK = '''
set -e
mount -t tmpfs -o size=200k none "$1"
shift
exec "$@"
'''

def test_on_a_disk_that_is_full(tmp_path):
    "A real one of 200 kB, where this may be made without being the administrator."
    disk, corpus = tmp_path/'disk', corpus_of_two(tmp_path/'c')
    disk.mkdir()
    inside = ['unshare', '-rm', 'bash', '-c', SMALL_DISK, 'x', str(disk)]
    try: can = subprocess.run([*inside, 'true'], capture_output=True).returncode == 0
    except FileNotFoundError: can = False
    if not can: pytest.skip('no disk of our own here')
    fill = f'head -c 190000 /dev/zero > {disk}/filled; {sys.executable} -m mmemo extract {corpus} --cache {disk}/cache'
    r = subprocess.run([*inside, 'bash', '-c', fill], capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=str(ROOT)), timeout=300)
    assert r.returncode == 2 and 'Traceback' not in r.stderr and 'No space left on device' in r.stderr and str(disk) in r.stderr, r.stderr


# --- JSON

@pytest.mark.parametrize('text', ['[' * 100_000, '{"a":' * 20_000, '9'*5000, '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": 1, "a": 2}', '', 'null nonsense', '\x00\x00', '<html>'])
def test_json_that_is_none(text, tmp_path):
    (tmp_path/'x.json').write_text(text)
    with pytest.raises(UserError, match='x.json: expected JSON') as caught: read_json(tmp_path/'x.json', dict)
    assert len(str(caught.value)) < 400 and '\n' not in str(caught.value)


@pytest.mark.parametrize('text', ['[]', '3', '"a"', 'null', 'true'])
def test_json_of_another_kind(text, tmp_path):
    (tmp_path/'x.json').write_text(text)
    with pytest.raises(UserError, match='expected JSON that holds an object, found'): read_json(tmp_path/'x.json', dict)


def test_json_that_is_no_file(tmp_path):
    with pytest.raises(UserError, match='it is a folder'): read_json(tmp_path)
    os.mkfifo(tmp_path/'pipe.json')
    with pytest.raises(UserError, match='no plain file'): read_json(tmp_path/'pipe.json') # and nobody waits for it
    with open(tmp_path/'large.json', 'wb') as f: f.truncate(1 << 33)
    with pytest.raises(UserError, match='8192 MiB'): read_json(tmp_path/'large.json')
    (tmp_path/'marked.json').write_bytes(b'\xef\xbb\xbf{"a": 1}') # a byte order mark, as some editors write it
    assert read_json(tmp_path/'marked.json') == {'a': 1}


# --- a folder, or a file, in the place of another thing

def test_a_folder_in_the_place_of_a_file_of_the_cache_is_mended(tmp_path):
    "Of a track, of a pack and of its files, of the list of clips that were left out; and a file in the place of a pack."
    from mmemo.features.extract import extract
    corpus, cache = corpus_of_two(tmp_path/'c'), tmp_path/'cache'
    store = extract(corpus, cache=cache, progress=False)
    whole = {m: np.array(store[m].values) for m in ('visual', 'audio')}
    track, packs = next((cache/'tracks').glob('*/*')), sorted((cache/'packs').iterdir())
    def replace(path, by_file=False):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        if by_file: path.write_text('x')
        else: (path/'within').mkdir(parents=True)
    def spoil_track():
        replace(track)
        for pack in packs: (pack/'values.npy').write_bytes(b'x')
    cases = [spoil_track, lambda: [replace(f) for pack in packs for f in list(pack.iterdir())],
             lambda: [replace(pack, by_file=True) for pack in packs], lambda: (cache/'quarantine.csv').mkdir()]
    for spoil in cases:
        spoil()
        with pytest.warns(DamageWarning) as seen: again = extract(corpus, cache=cache, progress=False)
        assert all(np.array_equal(again[m].values, whole[m]) for m in whole), spoil
        assert not any('os error' in str(w.message) for w in seen)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        extract(corpus, cache=cache, progress=False) # all of it is mended
    (cache/'guard').mkdir()
    (cache/'guard'/'x.json').mkdir()
    with pytest.warns(DamageWarning, match='it is a folder'): assert read_kept(cache/'guard'/'x.json') is None
    assert not (cache/'guard'/'x.json').exists()


@pytest.mark.parametrize('name', ['tracks', 'packs', 'tmp', ''])
def test_a_file_in_the_place_of_a_folder_of_the_cache_is_named(name, tmp_path):
    from mmemo.features.extract import extract
    corpus, place = corpus_of_two(tmp_path/'c'), tmp_path/'cache'/name
    place.parent.mkdir(exist_ok=True)
    place.write_text('x')
    with pytest.raises(UserError, match='is a file; expected a folder'): extract(corpus, cache=tmp_path/'cache', progress=False)


# --- every flipped bit

def test_every_flipped_byte_of_a_track_is_found(tmp_path):
    path, rng = tmp_path/'t.safetensors', np.random.default_rng(0)
    save_track(path, Track(rng.normal(size=(6, 4)).astype('f2'), np.arange(6)/25, np.ones(6, bool), dict(encoder='x', file='abc')))
    data, track = path.read_bytes(), load_track(path)
    for i in range(len(data)):
        spoiled = bytearray(data); spoiled[i] ^= 1 << int(rng.integers(8))
        path.write_bytes(spoiled)
        try: again = load_track(path)
        except UserError: continue
        assert again.source.items() >= track.source.items() and all(np.array_equal(getattr(again, n), getattr(track, n)) for n in ('values', 'time', 'valid')), i


def test_every_flipped_byte_of_a_pack_is_mended(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path/f'{k}.safetensors' for k in 'ab']
    for p in paths: save_track(p, Track(rng.normal(size=(3, 4)).astype('f2'), np.arange(3)/25, np.ones(3, bool), dict(encoder='x')))
    about = tmp_path/'cache', 'visual', ['a', 'b'], paths, 4
    whole, folder = load_pack(*about), build_pack(*about)
    values = np.array(whole.values)
    for name in ('values.npy', 'time.npy', 'valid.npy', 'offsets.npy', 'pack.json'):
        size = (folder/name).stat().st_size
        for i in rng.integers(size, size=12):
            data = bytearray((folder/name).read_bytes()); data[i] ^= 1 << int(rng.integers(8))
            (folder/name).unlink(); (folder/name).write_bytes(data) # another file: the old one may be mapped
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter('always')
                again = load_pack(*about)
            assert np.array_equal(again.values, values) and np.array_equal(again.time, whole.time) and np.array_equal(again.offsets, whole.offsets)
            assert again.source == whole.source and (seen or name == 'pack.json'), (name, i)


def test_files_of_before_are_believed(tmp_path):
    "A track, a pack and a print without a checksum load as they did."
    from safetensors.numpy import save_file
    save_file(dict(values=np.ones((2, 3), 'f2'), time=np.arange(2.), valid=np.ones(2, bool)), tmp_path/'t.safetensors', {'source': '{"encoder": "x"}'})
    assert load_track(tmp_path/'t.safetensors').source == dict(encoder='x')
    write_json(tmp_path/'print.json', dict(print='00'))
    assert read_kept(tmp_path/'print.json') == dict(print='00')
    folder = build_pack(tmp_path, 'visual', ['a'], [tmp_path/'t.safetensors'], 3)
    about = json.loads((folder/'pack.json').read_text())
    (folder/'pack.json').write_text(json.dumps({k: v for k, v in about.items() if k not in ('crc', 'checksum')}))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert load_pack(tmp_path, 'visual', ['a'], [tmp_path/'t.safetensors'], 3).values.shape == (2, 3)


# --- everything at once

@pytest.mark.slow
def test_two_hundred_damaged_files(tmp_path):
    "A small part of `python benchmarks/damage.py`."
    damage.make_base(tmp_path/'base')
    rows = damage.run_cases(tmp_path/'base', damage.plan(200, seed=5), workers=2)
    bad = [(r['outcome'], r['subject'], r['kind'], r['seed'], (r.get('error') or r.get('sentence') or '')[-800:]) for r in rows if r['outcome'] in damage.BAD]
    assert len(rows) == 200 and not bad, bad
    assert sum(r['outcome'] == 'named' for r in rows) > 60 and sum(r['outcome'] == 'mended' for r in rows) > 10
