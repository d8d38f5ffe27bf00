"System 3: the equations, the variants against each other, masks, lengths, maps."
import itertools

import pytest
import torch
import torch.nn.functional as F
from dataclasses import asdict, replace

from mmemo.core import UserError
from mmemo.training.metrics import ccc
from mmemo.training.objectives import ccc_loss
from mmemo.models.norm import StepNorm
from mmemo.models.rcma import PRESETS, PUBLISHED, RCMA, RCMAConfig
from mmemo.features.batch import Batch, pick_rows, without
from mmemo.models.parts import count_outputs

torch.set_num_threads(1)
DIMS, RATE = dict(visual=12, audio=10, text=9), dict(visual=25, audio=50, text=8)
TWO, THREE = ('visual', 'audio'), ('visual', 'audio', 'text')
SMALL = dict(widths=dict(visual=16, audio=8, text=12), hidden=10, length=12)
NAMED = list(PRESETS) + ['rjcma-v4 time', 'rcma-v1 time', 'rjcma-v4 batch', 'rcma-v1 plain']
CASES = [(n, m, level) for n in NAMED for m in (TWO, THREE) for level in ('clip', 'frame')]


def make_model(name='rjcma-v4', modalities=TWO, level='frame', task='va', **more) -> RCMA:
    torch.manual_seed(0)
    name, *extra = name.split()
    extra = {'time': dict(mix='time'), 'batch': dict(norm='batch'), 'plain': dict(residual=False, fc=False)}[extra[0]] if extra else {}
    common = dict(dims={m: DIMS[m] for m in modalities}, level=level, task=task, n_classes=3)
    return RCMA(RCMAConfig(**PRESETS[name][0] | SMALL | extra | common | more))


def make_batch(modalities=TWO, b=4, t=12, seed=0, gaps=True) -> Batch:
    g = torch.Generator().manual_seed(seed)
    steps = {m: max(1, t * RATE[m] // 25) for m in modalities}
    x = {m: torch.randn(b, n, DIMS[m], generator=g) for m, n in steps.items()}
    time = {m: ((torch.arange(n) + .5) / RATE[m]).repeat(b, 1) for m, n in steps.items()}
    mask = {m: torch.ones(v.shape[:2]).bool() for m, v in x.items()}
    if gaps:
        if 'visual' in mask: mask['visual'][0, t // 2] = False  # a frame without a face
        mask['audio'][1, 8:12] = False  # a gap in the sound
    time.setdefault('visual', ((torch.arange(t) + .5) / 25).repeat(b, 1))
    y = torch.rand(b, t, 2, generator=g) * 2 - 1
    return Batch(x, mask, time, y, torch.ones(b, t).bool(), frame=torch.arange(t).repeat(b, 1))


def cut(batch, n, beyond=99.) -> Batch:
    "The same windows after n frames: what follows is padding, full of rubbish."
    end = n / 25
    inside = {m: v < end for m, v in batch.time.items()}
    mask = {m: v & inside[m] for m, v in batch.mask.items()}
    x = {m: torch.where(mask[m][..., None], v, beyond) for m, v in batch.x.items()}
    time = {m: torch.where(inside[m], v, 0.) for m, v in batch.time.items()}
    j = torch.arange(batch.frame.shape[1])
    return replace(batch, x=x, mask=mask, time=time, frame=torch.where(j < n, batch.frame, -1), y_mask=batch.y_mask & (j < n))


def short(batch, n) -> Batch:
    "The same windows, cut off after n frames."
    keep = {m: int((v[0] < n / 25).sum()) for m, v in batch.time.items()}
    pick = lambda d: {m: v[:, :keep[m]] for m, v in d.items()}
    parts = {k: pick(getattr(batch, k)) for k in ('x', 'mask', 'time')}
    return replace(batch, **parts, frame=batch.frame[:, :n], y=batch.y[:, :n], y_mask=batch.y_mask[:, :n])


@pytest.fixture(params=CASES, ids=lambda c: f"{c[0]}-{len(c[1])}-{c[2]}".replace(' ', '_'))
def case(request):
    name, modalities, level = request.param
    return make_model(name, modalities, level), make_batch(modalities)


# ---- the variants against each other

def only_others(all_, two, i):
    "Write the weights of `two` (joint of the others of stream i) into `all_`, its own-modality columns at zero."
    own = list(two.joint.widths)
    at, D = sum(own[:i]), sum(own)
    others = torch.tensor([j for j in range(D) if not at <= j < at + own[i]])
    fc, W = two.joint.fc[i], two.joint.correlate[i]
    with torch.no_grad():
        full = all_.joint.fc[0]
        full.weight.normal_(); full.bias.normal_()  # the own rows hold anything: W_jm does not look there
        full.weight[others] = 0
        full.weight[others[:, None], others] = fc.weight
        full.bias[others] = fc.bias
        all_.joint.correlate[i].weight.zero_()
        all_.joint.correlate[i].weight[:, others] = W.weight * (D / len(others))**.5  # the two divide by the root of another d
        all_.own[i].weight.copy_(two.own[i].weight); all_.back[i].weight.copy_(two.back[i].weight)


@pytest.mark.parametrize('mix', ['feature', 'time'])
@pytest.mark.parametrize('modalities', [TWO, THREE, ('audio', 'text')], ids=len)
def test_all_equals_other_two_where_the_own_columns_are_zero(modalities, mix):
    blocks = [make_model(name, modalities, mix=mix).blocks[0].eval() for name in ('rjcma-v4', 'rcma-v1')]
    X = [torch.randn(3, 12, d) for d in blocks[0].joint.widths]
    there = [torch.ones(3, 12).bool()] * len(X)
    before = blocks[0](X, there, there[0])[0]
    for i in range(len(X)):
        only_others(*blocks, i)
        (a, A), (b, B) = (block(X, there, there[0]) for block in blocks)
        assert (a[i] - b[i]).abs().max() < 1e-5 and (A[i] - B[i]).abs().max() < 1e-5
        assert (before[i] - b[i]).abs().max() > 1e-3  # and they were not equal before


def test_all_equals_other_two_without_the_layer_of_the_joint():
    two, full = make_model('rcma-v1', THREE, fc=False).eval(), make_model('rjcma-v4', THREE, fc=False).eval()
    own, D, at = two.blocks[0].joint.widths, sum(two.blocks[0].joint.widths), 0
    state = two.state_dict()
    for i, d in enumerate(own):
        w = state[f'blocks.0.joint.correlate.{i}.weight'] * (D / (D - d))**.5
        state[f'blocks.0.joint.correlate.{i}.weight'] = torch.cat([w[:, :at], torch.zeros(d, d), w[:, at:]], 1)
        at += d
    batch = make_batch(THREE)
    assert (full(batch).logits - two(batch).logits).abs().max() > 1e-4
    full.load_state_dict(state)
    assert (full(batch).logits - two(batch).logits).abs().max() < 1e-5


@pytest.mark.parametrize('mix', ['feature', 'time'])
def test_block_is_the_equations(mix):
    "One clip, written out as the paper has it: streams are d_m x K."
    model = make_model('rjcma-v4', THREE, mix=mix, fusion_dropout=0.)
    block, X = model.blocks[0], [torch.randn(d, 12) for d in (16, 8, 12)]
    new, maps = block([x.T[None] for x in X], [torch.ones(1, 12).bool()] * 3, torch.ones(1, 12).bool())
    fc = block.joint.fc[0]
    J = fc.weight @ torch.cat(X) + fc.bias[:, None]
    for i, x in enumerate(X):
        W, Wc, Wh = block.joint.correlate[i].weight, block.own[i].weight, block.back[i].weight
        C = (x.T @ W @ J / 36**.5).tanh()  # own moment, joint moment
        H = (x @ Wc.T @ C if mix == 'time' else Wc @ x @ C / 12).relu()
        want = (H @ Wh.T if mix == 'time' else Wh @ H) + x
        assert (maps[i][0] - C.T).abs().max() < 1e-5 and (new[i][0].T - want).abs().max() < 1e-4


def test_released_block_as_described():
    model = make_model('rjcma-code', THREE)
    block, X = model.blocks[0].eval(), [torch.randn(2, 12, d) for d in (16, 8, 12)]
    there = torch.ones(2, 12).bool()
    new, maps = block(X, [there] * 3, there)
    joint = torch.cat(X, -1)
    for i, x in enumerate(X):
        key = block.key[i](x.transpose(1, 2))  # Linear along time: (b, d_m, K)
        scores = (key @ joint / 36**.5).tanh()  # (b, d_m, D)
        weighted = (block.value[i](x) @ scores).tanh().relu()
        assert (maps[i].transpose(1, 2) - scores).abs().max() < 1e-5
        assert (new[i] - (x + block.back[i](weighted).relu())).abs().max() < 1e-5
    assert len(model.blocks) == 2 and not any('fc' in n or 'query' in n for n, _ in model.named_parameters())


@pytest.mark.parametrize('name', ['rcma-v1', 'rjcma-v4'])
@pytest.mark.parametrize('mix', ['feature', 'time'])
def test_no_recursion_is_concatenation(name, mix):
    model, batch = make_model(name, THREE, recursion=0, mix=mix).eval(), make_batch(THREE)
    assert not list(model.blocks) and model.fixed_length is None and not model.time_maps
    X = [model.fronts[m](model.streams[m], *model.read(batch, m), batch.time['visual'], batch.grid)[0] for m in THREE]
    h = model.head
    want = h.out(F.leaky_relu(h.norm(h.lift(torch.cat(X, -1)), batch.grid))).tanh()
    out = model(batch, maps=True)
    assert torch.equal(out.logits, want) and out.maps == []
    # and it is what the recursion becomes when its update is silent
    recursive = make_model(name, THREE, mix=mix).eval()
    recursive.load_state_dict(model.state_dict(), strict=False)
    assert (recursive(batch).logits - want).abs().max() > 1e-4
    for layer in recursive.blocks[0].back: layer.weight.data.zero_()
    assert (recursive(batch).logits - want).abs().max() < 1e-6


@pytest.mark.parametrize('name', NAMED)
def test_shared_and_stacked(name):
    batch, once = make_batch(), [make_model(name, recursion=1, shared=s).eval() for s in (True, False)]
    assert torch.equal(once[0](batch).logits, once[1](batch).logits)  # the same seed draws the same weights
    shared, stacked = (make_model(name, recursion=3, shared=s).eval() for s in (True, False))
    assert (len(shared.blocks), len(stacked.blocks)) == (1, 3)
    spread = lambda k, i: f'blocks.{i}' + k.removeprefix('blocks.0') if k.startswith('blocks.0') else k
    stacked.load_state_dict({spread(k, i): v for i in range(3) for k, v in shared.state_dict().items()})
    assert (shared(batch).logits - stacked(batch).logits).abs().max() < 1e-6
    assert (shared(batch).logits - once[0](batch).logits).abs().max() > 1e-5  # three steps are not one


# ---- lengths

def test_feature_mixing_takes_any_length():
    model = make_model('rjcma-v4', THREE).eval()
    assert model.fixed_length is None
    for t in (1, 37, 300): assert model(make_batch(THREE, 2, t, gaps=t > 9)).logits.shape == (2, t, 2)


def test_feature_mixing_does_not_shout_at_long_clips():
    "Every moment twice, in the same order: the same attention."
    block = make_model('rjcma-v4', fusion_dropout=0.).blocks[0]
    X = [torch.randn(2, 12, d) for d in (16, 8)]
    there = torch.ones(2, 24).bool()
    once = block(X, [there[:, :12]] * 2, there[:, :12])[0]
    twice = block([x.repeat_interleave(2, 1) for x in X], [there] * 2, there)[0]
    for a, b in zip(once, twice): assert (a - b[:, ::2]).abs().max() < 1e-5


@pytest.mark.parametrize('name', ['rjcma-v4 time', 'rcma-v1 time', 'rjcma-code'])
def test_time_mixing_knows_one_length(name):
    model = make_model(name, THREE)
    assert model.fixed_length == 12
    for t in (11, 37, 300):
        with pytest.raises(UserError, match=f'windows of 12 frames, and got {t}'): model(make_batch(THREE, 2, t))
    assert model(make_batch(THREE)).logits.isfinite().all()


def test_published_sizes():
    model = RCMA(RCMAConfig(PUBLISHED, **PRESETS["rjcma-v4-paper"][0]))
    block = model.blocks[0]
    assert model.fixed_length == 300 and len(model.blocks) == 1 and model.config.recursion == 3
    assert [tuple(f.weight.shape) for f in block.joint.correlate] == [(256, 512), (128, 512), (128, 512)]
    assert {tuple(f.weight.shape) for f in [*block.own, *block.back]} == {(300, 300)}
    assert model.head.lift.weight.shape == (256, 512)


# ---- masks

@pytest.mark.parametrize('beyond', [99., float('nan'), float('inf')])
def test_padding_changes_nothing(case, beyond):
    model, batch = case
    model.eval()
    if model.fixed_length:  # one length: what stands in the padding does not matter
        a, b = model(cut(batch, 9, 0.)).logits, model(cut(batch, 9, beyond)).logits
        whole = model(batch).logits
    else: a, b, whole = model(short(batch, 9)).logits, model(cut(batch, 9, beyond)).logits, model(batch).logits
    if model.config.level == 'frame': a, b, whole = a[:, :9], b[:, :9], whole[:, :9]
    assert (a - b).abs().max() <= 1e-5
    assert (a - whole).abs().max() > 1e-5  # and the frames that were cut off did matter


@pytest.mark.parametrize('norm', ['layer', 'batch'])
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('modalities', [TWO, THREE], ids=len)
def test_ccc_loss_on_padded_input_is_that_of_the_cut_input(modalities, training, norm):
    still = dict(dropout=0., fusion_dropout=0., channel_dropout=0., head_dropout=0., modality_dropout=0.)
    losses, gradients, batch = [], [], make_batch(modalities)
    for b in (short(batch, 9), cut(batch, 9)):
        model = make_model('rjcma-v4', modalities, norm=norm, **still).train(training)
        for s in model.streams.values(): s.scale.fit(torch.zeros(len(s.scale.mean)), torch.ones(len(s.scale.mean)))
        loss = ccc_loss(model(b).logits, b.y, b.y_mask)
        loss.backward()
        losses.append(loss.item()); gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert abs(losses[0] - losses[1]) < 1e-5 and (gradients[0] - gradients[1]).abs().max() < 1e-4
    assert gradients[0].abs().max() > 1e-3


def test_batch_norm_sees_no_padding():
    x, mask = torch.randn(5, 12, 4) * 3 + 2, torch.arange(12) < torch.tensor([12, 9, 1, 5, 0])[:, None]
    ours, torchs = StepNorm(4), torch.nn.BatchNorm1d(4)
    for shift in (0, 4):  # two batches, for the running statistics
        got, want = ours(torch.where(mask[..., None], x + shift, 1e3), mask), torchs((x + shift)[mask])
        assert (got[mask] - want).abs().max() < 1e-4
    assert (ours.mean - torchs.running_mean).abs().max() < 1e-5 and (ours.variance - torchs.running_var).abs().max() < 1e-4
    assert (ours.eval()(x, mask)[mask] - torchs.eval()(x[mask])).abs().max() < 1e-4
    before = ours.mean.clone()
    ours.train()(x, torch.zeros_like(mask))
    assert torch.equal(before, ours.mean)  # a batch of nothing teaches nothing


def test_neighbours_change_nothing(case):
    model, batch = case
    model.eval()
    assert (model(batch).logits[2:3] - model(pick_rows(batch, [2])).logits).abs().max() <= 1e-5


@pytest.mark.parametrize('gone', ['visual', 'audio', 'text', 'everything'])
def test_missing_modality(case, gone):
    model, batch = case
    if gone == 'text' and 'text' not in model.modalities: pytest.skip('two modalities')
    lost = batch
    for m in model.modalities if gone == 'everything' else [gone]: lost = without(lost, m)
    out = model.train()(lost)
    assert out.logits.isfinite().all()
    out.logits.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    if gone == 'everything': return
    model.eval()
    if model.config.project: assert model.streams[gone].missing.grad.any()  # it is a learned token, and it learns
    assert (model(lost).logits - model(batch).logits).abs().max() > 1e-5
    kept = lambda k: {m: v for m, v in getattr(lost, k).items() if m != gone or k == 'time' and m == 'visual'}
    never = replace(lost, **{k: kept(k) for k in ('x', 'mask', 'time')})
    assert (model(never).logits - model(lost).logits).abs().max() <= 1e-5
    mixed = replace(batch, mask={**batch.mask, gone: batch.mask[gone].clone()})
    mixed.mask[gone][0] = False
    assert (model(mixed).logits[1:] - model(batch).logits[1:]).abs().max() <= 1e-5


def test_causal_where_nothing_looks_ahead():
    "Without the fusion the model is its causal TCNs and a head: frame 5 does not know frame 6."
    model, batch = make_model('rjcma-v4', recursion=0).eval(), make_batch(gaps=False)
    later = replace(batch, x={m: torch.where((batch.time[m] > 6 / 25)[..., None], v + 1, v) for m, v in batch.x.items()})
    a, b = model(batch).logits, model(later).logits
    assert torch.equal(a[:, :6], b[:, :6]) and not torch.equal(a, b)


# ---- learning

def test_every_parameter_learns(case):
    model, batch = case
    model.train()
    torch.manual_seed(0)
    weight = torch.randn(2)
    for b in [batch] * 6 + [without(batch, m) for m in model.modalities]: (model(b).logits * weight).square().sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead, f'no gradient reaches {dead}'
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('task', ['valence', 'arousal', 'va', 'expression', 'sentiment', 'emotions'])
@pytest.mark.parametrize('level', ['clip', 'frame'])
def test_tasks(task, level):
    model, batch = make_model('rcma-v1', level=level, task=task).eval(), make_batch()
    model.head.out.weight.data.mul_(100)
    logits = model(batch).logits
    assert logits.shape == ((4,) if level == 'clip' else (4, 12)) + (count_outputs(task, 3),)
    reach = dict(sentiment=3., expression=None, emotions=None).get(task, 1.)
    if reach: assert reach / 2 < logits.abs().max() <= reach
    else: assert logits.abs().max() > 3


def test_constant_prediction():
    y = torch.rand(2, 12, 2) * 2 - 1
    model = make_model('rjcma-v4')
    model.head.out.weight.data.zero_(); model.head.out.bias.data.fill_(.3)
    pred = model.eval()(make_batch()).logits
    assert (pred - torch.tensor(.3).tanh()).abs().max() < 1e-6
    pred = pred[:2]
    assert ccc(pred[..., 0].flatten().detach().numpy(), y[..., 0].flatten().numpy()) == pytest.approx(0, abs=1e-6)
    for target in (y, torch.full_like(y, .3).tanh()):  # labels that move, and labels that equal the constant
        model.zero_grad()
        loss = ccc_loss(model(make_batch()).logits[:2], target)
        loss.backward()
        assert loss.item() == pytest.approx(1, abs=1e-4)
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert ccc(y[..., 0].flatten().numpy(), y[..., 0].flatten().numpy()) == pytest.approx(1)


@pytest.mark.parametrize('name', ['rcma-v1', 'rjcma-v4', 'rjcma-code', 'rjcma-v4 time'])
def test_learns_a_correlation(name):
    "The label is the product of a pattern in the face and one in the voice: no sum of the two explains it."
    still = dict(channel_dropout=0., head_dropout=0., modality_dropout=0., fusion_dropout=0., dropout=0.)
    model, g = make_model(name, task='valence', **still), torch.Generator().manual_seed(1)
    batch = make_batch(b=32, seed=1, gaps=False)
    v, a = (torch.randint(2, (32, 12), generator=g).float() * 2 - 1 for _ in range(2))
    batch.x['visual'][..., 0], batch.x['audio'][:, :, 0] = v, a.repeat_interleave(2, 1)
    y = (v * a)[..., None] * .5
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = ccc_loss(model(batch).logits, y)
        optimiser.zero_grad(); loss.backward(); optimiser.step()
    assert loss.item() < .35


# ---- maps

def test_maps(case):
    model, batch = case
    c, cutoff = model.config, cut(batch, 9)
    out, plain = model.eval()(cutoff, maps=True), model(cutoff)
    assert plain.maps == [] and torch.equal(out.logits, plain.logits)
    assert len(out.maps) == len(model.modalities) * c.recursion
    assert [(m.key, m.layer) for m in out.maps] == [(k, i) for i in range(c.recursion) for k in model.modalities]
    for m in out.maps:
        assert m.signed and m.query == 'joint' and m.weights.abs().max() <= 1 and m.weights.min() < 0 < m.weights.max()
        if not model.time_maps:
            D = sum(c.widths[k] for k in model.modalities)
            assert m.weights.shape == (4, 1, D, c.widths[m.key]) and m.query_time is m.key_time is m.query_mask is m.key_mask is None
            assert 'features of' in m.name
            continue
        assert m.weights.shape == (4, 1, 12, 12)
        assert torch.equal(m.query_time, cutoff.time['visual']) and torch.equal(m.key_time, m.query_time)
        assert torch.equal(m.query_mask, cutoff.grid) and not m.query_mask[:, 9:].any()
        if m.key == 'visual': assert torch.equal(m.key_mask, cutoff.mask['visual'])
        assert not (m.weights * ~m.key_mask[:, None, None]).any() and not (m.weights * ~m.query_mask[:, None, :, None]).any()
        assert m.clip(0)[0].shape == (1, 9, 9 - (m.key == 'visual'))  # one frame of the first clip has no face


def test_axes_of_the_map_are_named_right():
    "Joint of the others: change one frame of the other stream and one row moves, one own frame and one column moves."
    block = make_model('rcma-v1', fusion_dropout=0.).blocks[0]
    X, there = [torch.randn(1, 12, 16), torch.randn(1, 12, 8)], [torch.ones(1, 12).bool()] * 2
    moved = lambda i, at: [x.index_add(1, torch.tensor([at]), torch.ones(1, 1, x.shape[-1])) if j == i else x for j, x in enumerate(X)]
    base = block(X, there, there[0])[1][0][0]  # the face's map: (q, k)
    other, own = ((block(moved(i, 5), there, there[0])[1][0][0] - base).abs() > 1e-7 for i in (1, 0))
    assert other[5].all() and other.sum() == 12
    assert own[:, 5].all() and own.sum() == 12


# ---- settings, precision, compiler

@pytest.mark.parametrize('changes, said', [
    (dict(joint='both'), "'joint' is 'both'"), (dict(recursion=5), 'expected 0 to 4'), (dict(task='valance'), "'task' is 'valance'"),
    (dict(modalities=('visual',)), 'two or three of'), (dict(modalities=('visual', 'smell')), 'two or three of'),
    (dict(block='code'), "needs mix='time'"), (dict(widths=dict(visual=8)), "'widths' says nothing about audio")])
def test_bad_settings(changes, said):
    with pytest.raises(UserError, match=said): RCMAConfig(**changes)


def test_settings_survive_json():
    import json
    for name in PRESETS:
        c = make_model(name, THREE).config
        assert RCMAConfig(**json.loads(json.dumps(asdict(c)))) == c


@pytest.mark.parametrize('modalities', [p for n in (2, 3) for p in itertools.combinations(THREE, n)], ids='+'.join)
def test_any_two_or_three(modalities):
    model = make_model('rjcma-v4', modalities)
    assert model.modalities == modalities and model.eval()(make_batch(THREE)).logits.isfinite().all()
    assert set(model.streams) == set(modalities)


def test_half_precision(case):
    model, batch = case
    model.eval()
    with torch.autocast('cpu', torch.bfloat16): half = model(batch).logits
    assert half.isfinite().all() and (half.float() - model(batch).logits).abs().max() < .1
    with torch.autocast('cpu', torch.bfloat16): loss = ccc_loss(model.train()(batch).logits, batch.y if model.config.level == 'frame' else batch.y[:, 0])
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize('name', ['rcma-v1', 'rjcma-v4 batch', 'rjcma-code', 'rjcma-v4 time'])
def test_compiles(name):
    model, batch = make_model(name).eval(), make_batch()
    fast = torch.compile(model, backend='aot_eager', fullgraph=True)
    with torch.no_grad():
        assert (fast(batch).logits - model(batch).logits).abs().max() <= 1e-4
        if model.fixed_length: return
        other = make_batch(b=3, t=20)
        assert (fast(other).logits - model(other).logits).abs().max() <= 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU on this machine')
def test_on_gpu(case):
    model, batch = case
    want = model.eval()(batch).logits
    assert (want - model.cuda()(batch.to('cuda')).logits.cpu()).abs().max() <= 1e-3
