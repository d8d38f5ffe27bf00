"""Six commands in a small form, killed or stopped by hand at random moments: the last finished result stands and loads, and the same command finishes afterwards.

`benchmarks/kills.py` does it sixty times, `tests/test_kills.py` six. Each command has two forms that write into one place, so that what stands there says which of them finished last.
"""
import contextlib, multiprocessing, os, re, signal, sys, time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ['PYTHONPATH'] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get('PYTHONPATH', '')]) # the process that forks the commands finds this room by its name
import mmemo.commands.compare, mmemo.commands.demo, mmemo.commands.evaluate, mmemo.commands.extract, mmemo.commands.predict, mmemo.commands.train, mmemo.explain.evidence, mmemo.features.transcripts, mmemo.pages.comparison, mmemo.pages.corpus, mmemo.training.compare, mmemo.training.floors
import transformers
from mmemo.commands.cli import main
from mmemo.core import read_json, rng_for
from mmemo.corpora.manifest import load_corpus, read_table
from mmemo.media.files import write_clip
from mmemo.media.frames import VideoReader
from mmemo.training.runs import load_run

WORDS = ['transcript', 'words', 'transcript_by']
NAMES = ('demo', 'train --overwrite', 'compare', 'transcribe', 'predict', 'corpus --out')
FORKS = multiprocessing.get_context('forkserver')
FORKS.set_forkserver_preload(['kills']) # libraries are loaded once; what is killed is work, not imports


def work(argv, folder, log, started):
    "A command in a process of its own."
    os.chdir(folder)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2): os.dup2(out, stream)
    torch.set_num_threads(1)
    started.set()
    sys.exit(main(argv))


def start(argv, folder, log):
    started = FORKS.Event()
    child = FORKS.Process(target=work, args=(list(map(str, argv)), str(folder), str(log), started))
    child.start()
    assert started.wait(120)
    return child


def text_of(page): # a whole page
    text = Path(page).read_text()
    assert text.rstrip().endswith('</html>'), f'{page} is not whole'
    return text


# what stands in a place: each loads all of it, and says which form wrote it

def read_run(out):
    run = load_run(out)
    text_of(out/'report.html')
    assert len(run.predictions) and (out/'card.md').stat().st_size
    return run.config.train.seed


def read_comparison(out):
    told = read_json(out/'compare.json')
    runs = [load_run(out/f'{r["model"]}-{s}') for r in told['rows'] for s in r['seeds']]
    rates = {r.config.train.lr for r in runs} | {told['shared']['train']['lr']}
    assert len(rates) == 1, 'the table is about the runs that stand beside it'
    assert set(pd.read_csv(out/'compare.csv').model) == {r['model'] for r in told['rows']}
    text_of(out/'compare.html')
    return rates.pop()


def read_demo(out):
    told, corpus = read_json(out/'demo.json'), load_corpus(out/'corpus')
    assert 'Small: ' in text_of(out/'report.html') and len(corpus) == 48 and all(corpus.path(row).is_file() for _, row in corpus.clips.iterrows())
    seeds = {read_run(out/m) for m in {r['model'] for r in told['rows']}}
    assert len(seeds) == 1, 'all runs are of one demo'
    return seeds.pop()


def read_words(out, before):
    table = read_table(out/'pilot.csv')
    pd.testing.assert_frame_equal(table.drop(columns=WORDS, errors='ignore'), before['pilot'].drop(columns=WORDS, errors='ignore'))
    assert (out/'manifest.csv').read_bytes() == before['study'], 'the table of the whole study is nobody\'s business'
    said = {words.split()[0] for words in table.transcript.dropna()} if 'transcript' in table else set()
    assert len(said) <= 1, 'one listener wrote all of it'
    return said.pop() if said else None


def read_prediction(out):
    rows, text = len(pd.read_csv(out/'frames.csv')), text_of(out/'report.html')
    name = re.search(r'<h1[^>]*>(\w+)\.mp4', text)[1]
    assert dict(ten=10, eight=8)[name] == rows, 'table and page are of one film'
    return name


def read_kept(out):
    corpus = load_corpus(out)
    assert all(corpus.path(row).is_file() for _, row in corpus.clips.iterrows()), 'rows and root belong together'
    assert list(pd.read_csv(out/'report.csv').columns) == ['kind', 'where', 'what', 'count'] and text_of(out/'page.html')
    return Path(corpus.root).name


@dataclass
class Case:
    "A command, its two forms, and what stands in its place."
    name: str
    forms: dict # what `read` says of it -> words
    read: object # () -> one of them; raises where what stands there is not whole
    place: Path
    now: object = None # what stands there
    seconds: float = 0. # that it takes


@dataclass
class Kills:
    "A folder in which commands work and are stopped."
    folder: Path
    cases: dict = field(default_factory=dict)
    rows: list = field(default_factory=list) # one a kill

    def entries(self) -> set: # what a person or a panel would see
        return {p.relative_to(self.folder) for d in ('.', 'runs', 'runs/demo', 'runs/mine', 'runs/compare', 'runs/predicted', 'kept', 'study') for p in (self.folder/d).glob('*') if not p.name.startswith('.')}

    def finish(self, case, form):
        "Let a command end, and look at what it left."
        child = start(case.forms[form], self.folder, self.folder/'log.txt')
        began = time.perf_counter()
        child.join(600)
        case.seconds = time.perf_counter() - began
        assert child.exitcode == 0, f'{case.name}: {child.exitcode}\n' + (self.folder/'log.txt').read_text()[-2000:]
        assert case.read() == form, case.name
        left = [p for p in self.folder.rglob('.half*')] + [p for p in self.folder.rglob('.rendered')]
        assert not left, f'{case.name} leaves {left}'
        case.now = form
        return case.seconds

    def kill(self, case, sign, share):
        "Stop a command after a share of the time that it takes; then let it finish."
        form, beside = next(f for f in case.forms if f != case.now), self.entries()
        child = start(case.forms[form], self.folder, self.folder/'log.txt')
        time.sleep(share*case.seconds)
        is_late = not child.is_alive()
        with contextlib.suppress(ProcessLookupError): os.kill(child.pid, sign)
        child.join(60)
        said = (self.folder/'log.txt').read_text()
        if sign == signal.SIGINT and not is_late: assert child.exitcode in (0, 130) and (child.exitcode == 0 or 'mmemo: stopped. ' in said), said[-2000:]
        seen = case.read() # all of it is loaded
        assert seen in (case.now, form), f'{case.name}: {seen} stands there, expected {case.now} or {form}'
        assert self.entries() == beside, f'{case.name} leaves what looks like a result: {self.entries() - beside}'
        took = self.finish(case, form)
        self.rows.append(dict(command=case.name, signal=signal.Signals(sign).name, after_s=round(share*case.seconds, 2), stands='new' if seen == form else 'old',
                              ended_before=is_late, finished_in_s=round(took, 2)))


def prepare(folder) -> Kills:
    "A small demo, films, a study with a pilot, and two listeners; each command once."
    from test_text import planted_whisper
    folder = Path(folder).resolve()
    os.environ['MMEMO_CACHE'] = str(folder/'cache')
    runs, kills = folder/'runs', Kills(folder)
    quick = ('--train.no-progress', '--train.device', 'cpu', '--train.lambda-text', '0')
    demo = Case('demo', {s: ('demo', '--clips', 48, '--seed', s, '--out', runs/'demo') for s in (0, 1)}, partial(read_demo, runs/'demo'), runs/'demo')
    kills.finish(demo, 0)
    corpus = runs/'demo'/'corpus'
    train = ('train', '--corpus', corpus, '--model', 'visual', *quick, '--train.epochs', 4, '--out', runs/'mine', '--overwrite')
    compare = ('compare', '--corpus', corpus, '--models', 'linear', 'visual', '--seeds', 1, '--workers', 1, *quick[1:], '--train.epochs', 2, '--out', runs/'compare', '--overwrite')
    films = folder/'films'
    first = load_corpus(corpus).path(load_corpus(corpus).clips.iloc[0].clip_id)
    reader = VideoReader(first)
    sound = rng_for('kills').normal(0, .1, 16000).astype(np.float32)
    for name, n in (('ten', 10), ('eight', 8)): write_clip(films/f'{name}.mp4', reader.frames(range(n)), 10, sound[:1600*n])
    for name in ('ann', 'bob'):
        for emotion in ('happy', 'sad'):
            for i in range(3): write_clip(folder/name/emotion/f'{name}-{i}.mp4', reader.frames([i, i + 1, i + 2]), 10, sound[:4800])
    study = folder/'study'
    study.mkdir()
    clips = pd.DataFrame(dict(clip_id=['c007', 'c7', 'c1.10'], path=[str(films/'ten.mp4'), str(films/'eight.mp4'), str(films/'ten.mp4')], subject=['NA', '01', '1'], note=['', '3.10', 'x']))
    clips.to_csv(study/'manifest.csv', index=False)
    clips[:2].to_csv(study/'pilot.csv', index=False)
    before = dict(pilot=read_table(study/'pilot.csv'), study=(study/'manifest.csv').read_bytes())
    for name, said in (('a', ' no yes go'), ('b', ' go no yes')): planted_whisper(folder/'whisper'/name, said)
    hear = {said: ('transcribe', study/'pilot.csv', '--model', folder/'whisper'/name, '--again', '--cache', folder/'cache') for name, said in (('a', 'no'), ('b', 'go'))}
    cases = [demo,
             Case('train --overwrite', {s: (*train, '--train.seed', s) for s in (0, 1)}, partial(read_run, runs/'mine'), runs/'mine'),
             Case('compare', {lr: (*compare, '--train.lr', lr) for lr in (.001, .002)}, partial(read_comparison, runs/'compare'), runs/'compare'),
             Case('transcribe', hear, partial(read_words, study, before), study),
             Case('predict', {n: ('predict', films/f'{n}.mp4', '--run', runs/'demo'/'bicross', '--faces', 'none', '--out', runs/'predicted') for n in ('ten', 'eight')}, partial(read_prediction, runs/'predicted'), runs/'predicted'),
             Case('corpus --out', {n: ('corpus', 'folder', folder/n, '--pictures', 4, '--overwrite', '--out', folder/'kept') for n in ('ann', 'bob')}, partial(read_kept, folder/'kept'), folder/'kept')]
    for case in cases[1:]: kills.finish(case, next(iter(case.forms)))
    kills.cases = {c.name: c for c in cases}
    assert tuple(kills.cases) == NAMES
    return kills


def kill_in_turn(kills:Kills, n:int, seed:int=0, tell=lambda row: None) -> pd.DataFrame: # one row a kill
    "Commands in turn, two kills to one Ctrl-C, at moments that are drawn."
    rng, names = rng_for('kills', seed), list(kills.cases)
    for i in range(n):
        case = kills.cases[names[i % len(names)]]
        kills.kill(case, signal.SIGINT if i//len(names) % 3 == 2 else signal.SIGKILL, rng.uniform(.02, 1.))
        tell(kills.rows[-1])
    return pd.DataFrame(kills.rows)
