"""Raters' shares as targets: from the columns of a corpus to what a model learns."""
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from mmemo.features.tracks import FeatureStore, Track, pack_tracks
from mmemo.labels import CREMA6
from mmemo.corpora.manifest import Corpus, check_manifest
from mmemo.models.registry import build
from mmemo.training.objectives import Objective
from mmemo.training.loop import TrainConfig, train
from mmemo.features.windows import Windows, WindowSettings

N = 60


def voted():
    "Sixty clips of one feature: where it is high, raters tie between Anger and Fear; where it is low, all say Sadness."
    high = np.arange(N) % 2 == 0
    clips = pd.DataFrame(dict(clip_id=[f'c{i}' for i in range(N)], path='x', subject=[f's{i % 6}' for i in range(N)], split=['train']*40 + ['val']*20,
                              label=np.where(high, None, 'Sadness'), **{f'p_{c}': 0. for c in CREMA6.classes}))
    clips.loc[high, ['p_Anger', 'p_Fear']] = .5
    clips.loc[~high, 'p_Sadness'] = 1.
    corpus = Corpus('voted', '.', check_manifest(clips), space='crema6', facts=dict(ties='soft'))
    track = lambda v: Track(np.full((4, 3), v, np.float32) + np.eye(4, 3, dtype='f4')*.1, np.arange(4)/10, np.ones(4, bool))
    packs = {m: pack_tracks({c: track(1. if h else -1.) for c, h in zip(clips.clip_id, high)}, list(clips.clip_id)) for m in ('visual', 'audio')}
    return corpus, FeatureStore(packs), high


def learnt(corpus, store):
    w = {s: Windows(corpus, store, WindowSettings(length=4), s) for s in ('train', 'val')}
    torch.manual_seed(0)
    model = build('bicross', dims=w['train'].dims, n_classes=6, dim=16, heads=2)
    train(model, w['train'], None, TrainConfig(epochs=12, batch=8, lr=2e-2, progress=False, device='cpu', lambda_text=0., class_weight=0.))
    with torch.no_grad(): return model.eval()(w['val'].whole()).probabilities.numpy()


def test_a_tie_is_learnt_from_and_never_scored():
    corpus, store, high = voted()
    batch = Windows(corpus, store, WindowSettings(length=4), 'train').whole()
    assert not batch.y_mask[::2].any() and batch.shares.sum(-1).eq(1).all()
    soft, hard = learnt(corpus, store), learnt(replace(corpus, facts={}), store)
    assert np.abs(soft[::2, [0, 2]] - .5).max() < .15 and (soft[1::2, 5] > .8).all()
    assert (hard[:, 5] > .8).all() # without the shares all that is known is Sadness


def test_other_losses_and_levels_keep_their_labels():
    corpus, store, _ = voted()
    windows = Windows(corpus, store, WindowSettings(length=4), 'train')
    assert Objective('focal').takes_shares is False and windows.to('cpu').shares.shape == (N, 6)
    assert Windows(replace(corpus, facts={}), store, WindowSettings(length=4), 'train').gather([0]).shares is None
