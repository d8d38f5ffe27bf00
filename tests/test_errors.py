"Errors, slices, calibration and label noise against references and by hand."
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from mmemo.core import UserError
from mmemo.explain.errors import (OUTCOMES, compare_clips, compare_runs, compute_ece, count_outcomes,
                                  find_slice_columns, find_worst_slice, halve_groups, list_cell_clips, list_slices,
                                  measure_calibration, measure_reliability, name_slice_values, score_slices,
                                  select_slice, sum_calibration, tabulate_confusion)
from mmemo.explain.suspect_labels import list_mislabelled, precision_at, predict_out_of_fold, rank_label_issues
from mmemo.training.evaluation import get_probabilities
from mmemo.corpora.manifest import Corpus
from mmemo.training.metrics import count_confusion

NAMES = ('Neutral', 'Anger', 'Disgust', 'Fear', 'Happiness', 'Sadness', 'Surprise', 'Other')


def made_up(n=200, seed=0, subjects=10, sharp=1.5, frames=0):
    "Predictions of n clips, or of `frames` frames of each; a clip in nine has no label."
    rng = np.random.default_rng(seed)
    ids, y = [f'c{i:03d}' for i in range(n)], rng.integers(0, 8, n)
    y[::9] = -1
    clips = pd.DataFrame(dict(clip_id=ids, path='x', subject=[f's{i % subjects}' for i in range(n)], split='test', label=[NAMES[i] if i >= 0 else None for i in y],
                              place=rng.choice(['home', 'street', None], n), age=rng.uniform(20, 60, n), hat=rng.random(n) < .4))
    k = max(frames, 1)
    row = np.repeat(np.arange(n), k)
    z = rng.normal(size=(n*k, 8)) + sharp*np.eye(8)[y[row].clip(0)]
    p = np.exp(z)/np.exp(z).sum(1, keepdims=True)
    pred = clips[['clip_id', 'subject', 'split']].iloc[row].reset_index(drop=True)
    if frames: pred = pred.assign(frame=np.tile(np.arange(k), n), time=np.tile(np.arange(k)/25, n))
    pred = pred.assign(label=pd.Categorical.from_codes(y[row], NAMES), predicted=pd.Categorical.from_codes(p.argmax(1), NAMES))
    return Corpus('made up', Path('.'), clips), pred.join(pd.DataFrame(p.astype('float32'), columns=[f'p_{c}' for c in NAMES]))


@pytest.mark.parametrize('frames', [0, 4])
@pytest.mark.parametrize('bins', [5, 15])
def test_ece_equals_torchmetrics(frames, bins):
    _, pred = made_up(frames=frames, seed=bins)
    known = pred.label.notna().to_numpy()
    p, y = torch.tensor(get_probabilities(pred)[known]), torch.tensor(pred.label.cat.codes.to_numpy()[known].astype(int))
    reference = multiclass_calibration_error(p, y, 8, n_bins=bins, norm='l1').item()
    found = measure_calibration(pred, bins)
    assert found['value'] == pytest.approx(reference, abs=1e-6) and found['n'] == known.sum()
    assert compute_ece(sum_calibration(pred, bins).sum(0)) == pytest.approx(reference, abs=1e-6)


def test_reliability_by_hand():
    _, pred = made_up()
    table = measure_reliability(pred, 4)
    own = pred[pred.label.notna()]
    top, right = get_probabilities(own).max(1), (own.predicted.astype(str) == own.label.astype(str)).to_numpy()
    assert table.n.sum() == len(own)
    for r in table.itertuples():
        here = (top >= r.start) & (top < r.end)
        assert (r.n, r.confidence, r.accuracy) == (here.sum(), pytest.approx(top[here].mean()), pytest.approx(right[here].mean())) and r.low <= r.accuracy <= r.high


def test_sure_of_everything_falls_into_the_last_bin():
    _, pred = made_up()
    pred[[f'p_{c}' for c in NAMES]] = np.eye(8, dtype='float32')[pred.predicted.cat.codes]
    found = measure_calibration(pred)
    assert found['value'] == pytest.approx(1 - found['accuracy']) and found['honest'] == 0 and len(measure_reliability(pred)) == 1


def test_confusion_counts_and_shares():
    _, pred = made_up(frames=3)
    table = tabulate_confusion(pred)
    reference = count_confusion(pred.label.cat.codes, pred.predicted.cat.codes, 8)
    assert (table.pivot(index='label', columns='predicted', values='n').loc[list(NAMES), list(NAMES)].to_numpy() == reference).all()
    assert table.groupby('label').share.sum().to_numpy() == pytest.approx(np.ones(8))
    assert ((table.low <= table.share + 1e-9) & (table.share <= table.high + 1e-9)).mean() > .95


def test_a_class_without_labels_has_no_shares():
    _, pred = made_up()
    table = tabulate_confusion(pred[pred.label != 'Fear'])
    assert table[table.label == 'Fear'][['share', 'low', 'high']].isna().all(axis=None) and not table[table.label == 'Anger'].share.isna().any()


def test_clips_behind_a_cell():
    _, pred = made_up(frames=5)
    table = list_cell_clips(pred, 'Anger', 'Fear')
    own = pred[(pred.label == 'Anger') & (pred.predicted == 'Fear')]
    assert table.n.sum() == len(own) and set(table.clip_id) == set(own.clip_id) and table.confidence.is_monotonic_decreasing
    assert len(list_cell_clips(made_up()[1])) == made_up()[1].label.notna().sum()      # without a label there is no error


def test_slices_say_what_a_query_says():
    corpus, pred = made_up()
    table = score_slices(pred, corpus, ['place', 'hat'], pairs=True, min_clips=5)
    clips = corpus.clips.set_index('clip_id').loc[pred.clip_id].reset_index()
    for r in table.itertuples():
        here = np.ones(len(pred), bool)
        for c, v in r.where.items(): here &= (clips[c].isna() if v == 'none' else clips[c].astype(str) == v).to_numpy()
        own = pred[here & pred.label.notna().to_numpy()]
        assert r.score == pytest.approx((own.predicted.astype(str) == own.label.astype(str)).mean()) and r.n_clips == here.sum()
        assert len(select_slice(pred, corpus, r.where)) == here.sum()
    assert table.attrs == dict(metric='accuracy', looked_at=len(table)) and table.score.is_monotonic_increasing and len(table) == 3 + 2 + 6


def test_columns_and_ranges():
    corpus, pred = made_up()
    assert find_slice_columns(corpus.clips) == ['subject', 'label', 'place', 'age', 'hat']
    odd = pd.DataFrame(dict(clip_id=list('abc'), lists=[[1], [2], [3]], same=1, n=[1., None, 2.]))
    assert find_slice_columns(odd) == ['n'] and name_slice_values(odd.n).tolist() == ['1.0', 'none', '2.0']
    assert name_slice_values(corpus.clips.age).nunique() == 4
    gaps = name_slice_values(corpus.clips.age.where(corpus.clips.hat))
    assert gaps.nunique() == 5 and (gaps == 'none').sum() == (~corpus.clips.hat).sum(), 'a number that some clips lack'
    with pytest.raises(UserError, match="no column 'shoe'"): score_slices(pred, corpus, ['shoe'])
    with pytest.raises(UserError, match='not in the corpus'): score_slices(pred, corpus.subset(['c001']), 'hat')
    assert all(not rows.all() for _, rows in list_slices(pd.DataFrame(dict(a=['x']*3, b=list('uvv')))))


def test_nobody_is_in_both_halves():
    _, pred = made_up(subjects=9)
    for seed in range(5):
        half = halve_groups(pred.subject, seed)
        assert not set(pred.subject[half]) & set(pred.subject[~half]) and .3 < half.mean() < .6


def test_a_search_among_nothing_finds_nothing_that_holds():
    held, found_low = [], []
    for seed in range(6):
        corpus, pred = made_up(seed=seed, sharp=2.)
        table = find_worst_slice(pred, corpus, ['place', 'hat', 'age'], min_clips=8, min_subjects=2, seed=seed)
        held += table.holds.tolist(); found_low += (table.score > table.score_where_found).tolist()
        assert (table.looked_at > 5).all()
    assert sum(held) <= 1 and sum(found_low) >= 7       # what was found is worse where it was found than where it was not


def test_outcomes_of_two_runs():
    _, a = made_up(seed=0)
    b = a.copy()
    p = get_probabilities(b)[:, ::-1]
    b[[f'p_{c}' for c in NAMES]], b['predicted'] = p.astype('float32'), pd.Categorical.from_codes(p.argmax(1), NAMES)
    found = compare_runs(a, b.sample(frac=1, random_state=0), 'accuracy')
    n, labelled = found['outcomes'].set_index('outcome').n, a.label.notna().sum()
    assert n.sum() == labelled and (n.fixed - n.broken)/labelled == pytest.approx(found['gap']['value'])
    turned = count_outcomes(compare_clips(b, a)).set_index('outcome').n
    assert (turned.fixed, turned.broken) == (n.broken, n.fixed) and list(turned.index) == list(OUTCOMES)
    with pytest.raises(UserError, match='do not match'): compare_clips(a, b[:-1])


def test_planted_wrong_labels_come_first():
    rng = np.random.default_rng(3)
    y, given = np.arange(240) % 8, np.arange(240) % 8
    wrong = rng.choice(240, 12, replace=False)
    given[wrong] = (given[wrong] + rng.integers(1, 8, 12)) % 8
    p = rng.dirichlet(np.ones(8), 240)*.3 + .7*np.eye(8)[y]
    pred = pd.DataFrame(dict(clip_id=[f'c{i}' for i in range(240)], label=pd.Categorical.from_codes(given, NAMES), predicted=pd.Categorical.from_codes(p.argmax(1), NAMES)))
    pred = pred.join(pd.DataFrame(p.astype('float32'), columns=[f'p_{c}' for c in NAMES]))
    ids = {f'c{i}' for i in wrong}
    ranked = rank_label_issues(pred)
    assert precision_at(ranked, ids) == 1 and precision_at(ranked[::-1], ids) == 0
    assert set(ranked.clip_id[ranked.issue]) <= ids and ranked.issue.sum() >= 6     # it would rather take out too few
    assert ranked.quality.is_monotonic_increasing and (ranked.suggested[:12].to_numpy() == [NAMES[int(c[1:]) % 8] for c in ranked.clip_id[:12]]).all()
    few = rank_label_issues(pred[pred.label.isin(['Anger', 'Fear'])])          # classes that nobody was given
    assert len(few) == pred.label.isin(['Anger', 'Fear']).sum()


def test_what_cannot_be_ranked_is_said():
    corpus, pred = made_up(frames=2)
    with pytest.raises(UserError, match='an answer a frame'): rank_label_issues(pred)
    with pytest.raises(UserError, match='no label to look at'): rank_label_issues(made_up()[1][:1])
    with pytest.raises(UserError, match="no column 'true_label'"): list_mislabelled(corpus)
    from mmemo.features.windows import WindowSettings
    with pytest.raises(UserError, match='level clip'): predict_out_of_fold(corpus, {}, settings=WindowSettings(level='frame'))
