"""Do attributions find the planted interval? Settings chosen on the demo's validation clips, figures on its test clips, references beside them.

    python benchmarks/attribution.py            # reads runs/demo (`make demo` makes it); about five minutes of one core

Everything here is synthetic. A clip counts in a modality where its truth table says that the modality shows something, and where the planted interval
leaves steps on both sides. Further references tell what an AUC is worth here: nearness to the middle of the clip, and the same maps scored against
another clip's interval. The second table asks only about the steps that one of two intervals holds, the clip's own or another clip's: there position
alone is worth 0.5.
"""
import time
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro

from mmemo.explain.attribution import COMPLETE, Attribution, attribute
from mmemo.explain.map_scores import (average_over_subjects, compute_area, interval_auc, measure_agreement,
                                      randomise_weights, score_attention, score_position, smooth_steps,
                                      trace_step_curve)
from mmemo.core import rng_for, write_json
from mmemo.commands.demo import format_figure
from mmemo.panels.source import open_source
from mmemo.planted.corpus import SUBSETS
from mmemo.explain.truth import PLANTED, measure_energies, read_planted_intervals
from mmemo.features.batch import pick_rows
from mmemo.features.windows import Windows

GRID = dict(integrated_gradients=[{}, dict(of='log_odds')], gradient_x_input=[{}, dict(of='log_odds')],
            occlusion=[dict(width=.24), dict(width=.24, of='log_odds')], ablation=[dict(width=.24, of='log_odds')])
READINGS = [dict(signed=s, seconds=w) for s, w in product((True, False), (0., .12, .24))]


@dataclass
class Settings:
    run: Path = Path('runs/demo') # with bicross/ and corpus/ in it
    random_seeds: tuple[int, ...] = (0, 1, 2) # models with weights drawn anew
    steps: int|None = None # of integrated gradients in the comparison; as many as each clip needs where not given
    out: Path = Path('benchmarks/results/attribution.json')


class Part:
    "The clips of one split: a batch, its truth, and how to score a map on it."
    def __init__(self, s:Settings, split:str):
        self.source = source = open_source(s.run, split)
        self.model, self.batch = source.model, Windows(source.corpus, source.store, source.settings, split).whole()
        assert len(self.batch) == len(set(self.batch.clip_id)), 'expected one window a clip'
        self.clips = source.corpus.clips.set_index('clip_id').loc[self.batch.clip_id].reset_index()
        self.interval = read_planted_intervals(self.clips)

    def auc(self, scores, m, interval=None): return interval_auc(scores, self.batch.time[m], self.batch.mask[m], self.interval[m] if interval is None else interval)

    def read(self, found:Attribution, m, how): return smooth_steps(found.values[m], found.time[m], found.mask[m], **how)

    def others(self, m, deal:int=0): # intervals of other clips that show something, dealt at random
        known, out = np.flatnonzero(~np.isnan(self.interval[m][:, 0])), self.interval[m].copy()
        order = rng_for('other clip', m, deal).permutation(known)
        out[order] = self.interval[m][np.roll(order, 1)]
        return out

    def auc_apart(self, scores, m, deals:int=20): # (b,) own steps against those of another clip's interval, mean over deals
        "AUC over the steps that only one of two intervals holds."
        time, mask = self.batch.time[m].numpy(), self.batch.mask[m].numpy()
        inside = lambda edges: (time >= edges[:, :1]) & (time < edges[:, 1:])
        every = [interval_auc(scores, time, mask & (inside(self.interval[m]) != inside(self.others(m, k))), self.interval[m]) for k in range(deals)]
        known = ~np.isnan(every)
        return np.where(known.any(0), np.nansum(every, 0)/np.maximum(known.sum(0), 1), np.nan)


def choose(val:Part, steps:int) -> tuple: # method -> settings and reading, with its validation AUC; how many were compared
    "The settings of each method with the largest mean of both modalities' AUC on validation."
    best, n = {}, 0
    for method, grid in GRID.items():
        for how in grid:
            found = attribute(val.model, val.batch, method=method, steps=steps, internal_batch=64, **how)
            for read in READINGS:
                value, n = float(np.mean([np.nanmean(val.auc(val.read(found, m, read), m)) for m in PLANTED])), n + 1
                if value > best.get(method, {}).get('val_auc', 0): best[method] = dict(settings=how, reading=read, val_auc=value)
        print('chosen on validation', method, best[method], flush=True)
    return best, n


def inputs_alone(part:Part) -> dict: # name -> modality -> (b, t)
    "What needs no model: the input's own energy, and position."
    b = part.batch
    found = {f'energy: {name}': each for name, each in measure_energies(part.source.corpus, part.clips, b).items()}
    return found | {'position: middle': {m: score_position(b.time[m], b.mask[m]) for m in PLANTED}}


def scored(part:Part, name:str, m:str, auc) -> list: # rows of a table
    "One map in one modality: all clips, and each subset."
    which = {'all': np.ones(len(auc), bool)} | {s: (part.clips.subset == s).to_numpy() for s in SUBSETS}
    return [dict(map=name, modality=m, subset=k, **average_over_subjects(auc[w], part.clips.subject[w])) for k, w in which.items() if (~np.isnan(auc[w])).any()]


def speed(model, batch, repeats:int=15) -> dict: # median seconds by the clock, and of the processor
    "Integrated gradients, with the steps it needs, over one clip of three seconds: the clip's steps repeated to 75 frames."
    def longer(v): return torch.cat([v, v[:, :round(v.shape[1]/4)]], 1)
    one = pick_rows(batch, [0])
    clip = type(one)(*({m: longer(v) for m, v in d.items()} for d in (one.x, one.mask)),
                     {m: (torch.arange(longer(v).shape[1]) + .5)[None]*3/longer(v).shape[1] for m, v in one.time.items()}, frame=torch.arange(longer(one.frame).shape[1])[None])
    def once():
        start = time.perf_counter(), time.process_time()
        attribute(model, clip)
        return time.perf_counter() - start[0], time.process_time() - start[1]
    once()
    return dict(zip(('clock', 'processor'), np.median([once() for _ in range(repeats)], 0).tolist()))


def told_of(part:Part, name:str, m:str, *maps) -> list: # rows of both tables; several maps: the mean of their figures
    "`scored`, on all steps and where two intervals differ, printed as it is found."
    found = [dict(r, steps=steps) for steps, auc in (('all', part.auc), ('apart', part.auc_apart)) for r in scored(part, name, m, np.mean([auc(v, m) for v in maps], 0))]
    print(f"{m}, {name}:", *(f"{r['subset']}{' apart'*(r['steps'] == 'apart')} {format_figure(r)}" for r in found if r['steps'] == 'all' or r['subset'] == 'all'), flush=True)
    return found


def references(s:Settings, test:Part, best:str, c:dict, target) -> list: # rows of the table
    "What must be beaten: another clip's interval, random weights, attention, the input's own energy, position."
    table, b, drawn = [], test.batch, {m: [] for m in PLANTED}
    for seed in s.random_seeds:
        at_random = attribute(randomise_weights(test.model, seed), b, target, best, s.steps, 64, **c['settings'])
        for m in PLANTED: drawn[m].append(test.read(at_random, m, c['reading']))
    with torch.no_grad(): maps = test.model(b, maps=True).maps
    for m in PLANTED:
        table += told_of(test, f'{best}, random weights', m, *drawn[m])
        table += told_of(test, 'attention', m, score_attention(maps, m))
    for name, each in inputs_alone(test).items():
        for m, values in each.items():
            table += told_of(test, name, m, values)
            smooth = smooth_steps(torch.as_tensor(values - values.min()).float(), b.time[m], b.mask[m], True, c['reading']['seconds'])
            if 'position' not in name: table += told_of(test, f'{name}, smoothed alike', m, smooth)
    return table


def compare(test:Part, chosen:dict, found:dict) -> dict: # method -> Attribution
    "Deletion, insertion, agreement, completeness."
    who, base = test.clips.subject, lambda k: chosen[k]['settings'].get('baseline', 'mean')
    curves = {k: {name: average_over_subjects(compute_area(trace_step_curve(test.model, test.batch, f, insertion, baseline=base(k))), who)
                  for name, insertion in (('deletion', False), ('insertion', True))} for k, f in found.items()}
    agree = [dict(a=a, b=b, modality=m, **average_over_subjects(measure_agreement(found[a], found[b], m), who)) for i, a in enumerate(found) for b in list(found)[i + 1:] for m in PLANTED]
    gap = {k: dict(median=float(f.gap.median()), p90=float(f.gap.quantile(.9)), above=float((f.gap > COMPLETE).float().mean()),
                   steps=None if f.steps is None else float(f.steps.float().mean())) for k, f in found.items() if f.delta is not None}
    return dict(curves=curves, agreement=agree, completeness_gap=gap)


def main(s:Settings):
    torch.set_num_threads(1)
    start = time.perf_counter()
    chosen, compared = choose(Part(s, 'val'), s.steps)
    best, test, table, found = max(chosen, key=lambda k: chosen[k]['val_auc']), Part(s, 'test'), [], {}
    for method in sorted(chosen, key=lambda k: k != best):
        c = chosen[method]
        found[method] = attribute(test.model, test.batch, method=method, steps=s.steps, internal_batch=64, **c['settings'])
        for m in PLANTED:
            scores = test.read(found[method], m, c['reading'])
            table += told_of(test, method, m, scores)
            if method == best: table += [dict(r, steps='all') for r in scored(test, f'{best}, interval of another clip', m, test.auc(scores, m, test.others(m)))]
        if method == best: table += references(s, test, best, c, found[best].target)
    told = dict(synthetic=True, date=str(date.today()), command='python benchmarks/attribution.py', run=str(s.run), chosen_on='val', split='test', compared=compared, best=best,
                chosen=chosen, auc=table, **compare(test, chosen, found), median_seconds_ig_3s=speed(test.model, test.batch))
    told |= dict(minutes=round((time.perf_counter() - start)/60, 1), processor_minutes=round(time.process_time()/60, 1))
    write_json(s.out, told)
    report(told)


def report(t:dict):
    "The tables, printed."
    wide = lambda r: pd.DataFrame([dict(map=x['map'], modality=x['modality'], subset=x['subset'], text=format_figure(x)) for x in r]).pivot(index=['modality', 'map'], columns='subset', values='text')
    for steps, said in (('all', 'AUC of the planted interval'), ('apart', "the same over the steps that only one of two intervals holds, its own or another clip's")):
        mine = sorted((x for x in t['auc'] if x['steps'] == steps), key=lambda x: x['modality'], reverse=True)
        order = list(dict.fromkeys((x['modality'], x['map']) for x in mine))
        print(f'\nSynthetic. {said}, test clips; [95 % interval over subjects]\n', wide(mine).reindex(order)[['all', *SUBSETS]].fillna('').to_string())
    print(f"\nbest on validation, of {t['compared']} settings: {t['best']}", t['chosen'][t['best']])
    print('\narea under the deletion (small is good) and insertion curve:', *(f"{k}: {format_figure(v['deletion'])}, {format_figure(v['insertion'])}" for k, v in t['curves'].items()), sep='\n  ')
    print('\nrank agreement of methods:', *(f"{x['a']} and {x['b']}, {x['modality']}: {format_figure(x)}" for x in t['agreement']), sep='\n  ')
    print('\ncompleteness gap, as a share of what was to explain (above: the share of clips beyond 5 %), and steps taken:', t['completeness_gap'])
    print(f"integrated gradients, one 3 s clip: {t['median_seconds_ig_3s']['clock']:.3f} s by the clock, {t['median_seconds_ig_3s']['processor']:.3f} s of the processor (medians, one thread); "
          f"all of this {t['minutes']} min, {t['processor_minutes']} of the processor")


if __name__ == '__main__': main(tyro.cli(Settings, description=__doc__))
