"""Models times seeds on one corpus, and the papers' recipes on planted twins: kept where finished, equal however many run at once, never a traceback."""
import html, io, json, os, shutil
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mmemo.commands.cli import main
from mmemo.training.compare import (build_fitting, compare, compare_pairs, find_main_score, make_model_config,
                                    make_rows, pool_seeds, read_tables, train_all)
from mmemo.training.compare_tables import format_comparison, list_main_rows, write_small_print
from mmemo.pages.comparison import write_comparison, plot_differences
from mmemo.core import UserError, read_json
from mmemo.training.evaluation import evaluate
from mmemo.features.extract import extract
from mmemo.corpora.manifest import load_corpus
from mmemo.commands.recipes import PAPERS, deal_protocols, make_request, read_data
from mmemo.commands.reproduce import estimate_cost
from mmemo.training.published import LANDMARKS
from mmemo.training.run_config import RunConfig
from mmemo.training.loop import TrainConfig
from mmemo.features.windows import WindowSettings
from small_run import small_run
from twins import write_twin

TRAIN = TrainConfig(epochs=2, lr=2e-3, lambda_text=0., device='cpu', progress=False)
def tiny(*models): return {k: v for k, v in TINY.items() if k.partition('.')[0] in models}


TINY = {f'{m}.{k}': v for m in ('bicross', 'visual', 'audio') for k, v in dict(dim=16, heads=2, tcn_levels=2).items()}
BASE = RunConfig(train=TRAIN)


@pytest.fixture(scope='module')
def planted():
    place = small_run()
    os.environ['MMEMO_CACHE'] = str(place/'cache')
    corpus = load_corpus(place/'corpus')
    return corpus, extract(corpus, 'tiny', 'tiny', progress=False)


@pytest.fixture(scope='module')
def done(planted, tmp_path_factory):
    "A comparison, and where it stands; tests that change it take a copy."
    out = tmp_path_factory.mktemp('compare')
    return out, compare(*planted, ['bicross', 'visual', 'linear', 'text'], out, BASE, 2, options=tiny('bicross', 'visual'), workers=1, progress=False)


@pytest.fixture
def copy(done, tmp_path):
    shutil.copytree(done[0], tmp_path/'copy')
    return tmp_path/'copy'


def again(planted, out, models=('bicross', 'visual', 'linear'), base=BASE, seeds=2, options=None, **more):
    return compare(*planted, list(models), out, base, seeds, options=tiny(*models) if options is None else options, workers=1, progress=False, **more)


# the table

def test_rows_hold_scores_costs_and_differences(done):
    out, told = done
    assert [r['model'] for r in told['rows']] == ['bicross', 'visual', 'linear', 'text'] and told['synthetic'] and told['against'] == 'bicross'
    bicross, visual, linear, text = told['rows']
    assert bicross['seeds'] == [0, 1] and linear['seeds'] == [0], 'a convex model has no seeds'
    assert bicross['parameters'] > visual['parameters'] > 0 and bicross['step_ms'] > 0 and linear['step_ms'] is None
    for r in (bicross, visual, linear):
        assert set(r['scores']) == {'all', 'both', 'audio', 'video', 'xor'}
        for s in r['scores'].values(): assert s['macro_f1']['ci95'] is None or s['macro_f1']['ci95'][0] <= s['macro_f1']['value'] <= s['macro_f1']['ci95'][1]
        assert r['scores']['xor']['prior_log_loss']['value'] == pytest.approx(bicross['scores']['xor']['prior_log_loss']['value'])
    assert bicross['against'] is None
    for r in (visual, linear):
        gap = r['against']['all']['accuracy']['value']
        assert gap == pytest.approx(r['scores']['all']['accuracy']['value'] - bicross['scores']['all']['accuracy']['value'], abs=1e-9)
        assert set(r['against']) == set(r['scores'])
    assert 'reads text' in text['skipped'] and not text['failed']


def test_figures_are_those_of_the_runs(done):
    "A pooled accuracy is the mean of the seeds' own, and each seed's own is what its run says."
    out, told = done
    row = told['rows'][0]
    own = [read_json(out/f'bicross-{s}'/'metrics.json')['test']['all']['accuracy']['value'] for s in (0, 1)]
    assert row['each']['all']['accuracy'] == own and row['scores']['all']['accuracy']['value'] == pytest.approx(np.mean(own))


def test_csv_says_the_same(done):
    out, told = done
    table = pd.read_csv(out/'compare.csv')
    cell = table[(table.model == 'visual') & (table.subset == 'all') & (table.score == 'macro_f1')].iloc[0]
    row = told['rows'][1]
    assert cell.value == pytest.approx(row['scores']['all']['macro_f1']['value']) and cell.difference == pytest.approx(row['against']['all']['macro_f1']['value'])
    assert cell.clips == 16 and cell.seeds == 2 and table[table.model == 'text'].skipped.iloc[0] == told['rows'][3]['skipped']


def test_text_and_page_say_what_must_be_said(done):
    out, told = done
    text = format_comparison(told)
    assert 'synthetic' in text and 'minus bicross' in text and "the prior's" in text and 'text is not in the table' in text and 'fewer than 8' in text and 'given this training' not in text and 'after Holm' in text and 'no setting was searched' in text
    made = write_comparison(out).read_text()
    assert all(w in made for w in ('synthetic', 'id="scores"', 'id="differences"', 'bicross-0/card.md', 'text is not in the table'))
    fig = plot_differences(told)
    assert {t.y[0] for t in fig.data} == {'visual', 'linear'} and len(fig.data) == 10


def test_what_attention_is_worth_stands_beside_the_score(done):
    "Each training's own figure, as its run has it; a model without maps, and a run that did not measure, say so in words."
    out, told = done
    own = [read_json(out/f'bicross-{s}'/'metrics.json')['attention']['parts'][0]['uniform'] for s in (0, 1)]
    row = told['rows'][0]
    assert [w['score'] for w in row['attention']] == [f['score'] for f in own] and told['rows'][2]['attention'] == [{}]
    shown = {r['model']: r['attention'] for r in list_main_rows(told)}
    low, high = sorted(f['score']['value'] for f in own)
    assert shown['bicross'] == f'{(low + high)/2:+.2f} ({low:+.2f} to {high:+.2f})' and shown['linear'] == 'no maps'
    assert 'made uniform' in format_comparison(told) and '>attention</th>' in write_comparison(out).read_text()
    unknown = dict(told, rows=[dict(r, attention=[None, None]) for r in told['rows'] if r['model'] == 'bicross'])
    assert [r['attention'] for r in list_main_rows(unknown)] == ['not measured']


def test_seeds_of_a_person_stay_together(done, planted):
    "Three equal seeds tell no more than one; counted as more people they would seem to."
    one = next(iter(read_tables([p for p in plans_of(done, planted)['visual']]).values()))
    alone, thrice = (evaluate(pool_seeds({s: one for s in range(n)}), planted[0])['all']['accuracy'] for n in (1, 3))
    assert alone['ci95'] == pytest.approx(thrice['ci95']) and alone['n_groups'] == thrice['n_groups'] == 3


def plans_of(done, planted):
    from mmemo.training.compare import plan_runs
    return plan_runs(['bicross', 'visual', 'linear'], range(2), BASE, *planted, done[0], tiny('bicross', 'visual')).plans


def test_a_difference_is_paired(done, planted):
    tables = {m: read_tables(p) for m, p in plans_of(done, planted).items()}
    same = compare_pairs(tables['visual'], tables['visual'], planted[0])
    assert all(g['value'] == 0 and (g['ci95'] is None or g['ci95'][0] < 0 < g['ci95'][1]) for part in same.values() for g in part.values())
    right = {s: t.assign(**{c: (t.label.astype(str) == c[2:]).astype(float) for c in t if c.startswith('p_')}, predicted=t.label) for s, t in tables['visual'].items()}
    gap = compare_pairs(right, tables['visual'], planted[0])['all']['accuracy']
    assert gap['ci95'][0] > -.2 and gap['value'] == pytest.approx(1 - evaluate(pool_seeds(tables['visual']), planted[0])['all']['accuracy']['value'])


# kept or trained anew

def stamps(out): return {p.parent.name: p.stat().st_mtime_ns for p in out.glob('*/metrics.json')}


def changed(before, out): return sorted(k for k, v in stamps(out).items() if before.get(k) != v)


def test_nothing_is_trained_twice(copy, planted):
    before = stamps(copy)
    assert again(planted, copy)['trained'] == 0 and not changed(before, copy)


def test_one_seed_more_and_one_model_more(copy, planted):
    before = stamps(copy)
    assert again(planted, copy, ('audio', 'visual', 'linear'), seeds=3)['trained'] == 4
    assert changed(before, copy) == ['audio-0', 'audio-1', 'audio-2', 'visual-2']


def test_a_changed_setting_is_trained_anew(copy, planted):
    before = stamps(copy)
    other = dict(options=tiny('bicross', 'visual') | {'visual.dim': 8})
    with pytest.raises(UserError, match='visual-0: a run of other settings stands there .*dim 16, now 8'): again(planted, copy, **other)
    assert not changed(before, copy) # told before anything is trained
    assert again(planted, copy, **other, overwrite=True)['trained'] == 2 and changed(before, copy) == ['visual-0', 'visual-1']
    assert again(planted, copy, ['linear'], replace(BASE, train=replace(TRAIN, class_weight=0.)), overwrite=True)['trained'] == 1


def test_changed_labels_are_trained_anew(copy, planted):
    corpus, store = planted
    other = replace(corpus, clips=corpus.clips.assign(label=corpus.clips.label.where(corpus.clips.clip_id != corpus.clips.clip_id[0], 'Other')))
    with pytest.raises(UserError, match='other clips, splits or labels'): again((other, store), copy, ['linear'])
    assert again((other, store), copy, ['linear'], overwrite=True)['trained'] == 1


@pytest.mark.parametrize('lost', ['metrics.json', 'config.json', 'cost.json', 'damaged'])
def test_an_unfinished_run_is_finished(copy, planted, lost):
    if lost == 'damaged': (copy/'visual-1'/'config.json').write_text('{"run"')
    else: (copy/'visual-1'/lost).unlink()
    before = stamps(copy)
    told = again(planted, copy)
    assert told['trained'] == 1 and changed(before, copy) == ['visual-1']


def test_stopped_by_hand_and_taken_up(tmp_path, planted, monkeypatch):
    import mmemo.training.compare as c
    real, calls = c.run_experiment, []
    def stopped(*a, **k):
        calls.append(a[0].model)
        if len(calls) == 2: raise KeyboardInterrupt
        return real(*a, **k)
    monkeypatch.setattr(c, 'run_experiment', stopped)
    with pytest.raises(KeyboardInterrupt): again(planted, tmp_path, ('visual', 'linear'))
    monkeypatch.setattr(c, 'run_experiment', real)
    assert again(planted, tmp_path, ('visual', 'linear'))['trained'] == 2 # one of three was finished


# neither order nor the number of processes matters

def test_two_processes_and_another_order_give_the_same(done, planted, tmp_path):
    out, _ = done
    told = compare(*planted, ['linear', 'visual'], tmp_path, BASE, 2, options=tiny('visual'), workers=2, progress=False)
    assert told['trained'] == 3
    for run in ('visual-0', 'visual-1', 'linear-0'):
        assert (tmp_path/run/'model.safetensors').read_bytes() == (out/run/'model.safetensors').read_bytes(), run
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path/run/'predictions.parquet'), pd.read_parquet(out/run/'predictions.parquet'))


def test_threads_are_as_before(planted, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again(planted, tmp_path, ['linear'], seeds=1)
        assert torch.get_num_threads() == 2 and read_json(tmp_path/'linear-0'/'cost.json')['threads'] == 1
    finally: torch.set_num_threads(threads)


# what goes wrong

def test_a_failing_run_does_not_take_the_others_with_it(planted, tmp_path, monkeypatch):
    import mmemo.training.compare as c
    real = c.run_experiment
    def failing(config, *a, **k):
        if config.model == 'visual' and config.seed == 1: raise RuntimeError('ours')
        return real(config, *a, **k)
    monkeypatch.setattr(c, 'run_experiment', failing)
    told = again(planted, tmp_path, ('visual', 'linear'))
    visual, linear = told['rows']
    assert visual['failed'] and 'RuntimeError: ours' in visual['skipped'] and 'Traceback' in (tmp_path/'visual-1-error.txt').read_text()
    assert 'scores' in linear and told['against'] == 'linear' and 'visual failed' in '\n'.join(write_small_print(told))


@pytest.mark.parametrize('change,found', [
    (dict(models=['visuel']), "Did you mean 'visual'"), (dict(models=[]), 'at least one'), (dict(models=['visual'], seeds=0), '1 or more'),
    (dict(models=['visual'], against='linear'), 'not among visual'), (dict(models=['visual'], options={'dim': 8}), 'MODEL.SETTING'),
    (dict(models=['visual'], options={'linear.dim': 8}), 'out of visual'), (dict(models=['visual'], options={'visual.train.speed': 8}), 'visual.train.speed'),
    (dict(models=['text']), 'no model fits')])
def test_mistakes_are_sentences(planted, tmp_path, change, found):
    with pytest.raises(UserError, match=found.replace('.', r'\.')): again(planted, tmp_path/'never', **change)
    assert not (tmp_path/'never').exists()


def test_a_leak_is_refused_before_anything_is_trained(planted, tmp_path):
    corpus, store = planted
    clips = corpus.clips.assign(subject='everyone')
    with pytest.raises(UserError, match='everyone'): again((replace(corpus, clips=clips), store), tmp_path/'never', ['linear'])
    assert not (tmp_path/'never').exists()


def test_valence_and_arousal_by_frame(planted, tmp_path):
    window = WindowSettings(level='frame', task='va', stride=60, eval_stride=60)
    told = again(planted, tmp_path, ('visual', 'linear'), replace(BASE, window=window, train=replace(TRAIN, epochs=1)), seeds=1)
    row = told['rows'][0]
    assert find_main_score(row['scores']['all']) == 'ccc' and 'ccc' in told['rows'][1]['against']['all'] and 'accuracy' not in row['scores']['all']
    assert 'ccc minus visual' in format_comparison(told) and 'CCC minus visual' in write_comparison(tmp_path).read_text()


# the command line

def test_compare_on_the_command_line(tmp_path, capsys):
    place = small_run()
    argv = ['compare', '--corpus', str(place/'corpus'), '--cache', str(place/'cache'), '--models', 'linear', '--seeds', '1', '--out', str(tmp_path/'c'), '--train.device', 'cpu']
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert 'synthetic' in out and 'linear' in out and out.strip().endswith('compare.html') and (tmp_path/'c'/'compare.html').exists()
    assert main([*argv[:6], 'lineal', *argv[7:]]) == 2 and "Did you mean 'linear'" in capsys.readouterr().err


# papers

@pytest.fixture(scope='module')
def twins(tmp_path_factory):
    root = tmp_path_factory.mktemp('twins')
    corpus = load_corpus(small_run()/'corpus')
    return {shape: write_twin(corpus, shape, root/shape, ()).root for shape in ('ravdess', 'affwild2')}


SMALL = dict(
    bicross=('affwild2', ['--models', 'bicross-paper', '--options', 'dim', '16', 'heads', '2', 'tcn_levels', '2']),
    avtca=('ravdess', ['--models', 'avtca-paper', '--options', 'dim', '16', '--settings.faces.detector', 'none']),
    rcma=('affwild2', ['--models', 'rjcma-v4-paper', '--text', 'none', '--options', 'hidden', '16', '--window.length', '60', '--window.stride', '60', '--window.eval-stride', '60']))


def reproduce(name, twins, out, *more):
    shape, own = SMALL[name]
    return main(['reproduce', name, '--root', str(twins[shape]), '--encoders', 'tiny', '--seeds', '1', '--workers', '1', '--train.epochs', '1', '--train.device', 'cpu',
                 '--cache', str(small_run()/'cache'), '--out', str(out), *own, *more])


@pytest.fixture(scope='module')
def reproduced(twins, tmp_path_factory):
    "Each recipe, run once on its twin: exit status, what was printed, and the folder."
    made = {}
    def run(name):
        if name not in made:
            out, said = tmp_path_factory.mktemp(name)/'r', io.StringIO()
            with redirect_stdout(said): status = reproduce(name, twins, out)
            made[name] = status, said.getvalue(), out
        return made[name]
    return run


@pytest.mark.parametrize('name', list(SMALL))
def test_a_recipe_runs_on_a_twin(name, reproduced):
    status, out, folder = reproduced(name)
    told = read_json(folder/'reproduce.json')
    assert status == 0 and out.index('Encoding:') < out.index('planted twin') and 'Training:' in out and 'planted twin' in told['warnings'][0]
    trained = {r['model'] for r in told['rows']}
    landmarks = [l for l in LANDMARKS[name] if l.data in ('', told['data']) and l.beside in told['protocols'] and trained & {*l.models}]
    assert landmarks
    for l in landmarks: # each published figure in its own column, beside its own protocol, with what it stands on
        for score, value in l.scores.items():
            row = next(r for r in told['table'] if r['protocol'] == l.beside and r['score'] == score and not r['smoothed'])
            assert f'{value:.4g}' in row['published'].split('; ') and l.on in row['stands_on'] and row['here'] not in ('', row['published'])
    page = html.unescape((folder/'reproduce.html').read_text())
    assert all(l.who in page and l.on in page for l in landmarks)


def test_a_recipe_is_not_trained_twice(reproduced, twins):
    folder = reproduced('avtca')[2]
    before = stamps(folder/'random'/'expression') | stamps(folder/'speakers'/'expression')
    assert before and reproduce('avtca', twins, folder) == 0 and read_json(folder/'reproduce.json')['trained'] == 0
    assert before == stamps(folder/'random'/'expression') | stamps(folder/'speakers'/'expression')


def test_random_as_the_paper_and_speakers_apart(reproduced):
    folder = reproduced('avtca')[2]
    split = {p: read_json(next((folder/p).glob('*/*/split.json'))) for p in ('random', 'speakers')}
    meet = {p: set(s['train']['subjects']) & set(s['test']['subjects']) for p, s in split.items()}
    assert meet['random'] and not meet['speakers']
    told = read_json(folder/'reproduce.json')
    assert 'both sides' in told['protocols']['random'] and {r['published'] for r in told['table'] if r['score'] == 'accuracy'} == {'0.9611', ''}, 'the released code, run again, is another model'


def test_valence_and_arousal_apart_and_their_mean(reproduced):
    folder = reproduced('rcma')[2]
    told = read_json(folder/'reproduce.json')
    found = told['rows'][0]['scores']
    assert {p.name for p in (folder/'fold-0').iterdir()} == {'valence', 'arousal'}
    assert found['ccc']['value'] == pytest.approx((found['ccc_valence']['value'] + found['ccc_arousal']['value'])/2)
    hidden = [l for l in LANDMARKS['rcma'] if not l.beside]
    assert hidden and all(f"{l.scores['ccc']:.4g}" not in json.dumps(told['table']) for l in hidden), 'a hidden test set stands beside nothing'


def test_what_is_reported_chooses_nothing(twins):
    "Official validation clips are reported; those to stop by come out of training, and share nobody with it."
    asked = make_request('bicross', twins['affwild2'])
    corpus = read_data(asked)
    clips = deal_protocols(asked, corpus)['official'].clips
    were = corpus.clips.set_index('clip_id').split
    assert set(were[clips.clip_id[clips.split == 'test']]) == {'val'} and set(were[clips.clip_id[clips.split == 'val']]) == {'train'}
    folds = deal_protocols(make_request('rcma', twins['affwild2'], data='affwild2-va', folds=(1, 2, 3, 4, 5)), corpus)
    tested = [set(c.clips.clip_id[c.clips.split == 'test']) for c in folds.values()]
    assert sum(map(len, tested)) == len(set().union(*tested)) == (were == 'train').sum()


def test_dry_run_only_tells(twins, tmp_path, capsys):
    assert reproduce('avtca', twins, tmp_path/'never', '--dry-run') == 0
    out = capsys.readouterr().out
    assert 'MB of disk' in out and 'at most 1 epochs' in out and not (tmp_path/'never').exists()


def test_cost_grows_with_the_work(twins):
    asked = make_request('avtca', twins['ravdess'], encoders='pixels-48+mfcc', models=('avtca-paper',), seeds=1, options=dict(dim=16, width=.25), workers=1,
                      settings=replace(PAPERS['avtca'].settings, frames=4), window=WindowSettings(4, 4))
    corpus = read_data(asked)
    few, many = (estimate_cost(replace(asked, seeds=s), corpus, deal_protocols(asked, corpus)) for s in (1, 3))
    assert many.runs == 3*few.runs == 6 and few.step_ms['avtca-paper'] > 0 and few.encoding.megabytes > 48*4*48*48*3/1e6, 'pixels are large'
    per_run = lambda c: c.seconds/c.runs/c.step_ms['avtca-paper']
    assert per_run(many) == pytest.approx(per_run(few))


@pytest.mark.parametrize('argv,found', [(['bicross', '--root', 'nowhere'], 'no such file or folder'), (['avtca', '--root', '.', '--data', 'mosei'], 'expected ravdess or crema-d'),
                                        (['avtca', '--root', '.', '--models', 'avtca'], 'no model called'), (['rcma', '--root', '.', '--options', 'visual.dim', '3'], 'MODEL.SETTING')])
def test_a_wrong_question_is_answered_in_a_sentence(argv, found, capsys):
    assert main(['reproduce', *argv]) == 2
    err = capsys.readouterr().err
    assert found in err and err.count('\n') == 1


CTRL_C = '''
import multiprocessing, os, signal, time
from concurrent.futures import ProcessPoolExecutor
from mmemo.core import end_with_parent, start_deaf
signal.signal(signal.SIGINT, signal.default_int_handler) # a shell's background has it ignored
pool = ProcessPoolExecutor(2, multiprocessing.get_context('spawn'), end_with_parent)
try:
    with start_deaf(): jobs = [pool.submit(time.sleep, 60) for _ in range(2)]
    time.sleep(WAIT)
    os.killpg(0, signal.SIGINT) # as a terminal does: to all of them
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(.3)
    for child in multiprocessing.active_children(): child.terminate()
    print('stopped', flush=True)
finally: pool.shutdown(cancel_futures=True)
'''

@pytest.mark.parametrize('wait', [0., .05, 3.]) # while workers start, while they import, while they work
def test_workers_say_nothing_of_ctrl_c(wait):
    import subprocess, sys
    r = subprocess.run([sys.executable, '-c', CTRL_C.replace('WAIT', str(wait))], capture_output=True, text=True, timeout=50, start_new_session=True)
    assert (r.stdout, r.stderr) == ('stopped\n', '')
