"The one check that every registered model must pass, at a tiny size."
import copy
from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F

from mmemo.core import UserError
from mmemo.labels import task_space
from mmemo.models.registry import MODELS, available, build, from_pretrained, make_config, save_pretrained
from mmemo.features.batch import Batch, pick_rows, without
from mmemo.models.parts import count_outputs

torch.set_num_threads(1)
DIMS, SIDE = dict(visual=12, audio=10, text=8), 48
SMALL = dict(dim=16, heads=2, tcn_levels=2, layers=2, text_dim=6, fuse=4, hidden=8, length=12, widths=dict(visual=16, audio=8, text=8), width=.25)
TASKS = ('expression', 'va', 'sentiment', 'emotions')


def settings_of(name): return {f.name for f in fields(MODELS[name].config)}
def has_levels(name):
    "Those that the configuration does not refuse."
    def fits(level):
        try: make_config(name, dict(level=level))
        except UserError as e:
            assert "'level'" in str(e)
            return False
        return True
    return [level for level in ('clip', 'frame') if fits(level)]


# a name, or a name and the pixel front end where a model has one
NAMES = [n + end for n in MODELS for end in (('', '/pixels') if 'frontend' in settings_of(n) else ('',))]
PLAIN = [(name, 'expression', level) for name in NAMES for level in has_levels(name.split('/')[0])]
CASES = [(name, task, level) for name, _, level in PLAIN for task in (TASKS if name in MODELS else TASKS[:1]) if task in MODELS[name.split('/')[0]].model.tasks]


def make_batch(b=4, t=12, s=25, task='expression', level='clip', seed=0, pixels=False, words=7) -> Batch:
    g = torch.Generator().manual_seed(seed)
    steps = dict(visual=t, audio=s, text=words)
    x = {m: torch.randn(b, n, DIMS[m], generator=g) for m, n in steps.items()}
    if pixels: x['visual'] = torch.randint(256, (b, t, 3, SIDE, SIDE), generator=g, dtype=torch.uint8)
    time = {m: ((torch.arange(n) + .5) * t / 25 / n).repeat(b, 1) for m, n in steps.items()}
    mask = {m: torch.ones(v.shape[:2]).bool() for m, v in x.items()}
    mask['visual'][0, t // 2], mask['audio'][1, s // 3:s // 2], mask['text'][-1, :words // 2] = False, False, False  # a frame without a face, a gap in the sound, no word yet
    lead, space = (b,) if level == 'clip' else (b, t), task_space(task)
    if space.kind == 'classes':
        y = torch.randint(3, lead, generator=g)
        y.flatten()[:3] = torch.arange(3)[:y.numel()]
    elif space.kind == 'continuous': y = (torch.rand(*lead, space.n, generator=g) * 2 - 1) * space.reach
    else: y = torch.randint(2, (*lead, space.n), generator=g).float()
    return Batch(x, mask, time, y, torch.ones(lead).bool(), [f'c{i}' for i in range(b)], torch.arange(b), torch.arange(t).repeat(b, 1), torch.arange(b) % 3)


def make_model(name, task='expression', level='clip', dims=None, **more):
    torch.manual_seed(0)
    name, _, pixels = name.partition('/')
    if pixels: more = dict(frontend='pixels') | more
    dims = dict(DIMS, visual=SIDE if pixels else DIMS['visual']) if dims is None else dims
    model = build(name, dims, 3, task, level, **{k: v for k, v in (SMALL | more).items() if k in settings_of(name)})
    if hasattr(model, 'fit'): model.fit(make_batch(24, task=task, level=level, seed=5))
    return model


def batch_for(model, *shape, **more):
    c = model.config
    return make_batch(*shape, **dict(task=c.task, level=c.level, pixels=sees_pixels(model)) | more)


def sees_pixels(model) -> bool: return getattr(model.config, 'frontend', 'features') == 'pixels'


def padded(batch, frames=7, steps=9, value=99.):
    extra = dict(visual=frames, audio=steps, text=steps)
    def pad(v, n, fill):
        return F.pad(v, (*[0] * 2 * (v.ndim - 2), 0, n), value=99 if v.dtype == torch.uint8 else fill)
    return replace(batch, x={m: pad(v, extra[m], value) for m, v in batch.x.items()}, mask={m: pad(v, extra[m], False) for m, v in batch.mask.items()},
                   time={m: pad(v, extra[m], 0) for m, v in batch.time.items()}, frame=pad(batch.frame, frames, -1))


def soiled(batch, value):
    "The same batch with something else wherever nothing is."
    fill = lambda v, k: torch.where(k.reshape(*k.shape, *[1] * (v.ndim - 2)), v, torch.tensor(value if v.is_floating_point() else 99, dtype=v.dtype))
    return replace(batch, x={m: fill(v, batch.mask[m]) for m, v in batch.x.items()})


def loss_of(out, batch):
    kind = task_space(out.task).kind
    if kind == 'classes': loss = F.cross_entropy(out.logits.flatten(0, -2), batch.y.flatten())
    else: loss = (F.mse_loss if kind == 'continuous' else F.binary_cross_entropy_with_logits)(out.logits, batch.y)
    return loss if out.embedding is None else loss + out.embedding[..., 0].sum()


def lose(batch, gone):
    for m in DIMS if gone == 'all' else [gone]: batch = without(batch, m)
    return batch


def apart(a, b): return (a.float() - b.float()).abs().max().item()
def learns(model): return any(True for _ in model.parameters())


@pytest.fixture(params=CASES, ids='-'.join)
def case(request):
    "Every model at every task and level that it declares."
    model = make_model(*request.param)
    return model, batch_for(model)


@pytest.fixture(params=PLAIN, ids=lambda p: '-'.join((p[0], p[2])))
def plain(request):
    "Every model once a level, for what a task cannot change."
    model = make_model(*request.param)
    return model, batch_for(model)


def test_shapes_and_declaration(case):
    model, batch = case
    out, n, space = model.eval()(batch), count_outputs(model.config.task, 3), task_space(model.config.task)
    assert out.task == model.config.task and out.task in model.tasks
    assert out.logits.shape == ((4, n) if model.config.level == 'clip' else (4, 12, n))
    assert out.logits.isfinite().all() and out.logits.dtype == torch.float32
    assert 0 < len(model.modalities) == len(set(model.modalities)) and set(model.modalities) <= set(DIMS)
    assert out.mask.shape == out.time.shape == (4, 12)
    assert all(a.shape == out.logits.shape for a in out.alone)
    if space.kind == 'continuous': assert out.logits.abs().max() <= space.reach


def test_every_parameter_learns(case):
    model, batch = case
    if not learns(model): return
    model.train(); torch.manual_seed(0)
    step = torch.optim.SGD(model.parameters(), 1e-3)
    loss_of(model(batch), batch).backward(); step.step()  # opens what starts at zero
    for _ in range(6): loss_of(model(batch), batch).backward()  # some passes, since dropout and modality dropout hide paths
    for m in (*model.modalities, 'all'): loss_of(model(lose(batch, m)), batch).backward()  # the missing tokens' turn
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead, f'no gradient reaches {dead}'
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('value', [99., float('nan'), float('inf')])
def test_padding_changes_nothing(plain, value):
    model, batch = plain
    model.eval()
    short, extra = model(batch), 0 if model.fixed_length else 7
    long, cut = model(padded(batch, extra, value=value)), model(soiled(batch, value))
    inside = (lambda v: v[:, :12]) if model.config.level == 'frame' else (lambda v: v)
    assert apart(short.logits, inside(long.logits)) <= 1e-5 and apart(short.logits, cut.logits) <= 1e-5
    if short.embedding is not None: assert apart(short.embedding, inside(long.embedding)) <= 1e-5


def test_padding_changes_nothing_in_any_task(case):
    model, batch = case
    out, long = model.eval()(batch).logits, model(padded(batch, 0 if model.fixed_length else 5, value=float('nan'))).logits
    assert apart(out, long[:, :12] if model.config.level == 'frame' else long) <= 1e-5


def test_neighbours_change_nothing(plain):
    model, batch = plain
    alone = model.eval()(pick_rows(batch, [2])).logits
    assert apart(model(batch).logits[2:3], alone) <= 1e-5


@pytest.mark.parametrize('gone', [*DIMS, 'all'])
def test_missing_modality(plain, gone):
    model, batch = plain
    left, before = lose(batch, gone), model.eval()(batch).logits
    out = model.train()(left)
    assert out.logits.isfinite().all()
    if learns(model):
        loss_of(out, batch).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    if out.embedding is not None and gone in ('visual', 'all'): assert not out.embedding.any()
    model = copy.deepcopy(model).eval()
    if gone == 'all': return
    assert (apart(model(left).logits, model(batch).logits) > 1e-6) == (gone in model.modalities)  # it is read, or it is not
    mixed = batch_for(model)
    mixed.mask[gone][0] = False  # one row without, the others with: the others do not notice
    assert apart(model(mixed).logits[1:], model(batch).logits[1:]) <= 1e-5


@pytest.mark.parametrize('gone', list(DIMS))
def test_batch_that_never_had_it(plain, gone):
    model, batch = plain
    left = replace(batch, **{k: {m: v for m, v in getattr(batch, k).items() if m != gone or k == 'time' and m == 'visual'} for k in ('x', 'mask', 'time')})
    assert apart(model.eval()(left).logits, model(without(batch, gone)).logits) <= 1e-5


@pytest.mark.parametrize('t, s', [(1, 1), (5, 60), (90, 7), (200, 400)])
def test_any_length_or_a_sentence(plain, t, s):
    model, _ = plain
    if sees_pixels(model): t = min(t, 9)
    batch = batch_for(model, 2, t, s, words=1 + s // 9)
    if model.fixed_length is None: assert model.eval()(batch).logits.isfinite().all()
    else:
        assert t != model.fixed_length
        with pytest.raises(UserError, match=str(model.fixed_length)): model.eval()(batch)


def test_deterministic(plain):
    model, batch = plain
    model.train(); model(batch)  # sets the scale
    torch.manual_seed(3); a = copy.deepcopy(model)(batch).logits
    torch.manual_seed(3); b = copy.deepcopy(model)(batch).logits
    assert torch.equal(a, b)
    model.eval()
    assert torch.equal(model(batch).logits, model(batch).logits)
    if learns(model): assert not torch.equal(a, model(batch).logits)  # dropout is on in training, off in evaluation


def test_save_and_load(plain, tmp_path):
    model, batch = plain
    if learns(model): model.train()(batch)  # sets the scale
    save_pretrained(model.eval(), tmp_path/'a')
    again = from_pretrained(tmp_path/'a')
    assert again.config == model.config and again.name == model.name and not again.training and again.modalities == model.modalities
    assert torch.equal(again(batch).logits, model(batch).logits)
    assert sorted(p.name for p in (tmp_path/'a').iterdir()) == ['card.md', 'config.json', 'model.safetensors']
    save_pretrained(model, tmp_path/'b')
    assert all((tmp_path/'a'/p.name).read_bytes() == (tmp_path/'b'/p.name).read_bytes() for p in (tmp_path/'a').iterdir())


def test_saving_is_whole_or_nothing(tmp_path, monkeypatch):
    "A saved model stands until the new one is whole, beside files of somebody else; a run is not overwritten."
    import mmemo.models.registry as registry
    first, second = make_model('bicross'), make_model('linear')
    save_pretrained(first, tmp_path/'m')
    (tmp_path/'m'/'notes.txt').write_text('mine')
    before = {p.name: p.read_bytes() for p in (tmp_path/'m').iterdir()}
    with monkeypatch.context() as m:
        m.setattr(registry, 'make_card', lambda model: 1/0)
        with pytest.raises(ZeroDivisionError): save_pretrained(second, tmp_path/'m')
    assert {p.name: p.read_bytes() for p in (tmp_path/'m').iterdir()} == before and not (tmp_path/'.half').exists()
    save_pretrained(second, tmp_path/'m')
    assert from_pretrained(tmp_path/'m').name == 'linear' and (tmp_path/'m'/'notes.txt').read_text() == 'mine'
    (tmp_path/'other').mkdir()
    (tmp_path/'other'/'config.json').write_text('of another program')
    with pytest.raises(UserError, match='there is a config.json already, which no model of ours wrote'): save_pretrained(first, tmp_path/'other')


def test_maps(plain):
    model, batch = plain
    batch.mask['audio'][2] = False
    out, bare = model.eval()(batch, maps=True), model(batch)
    assert bare.maps == [] and apart(out.logits, bare.logits) <= 1e-5
    if model.time_maps: assert out.maps and all(m.query_time is not None and m.key_time is not None for m in out.maps)
    else: assert all(m.query_time is None or m.key_time is None for m in out.maps)
    for m in out.maps: check_map(m, batch)


def check_map(m, batch):
    w = m.weights
    assert w.ndim == 4 and len(w) == 4 and w.isfinite().all()
    for n, which, time, mask in ((w.shape[2], m.query, m.query_time, m.query_mask), (w.shape[3], m.key, m.key_time, m.key_mask)):
        if time is not None:  # seconds of that stream, or of the frames that it was brought to
            own = batch.time.get(which, batch.time['visual'])  # a joint of several stands on the frames
            assert time.shape == (4, n)
            if n == own.shape[1]: assert torch.equal(time, own) or torch.equal(time, batch.time['visual'])
            there = torch.ones_like(time).bool() if mask is None else mask
            assert all((time[i][there[i]].diff() > 0).all() for i in range(4)), 'seconds do not ascend'
            assert time.min() >= 0 and time.max() <= max(v.max() for v in batch.time.values())
        if mask is not None: assert mask.shape == (4, n) and mask.dtype == torch.bool
    asked = torch.ones(w.shape[0], w.shape[2]).bool() if m.query_mask is None else m.query_mask
    keys = torch.ones(w.shape[0], w.shape[3]).bool() if m.key_mask is None else m.key_mask
    assert not (w * ~keys[:, None, None]).any(), 'weight on what is not there'
    if m.signed: assert w.abs().max() <= 1
    else:
        assert (w >= 0).all()
        sums = w.sum(-1)[(asked & keys.any(1, keepdim=True))[:, None].expand(w.shape[:3])]
        assert apart(sums, torch.ones_like(sums)) <= 1e-5
    assert w.std() > 0


def test_half_precision(plain):
    model, batch = plain
    model.eval()
    with torch.autocast('cpu', torch.bfloat16): half = model(batch)
    assert half.logits.isfinite().all() and apart(half.logits, model(batch).logits) < .25
    if learns(model):
        with torch.autocast('cpu', torch.bfloat16): loss_of(model.train()(batch), batch).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU on this machine')
def test_on_gpu(plain):
    model, batch = plain
    want = model.eval()(batch).logits
    got = copy.deepcopy(model).cuda()(batch.to('cuda')).logits.cpu()
    assert apart(want, got) <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize('name', [n for n in NAMES if n != 'linear'])
def test_compiles(name, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path)) # kernels that another processor's run left behind are not taken
    torch._dynamo.reset()
    model = make_model(name, layers=1, tcn_levels=1).eval()
    fast = torch.compile(model, backend='inductor' if name == 'bicross' else 'aot_eager')  # one through the C++ compiler, which takes minutes; the others are traced whole
    with torch.no_grad():
        for shape in ((4,), (3, 12, 31)) if model.fixed_length or sees_pixels(model) else ((4,), (3, 20, 31)):
            batch = batch_for(model, *shape)
            assert apart(fast(batch).logits, model(batch).logits) <= 1e-4


# --- what can be chosen -------------------------------------------------------------------------------------------

OPTIONAL = [n for n in MODELS if 'modalities' in settings_of(n)]
SUBSETS = [('visual',), ('audio',), ('text',), ('visual', 'audio'), ('visual', 'text'), ('audio', 'text'), ('visual', 'audio', 'text')]


@pytest.mark.parametrize('some', SUBSETS, ids='+'.join)
@pytest.mark.parametrize('name', OPTIONAL)
def test_any_subset_of_modalities(name, some):
    dims = {m: DIMS[m] for m in reversed(some)}
    try: model = make_model(name, dims=dims)
    except UserError as e:
        assert len(some) == 1 and 'modalities' in str(e) and name not in ('early', 'late', 'tfn', 'lmf', 'linear')  # some need two
        return
    assert model.modalities == some
    assert make_model(name, modalities=some).modalities == some  # of all that have a width
    batch = batch_for(model)
    only = replace(batch, x={m: batch.x[m] for m in some}, mask={m: batch.mask[m] for m in some}, time={m: batch.time[m] for m in {*some, 'visual'}})
    assert apart(model.eval()(batch).logits, model(only).logits) <= 1e-6
    if learns(model): loss_of(model.train()(only), batch).backward()


@pytest.mark.parametrize('name', ['early', 'late', 'tfn', 'mult', 'linear'])
@pytest.mark.parametrize('wrong, said', [(('smell',), "names 'smell'"), (('audio', 'audio'), 'each once'), (('visual', 'text'), 'reads text, but no width')])
def test_modalities_that_are_not_there(name, wrong, said):
    with pytest.raises(UserError, match=said): build(name, dict(visual=4, audio=4), modalities=wrong)


def crossed(model, b=6):
    "Rows (v0, a0), (v1, a1), (v0, a1), (v1, a0) of b pairs of takes."
    one, two = batch_for(model, b, seed=1), batch_for(model, b, seed=2)
    for batch in (one, two):
        for m in DIMS: batch.mask[m][:] = True
    mix = lambda face, voice: replace(one, x=dict(visual=face.x['visual'], audio=voice.x['audio'], text=one.x['text']))
    return [model.eval()(mix(*pair)).logits for pair in ((one, one), (two, two), (one, two), (two, one))]


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('name', ['late', 'linear'])
def test_scores_only_add(name, task):
    a, b, c, d = crossed(make_model(name, task, dims=dict(visual=12, audio=10)))
    if name == 'linear' and task_space(task).kind == 'continuous': return  # cut at the ends of the range; monotone in a sum all the same
    assert apart(a + b, c + d) <= 1e-4 * max(1, a.abs().max().item())  # so no quartet can be right four times
    assert apart(a, b) > 1e-3 and apart(a, c) > 1e-3


@pytest.mark.parametrize('name', ['bicross', 'early', 'tfn', 'lmf', 'mult'])
def test_these_do_more_than_add(name):
    a, b, c, d = crossed(make_model(name, dims=dict(visual=12, audio=10)))
    assert apart(a + b, c + d) > 1e-3


def test_tensor_fusion_without_a_voice_is_that_of_the_face():
    model = make_model('tfn', dims=dict(visual=12, audio=10)).eval()
    for s in model.sums: s.narrow.bias.data.zero_()
    model.parts['audio'].streams['audio'].missing.data.zero_()
    from mmemo.models.tensor_fusion import tensor_product
    h = torch.randn(3, 4)
    z = tensor_product([h, torch.zeros(3, 4)]).reshape(3, 5, 5)
    assert torch.equal(z[:, 1:, 0], h) and not z[:, :, 1:].any()


@pytest.mark.parametrize('pool', ['last', 'mean'])
def test_mult_pools_what_is_there(pool):
    model = make_model('mult', pool=pool).eval()
    batch = batch_for(model)
    assert apart(model(batch).logits, model(padded(batch)).logits) <= 1e-5


def test_mult_asks_every_other_stream_in_every_layer():
    model = make_model('mult').eval()
    batch = batch_for(model)
    names = [(m.key, m.query, m.layer) for m in model(batch, maps=True).maps]
    assert len(set(names)) == len(names) == 9 * 2 and {(k, q) for k, q, _ in names} == {(k, q) for k in DIMS for q in DIMS}
    sizes = {(m.key, m.query): m.weights.shape[2:] for m in model(batch, maps=True).maps}
    assert sizes['text', 'audio'] == (25, 7) and sizes['audio', 'visual'] == (12, 25)


def test_mult_keys_reach_the_right_target():
    "Each source's projection is cut by target: changing one target's piece changes that target's maps of this source, and no other first layer."
    model = make_model('mult', layers=1, modality_dropout=0.).eval()
    batch = batch_for(model)
    first = {(m.key, m.query): m.weights for m in model(batch, maps=True).maps if m.key != m.query}
    with torch.no_grad(): model.keys['audio'].project.weight[:16].normal_()  # the keys for the first other stream, the face
    now = {(m.key, m.query): m.weights for m in model(batch, maps=True).maps if m.key != m.query}
    assert [k for k in first if apart(first[k], now[k]) > 1e-6] == [('audio', 'visual')]


@pytest.mark.parametrize('name', [n for n in MODELS if MODELS[n].config.__module__ in ('mmemo.models.bicross', *(f'mmemo.models.{room}' for room in ('single', 'early_late', 'tensor_fusion', 'mult')))])
@pytest.mark.parametrize('changes', [dict(norm='post'), dict(norm='pre'), dict(sequential=True), dict(causal=True), dict(pool='mean'), dict(deviation=False),
                                     dict(product=False), dict(residual=False), dict(kernel=5)], ids=str)
def test_switches(name, changes):
    if not set(changes) <= settings_of(name): pytest.skip(f'{name} has no such switch')
    model, batch = make_model(name, **changes), make_batch()
    loss_of(model(batch), batch).backward()
    model.eval()
    if not model.fixed_length: assert apart(model(batch).logits, model(padded(batch)).logits) <= 1e-5


@pytest.mark.parametrize('name, options', [('audio', {}), ('visual', {}), ('text', {}), ('linear', dict(modalities=('audio',))), ('linear', dict(modalities=('visual',)))])
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
    from mmemo.models.tcn import TCN
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


def test_the_table_says_what_the_models_say():
    table = available()
    assert list(table.index) == list(MODELS)
    assert {'paper', 'modalities', 'tasks', 'parameters', 'frontend', 'fixed_length', 'time_maps'} <= set(table.columns)
    for name, row in table.iterrows():
        model = build(name)
        assert row.parameters == sum(p.numel() for p in model.parameters()) and row.tasks == ', '.join(model.tasks)
        assert row.modalities == ('any of visual, audio, text' if name in OPTIONAL else ' + '.join(model.modalities))
        assert row.fixed_length == (model.fixed_length or 'any') and row.time_maps == model.time_maps and row.frontend in ('features', 'pixels')
    assert table.loc[['tfn', 'lmf', 'mult', 'bicross'], 'paper'].str.len().min() > 5 and table.loc['late', 'paper'] == ''


def test_messages(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'linear'"): build('liner')
    with pytest.raises(UserError, match="no setting 'depth'"): build('bicross', depth=2)
    with pytest.raises(UserError, match="reads audio, but no width"): build('bicross', dict(visual=3))
    save_pretrained(make_model('bicross'), tmp_path)
    (tmp_path/'config.json').write_text('{"model": "bicross", "config": {"depth": 2}}')
    with pytest.raises(UserError, match="no setting 'depth'"): from_pretrained(tmp_path)
    (tmp_path/'config.json').write_text('{}')
    with pytest.raises(UserError, match="expected the fields"): from_pretrained(tmp_path)
