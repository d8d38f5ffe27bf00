"""Attribution on models whose attribution is known, on every registered model, and its scores against independent references."""
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from mmemo.explain.attribution import METHODS, attribute
from mmemo.explain.pixel_attribution import attribute_pixels, find_last_map, grad_cam
from mmemo.explain.map_scores import (average_over_subjects, compute_area, interval_auc, measure_agreement,
                                      measure_loudness, measure_motion, randomise_weights, score_attention,
                                      score_position, smooth_steps, trace_step_curve)
from mmemo.models.parts import EmotionModel, Scale
from mmemo.core import UserError
from mmemo.models.registry import build
from mmemo.features.batch import Batch, pick_rows, without
from mmemo.models.parts import Output
from test_models import NAMES, make_batch, make_model

torch.set_num_threads(1)


class Plain(EmotionModel):
    "logit_c = sum over modalities and present steps of w_c . (x - mean) / deviation"
    def __init__(self, dims, classes=4):
        super().__init__(SimpleNamespace(task='expression', level='clip', dims=dims, n_classes=classes))
        self.n_classes, self.modalities, self.streams = classes, tuple(dims), nn.ModuleDict()
        for m, d in dims.items():
            part = nn.Module()
            part.scale, part.weigh = Scale(d), nn.Linear(d, classes, bias=False)
            self.streams[m] = part

    def forward(self, batch, maps=False): return Output('expression', sum(s.weigh(s.scale(batch.x[m], batch.mask[m])).sum(1) for m, s in self.streams.items()))


def case(seed):
    "A linear model with scales far from 0 and 1, a batch with holes, and (b, t) of what each step adds, for each class."
    torch.manual_seed(seed)
    dims = [dict(visual=6, audio=5), dict(visual=3), dict(visual=4, audio=7, text=5)][seed % 3]
    model, long = Plain(dims).eval(), dict(visual=12, audio=25, text=4)
    x = {m: torch.randn(3, long[m], d) * 3 + 5 for m, d in dims.items()}
    mask = {m: torch.rand(v.shape[:2]) < .8 for m, v in x.items()}
    time = {m: ((torch.arange(long[m]) + .5) * .48 / long[m]).repeat(3, 1) for m in dims}
    for m, d in dims.items(): model.streams[m].scale.fit(torch.randn(d) + 5, torch.rand(d) + .5)
    batch = Batch({m: v * mask[m][..., None] for m, v in x.items()}, mask, time, frame=torch.arange(12).repeat(3, 1))
    parts = lambda c: {m: (((x[m] - s.scale.mean)/s.scale.deviation*mask[m][..., None]) @ s.weigh.weight[c]).detach() for m, s in model.streams.items()}
    return model, batch, parts


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('seed', range(3))
def test_linear_models_are_attributed_exactly(seed, method):
    model, batch, parts = case(seed)
    for c in range(4):
        found = attribute(model, batch, c, method, width=1e-3) # occluded stretches of one step
        for m, v in parts(c).items(): torch.testing.assert_close(found.values[m], v, atol=2e-4, rtol=2e-4)
        assert all((v[~batch.mask[m]] == 0).all() for m, v in found.values.items())
        if found.delta is not None: assert found.delta.abs().max() < 1e-3
        torch.testing.assert_close(found.output, model(batch).logits[:, c].detach(), atol=1e-4, rtol=1e-4)
        assert found.reference.abs().max() < 1e-4 and set(found.baseline.values()) == {'training mean'}


def test_zeros_are_another_baseline():
    model, batch, _ = case(0)
    found = attribute(model, batch, 1, baseline='zeros')
    at_zero = model(replace(batch, x={m: torch.zeros_like(v) for m, v in batch.x.items()})).logits[:, 1]
    torch.testing.assert_close(found.reference, at_zero.detach(), atol=1e-4, rtol=1e-4)
    assert set(found.baseline.values()) == {'zeros'} and found.delta.abs().max() < 1e-3 and found.reference.abs().max() > .1


def test_ablation_deals_a_span_to_its_steps_and_a_modality_whole():
    model, batch, parts = case(0)
    span = attribute(model, batch, 2, 'ablation', width=.12) # three frames, six steps of the voice
    for m, n in dict(visual=3, audio=6).items():
        for i in range(3):
            for k in range(0, batch.mask[m].shape[1], n):
                there = batch.mask[m][i, k:k + n]
                if there.any(): torch.testing.assert_close(span.values[m][i, k:k + n][there], parts(2)[m][i, k:k + n][there].mean().repeat(int(there.sum())), atol=1e-4, rtol=1e-4)
    whole = attribute(model, batch, 2, 'ablation', group='modality').shares()
    for m, v in parts(2).items(): torch.testing.assert_close(whole[m], v.sum(1), atol=1e-3, rtol=1e-4)


def test_occlusion_gives_a_step_the_mean_of_its_windows():
    model, batch, parts = case(1)
    batch = replace(batch, mask=dict(visual=torch.ones(3, 12).bool()))
    model_parts = ((batch.x['visual'] - model.streams['visual'].scale.mean)/model.streams['visual'].scale.deviation) @ model.streams['visual'].weigh.weight[0]
    found = attribute(model, batch, 0, 'occlusion', width=.16).values['visual'] # four frames, stride two
    windows = [model_parts[:, k:k + 4].sum(1) for k in range(0, 9, 2)]
    for t in range(12):
        own = [w for k, w in zip(range(0, 9, 2), windows) if k <= t < k + 4]
        torch.testing.assert_close(found[:, t], torch.stack(own).mean(0).detach(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize('name', NAMES)
def test_every_registered_model(name):
    pixels = name.endswith('/pixels')
    model, batch = make_model(name).eval(), make_batch(b=2, pixels=pixels)
    found = attribute(model, batch, method='gradient_x_input')
    assert set(found.values) == set(model.modalities) and found.target.tolist() == model(batch).logits.argmax(-1).tolist()
    for m, v in found.values.items():
        assert v.shape == batch.mask[m].shape and v.isfinite().all() and (v[~batch.mask[m]] == 0).all()
    torch.testing.assert_close(found.output, model(batch).logits.detach().max(-1).values, atol=1e-4, rtol=1e-4)
    if not pixels: # a whole modality gone is what the model says with it at the baseline
        gone = attribute(model, batch, found.target, 'ablation', group='modality').shares()
        m = model.modalities[0]
        at_base = {**batch.x, m: batch.x[m]*0 + (model.streams[m].scale.mean if found.baseline[m] == 'training mean' else 0)}
        there = model(replace(batch, x=at_base)).logits.gather(1, found.target[:, None])[:, 0]
        torch.testing.assert_close(gone[m], (found.output - there).detach(), atol=1e-4, rtol=1e-3)


@pytest.fixture(scope='module')
def fused():
    torch.manual_seed(1)
    model, batch = build('bicross', dict(visual=12, audio=10), 3, dim=16, heads=2, tcn_levels=2).eval(), make_batch(b=3)
    model.fit_scale({m: (batch.x[m][batch.mask[m]].mean(0), batch.x[m][batch.mask[m]].std(0)) for m in ('visual', 'audio')})
    return model, batch


@pytest.mark.parametrize('of', ['logit', 'log_odds'])
def test_integrated_gradients_are_complete(fused, of):
    model, batch = fused
    gap = lambda steps: (lambda f: (f.delta.abs()/(f.output - f.reference).abs().clamp(min=.05)).max())(attribute(model, batch, 1, steps=steps, of=of))
    assert gap(128) < .05 and gap(128) < gap(2)


def test_log_odds_are_against_the_others(fused):
    model, batch = fused
    p = model(batch).probabilities[:, 2]
    torch.testing.assert_close(attribute(model, batch, 2, 'gradient_x_input', of='log_odds').output, (p/(1 - p)).log().detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('method', METHODS)
def test_neighbours_and_sizes_change_nothing(fused, method):
    model, batch = fused
    target = torch.tensor([0, 2, 1])
    every = attribute(model, batch, target, method, steps=8)
    pieces = attribute(model, batch, target, method, steps=8, internal_batch=2)
    for m, v in every.values.items():
        torch.testing.assert_close(v, pieces.values[m], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(v[1:2], attribute(model, pick_rows(batch, [1]), 2, method, steps=8).values[m], atol=1e-4, rtol=1e-3)


def test_padding_and_rubbish_in_it_change_nothing(fused):
    model, batch = fused
    pad = lambda v, value=0: torch.cat([v, torch.full((len(v), 4, *v.shape[2:]), value, dtype=v.dtype)], 1)
    longer = Batch({m: pad(v, 1e6) for m, v in batch.x.items()}, {m: pad(v) for m, v in batch.mask.items()}, {m: pad(v) for m, v in batch.time.items()}, frame=pad(batch.frame, -1))
    short, long = attribute(model, batch, 1), attribute(model, longer, 1)
    for m, v in short.values.items():
        torch.testing.assert_close(long.values[m][:, :-4], v, atol=1e-4, rtol=1e-3)
        assert (long.values[m][:, -4:] == 0).all()


def test_a_missing_modality_gets_nothing(fused):
    model, batch = fused
    found = attribute(model, without(batch, 'audio'), 0)
    assert (found.values['audio'] == 0).all() and (found.values['visual'] != 0).any()


def test_several_targets_names_and_training_mode(fused):
    model, batch = fused
    model.train()
    a, b = attribute(model, batch, ['sad', 2], 'gradient_x_input', classes=('glad', 'sad', 'mad'))
    assert model.training and a.names == ['sad']*3 and b.target.tolist() == [2]*3 and (a.values['visual'] != b.values['visual']).any()
    again = attribute(model, batch, 'sad', 'gradient_x_input', classes=('glad', 'sad', 'mad'))
    assert (again.values['visual'] == a.values['visual']).all() # no dropout in between
    model.eval()


def test_a_span_of_frames_is_explained_by_what_it_can_see():
    torch.manual_seed(0)
    model = build('visual', dict(visual=12), 3, level='frame', dim=16, heads=2, tcn_levels=1, layers=0).eval() # sees two frames to either side
    batch = make_batch(b=2, level='frame')
    found = attribute(model, batch, 1, span=(0, .08)).values['visual']
    assert (found[:, :2] != 0).any() and (found[:, 7:] == 0).all()


def test_mistakes_are_named(fused):
    model, batch = fused
    for wrong in (dict(method='lime'), dict(of='odds'), dict(group='face'), dict(baseline='blur'), dict(target=3), dict(target=torch.tensor([0, 1])), dict(target='Joy')):
        with pytest.raises(UserError): attribute(model, batch, **wrong)
    torch.manual_seed(0)
    with pytest.raises(UserError, match='no classes'): attribute(build('bicross', dict(visual=12, audio=10), task='va', dim=16, heads=2), batch, 0, of='log_odds')
    with pytest.raises(UserError, match='visual, audio'): attribute(model, replace(batch, x={}))
    with pytest.raises(UserError, match='features'): grad_cam(model, batch)
    with pytest.raises(UserError, match='interval for each'): interval_auc(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 3), [[0, 1]])


@pytest.mark.parametrize('kind', ['paper', 'code'])
def test_grad_cam_is_the_weighed_map(kind):
    model, batch = make_model('avtca-paper/pixels', face=kind).eval(), make_batch(b=2, t=3, pixels=True)
    batch.mask['visual'][1, 2] = False
    cam, kept = grad_cam(model, batch, 1), []
    handle = find_last_map(model).register_forward_hook(lambda _, __, out: kept.append(out))
    score = model(batch).logits[:, 1].sum()
    handle.remove()
    grad = torch.autograd.grad(score, kept[0])[0]
    small = (grad.mean((2, 3), keepdim=True)*kept[0]).sum(1, keepdim=True).relu()
    want = torch.nn.functional.interpolate(small, cam.shape[-2:], mode='bilinear')[:, 0].detach()
    torch.testing.assert_close(cam[batch.mask['visual']], want, atol=1e-5, rtol=1e-3)
    assert (cam[~batch.mask['visual']] == 0).all() and cam.shape == (*batch.mask['visual'].shape, *batch.x['visual'].shape[-2:])


def test_pixels_of_one_frame():
    from mmemo.features.encoders import load_visual
    tower = load_visual('tiny', precision='fp32', device='cpu')
    y, x = np.mgrid[:80, :112]/112 # not square: the tower crops the middle, so the edges get nothing
    film = (120 + 90*np.sin(9*x + np.arange(4)[:, None, None])*np.cos(7*y))[..., None].repeat(3, -1).astype(np.uint8)
    batch = pick_rows(make_batch(b=2, t=4), [0])
    batch = replace(batch, x=dict(visual=torch.from_numpy(tower(film))[None], audio=batch.x['audio']))
    batch.mask['visual'][:] = True
    torch.manual_seed(0)
    model = build('bicross', dict(visual=tower.dim, audio=10), 3, dim=16, heads=2, tcn_levels=2).eval()
    found = attribute_pixels(model, tower, batch, 2, film[2], 1)
    assert found.values.shape == (80, 112) and abs(found.output - model(batch).logits[0, 1].item()) < 1e-2
    assert abs(found.delta) < .05*abs(found.output - found.reference) + 1e-4
    assert (found.values[:, :14] == 0).all() and (found.values[:, -14:] == 0).all() and np.abs(found.values[:, 20:-20]).max() > 0
    with pytest.raises(UserError, match='one clip'): attribute_pixels(model, tower, make_batch(b=2, t=4), 2, film[2])
    with pytest.raises(UserError, match='occlusion'): attribute_pixels(model, tower, batch, 2, film[2], method='occlusion')


@pytest.mark.parametrize('seed', range(20))
def test_auc_counts_pairs(seed):
    rng = np.random.default_rng(seed)
    b, t = 4, int(rng.integers(2, 30))
    v, time, mask = rng.integers(0, 6, (b, t)).astype(float), np.sort(rng.random((b, t)), 1), rng.random((b, t)) < .8
    edges = np.sort(rng.random((b, 2)), 1)
    edges[0] = np.nan
    found = interval_auc(v, time, mask, edges)
    for i in range(b):
        inside = (time[i] >= edges[i, 0]) & (time[i] < edges[i, 1])
        a, z = v[i][mask[i] & inside], v[i][mask[i] & ~inside]
        if not len(a) or not len(z): assert np.isnan(found[i])
        else: assert found[i] == pytest.approx(((a[:, None] > z) + .5*(a[:, None] == z)).mean())


def test_figures_over_subjects():
    found = average_over_subjects([.5, 1, np.nan, .9], ['a', 'a', 'b', 'c'])
    assert found['value'] == pytest.approx(.8) and found['n'] == 3 and found['n_groups'] == 2 and found['few_groups']
    assert found['ci95'][0] <= .8 <= found['ci95'][1]


@pytest.mark.parametrize('signed', [True, False])
def test_agreement_is_spearman(fused, signed):
    model, batch = fused
    a, b = attribute(model, batch, 0), attribute(model, batch, 0, 'occlusion', width=.08)
    for m in ('visual', 'audio'):
        for i, got in enumerate(measure_agreement(a, b, m, signed)):
            x, y = a.clip(i, m)[0], b.clip(i, m)[0]
            assert got == pytest.approx(spearmanr(x if signed else abs(x), y if signed else abs(y)).statistic, abs=1e-6)
    flat = replace(a, values={m: torch.zeros_like(v) for m, v in a.values.items()})
    assert np.isnan(measure_agreement(a, flat, 'visual')).all()


def test_readings_look_at_present_steps_only():
    mask = torch.ones(1, 9).bool()
    mask[0, 4] = False
    time = torch.arange(9.)[None]/10
    v = torch.tensor([[1., -1, 1, -1, 1e9, 1, -1, 1, -1]])
    assert smooth_steps(v, time, mask)[0].tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1]
    torch.testing.assert_close(smooth_steps(v, time, mask, seconds=.3), mask.float(), atol=1e-5, rtol=0)
    assert smooth_steps(v, time, mask, True, .3).abs().max() < .5


def test_the_input_s_own_energy():
    film = np.zeros((1, 5, 4, 4, 3), np.uint8)
    film[0, 2:] = 200
    assert measure_motion(film)[0].tolist() == [0, 100, 100, 0, 0]
    assert measure_motion(film, [[True, True, False, True, True]])[0].tolist() == [0, 0, 0, 0, 0] # over a gap nothing is known
    assert np.diff(measure_loudness(np.r_[.1*np.ones(800), np.ones(800)], [.025, .075]))[0] == pytest.approx(20, abs=.1)
    assert measure_loudness(None, [0, 1]).tolist() == [0, 0]
    assert score_position([[0, 1, 2, 9]], [[True, True, True, False]])[0].argmax() == 1


def test_random_weights_keep_the_scales(fused):
    model, batch = fused
    a, b, c = randomise_weights(model), randomise_weights(model), randomise_weights(model, 1)
    assert (a(batch).logits == b(batch).logits).all() and (a(batch).logits != c(batch).logits).any() and (a(batch).logits != model(batch).logits).any()
    for m in ('visual', 'audio'): assert (a.streams[m].scale.mean == model.streams[m].scale.mean).all()
    with pytest.raises(UserError, match='no weights'): randomise_weights(make_model('linear'))


def test_deletion_follows_the_order():
    model, batch, _ = case(0)
    for part in model.streams.values(): part.weigh.weight.data[[0, 2, 3]] = 0 # then the probability of class 1 follows its logit
    best = attribute(model, batch, 1)
    worst = replace(best, values={m: -v for m, v in best.values.items()})
    for insertion, sign in ((False, 1), (True, -1)):
        assert (sign*compute_area(trace_step_curve(model, batch, best, insertion)) < sign*compute_area(trace_step_curve(model, batch, worst, insertion))).all()
    whole, none = (trace_step_curve(model, batch, best, i)[:, 0] for i in (False, True))
    np.testing.assert_allclose(whole, model(batch).probabilities[:, 1].detach(), atol=1e-5)
    np.testing.assert_allclose(none, .25, atol=1e-5) # at the training mean this model has no opinion
    assert compute_area(np.ones((1, 11))) == pytest.approx([1])


def test_attention_is_summed_over_present_queries(fused):
    model, batch = fused
    with torch.no_grad(): maps = model(batch, maps=True).maps
    for m in ('visual', 'audio'):
        found, own = score_attention(maps, m), next(a for a in maps if a.key == m)
        torch.testing.assert_close(found.sum(1), own.query_mask.sum(1).float())
        assert (found[~batch.mask[m]] == 0).all()
    assert score_attention([], 'audio') is None


def test_steps_are_taken_until_the_parts_add_up(fused):
    model, batch = fused
    few, enough = (attribute(model, batch, 1, of='log_odds', steps=steps) for steps in (2, None))
    assert few.gap.max() > .05 and few.steps.tolist() == [2, 2, 2]
    assert (enough.gap <= .05).all() and set(enough.steps.tolist()) <= {16, 32, 64, 128, 256}
    for i in range(3): # each clip takes what it needs, whichever others are beside it
        alone = attribute(model, pick_rows(batch, [i]), 1, of='log_odds')
        assert alone.steps[0] == enough.steps[i]
        fixed = attribute(model, pick_rows(batch, [i]), 1, of='log_odds', steps=int(enough.steps[i]))
        for m, v in fixed.values.items(): torch.testing.assert_close(enough.values[m][i:i + 1], v, atol=1e-5, rtol=1e-4)


def test_a_gap_that_stays_is_said():
    "A step function has no gradient on the way: no number of steps makes its parts add up."
    class Step(torch.nn.Module):
        modalities, streams, n_classes, config = ('visual',), {}, 2, SimpleNamespace(task='expression')
        def forward(self, batch, maps=False):
            on = (batch.x['visual'].sum((1, 2)) > 1.).float()[:, None] + 0*batch.x['visual'].sum((1, 2))[:, None]
            logits = torch.cat([on, 0*on], 1)
            return SimpleNamespace(logits=logits)
    batch = Batch(dict(visual=torch.ones(2, 4, 1)), dict(visual=torch.ones(2, 4, dtype=bool)), dict(visual=torch.arange(4.).repeat(2, 1)))
    found = attribute(Step(), batch, 0, baseline='zeros')
    assert found.steps.tolist() == [256, 256] and found.gap.tolist() == [1., 1.]
