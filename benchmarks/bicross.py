"""Which chosen parts of System 1 earn their place? Planted clips, subjects apart, three trainings each.

    python benchmarks/bicross.py                # each part taken out of the default, put into it, and alone in what the paper states; about two hours on two cores
    python benchmarks/bicross.py --seeds 0 --rows default 'no meeting'   # a look

Everything here is synthetic. The corpus has as many training clips as the demo's, and more test clips (1,600 of 28 people), so that each part of it is judged by
240 or more. While the default was built generator 61 was looked at, and 62, which this stands on, twice. Differences are paired, their intervals hold the chance of people and
of training. Predictions are kept in --out: a benchmark that was cut short goes on.
"""
import os, time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
import tyro

from mmemo.core import stable_hash, write_json
from mmemo.corpora.manifest import write_table
from mmemo.features.extract import extract
from mmemo.models.intervene import intervene
from mmemo.planted.corpus import SUBSETS, PlantedConfig, make_planted
from mmemo.training.card import format_figure
from mmemo.training.compare import pool_seeds
from mmemo.training.evaluation import compare_predictions, find_subsets, measure_score, predict, restrict_classes
from mmemo.training.loop import TrainConfig, make_objective, train
from mmemo.training.run_config import RunConfig
from mmemo.training.runs import build_for, embed_anchors, split_windows, takes_text

# taken out of the default
OUT = {'no own answers': dict(own_heads=False, gates=False), 'no gates': dict(gates=False), 'no dropout of the joint answer': dict(joint_dropout=0.), 'no reach': dict(reach=()), 'no meeting': dict(meet=False), 'no reach, no meeting': dict(reach=(), meet=False),
       'no TCN of the voice': dict(voice_tcn=False), 'no path round the TCN': dict(residual=False), 'no deviation': dict(deviation=False),
       'no time in the streams': dict(positions=False), 'no missing token': dict(token=False), 'no channel dropout': dict(channel_dropout=0.),
       'no modality dropout': dict(modality_dropout=0.), 'norm after the sum': dict(norm='post')}
# put into it
IN = {'with a product of pooled vectors': dict(product=True), 'with pooling by attention': dict(pool='attention')}
# trained otherwise
TRAINED = {'no text guide': dict(lambda_text=0.), 'labels not smoothed': dict(smoothing=0.), 'own answers weigh 1': dict(lambda_alone=1.), 'own answers weigh nothing': dict(lambda_alone=0.)}
# what the paper states, at the default's width and with its recipe; and one part alone in it
BARE = dict(own_heads=False, gates=False, joint_dropout=0., reach=(), meet=False, voice_tcn=False, residual=False, deviation=False, positions=False, token=False, channel_dropout=0., modality_dropout=0., norm='post')
ALONE = {'own answers': dict(own_heads=True), 'own answers and gates': dict(own_heads=True, gates=True, joint_dropout=.1), 'reach': dict(reach=(.1, .3, 1., 10.)), 'meeting': dict(meet=True), 'reach and meeting': dict(reach=(.1, .3, 1., 10.), meet=True),
         'TCN of the voice': dict(voice_tcn=True), 'path round the TCN': dict(residual=True), 'deviation': dict(deviation=True), 'time in the streams': dict(positions=True),
         'channel dropout': dict(channel_dropout=.3), 'modality dropout': dict(modality_dropout=.1), 'norm before': dict(norm='pre')}
ROWS = {'default': {}, **OUT, **IN, 'bare': BARE, **{f'bare, {k}': BARE | v for k, v in ALONE.items()}}


@dataclass
class Settings:
    out: Path = Path('runs/bicross') # corpus and predictions
    generator: int = 62 # seed of the corpus; 61 was looked at while the default was built
    seeds: tuple[int, ...] = (0, 1, 2)
    rows: tuple[str, ...] = () # some of them only
    workers: int = 2 # trainings at once, one thread each
    results: Path = Path('benchmarks/results')
    train: TrainConfig = field(default_factory=lambda: TrainConfig(progress=False, device='cpu'))


def make_corpus(s:Settings):
    return make_planted(s.out/f'corpus-{s.generator}', PlantedConfig(seed=s.generator, test_subjects=28, test_clips=1600))


def list_rows(s:Settings) -> dict: # row -> (options, settings of the training)
    rows = {n: (o, {}) for n, o in ROWS.items()} | {n: ({}, o) for n, o in TRAINED.items()}
    return {n: rows[n] for n in s.rows or rows}


def predict_both(model, windows) -> pd.DataFrame: # predictions, and what is predicted with uniform attention
    base = predict(model, windows)
    with intervene(model, 'uniform'): other = predict(model, windows)
    return base.assign(uniform=other.predicted)


def one(job:tuple) -> pd.DataFrame: # (settings, corpus, row, its plan, seed); in a process of its own, on one thread
    "Predictions on the test subjects, kept."
    s, corpus, row, (options, changes), seed = job
    config = RunConfig(model='bicross', corpus='planted', encoders='tiny', options=options, train=replace(s.train, seed=seed, **changes))
    path = s.out/f"{row.replace(' ', '-').replace(',', '')}-{seed}-{stable_hash((config, s.generator))[:10]}.parquet"
    if path.exists(): return pd.read_parquet(path)
    torch.set_num_threads(1)
    start, store = time.perf_counter(), extract(corpus, 'tiny', 'tiny', progress=False)
    windows = split_windows(config, corpus, store)
    anchors = embed_anchors(config, corpus.labels) if takes_text(config) else None
    model = build_for(config, windows['train'], anchors)
    history = train(model, windows['train'], windows['val'], config.train, make_objective(config.train, windows['train'], corpus.labels.n, anchors))
    table = predict_both(model, windows['test']).assign(parameters=sum(p.numel() for p in model.parameters()))
    parts = table.clip_id.map(corpus.clips.set_index('clip_id').subset)
    right = (table.predicted.astype(str) == table.label.astype(str)).groupby(parts.to_numpy()).mean().round(3).to_dict()
    print(f'{row}, seed {seed}: {len(history)} epochs, {(time.perf_counter() - start) / 60:.1f} min', right, flush=True)
    write_table(table, path)
    return table


def compare_rows(found:dict, corpus, base:str, rows:list) -> list: # of dictionaries, one a row and part
    "Accuracy of each row on each part, and its difference to the base; parts of two classes are decided between them."
    told, parts = [], {'all': dict(clips=set(corpus.clips.clip_id), restrict=None), **find_subsets(corpus)}
    for row in rows:
        for name, part in parts.items():
            ours, theirs = (found[r][found[r].clip_id.isin(part['clips'])].reset_index(drop=True) for r in (row, base))
            gap = None if row == base else compare_predictions(ours, theirs, 'accuracy', restrict=part['restrict'])
            bent = (ours.uniform.astype(str) == ours.label.astype(str)).mean() - (ours.predicted.astype(str) == ours.label.astype(str)).mean()
            if part['restrict']: ours = restrict_classes(ours, part['restrict'])
            told.append(dict(row=row, part=name, base=base, accuracy=measure_score(ours, 'accuracy'), minus_base=gap, uniform=float(bent),
                             parameters=int(ours.parameters.iloc[0])))
    return told


def show(told:list):
    "One line a row: accuracy by part; differences to the base below."
    table = pd.DataFrame([dict(row=t['row'], part=t['part'], text=f"{t['accuracy']['value']:.3f}" if t['minus_base'] is None else
                               f"{t['accuracy']['value']:.3f} ({t['minus_base']['value']:+.3f} [{t['minus_base']['ci95'][0]:+.3f}, {t['minus_base']['ci95'][1]:+.3f}])") for t in told])
    print(table.pivot(index='row', columns='part', values='text')[['all', *SUBSETS]].reindex(table.row.unique()).to_string())
    print('What uniform attention changes in accuracy, all clips, eight classes:', {t['row']: round(t['uniform'], 3) for t in told if t['part'] == 'all'})


def main(s:Settings):
    start, corpus, rows = time.perf_counter(), make_corpus(s), list_rows(s)
    extract(corpus, 'tiny', 'tiny')
    jobs = [(s, corpus, row, plan, seed) for seed in s.seeds for row, plan in rows.items()]
    if s.workers > 1:
        with ProcessPoolExecutor(s.workers, get_context('spawn')) as pool: tables = list(pool.map(one, jobs))
    else: tables = list(map(one, jobs))
    found = {row: pool_seeds({j[4]: t for j, t in zip(jobs, tables) if j[2] == row}) for row in rows}
    groups = {base: [r for r in rows if r.startswith('bare') == (base == 'bare')] for base in ('default', 'bare') if base in rows}
    told = [t for base, names in groups.items() for t in compare_rows(found, corpus, base, names)]
    for base in groups: show([t for t in told if t['base'] == base])
    print(f'Synthetic, generator {s.generator}, {len(s.seeds)} trainings each; looks taken: {sum(t["minus_base"] is not None for t in told)}')
    if s.rows: return # a look
    write_json(s.results/'bicross.json', dict(synthetic=True, date=str(date.today()), command='python benchmarks/bicross.py', rows=told,
               generator=s.generator, seeds=s.seeds, train=s.train, minutes=round((time.perf_counter() - start) / 60, 1)))


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))
