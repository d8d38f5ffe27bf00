"""Whose evidence was it? Shapley values over face and voice against planted truth, what knocking a stream out does, and who wins a swap.

    python benchmarks/modalities.py                       # on the demo's run; about a minute on one core

Everything here is synthetic. Probability or logit is chosen on the validation clips; figures are on the test clips. The class that is
explained needs no choice: among clips that the model gets right the predicted class is the true one.
"""
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import torch
import tyro

from mmemo.core import write_json
from mmemo.training.floors import score_over_subjects
from mmemo.explain.modalities import OF, judge_swaps, knock_out, measure_degradation, tabulate_swaps
from mmemo.explain.shapley import tabulate_shapley
from mmemo.panels.source import open_source
from mmemo.features.windows import Windows

EVIDENCE = dict(audio='audio', video='visual') # subset of the planted corpus -> the stream that shows the label
LEVELS = dict(gain=(1., .5, 2., 4.), noise=(0., .5, 1., 2., 4.), blackout=(0., .25, .5, .75, 1.), shift=(0., .1, .2, .4, .8))


@dataclass
class Settings:
    run: Path = Path('runs/demo/bicross')
    results: Path = Path('benchmarks/results')


def opened(run:Path, split:str) -> tuple: # the run's model, its windows of one split
    source = open_source(run, split)
    return source.model, Windows(source.corpus, source.store, source.settings, split, tuple(source.model.modalities))


def evidence(model, windows:Windows, of:str) -> pd.DataFrame:
    "Clips with evidence in one stream that the model gets right: does Shapley name it?"
    table = tabulate_shapley(model, windows, of=of)
    table = table[table.subset.isin(EVIDENCE) & (table.predicted == table.label)]
    return table.assign(right=table.named == table.subset.map(EVIDENCE))


def named_right(table:pd.DataFrame) -> dict: # share with its interval over subjects
    return score_over_subjects(table.right.to_numpy(), table.subject.to_numpy()) | dict(wrong=int((~table.right).sum()))


def judged(table:pd.DataFrame) -> dict:
    "All such clips; those whose label is an emotion, since a neutral clip has a neutral face and a neutral voice, and so no stream of its own; each subset."
    parts = dict(all=table, emotions=table[table.label != 'Neutral'], neutral=table[table.label == 'Neutral'], **{s: table[table.subset == s] for s in EVIDENCE})
    return {name: named_right(own) for name, own in parts.items() if len(own)}


def main(s:Settings):
    start = time.perf_counter()
    torch.set_num_threads(1)
    model, val = opened(s.run, 'val')
    on_val = {of: judged(evidence(model, val, of)) for of in OF}
    of = max(OF, key=lambda o: on_val[o]['all']['value'])
    _, test = opened(s.run, 'test')
    table = evidence(model, test, of)
    found = judged(table)
    print(f'Synthetic. Chosen on validation: {of}', {o: round(v['all']['value'], 3) for o, v in on_val.items()})
    print('The right stream is named in', {k: f"{v['value']:.3f} [{v['ci95'][0]:.3f}, {v['ci95'][1]:.3f}] of {v['n']}" for k, v in found.items()})
    out = knock_out(model, test)
    print(out.pivot(index='part', columns='kept', values='score').round(3).to_string())
    pairs = judge_swaps(model, test)
    won, by_class = tabulate_swaps(pairs, ()), tabulate_swaps(pairs)
    print(won.round(3).T.to_string())
    curves = {m: {kind: measure_degradation(model, test, m, kind, levels).to_dict('records') for kind, levels in LEVELS.items()} for m in model.modalities}
    for m, kinds in curves.items():
        for kind, rows in kinds.items(): print(m, kind, {r['level']: f"{r['score']:.3f} [{r['low']:.3f}, {r['high']:.3f}]" for r in rows})
    write_json(s.results/'modalities.json', dict(synthetic=True, date=str(date.today()), command='python benchmarks/modalities.py', run=str(s.run), split='test', by='subject',
               shapley=dict(value=of, chosen_on='val', validation=on_val, test=found, missed=table[~table.right][['clip_id', 'label', 'phi_visual', 'phi_audio']].round(4).to_dict('records')),
               knock_out=out.to_dict('records'), swaps=dict(pairs=len(pairs), all=won.to_dict('records')[0], by_class=by_class.to_dict('records')),
               degradation=curves, seconds=round(time.perf_counter() - start, 1)))


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))
