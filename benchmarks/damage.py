"""Three thousand damaged files: what is made of manifests, label files, feature tables, run folders, the cache, encoders, media and settings that a disk or a download has spoiled.

    python benchmarks/damage.py               # 3,000 inputs, about ten minutes on two cores
    python benchmarks/damage.py --n 300 --seed 1 --only cache

One of each is made first (18 small films, a corpus, a cache, a run, encoders, tables, label files); then a copy is damaged in one way and read as people read it, from Python or by a command, in a process that may
hang or die. `tests/damage.py` says what the outcomes mean. What must not happen: a traceback, a hang, a crash, a sentence that does not name the file, and other figures without a word from what was written here.
Two columns are honest about what nobody can know: *as written* (one valid value in place of another in a table, label file or folder of somebody else's, which carries no checksum) and *as decoded* (a film or a sound
whose decoder takes the damage).
"""
import sys, tempfile, time
from collections import Counter
from datetime import date
from pathlib import Path

import pandas as pd
import tyro
from tqdm.auto import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent/'tests'))
import damage
from mmemo.core import write_json


def tabulate(rows:list, by:str) -> pd.DataFrame: # a row a group, a column an outcome
    "How many of each outcome."
    table = pd.crosstab([r[by] for r in rows], [r['outcome'] for r in rows])
    table = table.reindex(columns=list(damage.OUTCOMES), fill_value=0)
    table.index.name, table.columns.name = None, None
    return pd.concat([table.assign(all=table.sum(axis=1)), table.sum().to_frame('all').T.assign(all=len(rows))])


def main(n:int=3000, # damaged inputs
         seed:int=0, workers:int=2, only:str='', # only subjects or groups whose name holds this
         base:Path|None=None, # a folder that a run before this made
         out:Path=Path(__file__).parent/'results'/'damage.json'):
    "Make, damage, read, count."
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix='damage-base-') as made:
        folder = base or Path(made)/'base'
        if not folder.exists(): damage.make_base(folder)
        with tqdm(total=n, unit='file') as bar:
            rows = damage.run_cases(folder, damage.plan(n, seed, only), workers, watch=lambda row: bar.update())
    for r in rows: r['group'] = damage.SUBJECTS[r['subject']].group
    tables = {by: tabulate(rows, by) for by in ('group', 'subject', 'kind')}
    for by, table in tables.items(): print(f'\nby {by}\n{table.to_string()}')
    bad = [r for r in rows if r['outcome'] in damage.BAD]
    for r in bad: print(f"\n{r['outcome']}: {r['subject']}, {r['kind']}, seed {r['seed']}, {r.get('file')}\n{(r.get('error') or r.get('sentence') or '')[-1500:]}")
    seconds = round(time.perf_counter() - begun, 1)
    print(f"\n{len(rows)} damaged inputs in {seconds:.0f} s: {sum(r['outcome'] == 'traceback' for r in rows)} tracebacks, "
          f"{sum(r['outcome'] in ('hang', 'crash') for r in rows)} hangs or crashes, {sum(r['outcome'] == 'silent' for r in rows)} silent changes of a figure.")
    if not only:
        write_json(out, dict(date=date.today().isoformat(), command='python benchmarks/damage.py', seed=seed, inputs=len(rows), seconds=seconds, workers=workers,
                             outcomes=Counter(r['outcome'] for r in rows), **{by: t.to_dict('index') for by, t in tables.items()}))
    return 1 if bad else 0


if __name__ == '__main__': sys.exit(tyro.cli(main))
