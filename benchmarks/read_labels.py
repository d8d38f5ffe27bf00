"""How fast Aff-Wild2's label files are read, and in how much memory: 2,000 files of 5,000 lines, ten million frames.

The files are written into a temporary folder; each reading runs in a process of its own, which tells its peak memory.
No videos, no pictures: this is the price of the labels alone, from the folder to the table, with files that were just
written and so lie in memory. Run it on a machine that does nothing else.

    python benchmarks/read_labels.py               # both tasks, three runs each
    python benchmarks/read_labels.py --files 100   # a quick look, and what it would mean for 2,000 files
"""
import json, os, platform, subprocess, sys, tempfile, time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro


@dataclass
class Config:
    files: int = 2000  # label files
    lines: int = 5000  # of each
    runs: int = 3      # of which the median is printed
    invalid: float = .05 # share of lines without a label
    out: Path | None = None # a JSON file for the figures


FOLDERS = dict(expr='EXPR_Recognition_Challenge', va='VA_Estimation_Challenge')
READ = '''
import json, resource, sys, time
from mmemo.corpora.affwild2 import read_affwild2
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*(1 if sys.platform == 'darwin' else 1024)/2**20
base = peak()
begun = time.perf_counter()
corpus, report = read_affwild2(sys.argv[1], sys.argv[2], probe_videos=False, progress=False)
seconds = time.perf_counter() - begun
frames = corpus.frames
there = (frames.label >= 0).sum() if sys.argv[2] == 'expr' else frames.valence.notna().sum()
table = int(frames.memory_usage(deep=True).sum())/2**20
print(json.dumps(dict(seconds=seconds, peak_mb=peak(), import_mb=base, table_mb=table, frames=len(frames),
                      clips=len(corpus), labelled=int(there))))
'''


def write_files(root, config):
    "Both tasks' label files, fifty different ones written again and again; returns how many labels there are."
    labelled, rng = dict(expr=0, va=0), np.random.default_rng(0)
    for task, folder in FOLDERS.items():
        texts = []
        for _ in range(min(config.files, 50)):
            none = rng.random(config.lines) < config.invalid
            if task == 'expr':
                lines = np.where(none, -1, rng.integers(0, 8, config.lines)).astype(str)
                head = 'Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other'
            else:
                values = np.where(none[:, None], -5, rng.uniform(-1, 1, (config.lines, 2)).round(3))
                lines, head = [f'{v:g},{a:g}' for v, a in values], 'valence,arousal'
            texts.append(('\n'.join([head, *lines]) + '\n', int((~none).sum())))
        for i in range(config.files):
            place = root/'6th_ABAW_Annotations'/folder/('Validation_Set' if i % 5 == 4 else 'Train_Set')/f'video{i}.txt'
            place.parent.mkdir(parents=True, exist_ok=True)
            text, n = texts[i % len(texts)]
            place.write_text(text); labelled[task] += n
    return labelled


def conditions(config):
    info = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').is_file() else []
    cpu = next((l.split(':')[1].strip() for l in info if l.startswith('model name')), platform.processor())
    return dict(date=time.strftime('%Y-%m-%d'), cpu=cpu, cores=os.cpu_count(), python=platform.python_version(),
                numpy=np.__version__, pandas=pd.__version__, load=round(os.getloadavg()[0], 1),
                files=config.files, lines=config.lines, runs=config.runs)


def main(config: Config):
    figures = conditions(config)
    print(', '.join(f'{k}: {v}' for k, v in figures.items()), flush=True)
    with tempfile.TemporaryDirectory() as tmp:
        labelled = write_files(Path(tmp), config)
        for task in FOLDERS:
            rows = []
            for i in range(config.runs):
                out = subprocess.run([sys.executable, '-c', READ, tmp, task], capture_output=True, text=True)
                if out.returncode: raise SystemExit(out.stderr)
                rows.append(json.loads(out.stdout.splitlines()[-1]))
                expected = config.files*config.lines, labelled[task]
                assert (rows[-1]['frames'], rows[-1]['labelled']) == expected, rows[-1]
            m = pd.DataFrame(rows).median()
            figures[task] = m.to_dict()
            print(f"{task}: {m.seconds:.2f} s for {m.frames:.0f} frames in {m.clips:.0f} files "
                  f"({m.frames/m.seconds/1e6:.2f} M frames/s), {m.peak_mb:.0f} MB at most "
                  f"({m.import_mb:.0f} MB of it before reading), the table {m.table_mb:.0f} MB "
                  "(to reach, for 10 M frames: 20 s, 2048 MB)", flush=True)
            if (share := 10e6/m.frames) != 1:
                memory = m.import_mb + (m.peak_mb - m.import_mb)*share
                print(f'   in proportion, 10 M frames: {m.seconds*share:.1f} s, {memory:.0f} MB')
    if config.out: config.out.write_text(json.dumps(figures, indent=1) + '\n')


if __name__ == '__main__': main(tyro.cli(Config))
