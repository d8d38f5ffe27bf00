"""What attention is worth stands in a run's metrics.json, on its card and page, above its maps; a run from before says that nobody measured it."""
import json, shutil

import pytest

from small_run import small_run


@pytest.fixture(scope='module')
def run():
    from mmemo.training.runs import load_run
    return load_run(small_run()/'bicross')


def test_a_run_has_the_figures_of_every_direction_and_head(run):
    worth = json.loads((run.folder/'metrics.json').read_text())['attention']
    assert (worth['split'], worth['unit'], worth['counts'], worth['metric'], worth['by']) == ('val', 'clip', 'answers', 'macro_f1', 'subject')
    assert worth['answers'] == worth['clips'] == 16
    whole = worth['parts'][0]
    assert [whole[k] for k in ('query', 'key', 'layer', 'head')] == [None]*4
    for how in ('uniform', 'silenced', 'shuffled'):
        f = whole[how]
        assert 0 <= f['changed']['value'] <= 1 and f['changed']['ci95'] and f['changed']['few_groups'], how
        assert f['score']['metric'] == 'macro_f1' and f['score']['n_groups'] == 3
    heads = {(p['query'], p['key'], p['head']) for p in worth['parts'] if p['head'] is not None}
    n = run.model.config.heads
    assert heads == {(*pair, i) for pair in (('visual', 'audio'), ('audio', 'visual')) for i in range(n)}


def test_the_figure_is_what_the_model_answers_without_its_choice(run):
    "Counted by hand, from the answers of the model under the same change."
    from mmemo.corpora.readers import open_corpus
    from mmemo.features.extract import extract
    from mmemo.models.intervene import intervene
    from mmemo.training.evaluation import predict, score
    corpus = run.clips(open_corpus(small_run()/'corpus'))
    windows = run.windows(corpus, extract(corpus, 'tiny', 'tiny', progress=False), 'val')
    before = predict(run.model, windows)
    with intervene(run.model, 'silenced'): after = predict(run.model, windows)
    stored = run.metrics['attention']['parts'][0]['silenced']
    assert stored['changed']['value'] == pytest.approx((before.predicted != after.predicted).mean())
    assert stored['score']['value'] == pytest.approx(score(after) - score(before))


def test_card_and_page_say_it(run):
    from mmemo.pages.report import write_report
    from mmemo.training.attention_worth import describe_worth
    lines = describe_worth(run.metrics['attention'])
    card = (run.folder/'card.md').read_text()
    assert '## What attention is worth' in card and lines[0] in card and 'audio -> visual, head 1' in card
    page = write_report(run.folder).read_text()
    assert 'What attention is worth' in page and lines[0].split(' (')[0] in page


def test_player_and_panels_say_it_above_the_map(run):
    from mmemo.panels.clip import ClipPanel
    from mmemo.panels.source import open_source
    from mmemo.panels.truth import render_worth
    source = open_source(run.folder)
    panel = ClipPanel(source)
    above = lambda canvas: str(canvas.figure)
    assert 'Making this attention uniform changes ' in above(panel.view.to_face)
    panel.state.head = 1
    assert 'Making head 2 of this attention uniform changes ' in above(panel.view.to_face)
    shown = [text for text, _ in panel.view.head.options]
    assert all('(face ' in text and 'voice ' in text and '%' in text for text in shown[2:]), shown
    player = source.player()
    assert player.map['worth'].startswith('Making this attention uniform changes ')
    assert '%' in player.map['choices']['head'][2][0]
    player.head = 0
    assert player.map['worth'].startswith('Making head 1 of this attention uniform changes ')
    assert 'Making head 1 of this attention uniform' in player.to_html()
    assert 'all attention of the model' in render_worth(source.run)


def test_a_run_from_before_says_that_nobody_measured_and_how(run, tmp_path, capsys):
    from mmemo.panels.clip import ClipPanel
    from mmemo.panels.source import open_source
    from mmemo.panels.truth import render_worth
    from mmemo.pages.report import write_report
    from mmemo.commands.evaluate import Evaluate
    from mmemo.training.runs import load_run
    old = shutil.copytree(run.folder, tmp_path/'old')
    metrics = json.loads((old/'metrics.json').read_text())
    measured = metrics.pop('attention')
    (old/'metrics.json').write_text(json.dumps(metrics))
    (old/'checksums.txt').unlink()
    how = f'was not measured in this run; `mmemo evaluate {old} --attention` measures it'
    source = open_source(old)
    panel = ClipPanel(source)
    assert how in str(panel.view.to_face.figure) and how in source.player().map['worth'] and how in render_worth(source.run)
    assert 'not measured' in write_report(old).read_text()
    assert Evaluate(old, attention=True)() == 0
    assert 'all attention of the model uniform changes' in capsys.readouterr().out
    again = load_run(old)
    assert json.dumps(again.metrics['attention']) == json.dumps(measured) # the same as at the end of the training
    assert 'not measured' not in write_report(old).read_text()


def test_a_model_without_maps_says_nothing(tmp_path):
    import types
    from mmemo.training.card import list_card_worth
    from mmemo.pages.report import render_attention
    none = types.SimpleNamespace(metrics=dict(attention=dict(parts=[])), model=types.SimpleNamespace())
    assert list_card_worth(none) == render_attention(none) == []
    fitted = types.SimpleNamespace(metrics={}, model=types.SimpleNamespace(fit=None)) # of a run from before
    assert list_card_worth(fitted) == render_attention(fitted) == []


def test_each_part_of_the_corpus_is_told_by_itself(run):
    "From the same answers: the parts' figures, weighed by their clips, are those of all; two classes are decided between where a part has two."
    from mmemo.pages.report import render_attention
    from mmemo.panels.truth import render_worth
    worth = run.metrics['attention']
    whole, *rest = worth['parts']
    for how in ('uniform', 'silenced', 'shuffled'):
        parts = whole[how]['subsets']
        assert set(parts) == {'both', 'audio', 'video', 'xor'} and sum(f['clips'] for f in parts.values()) == worth['clips'], how
        assert all(f['score']['metric'] == 'macro_f1' and f['changed']['few_groups'] for f in parts.values())
    assert not any('subsets' in part['uniform'] for part in rest)
    sentence = next(line for line in (run.folder/'card.md').read_text().split('. ') if 'by part of the corpus' in line)
    n = whole['uniform']['subsets']['xor']['clips']
    assert f' of {n} clip' in sentence.split('xor')[1] and '| part | clips | change |' in (run.folder/'card.md').read_text()
    page = ''.join(render_attention(run))
    assert 'Each part of the corpus, and each direction' in page and 'by part of the corpus' in render_worth(run)
