"""How often do the intervals hold the truth? People, clips and trainings are drawn from populations whose true score is known from a very large draw.

    python benchmarks/interval_coverage.py                 # every kind of interval that is printed, 5 to 60 people, 2,000 draws each; a few minutes of two cores
    python benchmarks/interval_coverage.py --draws 200     # small

A clip is answered rightly where a sum is above zero: the model's level, the person (how well people can be read differs, as on RAVDESS: intra-class correlation 0.04 to 0.07), the person in a class, the class,
the clip (hard for every model alike), the training (as a whole, and in each class), and luck. A wrong answer is drawn from the row of its class. So the clips of a person go together, two models err together, and two trainings
of one model differ by as much as `spread` says: `small` moves macro-F1 by 0.01, `usual` by 0.02 (as `bicross` and its parts left out did on the planted corpus), `large` by 0.04 to 0.05.
Values (CCC, errors) have people whose scale and level are read differently. Intervals are those of the product: the same functions, called with the sums of the drawn people.
`given this training` stands for one training each, whose own true score is asked for; where other trainings are asked for one training cannot tell, and `one training, asked about the next` says how often that goes wrong.
"""
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from mmemo.core import rng_for, write_json
from mmemo.explain.errors import find_ece, measure_gap
from mmemo.training.intervals import average_sums, find_difference, find_interval
from mmemo.training.metrics import accuracy, ccc_from_sums, macro_f1, per_class_f1, uar, weighted_f1

PEOPLE = (5, 8, 12, 16, 24, 60)
SPREADS = dict(none=(0., 0.), small=(.03, .05), usual=(.13, .15), large=(.3, .3)) # of a training: as a whole, in each class
CLASSES, CLIPS = 6, 12
HARD = np.linspace(.35, -.35, CLASSES) # of the classes
TAKEN_FOR = np.random.default_rng(7).dirichlet(np.ones(CLASSES - 1), CLASSES).cumsum(1) # the other classes, by the true one


@dataclass(frozen=True)
class Population:
    "Who is drawn, and what answers the models give."
    level: float = 1.45 # of the first model; 0.4: accuracy 0.64, 1.45: 0.90, 2.1: 0.97, 2.6: 0.99
    apart: float = 0. # how much lower the second model's is
    models: int = 1
    trainings: int = 1
    spread: str = 'none' # how much trainings differ
    person: float = .35
    slice: int = 0 # clips of each person that belong to a slice, in which everything is harder


def count(y, said, which=slice(None)) -> np.ndarray: # (trials, people, clips) each -> (trials, people, classes, classes)
    "Labels and answers of each person, over some of the clips."
    y, said = y[..., which], said[..., which]
    owner = np.arange(y.shape[0]*y.shape[1]).reshape(*y.shape[:2], 1)
    cell = (owner*CLASSES + y)*CLASSES + said
    return np.bincount(cell.ravel(), minlength=owner.size*CLASSES**2).reshape(*y.shape[:2], CLASSES, CLASSES)


def draw_answers(rng, people:int, trials:int, p:Population) -> np.ndarray: # (trials, models, trainings, people, classes, classes)
    "Counts of labels and answers of each person; with a slice (trials, 2, people, ...): the slice, and everything."
    y = np.tile(np.arange(CLIPS) % CLASSES, (trials, people, 1))
    noise = lambda *shape: rng.normal(size=shape)
    in_class = lambda v: np.take_along_axis(np.broadcast_to(v, (trials, people, CLASSES)), y, 2)
    skill = p.level + HARD[y] + p.person*noise(trials, people, 1) + in_class(.25*noise(trials, people, CLASSES)) + .8*noise(*y.shape)
    skill[..., :p.slice] -= .5
    wrong = np.minimum((rng.random(y.shape)[..., None] > TAKEN_FOR[y]).sum(-1), CLASSES - 2)
    wrong = wrong + (wrong >= y)
    (whole, each), out = SPREADS[p.spread], []
    for m in range(p.models):
        mine = skill - m*p.apart + .12*noise(trials, people, 1)
        for _ in range(p.trainings):
            trained = whole*noise(trials, 1, 1) + in_class(each*noise(trials, 1, CLASSES))
            said = np.where(mine + trained + .6*noise(*y.shape) > 0, y, wrong)
            out.append(count(y, said))
    if p.slice: return np.stack([count(y, said, slice(p.slice)), out[0]], 1)
    return np.stack(out, 1).reshape(trials, p.models, p.trainings, people, CLASSES, CLASSES)


def draw_values(rng, people:int, trials:int, gain:float, gains:float, level:float, noise:float, second:float=0.) -> tuple: # (trials, models, people, 6), (trials, models, people, 2)
    "Values read in each person's own scale and level: sums as of `sum_for_ccc`; absolute errors and their number. A second model reads them with another gain."
    y = .3*rng.normal(size=(trials, people, 1)) + .4*rng.normal(size=(trials, people, CLIPS))
    scale, shift, n = gains*rng.normal(size=(trials, people, 1)), level*rng.normal(size=(trials, people, 1)), np.full((trials, people), float(CLIPS))
    read = [(g + scale)*y + shift + noise*rng.normal(size=y.shape) for g in ((gain, second) if second else (gain,))]
    sums = [np.stack([n, x.sum(2), y.sum(2), (x*x).sum(2), (y*y).sum(2), (x*y).sum(2)], -1) for x in read]
    return np.stack(sums, 1), np.stack([np.stack([np.abs(x - y).sum(2), n], -1) for x in read], 1)


def draw_losses(rng, people:int, trials:int, a:float, b:float, wrong:float) -> np.ndarray: # (trials, people, 2): log-loss and number; right mostly, sure and wrong now and then, people unlike
    is_wrong = rng.random((trials, people, CLIPS)) < rng.beta(a, b, (trials, people, 1))
    loss = np.where(is_wrong, rng.gamma(2, wrong/2, is_wrong.shape), rng.gamma(.5, .1, is_wrong.shape))
    return np.stack([loss.sum(2), np.full((trials, people), float(CLIPS))], -1)


def draw_means(rng, people:int, trials:int, a:float, b:float) -> np.ndarray: # (trials, people, 2): sum and number of figures between 0 and 1, as AUCs of maps
    person = rng.beta(a, b, (trials, people, 1))
    return np.stack([rng.beta(6*person + .01, 6*(1 - person) + .01, (trials, people, CLIPS)).sum(2), np.full((trials, people), float(CLIPS))], -1)


def draw_confidences(rng, people:int, trials:int, sure:float, bins:int=15) -> np.ndarray: # (trials, people, bins, 3) as `sum_calibration`
    "A model that is as sure as `sure` times what its evidence is worth; people differ in how well they are read."
    z = .8 + 1.3*rng.normal(size=(trials, people, CLIPS))
    right = rng.random(z.shape) < 1/(1 + np.exp(-z - .5*rng.normal(size=(trials, people, 1))))
    said = 1/(1 + np.exp(-sure*z))
    said = np.maximum(said, 1 - said)
    cell = np.arange(trials*people).reshape(trials, people, 1)*bins + np.minimum((said*bins).astype(int), bins - 1)
    sums = [np.bincount(cell.ravel(), w.ravel().astype(float), trials*people*bins) for w in (np.ones_like(said), said, right)]
    return np.stack(sums, -1).reshape(trials, people, bins, 3)


# a kind of interval: what is drawn, what is asked, and the interval of one draw

confused = lambda s: s[..., 0, 1]/s[..., 0, :].sum(-1) # a cell of the confusion: class 0 taken for class 1
f1_of_last = lambda s: per_class_f1(s)[..., -1]
SCORES = {'accuracy': accuracy, 'macro-F1': macro_f1, 'weighted F1': weighted_f1, 'mean recall': uar, 'F1 of one class': f1_of_last, 'cell of a confusion': confused}


@dataclass(frozen=True)
class Kind:
    "One kind of interval: `of` names what is asked, the rest what is drawn."
    of: str
    what: str # score, difference, ccc, error, loss, mean, ece, slice
    population: Population = Population()
    values: tuple = ()

    @property
    def name(self) -> str: return f'{self.of}, {self.about}' if self.about else self.of

    @property
    def about(self) -> str:
        p = self.population
        trained = {1: 'given this training'}.get(p.trainings, f'{p.trainings} trainings, {p.spread} spread')
        return {'score': trained, 'difference': trained}.get(self.what, '')

    def draw(self, rng, people, trials):
        if self.what in ('ccc', 'error'): return draw_values(rng, people, trials, *self.values)[self.what == 'error']
        if self.what == 'loss': return draw_losses(rng, people, trials, *self.values)
        if self.what == 'mean': return draw_means(rng, people, trials, *self.values)
        if self.what == 'ece': return draw_confidences(rng, people, trials, *self.values)
        return draw_answers(rng, people, trials, self.population)

    def find_truth(self) -> float:
        "The score itself, from some hundred thousand people; of several trainings the mean over a thousand and more of them."
        rng, f = rng_for('coverage truth', self.name), SCORES.get(self.of.split(' of ')[0] if self.what == 'difference' else self.of)
        if self.what in ('score', 'difference'):
            if self.population.spread == 'none': parts = np.sum([self.draw(rng, 2000, 10).sum((0, 3)) for _ in range(10)], 0)[None]
            else: parts = np.concatenate([self.draw(rng, 300, 100).sum(3) for _ in range(12)])
            values = f(parts.astype(float)).mean((0, 2))
            return float(values[0] - values[1]) if self.what == 'difference' else float(values[0])
        if self.what in ('ccc', 'error'):
            each = (ccc_from_sums if self.what == 'ccc' else average_sums)(np.sum([self.draw(rng, 2000, 10).sum((0, 2)) for _ in range(10)], 0))
            return float(each[0] - each[1] if len(each) == 2 else each[0])
        total = np.sum([self.draw(rng, 2000, 10).sum(0 if self.what == 'slice' else (0, 1)) for _ in range(10)], 0)
        if self.what == 'slice': return float(np.diff(accuracy(total.sum(1)))[0]*-1)
        if self.what == 'ece': return find_ece(total[None])['value']
        return float(average_sums(total))

    def find(self, drawn) -> dict: # one draw -> value, ci95
        f = SCORES.get(self.of.split(' of ')[0] if self.what == 'difference' else self.of)
        if self.what == 'score': return find_interval(f, list(drawn[0]))
        if self.what == 'difference': return find_difference(f, list(drawn[0]), list(drawn[1]), rows=drawn.shape[2]*CLIPS)
        if self.what == 'slice': return measure_gap(accuracy, *drawn, rows=drawn.shape[1]*self.population.slice)
        if self.what == 'ece': return find_ece(drawn)
        if self.what in ('ccc', 'error'):
            f, bounds = (ccc_from_sums, (-1., 1.)) if self.what == 'ccc' else (average_sums, (0., np.inf))
            return find_interval(f, drawn[0], bounds) if len(drawn) == 1 else find_difference(f, *drawn, bounds)
        return find_interval(average_sums, drawn, (0., np.inf) if self.what == 'loss' else (0., 1.))


def list_kinds() -> list:
    "Every kind of interval that the product prints."
    at = lambda level, **more: Population(level, **more)
    kinds = [Kind(of, 'score', at(level)) for of in ('accuracy', 'macro-F1') for level in (.4, 1.45, 2.1, 2.6)]
    kinds += [Kind('weighted F1', 'score', at(1.45)), Kind('mean recall', 'score', at(1.45)), Kind('mean recall', 'score', at(2.6)), Kind('F1 of one class', 'score', at(1.45)), Kind('F1 of one class', 'score', at(2.6)),
              Kind('cell of a confusion', 'score', at(.4)), Kind('accuracy', 'score', at(1.45, person=.7)), Kind('accuracy', 'score', at(2.6, person=.7))]
    kinds += [Kind('macro-F1', 'score', at(level, trainings=3, spread=s)) for level in (1.45, 2.1) for s in ('usual', 'large')]
    kinds += [Kind('CCC', 'ccc', values=v) for v in ((.7, .2, .15, .3), (.5, .3, .3, .3), (.9, .05, .05, .1))]
    kinds += [Kind('CCC of two models', 'ccc', values=(.7, .2, .15, .3, .5)), Kind('mean absolute error of two models', 'error', values=(.7, .2, .15, .3, .5))]
    kinds += [Kind('log-loss', 'loss', values=v) for v in ((1, 14, 3.), (.5, 7, 3.), (2, 18, 3.), (2, 6, 2.5))]
    kinds += [Kind('mean absolute error', 'error', values=(.7, .2, .15, .3)), Kind('mean over clips, as AUC of maps', 'mean', values=(8., 4.)), Kind('mean over clips, as AUC of maps', 'mean', values=(30., 1.5))]
    kinds += [Kind('ECE', 'ece', values=(v,)) for v in (.75, 1.2, 2., 4.)]
    kinds += [Kind('slice minus everything', 'slice', at(1.45, slice=4)), Kind('slice minus everything', 'slice', at(2.6, slice=4))]
    kinds += [Kind('macro-F1 of two models', 'difference', at(level, models=2, apart=d)) for level, d in ((1.45, 0.), (1.45, .3), (2.1, 0.), (2.6, .4))]
    kinds += [Kind('macro-F1 of two models', 'difference', at(level, models=2, apart=.3, trainings=3, spread=s)) for level in (1.45, 2.1) for s in ('usual', 'large')]
    return kinds


def measure(kind:Kind, true:float, people:int, draws:int) -> dict: # kind, true, people, held, width, draws
    "In what share of the draws the interval holds the truth."
    rng, held, width = rng_for('coverage', kind.name, str(kind.values), kind.population.level, people), [], []
    for _ in range(draws//100):
        for drawn in kind.draw(rng, people, 100):
            low, high = kind.find(drawn)['ci95']
            held.append(low <= true <= high)
            width.append(high - low)
    return dict(kind=kind.name, true=round(true, 3), people=people, held=round(float(np.mean(held)), 4), width=round(float(np.mean(width)), 3), draws=len(held))


def measure_false(p:Population, people:int, draws:int) -> dict: # level, trainings, spread, people, false, of_people
    "How often two equal models are called different, with trainings as chance and with people only."
    rng, false, given = rng_for('coverage equal', p.level, p.trainings, p.spread, people), [], []
    for _ in range(draws//100):
        for a, b in draw_answers(rng, people, 100, p):
            false.append(find_difference(macro_f1, list(a), list(b), rows=people*CLIPS)['p'] < .05)
            given.append(find_difference(macro_f1, a.sum(0), b.sum(0), rows=people*CLIPS)['p'] < .05)
    how = 'one training, asked about the next' if p.trainings == 1 else 'trainings and people'
    return dict(level=p.level, trainings=p.trainings, spread=p.spread, how=how, people=people, false=round(float(np.mean(false)), 4),
                over_people_only=round(float(np.mean(given)), 4), draws=len(false))


def measure_job(job) -> list: # a Kind, or a Population of equal models; numbers of people; draws -> rows
    what, people, draws = job
    if isinstance(what, Population): return [measure_false(what, g, draws) for g in people]
    true = what.find_truth()
    return [measure(what, true, g, draws) for g in people]


@dataclass
class Settings:
    draws: int = 2000 # of each kind and number of people
    people: tuple[int, ...] = PEOPLE
    workers: int = 2
    results: Path = Path('benchmarks/results')


def run(s:Settings) -> dict: # coverage, false: rows
    "All kinds, in processes."
    equal = [Population(level, models=2, trainings=k, spread=spread) for level in (1.45, 2.1) for spread in ('small', 'usual', 'large') for k in (1, 3)]
    equal += [Population(models=2, trainings=k, spread='usual') for k in (2, 5)]
    jobs = [(what, s.people, s.draws) for what in (*equal, *list_kinds())]
    if s.workers == 1: rows = list(map(measure_job, jobs))
    else:
        with ProcessPoolExecutor(s.workers) as pool: rows = list(pool.map(measure_job, jobs))
    flat = lambda parts: [row for part in parts for row in part]
    return dict(coverage=flat(rows[len(equal):]), false=flat(rows[:len(equal)]))


if __name__ == '__main__':
    s, start = tyro.cli(Settings), time.perf_counter()
    out = run(s)
    table = pd.DataFrame(out['coverage'])
    print(table.pivot_table(index=['kind', 'true'], columns='people', values='held', sort=False).to_string())
    false = pd.DataFrame(out['false'])
    print(false.pivot_table(index=['level', 'spread', 'trainings'], columns='people', values='false', sort=False).to_string())
    enough = table[table.people >= 8]
    print(f"From 8 people on the worst holds {enough.held.min():.3f}; at 5 {table[table.people == 5].held.min():.3f}; three trainings or more, false: {false[false.trainings >= 3].false.max():.3f}")
    write_json(s.results/'coverage.json', dict(date=str(date.today()), command=f'python benchmarks/interval_coverage.py --draws {s.draws}', **out, minutes=round((time.perf_counter() - start)/60, 1)))
