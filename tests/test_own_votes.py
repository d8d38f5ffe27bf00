"""Several people's classes for each clip, from a spreadsheet to a model that stands beside them."""
import numpy as np
import pandas as pd
import pytest

from mmemo.core import rng_for
from mmemo.corpora.manifest import load_corpus
from mmemo.training.runs import load_run
from small_run import call_mmemo, small_run


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    "Three people name what they see, and err in one of five clips."
    place, corpus = tmp_path_factory.mktemp('votes'), load_corpus(small_run()/'corpus')
    rng, rows = rng_for('votes'), []
    for i, clip in enumerate(corpus.clips.itertuples()):
        true = ('Frust', 'Langeweile', 'Stress')[i % 3]
        for who in ('Anna', 'Ben', 'Chris'):
            said = true if rng.random() < .8 else ('Frust', 'Langeweile', 'Stress')[rng.integers(3)]
            rows.append(dict(Datei=clip.path.split('/')[-1], Emotion=said, Bewerter=who, Proband=clip.subject, split=clip.split))
    pd.DataFrame(rows).to_csv(place/'votes.csv', sep=';', index=False)
    code, said = call_mmemo('manifest', 'import', place/'votes.csv', '--root', corpus.root, '--out', place/'study')
    return place, corpus, pd.DataFrame(rows), code, said


def test_votes_become_one_row_a_clip(study):
    place, truth, rows, code, said = study
    assert code == 0 and 'answers of 3 raters, the majority is the label' in said and "Krippendorff's alpha" in said, said
    corpus = load_corpus(place/'study')
    assert len(corpus) == len(truth) and corpus.labels.classes == ('Frust', 'Langeweile', 'Stress') and 'rater' not in corpus.clips
    shares = rows.groupby('Datei').Emotion.value_counts(normalize=True).unstack(fill_value=0.)
    mine = corpus.clips.assign(Datei=corpus.clips.path.map(lambda p: p.split('/')[-1])).set_index('Datei')
    assert np.allclose(shares, mine.loc[shares.index, [f'p_{c}' for c in shares]], atol=1e-6)
    leads = shares.eq(shares.max(axis=1), axis=0)
    for name in shares.index: # a tie has no label
        label = mine.label[name]
        assert pd.isna(label) if leads.loc[name].sum() > 1 else label == shares.loc[name].idxmax()
    assert np.allclose(corpus.shares.sum(1), 1, atol=1e-6)
    assert len(pd.read_parquet(place/'study'/'votes.parquet')) == len(rows)


def test_people_stand_beside_the_model(study):
    place = study[0]
    code, said = call_mmemo('train', '--corpus', place/'study', '--model', 'early', '--train.epochs', 1, '--train.lambda-text', 0, '--out', place/'run')
    assert code == 0 and 'One rater against the majority of the others' in said and '3 raters' in said, said
    assert load_run(place/'run').classes == ['Frust', 'Langeweile', 'Stress']


def test_who_speaks_twice_is_named(study, tmp_path):
    place, corpus, rows, _, _ = study
    pd.concat([rows, rows[:1]]).to_csv(tmp_path/'twice.csv', index=False)
    code, said = call_mmemo('manifest', 'import', tmp_path/'twice.csv', '--root', corpus.root, '--out', tmp_path/'no')
    assert code == 2 and "'Anna' speaks twice of" in said and not (tmp_path/'no').exists(), said


def test_ties_that_leave_raters_without_people(study, tmp_path):
    "Two against one on all clips of a person: the one has nobody to be scored by there, and no training is lost to it."
    place, corpus, rows, _, _ = study
    odd = rows.copy()
    odd.loc[(odd.Proband == odd.Proband.iloc[-1]) & (odd.Bewerter == 'Anna'), 'Emotion'] = 'Stress'
    odd.loc[(odd.Proband == odd.Proband.iloc[-1]) & (odd.Bewerter != 'Anna'), 'Emotion'] = 'Frust'
    odd.to_csv(tmp_path/'odd.csv', index=False)
    code, said = call_mmemo('manifest', 'import', tmp_path/'odd.csv', '--root', corpus.root, '--out', tmp_path/'study')
    assert code == 0, said
    code, said = call_mmemo('train', '--corpus', tmp_path/'study', '--model', 'early', '--train.epochs', 1, '--train.lambda-text', 0, '--out', tmp_path/'run')
    assert code == 0 and 'One rater against' in said and 'report.html' in said, said
    odd.query("Bewerter == 'Ben'").drop(columns='Bewerter').to_csv(tmp_path/'one.csv', index=False)
    code, said = call_mmemo('manifest', 'import', tmp_path/'one.csv', '--root', corpus.root, '--out', tmp_path/'study', '--overwrite')
    assert code == 0 and not (tmp_path/'study'/'votes.parquet').exists(), said
