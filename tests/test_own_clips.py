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
