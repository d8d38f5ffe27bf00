"""Attention of every model can be taken away, by one hook: made even over what is there, silenced, shuffled; a run says what that changes."""
import json
from dataclasses import replace

import pytest
import torch

from mmemo.models.intervene import CHANGES, intervene, is_watched
from mmemo.models.registry import MODELS, build
from mmemo.models.toy import add_words, random_batch

FITTED = ('linear',) # no attention


@pytest.fixture(scope='module')
def batch():
    "Four clips; of one the voice is short, of one the face; words beside."
    made = add_words(random_batch(b=4, t=12, s=24))
    for m, clip, n in (('audio', 1, 7), ('visual', 2, 5)):
        made.mask[m] = made.mask[m].clone()
        made.mask[m][clip, n:] = False
    return made


def model_of(name, batch):
    dims = {m: x.shape[-1] for m, x in batch.x.items()}
    options = dict(length=12) if name.startswith(('rcma', 'rjcma')) else {}
    if 'modalities' in {f for f in MODELS[name].config.__dataclass_fields__}: options['modalities'] = tuple(dims)
    torch.manual_seed(0)
    return build(name, dims=dims, n_classes=3, **options).eval()


NAMES = [n for n in MODELS if n not in FITTED]


@pytest.mark.parametrize('name', NAMES)
def test_every_model_with_maps_is_changed_by_the_one_hook(name, batch):
    model = model_of(name, batch)
    as_is = model(batch, maps=True)
    assert as_is.maps, name
    with torch.no_grad(), intervene(model): even = model(batch, maps=True).maps
    assert len(even) == len(as_is.maps)
    for m in even:
        on = torch.ones_like(m.weights, dtype=torch.bool) if m.key_mask is None else m.key_mask[:, None, None].expand_as(m.weights)
        lowest = m.weights.masked_fill(~on, torch.inf).amin(-1)
        highest = m.weights.masked_fill(~on, -torch.inf).amax(-1)
        some = on.any(-1)
        assert torch.allclose(lowest[some], highest[some], atol=1e-6), (name, m.name) # all keys that are there alike
        assert not m.weights[~on].any(), (name, m.name) # and padding has nothing
        if not m.signed and m.query_mask is not None:
            asks = m.query_mask[:, None].expand(m.weights.shape[:3]) & some
            assert torch.allclose(m.weights.sum(-1)[asks], torch.ones(()), atol=1e-5), (name, m.name)
    with torch.no_grad(), intervene(model, 'silenced'):
        assert not any(m.weights.any() for m in model(batch, maps=True).maps), name
    assert not is_watched()


@pytest.mark.parametrize('name', NAMES)
def test_without_maps_and_with_a_change_is_as_without(name, batch):
    "The fused road is left while somebody intervenes, and answers are the same again afterwards."
    model = model_of(name, batch)
    with torch.no_grad():
        before = model(batch).logits
        with intervene(model, None): watched = model(batch).logits
        with intervene(model, 'uniform'): plain, drawn = model(batch).logits, model(batch, maps=True).logits
        after = model(batch).logits
    assert torch.allclose(before, watched, atol=1e-4) and torch.equal(before, after)
    assert torch.equal(plain, drawn), name


@pytest.mark.parametrize('name', NAMES)
def test_one_layer_and_one_head_change_nothing_else(name, batch):
    model = model_of(name, batch)
    with torch.no_grad():
        maps = model(batch, maps=True).maps
        first = maps[0]
        with intervene(model, 'silenced', query=first.query, key=first.key, layer=first.layer, head=0):
            changed = model(batch, maps=True).maps
    meant = [(m.query, m.key, m.layer) == (first.query, first.key, first.layer) for m in maps]
    for m, is_meant in zip(changed, meant):
        if is_meant: assert not m.weights[:, 0].any()
        else: assert m.weights.any(), (name, m.name)
    assert torch.equal(changed[0].weights[:, 1:], maps[0].weights[:, 1:])


@pytest.mark.parametrize('name', NAMES)
def test_a_shuffle_moves_rows_of_queries_that_are_there(name, batch):
    model = model_of(name, batch)
    with torch.no_grad():
        first = model(batch, maps=True).maps[0]
        with intervene(model, 'shuffled'): moved = model(batch, maps=True).maps[0]
        with intervene(model, 'shuffled'): again = model(batch, maps=True).maps[0]
    assert torch.equal(moved.weights, again.weights) # seeded
    for i in range(len(first.weights)):
        on = slice(None) if first.query_mask is None else first.query_mask[i]
        a, b = (m.weights[i, 0][on] for m in (first, moved))
        torch.testing.assert_close(a.sum(-1).sort().values, b.sum(-1).sort().values, rtol=1e-4, atol=1e-4) # sums of hundreds
        apart = (a[:, None] - b[None]).abs().amax(-1)
        assert (apart.amin(0) < 1e-6).all() # every row comes from somewhere in the same clip


def test_a_clip_alone_is_changed_as_in_a_batch(batch):
    "Padding of neighbours has no say in an even share."
    model = model_of('bicross', batch)
    pick = lambda v, i: {m: x[i:i + 1] for m, x in v.items()}
    with torch.no_grad(), intervene(model):
        both = model(batch).logits
        alone = model(replace(batch, x=pick(batch.x, 1), mask=pick(batch.mask, 1), time=pick(batch.time, 1), y=batch.y[1:2],
                              y_mask=batch.y_mask[1:2], clip_id=batch.clip_id[1:2], clip_index=batch.clip_index[1:2],
                              frame=batch.frame[1:2], group=batch.group[1:2])).logits
    assert torch.allclose(both[1:2], alone, atol=1e-5)


def test_an_error_under_a_change_leaves_no_trace(batch):
    model = model_of('bicross', batch)
    with pytest.raises(Exception), intervene(model): model(None)
    assert not is_watched()
    assert model(batch).maps == []
