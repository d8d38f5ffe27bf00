"The one check that every registered model must pass, at a tiny size."
import copy
from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F

from mmemo.core import UserError
from mmemo.models import MODELS, available, build, from_pretrained, save_pretrained
from mmemo.windows import Batch, rows, without

torch.set_num_threads(1)
DIMS = dict(visual=12, audio=10)
SMALL = dict(dim=16, heads=2, tcn_levels=2, layers=2, text_dim=6)
CASES = [(name, task, level) for name in MODELS for task in ('expression', 'va') for level in ('clip', 'frame')]


def make_batch(b=4, t=12, s=25, task='expression', level='clip', seed=0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    x = dict(visual=torch.randn(b, t, 12, generator=g), audio=torch.randn(b, s, 10, generator=g))
    time = dict(visual=((torch.arange(t) + .5) / 25).repeat(b, 1), audio=((torch.arange(s) + .5) / 50).repeat(b, 1))
    mask = {m: torch.ones(v.shape[:2]).bool() for m, v in x.items()}
    mask['visual'][0, t // 2], mask['audio'][1, s // 3:s // 2] = False, False  # a frame without a face, a gap in the sound
    lead = (b,) if level == 'clip' else (b, t)
    y = torch.randint(3, lead, generator=g) if task == 'expression' else torch.rand(*lead, 2, generator=g) * 2 - 1
    if task == 'expression': y.flatten()[:3] = torch.arange(3)[:y.numel()]
    return Batch(x, mask, time, y, torch.ones(lead).bool(), [f'c{i}' for i in range(b)], torch.arange(b), torch.arange(t).repeat(b, 1), torch.arange(b) % 3)


def make_model(name, task='expression', level='clip', **more):
    torch.manual_seed(0)
    known = {f.name for f in fields(MODELS[name].config)}
    dims = {m: DIMS[m] for m in DIMS}
    model = build(name, dims, 3, task, level, **{k: v for k, v in (SMALL | more).items() if k in known})
    if hasattr(model, 'fit'): model.fit(make_batch(24, task=task, level=level, seed=5))
    return model


def padded(batch, frames=7, steps=9, value=99.):
    extra = dict(visual=frames, audio=steps)
    pad = lambda v, n, fill: F.pad(v, (0, 0, 0, n) if v.ndim == 3 else (0, n), value=fill)
    return replace(batch, x={m: pad(v, extra[m], value) for m, v in batch.x.items()}, mask={m: pad(v, extra[m], False) for m, v in batch.mask.items()},
                   time={m: pad(v, extra[m], 0) for m, v in batch.time.items()}, frame=pad(batch.frame, frames, -1))


def loss_of(out, batch):
    loss = F.cross_entropy(out.logits.flatten(0, -2), batch.y.flatten()) if out.task == 'expression' else F.mse_loss(out.logits, batch.y)
    return loss if out.embedding is None else loss + out.embedding[..., 0].sum()


@pytest.fixture(params=CASES, ids='-'.join)
def case(request):
    name, task, level = request.param
    return make_model(name, task, level), make_batch(task=task, level=level)


def test_shapes_and_declaration(case):
    model, batch = case
    out = model.eval()(batch)
    assert out.task == model.config.task and out.task in model.tasks
    outputs = 3 if out.task == 'expression' else 2
    assert out.logits.shape == ((4, outputs) if model.config.level == 'clip' else (4, 12, outputs))
    assert out.logits.isfinite().all() and out.logits.dtype == torch.float32
    assert set(model.modalities) <= set(DIMS) and out.mask.shape == out.time.shape == (4, 12)
    if out.task == 'va': assert out.logits.abs().max() <= 1


def test_every_parameter_learns(case):
    model, batch = case
    if not list(model.parameters()): return
    model.train()
    torch.manual_seed(0)
    for _ in range(6): loss_of(model(batch), batch).backward()  # some passes, since dropout and modality dropout hide paths
    loss_of(model(without(batch, model.modalities[0])), batch).backward()  # the missing token's turn
    dead = [n for n, p in model.named_parameters() if p.grad is None]
    assert not dead, f'no gradient reaches {dead}'
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('value', [99., float('nan'), float('inf')])
def test_padding_changes_nothing(case, value):
    model, batch = case
    model.eval()
    short, long = model(batch), model(padded(batch, value=value))
    long_logits = long.logits[:, :12] if model.config.level == 'frame' else long.logits
    assert (short.logits - long_logits).abs().max() <= 1e-5
    if short.embedding is not None:
        assert (short.embedding - (long.embedding[:, :12] if model.config.level == 'frame' else long.embedding)).abs().max() <= 1e-5


def test_neighbours_change_nothing(case):
    model, batch = case
    model.eval()
    alone = model(rows(batch, [2])).logits
    assert (model(batch).logits[2:3] - alone).abs().max() <= 1e-5


@pytest.mark.parametrize('gone', ['visual', 'audio', 'both'])
def test_missing_modality(case, gone):
    model, batch = case
    for m in DIMS if gone == 'both' else [gone]: batch = without(batch, m)
    model.train()
    out = model(batch)
    assert out.logits.isfinite().all()
    if list(model.parameters()):
        loss_of(out, batch).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    if out.embedding is not None and gone != 'audio': assert not out.embedding.any()
    mixed = make_batch(task=model.config.task, level=model.config.level)
    if gone != 'both':
        mixed.mask[gone][0] = False  # one row without, the others with: the others do not notice
        assert (model.eval()(mixed).logits[1:] - model(make_batch(task=model.config.task, level=model.config.level)).logits[1:]).abs().max() <= 1e-5


@pytest.mark.parametrize('gone', ['visual', 'audio'])
def test_batch_that_never_had_it(case, gone):
    model, batch = case
    left = replace(batch, **{k: {m: v for m, v in getattr(batch, k).items() if m != gone or k == 'time' and m == 'visual'} for k in ('x', 'mask', 'time')})
    assert (model.eval()(left).logits - model(without(batch, gone)).logits).abs().max() <= 1e-5


@pytest.mark.parametrize('t, s', [(1, 1), (5, 60), (90, 7), (200, 400)])
def test_any_length(case, t, s):
    model, _ = case
    batch = make_batch(2, t, s, model.config.task, model.config.level)
    assert model.fixed_length is not None or model.eval()(batch).logits.isfinite().all()


def test_deterministic(case):
    model, batch = case
    model.train()
    torch.manual_seed(3); a = model(batch).logits
    torch.manual_seed(3); b = model(batch).logits
    assert torch.equal(a, b)
    model.eval()
    assert torch.equal(model(batch).logits, model(batch).logits)
    if list(model.parameters()): assert not torch.equal(a, model(batch).logits)  # dropout is on in training, off in evaluation


def test_save_and_load(case, tmp_path):
    model, batch = case
    if list(model.parameters()): model.train()(batch)  # sets the scale
    save_pretrained(model.eval(), tmp_path)
    again = from_pretrained(tmp_path)
    assert again.config == model.config and again.name == model.name and not again.training
    assert torch.equal(again(batch).logits, model(batch).logits)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['card.md', 'config.json', 'model.safetensors']


def test_saving_twice_gives_the_same_bytes(case, tmp_path):
    model, _ = case
    for d in 'ab': save_pretrained(model, tmp_path/d)
    assert all((tmp_path/'a'/p.name).read_bytes() == (tmp_path/'b'/p.name).read_bytes() for p in (tmp_path/'a').iterdir())


def test_maps(case):
    model, batch = case
    batch = without(batch, 'audio') if model.name == 'visual' else batch
    batch.mask['audio'][2] = False
    out, plain = model.eval()(batch, maps=True), model(batch)
    assert plain.maps == [] and (out.logits - plain.logits).abs().max() <= 1e-5
    assert bool(out.maps) == model.time_maps
    for m in out.maps:
        b, h, q, k = m.weights.shape
        assert torch.equal(m.query_time, batch.time[m.query]) and torch.equal(m.key_time, batch.time[m.key])
        assert (q, k) == (batch.time[m.query].shape[1], batch.time[m.key].shape[1])
        assert torch.equal(m.key_mask, batch.mask[m.key])
        some = m.key_mask.any(1)
        if not m.signed:
            assert (m.weights >= 0).all()
            assert (m.weights.sum(-1)[some] - 1).abs().max() <= 1e-5
        assert not m.weights[~some].any() and not (m.weights * ~m.key_mask[:, None, None]).any()


def test_half_precision(case):
    model, batch = case
    model.eval()
    with torch.autocast('cpu', torch.bfloat16): half = model(batch)
    assert half.logits.isfinite().all()
    assert (half.logits.float() - model(batch).logits).abs().max() < .25
    if list(model.parameters()):
        with torch.autocast('cpu', torch.bfloat16): loss_of(model.train()(batch), batch).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU on this machine')
def test_on_gpu(case):
    model, batch = case
    want = model.eval()(batch).logits
    got = copy.deepcopy(model).cuda()(batch.to('cuda')).logits.cpu()
    assert (want - got).abs().max() <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize('name', [n for n in MODELS if n != 'linear'])
def test_compiles(name):
    model, batch = make_model(name).eval(), make_batch()
    fast = torch.compile(model, backend='inductor' if name == 'bicross' else 'aot_eager') # one through the C++ compiler, which takes minutes; the others are traced whole
    with torch.no_grad():
        assert (fast(batch).logits - model(batch).logits).abs().max() <= 1e-4
        other = make_batch(3, 20, 31)
        assert (fast(other).logits - model(other).logits).abs().max() <= 1e-4


@pytest.mark.parametrize('name', [n for n in MODELS if hasattr(MODELS[n].config(), 'norm')])
@pytest.mark.parametrize('changes', [dict(norm='post'), dict(norm='pre'), dict(sequential=True), dict(causal=True), dict(pool='mean'), dict(deviation=False),
                                     dict(product=False), dict(residual=False), dict(kernel=5)], ids=str)
def test_switches(name, changes):
    known = {f.name for f in fields(MODELS[name].config)}
    if not set(changes) <= known: pytest.skip(f'{name} has no such switch')
    model, batch = make_model(name, **changes), make_batch()
    loss_of(model(batch), batch).backward()
    model.eval()
    assert (model(batch).logits - model(padded(batch)).logits).abs().max() <= 1e-5


@pytest.mark.parametrize('name, options', [('audio', {}), ('visual', {}), ('linear', dict(modalities=('audio',))), ('linear', dict(modalities=('visual',)))])
def test_a_width_only_for_what_is_read(name, options):
    reads = options.get('modalities', (name,))
    model = build(name, {m: DIMS[m] for m in reads}, 3, **options)
    if hasattr(model, 'fit'): model.fit(make_batch(12))
    batch = make_batch()  # and what a `Windows` of these modalities gives: the time grid always
    batch = replace(batch, x={m: batch.x[m] for m in reads}, mask={m: batch.mask[m] for m in reads}, time={m: batch.time[m] for m in {*reads, 'visual'}})
    assert model.modalities == reads and model.eval()(batch).logits.shape == (4, 3)


def test_sequential_is_not_symmetric():
    batch = make_batch()
    a, b = make_model('bicross').eval(), make_model('bicross-sequential').eval()
    b.load_state_dict(a.state_dict())
    assert (a(batch).logits - b(batch).logits).abs().max() > 1e-4


def test_causal_tcn_never_looks_ahead():
    from mmemo.tcn import TCN
    tcn, x = TCN(5, 8, causal=True).eval(), torch.randn(2, 50, 5)
    mask = torch.ones(2, 50).bool()
    later = x.clone(); later[:, 30:] += 1
    assert torch.equal(tcn(x, mask)[:, :30], tcn(later, mask)[:, :30])
    assert not torch.equal(TCN(5, 8)(x, mask)[:, :30], TCN(5, 8)(later, mask)[:, :30])


def test_no_text_tower_is_needed(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'open_clip', None)  # importing it would raise
    monkeypatch.setitem(__import__('sys').modules, 'transformers', None)
    model = make_model('bicross', text_dim=0)
    assert model(make_batch()).embedding is None and not any('to_text' in n for n, _ in model.named_parameters())


def test_text_guide_reaches_the_face_only():
    model, batch = make_model('bicross').train(), make_batch()
    model.config.modality_dropout = 0
    model(batch).embedding[:, 0].sum().backward()
    touched = {n.split('.')[0] if not n.startswith('streams') else n.split('.')[1] for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {'visual', 'tcn', 'to_text'}


def test_modality_dropout_loses_one_at_a_time():
    model = make_model('bicross', modality_dropout=.3).train()
    masks = dict(visual=torch.ones(4000, 3).bool(), audio=torch.ones(4000, 5).bool())
    torch.manual_seed(0)
    kept = torch.stack([m.all(1) for m in model.lose_some(masks).values()])
    assert kept.any(0).all() and ((~kept).float().mean(1) - .3).abs().max() < .03
    assert all(torch.equal(a, b) for a, b in zip(model.eval().lose_some(masks).values(), masks.values()))


def test_scale_belongs_to_the_training_set():
    model, batch = make_model('bicross', modality_dropout=0.).train(), make_batch()
    model(batch)
    first = model.streams['visual'].scale.mean.clone()
    seen = batch.x['visual'][batch.mask['visual']]
    assert torch.allclose(first, seen.mean(0), atol=1e-5)
    model(make_batch(seed=9)); model.eval()(make_batch(seed=8))
    assert torch.equal(first, model.streams['visual'].scale.mean)


def test_a_loaded_model_keeps_its_scale_in_further_training(tmp_path):
    model = make_model('bicross').train(); model(make_batch())
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path).train(); again(make_batch(seed=9))
    assert torch.equal(again.streams['audio'].scale.mean, model.streams['audio'].scale.mean)


def test_table_and_messages(tmp_path):
    assert list(available().index) == list(MODELS)
    with pytest.raises(UserError, match="Did you mean 'linear'"): build('liner')
    with pytest.raises(UserError, match="no setting 'depth'"): build('bicross', depth=2)
    with pytest.raises(UserError, match="reads audio, but no width"): build('bicross', dict(visual=3))
    save_pretrained(make_model('bicross'), tmp_path)
    (tmp_path/'config.json').write_text('{"model": "bicross", "config": {"depth": 2}}')
    with pytest.raises(UserError, match="no setting 'depth'"): from_pretrained(tmp_path)
    (tmp_path/'config.json').write_text('{}')
    with pytest.raises(UserError, match="expected the fields"): from_pretrained(tmp_path)
