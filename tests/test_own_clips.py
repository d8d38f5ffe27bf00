"""A person's own clips: folders, manifests, damage to them, and the walk that all readers share."""
import json, os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from damage import damaged
from mmemo.corpora.ravdess import read_ravdess
from mmemo.corpora.affwild2 import find_tree
from mmemo.core import UserError, rng_for
from mmemo.corpora.readers import find_clips, open_corpus, read_corpus
from mmemo.corpora.manifest import Report, save_corpus
from mmemo.media.files import FILMS, SOUNDS, walk_folder


def put(root, *names, content=b'x'):
    for n in names: (p := Path(root)/n).parent.mkdir(parents=True, exist_ok=True); p.write_bytes(content)


def test_a_link_to_a_parent_ends(tmp_path):
    put(tmp_path, 'happy/a.mp4', 'sad/b.wav')
    (tmp_path/'sad'/'again').symlink_to(tmp_path)
    assert sum('a.mp4' in f for _, _, f in os.walk(tmp_path, followlinks=True)) > 1 # a naive walk meets the clip over and over
    assert find_clips(tmp_path, Report('x', tmp_path)).path.tolist() == ['happy/a.mp4', 'sad/b.wav']


def test_a_folder_behind_a_link_is_read_by_all(tmp_path):
    put(tmp_path/'elsewhere', 'Actor_01/03-01-01-01-01-01-01.wav')
    put(tmp_path/'wild', 'EXPR_Recognition_Challenge/Train_Set/v.txt')
    put(tmp_path/'elsewhere', 'v.mp4')
    for root in ('ravdess', 'wild'):
        (tmp_path/root).mkdir(exist_ok=True)
        (tmp_path/root/'batch1').symlink_to(tmp_path/'elsewhere')
    assert len(read_ravdess(tmp_path/'ravdess')[0]) == 1 and list(find_tree(tmp_path/'wild').videos) == ['v']


@pytest.mark.parametrize('ending', FILMS + SOUNDS)
def test_every_ending_is_known_to_every_reader(ending, tmp_path):
    put(tmp_path, f'happy/x{ending.upper()}')
    assert find_clips(tmp_path, Report('x', tmp_path)).path.tolist() == [f'happy/x{ending.upper()}']
    put(tmp_path/'wild', 'EXPR_Recognition_Challenge/Train_Set/v.txt', f'batch1/v{ending}')
    tree = find_tree(tmp_path/'wild')
    assert list(tree.videos if ending in FILMS else tree.sounds) == ['v']


def table(root):
    "Twelve clips with labels, people and words."
    names = [f'take {i}.mp4' if i % 2 else f'人{i}.mp4' for i in range(12)]
    put(root, *names)
    return pd.DataFrame(dict(clip_id=[f'c{i}' for i in range(12)], path=names, start=np.arange(12)/2, end=np.arange(12)/2 + 1,
                             subject=[*'aaabbbcccddd'], split=['train']*6 + ['val']*3 + ['test']*3, label=['Anger', 'Fear', 'Sadness']*4,
                             words=[json.dumps([['hm', .1, .4]])]*12))


def test_damaged_manifests(tmp_path):
    "A damaged table is one sentence, or costs its own lines; the files that a line no longer names are told."
    table(tmp_path).to_csv(tmp_path/'manifest.csv', index=False)
    whole = (tmp_path/'manifest.csv').read_bytes()
    good, kinds, rows = read_corpus('folder', tmp_path)[0].clips.set_index('clip_id'), Counter(), whole.split(b'\n')
    for i in range(60):
        bad = damaged(whole, rng_for('damaged manifest', i))
        (tmp_path/'manifest.csv').write_bytes(bad)
        try: corpus, report = read_corpus('folder', tmp_path)
        except UserError as e:
            assert len(str(e)) > 20 and '\n' not in str(e)
            kinds['sentence'] += 1
            continue
        now = corpus.clips.set_index('clip_id')
        assert (now.end.isna() | (now.end > now.start.fillna(0))).all() and now.label.dropna().isin(corpus.labels.classes).all()
        assert all(corpus.path(r).exists() for _, r in corpus.clips.iterrows())
        there = set(pd.read_csv(tmp_path/'manifest.csv').clip_id.astype(str))
        gone = there - set(now.index)
        assert not gone or len(report.of('missing')) == len(gone), (i, gone)
        if bad.split(b'\n')[0] == rows[0]: # what a line says is still read as it was
            kept = [c for c, line in zip(good.index, rows[1:]) if line in bad.split(b'\n') and c in now.index]
            pd.testing.assert_frame_equal(now.loc[kept], good.loc[kept], check_dtype=False)
        kinds['read'] += 1
    assert kinds['sentence'] > 15 and kinds['read'] > 15, kinds
    (tmp_path/'manifest.csv').write_bytes(whole)
    assert read_corpus('folder', tmp_path)[0].clips.set_index('clip_id').equals(good)


def test_damaged_corpus_json(tmp_path):
    save_corpus(read_corpus('folder', put_table(tmp_path))[0], tmp_path/'kept')
    whole, sentences = (tmp_path/'kept'/'corpus.json').read_bytes(), 0
    for i in range(30):
        (tmp_path/'kept'/'corpus.json').write_bytes(damaged(whole, rng_for('damaged json', i)))
        try: open_corpus(tmp_path/'kept')
        except UserError: sentences += 1
    assert sentences > 10


def put_table(root):
    table(root).to_csv(root/'manifest.csv', index=False)
    return root


def make_table(place, **columns) -> Path: # 60 clips of 12 people; AU0 to AU2 say which of three classes
    y = np.array([(i*7 + i//12) % 3 for i in range(60)])
    table = pd.DataFrame(dict(clip_id=[f'{i:03}' for i in range(60)], subject=[f's{i%12}' for i in range(60)],
                              label=np.array(['joy', 'anger', 'sad'])[y]))
    rng = rng_for('features', 1)
    units = pd.DataFrame({f'AU{k}': rng.normal(0, .1, 60) + (y == k) for k in range(3)})
    table.join(units).assign(**columns).to_csv(place/'my_features.csv', index=False)
    return place/'my_features.csv'


def test_a_table_of_features_is_trained_on_and_looked_at(tmp_path, capsys):
    "The lines of the README; a label is no feature, and 001 stays 001."
    import mmemo
    place = f"features:{make_table(tmp_path, valence=.5)}"
    run = mmemo.train(place, model='linear', out=tmp_path/'run', train=dict(progress=False))
    assert run.about['features']['dims']['visual'] == 3 and run.config.encoders == 'given'
    scores = mmemo.evaluate(run)
    assert scores['all']['macro_f1'] == run.scores['all']['macro_f1'] and scores['all']['accuracy']['value'] > .9
    panel = mmemo.errors_panel(run)
    panel.state.clip_id = run.predictions.clip_id[run.predictions.split == 'test'].iloc[0]
    assert '001' in run.sides.index and 'my_features' in str(run.about['data']['corpus'])
    assert 'errors_panel needs none' in mmemo.clip_panel(run).sentence
    result = mmemo.compare(place, models=['linear'], seeds=1, out=tmp_path/'both', workers=1, progress=False)
    assert result['trained'] == 1 and result['rows'][0]['scores']['all']['macro_f1']['value'] == scores['all']['macro_f1']['value']


@pytest.mark.parametrize('columns, said', [
    (dict(label='joi'), "line 2: label 'joi' is no class"), (dict(split='dev'), r"line 2: split 'dev', expected one of train, val, test \(here 'val'\)"),
    (dict(clip_id=''), "line 2: 'clip_id' is empty")])
def test_a_table_of_features_with_a_mistake(columns, said, tmp_path):
    with pytest.raises(UserError, match=said): open_corpus(f'features:{make_table(tmp_path, **columns)}')


def test_compare_takes_the_corpus_first():
    from mmemo.training.compare import compare
    with pytest.raises(UserError, match='compare takes the corpus first'): compare(['linear'], 'own', dict(visual=1), 'out')
