"How often the intervals of the product hold the truth: what was measured, and a small part of `benchmarks/interval_coverage.py`."
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parent.parent/'benchmarks'


@pytest.fixture(scope='module')
def coverage():
    "The benchmark as a module."
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import interval_coverage
        yield interval_coverage
    finally: sys.path.remove(str(BENCHMARKS))


def test_every_kind_held_as_measured(coverage):
    "0.93 or more from 8 people on, for every kind that the benchmark knows; equal models called different in 0.07 or less."
    measured = json.loads((BENCHMARKS/'results'/'coverage.json').read_text())
    table, false = pd.DataFrame(measured['coverage']), pd.DataFrame(measured['false'])
    assert set(table.kind) == {k.name for k in coverage.list_kinds()} and set(table.people) == set(coverage.PEOPLE) and table.draws.min() >= 1000
    assert table[table.people >= 8].held.min() >= .93
    assert false[(false.trainings >= 3) & (false.people >= 8)].false.max() <= .07
    assert false[false.trainings == 1].false.max() > .2, 'one training tells nothing of the next, which is why tables say so'


@pytest.mark.slow
@pytest.mark.parametrize('people', [8, 24])
def test_a_small_part_of_the_benchmark(coverage, people):
    for kind in coverage.list_kinds()[::4]:
        row = coverage.measure(kind, kind.find_truth(), people, 200)
        assert row['held'] >= .89, row # three standard errors below 0.94


@pytest.mark.slow
def test_equal_models_with_three_trainings(coverage):
    row = coverage.measure_false(coverage.Population(models=2, trainings=3, spread='usual'), 16, 300)
    assert row['false'] <= .09 and row['over_people_only'] > row['false']
    given = coverage.measure_false(coverage.Population(models=2, spread='none'), 16, 300)
    assert given['false'] <= .09, 'asked about these very trainings, one is enough'


def test_the_truth_of_a_population_is_its_score(coverage):
    "A population with one class answered at random has the score that one computes by hand."
    kind = coverage.Kind('accuracy', 'score', coverage.Population(level=9.))
    assert kind.find_truth() == pytest.approx(1, abs=1e-4)
    sums = coverage.draw_answers(np.random.default_rng(0), 3, 2, coverage.Population(models=2, trainings=2))
    assert sums.shape == (2, 2, 2, 3, 6, 6) and (sums.sum((-1, -2)) == coverage.CLIPS).all()
