"""Every registered model on a larger planted corpus, three trainings each: the figures to quote.

    python benchmarks/planted.py                       # three hours of one core
    python benchmarks/planted.py --nuisance            # the curve of probe accuracy against nuisance, with its floors
    python benchmarks/planted.py --small --models bicross linear --seeds 1   # a look, in a few minutes

Everything here is synthetic. The corpus has as many training clips as the demo's, and more test clips (1,600 of 28 people), so that each part of it is judged by
240 or more; nothing was chosen on its generator seed (21). The table is `mmemo compare`'s, which goes on where it was cut short.
"""
import shutil
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import tyro

from mmemo.core import write_json
from mmemo.training.compare import compare
from mmemo.training.intervals import format_ci
from mmemo.training.floors import measure_nuisance, probe_states
from mmemo.features.extract import extract
from mmemo.planted.corpus import PlantedConfig, make_planted

RESULTS = Path('benchmarks/results')


@dataclass
class Settings:
    out: Path = Path('runs/benchmark') # corpus, runs and table
    generator: int = 21 # its seed
    models: tuple[str, ...] = ('all',)
    seeds: int = 3 # trainings of each
    workers: int = 0 # trainings at once; 0: one a core
    nuisance: bool = False # the nuisance curve instead of the table
    small: bool = False # the demo's size instead of the larger one; nothing is written to results


def main(s:Settings):
    config = PlantedConfig(seed=s.generator) if s.small else PlantedConfig(seed=s.generator, test_subjects=28, test_clips=1600)
    corpus = make_planted(s.out/f'planted-{s.generator}{"-small" if s.small else ""}', config)
    store = extract(corpus, 'tiny', 'tiny')
    out = s.out/f'models-{s.generator}{"-small" if s.small else ""}'
    compare(corpus, store, s.models, out, against='bicross', seeds=s.seeds, workers=s.workers)
    controls = [r for r in probe_states(corpus, store, floors=False) if r['kind'] != 'emotion']
    print('States from their own stream (accuracy of a linear probe):')
    for r in controls: print(f"{r['modality']} {r['kind']} {r['value']:.3f} {format_ci(r['ci95'], '.3f')}")
    if s.small or s.models != ('all',): return
    shutil.copyfile(out/'compare.csv', RESULTS/'planted.csv')
    write_json(RESULTS/'planted.json', dict(synthetic=True, date=str(date.today()), command='python benchmarks/planted.py', generator=s.generator, seeds=s.seeds,
                                            version=corpus.facts['version'], encoders=store.facts['encoders'], controls=controls))


def curve(s:Settings):
    base = PlantedConfig(seed=31, train_clips=320, val_clips=16, test_clips=192)
    table = measure_nuisance(partial(extract, visual='tiny', speech='tiny'), s.out/'nuisance', config=base)
    told = dict(synthetic=True, date=str(date.today()), command='python benchmarks/planted.py --nuisance', rows=table.to_dict('records'))
    write_json((s.out if s.small else RESULTS)/'nuisance.json', told)
    print(table.pivot_table(index=['modality', 'kind', 'features'], columns='nuisance', values='value').round(3))


if __name__ == '__main__':
    settings = tyro.cli(Settings, description=__doc__)
    curve(settings) if settings.nuisance else main(settings)
