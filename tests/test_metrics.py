"""Every metric against independent references over many random inputs, and the bootstrap against resampling rows."""
import time, warnings

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn import metrics as sk
from torchmetrics.functional import concordance_corrcoef
from torchmetrics.functional.classification import (multiclass_accuracy, multiclass_confusion_matrix, multiclass_f1_score,
                                                    multiclass_recall)

from mmemo.training import intervals as I, metrics as M

warnings.filterwarnings('ignore', message='.*variance of predictions.*')


def draw(seed):
    "Labels with holes and predictions, sometimes with few classes, few rows, or one-sided."
    rng = np.random.default_rng(seed)
    c = int(rng.choice([2, 3, 8, 20]))
    n = int(rng.choice([1, 5, 40, 700]))
    used = rng.choice(c, rng.integers(1, c + 1), replace=False)
    y = np.where(rng.random(n) < rng.choice([0, .3]), -1, rng.choice(used, n))
    p = rng.choice(used if rng.random() < .5 else c, n)
    return y, np.where(rng.random(n) < .5, np.where(y < 0, p, y), p), c


@pytest.mark.parametrize('seed', range(60))
def test_scores_equal_sklearn_and_torchmetrics(seed):
    y, p, c = draw(seed)
    keep = y >= 0
    ours = M.score_classes(y, p, c)
    assert ours['n'] == keep.sum()
    if not keep.any():
        assert ours['macro_f1'] == 0 and np.isnan(ours['accuracy'])
        return
    yk, pk, every = y[keep], p[keep], dict(labels=range(c), zero_division=0)
    np.testing.assert_allclose(ours['macro_f1'], sk.f1_score(yk, pk, average='macro', **every), atol=1e-12)
    np.testing.assert_allclose(ours['weighted_f1'], sk.f1_score(yk, pk, average='weighted', **every), atol=1e-12)
    np.testing.assert_allclose(ours['per_class_f1'], sk.f1_score(yk, pk, average=None, **every), atol=1e-12)
    np.testing.assert_allclose(ours['accuracy'], sk.accuracy_score(yk, pk), atol=1e-12)
    np.testing.assert_allclose(ours['uar'], sk.recall_score(yk, pk, labels=np.unique(yk), average='macro', zero_division=0), atol=1e-12)
    t, q, tm = torch.tensor(y), torch.tensor(p), dict(num_classes=c, ignore_index=-1)
    np.testing.assert_array_equal(ours['confusion'], multiclass_confusion_matrix(q, t, **tm).numpy())
    np.testing.assert_allclose(ours['per_class_f1'], multiclass_f1_score(q, t, average=None, **tm).numpy(), atol=1e-6)
    np.testing.assert_allclose(ours['accuracy'], multiclass_accuracy(q, t, average='micro', **tm).item(), atol=1e-6)
    recall = multiclass_recall(q, t, average=None, **tm).numpy()
    np.testing.assert_allclose(ours['uar'], recall[np.unique(yk)].mean(), atol=1e-6)
    absent = set(range(c)) - set(yk) - set(pk)
    assert set(ours['absent']) == absent
    # torchmetrics' macro leaves absent classes out; ours counts them 0
    theirs = multiclass_f1_score(q, t, average='macro', **tm).item()
    np.testing.assert_allclose(ours['macro_f1'], theirs*(c - len(absent))/c, atol=1e-6)


@pytest.mark.parametrize('seed', range(30))
def test_log_loss_equals_sklearn(seed):
    rng = np.random.default_rng(seed)
    c, n = int(rng.integers(2, 9)), int(rng.integers(1, 200))
    probs, y = rng.dirichlet(np.full(c, .5), n), rng.integers(-1, c, n)
    keep = y >= 0
    if not keep.any(): return
    clipped = np.clip(probs[keep], 1e-7, None)
    np.testing.assert_allclose(M.log_loss(y, probs), -np.log(clipped[np.arange(keep.sum()), y[keep]]).mean(), rtol=1e-9)
    if (probs[keep] > 1e-6).all():
        np.testing.assert_allclose(M.log_loss(y, probs), sk.log_loss(y[keep], probs[keep], labels=range(c)), rtol=1e-6)


@pytest.mark.parametrize('seed', range(40))
def test_ccc_equals_its_definition(seed):
    rng = np.random.default_rng(seed)
    n, scale, shift = int(rng.choice([2, 3, 50, 4000])), rng.choice([1e-3, 1, 1e3]), rng.choice([0, 1e4])
    x = rng.normal(size=n)*scale + shift
    y = rng.uniform(-1, 1)*(x - shift) + rng.normal(size=n)*scale + shift + rng.normal()*scale
    mx, my = x.mean(), y.mean()
    by_definition = 2*((x - mx)*(y - my)).mean()/(x.var() + y.var() + (mx - my)**2)
    np.testing.assert_allclose(M.ccc(x, y), by_definition, atol=1e-9)
    if n > 1000 and not shift: # n and n - 1 no longer differ much
        np.testing.assert_allclose(M.ccc(x, y), concordance_corrcoef(torch.tensor(x), torch.tensor(y)).item(), atol=1e-3)
    np.testing.assert_allclose(M.ccc(y, y), 1, atol=1e-9)
    assert M.ccc(np.full(n, x[0]), y) == 0
    hidden = rng.random(n) < .3
    if (~hidden).sum() > 1:
        holes = np.where(hidden, np.nan, y)
        np.testing.assert_allclose(M.ccc(x, holes), M.ccc(x[~hidden], y[~hidden]), atol=1e-9)
        np.testing.assert_allclose(M.ccc(x, y, ~hidden), M.ccc(x[~hidden], y[~hidden]), atol=1e-9)


@pytest.mark.parametrize('value', [0., .3, -1., 1e6])
def test_ccc_of_constants_is_zero(value):
    y = np.random.default_rng(0).normal(size=100)
    assert M.ccc(np.full(100, value), y) == 0
    assert M.ccc(np.full(100, value), np.full(100, value)) == 0
    assert M.ccc(y, np.full(100, value)) == pytest.approx(0, abs=1e-9)
    assert M.ccc([], []) == 0


def test_always_answering_other_on_aff_wild2():
    counts = [82258, 6126, 5296, 8408, 34511, 25157, 12332, 106444]
    s = M.score_classes(np.repeat(np.arange(8), counts), np.full(sum(counts), 7), 8)
    assert round(100*s['accuracy'], 1) == 37.9 and round(s['macro_f1'], 3) == .069 and s['uar'] == .125


@pytest.mark.parametrize('score', ['macro_f1', 'accuracy', 'uar', 'weighted_f1'])
def test_leaving_out_equals_scoring_the_rows_that_are_left(score):
    "The same the slow way: the rows of all others, scored by scikit-learn."
    rng = np.random.default_rng(1)
    group = rng.integers(0, 9, 400); y, p = rng.integers(-1, 4, 400), rng.integers(0, 4, 400)
    names, sums = M.count_confusions(y, p, group, 4)
    _, fast = I.leave_out(getattr(M, score), sums)
    for k, name in enumerate(names):
        rows = (group != name) & (y >= 0)
        a, b, every = y[rows], p[rows], dict(labels=range(4), zero_division=0)
        slow = dict(macro_f1=lambda: sk.f1_score(a, b, average='macro', **every), accuracy=lambda: sk.accuracy_score(a, b),
                    uar=lambda: sk.recall_score(a, b, labels=np.unique(a), average='macro', zero_division=0),
                    weighted_f1=lambda: sk.f1_score(a, b, average='weighted', **every))[score]()
        np.testing.assert_allclose(fast[k], slow, atol=1e-12)


def drawn(task, rng, n=240):
    "Labels with holes and predictions of a task, as `sum_for_task` takes them."
    if task == 'expression': return rng.integers(-1, 4, n), rng.random((n, 4))
    if task == 'emotions':
        y = np.where(rng.random((n, 6)) < .35, rng.integers(1, 10, (n, 6))/3, 0.); p = rng.random((n, 6))*.6 + .3*(y > 0)
    else:
        c, reach = (2 if task == 'va' else 1), 3 if task == 'sentiment' else 1
        y = np.round(rng.uniform(-reach, reach, (n, c))*3)/3; p = y*.6 + rng.normal(0, .5*reach, (n, c))
    y[rng.random(n) < .1, 0] = np.nan
    return y, p


def slow_sentiment(y, p):
    "Every figure of sentiment from scikit-learn and plain rounding."
    non0, weighted = y != 0, dict(average='weighted', zero_division=0)
    cut = lambda v: np.clip(v, -3, 3)
    away = lambda v: np.sign(v)*np.ceil(np.abs(cut(v)))
    return dict(acc2_has0=np.mean((y >= 0) == (p >= 0)), acc2_non0=np.mean((y > 0)[non0] == (p > 0)[non0]),
                weighted_f1_has0=sk.f1_score(y >= 0, p >= 0, **weighted), weighted_f1_non0=sk.f1_score((y > 0)[non0], (p > 0)[non0], **weighted),
                acc7_mmsa=np.mean(np.round(cut(y)) == np.round(cut(p))), acc7_sdk=np.mean(away(y) == away(p)),
                pearson_r=pearsonr(y, p)[0], mae=np.abs(y - p).mean(), ccc=M.ccc(p, y))


def slow_score(task, name, y, p):
    "One score of the rows, by other means."
    keep = y >= 0 if task == 'expression' else ~np.isnan(y).any(1)
    y, p = y[keep], p[keep]
    if task == 'expression':
        s = M.score_classes(y, p.argmax(1), p.shape[1]); return s[name]
    if task == 'sentiment':
        a, b = y[:, 0], p[:, 0]
        return slow_sentiment(a, b)[name]
    if task == 'emotions':
        f = dict(weighted_accuracy=sk.balanced_accuracy_score, f1_present=lambda t, q: sk.f1_score(t, q, zero_division=0),
                 weighted_f1=lambda t, q: sk.f1_score(t, q, average='weighted', zero_division=0))[name]
        return np.mean([f(y[:, i] > 0, p[:, i] > .5) for i in range(6)])
    each = [M.ccc(p[:, i], y[:, i]) for i in range(y.shape[1])]
    return dict(ccc=np.mean(each), ccc_valence=each[0], ccc_arousal=each[-1])[name]


@pytest.mark.parametrize('task', list(M.SCORES))
def test_every_score_of_a_task_equals_scoring_the_rows_that_are_left(task):
    rng = np.random.default_rng(7)
    y, p = drawn(task, rng); group = rng.integers(0, 8, len(p))
    names, sums = M.sum_for_task(task, y, p, group)
    for k, f in M.SCORES[task].items():
        _, fast = I.leave_out(f, sums)
        for i, name in enumerate(names):
            np.testing.assert_allclose(fast[i], slow_score(task, k, y[group != name], p[group != name]), atol=1e-9, err_msg=k)
        assert f(sums.sum(0)) == pytest.approx(slow_score(task, k, y, p))
        low, high = I.find_interval(f, sums, M.get_bounds(k))['ci95']
        assert low < high


def test_sentiment_without_labels_or_without_movement():
    names, sums = M.sum_for_sentiment([np.nan, np.nan], [1., 2.])
    assert len(names) == 0 and sums.shape == (0, 17) and np.isnan(I.find_interval(M.SCORES['sentiment']['mae'], sums, M.get_bounds('mae'))['value'])
    flat = M.sum_for_sentiment([-1., 0, 2], [.1, .1, .1])[1].sum(0)
    assert M.SCORES['sentiment']['pearson_r'](flat) == 0 == M.SCORES['sentiment']['ccc'](flat)
    assert np.isnan(M.SCORES['sentiment']['pearson_r'](M.sum_for_sentiment([1., 1], [0., 1])[1].sum(0)))
    zeros = M.sum_for_sentiment([0., 0], [1., -1])[1].sum(0)
    assert np.isnan(M.SCORES['sentiment']['acc2_non0'](zeros)) and np.isnan(M.SCORES['sentiment']['weighted_f1_non0'](zeros)) and M.SCORES['sentiment']['acc2_has0'](zeros) == .5


def test_an_emotion_of_one_kind_has_no_say_in_the_mean():
    y = np.zeros((40, 2)); y[::4, 0] = 1; p = y + .1
    sums = M.sum_for_emotions(y, p)[1].sum(0)
    assert M.average_recalls(sums)[0] == 1 and np.isnan(M.average_recalls(sums)[1]) and M.SCORES['emotions']['weighted_accuracy'](sums) == 1
    assert np.isnan(M.SCORES['emotions']['weighted_accuracy'](M.sum_for_emotions(y*0, p)[1].sum(0)))


def test_ccc_sums_add_up_over_groups():
    rng = np.random.default_rng(2)
    x, g = rng.normal(size=500), rng.integers(0, 20, 500); y = x + rng.normal(size=500)
    np.testing.assert_allclose(M.ccc_from_sums(M.sum_for_ccc(x, y, g)[1].sum(0)), M.ccc(x, y), atol=1e-12)


def draw_counts(rng, skill, clips):
    "Counts of right and wrong of people with a skill each."
    right = rng.random((len(skill), clips)) < skill[:, None]
    groups = np.repeat(np.arange(len(skill)), clips)
    return M.count_confusions(np.zeros(right.size, int), (~right).ravel().astype(int), groups, 2)[1]


@pytest.mark.parametrize('people,a,b', [(8, 8, 4), (8, 30, 1), (12, 60, 1), (40, 8, 4)])
def test_interval_covers_the_truth_as_often_as_it_says(people, a, b):
    "Few people, and people who are nearly always right: percentiles of a bootstrap hold the truth in 40 to 90 of 100 cases there."
    rng = np.random.default_rng(3)
    held = [I.find_interval(M.accuracy, draw_counts(rng, rng.beta(a, b, people), 12))['ci95'] for _ in range(400)]
    assert np.mean([low <= a/(a + b) <= high for low, high in held]) >= .93


def test_everybody_right_does_not_say_that_nobody_can_fail():
    for people in (5, 8, 24):
        f = I.find_interval(M.accuracy, draw_counts(np.random.default_rng(0), np.ones(people), 12))
        assert f['value'] == 1 and f['ci95'][1] == 1 and f['ci95'][0] < 1 - 1/people


def draw_trainings(rng, people, trainings, spread):
    "Counts of several trainings of one kind of model on the same people; each training is a little better or worse."
    hard, clip, seeds = rng.normal(1.4, .4, (people, 1)), rng.normal(0, .8, (people, 12)), []
    for _ in range(trainings):
        right = hard + clip + spread*rng.normal() + rng.normal(0, .6, (people, 12)) > 0
        seeds.append(np.stack([right.sum(1), np.full(people, 12.)], -1))
    return seeds


def test_equal_models_are_seldom_called_different():
    "Three trainings each, seeds a few points apart: over people alone one pair in three would be called different."
    rng, share = np.random.default_rng(5), lambda s: s[..., 0]/s[..., 1]
    false, of_people = 0, 0
    for _ in range(300):
        six = draw_trainings(rng, 16, 6, .2)
        gap = I.find_difference(share, six[:3], six[3:], rows=192)
        false += gap['p'] < .05
        of_people += I.find_difference(share, sum(six[:3]), sum(six[3:]), rows=192)['p'] < .05
        assert (gap['p'] < .05) == (gap['ci95'][0] > 0 or gap['ci95'][1] < 0)
    assert false/300 <= .07 and of_people/300 > .2


def test_one_training_is_given_and_several_count_as_trainings():
    rng, share = np.random.default_rng(6), lambda s: s[..., 0]/s[..., 1]
    one, two, three = draw_trainings(rng, 20, 3, .3)
    f, g = I.find_interval(share, one), I.find_interval(share, [one, two, three])
    assert (f['trainings'], g['trainings']) == (1, 3) and g['value'] == pytest.approx(np.mean([share(s.sum(0)) for s in (one, two, three)]))
    same = I.find_interval(share, [one, one, one])
    assert same['ci95'] == pytest.approx(f['ci95']), 'the same training three times tells no more than once'


def test_a_million_frames_in_milliseconds():
    rng = np.random.default_rng(4)
    y, p, g = rng.integers(0, 8, 10**6), rng.integers(0, 8, 10**6), rng.integers(0, 70, 10**6)
    sums = M.count_confusions(y, p, g, 8)[1]
    I.find_interval(M.macro_f1, sums)
    took = []
    for _ in range(5):
        t = time.process_time(); I.find_interval(M.macro_f1, sums); took.append(time.process_time() - t)
    assert min(took) < .15 # below a millisecond on an idle core


def test_paired_difference_leaves_a_person_out_of_both():
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(30), 40); hard = np.repeat(rng.uniform(.2, .9, 30), 40)
    y = rng.integers(0, 4, 1200); luck = rng.random(1200)
    a = np.where(luck < hard + .05, y, (y + 1) % 4); b = np.where(luck < hard, y, (y + 1) % 4)
    A, B = (M.count_confusions(y, q, group, 4)[1] for q in (a, b))
    gap = I.find_difference(M.accuracy, A, B)
    assert gap['value'] == pytest.approx((a == y).mean() - (b == y).mean())
    assert gap['ci95'][0] > 0 and gap['p'] < 1e-6
    separate = I.find_interval(M.accuracy, A)['ci95']
    assert gap['ci95'][1] - gap['ci95'][0] < .3*(separate[1] - separate[0])
    turned = I.find_difference(M.accuracy, B, A)
    assert turned['value'] == -gap['value'] and turned['p'] == pytest.approx(gap['p'])
    with pytest.raises(ValueError, match='same groups'): I.find_difference(M.accuracy, A, B[:-1])


def test_two_models_that_agree_everywhere_may_differ_on_the_next_clip():
    counts = draw_counts(np.random.default_rng(0), np.full(12, .98), 8)
    low, high = I.find_difference(M.accuracy, counts, counts, rows=96)['ci95']
    assert low < -.02 and high > .02 and low == -high


def test_few_groups_are_marked_and_one_group_has_no_interval():
    rng = np.random.default_rng(6)
    for n in (1, 2, 7, 8, 50):
        conf = M.count_confusions(rng.integers(0, 3, 600), rng.integers(0, 3, 600), np.arange(600) % n, 3)[1]
        f = I.find_interval(M.macro_f1, conf)
        assert f['n_groups'] == n and f['few_groups'] == (n < 8) and (f['ci95'] is None) == (n == 1)


def test_holm_by_statsmodels_rule():
    "Smallest first, times the number of looks that are left, never below the one before."
    rng = np.random.default_rng(8)
    for n in (1, 2, 9):
        p = rng.random(n)**3
        slow, last = np.empty(n), 0.
        for k, i in enumerate(np.argsort(p)):
            last = slow[i] = max(last, min(1., p[i]*(n - k)))
        np.testing.assert_allclose(I.adjust_for_looks(p), slow)


def test_bad_input_is_one_sentence():
    for bad in (lambda: M.count_confusion([0, 1], [0], 2), lambda: M.count_confusion([3], [0], 2), lambda: M.count_confusion([0], [-1], 2),
                lambda: M.log_loss([0, 1], [[.5, .5]])):
        with pytest.raises(ValueError, match='expected'): bad()
