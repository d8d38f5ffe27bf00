"""System 2 from pixels, against the same model without its eyes; and which of its two fusions matters. Planted clips, subjects apart.

    python benchmarks/avtca.py                  # three seeds from pixels, 15 frames of 112 px; about 20 minutes on two cores
    python benchmarks/avtca.py --ablation       # intermediate only, cross only, both: on cached tracks of the tiny encoders

Everything here is synthetic. Voices come as ten MFCC, as in the released code. The release starts its visual front end from a network trained on single
pictures of faces (AffectNet); so does this: on drawn frames, labelled with emotion and action units, of people that no corpus has. From nothing, on the
corpus's 496 clips alone, it learns to know people by heart and spoils what the voice says (`--no-pretrained`). Widths are half of the chosen ones. With
its eyes the model trains for fewer epochs (more overfit) and now and then without one modality; the voice alone has the schedule that suited it.
"""
import json, os, time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import tyro
from safetensors.torch import load_file

from mmemo.training.compare import pool_seeds
from mmemo.core import keep_memory, rng_for, stable_hash, write_json
from mmemo.training.evaluation import compare_predictions, evaluate, predict
from mmemo.features.extract import extract
from mmemo.features.reading import ExtractSettings
from mmemo.models.registry import build
from mmemo.models.pixels import EachFrame, prepare_frames
from mmemo.planted.corpus import PlantedConfig, make_planted
from mmemo.training.card import format_figure
from mmemo.training.runs import save_weights
from mmemo.features.tiny_captions import VALUES
from mmemo.features.tiny_clip import FacePlan, family_loss, fit, nudge, render_training_faces
from mmemo.training.loop import TrainConfig, train
from mmemo.features.windows import Windows, WindowSettings

ABLATION = {'both': {}, 'intermediate only': dict(final='none'), 'cross only': dict(fusion='none')}


@dataclass
class Settings:
    out: Path = Path('runs/avtca') # corpus and results
    generator: int = 45 # seed of the corpus; not used while anything was built (41, 43: earlier tries; 41 is the ablation's)
    seeds: tuple[int, ...] = (0, 1, 2)
    ablation: bool = False # the ablation table instead
    side: int = 112 # pixels
    workers: int = 3 # trainings at once, one thread each: with three on two cores neither core waits for the last one
    model: str = '{"width": 0.5}' # JSON: settings of the model from pixels
    pretrained: bool = True # the front end starts from single drawn frames
    faces: FacePlan = field(default_factory=lambda: FacePlan(subjects=480, scenes=8, passes=8)) # which ones
    eyes_epochs: int = 16 # of the model from pixels; `train.epochs` of the others
    eyes_dropout: float = .3 # its modality dropout
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


def one_scene(job:tuple) -> tuple: # (subject, scene, frames, side) -> pictures (t, 3, side, side) uint8, facts (t, values)
    subject, scene, frames, side = job
    torch.set_num_threads(1)
    pictures, facts = render_training_faces(subject, scene, frames)
    small = F.interpolate(torch.from_numpy(pictures).permute(0, 3, 1, 2).float(), side, mode='area')
    return small.round().to(torch.uint8).numpy(), facts


def drawn(s:Settings) -> tuple: # pictures (n, 3, side, side) uint8, facts (n, values)
    "Single frames, rendered on all cores."
    jobs = [(subject, scene, s.faces.frames, s.side) for scene in range(s.faces.scenes) for subject in range(s.faces.subjects)]
    with ProcessPoolExecutor(os.cpu_count(), get_context('spawn')) as pool: found = list(pool.map(one_scene, jobs, chunksize=32))
    return tuple(torch.from_numpy(np.concatenate([f[i] for f in found])) for i in (0, 1))


def front_end(s:Settings) -> Path:
    "Weights that the front end starts with: trained on single frames of people who are in no corpus."
    width = json.loads(s.model).get('width', 1.)
    path = s.out/f'face-{s.side}-{width}-{stable_hash(s.faces)[:8]}.safetensors'
    if path.exists(): return path
    keep_memory(); torch.manual_seed(s.faces.seed)
    pictures, facts = drawn(s)
    eyes, rng = EachFrame('paper', width), rng_for('avtca-face', s.faces.seed)
    learner = torch.nn.ModuleDict(dict(face=eyes.face, head=torch.nn.Linear(eyes.dim, len(VALUES)))).train()
    each = len(pictures)//s.faces.batch # steps of a pass
    def losses():
        for _ in range(s.faces.passes):
            for at in torch.from_numpy(rng.permutation(len(pictures)))[:each*s.faces.batch].split(s.faces.batch):
                yield family_loss(learner['head'](learner['face'](prepare_frames(nudge(pictures[at], rng)))), facts[at])
    found = fit(learner, losses(), each*s.faces.passes, 3e-3, label='front end, on single frames')
    print(f'front end: {len(pictures):,} frames, {s.faces.passes} passes, loss {np.mean(found[:20]):.2f} to {np.mean(found[-20:]):.2f}', flush=True)
    save_weights(eyes, path)
    return path


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
    if model.eyes and s.pretrained: model.eyes.load_state_dict(load_file(front_end(s)))
    start = time.perf_counter()
    own = dict(epochs=s.eyes_epochs, modality_dropout=s.eyes_dropout) if model.eyes else {}
    history = train(model, part['train'], part['val'], replace(s.train, seed=seed, **own))
    minutes = (time.perf_counter() - start) / 60
    print(f"{row}, seed {seed}: {len(history)} epochs, {minutes:.1f} min, best on validation {max(h['val_score'] for h in history):.3f}", flush=True)
    return predict(model, part['test']).assign(seed=seed, row=row, minutes=minutes)


def main(s:Settings):
    start = time.perf_counter()
    corpus = make_planted(s.out/f'planted-{s.generator}', PlantedConfig(seed=s.generator))
    features(s, corpus)
    if s.pretrained and not s.ablation: front_end(s)
    rows = list(ABLATION) if s.ablation else ['face and voice', 'voice only']
    jobs = [(s, corpus, row, seed) for row in rows for seed in s.seeds]
    with ProcessPoolExecutor(s.workers, get_context('spawn')) as pool: tables = pd.concat(pool.map(one, jobs), ignore_index=True)
    found = {row: pool_seeds({i: tables[(tables.row == row) & (tables.seed == i)] for i in s.seeds}) for row in rows}
    scores = {row: evaluate(t, corpus) for row, t in found.items()}
    told = {row: {k: v['accuracy' if k == 'xor' else 'macro_f1'] for k, v in sc.items()} for row, sc in scores.items()}
    gaps = {f'{rows[0]} minus {other}': {m: compare_predictions(found[rows[0]], found[other], m) for m in ('macro_f1', 'accuracy')} for other in rows[1:]}
    minutes = (time.perf_counter() - start) / 60
    print(f'\nSynthetic, {s.generator}: macro-F1 (XOR: accuracy), {len(s.seeds)} seeds, {minutes:.1f} minutes in all')
    print(pd.DataFrame({row: {k: format_figure(v) for k, v in parts.items()} for row, parts in told.items()}).T.to_string())
    for name, gap in gaps.items(): print(name, *(f"{m} {g['value']:+.3f} [{g['ci95'][0]:+.3f}, {g['ci95'][1]:+.3f}]" for m, g in gap.items()))
    write_json(s.results/f"avtca-{'ablation' if s.ablation else 'pixels'}.json", dict(synthetic=True, date=str(date.today()), rows=told, gaps=gaps, minutes=round(minutes, 1),
               command=f'python benchmarks/avtca.py --generator {s.generator}' + ' --ablation' * s.ablation, pretrained=s.pretrained and not s.ablation, generator=s.generator, seeds=s.seeds, model=json.loads(s.model), faces=s.faces, eyes_epochs=s.eyes_epochs, eyes_dropout=s.eyes_dropout, train=s.train))


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))
