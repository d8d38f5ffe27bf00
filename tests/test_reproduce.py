"""The three recipes whole: a planted twin of the data set, random encoders of the published architectures at their published widths.

The fast tests hold what a table of `mmemo reproduce` must be; the slow one runs each recipe as a person with the data would."""
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mmemo.commands.cli import main
from mmemo.commands.recipes import PAPERS, deal_official, make_base_config, make_request
from mmemo.commands.reproduce import average_seeds, check_lists, list_lines
from mmemo.core import read_json
from mmemo.corpora.affwild2_files import read_submission
from mmemo.corpora.manifest import save_corpus
from mmemo.corpora.readers import read_corpus
from mmemo.training.evaluation import score
from small_run import small_run
from twins import write_twin


# ---- figures

def always(c, n=240) -> pd.DataFrame: # one class to everybody
    y = np.arange(n) % 3
    table = pd.DataFrame(dict(clip_id=[f'c{i}' for i in range(n)], subject=[f's{i % 12}' for i in range(n)]))
    table['label'] = pd.Categorical.from_codes(y, list('abc'))
    return table.join(pd.DataFrame(np.eye(3)[[c]*n], columns=['p_a', 'p_b', 'p_c']))


def test_each_training_is_scored_by_itself():
    tables = {c: always(c) for c in range(3)}
    figures, each = average_seeds(tables)
    assert each['macro_f1'] == pytest.approx([1/6]*3) and figures['macro_f1']['value'] == pytest.approx(1/6)
    pooled = score(pd.concat([t.assign(clip_id=t.clip_id + str(s)) for s, t in tables.items()]), 'macro_f1')
    assert pooled == pytest.approx(1/3), 'a confusion of confusions would be twice as good'


def test_a_smoothed_figure_stands_beside_nothing():
    figure = dict(value=.3, ci95=[.2, .4], few_groups=False, n_groups=20)
    row = dict(protocol='official', model='bicross-paper', scores=dict(macro_f1=figure), each=dict(macro_f1=[.28, .32]))
    lines = list_lines([row | dict(smoothed=dict(widths=[1.5], scores=row['scores'], each=row['each']))], 'bicross', 'affwild2-expr')
    assert [(l['smoothed'], bool(l['published'])) for l in lines] == [('', True), ('1.5 s', False)]
    assert '0.280 to 0.320' in lines[0]['seeds']


# ---- recipes

def test_the_papers_own_comparison():
    names = PAPERS['bicross'].models
    assert names[0] == 'bicross-paper'
    config = lambda name: make_base_config(make_request('bicross', '.'), name, 'expression')[0]
    assert config('bicross-paper').train.lambda_alone == 0 and config('bicross-paper').smoothing == 0
    assert {config(n).model for n in ('face-alone', 'voice-alone')} == {'visual', 'audio'}
    assert config('without-text').train.lambda_text == 0 < config('bicross-paper').train.lambda_text
    assert [config(n).window.length for n in ('window-30', 'bicross-paper', 'window-120')] == [30, 60, 120]


def test_system_three_has_its_widths_its_words_and_its_loss():
    asked = make_request('rcma', '.')
    config, options = make_base_config(asked, 'rjcma-v4-paper', 'valence')
    assert asked.models[0] == 'rjcma-v4-paper' and asked.transcribe and config.text == 'bert-base@9,10,11,12'
    assert config.train.per == 'window' and options['rjcma-v4-paper.length'] == 300


def test_the_best_epoch_is_known_by_the_papers_own_measure():
    how = {name: make_base_config(make_request(name, '.'), PAPERS[name].models[0], PAPERS[name].tasks[0])[0].train.monitor for name in PAPERS}
    assert how == dict(bicross='score', avtca='accuracy', rcma='score')


# ---- official lists

@pytest.fixture(scope='module')
def wild(tmp_path_factory):
    from mmemo.corpora.manifest import load_corpus
    return write_twin(load_corpus(small_run()/'corpus'), 'affwild2', tmp_path_factory.mktemp('wild')/'t', ()).root


def test_a_twin_in_official_lists_is_told_and_not_refused(wild, tmp_path, capsys):
    corpus = read_corpus('affwild2-expr', wild)[0]
    clips = corpus.clips.copy()
    one, other = (clips.index[clips.split == s][0] for s in ('train', 'val'))
    clips.loc[other, 'path'] = clips.loc[one, 'path'] # the same film in both lists
    marks = check_lists(dict(official=deal_official(replace(corpus, clips=clips))))
    ids = clips.clip_id[[one, other]]
    assert marks['official'].startswith('official lists, kept as they are: 1 set(s)') and all(f"'{i}'" in marks['official'] for i in ids)
    assert 'Mind: official: official lists' in capsys.readouterr().out
    assert check_lists(dict(official=deal_official(corpus)), progress=False) == dict(official='')


# ---- what goes to the challenge

QUICK = ['--encoders', 'tiny', '--seeds', '1', '--workers', '1', '--train.epochs', '1', '--train.device', 'cpu']


@pytest.mark.parametrize('paper, task, more', [('bicross', 'expr', ['--models', 'bicross-paper', '--options', 'dim', '16', 'heads', '2', 'tcn_levels', '2']),
                                              ('rcma', 'va', ['--models', 'rjcma-v4', '--text', 'none', '--options', 'hidden', '16', '--window.length', '60', '--window.stride', '60'])])
def test_a_challenges_files_from_runs(paper, task, more, wild, tmp_path, capsys):
    out, cache = tmp_path/'r', ['--cache', str(small_run()/'cache')]
    assert main(['reproduce', paper, '--root', str(wild), *QUICK, *cache, '--out', str(out), *more]) == 0
    runs = [str(p.parent) for p in sorted(out.rglob('metrics.json'))]
    place = f'affwild2-{task}:{wild}'
    assert main(['submit', *runs, '--corpus', place, '--out', str(tmp_path/'sent'), *cache]) == 0
    corpus = read_corpus(f'affwild2-{task}', wild)[0]
    for split in ('train', 'val', 'test'):
        sent = read_submission(tmp_path/'sent'/f'{task}-{split}.txt')
        clips = corpus.clips.clip_id[corpus.clips.split == split]
        wanted = corpus.frames[corpus.frames.clip_id.isin(clips)]
        assert len(sent) == len(wanted) > 0 and set(sent.clip_id) == set(clips.str.replace(r'@.*', '', regex=True))
    assert main(['submit', *runs, '--out', str(tmp_path/'own'), *cache]) == 0, 'a run knows its corpus, and how it is read'
    assert all(p.read_bytes() == (tmp_path/'sent'/p.name).read_bytes() for p in (tmp_path/'own').iterdir()) and 'is not smoothed' in capsys.readouterr().out
    assert main(['submit', *runs, '--corpus', place, '--out', str(tmp_path/'sent'), '--splits', 'nobody', *cache]) == 2
    assert "no clip is of split 'nobody'" in capsys.readouterr().err


# ---- whole, at published widths

PUBLISHED = {'bicross-paper': dict(visual=512, audio=768), 'avtca-code': dict(visual=224, audio=10), 'rjcma-v4-paper': dict(visual=512, audio=128, text=768)}


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    "Random encoders of the published architectures: CLIP ViT-B/32, wav2vec 2.0 base, VGGish, BERT base."
    from mmemo.features.encoder_files import VGGish, keep_vggish, write_random_speech, write_random_visual
    from mmemo.features.text import write_random_text
    place = tmp_path_factory.mktemp('published')
    write_random_visual(place/'clip', 'ViT-B-32-quickgelu')
    base = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, conv_dim=[512]*7, num_conv_pos_embeddings=128, num_conv_pos_embedding_groups=16)
    write_random_speech(place/'wav2vec2', **base)
    write_random_text(place/'bert', hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, vocab_size=30_522)
    torch.manual_seed(0)
    keep_vggish(VGGish().state_dict(), place/'vggish', hz=5.)
    return place


@pytest.fixture(scope='module')
def few(tmp_path_factory):
    "A dozen planted clips in the shapes of Aff-Wild2 and RAVDESS, with what is said."
    from mmemo.corpora.manifest import load_corpus
    place, corpus = tmp_path_factory.mktemp('few'), load_corpus(small_run()/'corpus')
    clips = corpus.clips.groupby(['split', 'subject'], observed=True).head(3)
    corpus = corpus.subset(list(clips.clip_id[(clips.split != 'test') | ~clips.split.duplicated()]))
    wild, acted = (write_twin(corpus, shape, place/shape, ()).root for shape in ('affwild2', 'ravdess'))
    words = corpus.clips.set_index('clip_id').transcript
    for task in ('expr', 'va'):
        read = read_corpus(f'affwild2-{task}', wild)[0]
        save_corpus(replace(read, clips=read.clips.assign(transcript=words.reindex(read.clips.clip_id).to_numpy())), place/task)
    return dict(bicross=place/'expr', avtca=acted, rcma=place/'va')


WHOLE = dict(bicross=('clip+wav2vec2', ['--settings.every', '6', '--models', 'bicross-paper', 'face-alone', 'voice-alone', 'without-text', 'window-30']),
             avtca=('', []), rcma=('clip+vggish', ['--settings.every', '6', '--models', 'rjcma-v4-paper', 'rcma-v1-paper', '--transcribe', 'none']))


@pytest.mark.slow
@pytest.mark.parametrize('paper', list(WHOLE))
def test_a_recipe_end_to_end_at_published_widths(paper, published, few, tmp_path):
    pair, more = WHOLE[paper]
    if pair: more = [*more, '--encoders', '+'.join(str(published/name) for name in pair.split('+'))]
    if paper == 'rcma': more += ['--text', f'{published/"bert"}@9,10,11,12']
    argv = ['reproduce', paper, '--root', str(few[paper]), '--seeds', '1', '--workers', '1', '--train.epochs', '1', '--train.device', 'cpu', '--cache', str(tmp_path/'cache'), '--out', str(tmp_path/'r')]
    assert main(argv + more) == 0
    told = read_json(tmp_path/'r'/'reproduce.json')
    assert not [r for r in told['rows'] if 'skipped' in r] and (tmp_path/'r'/'reproduce.html').exists()
    for config in (tmp_path/'r').rglob('config.json'):
        about = read_json(config, dict)
        if wanted := PUBLISHED.get(about['run']['model']):
            assert about['features']['dims'] == wanted
    sizes = {r['model']: r['parameters'] for r in told['rows']}
    if paper == 'avtca': assert sizes['avtca-code'] == 2_002_398
    print(json.dumps(sizes))
