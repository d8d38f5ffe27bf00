"""The demo's table on a larger planted corpus, three generator seeds times three training seeds: the figures to quote.

    python benchmarks/planted.py                       # about 45 minutes on two cores
    python benchmarks/planted.py --nuisance            # the curve of probe accuracy against nuisance, with its floors
    python benchmarks/planted.py --generators 101 --trainings 0 --small   # a look, in a few minutes

Everything here is synthetic. The generator seeds were not used while anything was built.
"""
import json, time
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import pandas as pd
import tyro

from mmemo.core import write_json
from mmemo.commands.demo import format_figure, format_table
from mmemo.training.floors import probe_states
from mmemo.training.evaluation import evaluate
from mmemo.features.extract import extract
from mmemo.training.floors import measure_nuisance
from mmemo.planted.corpus import PlantedConfig, SUBSETS, make_planted
from mmemo.training.run_config import RunConfig
from mmemo.training.runs import run_experiment
from mmemo.training.loop import TrainConfig

MODELS = ('bicross', 'visual', 'audio', 'linear')


@dataclass
class Settings:
    out: Path = Path('runs/benchmark') # corpora, runs and results
    generators: tuple[int, ...] = (21, 22, 23) # seeds of the generator
    trainings: tuple[int, ...] = (0, 1, 2) # seeds of the training
    models: tuple[str, ...] = MODELS
    nuisance: bool = False # the nuisance curve instead of the table
    small: bool = False # the demo's size instead of the larger one


def config_of(s:Settings, seed:int) -> PlantedConfig:
    "100 quartets among the test clips, 28 test subjects; as many training clips as the demo has."
    if s.small: return PlantedConfig(seed=seed)
    return PlantedConfig(seed=seed, test_subjects=28, test_clips=1600)


def pooled_over_runs(found:list) -> tuple: # [(generator seed, training seed, corpus, predictions)]
    "All runs of one model as one table; a subject of another generator is another subject, and keeps its training seeds together."
    tables, clips = [], {}
    for generator, training, corpus, pred in found:
        name = lambda t: t.assign(clip_id=f'{generator}-{training}-' + t.clip_id, subject=f'{generator}-' + t.subject)
        tables.append(name(pred))
        clips[generator, training] = name(corpus.clips)
    return pd.concat(tables, ignore_index=True), replace(found[0][2], clips=pd.concat(clips.values(), ignore_index=True), frames=None)


def main(s:Settings):
    start, found, controls = time.perf_counter(), {m: [] for m in s.models}, []
    for g in s.generators:
        corpus = make_planted(s.out/f'planted-{g}{"-small" if s.small else ""}', config_of(s, g))
        store = extract(corpus, 'tiny', 'tiny')
        controls += [dict(generator=g, **row) for row in probe_states(corpus, store, floors=False) if row['kind'] == 'cue']
        for t in s.trainings:
            for m in s.models:
                run = run_experiment(RunConfig(model=m, corpus=str(corpus.root), train=TrainConfig(seed=t, progress=False)),
                                     corpus, store, s.out/f'{m}-{g}-{t}', overwrite=True)
                found[m].append((g, t, corpus, run.predictions[run.predictions.split == 'test']))
                print(g, t, m, {k: round(run.scores[k]['accuracy' if k == 'xor' else 'macro_f1']['value'], 3) for k in run.scores}, flush=True)
    rows, losses = [], {}
    for m, parts in found.items():
        scores = evaluate(*pooled_over_runs(parts))
        for subset in ('all', *SUBSETS):
            each = scores[subset]
            rows.append(dict(model=m, subset=subset, n_clips=each['n_clips'], n_subjects=each['accuracy']['n_groups'],
                             **{k: {f: each[k][f] for f in ('value', 'ci95')} for k in ('macro_f1', 'accuracy')}))
        losses[m] = {k: scores['xor'][k]['value'] for k in ('log_loss', 'prior_log_loss')}
    told = dict(synthetic=True, date=str(date.today()), command='python benchmarks/planted.py', rows=rows, xor_log_loss=losses, controls=controls,
                generators=s.generators, trainings=s.trainings, version=corpus.facts['version'], encoders=store.facts['encoders'],
                minutes=round((time.perf_counter() - start) / 60, 1))
    write_json((Path('benchmarks/results') if not s.small else s.out)/'planted.json', told)
    print('\nSynthetic. Macro-F1\n', format_table(rows, 'macro_f1'), '\n\nAccuracy\n', format_table(rows, 'accuracy'), sep='')
    print('\nXOR log-loss', json.dumps(losses, indent=1), '\nstates from their own stream', *(f"{c['generator']} {c['modality']} {format_figure(c)}" for c in controls), sep='\n')


def curve(s:Settings):
    base = PlantedConfig(seed=31, train_clips=320, val_clips=16, test_clips=192)
    table = measure_nuisance(partial(extract, visual='tiny', speech='tiny'), s.out/'nuisance', config=base)
    told = dict(synthetic=True, date=str(date.today()), command='python benchmarks/planted.py --nuisance', rows=table.to_dict('records'))
    write_json((Path('benchmarks/results') if not s.small else s.out)/'nuisance.json', told)
    print(table.pivot_table(index=['modality', 'kind', 'features'], columns='nuisance', values='value').round(3))


if __name__ == '__main__':
    settings = tyro.cli(Settings, description=__doc__)
    curve(settings) if settings.nuisance else main(settings)
