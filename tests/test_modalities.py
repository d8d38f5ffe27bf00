"Changes of a stream, Shapley values and swaps, for every registered model and for inputs that are odd."
import numpy as np
import pandas as pd
import pytest
import torch

from mmemo.core import UserError
from mmemo.explain.modalities import (change_stream, draw_swap_pairs, give_voices, keep_only, knock_out, list_streams,
                                      mark_existing, measure_degradation, shift_stream, swap_voices, tabulate_swaps)
from mmemo.explain.shapley import answer_coalitions, compute_shapley, name_strongest, shapley
from mmemo.features.batch import pick_rows, without
from test_models import NAMES, has_levels, make_batch, make_model, batch_for, padded

torch.set_num_threads(1)


@pytest.mark.parametrize('name', NAMES)
def test_shapley_of_every_model_adds_up(name):
    model = make_model(name, level=has_levels(name.split('/')[0])[0]).eval()
    batch = batch_for(model)
    m, every = len(list_streams(model, batch)), answer_coalitions(model, batch)
    assert every.shape == (2**m, 4, 3) and every.isfinite().all()
    for of in ('probability', 'logit'):
        phi, every = shapley(model, batch, of=of), answer_coalitions(model, batch, of)
        top = every[-1].argmax(-1)
        gain = (every[-1] - every[0])[torch.arange(4), top]
        torch.testing.assert_close(phi.sum(1), gain, atol=1e-9, rtol=0)
        assert phi.shape == (4, m)
    if m == 1: torch.testing.assert_close(phi[:, 0], gain)


@pytest.mark.parametrize('task', ['va', 'sentiment', 'emotions'])
def test_values_and_several_labels_need_a_number(task):
    model = make_model('bicross', task)
    batch = batch_for(model)
    with pytest.raises(UserError, match='no one class'): shapley(model, batch)
    phi, every = shapley(model, batch, 0), answer_coalitions(model, batch)[..., 0]
    torch.testing.assert_close(phi.sum(1), every[-1] - every[0])


def test_windows_without_a_label_have_no_value():
    model, batch = make_model('bicross'), make_batch()
    batch.y[2] = -1
    phi = shapley(model, batch, 'label')
    assert phi[2].isnan().all() and not phi[[0, 1, 3]].isnan().any()
    assert name_strongest(phi, ('visual', 'audio'))[2] is None


def test_a_missing_stream_gets_nothing():
    model, batch = make_model('bicross'), without(make_batch(), 'audio')
    assert shapley(model, batch)[:, 1].abs().max() == 0          # a dummy player


def test_dummy_symmetric_and_additive_games():
    v, w = np.random.default_rng(0).normal(size=(2, 8, 5))
    np.testing.assert_allclose(compute_shapley(v + 2*w), compute_shapley(v) + 2*compute_shapley(w))
    dummy = np.concatenate([v[:4], v[:4] + 3])                   # the third only ever adds 3
    np.testing.assert_allclose(compute_shapley(dummy)[:, 2], 3)
    twins = np.array([0, 1, 1, 5.])
    assert compute_shapley(twins)[0] == compute_shapley(twins)[1] == 2.5
    with pytest.raises(AssertionError, match='2\\^m'): compute_shapley(np.zeros(3))


@pytest.mark.parametrize('kind', [dict(gain=2.), dict(noise=1.), dict(shift=.08), dict(blackout=(.1, .3)), dict(blackout=.4), dict(gain=.5, noise=.3, shift=-.1, blackout=.2)])
@pytest.mark.parametrize('modality', ['visual', 'audio', 'text'])
def test_change_is_pure_and_alone(kind, modality):
    batch, fresh = make_batch(), make_batch()
    out = change_stream(batch, modality, **kind)
    for m in batch.x:
        torch.testing.assert_close(batch.x[m], fresh.x[m], atol=0, rtol=0); assert (batch.mask[m] == fresh.mask[m]).all()
        if m != modality: assert out.x[m] is batch.x[m] and out.mask[m] is batch.mask[m]
        assert out.time[m] is batch.time[m]
    assert not torch.equal(out.x[modality], batch.x[modality])
    assert not out.x[modality][~out.mask[modality]].any() and out.x[modality].isfinite().all()
    again = change_stream(batch, modality, **kind)
    assert torch.equal(out.x[modality], again.x[modality])


@pytest.mark.parametrize('kind', [dict(noise=1.), dict(blackout=.4), dict(shift=.08)])
def test_neighbours_and_padding_change_nothing(kind):
    batch, spread = make_batch(), torch.ones(10)
    whole = change_stream(batch, 'audio', **kind, spread=spread)
    two = change_stream(pick_rows(batch, [2, 0]), 'audio', **kind, spread=spread)
    long = change_stream(padded(batch, value=0.), 'audio', **kind, spread=spread)
    assert torch.equal(two.x['audio'], whole.x['audio'][[2, 0]]) and torch.equal(two.mask['audio'], whole.mask['audio'][[2, 0]])
    assert torch.equal(long.mask['audio'][:, :25], whole.mask['audio']) and not long.mask['audio'][:, 25:].any()
    torch.testing.assert_close(long.x['audio'][:, :25], whole.x['audio'])


def test_seeds_differ():
    a, b = (change_stream(make_batch(), 'audio', noise=1., seed=s).x['audio'] for s in (0, 1))
    assert not torch.equal(a, b)


def test_pictures_stay_pictures():
    batch = make_batch(pixels=True)
    bright, grainy = change_stream(batch, 'visual', gain=3.), change_stream(batch, 'visual', noise=.5)
    for out in (bright, grainy): assert out.x['visual'].dtype == torch.uint8 and out.x['visual'].shape == batch.x['visual'].shape
    seen = batch.mask['visual']
    assert torch.equal(bright.x['visual'][seen], (batch.x['visual'][seen].float()*3).clamp(0, 255).to(torch.uint8))
    assert not bright.x['visual'][~seen].any()


@pytest.mark.parametrize('shift', [.02, .1, -.1, .2, -.3])
def test_shift_moves_by_seconds(shift):
    time = ((torch.arange(50) + .5)*.02).repeat(2, 1)
    x, there = torch.arange(50.)[None, :, None].repeat(2, 1, 1), torch.ones(2, 50, dtype=torch.bool)
    out, mask = shift_stream(x, there, time, there, shift)
    k = round(shift/.02)
    assert mask[0].sum() == 50 - abs(k)
    assert (out[..., 0][mask] == (torch.arange(50.) - k).repeat(2, 1)[mask]).all()


def test_a_hole_moves_with_the_content():
    time = ((torch.arange(10) + .5)*.1).repeat(1, 1)
    there, mask = torch.ones(1, 10, dtype=torch.bool), torch.ones(1, 10, dtype=torch.bool)
    mask[0, 4] = False
    assert shift_stream(torch.zeros(1, 10, 1), mask, time, there, .2)[1][0].int().tolist() == [0, 0, 1, 1, 1, 1, 0, 1, 1, 1]
    assert not shift_stream(torch.zeros(1, 10, 1), mask, time, there, 5.)[1].any()


def test_all_of_a_stream_dark_is_none_of_it():
    model, batch = make_model('bicross'), make_batch()
    for m in ('visual', 'audio'):
        a, b = (model.eval()(x).logits for x in (change_stream(batch, m, blackout=1.), keep_only(batch, [k for k in ('visual', 'audio') if k != m], ('visual', 'audio'))))
        torch.testing.assert_close(a, b)


def test_swap_there_and_back():
    batch, order = make_batch(), torch.tensor([2, 0, 3, 1])
    back = swap_voices(swap_voices(batch, order), torch.argsort(order))
    for m in ('audio', 'text'):
        for part in ('mask', 'time'): torch.testing.assert_close(getattr(back, part)[m], getattr(batch, part)[m])
        torch.testing.assert_close(back.x[m], batch.x[m]*batch.mask[m][..., None])
    assert swap_voices(batch, order).clip_id == batch.clip_id
    kept = give_voices(batch, pick_rows(batch, order), brought=('audio',))
    assert kept.x['text'] is batch.x['text']


def test_a_voice_longer_than_the_face_is_cut():
    short, long = make_batch(t=12, s=25), make_batch(t=24, s=50, seed=1)   # 0.48 and 0.96 s
    out = give_voices(short, long)
    assert out.x['audio'].shape[1] == 50 and out.time['audio'].max() < .49
    assert out.mask['audio'][0, :25].all() and not out.mask['audio'][:, 25:].any() and not out.x['audio'][:, 25:].any()
    assert give_voices(long, short).mask['audio'].sum() == short.mask['audio'].sum()
    assert mark_existing(give_voices(long, short), 'audio').sum(1).max() == 25
    assert make_model('bicross').eval()(out).logits.isfinite().all()


def test_shares_of_a_swap():
    rows_ = [('Anger', 'Fear', 'face')]*6 + [('Anger', 'Fear', 'voice')]*2 + [('Fear', 'Anger', 'neither')]*2 + [('Fear', 'Fear', 'both')]*5
    found = pd.DataFrame(rows_, columns=['face', 'voice', 'wins']).assign(subject=[f's{i % 3}' for i in range(15)])
    table = tabulate_swaps(found).set_index(['face', 'voice'])
    assert len(table) == 2 and table.loc[('Anger', 'Fear')].n == 8
    assert table.loc[('Anger', 'Fear')][['face_wins', 'voice_wins', 'neither']].tolist() == [.75, .25, 0]
    every = tabulate_swaps(found, ()).iloc[0]
    assert every.n == 10 and every.face_wins == .6 and every.face_low <= .6 <= every.face_high


def test_a_swap_never_gives_a_face_its_own_voice():
    clips = pd.DataFrame(dict(clip_id=list('abcd'), label=['Anger', 'Anger', 'Fear', None]))
    pairs = draw_swap_pairs(type('C', (), dict(clips=clips)), list('abcd'), each=5)
    assert sorted(map(tuple, pairs.to_numpy())) == [('a', 'b'), ('a', 'c'), ('b', 'a'), ('b', 'c'), ('c', 'a'), ('c', 'b')]


def test_knock_out_of_a_small_run():
    from mmemo.training.evaluation import evaluate, predict
    from mmemo.explain.modalities import AlteredWindows
    from mmemo.panels.source import open_source
    from mmemo.features.windows import Windows
    from small_run import small_run
    source = open_source(small_run())
    windows = Windows(source.corpus, source.store, source.settings, 'test')
    table = knock_out(source.model, windows, 'accuracy')
    score = table.set_index(['kept', 'part']).score
    assert set(table.kept) == {'none', 'visual', 'audio', 'visual + audio'} and {'all', 'both', 'audio', 'video'} <= set(table.part)
    alone = predict(source.model, AlteredWindows(windows, lambda b: without(b, 'audio')))
    assert score['visual', 'all'] == pytest.approx((alone.predicted == alone.label).mean())
    whole = evaluate(predict(source.model, windows), windows.corpus)
    for part in whole: assert score['visual + audio', part] == pytest.approx(whole[part]['accuracy']['value'])
    blind = predict(source.model, AlteredWindows(windows, lambda b: without(without(b, 'audio'), 'visual')))
    assert blind.predicted.nunique() == 1, 'with nothing to go by there is one answer for all'
    assert score['none', 'all'] == pytest.approx((blind.predicted == blind.label).mean())
    many = table[table.n_groups > 1]
    assert len(many) and (many.low <= many.score).all() and (many.score <= many.high).all() and (table[table.part == 'all'].n_clips == len(windows)).all()


def test_unknown_names_are_answered(tmp_path):
    batch = make_batch()
    with pytest.raises(UserError, match="no modality 'smell'"): change_stream(batch, 'smell')
    with pytest.raises(UserError, match='row number below 4'): swap_voices(batch, [0, 1])
    fake = type('W', (), dict(modalities=('visual',)))()
    with pytest.raises(UserError, match="no modality 'audio'"): measure_degradation(None, fake, 'audio', 'gain', [1])
    with pytest.raises(UserError, match='expected one of gain'): measure_degradation(None, fake, 'visual', 'hue', [1])
