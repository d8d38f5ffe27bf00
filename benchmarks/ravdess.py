"""Real speech, real weights: our models on frozen Whisper features of RAVDESS, against a linear model, actors apart.

    MMEMO_REAL_DATA=... python benchmarks/ravdess.py                 # the figures to quote; about an hour on two free cores
    MMEMO_REAL_DATA=... python benchmarks/ravdess.py --seeds 0 --folds 0   # a look
    MMEMO_REAL_DATA=... python benchmarks/ravdess.py --inner         # settings compared on inner actors only; no test fold is touched

Audio is Whisper tiny.en's encoder, the mean of its layers 2 and 3; the visual track is OpenFace's action units, averaged over
the clip, so one step a clip: this tests fusion, not alignment in time. Five folds by actor. Within a fold's sixteen training
actors, four are set aside to find when to stop; the model that is tested is then trained anew on all sixteen for as many epochs,
which is also how the linear model's penalty is found. Nothing is chosen on a test fold.
"""
import json, sys, time
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro

from mmemo.core import real_data, seed_everything, write_json
from mmemo.evaluation import paired_bootstrap, predict, score
from mmemo.features import ExtractSettings, Packed, extract, tracks_from_table
from mmemo.labels import RAVDESS8
from mmemo.manifest import Corpus, check_disjoint, check_manifest
from mmemo.models import build
from mmemo.training import TrainConfig, train
from mmemo.windows import Windows, WindowSettings

FOLDS = (('01', '07', '13', '19'), ('02', '08', '14', '20'), ('03', '09', '15', '21'), ('04', '10', '16', '23'), ('06', '11', '18', '24'))
INPUTS = {'audio': ('audio', ('audio',)), 'both': ('bicross', ('visual', 'audio')),
          'linear audio': ('linear', ('audio',)), 'linear both': ('linear', ('visual', 'audio'))}
METRICS = ('accuracy', 'uar', 'macro_f1')


@dataclass
class Settings:
    seeds: tuple[int, ...] = (0, 1, 2)
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    rows: tuple[str, ...] = tuple(INPUTS)  # which of them to train
    cache: Path | None = None # where features are kept; default: mmemo's own cache
    rate: int = 10 # steps a second that the models see; Whisper's 50 are averaged in fives, which costs no accuracy and saves four fifths of the time
    threads: int = 1
    out: Path = Path('benchmarks/results/ravdess.json')
    inner: bool = False # only say how well the inner actors are predicted
    model: str = '{}' # JSON: settings of our models, for comparisons with --inner
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=40, batch=32, lr=1e-3, weight_decay=.05, patience=0, class_weight=0., lambda_text=0., device='cpu', progress=False))


def corpus_of(root:Path) -> Corpus:
    "The speech clips, labelled by their names: modality-vocal-emotion-intensity-statement-repetition-actor."
    names = sorted(p.stem for p in (root/'ravdess_speech_16k').glob('*.flac'))
    parts = [n.split('-') for n in names]
    clips = check_manifest(pd.DataFrame(dict(clip_id=names, path=[f'{n}.flac' for n in names], subject=[p[6] for p in parts],
                                             label=[RAVDESS8.classes[int(p[2]) - 1] for p in parts])))
    return Corpus('RAVDESS speech', root/'ravdess_speech_16k', clips, space='ravdess8')


def slower(pack:Packed, hz:int) -> Packed:
    "The mean of neighbouring steps; clips never mix."
    n = round(1 / (float(np.median(np.diff(pack.time[:50]))) * hz))
    if n <= 1: return pack
    values, times, offsets = [], [], [0]
    for a, b in zip(pack.offsets, pack.offsets[1:]):
        cuts = np.arange(a, b, n)
        count = np.diff(np.r_[cuts, b])
        values.append(np.add.reduceat(np.asarray(pack.values[a:b], np.float32), cuts - a) / count[:, None])
        times.append(np.add.reduceat(pack.time[a:b], cuts - a) / count)
        offsets.append(offsets[-1] + len(cuts))
    values = np.concatenate(values)
    return replace(pack, values=values, time=np.concatenate(times).astype(np.float32), valid=np.ones(len(values), bool), offsets=np.array(offsets))


def prepared(s:Settings, root:Path):
    "Corpus and features: Whisper through mmemo's cache, action units from the table."
    corpus = corpus_of(root)
    units = tracks_from_table(root/'ravdess_au_means.csv', clip='clip')
    store = extract(corpus, units, str(root/'whisper_tiny_en_encoder'), s.cache, ExtractSettings(speech_layers='2,3', precision='fp32', device='cpu'))
    return corpus, store, {**store.packs, 'audio': slower(store['audio'], s.rate)}


def split_of(corpus:Corpus, fold:int) -> Corpus:
    "Test: the fold's actors. Validation: the next fold's, four of the sixteen training actors."
    actors = corpus.clips.subject
    split = np.where(actors.isin(FOLDS[fold]), 'test', np.where(actors.isin(FOLDS[(fold + 1) % len(FOLDS)]), 'val', 'train'))
    clips = corpus.clips.assign(split=split)
    check_disjoint(clips)
    return replace(corpus, clips=clips)


def windows_for(corpus, packs, modalities, split):
    "One window a clip: as long as the longest clip."
    if 'visual' in modalities: length = 1 # one step of action units
    else: length = int(np.ceil(max(packs['audio'].time) * 25)) + 2
    return Windows(corpus, packs, WindowSettings(length=length, stride=length, eval_stride=length), split, modalities)


def one_run(s:Settings, name:str, corpus:Corpus, packs:dict, seed:int) -> tuple: # inner score, epochs, predictions on test
    model_name, modalities = INPUTS[name]
    part = {k: windows_for(corpus, packs, modalities, k) for k in ('train', 'val')}
    everyone = corpus.clips[corpus.clips.split != 'test'].clip_id
    both, test = (windows_for(corpus, packs, modalities, k) for k in (everyone, 'test'))
    def fresh():
        seed_everything(seed)
        options = dict(modalities=modalities) if model_name == 'linear' else json.loads(s.model)
        return build(model_name, part['train'].dims, RAVDESS8.n, **options)
    config = replace(s.train, seed=seed)
    model = fresh()
    history = train(model, part['train'], part['val'], config)
    inner = max(history, key=lambda r: (r['val_macro_f1'], -r['val_loss']))
    if s.inner: return inner, inner['epoch'] + 1, None
    # as many steps as up to the best epoch, on the same schedule: stop there, do not shrink the cosine
    model, epochs = fresh(), inner['epoch'] + 1
    train(model, both, None, config, callbacks=[StopAfter(epochs)])
    return inner, epochs, predict(model, test)


class StopAfter:
    "Ends a training after some epochs of its schedule."
    def __init__(self, epochs): self.epochs = epochs
    def after_epoch(self, trainer): trainer.stop = trainer.epoch + 1 >= self.epochs


def main(s:Settings):
    root = real_data()
    if root is None:
        print('MMEMO_REAL_DATA is not set to a folder; this benchmark needs RAVDESS speech and the Whisper encoder there. Nothing was run.')
        return
    torch.set_num_threads(s.threads)
    corpus, store, packs = prepared(s, root)
    start, found, inners = time.perf_counter(), {n: [] for n in s.rows}, {n: [] for n in s.rows}
    for fold in s.folds:
        parted = split_of(corpus, fold)
        for name in s.rows:
            for seed in (s.seeds if 'linear' not in name else s.seeds[:1]): # a convex model has no seed
                inner, epochs, pred = one_run(s, name, parted, packs, seed)
                inners[name].append(inner['val_accuracy'])
                if pred is not None: found[name].append(pred.assign(fold=fold, seed=seed))
                told = '' if pred is None else ', '.join(f'{m} {score(pred, m):.3f}' for m in METRICS)
                print(f'fold {fold} seed {seed} {name:12} inner {inner["val_accuracy"]:.3f} after {epochs} epochs   {told}', flush=True)
    for name in s.rows: print(f'{name:12} inner accuracy, mean: {np.mean(inners[name]):.4f}')
    if not s.inner: report(s, found, corpus, time.perf_counter() - start)


def report(s:Settings, found:dict, corpus:Corpus, seconds:float):
    "Figures a fold (mean over seeds) and the paired differences; an actor keeps all its seeds together when actors are drawn."
    tables = {n: pd.concat(p, ignore_index=True) for n, p in found.items()}
    rows = [dict(model=n, metric=m, folds=(f := [np.mean([score(g, m) for _, g in t[t.fold == k].groupby('seed')]) for k in s.folds]), mean=np.mean(f))
            for n, t in tables.items() for m in METRICS]
    print(pd.DataFrame([{'model': r['model'], 'metric': r['metric'], **{f'fold {k}': v for k, v in zip(s.folds, r['folds'])}, 'mean': r['mean']} for r in rows]).round(3).to_string(index=False))
    gaps = []
    for ours, floor in (('audio', 'linear audio'), ('both', 'linear both'), ('both', 'audio')):
        if not {ours, floor} <= tables.keys(): continue
        seeds = sorted(set(tables[ours].seed) | set(tables[floor].seed))
        spread = lambda t: pd.concat([g.assign(clip_id=f'{i}-' + g.clip_id) for i in seeds for g in [t[t.seed == (i if i in set(t.seed) else t.seed.min())]]], ignore_index=True)
        for m in METRICS: gaps.append(dict(ours=ours, against=floor, **paired_bootstrap(spread(tables[ours]), spread(tables[floor]), m)))
    for g in gaps: print(f"{g['ours']} minus {g['against']}, {g['metric']}: {g['value']:+.3f} [{g['ci95'][0]:+.3f}, {g['ci95'][1]:+.3f}]")
    write_json(s.out, dict(date=str(date.today()), command='python benchmarks/ravdess.py', rows=rows, gaps=gaps, seeds=s.seeds, clips=len(corpus), actors=corpus.clips.subject.nunique(),
                           rate=s.rate, model=json.loads(s.model), train=s.train, minutes=round(seconds / 60, 1)))


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))
