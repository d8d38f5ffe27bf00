"""The command line as a person meets it: help that reads well, one sentence for a mistake, exit statuses."""
import json, os, re, shutil, subprocess, sys, time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmemo.commands.cli import COMMANDS, main
from mmemo.commands.doctor import Check, format_diagnosis, examine
from mmemo.core import real_data
from mmemo.labels import EXPRESSION8
from mmemo.media.files import write_clip
from small_run import small_run
from typed import type_words

ROOT = Path(__file__).resolve().parent.parent


def mmemo(*argv, cwd=None, env=None):
    "The program in a process of its own."
    return subprocess.run([sys.executable, '-m', 'mmemo', *map(str, argv)], capture_output=True, text=True, cwd=cwd, timeout=300,
                          env=dict(os.environ, PYTHONPATH=str(ROOT), COLUMNS='110', **(env or {})))


@pytest.fixture
def said(capsys): return partial(type_words, capsys)


def test_help_is_there_at_once():
    best = min(timed_help() for _ in range(3))
    assert best < 1, f'{best:.2f} s'


def timed_help():
    started = time.perf_counter()
    r = mmemo('--help')
    assert r.returncode == 0 and all(c in r.stdout for c in ('demo', 'extract', 'train', 'evaluate', 'predict', 'fetch', 'cache', 'doctor'))
    return time.perf_counter() - started


def test_help_loads_nothing_heavy():
    r = subprocess.run([sys.executable, '-c', "import sys, mmemo.commands.cli; mmemo.commands.cli.main(['--help']); print(sorted({'torch','plotly','cv2','av','transformers','pandas'} & set(sys.modules)))"],
                       capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert r.stdout.strip().endswith('[]'), r.stdout[-200:]


@pytest.mark.parametrize('name', list(COMMANDS))
def test_each_command_explains_itself(name, said):
    status, out, err = said(name, '--help')
    assert status in (0, None) and f'usage: mmemo {name}' in out and 'examples' in out and err == ''
    options = [line for line in re.split(r'\n│ (?=--)', out)[1:]]
    for o in options: assert len(re.findall(r'[a-z]{3,}', re.sub(r'\(default.*', '', o, flags=re.S))) > 2, f'{name}: an option without a word of help: {o[:80]}'


@pytest.mark.parametrize('name', list(COMMANDS))
def test_the_examples_are_valid(name, said, monkeypatch):
    "What help shows can be typed: tyro reads it, and nothing is run."
    import shlex, tyro
    for line in COMMANDS[name].examples:
        words = shlex.split(line)
        assert words[:2] == ['mmemo', name]
        tyro.cli(COMMANDS[name].build(), args=words[2:])


@pytest.mark.parametrize('argv,found', [
    (['tran'], "Did you mean 'train'"), (['predict', 'nowhere.mp4'], 'nowhere.mp4: there is no such file'),
    (['train', '--corpus', 'nowhere'], 'nowhere: there is no such file or folder'), (['train'], 'needs a corpus'),
    (['extract', 'nowhere'], 'nowhere'), (['evaluate', 'nowhere'], 'nowhere: there is no such folder'), (['doctor', 'face'], "mean 'faces'"),
    (['cache', 'prune', '--encoder', 'nobody'], "no tracks of 'nobody'")])
def test_a_mistake_is_one_sentence_and_status_2(argv, found, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path); monkeypatch.setenv('MMEMO_CACHE', str(tmp_path/'cache'))
    status, out, err = said(*argv)
    assert status == 2 and found in err and err.startswith('mmemo: ') and err.count('\n') == 1 and 'Traceback' not in err


def test_a_misspelt_option_is_explained(said):
    status, out, err = said('predict', 'x.mp4', '--fases', 'haar')
    assert status == 2 and '--faces' in out + err


def test_our_own_mistakes_keep_their_traceback(monkeypatch):
    def broken(): raise RuntimeError('ours')
    monkeypatch.setitem(COMMANDS, 'doctor', type(COMMANDS['doctor'])('doctor', 'x', (), broken))
    with pytest.raises(RuntimeError, match='ours'): main(['doctor'])


def test_python_m_mmemo(): assert mmemo('nonsense').returncode == 2


def test_doctor_tries_things(said):
    status, out, err = said('doctor', 'decoders', 'faces', 'notebooks')
    assert status == 0 and '✓ PyAV' in out and 'read back' in out and '✓ haar' in out and 'plotly in the browser' in out
    assert format_diagnosis([Check('a', 'b', 'no', 'gone', 'mend it')]).endswith('Not well: b.')
    assert all(c.hint for c in examine(['encoders']) if c.state != 'yes'), 'what does not work comes with a hint'


def test_extract_train_evaluate(said, tmp_path):
    place = small_run()
    status, out, _ = said('extract', place/'corpus', '--cache', place/'cache')
    assert status == 0 and 'cached' in out
    status, out, _ = said('train', '--corpus', place/'corpus', '--cache', place/'cache', '--model', 'bicross', '--train.epochs', '1', '--train.no-progress', '--train.lambda-text', '0', '--train.device', 'cpu', '--out', tmp_path/'run')
    assert status == 0 and 'macro-F1' in out and (tmp_path/'run'/'report.html').exists()
    assert json.loads((tmp_path/'run'/'config.json').read_text())['run']['train']['epochs'] == 1
    status, out, err = said('train', '--corpus', place/'corpus', '--cache', place/'cache', '--out', tmp_path/'run')
    assert status == 2 and 'overwrite' in err
    status, out, _ = said('evaluate', tmp_path/'run', '--cache', place/'cache', '--out', tmp_path/'scores')
    kept = json.loads((tmp_path/'scores'/'metrics.json').read_text()); own = json.loads((tmp_path/'run'/'metrics.json').read_text())['test']
    assert status == 0 and kept['all']['macro_f1']['value'] == pytest.approx(own['all']['macro_f1']['value'], abs=1e-9)


def test_a_broken_clip_is_set_aside_with_status_3(said, tmp_path):
    place = small_run()
    clips = pd.read_csv(place/'corpus'/'manifest.csv').head(3)
    (tmp_path/'clips').mkdir()
    for p in clips.path[:2]: shutil.copy(place/'corpus'/p, tmp_path/p)
    (tmp_path/clips.path[2]).write_bytes(b'not a video')
    clips.to_csv(tmp_path/'manifest.csv', index=False)
    status, out, err = said('extract', tmp_path, '--cache', tmp_path/'cache')
    assert status == 3 and '1 clip(s)' in err and 'quarantine.csv' in err and Path(clips.path[2]).name in err


# predict: any video

def predict(said, file, out, *more): return said('predict', file, '--run', small_run()/'bicross', '--out', out, '--cache', small_run()/'cache', *more)


def face_clip(path, audio=None, seconds=1.6):
    "A planted face in a wide picture, as a camera would see it."
    from mmemo.media.frames import VideoReader
    frames = VideoReader(next((small_run()/'corpus'/'clips').glob('test-*.mp4'))).frames(range(40))
    wide = np.full((40, 160, 240, 3), 90, np.uint8); wide[:, 24:136, 64:176] = frames
    write_clip(path, wide, 25, audio)
    return path


def test_predict_writes_the_table_and_the_page(said, tmp_path):
    clip = next((small_run()/'corpus'/'clips').glob('test-*.mp4'))
    status, out, err = predict(said, clip, tmp_path/'out')
    assert status == 0, err
    table = pd.read_csv(tmp_path/'out'/'frames.csv')
    assert list(table.columns) == ['time', 'label', *EXPRESSION8.classes] and len(table) == 60, 'a planted clip carries no warning'
    assert np.allclose(table[list(EXPRESSION8.classes)].sum(1), 1, atol=2e-3) and set(table.label) <= set(EXPRESSION8.classes)
    assert np.allclose(table.time, (np.arange(60) + .5)/25, atol=1e-3)
    page = (tmp_path/'out'/'report.html').read_text()
    assert 'data:image/jpeg' in page and 'Loudness' in page and len(page) < 10e6


def test_predict_on_a_file_from_elsewhere_carries_the_warning(said, tmp_path):
    clip = next((small_run()/'corpus'/'clips').glob('test-*.mp4'))
    shutil.copy(clip, tmp_path/'mine.mp4')
    status, out, _ = predict(said, tmp_path/'mine.mp4', tmp_path/'out')
    warning = pd.read_csv(tmp_path/'out'/'frames.csv').warning
    assert status == 0 and warning.str.contains('tiny encoders know only planted faces').all()
    assert 'tiny encoders know only planted faces' in out and 'tiny encoders know only planted faces' in (tmp_path/'out'/'report.html').read_text()


@pytest.mark.parametrize('audio,said_so', [(None, 'no sound track'), (np.full(25600, 1e-4, np.float32), 'nearly silent')])
def test_predict_without_sound_is_visual_only(said, tmp_path, audio, said_so):
    file = face_clip(tmp_path/'quiet.mp4', audio)
    status, out, err = predict(said, file, tmp_path/'out', '--faces', 'none')
    assert status == 0 and said_so in out and 'visual only' in out and 'visual only' in (tmp_path/'out'/'report.html').read_text(), err


def test_predict_does_not_hear_what_is_nearly_silent(said, tmp_path):
    "Two clips with the same picture, one with a hiss of -80 dB: the same answer."
    a, b = face_clip(tmp_path/'a.mp4'), face_clip(tmp_path/'b.mp4', np.random.default_rng(0).normal(0, 1e-4, 25600).astype(np.float32))
    for f in (a, b): assert predict(said, f, tmp_path/f.stem, '--faces', 'none')[0] == 0
    x, y = (pd.read_csv(tmp_path/n/'frames.csv')[list(EXPRESSION8.classes)] for n in 'ab')
    assert np.allclose(x, y, atol=2e-3)


@pytest.mark.parametrize('kind,found', [('picture', 'still picture'), ('sound', 'no video track'), ('text', 'another kind of file'), ('empty', 'empty (0 bytes)'), ('noface', 'no face was found')])
def test_predict_refuses_with_a_sentence(said, tmp_path, kind, found):
    file = tmp_path/f'{kind}.mp4'
    if kind == 'picture':
        from PIL import Image
        file = file.with_suffix('.jpg'); Image.new('RGB', (64, 64)).save(file)
    if kind == 'sound':
        import wave
        file = file.with_suffix('.wav')
        with wave.open(str(file), 'wb') as f: f.setnchannels(1); f.setsampwidth(2); f.setframerate(16000); f.writeframes(bytes(32000))
    if kind == 'text': file.write_text('hello')
    if kind == 'empty': file.touch()
    if kind == 'noface': write_clip(file, np.random.default_rng(0).integers(0, 255, (30, 96, 128, 3)).astype(np.uint8), 25)
    status, out, err = predict(said, file, tmp_path/'out')
    assert status == 2 and found in err and err.count('\n') == 1 and not (tmp_path/'out').exists()


def test_predict_takes_files_and_folders(said, tmp_path):
    "Two films of one name, one of them twice over, a broken one and what is no film: a page each, one that lists them, and what could not be used at the end."
    films = sorted((small_run()/'corpus'/'clips').glob('test-*.mp4'))[:2]
    for name, film in (('a/x.mp4', films[0]), ('b/X.mp4', films[1])):
        (tmp_path/name).parent.mkdir()
        shutil.copy(film, tmp_path/name)
    (tmp_path/'b'/'bad.mp4').write_bytes(b'no film')
    (tmp_path/'b'/'notes.txt').write_text('nothing')
    out = tmp_path/'out'
    status, text, err = said('predict', tmp_path/'a'/'x.mp4', tmp_path/'b', tmp_path/'a', '--run', small_run()/'bicross', '--out', out, '--cache', small_run()/'cache')
    assert status == 3 and f"2 of 3 films: {out/'index.html'}" in text and 'bad.mp4: ' in text.splitlines()[-1]
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob('*.*')) == ['X-2/frames.csv', 'X-2/report.html', 'index.csv', 'index.html', 'x/frames.csv', 'x/report.html']
    table = pd.read_csv(out/'index.csv')
    assert table.page.tolist()[0] == 'x' and table.error.notna().sum() == 1 and (table.seconds.dropna() == 2.4).all() and (table.faces.dropna() == 1).all()
    page = (out/'index.html').read_text()
    assert 'href="x/report.html"' in page and 'href="X-2/report.html"' in page and '1 of 3 could not be used' in page and 'tiny encoders know only' in page
    single = tmp_path/'single'
    assert predict(said, tmp_path/'a'/'x.mp4', single)[0] == 0
    for name in ('x', 'X-2'): assert (out/name/'frames.csv').read_text().count('\n') == 61
    assert (out/'x'/'frames.csv').read_bytes() == (single/'frames.csv').read_bytes(), 'many give what one gives'


def read_pages(out): return {p.name: (p/'frames.csv').read_bytes() for p in out.iterdir() if p.is_dir()}


def test_predict_adds_films_to_a_list(said, tmp_path):
    "A second call into one folder: other films stand beside, those that are listed get their page anew, files behind an option count, and nobody else's files are touched."
    films, out = sorted((small_run()/'corpus'/'clips').glob('test-*.mp4'))[:3], tmp_path/'out'
    for name, film in (('a/x.mp4', films[0]), ('b/x.mp4', films[1]), ('b/recorded', films[2])): # the last has no ending
        (tmp_path/name).parent.mkdir(exist_ok=True)
        shutil.copy(film, tmp_path/name)
    assert predict(said, tmp_path/'a', out)[0] == 0
    first, index = read_pages(out), (out/'index.csv').read_bytes()
    assert list(first) == ['x'] and pd.read_csv(out/'index.csv').file.tolist() == [str(tmp_path/'a'/'x.mp4')]
    status, text, _ = predict(said, tmp_path/'a'/'x.mp4', out, tmp_path/'b')                 # behind the options
    assert status == 0 and '3 of 3 films' in text
    pages, table = read_pages(out), pd.read_csv(out/'index.csv').set_index('page')
    assert sorted(pages) == ['recorded', 'x', 'x-2'] and pages['x'] == first['x'] != pages['x-2']
    assert table.file.to_dict() == {'x': str(tmp_path/'a'/'x.mp4'), 'x-2': str(tmp_path/'b'/'x.mp4'), 'recorded': str(tmp_path/'b'/'recorded')}
    (tmp_path/'a'/'x.mp4').write_bytes(b'spoiled')
    status, text, _ = predict(said, tmp_path/'a', out)
    assert status == 3 and '0 of 1 films' in text and read_pages(out) == pages, 'a page of an earlier time stands'
    table = pd.read_csv(out/'index.csv').set_index('page')
    assert len(table) == 3 and 'x.mp4' not in table.error['x'] and table.error['x']
    assert not list(tmp_path.rglob('.half'))


@pytest.mark.parametrize('name,text', [('index.csv', 'name,pages\nnumbers,3\n'), ('index.html', '<h1>My site</h1>'), ('index.csv', ''), ('index.csv', '\0\xff')])
def test_a_list_of_somebody_else_is_kept(said, tmp_path, name, text):
    films, out = small_run()/'corpus'/'clips', tmp_path/'out'
    out.mkdir()
    (out/name).write_text(text)
    status, _, err = predict(said, films, out)
    assert status == 2 and f'there is an {name} already' in err and [p.name for p in out.iterdir()] == [name] and (out/name).read_text() == text


def test_one_list_has_one_writer(said, tmp_path):
    from mmemo.places import lock_place
    with lock_place(tmp_path/'out'): status, _, err = predict(said, small_run()/'corpus'/'clips', tmp_path/'out')
    assert status == 2 and 'another process' in err and not (tmp_path/'out').exists()


def test_options_of_predict_have_ranges(said, tmp_path):
    for seconds in ('nan', '-1', '0'):
        status, _, err = said('predict', tmp_path, '--seconds', seconds)
        assert status == 2 and '--seconds' in err and err.count('\n') == 1, err


def test_predict_of_many_says_what_is_wrong_with_the_run_at_once(said, tmp_path):
    shutil.copy(next((small_run()/'corpus'/'clips').glob('test-*.mp4')), tmp_path/'x.mp4')
    status, _, err = said('predict', tmp_path, '--run', tmp_path/'nowhere', '--out', tmp_path/'out')
    assert status == 2 and 'nowhere' in err and not (tmp_path/'out').exists()
    for words in (['predict', '--out', tmp_path/'out'], ['predict', tmp_path/'out2']): assert said(*words)[0] == 2
    (tmp_path/'empty').mkdir()
    status, _, err = said('predict', tmp_path/'empty', '--out', tmp_path/'out')
    assert status == 2 and 'no film in this folder' in err and not (tmp_path/'out').exists()


def test_encoders_are_loaded_once_for_many(tmp_path, monkeypatch):
    import mmemo.features.extract as extract_module
    from mmemo import predict
    loads, load = [], extract_module.load_visual
    monkeypatch.setattr(extract_module, 'load_visual', lambda *a: loads.append(a) or load(*a))
    films = sorted((small_run()/'corpus'/'clips').glob('test-*.mp4'))[:3]
    table = predict(films, small_run()/'bicross', tmp_path/'many', cache=small_run()/'cache')
    assert len(table) == 3 and (table.error == '').all() and len(loads) == 1
    one = predict(films[0], small_run()/'bicross', tmp_path/'one', cache=small_run()/'cache')
    assert one.answer == table.answer[0] and str(one).startswith(films[0].name)



@pytest.mark.skipif(real_data() is None, reason='MMEMO_REAL_DATA is not set')
def test_predict_on_real_clips(said, tmp_path):
    for i, file in enumerate(sorted((real_data()/'clips').iterdir())):
        status, out, err = predict(said, file, tmp_path/str(i))
        assert status in (0, 2), f'{file.name}: {err}'
        if status == 2: assert err.count('\n') == 1 and file.suffix == '.jpg', err
        else: assert pd.read_csv(tmp_path/str(i)/'frames.csv').warning.str.contains('tiny encoders').all()
        if 'near_silent' in file.name: assert 'visual only' in out and 'below -50 dB' in out


# --- data sets on disk --------------------------------------------------------------------------------------------

def own_clips(place):
    from mmemo.media.files import write_clip
    for i, name in enumerate(('happy/ann-1', 'happy/bob-1', 'sad/ann-2', 'sad/bob-2')):
        write_clip(place/f'{name}.mp4', np.full((10, 64, 64, 3), 40*i + 40, np.uint8), 10)
    return place


def test_corpus_tells_what_is_there_and_keeps_a_table(said, tmp_path):
    from mmemo.corpora.readers import open_corpus
    mine = own_clips(tmp_path/'mine')
    (mine/'sad'/'zoe-3.mp4').write_bytes(b'')
    status, out, _ = said('corpus', 'folder', mine, '--out', tmp_path/'kept', '--options', 'subject', r'/(\w+)-')
    assert status == 0 and '5 clips' in out and 'Happiness' in out
    kept = open_corpus(tmp_path/'kept')
    assert kept.path('ann-1').exists() and sorted(set(kept.clips.subject)) == ['ann', 'bob', 'zoe']
    page = (tmp_path/'kept'/'page.html').read_text()
    assert page.count('<img') == 4 and 'could not be read' in page and str(tmp_path) not in page


def test_manifest_init_writes_a_table_once(said, tmp_path):
    mine = own_clips(tmp_path/'mine')
    status, out, _ = said('manifest', 'init', mine)
    assert status == 0 and 'subject' in (mine/'manifest.csv').read_text().splitlines()[0]
    (mine/'manifest.csv').write_text('edited by hand')
    status, _, err = said('manifest', 'init', mine)
    assert status == 2 and 'kept' in err and (mine/'manifest.csv').read_text() == 'edited by hand'


@pytest.mark.parametrize('argv,found', [(['corpus', 'ravdes', '.'], "'ravdess'"), (['corpus', 'ravdess', 'nowhere'], 'no such file or folder'),
                                        (['corpus', 'crema-d', '.', '--options', 'targt', 'x'], "'targt' is no option of crema-d")])
def test_a_mistake_about_a_data_set(argv, found, said):
    status, _, err = said(*argv)
    assert status == 2 and found in err and len(err.strip().splitlines()) == 1


def test_training_refuses_a_copy_under_another_name(said, tmp_path):
    "The same recording under another person's name, on the other side: no table names it, the sound does."
    import shutil
    from mmemo.corpora.manifest import load_corpus, save_corpus
    place = small_run()
    corpus = load_corpus(place/'corpus')
    clips, root = corpus.clips, tmp_path/'corpus'
    shutil.copytree(place/'corpus', root)
    train, test = clips[clips.split == 'train'].iloc[0], clips[clips.split == 'test'].iloc[0]
    shutil.copy(root/train.path, root/test.path)
    status, _, err = said('train', '--corpus', root, '--train.epochs', '1', '--train.no-progress', '--out', tmp_path/'run', '--cache', tmp_path/'cache')
    assert status == 2 and train.clip_id in err and test.clip_id in err and 'identical sound' in err and not (tmp_path/'run'/'metrics.json').exists()


def test_a_random_split_is_marked(said, tmp_path):
    place = small_run()
    status, out, _ = said('train', '--corpus', place/'corpus', '--cache', place/'cache', '--model', 'linear', '--split', 'random', '--out', tmp_path/'run')
    card = (tmp_path/'run'/'card.md').read_text()
    assert status == 0 and 'by chance' in out and 'Random split' in card


# features that were brought along, and words

def brought_along(tmp_path, shape='cmu-mosei'):
    "The small planted corpus as CMU-MOSEI is handed out: features of noise, words, labels, and no clips."
    from mmemo.core import rng_for
    from mmemo.corpora.manifest import load_corpus
    from twins import write_twin
    corpus, rng = load_corpus(small_run()/'corpus'), rng_for('brought along')
    noise = lambda n, d: {c: (rng.normal(size=(n, d)).astype('float16'), (np.arange(n) + .5)/n*1.6) for c in corpus.clips.clip_id}
    return write_twin(corpus, shape, tmp_path/'tree', (), dict(visual=noise(30, 6), audio=noise(50, 4)))


QUICK = ('--train.epochs', '1', '--train.no-progress', '--train.device', 'cpu')


def test_train_on_features_that_were_brought_along(said, tmp_path):
    twin = brought_along(tmp_path)
    status, out, err = said('train', '--corpus', f'cmu-mosei:{twin.root}', '--window.task', 'sentiment', '--out', tmp_path/'run', *QUICK)
    assert status == 0, err
    assert 'Nothing is encoded' in out and 'dealt to train, val and test by subject' in out # no lists were given
    about = json.loads((tmp_path/'run'/'config.json').read_text())
    assert set(about['features']['dims']) == {'visual', 'audio', 'text'} and about['run']['encoders'] == 'given'
    assert about['features']['encoders']['visual'] == 'csd:CMU_MOSEI_VisualFacet42' and about['data']['facts']['synthetic']
    status, again, err = said('evaluate', tmp_path/'run') # on the side that was dealt, though the data set has none
    assert status == 0 and all(line in out for line in again.strip().splitlines()), err
    status, _, err = said('predict', next((small_run()/'corpus'/'clips').glob('*.mp4')), '--run', tmp_path/'run', '--out', tmp_path/'out')
    assert status == 2 and 'no encoder here makes such features from a video' in err
    status, _, err = said('evaluate', tmp_path/'run', '--corpus', small_run()/'corpus')
    assert status == 2 and 'no encoder here makes the features' in err


@pytest.mark.parametrize('shape, task', [('cmu-mosei', 'emotions'), ('cmu-mosei-pickle', 'sentiment')])
def test_a_kept_table_knows_where_its_features_are(said, tmp_path, shape, task):
    twin = brought_along(tmp_path, shape)
    options = [str(x) for pair in twin.options.items() for x in pair]
    status, out, err = said('corpus', 'cmu-mosei', twin.place, '--options', *options, '--out', tmp_path/'kept')
    assert status == 0 and 'features_only' in out, err
    page = (tmp_path/'kept'/'page.html').read_text()
    assert '<img' not in page and 'macro-F1 counts 0' not in page
    status, out, err = said('train', '--corpus', tmp_path/'kept', '--options', 'dim', '16', 'heads', '2', '--window.task', task,
                            '--out', tmp_path/'run', *QUICK)
    assert status == 0 and 'dealt' not in out, err # the official lists
    status, again, err = said('evaluate', tmp_path/'run')
    assert status == 0 and again.strip().splitlines()[-1] in out, err


def test_words_are_encoded_where_a_model_reads_them(said, tmp_path):
    place = small_run()
    ask = ('train', '--corpus', place/'corpus', '--cache', tmp_path/'cache', '--model', 'linear', *QUICK, '--out', tmp_path/'run')
    status, _, err = said(*['bicross' if a == 'linear' else a for a in ask], '--text', 'tiny')
    assert status == 2 and "model 'bicross' reads visual and audio and no words" in err and not (tmp_path/'cache').exists() # said at once
    three = ('--options', 'modalities', 'visual+audio+text')
    ask = [place/'cache' if a == tmp_path/'cache' else a for a in ask]
    status, _, err = said(*ask, *three)
    assert status == 2 and 'name a text encoder, such as --text tiny' in err
    status, out, err = said(*ask, *three, '--text', 'tiny')
    assert status == 0, err
    about = json.loads((tmp_path/'run'/'config.json').read_text())
    assert about['features']['encoders']['text'] == 'tiny-clip-words' and about['run']['text'] == 'tiny'
    status, again, err = said('evaluate', tmp_path/'run', '--cache', place/'cache')
    assert status == 0 and again.strip().splitlines()[0] in out, err
    status, _, err = said('predict', next((place/'corpus'/'clips').glob('*.mp4')), '--run', tmp_path/'run', '--out', tmp_path/'out')
    assert status == 2 and "'linear' reads words, and a video alone has none" in err
    corpus = pd.read_csv(place/'corpus'/'manifest.csv').drop(columns=['words', 'transcript'], errors='ignore')
    corpus['path'] = [str(place/'corpus'/p) for p in corpus.path]
    corpus.to_csv(tmp_path/'manifest.csv', index=False)
    status, _, err = said('train', '--corpus', tmp_path, *ask[3:], '--overwrite', *three, '--text', 'tiny')
    assert status == 2 and 'no clip has a transcript; `mmemo transcribe` writes them' in err
    status, _, err = said(*ask, *three, '--overwrite', '--text', 'minilm')
    assert status == 2 and 'mmemo fetch' in err


def test_an_empty_split_column_asks_to_be_dealt(said, tmp_path):
    place = small_run()
    corpus = pd.read_csv(place/'corpus'/'manifest.csv').assign(split=None)
    corpus['path'] = [str(place/'corpus'/p) for p in corpus.path]
    corpus.to_csv(tmp_path/'manifest.csv', index=False)
    status, out, err = said('train', '--corpus', tmp_path, '--cache', place/'cache', '--model', 'linear', *QUICK, '--out', tmp_path/'run')
    assert status == 0 and 'dealt to train, val and test' in out, err
