"AVT-CA in all its variants, and the visual front end: what each declares, and the defects of the reference that must not come back."
import copy, itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmemo.models.avtca import AVTCA, PRESETS, AVTCAConfig, FinalAttention, SharedAttention
from mmemo.core import UserError
from mmemo.labels import TASKS, task_space
from mmemo.models.pixels import FACES, EachFrame, prepare_frames, turn_clips
from mmemo.features.batch import Batch, pick_rows, without

torch.set_num_threads(1)
SMALL = dict(dims=dict(visual=12, audio=10), n_classes=3, dim=16, heads=2)
VARIANTS = {name: preset for name, (preset, _) in PRESETS.items()}
ABLATIONS = dict(intermediate=dict(final='none'), cross=dict(fusion='none'), neither=dict(fusion='none', final='none'), late=dict(fusion='lt'), gates=dict(fusion='ia'),
                 mean=dict(pool='mean'), concat=dict(merge='concat'), clock=dict(positions=True), late_code=dict(fusion='lt', final='code'), gates_diagram=dict(fusion='ia', final='diagram'))
ALL = VARIANTS | ABLATIONS


def make_batch(b=4, t=12, s=40, seed=0, side=None) -> Batch:
    g = torch.Generator().manual_seed(seed)
    x = dict(visual=torch.randn(b, t, 12, generator=g) if side is None else torch.randint(256, (b, t, 3, side, side), generator=g, dtype=torch.uint8),
             audio=torch.randn(b, s, 10, generator=g))
    time = dict(visual=((torch.arange(t) + .5) / 10).repeat(b, 1), audio=(torch.arange(s) / 40).repeat(b, 1))
    mask = {m: torch.ones(v.shape[:2]).bool() for m, v in x.items()}
    mask['visual'][0, t // 2], mask['audio'][-1, s // 3:s // 2], mask['audio'][0, -4:] = False, False, False # no face, a gap, an early end
    return Batch(x, mask, time, torch.randint(3, (b,), generator=g), torch.ones(b).bool(), [f'c{i}' for i in range(b)], torch.arange(b), torch.arange(t).repeat(b, 1), torch.arange(b))


def make_model(name='avtca-paper', **more) -> AVTCA:
    torch.manual_seed(0)
    return AVTCA(AVTCAConfig(**(SMALL | ALL[name] | dict(heads=2) | more)))


def warm(model, batch, passes=3): # norms and scales that are not their initial ones
    model.train()
    for _ in range(passes): model(batch)
    return model.eval()


def padded(batch, frames=7, steps=9, value=99.):
    more = dict(visual=frames, audio=steps)
    def pad(v, n, fill):
        shape = list(v.shape); shape[1] = n
        return torch.cat([v, torch.full(shape, fill).to(v.dtype)], 1)
    return replace(batch, x={m: pad(v, more[m], value) for m, v in batch.x.items()}, mask={m: pad(v, more[m], False) for m, v in batch.mask.items()},
                   time={m: pad(v, more[m], 0) for m, v in batch.time.items()}, frame=pad(batch.frame, frames, -1))


def apart(a, b): return (a - b).abs().max().item()


@pytest.mark.parametrize('name, task, level', [(n, t, l) for n in VARIANTS for t in TASKS for l in ('clip', 'frame')]
                         + [(n, 'expression', l) for n in ABLATIONS for l in ('clip', 'frame')])
def test_forward_and_backward(name, task, level):
    model, batch = make_model(name, task=task, level=level).train(), make_batch()
    space = task_space(task)
    outputs = 3 if task == 'expression' else space.n
    for maps in (False, True):
        out = model(batch, maps=maps)
        assert out.logits.shape == ((4, outputs) if level == 'clip' else (4, 12, outputs)) and out.logits.dtype == torch.float32
        assert out.logits.isfinite().all() and (space.kind != 'continuous' or out.logits.abs().max() <= space.reach)
        assert out.task == task and out.mask.shape == out.time.shape == (4, 12)
        (out.logits * torch.randn_like(out.logits)).sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not dead
    still = [n for n, p in model.named_parameters() if not p.grad.any() and not n.endswith('to_k.bias')] # a softmax does not feel the keys' bias
    assert not still


@pytest.mark.parametrize('level', ['clip', 'frame'])
@pytest.mark.parametrize('name', ALL)
def test_padding_and_neighbours_change_nothing(name, level):
    batch = make_batch()
    model = warm(make_model(name, level=level), batch)
    want = model(batch).logits
    for value in (99., float('nan')):
        got = model(padded(batch, value=value)).logits[:, :12] if level == 'frame' else model(padded(batch, value=value)).logits
        assert apart(got, want) <= 1e-5
    assert apart(model(pick_rows(batch, [2])).logits, want[2:3]) <= 1e-5
    junk = replace(batch, x={m: torch.where(batch.mask[m][..., None], v, 1e4) for m, v in batch.x.items()})
    assert apart(model(junk).logits, want) <= 1e-5


@pytest.mark.parametrize('name', ALL)
def test_padding_teaches_nothing(name):
    batch = make_batch()
    a, b = make_model(name, dropout=0.).train(), make_model(name, dropout=0.).train()
    assert apart(a(batch).logits, b(padded(batch)).logits) <= 1e-5
    for (n, u), (_, v) in zip(a.named_buffers(), b.named_buffers()): assert apart(u.float(), v.float()) <= 1e-5, n


def test_padding_teaches_nothing_in_pixels():
    batch = make_batch(2, 4, 20, side=48)
    make = lambda: make_model(frontend='pixels', width=.25, augment=False, dropout=0., dims=dict(visual=48, audio=10)).train()
    a, b = make(), make()
    assert apart(a(batch).logits, b(padded(batch, value=7)).logits) <= 1e-4
    for (n, u), (_, v) in zip(a.named_buffers(), b.named_buffers()): assert apart(u.float(), v.float()) <= 1e-5, n


@pytest.mark.parametrize('gone', [('visual',), ('audio',), ('visual', 'audio')], ids='-'.join)
@pytest.mark.parametrize('level', ['clip', 'frame'])
@pytest.mark.parametrize('name', ALL)
def test_missing_stream(name, level, gone):
    whole = make_batch()
    model = warm(make_model(name, level=level), whole)
    batch = whole
    for m in gone: batch = without(batch, m)
    left = replace(batch, **{k: {m: v for m, v in getattr(batch, k).items() if m not in gone or k == 'time'} for k in ('x', 'mask', 'time')})
    if len(gone) == 1:
        assert model(batch).logits.reshape(4, -1).std(0).max() > 1e-4, 'the stream that is left should still be read'
        assert apart(model(left).logits, model(batch).logits) <= 1e-5
    mixed = replace(whole, mask={m: v.clone() for m, v in whole.mask.items()})
    for m in gone: mixed.mask[m][0] = False
    assert apart(model(mixed).logits[1:], model(whole).logits[1:]) <= 1e-5
    out = model.train()(batch)
    out.logits.sum().backward()
    assert out.logits.isfinite().all() and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('t, s', [(1, 1), (3, 7), (15, 156), (40, 13)])
@pytest.mark.parametrize('name', VARIANTS)
def test_any_length(name, t, s):
    for level in ('clip', 'frame'):
        model, batch = make_model(name, level=level), make_batch(2, t, s)
        batch.mask['audio'][0], batch.mask['visual'][0] = True, True
        assert model.train()(batch).logits.isfinite().all() and model.eval()(batch).logits.isfinite().all()
        assert model.eval()(batch, maps=True).maps[0].key_mask[0].any()


@pytest.mark.parametrize('name', ALL)
def test_saved_and_loaded(name):
    model, batch = make_model(name), make_batch()
    warm(model, batch)
    torch.manual_seed(9)
    again = AVTCA(AVTCAConfig(**vars(model.config)))
    assert not torch.equal(again.eval()(batch).logits, model(batch).logits)
    again.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})
    assert torch.equal(again.eval()(batch).logits, model(batch).logits)
    assert not any(k.startswith('module.') for k in model.state_dict())


@pytest.mark.parametrize('name', VARIANTS)
def test_heads_are_obeyed(name):
    batch = make_batch()
    one, four = make_model(name, heads=1).eval(), make_model(name, heads=4).eval()
    four.load_state_dict(one.state_dict())
    assert {m.weights.shape[1] for m in one(batch, maps=True).maps} == {1} and {m.weights.shape[1] for m in four(batch, maps=True).maps} == {4}
    assert apart(one(batch).logits, four(batch).logits) > 1e-6 # the same weights, another number of heads


def test_presets_follow_the_table():
    paper, diagram, code = (AVTCAConfig(**VARIANTS[f'avtca-{n}']) for n in ('paper', 'diagram', 'code'))
    assert [(c.heads, c.fusion, c.final, c.pool, c.merge) for c in (paper, diagram, code)] == \
        [(4, 'it', 'paper', 'max', 'add'), (4, 'it', 'diagram', 'max', 'add'), (8, 'it', 'code', 'mean', 'concat')]
    assert (paper.face, code.face, paper.positions) == ('paper', 'code', False)


def test_shared_self_attention():
    "What the released code calls cross-attention: one module, one stream at a time."
    end = make_model('avtca-code').end
    assert isinstance(end, SharedAttention) and len(list(end.parameters())) == 8 # queries, keys, values, out: once
    h = dict(visual=torch.randn(2, 5, 16), audio=torch.randn(2, 9, 16))
    there, swap = {m: torch.ones(v.shape[:2]).bool() for m, v in h.items()}, lambda d: dict(visual=d['audio'], audio=d['visual'])
    out, other = end(h, there, None, False)[0], end(swap(h), swap(there), None, False)[0]
    assert apart(out['visual'], other['audio']) <= 1e-6 and apart(out['audio'], other['visual']) <= 1e-6
    theirs = nn.MultiheadAttention(16, 2, batch_first=True)
    a = end.attend
    theirs.load_state_dict(dict(in_proj_weight=torch.cat([l.weight for l in (a.to_q, a.to_k, a.to_v)]), in_proj_bias=torch.cat([l.bias for l in (a.to_q, a.to_k, a.to_v)]),
                                **{f'out_proj.{k}': v for k, v in a.out.state_dict().items()}))
    assert apart(theirs(*[h['audio']] * 3)[0], out['audio']) <= 1e-5 # no norm, and no way round it


@pytest.mark.parametrize('name', ['avtca-paper', 'avtca-diagram'])
def test_the_end_is_cross_attention_elsewhere(name):
    end = make_model(name).end.eval()
    assert isinstance(end, FinalAttention)
    h = dict(visual=torch.randn(1, 5, 16), audio=torch.randn(1, 9, 16, requires_grad=True))
    there, time = {m: torch.ones(v.shape[:2]).bool() for m, v in h.items()}, {m: torch.linspace(0, 1, v.shape[1])[None] for m, v in h.items()}
    assert apart(end({**h, 'visual': h['visual'] + torch.randn(1, 5, 16)}, there, time, False)[0]['audio'], end(h, there, time, False)[0]['audio']) > 1e-3


def test_diagram_weighs_the_others_values():
    "With everything but the first step silenced, the voice is moved by the face's values at its own seconds, and its weights by the voice alone."
    end = make_model('avtca-diagram').end.eval()
    h = dict(visual=torch.randn(1, 4, 16), audio=torch.randn(1, 8, 16))
    there, time = {m: torch.ones(v.shape[:2]).bool() for m, v in h.items()}, {m: (torch.arange(v.shape[1]) + .5)[None] / v.shape[1] for m, v in h.items()}
    drawn = lambda h: {(layer, q, k): w for layer, _, q, k, w in end(h, there, time, True)[1]}
    other = {**h, 'visual': torch.randn(1, 4, 16)}
    assert apart(drawn(h)[1, 'audio', 'audio'], drawn(other)[1, 'audio', 'audio']) == 0
    z = {m: end.before_own[m](h[m]) for m in h}
    own = end.own['audio']
    by_hand = own(z['audio'], z['audio'], there['audio'], False, z['visual'].repeat_interleave(2, 1))[0] # two steps of the voice a frame
    plus = h['audio'] + by_hand
    found = end.cross['visual'](end.before_cross['visual'](h['visual'] + own_of(end, z, 'visual', there, z['audio'].unflatten(1, (4, 2)).mean(2))),
                                end.before_cross['audio'](plus), there['audio'])[0]
    assert apart(end(h, there, time, False)[0]['visual'], found) <= 1e-5


def own_of(end, z, m, there, values): return end.own[m](z[m], z[m], there[m], False, values)[0]


@pytest.mark.parametrize('name', ALL)
def test_maps_have_the_right_seconds(name):
    batch = make_batch()
    batch.mask['audio'][2] = False
    model = warm(make_model(name), batch)
    out, plain = model(batch, maps=True), model(batch)
    assert plain.maps == [] and apart(out.logits, plain.logits) <= 1e-5
    assert bool(out.maps) == (name != 'neither')
    start = batch.time['audio'][0]
    for m in out.maps:
        b, h, q, k = m.weights.shape
        steps = dict(visual=12, audio=40 - (6 if m.layer == 0 and 'late' not in m.name else 12)) # three off each of the blocks before
        assert (q, k) == (steps[m.query], steps[m.key]) and m.query_time.shape == m.query_mask.shape == (b, q) and m.key_time.shape == m.key_mask.shape == (b, k)
        some = m.key_mask.any(1)
        assert (m.weights >= 0).all() and (m.weights[some].sum(-1) - 1).abs().max() <= 1e-5 and not m.signed
        assert not m.weights[~some].any() and not (m.weights * ~m.key_mask[:, None, None]).any()
        for axis, time in ((m.query, m.query_time), (m.key, m.key_time)):
            if axis == 'visual': assert torch.equal(time, batch.time['visual'])
            else: # the middle of the steps that each stands for
                reach = 40 - steps['audio'] + 1
                assert apart(time[3], batch.time['audio'][3].unfold(0, reach, 1).mean(1)) <= 1e-5
        assert ('cross' not in m.name) or m.query != m.key or 'wrongly called' in m.name
    assert all(m.query == m.key for m in out.maps if m.layer == 1) and all(m.query != m.key for m in out.maps if m.layer != 1)
    if name == 'avtca-code': assert sorted(m.name for m in out.maps if m.layer) == ['face -> face, self, wrongly called cross', 'voice -> voice, self, wrongly called cross']


def test_intermediate_and_final_can_be_told_apart():
    "Each ablation has exactly what its name says."
    names = lambda **more: {m.name.split(', ')[1].split(' ')[0] for m in make_model('avtca-paper', **more).eval()(make_batch(), maps=True).maps}
    assert names() == {'intermediate', 'self', 'cross'}
    assert names(final='none') == {'intermediate'} and names(fusion='none') == {'self', 'cross'}


def test_exactly_three_point_six_seconds():
    "79,380 samples are 156 steps, and not one is lost; nor of a sample more or less."
    librosa = pytest.importorskip('librosa')
    sound = np.random.default_rng(0).normal(size=81_000).astype(np.float32)
    model, answers = make_model('avtca-code', dims=dict(visual=12, audio=10)).eval(), []
    for samples in (79_379, 79_380, 79_381, 79_872):
        mfcc = torch.from_numpy(librosa.feature.mfcc(y=sound[:samples], sr=22_050, n_mfcc=10, hop_length=512)).mT[None]
        assert mfcc.shape[1] == (157 if samples == 79_872 else 156)
        batch = make_batch(1, 15, mfcc.shape[1])
        batch = replace(batch, x={**batch.x, 'audio': mfcc}, mask={m: torch.ones_like(v) for m, v in batch.mask.items()})
        maps = model(batch, maps=True).maps
        assert {m.weights.shape[-1] for m in maps if m.key == 'audio' and m.layer == 0} == {mfcc.shape[1] - 6}
        assert all(m.key_mask.all() for m in maps)
        assert apart(model(batch).logits, model(without(batch, 'audio')).logits) > 1e-3
        answers.append(model(batch).logits)
    assert apart(answers[0], answers[1]) < .1 * apart(answers[1], model(without(batch, 'audio')).logits) # one sample is little, silence is not


def test_red_is_not_blue(tmp_path):
    "A red film, written and read by the project's own media, lights up the first channel."
    from mmemo.media.files import write_clip
    from mmemo.media.frames import VideoReader
    film = np.zeros((4, 64, 64, 3), np.uint8); film[..., 0] = 230
    write_clip(tmp_path/'red.mp4', film, 25.)
    frames = torch.from_numpy(np.asarray(VideoReader(tmp_path/'red.mp4').frames(range(4)))).permute(0, 3, 1, 2)
    x = prepare_frames(frames)
    assert x[:, 0].mean() > .7 and x[:, 1:].mean() < .2
    for kind in FACES:
        torch.manual_seed(0)
        eyes = EachFrame(kind, .25, False).eval()
        first = next(m for m in eyes.modules() if isinstance(m, nn.Conv2d))
        with torch.no_grad(): first.weight[:, 1:] = 0 # looks at the first channel only
        seen = torch.ones(1, 4).bool()
        assert apart(eyes(frames[None], seen), eyes(torch.zeros_like(frames)[None], seen)) > 1e-6
        assert apart(eyes(frames.flip(1)[None] * torch.tensor([0, 1, 1])[:, None, None].to(torch.uint8), seen), eyes(torch.zeros_like(frames)[None], seen)) == 0


@pytest.mark.parametrize('name', VARIANTS)
@pytest.mark.parametrize('level', ['clip', 'frame'])
def test_from_pixels(name, level):
    batch = make_batch(2, 5, 20, side=48)
    make = lambda: make_model(name, frontend='pixels', width=.25, dims=dict(visual=48, audio=10), level=level)
    model = make().train()
    torch.manual_seed(1); a = model(batch).logits
    a.pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    again = make().train()
    torch.manual_seed(1); assert torch.equal(again(batch).logits, a) # augmentation follows the seed
    warm(model, batch)
    assert apart(model(pick_rows(batch, [1])).logits, model(batch).logits[1:]) <= 1e-5
    got = model(padded(batch, value=3)).logits
    assert apart(got[:, :5] if level == 'frame' else got, model(batch).logits) <= 1e-5
    never = replace(batch, x={'audio': batch.x['audio']}, mask={'audio': batch.mask['audio']})
    assert apart(model(never).logits, model(without(batch, 'visual')).logits) <= 1e-6
    with pytest.raises(UserError, match='expects pixels'): model(make_batch(2))
    with pytest.raises(UserError, match='expects features'): make_model(name)(batch)
    model.train()
    out = model(without(batch, 'visual')).logits # not a single frame in the batch
    out.sum().backward()
    assert out.isfinite().all()


def test_a_frame_without_a_face_is_not_looked_at():
    batch = make_batch(2, 5, 20, side=48)
    model = make_model(frontend='pixels', width=.25, dims=dict(visual=48, audio=10)).eval()
    other = replace(batch, x={**batch.x, 'visual': batch.x['visual'].clone()})
    assert not batch.mask['visual'][0, 2]
    other.x['visual'][0, 2] = 255
    assert torch.equal(model(batch).logits, model(other).logits)
    other.x['visual'][0, 1] = 255
    assert apart(model(batch).logits, model(other).logits) > 0


@pytest.mark.parametrize('kind, side', [(k, s) for k in FACES for s in ((48, 48), (61, 61), (112, 112), (96, 64), (224, 224))])
def test_any_side(kind, side):
    eyes = EachFrame(kind, .25).train()
    x = torch.randint(256, (1, 2, 3, *side), dtype=torch.uint8)
    out = eyes(x, torch.ones(1, 2).bool())
    assert out.shape == (1, 2, eyes.dim) and out.isfinite().all()
    assert eyes(x[:, :1], torch.ones(1, 1).bool()).isfinite().all() # a single frame, in training
    with pytest.raises(UserError, match='48 pixels a side'): eyes(x[..., :40, :40], torch.ones(1, 2).bool())


def test_turned_alike_within_a_clip():
    x = torch.rand(6, 1, 3, 48, 48).expand(-1, 3, -1, -1, -1)
    torch.manual_seed(0); y = turn_clips(x)
    assert torch.equal(y[:, 0], y[:, 1]) and torch.equal(y[:, 0], y[:, 2])
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(turn_clips(x[:1].expand(6, -1, -1, -1, -1))[:, 0], 2)) # one draw a clip
    mirrored = [apart(turn_clips(x[:1], 0.), x[:1]) > 1e-3 for _ in range(200)]
    assert .4 < np.mean(mirrored) < .6
    line = torch.zeros(1, 1, 3, 64, 64); line[..., 31:33, :] = 1 # a horizontal line: its slope after turning
    slopes = []
    for _ in range(100):
        a = turn_clips(line)[0, 0, 0]
        rows_of = (a * torch.arange(64.)[:, None]).sum(0) / a.sum(0).clamp(min=1e-6)
        slopes.append(torch.rad2deg(torch.atan((rows_of[48] - rows_of[16]) / 32)))
    assert 6 < torch.stack(slopes).abs().max() < 11


def test_learns_what_only_both_streams_tell():
    "A class that is the agreement of a sign in the face and a sign in the voice: no stream alone has it."
    g = torch.Generator().manual_seed(0)
    face, voice = (torch.randint(2, (160,), generator=g) for _ in range(2))
    batch = make_batch(160, 5, 16)
    x = {m: v * .3 + (2. * s - 1)[:, None, None] for (m, v), s in zip(batch.x.items(), (face, voice))}
    batch = replace(batch, x=x, mask={m: torch.ones_like(v) for m, v in batch.mask.items()}, y=(face == voice).long())
    train, test = pick_rows(batch, torch.arange(112)), pick_rows(batch, torch.arange(112, 160))
    for name in VARIANTS:
        model = make_model(name, dims=dict(visual=12, audio=10), dim=32).train()
        opt = torch.optim.Adam(model.parameters(), 5e-3)
        for _ in range(25):
            opt.zero_grad(); F.cross_entropy(model(train).logits, train.y).backward(); opt.step()
        model.eval()
        assert (model(test).logits.argmax(1) == test.y).float().mean() > .95, name
        assert (model(without(test, 'visual')).logits.argmax(1) == test.y).float().mean() < .8


@pytest.mark.parametrize('name', VARIANTS)
def test_half_precision(name):
    batch = make_batch()
    model = warm(make_model(name), batch)
    with torch.autocast('cpu', torch.bfloat16): half = model(batch).logits
    assert half.dtype == torch.float32 and apart(half, model(batch).logits) < .1
    pixels = make_model(name, frontend='pixels', width=.25, dims=dict(visual=48, audio=10)).train()
    for m, b in ((model.train(), batch), (pixels, make_batch(2, 3, 20, side=48))):
        with torch.autocast('cpu', torch.bfloat16): loss = m(b).logits.sum()
        loss.backward()
        assert loss.isfinite() and all(p.grad.isfinite().all() for p in m.parameters())


@pytest.mark.slow
@pytest.mark.parametrize('name, frontend', [('avtca-paper', 'features'), ('avtca-diagram', 'features'), ('avtca-code', 'features'), ('avtca-paper', 'pixels')])
def test_compiles(name, frontend):
    torch._dynamo.reset()
    side = 48 if frontend == 'pixels' else None
    batch = make_batch(2, 5, 20, side=side)
    model = warm(make_model(name, frontend=frontend, width=.25, dims=dict(visual=side or 12, audio=10), dropout=0., augment=False), batch).train()
    plain = copy.deepcopy(model)
    fast = torch.compile(model, backend='aot_eager', dynamic=False)
    for m in (fast, plain): m(batch).logits.square().sum().backward()
    for (n, p), q in zip(model.named_parameters(), plain.parameters()): assert torch.allclose(p.grad, q.grad, rtol=1e-3, atol=1e-3), n
    for (n, u), v in zip(model.named_buffers(), plain.buffers()): assert torch.allclose(u.float(), v.float(), atol=1e-5), n # statistics follow as well
    assert apart(model.eval()(batch).logits, plain.eval()(batch).logits) <= 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU on this machine')
@pytest.mark.parametrize('name', VARIANTS)
def test_on_gpu(name):
    for side in (None, 48):
        batch = make_batch(2, 5, 20, side=side)
        model = warm(make_model(name, frontend='pixels' if side else 'features', width=.25, dims=dict(visual=side or 12, audio=10)), batch)
        assert apart(copy.deepcopy(model).cuda()(batch.to('cuda')).logits.cpu(), model(batch).logits) <= 1e-3
        assert copy.deepcopy(model).cuda().train()(batch.to('cuda')).logits.isfinite().all()
