"""The planted part in which only *when* decides: no stream alone and no pooled vector can tell, attention that knows the time can; and the default's attention carries it."""
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from mmemo.corpora.manifest import Corpus
from mmemo.features.extract import extract
from mmemo.models.intervene import intervene
from mmemo.models.registry import build
from mmemo.models.toy import as_batch
from mmemo.planted.corpus import COINCIDENCE_LABELS, PlantedConfig, make_planted, plan_corpus
from mmemo.training.evaluation import predict
from mmemo.training.loop import TrainConfig
from mmemo.training.run_config import RunConfig
from mmemo.training.runs import run_experiment


def test_every_take_stands_under_both_labels():
    plan = plan_corpus(PlantedConfig())
    part = plan[plan.subset == 'coincidence']
    assert part.groupby('split').size().to_dict() == dict(train=128, val=32, test=96)
    for take in ('face_take', 'voice_take'):
        assert (part.groupby(take).label.nunique() == 2).all()
    meets = (part.face_onset - part.voice_onset).abs() < .05
    assert (meets == (part.label == COINCIDENCE_LABELS[0])).all()
    assert part.face_onset.min() > 0 and part.voice_onset.min() > 0 and part[['face_offset', 'voice_offset']].max().max() < 2.41


def test_slopes_are_shorter_than_lags():
    from mmemo.planted.corpus import shape_time_course
    t = np.arange(0, 2.4, .001)
    course = shape_time_course(t, .5, 1.7)
    rises = t[(course > .01) & (course < .99) & (t < 1.)]
    lags = plan_corpus(PlantedConfig()).lag.dropna().abs()
    assert np.ptp(rises) < .1 < lags[lags > .06].min()


def make_moments(quartets:int, seed:int):
    "Made-up features of two streams, an event in each; the label is whether they coincide."
    g = torch.Generator().manual_seed(seed)
    t, s = (torch.arange(60) + .5)/25, (torch.arange(120) + .5)/50
    apart = torch.rand(quartets, generator=g)*.75 + .55
    first = .22 + torch.rand(quartets, generator=g)*(1.96 - apart)
    at = torch.stack([first, first + apart], 1).flatten()
    face, voice = (.7*torch.randn(2*quartets, len(x), 6, generator=g) for x in (t, s))
    face[:, :, 1] += 2.*((t - at[:, None]).abs() < .2)
    voice[:, :, 1] += 2.*((s - at[:, None]).abs() < .2)
    i = torch.arange(quartets)
    f, v = torch.stack([2*i, 2*i, 2*i + 1, 2*i + 1], 1).flatten(), torch.stack([2*i, 2*i + 1, 2*i, 2*i + 1], 1).flatten()
    return as_batch(face[f], voice[v], (f % 2) ^ (v % 2))


def learn(**options) -> tuple:
    "A model after sixty looks at forty quartets, and a hundred that it has never seen."
    torch.manual_seed(0)
    model = build('bicross', dict(visual=6, audio=6), 2, dim=16, heads=4, tcn_levels=2, channel_dropout=0., head_dropout=.1, **options)
    batch, unseen = make_moments(40, 0), make_moments(100, 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=.05)
    for _ in range(60):
        loss = F.cross_entropy(model.train()(batch).logits, batch.y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval(), unseen


@torch.no_grad()
def share_right(model, batch) -> float:
    return (model(batch).logits.argmax(1) == batch.y).float().mean().item()


def test_attention_learns_when():
    model, unseen = learn()
    assert share_right(model, unseen) > .85
    for how in ('uniform', 'silenced'):
        with intervene(model, how):
            assert share_right(model, unseen) < .65, how


def test_the_product_of_pooled_vectors_does_not():
    model, unseen = learn(layers=0, product=True)
    assert share_right(model, unseen) < .65


@pytest.mark.slow
def test_the_default_on_planted_clips(tmp_path):
    "One corpus of coincidences, synthetic: the default finds them by its attention, answers side by side do not."
    config = PlantedConfig(seed=5, train_subjects=16, val_subjects=4, test_subjects=12, train_clips=160, val_clips=16, test_clips=96, both=0., audio=0., video=0., coincidence=1.)
    corpus = make_planted(tmp_path/'corpus', config, progress=False)
    store = extract(corpus, 'tiny', 'tiny', progress=False)
    runs = {m: run_experiment(RunConfig(model=m, corpus=str(corpus.root), encoders='tiny', train=TrainConfig(progress=False, device='cpu', lambda_text=0.)),
                              corpus, store, tmp_path/m) for m in ('bicross', 'late')}
    right = {m: r.scores['coincidence']['accuracy']['value'] for m, r in runs.items()}
    assert right['bicross'] > .8 and .35 < right['late'] < .65
    run = runs['bicross']
    with intervene(run.model, 'uniform'):
        flat = predict(run.model, run.windows(corpus, store, 'test'))
    assert (flat.predicted.astype(str) == flat.label.astype(str)).mean() < right['bicross'] - .25
