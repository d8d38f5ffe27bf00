"""Commands that are killed: does the last finished result stand, at every moment?

    python benchmarks/kills.py              # sixty kills, a quarter of an hour at most on two cores

Six commands in a small form (`demo --clips 48`, `train --overwrite`, `compare --overwrite`, `transcribe`, `predict`, `corpus --out --overwrite`) write over what an earlier one left, and are stopped at moments drawn
from the time that they take: two of three by SIGKILL, the third by Ctrl-C. After each, what stands in the place is loaded whole (runs with their weights, tables, pages, every clip) and must be the earlier result or
the new one; then the same command is run to its end, must have written the new one, and may leave no dot file. The code is that of `tests/kills.py`, and `make test-slow` does six.
"""
import os, platform, sys, tempfile, time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import tyro

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT/'tests')]
import kills
from mmemo.core import write_json


@dataclass
class Settings:
    kills: int = 60
    seed: int = 0
    out: Path = Path('benchmarks/results/kills.json')


def main(s:Settings):
    began, rows = time.perf_counter(), []
    count = lambda: pd.DataFrame(rows).groupby(['command', 'signal', 'stands']).size().rename('kills').reset_index()

    def tell(row):
        "Print and keep each kill; a failure ends the benchmark with its reason."
        rows.append(row)
        print(row, flush=True)
        write_json(s.out, dict(date=str(date.today()), command='python benchmarks/kills.py', seed=s.seed, cores=os.cpu_count(), load=round(os.getloadavg()[0], 1), python=platform.python_version(),
                               seconds=round(time.perf_counter() - began), kills=len(rows), of=s.kills, lost=0, half_taken_for_whole=0, table=count().to_dict('records'), rows=rows))

    with tempfile.TemporaryDirectory(prefix='mmemo-kills-', ignore_cleanup_errors=True) as folder:
        kills.kill_in_turn(kills.prepare(folder), s.kills, s.seed, tell)
    print(count().to_string(index=False))


if __name__ == '__main__': main(tyro.cli(Settings, description=__doc__))
