"""How far apart may a raised brow and an accent be and still count as one? A trained model's answers over the lag between the two (synthetic).

    python benchmarks/coincidence.py --run runs/demo/bicross     # a few minutes on two cores; the run was trained on the planted corpus

New people, each with one brow at a moment of its own; the same take of the face is paired with accents from a second before it to a second after. The model was trained on pairs that
meet within a frame or are more than half a second apart and has never seen what lies between: the curve is its own. Beside it the same model with its attention made uniform.
"""
import os, time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from mmemo.core import write_json
from mmemo.corpora.manifest import Corpus, check_manifest
from mmemo.features.extract import extract
from mmemo.models.intervene import intervene
from mmemo.planted.corpus import (COINCIDENCE_LABELS, EVENT, PlantedConfig, PlanRow,
                                  plan_corpus, render_clip)
from mmemo.training.evaluation import predict
from mmemo.training.intervals import average_sums, find_interval, format_ci
from mmemo.training.runs import load_run

LAGS = (-1., -.7, -.5, -.35, -.25, -.15, -.08, 0., .08, .15, .25, .35, .5, .7, 1.)


@dataclass
class Settings:
    run: Path = Path('runs/demo/bicross')
    people: int = 24
    seed: int = 97 # of people whom no run has seen
    work: Path = Path('runs/coincidence') # where clips are rendered
    out: Path = Path('benchmarks/results/coincidence.json')


def plan_lags(config:PlantedConfig) -> pd.DataFrame: # a row a person and lag
    "One brow a person, and an accent at every lag that leaves it within the clip."
    plan = plan_corpus(config)
    first = plan[(plan.split == 'test') & plan.clip_id.str.endswith('-00')].drop_duplicates('subject')
    rows = []
    for r in first.to_dict('records'):
        for lag in LAGS:
            begin = r['face_onset'] + lag
            if not .02 <= begin <= config.seconds - EVENT - .02: continue
            name = f"{r['clip_id']}-{lag:+.2f}"
            rows.append({**r, 'clip_id': name, 'voice_onset': begin, 'voice_offset': begin + EVENT, 'lag': lag, 'group': r['clip_id'], 'path': f'clips/{name}.mp4'})
    return pd.DataFrame(rows)


def render(plan:pd.DataFrame, config:PlantedConfig, folder:Path) -> Corpus:
    "The clips of the plan; those that are there already are kept."
    folder.mkdir(parents=True, exist_ok=True)
    for r in plan.to_dict('records'):
        if not (folder/r['path']).is_file(): render_clip(PlanRow(**r), config, folder)
    return Corpus('planted lags', folder, check_manifest(plan[['clip_id', 'path', 'subject', 'split', 'label', 'group', 'lag']]), facts=dict(synthetic=True))


def measure_curve(pred:pd.DataFrame, plan:pd.DataFrame) -> list: # of dictionaries, one a lag
    "The share that is called a coincidence at each lag, decided between the two labels, with an interval over people."
    together, apart = (pred[f'p_{c}'].to_numpy() for c in COINCIDENCE_LABELS)
    table = pd.DataFrame(dict(says=together > apart, lag=plan.set_index('clip_id').lag[pred.clip_id].to_numpy()))
    rows = []
    for lag, part in table.groupby('lag'):
        sums = np.stack([part.says.to_numpy(float), np.ones(len(part))], 1) # one clip a person
        figure = find_interval(average_sums, sums)
        rows.append(dict(lag=float(lag), share=figure['value'], ci95=figure['ci95'], people=len(part)))
    return rows


def main(s:Settings):
    start = time.perf_counter()
    config = PlantedConfig(seed=s.seed, test_subjects=s.people, test_clips=4*s.people, both=0., audio=0., video=0., coincidence=1.)
    plan = plan_lags(config)
    corpus = render(plan, config, s.work)
    store = extract(corpus, 'tiny', 'tiny')
    run = load_run(s.run)
    windows = run.windows(corpus, store, 'test')
    curves = dict(as_trained=measure_curve(predict(run.model, windows), plan))
    with intervene(run.model, 'uniform'): curves['attention_uniform'] = measure_curve(predict(run.model, windows), plan)
    told = dict(synthetic=True, date=str(date.today()), command=f'python benchmarks/coincidence.py --run {s.run}', model=run.config.model, seed=run.config.seed, people=s.people,
                clips=len(plan), curves=curves, cores=os.cpu_count(), seconds=round(time.perf_counter() - start))
    write_json(s.out, told)
    print('Synthetic, given this training. Share called a coincidence, by how much later the voice is; [95 % interval over people]')
    for a, b in zip(*curves.values()): print(f"{a['lag']:+.2f} s  {a['share']:.2f} {format_ci(a['ci95'])}   attention uniform {b['share']:.2f}")


if __name__ == '__main__': main(tyro.cli(Settings, description=__doc__))
