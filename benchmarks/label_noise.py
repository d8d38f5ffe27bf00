"""Are planted wrong labels found? Clips ranked by confident learning on out-of-fold probabilities of a model, subjects apart.

    python benchmarks/label_noise.py                      # three corpora of 496 clips, one in twenty of the labels that can be wrong is; about half an hour of one core

Everything here is synthetic. The ranking is cleanlab's default (self-confidence), settled before any result was seen; the other ways are reported beside it.
The model was chosen on another corpus (`--generators 61`): one pass of `linear` 0.58, of `late` 0.74 to 0.84, of `bicross` 0.68 to 0.79, by the draw of the folds; the mean of three passes 0.84 and 0.79. So `late`, three passes.
Figures are pooled over corpora that nothing was chosen on. With 19 wrong labels in each, one clip of one corpus is 0.05 there and 0.02 here.
Precision at k: k is the number of wrong labels, so chance is their share. XOR clips are ranked along with the rest, though none of them is wrong and no model of one stream at a time can tell them.
"""
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro

from mmemo.core import write_json
from mmemo.explain.suspect_labels import METHODS, list_mislabelled, predict_out_of_fold, rank_label_issues
from mmemo.features.extract import extract
from mmemo.training.floors import score_over_subjects
from mmemo.corpora.manifest import write_table
from mmemo.planted.corpus import PlantedConfig, make_planted


@dataclass
class Settings:
    out: Path = Path('runs/label_noise') # corpora and out-of-fold predictions
    generators: tuple[int, ...] = (52, 53, 54) # seeds of the corpora; used for nothing else
    noise: float = .05 # share of wrong labels
    model: str = 'late'
    repeats: int = 3 # passes, each with folds of its own
    folds: int = 5
    workers: int = 1
    results: Path = Path('benchmarks/results')


def ranked_by(pred:pd.DataFrame, method:str, wrong:set, generator:int) -> pd.DataFrame: # the first k clips: who, found
    "The suspects of one corpus."
    top = rank_label_issues(pred, method)[:len(wrong)]
    return pd.DataFrame(dict(who=[f'{generator}-{s}' for s in top.subject], found=top.clip_id.isin(wrong).to_numpy()))


def found_in(top:pd.DataFrame) -> dict: # value and interval over the subjects of the first k clips
    "Precision at k."
    return score_over_subjects(top.found.to_numpy(), top.who.to_numpy()) | dict(value=float(top.found.mean()), k=len(top))


def one_corpus(generator:int, s:Settings) -> tuple: # predictions, ids of wrong clips
    config = PlantedConfig(seed=generator, val_subjects=2, test_subjects=2, val_clips=16, test_clips=16, label_noise=s.noise)
    corpus = make_planted(s.out/f'planted-{generator}', config, s.workers).subset('train')
    pred = predict_out_of_fold(corpus, extract(corpus, 'tiny', 'tiny', progress=False), s.model, s.folds, repeats=s.repeats, progress=lambda share, said: print(f'{generator}: {share:.0%} {said}', flush=True))
    write_table(pred, s.out/f'out-of-fold-{s.model}-{s.repeats}-{generator}.parquet')
    return pred, list_mislabelled(corpus)


def main(s:Settings):
    start = time.perf_counter()
    torch.set_num_threads(1)
    told, rows = {g: one_corpus(g, s) for g in s.generators}, []
    parts = {'all clips': lambda pred: pred, 'without XOR': lambda pred: pred[pred.subset != 'xor']}
    for part, of in parts.items():
        for method in METHODS:
            tops = [ranked_by(of(pred), method, wrong, g) for g, (pred, wrong) in told.items()]
            each = {str(g): float(t.found.mean()) for g, t in zip(told, tops)}
            n, k = (sum(map(len, x)) for x in zip(*((of(pred), wrong) for pred, wrong in told.values())))
            rows.append(dict(part=part, method=method, **found_in(pd.concat(tops)), each=each, n_clips=n, share_wrong=k/n))
    taken = [rank_label_issues(pred).query('issue').clip_id.isin(wrong).to_numpy() for pred, wrong in told.values()]
    flagged = dict(n=sum(map(len, taken)), precision=float(np.concatenate(taken).mean()), recall=float(np.concatenate(taken).sum()/sum(len(wrong) for _, wrong in told.values())))
    accuracy = np.concatenate([(pred.label == pred.predicted).to_numpy() for pred, _ in told.values()]).mean()
    print(f"Synthetic, seeds {', '.join(map(str, told))}: {rows[0]['k']} of {rows[0]['n_clips']} labels are wrong; out-of-fold accuracy against the given labels {accuracy:.3f}")
    print(pd.DataFrame(rows).drop(columns=['n', 'n_groups']).round(3).to_string(index=False))
    print('What confident learning would take out:', flagged)
    asked = '' if (s.model, s.generators, s.repeats) == (Settings.model, Settings.generators, Settings.repeats) else f"-{s.model}-{s.repeats}-{'-'.join(map(str, told))}" # what was not asked for by default has a file of its own
    write_json(s.results/f'label_noise{asked}.json', dict(synthetic=True, date=str(date.today()), command='python benchmarks/label_noise.py' + (asked and f" --generators {' '.join(map(str, told))} --model {s.model} --repeats {s.repeats}"), generators=list(told), noise=s.noise, model=s.model,
               repeats=s.repeats, folds=s.folds, by='subject', headline=rows[0], rows=rows, flagged=flagged, seconds=round(time.perf_counter() - start, 1)))


if __name__ == '__main__':
    main(tyro.cli(Settings, description=__doc__))
