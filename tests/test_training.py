"""Objectives and the loop: holes in labels, determinism, callbacks, early stopping, precision, convex models, speed."""
import copy, os, subprocess, sys, time, types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmemo.training import objectives as O
from mmemo.models.bicross import BiCross, BiCrossConfig
from mmemo.core import UserError
from mmemo.labels import MOSEI_EMOTIONS
from mmemo.corpora.manifest import Corpus
from mmemo.training.metrics import ccc
from mmemo.training.callbacks import KeepBest, ModalityDropout, NoiseInstead, SoftHard
from mmemo.training.loop import (RECIPES, TrainConfig, Trainer, copy_recipe, count_window_labels, make_objective,
                                 make_optimiser, scale_lr, train, warm_cosine)
from mmemo.features.windows import WindowSettings, Windows
from mmemo.models.parts import Output

torch.set_num_threads(1) # models this small only wait for a second thread


def stand_in(n=160, classes=8, seed=0, dims=(12, 10), steps=(20, 40), level='clip', task='expression', gain=1.2):
    "A corpus in memory whose class is written into both streams."
    rng, store = np.random.default_rng(seed), {}
    ids, labels = [f'c{i}' for i in range(n)], rng.integers(0, classes, n)
    for m, t, d in (('visual', steps[0], dims[0]), ('audio', steps[1], dims[1])):
        x = rng.normal(size=(n, t, d)); x[:, :, :classes] += gain*np.eye(classes)[labels][:, None]
        store[m] = types.SimpleNamespace(values=x.reshape(-1, d).astype('float32'), time=np.tile((np.arange(t) + .5)/t*steps[0]/25, n),
            valid=np.ones(n*t, bool), offsets=np.arange(n + 1)*t, clip_ids=ids, dim=d)
    split = np.array(['train', 'train', 'train', 'val', 'test'])[np.arange(n) % 5]
    va = np.stack([np.cos(labels), np.sin(labels)], 1)
    clips = pd.DataFrame(dict(clip_id=ids, path='x', subject=[f'{s}{i % 13}' for i, s in enumerate(split)], split=split, label=labels, valence=va[:, 0], arousal=va[:, 1]))
    T = steps[0]
    felt = va[:, 0]*2.4 # seven steps of sentiment, and which of the six emotions are there: more than one, or none
    clips = clips.assign(sentiment=felt, **{c: np.where((labels == i) | (labels == i + 1), 1 + i/9, 0) for i, c in enumerate(MOSEI_EMOTIONS.classes)})
    frames = pd.DataFrame(dict(clip_id=np.repeat(ids, T), frame=np.tile(np.arange(T), n), time=store['visual'].time, label=np.repeat(labels, T),
                               valence=np.repeat(va[:, 0], T), arousal=np.repeat(va[:, 1], T)))
    corpus, settings = Corpus('stand-in', Path('.'), clips, frames), WindowSettings(length=T, level=level, task=task)
    return {s: Windows(corpus, store, settings, s) for s in ('train', 'val', 'test')}


def model_for(windows, seed=0, **options):
    torch.manual_seed(seed)
    s = windows.settings
    return BiCross(BiCrossConfig(dims=windows.dims, task=s.task, level=s.level, **{**dict(dim=16, heads=2, tcn_levels=2), **options}))


def quick(**changes): return TrainConfig(**{**dict(epochs=4, lr=5e-3, device='cpu', progress=False, lambda_text=0.), **changes})


def same(a, b): return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


# --- objectives ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('seed', range(20))
def test_masked_losses_equal_pytorch_on_the_labelled_items(seed):
    g = torch.Generator().manual_seed(seed)
    z, y = torch.randn(4, 9, 6, generator=g, dtype=torch.float64), torch.randint(-1, 6, (4, 9), generator=g)
    mask, w = torch.rand(4, 9, generator=g) > .4, torch.rand(6, generator=g, dtype=torch.float64)
    keep = mask & (y >= 0)
    want = F.cross_entropy(z[keep].float(), y[keep], w.float())
    torch.testing.assert_close(O.masked_cross_entropy(z, y, mask, w), want)
    p = z[keep].float().softmax(-1).gather(1, y[keep, None])[:, 0]; wk = w.float()[y[keep]]
    torch.testing.assert_close(O.focal(z, y, mask, w, gamma=3), ((1 - p)**3*-p.log()*wk).sum()/wk.sum())
    pred, v = torch.randn(4, 9, 2, generator=g), torch.randn(4, 9, 2, generator=g)
    per = [ccc(pred[mask][:, i], v[mask][:, i]) for i in (0, 1)]
    assert O.ccc_loss(pred, v, mask).item() == pytest.approx(1 - np.mean(per), abs=1e-4)
    torch.testing.assert_close(O.mae_loss(pred, v, mask), F.l1_loss(pred[mask], v[mask]))
    hot, pos = (v > 0).float(), torch.rand(2, generator=g)*4
    torch.testing.assert_close(O.presence_loss(pred, hot, mask, pos), F.binary_cross_entropy_with_logits(pred[mask], hot[mask], pos_weight=pos))


@pytest.mark.parametrize('loss', ['ce', 'focal', 'ccc', 'mae', 'bce'])
def test_no_label_gives_zero_loss_with_a_graph(loss):
    z = torch.randn(3, 5, 2, requires_grad=True)
    y = torch.full((3, 5), -1) if loss in ('ce', 'focal') else torch.full((3, 5, 2), float('nan'))
    value, _ = O.Objective(loss)(types.SimpleNamespace(logits=z, embedding=None), types.SimpleNamespace(y=y, y_mask=torch.zeros(3, 5, dtype=torch.bool)))
    value.backward()
    assert value.item() == 0 and z.grad.eq(0).all()


def test_what_is_masked_has_no_say():
    z, y, mask = torch.randn(2, 6, 8), torch.randint(0, 8, (2, 6)), torch.arange(6).expand(2, -1) < 4
    other = z.clone(); other[:, 4:] = 50*torch.randn(2, 2, 8)
    for f in (O.masked_cross_entropy, O.focal): assert torch.equal(f(z, y, mask), f(other, y, mask))


def test_infonce_equals_a_plain_loop():
    torch.manual_seed(0)
    E, u, y = F.normalize(torch.randn(5, 7), dim=-1), F.normalize(torch.randn(9, 7), dim=-1), torch.tensor([0, 0, 1, 2, 2, 2, 4, 4, 3])
    total, z = 0., 10*u@E[y].T
    for i in range(9):
        own = [j for j in range(9) if y[j] == y[i]]
        total += -sum(z[i].log_softmax(0)[j] for j in own)/len(own)/2 - sum(z[:, i].log_softmax(0)[j] for j in own)/len(own)/2
    assert O.TextGuide(E, 'infonce', scale=10.)(u, y).item() == pytest.approx(total.item()/9, abs=1e-5)


@pytest.mark.parametrize('form', ['class_prompt', 'infonce'])
def test_guide_ignores_steps_without_label_or_face(form):
    torch.manual_seed(0)
    E, y = F.normalize(torch.randn(8, 6), dim=-1), torch.randint(0, 8, (4, 10))
    u = F.normalize(torch.randn(4, 10, 6), dim=-1)
    mask = torch.rand(4, 10) > .3
    unseen = torch.zeros(4, 10, dtype=torch.bool); unseen[1] = True
    guide = O.TextGuide(E, form)
    holes = u.clone(); holes[unseen] = 0.
    a = guide(holes, y, mask)
    junk = holes.clone(); junk[~mask] = torch.randn(int((~mask).sum()), 6)
    torch.testing.assert_close(guide(junk, y, mask), a)
    torch.testing.assert_close(guide(u[~unseen.all(1)], y[~unseen.all(1)], mask[~unseen.all(1)]), a)
    lone = torch.zeros(4, 10, 6, requires_grad=True); guide(lone, y).backward(); assert lone.grad.isfinite().all()


# --- the loop -----------------------------------------------------------------------------------------------------

def test_same_seed_same_bits_whatever_happened_before():
    w = stand_in()
    a = model_for(w['train']); train(a, w['train'], w['val'], quick())
    torch.rand(17); np.random.rand(5)
    b = model_for(w['train']); train(b, w['train'], w['val'], quick())
    c = model_for(w['train']); train(c, w['train'], w['val'], quick(seed=1))
    assert same(a, b) and not same(a, c)


def test_same_bits_in_another_process():
    code = ("import sys, hashlib, torch; sys.path.insert(0, 'tests'); torch.set_num_threads(1); import test_training as t; w = t.stand_in(80);"
            "m = t.model_for(w['train']); t.train(m, w['train'], w['val'], t.quick(epochs=2));"
            "print(hashlib.sha256(b''.join(v.numpy().tobytes() for v in m.state_dict().values())).hexdigest())")
    run = lambda seed: subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent,
                                      env={**os.environ, 'PYTHONHASHSEED': str(seed)}).stdout.split()[-1]
    assert run(1) == run(2)


@pytest.mark.parametrize('level, task', [('clip', 'expression'), ('frame', 'expression'), ('clip', 'va'), ('frame', 'va'),
                                         ('clip', 'valence'), ('frame', 'arousal'), ('clip', 'sentiment'), ('clip', 'emotions')])
def test_every_task_and_level_learns(level, task):
    w = stand_in(level=level, task=task, gain=2.5)
    m = model_for(w['train'])
    history = train(m, w['train'], w['val'], quick(epochs=12, lr=1e-2, batch=16))
    assert max(h['val_score'] for h in history) > .6
    assert all(np.isfinite(h['train_loss']) for h in history)


def test_best_weights_come_back_and_patience_ends():
    w = stand_in(); m = model_for(w['train']); seen = []

    class Spy:
        "Breaks the model after the third epoch."
        def after_epoch(self, trainer):
            seen.append(copy.deepcopy(trainer.bare_model.state_dict()))
            if trainer.epoch >= 2: # all of it, again and again: a model with several heads learns on with those that are left
                with torch.no_grad(): [p.mul_(1e-3) for p in trainer.bare_model.parameters()]
    history = train(m, w['train'], w['val'], quick(epochs=30, patience=4, lr=1e-2), callbacks=[Spy()])
    best = max(range(len(history)), key=lambda i: (round(history[i]['val_score'], 6), -history[i]['val_loss']))
    assert len(history) < 30 and len(history) == best + 5
    assert all(torch.equal(v, seen[best][k]) for k, v in m.state_dict().items())


def test_a_loss_that_is_no_number_ends_the_training():
    "From the first epoch on it is refused; later the best weights from before stay, and no epoch after it counts."
    w = stand_in()
    with pytest.raises(UserError, match=r'no number any more in epoch 1; a learning rate \(train.lr\) below 1000'):
        train(model_for(w['train']), w['train'], w['val'], quick(lr=1000., clip=0.))

    class Spoil:
        "Spoils the weights after the second epoch."
        def after_epoch(self, trainer):
            if trainer.epoch == 1:
                with torch.no_grad(): [q.fill_(torch.nan) for q in trainer.bare_model.parameters()]
    m = model_for(w['train'])
    with pytest.warns(UserWarning, match='in epoch 3; .* The best weights from before are kept'):
        history = train(m, w['train'], w['val'], quick(epochs=6), callbacks=[Spoil()])
    assert len(history) == 2 and all(torch.isfinite(q).all() for q in m.parameters())


def test_without_validation_the_last_weights_stay():
    w = stand_in(); m = model_for(w['train'])
    history = train(m, w['train'], None, quick())
    assert len(history) == 4 and 'val_loss' not in history[0]


def test_patience_zero_never_stops():
    w = stand_in(); assert len(train(model_for(w['train']), w['train'], w['val'], quick(epochs=7, lr=0., patience=0))) == 7


def test_windows_without_any_label_change_nothing_but_the_count():
    w = stand_in(); w['train'].labels = (w['train'].labels[0], torch.zeros_like(w['train'].labels[1]))
    m = model_for(w['train']); before = copy.deepcopy(m.state_dict())
    history = train(m, w['train'], None, quick(epochs=1, class_weight=0., weight_decay=0.))
    assert history[0]['train_loss'] == 0
    for k, v in m.named_parameters(): torch.testing.assert_close(v, before[k], rtol=0, atol=1e-6)


def test_precision_may_change_within_a_process():
    w = stand_in(gain=2.5)
    for precision in ('fp32', 'bf16', 'fp32'):
        m = model_for(w['train'])
        assert train(m, w['train'], w['val'], quick(precision=precision, lr=1e-2, epochs=8))[-1]['val_score'] > .5
        assert type(m).__name__ == 'BiCross' and 'autocast' not in repr(m.forward) # nothing of accelerate is left on the model
        copy.deepcopy(m)


def test_accumulated_steps_equal_large_batches():
    w = stand_in(); plain = dict(class_weight=0., clip=1e9, epochs=1)
    calm = dict(dropout=0., channel_dropout=0., head_dropout=0., modality_dropout=0., own_heads=False) # Adam would blow up the rounding of heads that hardly move
    a, b = model_for(w['train'], **calm), model_for(w['train'], **calm)
    train(a, w['train'], None, quick(batch=32, lr=1e-3, **plain)); train(b, w['train'], None, quick(batch=16, accumulate=2, lr=1e-3, **plain))
    for (k, p), q in zip(a.named_parameters(), b.parameters()): torch.testing.assert_close(p, q, rtol=0, atol=2e-3)


def test_schedule_warms_up_and_ends_at_zero():
    f = [warm_cosine(s, 200, .05) for s in range(201)]
    assert f[0] == .1 and f[9] == 1 and max(f) == 1 and f[-1] == pytest.approx(0)
    assert all(a >= b for a, b in zip(f[9:], f[10:]))


def test_decay_touches_matrices_only():
    w = stand_in(); m = model_for(w['train'])
    from mmemo.training.loop import make_optimiser
    decayed = {id(p) for p in make_optimiser([m], quick(weight_decay=.1)).param_groups[0]['params']}
    names = {k for k, p in m.named_parameters() if id(p) in decayed}
    assert names and all(dict(m.named_parameters())[k].squeeze().ndim > 1 for k in names)
    assert not any(k.endswith('bias') or k.endswith('missing') or 'norm' in k.split('.')[-2] for k in names)


def test_a_convex_model_goes_through_the_same_call():
    class Convex(nn.Module):
        "Nearest class mean."
        def __init__(self): super().__init__(); self.register_buffer('means', torch.zeros(8, 12))
        def pooled(self, b): return b.x['visual'].sum(1)/b.mask['visual'].sum(1, keepdim=True).clamp_min(1)
        def fit(self, b):
            for c in b.y.unique(): self.means[c] = self.pooled(b)[b.y == c].mean(0)
        def forward(self, b, maps=False): return Output('expression', -torch.cdist(self.pooled(b), self.means))
    w = stand_in(); seen = []
    history = train(Convex(), w['train'], w['val'], quick(), callbacks=[types.SimpleNamespace(after_epoch=lambda t: seen.append(t.record))])
    assert len(history) == 1 == len(seen) and history[0]['val_score'] > .9


def test_guide_needs_a_projection_and_moves_the_visual_side_only_through_it():
    w = stand_in(); anchors = F.normalize(torch.randn(8, 6), dim=-1)
    objective = make_objective(quick(lambda_text=.3), w['train'], 8, anchors)
    with pytest.raises(UserError, match='text_dim'): train(model_for(w['train']), w['train'], None, quick(lambda_text=.3), objective)
    m = model_for(w['train'], text_dim=6); before = m.to_text.weight.detach().clone()
    history = train(m, w['train'], w['val'], quick(lambda_text=.3), objective)
    assert 'train_text' in history[0] and not torch.equal(before, m.to_text.weight) and objective.guide.scale <= 100.001
    m0 = model_for(w['train'], text_dim=6); before = m0.to_text.weight.detach().clone()
    train(m0, w['train'], w['val'], quick(weight_decay=0.))
    assert torch.equal(before, m0.to_text.weight) # lambda 0: the text side gets no gradient


def test_modality_dropout_hides_about_its_share_and_never_all():
    w = stand_in(400)['train']; batch = w.whole()
    batch.mask['audio'][:50] = False # these have a face only
    torch.manual_seed(0); ModalityDropout(.3).before_batch(types.SimpleNamespace(batch=batch))
    v, a = (batch.mask[m].any(1) for m in ('visual', 'audio'))
    assert (v | a).all() and v[:50].all() and .6 < a[50:].float().mean() < .85


# --- recipes, schedules, AVT-CA's modality dropout ----------------------------------------------------------------

def rates(config, epochs, scores):
    "The learning rate before each step of a training whose validation scores are given, two steps an epoch."
    w, seen = stand_in(80)['train'], []
    t = Trainer(model_for(w), w, None, config, O.Objective()); t.prepare(); t.steps = 2*config.epochs
    from mmemo.training.loop import make_callbacks
    slow = [c for c in make_callbacks(config) if type(c).__name__ == 'Plateau']
    for t.epoch, score in zip(range(epochs), scores):
        for _ in range(2): seen.append(t.optimiser.param_groups[0]['lr']); t.optimiser.step(); t.schedule.step()
        t.record = dict(val_score=score, val_loss=-score); [c.after_epoch(t) for c in slow]
    return np.array(seen)


def test_a_plateau_lowers_the_rate_after_its_patience_as_torch_does():
    config = quick(schedule='plateau', plateau=2, factor=.1, lr=1., min_lr=5e-3, warmup=0., epochs=100)
    scores = [.1, .2, .2, .15, .2, .2, .2, .2, .3, .3, .3, .3, .3, .3, .3]
    theirs = torch.optim.SGD([torch.zeros(1)], lr=1.)
    plan, want = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, 'max', .1, 2, threshold=0., min_lr=5e-3), []
    for s in scores: want += [theirs.param_groups[0]['lr']]*2; plan.step(s)
    np.testing.assert_allclose(rates(config, len(scores), scores), want)
    assert want[-1] == 5e-3 < want[12] < want[0]


def test_steps_fall_at_their_epochs_and_constant_stays():
    steps = rates(quick(schedule='steps', milestones=(2, 3), lr=1., warmup=0., epochs=6), 6, [0]*6)
    np.testing.assert_allclose(steps, [1, 1, 1, 1, .1, .1, .01, .01, .01, .01, .01, .01])
    np.testing.assert_allclose(rates(quick(schedule='constant', lr=1., warmup=.5, epochs=4), 4, [0]*4), [.25, .5, .75, 1, 1, 1, 1, 1])
    with pytest.raises(UserError, match='no milestones'): quick(schedule='steps')


@pytest.mark.parametrize('name', list(RECIPES))
def test_every_recipe_trains(name):
    w = stand_in(80, task='va', level='frame') if name == 'rcma' else stand_in(80); m = model_for(w['train']); before = copy.deepcopy(m.state_dict())
    history = train(m, w['train'], w['val'], copy_recipe(name, epochs=2, device='cpu', progress=False, lr=min(RECIPES[name].lr, .01)))
    assert all(np.isfinite(h['train_loss']) for h in history) and not all(torch.equal(v, before[k]) for k, v in m.state_dict().items())
    assert RECIPES[name] == copy_recipe(name) and RECIPES[name] is not copy_recipe(name)


def test_recipes_are_what_was_published():
    paper, code, rcma = (make_optimiser([nn.Linear(3, 3)], RECIPES[n]) for n in ('avtca-paper', 'avtca-code', 'rcma'))
    assert (type(paper), type(code), type(rcma)) == (torch.optim.Adam, torch.optim.SGD, torch.optim.Adam)
    assert all(g['weight_decay'] == 1e-3 for o in (paper, code, rcma) for g in o.param_groups) # on biases as well
    assert code.param_groups[0]['momentum'] == code.param_groups[0]['dampening'] == .9 and code.defaults['lr'] == .06
    assert scale_lr(1000, 1000, RECIPES['rcma'], 1e-9)*1e-5 == pytest.approx(1e-8) and RECIPES['default'] == TrainConfig()
    with pytest.raises(UserError, match="Did you mean 'rcma'"): copy_recipe('rmca')


def test_no_stopping_before_min_epochs():
    w = stand_in(80); run = lambda **kw: len(train(model_for(w['train']), w['train'], w['val'], quick(epochs=12, lr=0., patience=2, **kw)))
    assert (run(), run(min_epochs=7), run(min_epochs=40)) == (3, 7, 12)


@pytest.mark.parametrize('shape', ['features', 'pixels'])
def test_softhard_and_noise_are_what_they_say(shape):
    b = stand_in(200)['train'].whole(); n = len(b); torch.manual_seed(0)
    if shape == 'pixels': b.x['visual'] = torch.randint(1, 255, (n, 20, 3, 4, 4), dtype=torch.uint8)
    else: b.x['visual'] = b.x['visual'] + 9 # never 0, so that ratios are defined
    b.x['audio'] = b.x['audio'] + 9; b.mask['audio'][:, 30:] = False; b.x['audio'][:, 30:] = 0
    before = copy.deepcopy(b)
    after = lambda mode: (fake := types.SimpleNamespace(batch=b), mode.before_batch(fake))[0].batch
    soft = after(SoftHard()); assert len(soft) == 4*n and sorted(soft.clip_index.tolist()) == sorted(4*b.clip_index.tolist())
    own = {int(c): i for i, c in enumerate(b.clip_index)}; at = torch.tensor([own[int(c)] for c in soft.clip_index])
    for k in ('y', 'y_mask', 'frame', 'group'): assert torch.equal(getattr(soft, k), getattr(b, k)[at])
    for m in b.time: assert torch.equal(soft.time[m], b.time[m][at])
    share = {m: (soft.x[m].flatten(2)[:, :5]/b.x[m][at].float().flatten(2)[:, :5]).flatten(1) for m in ('audio', 'visual')}
    for m, s in share.items():
        torch.testing.assert_close(s, s[:, :1].expand_as(s)) # one share a window
        assert torch.equal(soft.mask[m].any(1), s[:, 0] > 0) and torch.equal(soft.mask[m], b.mask[m][at] & (s[:, :1] > 0))
    pairs = torch.stack([share['audio'][:, 0], share['visual'][:, 0]], 1).round(decimals=2)
    whole, heard, seen = ((pairs == torch.tensor(v)).all(1) for v in ([1., 1.], [1., 0.], [0., 1.]))
    weak = ~(whole | heard | seen)
    assert whole.sum() == heard.sum() == n and seen.sum() + weak.sum() == 2*n and weak.sum() > .9*n
    torch.testing.assert_close(pairs[weak].sum(1), torch.ones(int(weak.sum())))
    noisy = after(NoiseInstead()); at = torch.tensor([own[int(c)] for c in noisy.clip_index])
    strange = {m: (noisy.x[m].float() != b.x[m][at].float()).flatten(1).any(1) for m in ('audio', 'visual')}
    assert len(noisy) == 3*n and strange['audio'].sum() == strange['visual'].sum() == n and not (strange['audio'] & strange['visual']).any()
    for m, scale in (('audio', 1), ('visual', 255 if shape == 'pixels' else 1)):
        assert noisy.x[m][strange[m]][noisy.mask[m][strange[m]]].std().item() == pytest.approx(scale, rel=.05)
        assert not noisy.x[m][~noisy.mask[m]].any() and torch.equal(noisy.mask[m], b.mask[m][at])
    for m in b.x: assert torch.equal(b.x[m], before.x[m]) and torch.equal(b.mask[m], before.mask[m]) # the batch itself is left alone
    lone = types.SimpleNamespace(batch=replace(b, x=dict(visual=b.x['visual'])))
    with pytest.raises(UserError, match='there is no audio here'): SoftHard().before_batch(lone)


def test_modality_modes_train_and_are_repeatable():
    w = stand_in(80)
    for mode in ('softhard', 'noise'):
        a, b, plain = model_for(w['train']), model_for(w['train']), model_for(w['train'])
        train(a, w['train'], None, quick(modality_mode=mode, epochs=2)); train(b, w['train'], None, quick(modality_mode=mode, epochs=2))
        train(plain, w['train'], None, quick(epochs=2))
        assert same(a, b) and not same(a, plain)


def test_label_counts_are_those_of_the_split():
    for level in ('clip', 'frame'):
        w = stand_in(level=level)
        for s in w:
            clips = w[s].corpus.clips
            want = np.bincount(clips.label[clips.split == s], minlength=8)*(20 if level == 'frame' else 1)
            assert count_window_labels(w[s], 8).tolist() == want.tolist()


@pytest.mark.parametrize('wrong', [dict(monitor='f1'), dict(precision='float8'), dict(epochs=0), dict(batch=0), dict(loss='mse'), dict(loss='ccc'), dict(smoothing=.1, loss='focal'), dict(optimiser='lion'),
                                   dict(schedule='step'), dict(modality_mode='soft'), dict(device='cuda:7')])
def test_wrong_settings_are_one_sentence(wrong):
    if wrong.get('device') and torch.cuda.device_count() > 7: pytest.skip('there are eight GPUs')
    w = stand_in(40)
    with pytest.raises(UserError): train(model_for(w['train']), w['train'], w['val'], quick(**wrong))


def test_the_loop_itself_costs_little():
    "600 windows with a model that does next to nothing: the loop's own cost an epoch, in CPU seconds."
    w = stand_in(1000, steps=(60, 119), dims=(64, 64))['train']
    class Cheap(nn.Module):
        "One matrix."
        def __init__(self): super().__init__(); self.net = nn.Linear(64, 8)
        def forward(self, b, maps=False): return Output('expression', self.net(b.x['visual'].mean(1)))
    config = quick(epochs=1); t = Trainer(Cheap(), w, None, config, make_objective(config, w)); t.prepare(); t.epoch = 0
    took = []
    for _ in range(4):
        s = time.process_time(); t.one_epoch(); took.append(time.process_time() - s)
    assert len(w) == 600 and min(took) < .6 # about 0.1 s on an idle core


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
def test_on_a_gpu():
    w = stand_in(gain=2.5); m = model_for(w['train'])
    history = train(m, w['train'], w['val'], quick(device='cuda', lr=1e-2, epochs=12))
    assert next(m.parameters()).is_cuda and max(h['val_score'] for h in history) > .6
