"""Real speech, real weights: our models on frozen Whisper features of RAVDESS, against a linear model, actors apart.

    MMEMO_REAL_DATA=... python benchmarks/ravdess.py                 # System 1, the voice alone, the linear floor; about an hour on two free cores
    MMEMO_REAL_DATA=... python benchmarks/ravdess.py --rows all --seeds 0 --lengths 10   # every model that fits (all that need no words), a schedule of ten epochs for each
    MMEMO_REAL_DATA=... python benchmarks/ravdess.py --seeds 0 --folds 0   # a look
    MMEMO_REAL_DATA=... python benchmarks/ravdess.py --inner         # settings compared on inner actors only; no test fold is touched

Audio is Whisper tiny.en's encoder, the mean of its layers 2 and 3; the visual track is OpenFace's action units, averaged over
the clip, so one step a clip: this tests fusion, not alignment in time. Five folds by actor. Within a fold's sixteen training
actors, four are set aside to find how long a schedule is best (its learning rate ends at 0); the models that are tested are then
trained anew on all sixteen with that schedule, which is also how the linear model's penalty is found. Nothing is chosen on a test fold.
"""
import json, time
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro

from mmemo.core import real_data, seed_everything, stable_hash, to_jsonable, write_json
from mmemo.training.evaluation import compare_predictions, compute_figures, predict, score
from mmemo.features.extract import extract
from mmemo.features.reading import ExtractSettings
from mmemo.features.tables import tracks_from_table
from mmemo.features.tracks import Packed
from mmemo.labels import RAVDESS8
from mmemo.corpora.manifest import Corpus, check_manifest, write_table
from mmemo.corpora.splits import check_disjoint
from mmemo.models.registry import build
from mmemo.training.loop import TrainConfig, train
from mmemo.features.windows import Windows, WindowSettings

FOLDS = (('01', '07', '13', '19'), ('02', '08', '14', '20'), ('03', '09', '15', '21'), ('04', '10', '16', '23'), ('06', '11', '18', '24'))
BOTH = ('visual', 'audio')
INPUTS = {'audio': ('audio', ('audio',)), 'both': ('bicross', BOTH), 'linear audio': ('linear', ('audio',)), 'linear both': ('linear', BOTH)}
OTHERS = ('early', 'late', 'tfn', 'lmf', 'mult', 'avtca-paper', 'avtca-diagram', 'avtca-code', 'rcma-v1', 'rjcma-v4', 'rjcma-code',
          'bicross-sequential', 'bicross-paper') # --rows visual early late ..., or all
INPUTS.update({'visual': ('visual', ('visual',)), 'linear visual': ('linear', ('visual',))} | {name: (name, BOTH) for name in OTHERS})
MAIN = ('audio', 'both', 'linear audio', 'linear both')
METRICS = ('accuracy', 'uar', 'macro_f1')


@dataclass
class Settings:
    seeds: tuple[int, ...] = (0, 1, 2)
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    rows: tuple[str, ...] = MAIN # which of INPUTS to train; `all` for every model that fits
    cache: Path | None = None # where features are kept; default: mmemo's own cache
    rate: int = 10 # steps a second that the models see; Whisper's 50 are averaged in fives, which costs no accuracy and saves four fifths of the time
    threads: int = 1
    keep: Path = Path('runs/ravdess') # predictions of each training, so that a run that was cut short goes on
    out: Path | None = None # default: benchmarks/results/ravdess.json, or ravdess-models.json for `--rows all`
    inner: bool = False # only say how well the inner actors are predicted
    model: str = '{}' # JSON: settings of our models, for comparisons with --inner
    lengths: tuple[int, ...] = (10, 20) # epochs of a schedule, chosen on the inner actors
    train: TrainConfig = field(default_factory=lambda: TrainConfig(batch=32, lr=1e-3, weight_decay=.05, patience=0, class_weight=0., lambda_text=0., device='cpu', progress=False))


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


def fresh(s:Settings, name:str, dims:dict, seed:int):
    "A new model; where its front end may be pixels, features are what it is given."
    model_name, modalities = INPUTS[name]
    if model_name == 'linear': options = dict(modalities=modalities)
    else: options = dict(frontend='features') if 'avtca' in name else dict(length=1) if name == 'rjcma-code' else json.loads(s.model) # one step of action units
    seed_everything(seed)
    return build(model_name, dims, RAVDESS8.n, **options)


def chosen_length(s:Settings, name:str, corpus:Corpus, packs:dict) -> tuple: # epochs, last record on the inner actors
    "The schedule that serves the inner actors best, judged by its last weights; the shortest of equals. Of one there is nothing to choose."
    if len(s.lengths) == 1 and not s.inner: return s.lengths[0], dict(val_accuracy=float('nan'))
    part = {k: windows_for(corpus, packs, INPUTS[name][1], k) for k in ('train', 'val')}
    def last(epochs): return train(fresh(s, name, part['train'].dims, 0), part['train'], part['val'], replace(s.train, seed=0, epochs=epochs))[-1]
    ends = {n: last(n) for n in (s.lengths if 'linear' not in name else s.lengths[:1])}
    best = max(ends, key=lambda n: (ends[n]['val_macro_f1'], -n))
    return best, ends[best]


def tested(s:Settings, name:str, corpus:Corpus, packs:dict, seed:int, epochs:int) -> pd.DataFrame:
    "Predictions on the test actors by a model of all sixteen others."
    everyone = corpus.clips[corpus.clips.split != 'test'].clip_id
    both, test = (windows_for(corpus, packs, INPUTS[name][1], k) for k in (everyone, 'test'))
    model = fresh(s, name, both.dims, seed)
    train(model, both, None, replace(s.train, seed=seed, epochs=epochs))
    return predict(model, test)


def main(s:Settings):
    root = real_data()
    if root is None:
        print('MMEMO_REAL_DATA is not set to a folder; this benchmark needs RAVDESS speech and the Whisper encoder there. Nothing was run.')
        return
    if s.rows == ('all',): s = replace(s, rows=tuple(INPUTS))
    torch.set_num_threads(s.threads)
    corpus, store, packs = prepared(s, root)
    start, found, inners = time.perf_counter(), {n: [] for n in s.rows}, {n: [] for n in s.rows}
    for fold in s.folds:
        parted = split_of(corpus, fold)
        for name in s.rows:
            def choose():
                epochs, inner = chosen_length(s, name, parted, packs)
                return pd.DataFrame([dict(epochs=epochs, accuracy=inner['val_accuracy'])])
            inner = kept(s, name, fold, 'inner', choose).iloc[0]
            inners[name].append(inner.accuracy)
            print(f'fold {fold} {name:12} ' + ('' if np.isnan(inner.accuracy) else f'inner {inner.accuracy:.3f} after ') + f'{inner.epochs:.0f} epochs', flush=True)
            for seed in (() if s.inner else s.seeds if 'linear' not in name else s.seeds[:1]): # a convex model has no seed
                pred = kept(s, name, fold, seed, lambda: tested(s, name, parted, packs, seed, int(inner.epochs)))
                found[name].append(pred.assign(fold=fold, seed=seed))
                print(f'fold {fold} {name:12} seed {seed}', ', '.join(f'{m} {score(pred, m):.3f}' for m in METRICS), flush=True)
    for name in s.rows if len(s.lengths) > 1 or s.inner else (): print(f'{name:12} inner accuracy, mean: {np.mean(inners[name]):.4f}')
    if not s.inner: report(s, found, corpus, time.perf_counter() - start)


def kept(s:Settings, name:str, fold:int, seed, make):
    "What `make()` gives, from an earlier run of the same settings where there was one: a night that was cut short goes on."
    key = stable_hash((name, fold, seed, INPUTS[name], s.rate, s.model, s.lengths, to_jsonable(s.train), __doc__))
    path = s.keep/f'{name.replace(" ", "-")}-{fold}-{seed}-{key[:10]}.parquet'
    if path.exists(): return pd.read_parquet(path)
    table = make()
    write_table(table, path)
    return table


def report(s:Settings, found:dict, corpus:Corpus, seconds:float):
    "Figures a fold (mean over seeds), the mean over folds with its interval over actors, and the paired differences."
    tables, rows, gaps = {n: pd.concat(p, ignore_index=True) for n, p in found.items()}, [], []
    for n, t in tables.items():
        whole = compute_figures(t)
        for m in METRICS:
            folds = [np.mean([score(g, m) for _, g in t[t.fold == k].groupby('seed')]) for k in s.folds]
            rows.append(dict(model=n, metric=m, folds=folds, mean=np.mean(folds), pooled=whole[m]['value'], ci95=whole[m]['ci95']))
    shown = [{'model': r['model'], 'metric': r['metric'], **{f'fold {k}': v for k, v in zip(s.folds, r['folds'])}, 'mean': r['mean'],
              'low': r['ci95'][0], 'high': r['ci95'][1]} for r in rows]
    print(pd.DataFrame(shown).round(3).to_string(index=False))
    pairs = [('audio', 'linear audio'), ('visual', 'linear visual'), ('both', 'linear both'), ('both', 'audio'), *((n, o) for n in OTHERS for o in ('linear both', 'both'))]
    for ours, other in pairs:
        if not {ours, other} <= tables.keys(): continue
        gaps += [dict(ours=ours, against=other, **compare_predictions(tables[ours], tables[other], m)) for m in METRICS]
    for g in gaps: print(f"{g['ours']} minus {g['against']}, {g['metric']}: {g['value']:+.3f} [{g['ci95'][0]:+.3f}, {g['ci95'][1]:+.3f}]")
    every, join = s.rows == tuple(INPUTS), lambda v: ' '.join(map(str, v))
    asked = f' --rows all --seeds {join(s.seeds)} --lengths {join(s.lengths)}' if every else '' if s.rows == MAIN else f' --rows {join(s.rows)}'
    write_json(s.out or Path('benchmarks/results')/f"ravdess{'-models' if every else ''}.json",
               dict(date=str(date.today()), command='python benchmarks/ravdess.py' + asked, rows=rows, gaps=gaps, seeds=s.seeds, clips=len(corpus), actors=corpus.clips.subject.nunique(),
                    rate=s.rate, model=json.loads(s.model), lengths=s.lengths, train=s.train, minutes=round(seconds / 60, 1)))


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))
