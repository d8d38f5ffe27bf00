"""Ratings that people traced while they watched, from their tables to a model of valence and arousal."""
import numpy as np
import pandas as pd
import pytest

from mmemo.core import UserError, rng_for
from mmemo.corpora.manifest import load_corpus
from mmemo.corpora.ratings import add_ratings
from mmemo.training.runs import load_run
from small_run import call_mmemo, small_run

LATE = .4 # seconds


def trace(frames, rater:int, scale=4.) -> pd.DataFrame:
    "What a rater traced of a clip, at ten marks a second, on a scale of 1 to 9, late and not quite right."
    end, rng = frames.time.max() + LATE, rng_for('rater', rater, frames.clip_id.iloc[0])
    at = np.arange(0, end + .1, .1)
    values = {c: np.interp(at - LATE, frames.time, frames[c])*scale + 5 + .2*rng.standard_normal(len(at)) for c in ('valence', 'arousal')}
    return pd.DataFrame(dict(clip=frames.clip_id.iloc[0], Zeit=at, Beobachter=f'r{rater}', Valenz=values['valence'].clip(1, 9), Erregung=values['arousal'].clip(1, 9)))


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    "Clips without a label, in a table, and three people's traces."
    place, corpus = tmp_path_factory.mktemp('ratings'), load_corpus(small_run()/'corpus')
    corpus.clips[['clip_id', 'path', 'subject', 'split']].to_csv(place/'clips.csv', index=False, sep=';')
    traces = [trace(frames, r) for _, frames in corpus.frames.groupby('clip_id') for r in range(3)]
    pd.concat(traces).to_csv(place/'traces.csv', index=False, sep=';', decimal=',')
    return place, corpus


def test_traces_become_labels_of_frames_and_a_model(study):
    place, truth = study
    told = ('manifest', 'import', place/'clips.csv', '--root', truth.root, '--ratings', place/'traces.csv', '--scale', 1, 9, '--delay', LATE, '--out', place/'va')
    code, said = call_mmemo(*told)
    assert code == 0 and 'ratings: 3 raters, taken 0.4 s earlier' in said and 'ICC' in said, said
    corpus = load_corpus(place/'va')
    assert corpus.space == 'va' and corpus.facts['ratings']['raters'] == 3
    for clip, frames in corpus.frames.groupby('clip_id'):
        real = truth.frames[truth.frames.clip_id == clip]
        error = frames.valence - np.interp(frames.time, real.time, real.valence)
        assert error.abs().median() < .06, clip # 0.2 of a mark of 4 and three raters: 0.03
    assert set(pd.read_parquet(place/'va'/'ratings.parquet').rater) == {'r0', 'r1', 'r2'}
    code, said = call_mmemo('train', '--corpus', place/'va', '--model', 'visual', '--window.task', 'va', '--window.level', 'frame', '--train.epochs', 2, '--train.no-progress', '--out', place/'run')
    assert code == 0 and 'One rater against the mean of the others' in said and '3 raters' in said, said
    assert load_run(place/'run').classes == ['valence', 'arousal']
    code, again = call_mmemo('evaluate', place/'run')
    line = next(line for line in said.splitlines() if line.startswith('One rater'))
    assert code == 0 and line in again, again


def test_a_scale_that_does_not_hold_the_ratings_is_refused(study):
    place, truth = study
    code, said = call_mmemo('manifest', 'import', place/'clips.csv', '--root', truth.root, '--ratings', place/'traces.csv', '--out', place/'no')
    assert code == 2 and 'their scale was said to be -1 to 1' in said and 'scale=(1, 9)' in said and not (place/'no').exists(), said


def test_the_delay_is_taken_off(study):
    place, truth = study
    late, _ = add_ratings(truth, pd.concat([trace(f, 0) for _, f in truth.frames.groupby('clip_id')]).rename(columns=dict(clip='clip_id', Zeit='time', Valenz='valence', Erregung='arousal', Beobachter='rater')), (1, 9))
    right, _ = add_ratings(truth, pd.read_csv(place/'traces.csv', sep=';', decimal=',').rename(columns=dict(clip='clip_id', Zeit='time', Valenz='valence', Erregung='arousal', Beobachter='rater')), (1, 9), delay=LATE)
    error = {name: np.nanmean([np.abs(g.arousal - np.interp(g.time, t.time, t.arousal)).mean() for (c, g) in corpus.frames.groupby('clip_id') for t in [truth.frames[truth.frames.clip_id == c]]])
             for name, corpus in dict(late=late, right=right).items()}
    assert error['right'] < .5*error['late'], error


def test_ratings_of_clips_that_are_not_there_are_refused(study):
    with pytest.raises(UserError, match="none of their clips is in the corpus; they name 'x'"):
        add_ratings(study[1], pd.DataFrame(dict(clip_id='x', time=[0., 1], valence=0.)))


def test_a_clip_of_values_shows_its_ratings_and_no_class(study):
    "Facts, label row and curve speak of values; the concordance of the clip is that of an independent computation."
    from mmemo.panels.clip import clip_panel
    from mmemo.panels.source import open_source
    place, truth = study
    source = open_source(place/'run')
    clip = source.clip_list().clip_id[0]
    player, seen = source.player(clip), source.evidence(clip, 0.)
    assert player.rows['label'] == [] and player.rows['curve']['rated'] and [name for name, *_ in player.facts][-2:] == ['rated', 'predicted']
    rated = np.stack([np.interp(seen.time, seen.rated.time, v) for v in seen.rated.values.T], 1)
    x, y = seen.probs[:, 0], rated[:, 0]
    expected = 2*np.cov(x, y, ddof=0)[0, 1]/(x.var() + y.var() + (x.mean() - y.mean())**2)
    page = clip_panel(place/'run').to_html()
    assert f'valence: CCC {expected:.2f} in this clip' in page and 'leads for' not in page and 'probability' not in page.split('<script')[0]
    assert seen.rated.spread is not None and seen.rated.spread.shape == seen.rated.values.shape


def test_errors_of_values_by_person_and_clip(study):
    "The errors panel of a run of values: figures of an independent computation, and no word of classes."
    from mmemo.panels.errors import errors_panel
    place, _ = study
    panel, pred = errors_panel(place/'run'), load_run(place/'run').predictions.query("split == 'test'")
    person = panel.source.people['valence'].iloc[0]
    mine = pred[(pred.subject == person.subject) & pred.valence.notna()]
    y, p = mine.valence.to_numpy(float), mine.p_valence.to_numpy(float)
    assert person.ccc == pytest.approx(2*np.cov(y, p, ddof=0)[0, 1]/(y.var() + p.var() + (y.mean() - p.mean())**2))
    assert person.bias == pytest.approx((p - y).mean()) and person.scale == pytest.approx(p.std()/y.std()) and person.r == pytest.approx(np.corrcoef(y, p)[0, 1])
    assert panel.controller.player.clip_id == panel.state.clip_id == panel.selection.clip_id[0] # the worst one plays
    page = panel.to_html().split('<script')[0]
    assert 'accuracy' not in page and 'confusion' not in page.lower() and 'Neutral' not in page
