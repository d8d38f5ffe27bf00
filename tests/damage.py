"""Bytes that a disk or a download has spoiled: every kind of file that is read here, kinds of damage, and what is made of it.

`benchmarks/damage.py` prints the table, `tests/test_damage.py` holds a small part of it. A case is a file of one subject, damaged in one way; it is read as people read it
(from Python, or by a command), in a process that may hang or die, and the figures that come out are compared with those of the whole file:

| outcome | what happened |
|---|---|
| same | the same figures, without a word: what was hurt does not matter |
| mended | the same figures, and a line that says what was made again |
| named | a sentence names the damage: a `UserError`, a warning, a clip set aside, a line of the report |
| as written | other figures without a word, from a table, label or settings file of somebody else's: one valid value in place of another, which nobody can know |
| as decoded | other pictures or samples from a film or a sound that its decoder takes |
| silent | other figures without a word from a file that was written here (with a checksum): never |
| traceback, hang, crash | never |
"""
import contextlib, io, json, multiprocessing, os, pickle, re, shutil, sys, tempfile, time, traceback, warnings
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np

BAD = ('silent', 'traceback', 'hang', 'crash', 'no name')
OUTCOMES = ('same', 'mended', 'named', 'as written', 'as decoded', *BAD)


def damaged(data:bytes, rng, most=5, longest=200) -> bytes:
    "Fewer than `most` bytes flipped, or the end cut off, or fewer than `longest` bytes there twice."
    how, at = rng.integers(3), int(rng.integers(len(data)))
    if how == 0:
        out = bytearray(data)
        for i in rng.integers(len(data), size=int(rng.integers(1, most))): out[i] ^= 1 << int(rng.integers(8))
        return bytes(out)
    return data[:at] if how == 1 else data[:at] + data[max(0, at - int(rng.integers(1, longest))):]


# Kinds of damage: (bytes, rng, bytes of another file) -> bytes

def flip(data, rng, other):
    out = bytearray(data)
    for i in rng.integers(len(data), size=int(rng.integers(1, 6))): out[i] ^= 1 << int(rng.integers(8))
    return bytes(out)

def flip_head(data, rng, other): return flip(data[:400], rng, other) + data[400:]
def cut(data, rng, other): return data[:int(rng.integers(len(data)))]
def shave(data, rng, other): return data[:-int(rng.integers(1, 9))]

def blank(data, rng, other):
    at, n = int(rng.integers(len(data))), int(rng.integers(1, 513))
    return (data[:at] + bytes(n) + data[at + n:])[:len(data)]

def lose(data, rng, other):
    at = int(rng.integers(len(data)))
    return data[:at] + data[at + int(rng.integers(1, 200)):]

def double(data, rng, other):
    a, b = sorted(int(i) for i in rng.integers(len(data), size=2))
    return data[:b] + data[a:]

def swap(data, rng, other): return other
def page(data, rng, other): return b'<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n'
def empty(data, rng, other): return b''
def pickled(data, rng, other): return pickle.dumps(dict(a=np.zeros(3), b='x'))
def pointer(data, rng, other): return b'version https://git-lfs.github.com/spec/v1\noid sha256:' + b'0'*64 + b'\nsize 131376\n'
def noise(data, rng, other): return rng.bytes(max(len(data), 1))
def archive(data, rng, other): return b'PK\x03\x04\x14\x00' + rng.bytes(200)

def recode(data, rng, other): # another encoding of the same text
    return data.decode('utf8').encode(str(rng.choice(['utf-16', 'utf-8-sig', 'utf-32', 'cp500'])))

def line_ends(data, rng, other): return data.replace(b'\n', b'\r\n' if rng.random() < .5 else b'\r')

# of a JSON text

def _places(value, at=()): # every node's path
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for k, v in items: yield from _places(v, (*at, k))

def _replace(value, at, new):
    if not at: return new
    value = dict(value) if isinstance(value, dict) else list(value)
    value[at[0]] = _replace(value[at[0]], at[1:], new)
    return value

MARK = '"@@"'
def _put(data, rng, text): # in place of one node
    value = json.loads(data)
    places = list(_places(value))
    return json.dumps(_replace(value, places[int(rng.integers(len(places)))], '@@'), ensure_ascii=False).replace(MARK, text).encode()

def retype(data, rng, other): return _put(data, rng, str(rng.choice(['null', '[]', '{}', '"word"', '-1', 'true', '[[1]]', '{"a": 1}', '0.5', '""', '1e30'])))
def nest(data, rng, other): return _put(data, rng, '['*100_000 if rng.random() < .5 else '{"a":'*50_000 + '1' + '}'*50_000)
def no_number(data, rng, other): return _put(data, rng, str(rng.choice(['NaN', 'Infinity', '-Infinity', '1e999', '0x10', '1.'])))
def long_number(data, rng, other): return _put(data, rng, '9'*int(rng.choice([20, 400, 5000])))
def twice(data, rng, other): return data.replace(b'{', b'{"a": 1, "a": 2, ', 1)

def drop_key(data, rng, other):
    value = json.loads(data)
    at = [p for p in _places(value) if p]
    if not at: return b'{}'
    *above, key = at[int(rng.integers(len(at)))]
    node = value
    for k in above: node = node[k]
    del node[key]
    return json.dumps(value).encode()

# of arrays and tables: written again, whole, and otherwise

def recast(path:Path, rng):
    "Another type, shape or order, in a file that is whole."
    how = int(rng.integers(4))
    if path.suffix == '.npz':
        with np.load(path, allow_pickle=False) as z: arrays = {k: z[k] for k in z.files}
        key = str(rng.choice(list(arrays)))
        other = [arrays[key].astype(str), arrays[key][..., None], arrays[key][:1], np.array(None)][how]
        np.savez(path, **(arrays | {key: other}))
    elif path.suffix == '.npy':
        a = np.load(path)
        np.save(path, [a.astype('f8'), a[:-1], a[None], a.astype(str)][how])
    elif path.suffix == '.safetensors':
        from safetensors.numpy import load_file, save_file
        arrays = load_file(path)
        key = str(rng.choice(list(arrays)))
        other = [arrays[key].astype('f8'), arrays[key][None], arrays[key].ravel()[:1], np.zeros_like(arrays[key])][how]
        save_file(arrays | {key: np.ascontiguousarray(other)}, path)
    elif path.suffix == '.parquet':
        import pandas as pd
        t = pd.read_parquet(path)
        key = str(rng.choice(list(t)))
        t = [t.assign(**{key: t[key].astype(str)}), t.drop(columns=key), t.rename(columns={key: 'x'}), t[::-1].assign(**{key: None})][how]
        t.to_parquet(path, index=False)

ANY = dict(flip=flip, flip_head=flip_head, cut=cut, shave=shave, blank=blank, lose=lose, double=double, swap=swap, page=page, empty=empty, pickled=pickled, pointer=pointer, noise=noise, archive=archive)
TEXT = ANY | dict(recode=recode, line_ends=line_ends)
JSON = TEXT | dict(retype=retype, nest=nest, no_number=no_number, long_number=long_number, twice=twice, drop_key=drop_key)
ARRAYS = ('.npz', '.npy', '.safetensors', '.parquet')
LEGAL = {'recode', 'line_ends', 'shave', 'flip', 'flip_head', 'lose', 'double', 'cut', 'blank', 'retype', 'drop_key', 'recast', 'swap', 'long_number', 'twice'}
# what may leave a valid table of somebody else's

def list_kinds(path:Path) -> list:
    if path.suffix in ('.json', '.jsonl'): return list(JSON if path.suffix == '.json' else TEXT)
    if path.suffix in ('.csv', '.txt'): return list(TEXT)
    return [*ANY, 'recast'] if path.suffix in ARRAYS else list(ANY)

def do_damage(path:Path, kind:str, rng, other:bytes):
    "Damage one file, so that its bytes differ."
    data = path.read_bytes()
    for _ in range(20):
        if kind == 'recast': recast(path, rng)
        else:
            try: path.write_bytes(JSON[kind](data, rng, other))
            except (UnicodeDecodeError, json.JSONDecodeError): path.write_bytes(flip(data, rng, other))
        if path.read_bytes() != data: return
    path.write_bytes(data + b'\0')


# Subjects: what is damaged, and how it is read

@dataclass(frozen=True)
class Subject:
    "Files of one sort, and who reads them."
    group: str # row of the table
    folder: str # below the base; copied for each case
    files: str # glob below the folder
    read: object # (place) -> (figures, lines that were told)
    trust: str # 'ours' (written here, with a checksum), 'theirs' (a person's or another program's), 'media'
    share: int = 1 # how often it is drawn

SUBJECTS = {}

def subject(name:str, group:str, folder:str, files:str, trust:str, share:int=1):
    def file_it(read):
        SUBJECTS[name] = Subject(group, folder, files, read, trust, share)
        return read
    return file_it

def summed(*values) -> str:
    from mmemo.core import stable_hash
    return stable_hash([v.tobytes().hex() if isinstance(v, np.ndarray) else v for v in values])

def table_sum(t): return None if t is None else summed(list(map(str, t.columns)), t.astype(object).where(t.notna(), None).astype(str).values.tolist())

def by_command(*argv): # -> figures, lines
    from mmemo.commands.cli import main
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: status = main([str(a) for a in argv])
        except SystemExit as e: status = e.code
    text = re.sub(r'\d+(\.\d+)? s\b', 's', out.getvalue())
    lines = [line for line in err.getvalue().splitlines() if line.startswith('mmemo: ')]
    if status == 2: raise Named(err.getvalue())
    return [status, text], lines

class Named(Exception):
    "A command that ended with a sentence."

@subject('manifest', 'manifest', 'corpus', 'manifest.csv', 'theirs', 3)
@subject('frames', 'manifest', 'corpus', 'frames.parquet', 'theirs')
@subject('corpus.json', 'manifest', 'corpus', 'corpus.json', 'theirs', 2)
def read_corpus_folder(place):
    from mmemo.corpora.manifest import load_corpus
    c = load_corpus(place)
    return [c.name, c.space, bool(c.facts.get('synthetic')), list(c.labels.classes), table_sum(c.clips), table_sum(c.frames)], []

@subject('mmemo corpus', 'manifest', 'corpus', '*.*', 'theirs')
def command_corpus(place): return by_command('corpus', 'folder', place)

@subject('affwild2', 'label files', 'affwild2', '**/*.txt', 'theirs', 2)
def read_affwild2(place):
    from mmemo.corpora.readers import read_corpus
    c, report = read_corpus('affwild2-expr', place, progress=False)
    return [table_sum(c.clips), table_sum(c.frames)], report.table.astype(str).values.tolist()

@subject('crema-d', 'label files', 'cremad', '**/*.csv', 'theirs', 2)
def read_cremad(place):
    from mmemo.corpora.readers import read_corpus
    c, report = read_corpus('crema-d', place)
    return [table_sum(c.clips)], report.table.astype(str).values.tolist()

@subject('cmu-mosei', 'label files', 'mosei', '*', 'theirs', 2)
def read_mosei(place):
    from mmemo.corpora.mosei import load_mosei
    c, tracks, report = load_mosei(place, folds=place/'folds.json', progress=False)
    return [table_sum(c.clips), {m: {k: summed(np.asarray(t.values), np.asarray(t.time)) for k, t in of.items()} for m, of in tracks.items()}], \
        report.table.astype(str).values.tolist()

@subject('feature tables', 'feature tables', 'tables', 'feats.*', 'theirs', 6)
def read_tables(place):
    from mmemo.features.tables import tracks_from_table
    out = {}
    for name in ('feats.csv', 'feats.parquet', 'feats.npz'):
        tracks = tracks_from_table(place/name, hz=5.)
        out[name] = {k: summed(np.asarray(t.values), np.asarray(t.time), np.asarray(t.valid)) for k, t in tracks.items()}
    return out, []

@subject('run', 'run folders', 'run', '*.[jsp]*', 'ours', 6)
def read_run(place):
    import torch
    from mmemo.training.runs import load_run
    run = load_run(place)
    with torch.inference_mode(): logits = run.model(HELD['batch']).logits.numpy()
    scores = run.metrics.get('test')
    return [summed(np.round(logits, 5)), summed(scores) if scores else None, len(run.history), table_sum(run.predictions), run.about['classes'], run.about['features']], []

@subject('split and page', 'run folders', 'run', 'split.json', 'ours')
def read_page(place):
    from mmemo.pages.report import write_report
    page = write_report(place).read_text()
    return [summed(re.sub(r'[0-9a-f-]{36}', '', page))], []

@subject('mmemo evaluate', 'run folders', '.', 'run/*.[jsp]*', 'ours', 2)
def command_evaluate(place): return by_command('evaluate', place/'run', '--corpus', place/'corpus', '--cache', place/'cache')

@subject('settings', 'settings', 'bare', 'config.json', 'theirs', 6)
def read_settings(place):
    import torch
    from mmemo.training.runs import load_run
    run = load_run(place)
    with torch.inference_mode(): logits = run.model(HELD['batch']).logits.numpy()
    return [summed(np.round(logits, 5)), str(run.config), run.about['classes'], run.about['features']], []

@subject('model', 'run folders', 'model', '*.[js]*', 'ours', 2)
def read_saved(place):
    import torch
    from mmemo.models.registry import from_pretrained
    model = from_pretrained(place)
    with torch.inference_mode(): return [summed(np.round(model(HELD['batch']).logits.numpy(), 5))], []

def _extract(place, remove:str):
    from mmemo.corpora.manifest import load_corpus
    from mmemo.features.extract import extract
    corpus = load_corpus(place/'corpus')
    for folder in (place/'cache').glob(remove): shutil.rmtree(folder)
    store = extract(corpus, HELD['see'], HELD['hear'], cache=place/'cache', progress=False)
    packs = {m: summed(np.array(p.values), p.time, p.valid, p.offsets) for m, p in store.packs.items()}
    return [packs, sorted(store.quarantine.clip_id)], sorted(store.quarantine.reason)

@subject('tracks', 'cache', '.', 'cache/tracks/*/*', 'ours', 3)
def read_tracks(place): return _extract(place, 'packs')

@subject('packs', 'cache', '.', 'cache/packs/*/*', 'ours', 3)
def read_packs(place): return _extract(place, 'none')

@subject('notes of the cache', 'cache', '.', 'cache/quarantine.csv', 'ours')
def read_notes(place): return _extract(place, 'none')

@subject('prints', 'cache', '.', 'cache/guard/**/*.json', 'ours', 3)
def read_prints(place):
    from mmemo.corpora.leaks import check_leaks
    from mmemo.corpora.manifest import load_corpus
    report = check_leaks(load_corpus(place/'corpus'), cache=place/'cache', progress=False)
    return [re.sub(r'\d+\.\d+', '', str(report.facts)), table_sum(getattr(report, 'table', None))], []

@subject('transcripts', 'cache', '.', 'cache/transcripts/*/*', 'ours', 2)
def read_transcripts(place):
    from mmemo.corpora.manifest import load_corpus
    from mmemo.features.transcripts import transcribe
    corpus = load_corpus(place/'corpus')
    corpus.clips = corpus.clips.drop(columns=['transcript', 'words'], errors='ignore')
    heard = transcribe(corpus, HELD['listener'], cache=place/'cache', progress=False)
    return [table_sum(heard.clips)], []

@subject('mmemo cache list', 'cache', '.', 'cache/**/*.*', 'ours')
def command_cache(place):
    (status, _), lines = by_command('cache', 'list', '--cache', place/'cache')
    return [status], lines

@subject('embedded face', 'encoders', 'tiny-clip', '*.[jso]*', 'ours', 3)
def read_visual(place):
    from mmemo.features.encoders import load_text, load_visual
    face = load_visual(str(place), precision='fp32')(HELD['pictures'])
    return [summed(np.round(face, 4)), summed(np.round(load_text(str(place))(['a happy face', 'a sad face']), 4))], []

@subject('embedded voice', 'encoders', 'tiny-wav2vec2', '*.[js]*', 'ours', 2)
def read_speech(place):
    from mmemo.features.encoders import load_speech
    return [summed(np.round(load_speech(str(place), precision='fp32')(HELD['samples'])[0], 4))], []

@subject('other face', 'encoders', 'other-clip', '*.*', 'theirs', 2)
def read_other_visual(place):
    from mmemo.features.encoders import load_visual
    return [summed(np.round(load_visual(str(place), precision='fp32')(HELD['pictures']), 4))], []

@subject('other voice', 'encoders', 'other-wave', '*.*', 'theirs', 2)
def read_other_speech(place): return read_speech(place)

@subject('films', 'media', 'media', '*.*', 'media', 10)
def read_media(place, only=None):
    from mmemo.media.files import probe
    from mmemo.media.frames import VideoReader
    from mmemo.media.sound import read_audio
    out, told = {}, []
    for path in sorted(place.iterdir()):
        if path.suffix in ('.png', '.jpg'):
            from mmemo.media.pictures import read_picture
            picture = read_picture(path)
            out[path.name] = None if picture is None else summed(picture)
            if picture is None: told.append(f'{path.name}: cannot be read')
            continue
        if only and path != only: continue
        info = probe(path)
        frames = [f for _, part in VideoReader(path).chunks(8) for f in part] if info.has_video else []
        sound = read_audio(path)
        assert sound is None or np.isfinite(sound).all(), 'sound of no numbers'
        out[path.name] = [len(frames), None if sound is None else len(sound), summed(np.stack(frames)) if frames else '', '' if sound is None else summed(sound)]
    return out, told

HELD = {} # what a worker loads once


# The base: made once, small

def make_base(base:Path):
    "One of everything."
    import pandas as pd, torch
    from mmemo.corpora.leaks import check_leaks
    from mmemo.corpora.manifest import Corpus, load_corpus, save_corpus
    from mmemo.core import data_dir
    from mmemo.features.encoder_files import write_random_speech, write_random_visual
    from mmemo.features.extract import extract
    from mmemo.features.transcripts import transcribe
    from mmemo.models.registry import save_pretrained
    from mmemo.training.loop import TrainConfig
    from mmemo.training.run_config import RunConfig
    from mmemo.training.runs import run_experiment
    rng = np.random.default_rng(0)
    make_clips(base/'corpus', rng)
    corpus = load_corpus(base/'corpus')
    store = extract(corpus, 'tiny', 'tiny', cache=base/'cache', progress=False)
    check_leaks(corpus, cache=base/'cache', progress=False)
    silent = Corpus(corpus.name, corpus.root, corpus.clips.drop(columns=['transcript']), None, corpus.space)
    transcribe(silent, Listener(), cache=base/'cache', progress=False)
    (base/'cache'/'quarantine.csv').write_text('corpus,clip_id,path,reason\nother,x,x.mp4,x.mp4: No such file.\n')
    train = TrainConfig(epochs=1, lambda_text=0., device='cpu', progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        run = run_experiment(RunConfig(corpus=str(base/'corpus'), train=train), corpus, store, base/'run')
    from mmemo.pages.report import write_report
    write_report(base/'run')
    shutil.copytree(base/'run', base/'bare', ignore=shutil.ignore_patterns('checksums.txt'))
    save_pretrained(run.model, base/'model')
    torch.save(dict(dims=run.about['features']['dims']), base/'dims.pt')
    for name in ('tiny-clip', 'tiny-wav2vec2'): shutil.copytree(data_dir()/name, base/name)
    write_random_visual(base/'other-clip'); write_random_speech(base/'other-wave')
    make_tables(base/'tables', rng)
    make_labels(base, rng, sorted((base/'corpus').glob('*.mp4')))
    make_media(base, rng)

class Listener:
    "In place of Whisper."
    id, facts, name = 'nobody', dict(model='nobody', weights='', language='en', precision='fp32', version=1), 'nobody'
    def __call__(self, samples): return [('so', 0., .1), ('it', .1, .2), ('is', .2, round(len(samples)/16000, 3))]

def make_clips(folder:Path, rng, n:int=18):
    import pandas as pd
    from mmemo.corpora.manifest import Corpus, save_corpus
    from mmemo.media.files import write_clip
    folder.mkdir(parents=True)
    rows = []
    for i in range(n):
        still, step = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1), rng.integers(-6, 7, (8, 2)).cumsum(0)
        frames = [np.roll(still, tuple(s), (0, 1)) for s in step]
        write_clip(folder/f'c{i:02d}.mp4', frames, 25, .2*np.sin(np.arange(5120)*(.05 + .01*i)) + rng.normal(0, .02, 5120))
        rows.append(dict(clip_id=f'c{i:02d}', path=f'c{i:02d}.mp4', subject=f's{i//2}', split=['train', 'val', 'test'][i//6],
                         label=['Anger', 'Fear', 'Sadness'][i % 3], transcript=f'take {i} it is', start=0., end=.32))
    frames = pd.DataFrame([dict(clip_id=r['clip_id'], frame=k, time=k/25 + .02, valence=round(float(v), 3)) for r in rows for k, v in enumerate(rng.normal(size=8))])
    save_corpus(Corpus('corpus', folder, pd.DataFrame(rows), frames, 'expression8', dict(synthetic=True, target='made up')), folder)

def make_tables(folder:Path, rng):
    import pandas as pd
    folder.mkdir()
    t = pd.DataFrame(dict(clip_id=np.repeat([f'c{i:02d}' for i in range(12)], 5), time=np.tile(np.arange(5)/5 + .1, 12), **{f'au{k}': rng.normal(size=60) for k in range(6)}))
    t.to_csv(folder/'feats.csv', index=False); t.to_parquet(folder/'feats.parquet', index=False)
    np.savez(folder/'feats.npz', **{f'c{i:02d}': rng.normal(size=(5, 6)).astype('f4') for i in range(12)})

def make_labels(base:Path, rng, films):
    import h5py
    wild, root = base/'affwild2', base/'affwild2'/'EXPR_Recognition_Challenge'
    for part, some in (('Train_Set', films[:4]), ('Validation_Set', films[4:6])):
        (root/part).mkdir(parents=True)
        for f in some: (root/part/f'{f.stem}.txt').write_text('\n'.join(['Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other', *map(str, rng.integers(-1, 8, 8)), '']))
    (wild/'batch1').mkdir()
    for f in films[:6]: shutil.copy(f, wild/'batch1')
    cremad = base/'cremad'
    (cremad/'processedResults').mkdir(parents=True); (cremad/'AudioWAV').mkdir()
    stems = [f'{1001 + i}_IEO_{e}_HI' for i in range(3) for e in ('ANG', 'SAD', 'HAP')]
    head = '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"'
    (cremad/'processedResults'/'summaryTable.csv').write_text('\n'.join([head, *(f'"{k}","{s}","{s[9]}","60","{s[9]}","70","{s[9]}","{50 + k}"' for k, s in enumerate(stems, 1)), '']))
    (cremad/'VideoDemographics.csv').write_text('\n'.join(['"ActorID","Age","Sex","Race","Ethnicity"', *(f'{1001 + i},{30 + i},"Male","Caucasian","Not Hispanic"' for i in range(3)), '']))
    from mmemo.media.files import write_clip
    for s in stems: shutil.copy(base/'corpus'/'c00.mp4', cremad/'AudioWAV'/f'{s}.mp4')
    mosei = base/'mosei'
    mosei.mkdir()
    def write_csd(file, name, entries):
        with h5py.File(mosei/file, 'w') as f:
            for video, (features, intervals) in entries.items():
                f.create_dataset(f'{name}/data/{video}/features', data=features)
                f.create_dataset(f'{name}/data/{video}/intervals', data=intervals)
    videos = [f'v{i}' for i in range(6)]
    spans = np.array([[0., 1.], [1., 2.5]])
    steps = np.stack([np.arange(25)/10, np.arange(25)/10 + .1], 1)
    write_csd('CMU_MOSEI_Labels.csd', 'All Labels', {v: (rng.uniform(0, 3, (2, 7)).round(1), spans) for v in videos})
    write_csd('CMU_MOSEI_COVAREP.csd', 'COVAREP', {v: (rng.normal(size=(25, 74)).astype('f4'), steps) for v in videos})
    write_csd('CMU_MOSEI_VisualFacet42.csd', 'FACET 4.2', {v: (rng.normal(size=(25, 35)).astype('f4'), steps) for v in videos})
    (mosei/'folds.json').write_text(json.dumps(dict(train=videos[:3], valid=videos[3:4], test=videos[4:])))

def make_media(base:Path, rng):
    import av
    from PIL import Image
    media = base/'media'
    media.mkdir()
    y, x = np.mgrid[:48, :64]
    pictures = [(127 + 100*np.sin((x + y + 11*t)/7))[..., None].repeat(3, 2).astype(np.uint8) for t in range(20)]
    sound = (.3*np.sin(np.arange(12800)*.07)).astype(np.float32)
    def write(name, codec, voice):
        with av.open(str(media/name), 'w') as c:
            film = codec and c.add_stream(codec, rate=25)
            if film: film.width, film.height, film.pix_fmt = 64, 48, 'yuv420p'
            tone = voice and c.add_stream(voice, rate=16000, layout='mono')
            for p in pictures if film else (): c.mux(film.encode(av.VideoFrame.from_ndarray(p, format='rgb24')))
            if film: c.mux(film.encode())
            if tone:
                data = (sound*32767).astype(np.int16)[None]
                for a in range(0, data.shape[1], 1024):
                    frame = av.AudioFrame.from_ndarray(data[:, a:a + 1024], format='s16', layout='mono')
                    frame.sample_rate, frame.pts = 16000, a
                    for r in av.AudioResampler(tone.format.name, 'mono', 16000).resample(frame): c.mux(tone.encode(r))
                c.mux(tone.encode())
    for name, codec, voice in (('a.mp4', 'libx264', 'aac'), ('b.mkv', 'libx264', 'flac'), ('c.webm', 'libvpx-vp9', None), ('d.avi', 'mpeg4', 'pcm_s16le'), ('e.wav', None, 'pcm_s16le'), ('f.flac', None, 'flac')):
        write(name, codec, voice)
    Image.fromarray(pictures[0]).save(media/'g.png'); Image.fromarray(pictures[1]).save(media/'h.jpg')


# Workers: a case each, in a process that may die

def get_ready(base:Path):
    "What all cases of a worker share."
    import torch
    from mmemo.features.encoders import load_speech, load_visual
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    HELD.update(pictures=rng.integers(0, 255, (2, 64, 64, 3)).astype(np.uint8), samples=rng.normal(0, .1, 8000).astype(np.float32), listener=Listener())
    HELD.update(see=load_visual('tiny'), hear=load_speech('tiny'))
    dims = torch.load(base/'dims.pt')['dims']
    HELD['batch'] = make_batch(dims)

def make_batch(dims):
    import torch
    from mmemo.features.batch import Batch
    g = torch.Generator().manual_seed(0)
    lengths = dict(visual=8, audio=16, text=8)
    x = {m: torch.randn(2, lengths[m], d, generator=g) for m, d in dims.items()}
    mask = {m: torch.ones(2, lengths[m], dtype=torch.bool) for m in dims}
    time_ = {m: (torch.arange(lengths[m])*.32/lengths[m]).repeat(2, 1) for m in dims}
    return Batch(x=x, mask=mask, time=time_, y=torch.zeros(2, 8, dtype=torch.long), y_mask=torch.ones(2, 8, dtype=torch.bool), clip_id=['a', 'b'], frame=torch.arange(8).repeat(2, 1))

def copy_subject(base:Path, s:Subject, to:Path) -> Path:
    "The subject's folder as it is, in a place of its own."
    wanted = ('corpus', 'cache', 'run') if s.folder == '.' else (s.folder,)
    for name in wanted: shutil.copytree(base/name, to/name)
    return to if s.folder == '.' else to/s.folder

def run_case(base:Path, name:str, kind:str, seed:int, clean:bool=False) -> dict:
    "Copy, damage, read."
    from mmemo.core import UserError
    s, rng = SUBJECTS[name], np.random.default_rng([8, seed])
    with tempfile.TemporaryDirectory(prefix='damage-') as d:
        place = copy_subject(base, s, Path(d))
        victim = None
        if not clean:
            files = sorted(p for p in place.glob(s.files) if p.is_file() and p.name not in ('card.md', 'README.md', 'report.html') and (s.folder != 'corpus' or p.suffix != '.mp4'))
            victim = files[int(rng.integers(len(files)))]
            other = files[int(rng.integers(len(files)))].read_bytes()
            if kind not in list_kinds(victim): kind = str(rng.choice(list_kinds(victim)))
            do_damage(victim, kind, rng, other)
        row = dict(subject=name, kind=kind, seed=seed, file=victim and victim.name)
        begun = time.perf_counter()
        out, err = io.StringIO(), io.StringIO()
        with warnings.catch_warnings(record=True) as seen, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            warnings.simplefilter('always')
            try: row['figures'], row['told'] = s.read(place, victim) if s.trust == 'media' and victim else s.read(place)
            except (UserError, Named) as e: row['sentence'] = str(e)
            except OSError as e: row['sentence' if e.filename else 'error'] = str(e)
            except BaseException: row['error'] = traceback.format_exc()
        row['told'] = [*row.get('told', ()), *(str(w.message) for w in seen if w.category.__name__ == 'DamageWarning')]
        if s.trust == 'media' and victim and 'figures' in row:
            row['figures'] = row['figures'].get(victim.name)
        row['seconds'] = round(time.perf_counter() - begun, 3)
        return json.loads(json.dumps(row, default=str).replace(str(Path(d)), ''))

def judge(row:dict, whole:dict) -> str:
    "The outcome of a case; `whole` is what the undamaged files gave."
    trust = SUBJECTS[row['subject']].trust
    if 'error' in row: return 'traceback'
    if 'sentence' in row:
        text = row['sentence']
        folder = SUBJECTS[row['subject']].folder
        names = [row['file'], Path(row['file']).stem, folder if folder != '.' else 'run']
        return 'named' if any(n in text for n in names) and 'Traceback' not in text and len(text) < 1000 else 'no name'
    before = whole['figures']
    if trust == 'media': before = before.get(row['file'])
    news = sorted(row['told']) != sorted(whole['told'])
    if row['figures'] == before: return 'mended' if news else 'same'
    if news: return 'named'
    return {'ours': 'silent', 'theirs': 'as written', 'media': 'as decoded'}[trust]

def serve(pipe, base):
    "A worker: cases in, rows out."
    sys.path.insert(0, str(Path(__file__).parent))
    import damage
    damage.get_ready(Path(base))
    pipe.send('ready')
    while (case := pipe.recv()) is not None: pipe.send(damage.run_case(Path(base), *case))

class Worker:
    def __init__(self, base):
        ctx = multiprocessing.get_context('spawn')
        self.pipe, theirs = ctx.Pipe()
        self.process = ctx.Process(target=serve, args=(theirs, str(base)), daemon=True)
        self.process.start(); theirs.close()
        self.case, self.since, self.idle = None, time.monotonic(), False

    def give(self, case):
        self.case, self.since, self.idle = case, time.monotonic(), False
        self.pipe.send(case)

def plan(n:int, seed:int=0, only='') -> list: # (subject, kind, seed)
    "Cases: subjects by their share, kinds in turn."
    rng = np.random.default_rng([9, seed])
    names = [k for k, s in SUBJECTS.items() for _ in range(s.share) if only in k or only in s.group]
    kinds = [*JSON, 'recast']
    return [(names[i % len(names)], kinds[int(rng.integers(len(kinds)))], seed*100_000 + i) for i in range(n)]

def run_cases(base:Path, cases:list, workers:int=2, limit:float=30., watch=lambda row: None) -> list: # rows with their outcome
    "All cases, each in a worker; one that takes longer than `limit` seconds is a hang, one whose process dies a crash."
    rows, whole = [], {}
    todo = [(name, '', 0, True) for name in dict.fromkeys(c[0] for c in cases)] + [(*c, False) for c in cases]
    todo = todo[::-1]
    pool, late = [Worker(base) for _ in range(workers)], []
    def finish(case, row):
        if case[3]:
            assert 'figures' in row, f'{case[0]}: the whole files cannot be read: {row}'
            whole[case[0]] = row
        else: late.append(row)
    while todo or any(w.case for w in pool):
        wait([w.pipe for w in pool] + [w.process.sentinel for w in pool], timeout=.5)
        for k, w in enumerate(pool):
            lost = None
            try:
                if w.pipe.poll():
                    got = w.pipe.recv()
                    if got != 'ready': finish(w.case, got)
                    w.case, w.idle = None, True
            except (EOFError, OSError): lost = 'crash'
            if not lost and w.case and time.monotonic() - w.since > limit: lost = 'hang'
            if not lost and not w.process.is_alive(): lost = 'crash'
            if lost:
                if w.case: finish(w.case, dict(subject=w.case[0], kind=w.case[1], seed=w.case[2], file='', lost=lost))
                w.process.kill(); w.process.join()
                pool[k] = w = Worker(base)
            if w.idle and todo: w.give(todo.pop())
        for row in [r for r in late if r['subject'] in whole or 'lost' in r]:
            late.remove(row)
            row['outcome'] = row.get('lost') or judge(row, whole[row['subject']])
            rows.append(row); watch(row)
    for w in pool:
        with contextlib.suppress(OSError): w.pipe.send(None)
        w.process.join(5); w.process.kill()
    return rows
