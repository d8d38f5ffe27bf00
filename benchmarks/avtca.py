"""System 2 from pixels, against the same model without its eyes; and which of its two fusions matters. Planted clips, subjects apart.

    python benchmarks/avtca.py                  # three seeds from pixels, 15 frames of 112 px; about 20 minutes on two cores
    python benchmarks/avtca.py --ablation       # intermediate only, cross only, both: on cached tracks of the tiny encoders

Everything here is synthetic. Voices come as ten MFCC, as in the released code; the visual front end learns from nothing, so widths are
a quarter of the published ones.
"""
import json, time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro

from mmemo.compare import pooled_over_seeds
from mmemo.core import write_json
from mmemo.evaluation import evaluate, paired_bootstrap, predict
from mmemo.features import ExtractSettings, extract
from mmemo.models import build
from mmemo.planted import PlantedConfig, make_planted
from mmemo.runs import shown
from mmemo.training import TrainConfig, train
from mmemo.windows import Windows, WindowSettings

ABLATION = {'both': {}, 'intermediate only': dict(final='none'), 'cross only': dict(fusion='none')}


@dataclass
class Settings:
    out: Path = Path('runs/avtca') # corpus and results
    generator: int = 41 # seed of the corpus; not used while anything was built
    seeds: tuple[int, ...] = (0, 1, 2)
    ablation: bool = False # the ablation table instead
    side: int = 112 # pixels
    workers: int = 2 # trainings at once, one thread each
    model: str = '{"width": 0.25}' # JSON: settings of the model from pixels
    results: Path = Path('benchmarks/results')
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=24, batch=16, lr=1e-3, patience=0, lambda_text=0., progress=False))


def settings_of(row:str, s:Settings) -> dict:
    "What the row changes in `avtca-paper`."
    if s.ablation: return ABLATION[row]
    return json.loads(s.model) | dict(frontend='pixels') if row == 'face and voice' else {}


def features(s:Settings, corpus):
    "Fifteen frames of pixels over the clip, and MFCC; or the tiny encoders' tracks."
    if s.ablation: return extract(corpus, 'tiny', 'tiny', progress=False)
    return extract(corpus, f'pixels-{s.side}', 'mfcc', settings=ExtractSettings(frames=15), progress=False)


def packs_for(row:str, store) -> dict:
    "Without its eyes the model has a face that is missing in every clip."
    face = store['visual']
    if row == 'voice only': face = replace(face, values=np.zeros((len(face.time), 1), np.float16), valid=np.zeros(len(face.time), bool))
    return dict(visual=face, audio=store['audio'])


def one(job:tuple) -> pd.DataFrame: # (settings, corpus, row, seed); in a process of its own, on one thread
    "Predictions on the test subjects."
    s, corpus, row, seed = job
    torch.set_num_threads(1)
    packs = packs_for(row, features(s, corpus))
    part = {k: Windows(corpus, packs, WindowSettings(), k) for k in ('train', 'val', 'test')}
    torch.manual_seed(seed)
    model = build('avtca-paper', part['train'].dims, corpus.labels.n, **settings_of(row, s))
    start = time.perf_counter()
    history = train(model, part['train'], part['val'], replace(s.train, seed=seed))
    minutes = (time.perf_counter() - start) / 60
    print(f"{row}, seed {seed}: {len(history)} epochs, {minutes:.1f} min, best on validation {max(h['val_score'] for h in history):.3f}", flush=True)
    return predict(model, part['test']).assign(seed=seed, row=row, minutes=minutes)


def main(s:Settings):
    start = time.perf_counter()
    corpus = make_planted(s.out/f'planted-{s.generator}', PlantedConfig(seed=s.generator))
    features(s, corpus)
    rows = list(ABLATION) if s.ablation else ['face and voice', 'voice only']
    jobs = [(s, corpus, row, seed) for row in rows for seed in s.seeds]
    with ProcessPoolExecutor(s.workers, get_context('spawn')) as pool: tables = pd.concat(pool.map(one, jobs), ignore_index=True)
    pooled = {row: pooled_over_seeds({i: tables[(tables.row == row) & (tables.seed == i)] for i in s.seeds}, corpus) for row in rows}
    found, scores = {row: t for row, (t, _) in pooled.items()}, {row: evaluate(t, every) for row, (t, every) in pooled.items()}
    told = {row: {k: v['accuracy' if k == 'xor' else 'macro_f1'] for k, v in sc.items()} for row, sc in scores.items()}
    gaps = {f'{rows[0]} minus {other}': {m: paired_bootstrap(found[rows[0]], found[other], m) for m in ('macro_f1', 'accuracy')} for other in rows[1:]}
    minutes = (time.perf_counter() - start) / 60
    print(f'\nSynthetic, {s.generator}: macro-F1 (XOR: accuracy), {len(s.seeds)} seeds, {minutes:.1f} minutes in all')
    print(pd.DataFrame({row: {k: shown(v) for k, v in parts.items()} for row, parts in told.items()}).T.to_string())
    for name, gap in gaps.items(): print(name, *(f"{m} {g['value']:+.3f} [{g['ci95'][0]:+.3f}, {g['ci95'][1]:+.3f}]" for m, g in gap.items()))
    write_json(s.results/f"avtca-{'ablation' if s.ablation else 'pixels'}.json", dict(synthetic=True, date=str(date.today()), rows=told, gaps=gaps, minutes=round(minutes, 1),
               command='python benchmarks/avtca.py' + ' --ablation' * s.ablation, generator=s.generator, seeds=s.seeds, model=json.loads(s.model), train=s.train))


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))
