"What the papers state: presets of the papers hold the stated parts and no others, and each value has its word."
from dataclasses import fields

import pytest
import torch

from mmemo.models.registry import MODELS, build, make_card
from mmemo.models.stated import PARTS, STATED, find_strangers, list_words

PAPERS = [name for name in MODELS if name.endswith('-paper')]
PUBLISHED = {'bicross-paper': dict(dims=dict(visual=512, audio=768), level='frame', text_dim=512),
             'avtca-paper': dict(dims=dict(visual=224, audio=10), frontend='pixels'),
             'rcma-v1-paper': dict(dims=dict(visual=512, audio=128, text=768), level='frame', task='valence'),
             'rjcma-v4-paper': dict(dims=dict(visual=512, audio=128, text=768), level='frame', task='arousal')}


def make_published(name, **changes):
    with torch.device('meta'): return build(name, **PUBLISHED.get(name, {}) | changes)


def words_of(name, **changes) -> dict: # setting -> word
    return {r['setting']: r['word'] for r in list_words(name, make_published(name, **changes).config)}


def test_the_presets_of_papers():
    assert set(PAPERS) == set(PUBLISHED) == set(PARTS)


@pytest.mark.parametrize('name', PAPERS)
def test_a_preset_of_a_paper_has_no_parameter_outside_the_stated_parts(name):
    model = make_published(name)
    names = [n for n, _ in model.named_parameters()]
    assert not find_strangers(name, names)
    assert all(any(n.startswith(part) for n in names) for part in PARTS[name]), 'a stated part is not there'


@pytest.mark.parametrize('name', PAPERS)
def test_nothing_in_it_is_chosen(name):
    assert set(words_of(name).values()) <= {'stated', 'not known to us'}


@pytest.mark.parametrize('part', ['own_heads', 'gates', 'voice_tcn', 'product', 'deviation', 'token', 'positions'])
def test_parts_of_ours_are_seen_as_such(part):
    assert words_of('bicross-paper', **{part: True})[part] != 'not known to us'
    if part in ('own_heads', 'gates', 'voice_tcn', 'token', 'positions'):
        more = {part: True} | (dict(own_heads=True) if part == 'gates' else {})
        assert find_strangers('bicross-paper', [n for n, _ in make_published('bicross-paper', **more).named_parameters()])


def test_each_version_has_its_own_joint():
    assert words_of('rcma-v1-paper')['joint'] == words_of('rjcma-v4-paper')['joint'] == 'stated'
    assert words_of('rcma-v1-paper', joint='all')['joint'] == words_of('rjcma-v4-paper', joint='other_two')['joint'] == 'chosen'


def test_what_is_not_known_can_be_filled_in():
    assert words_of('bicross-paper')['dim'] == 'not known to us'
    words = words_of('bicross-paper', dim=512, heads=4)
    assert (words['dim'], words['heads'], words['sequential']) == ('filled in', 'filled in', 'stated')
    assert words_of('bicross-paper', sequential=True)['sequential'] == 'chosen', 'against what is stated'


@pytest.mark.parametrize('name', ['rcma-v1', 'rjcma-v4'])
def test_our_forms_of_system_three_are_not_called_stated(name):
    model = build(name, dict(visual=512, audio=128, text=768), level='frame', task='valence')
    words = {r['setting']: r['word'] for r in list_words(name, model.config)}
    assert {words[k] for k in ('mix', 'widths', 'norm', 'residual', 'project', 'hidden')} == {'chosen'}
    assert words['recursion'] == words['joint'] == 'stated' and 'as stated' not in MODELS[name].about
    assert '1/K' in MODELS[name].about and 'mix | feature | chosen | stated: time' in make_card(model)


def test_the_released_code_has_a_word_of_its_own():
    words = {r['setting']: r['word'] for r in list_words('avtca-code', build('avtca-code').config)}
    assert words['heads'] == words['final'] == words['merge'] == 'code'
    assert {r['setting']: r['word'] for r in list_words('rjcma-code', build('rjcma-code').config)}['widths'] == 'code'


@pytest.mark.parametrize('family', list(STATED))
def test_every_fact_is_of_a_setting(family):
    config = next(e.config for e in MODELS.values() if e.config.__name__ == family)
    assert not set(STATED[family]) - {f.name for f in fields(config)}


# ---- as many parameters as the released code has, part by part, added up from its layers

def count(module, *parts) -> int: # of the parts whose names begin so; all where none is named
    return sum(p.numel() for n, p in module.named_parameters() if not parts or n.startswith(parts))


def test_avtca_code_has_the_parameters_of_the_release():
    model = make_published('avtca-code', dims=dict(visual=224, audio=10), frontend='pixels')
    conv = lambda i, o: i*o*3 + o + 2*o # over time, with its norm
    block = lambda q, k: 2*q + 2*k + q*q + 2*k*q + q*q + q + 2*q + 2*(2*q*q) + 3*q # norms, attention without biases, MLP
    assert count(model, 'eyes.') == 1_275_293 - (1024*7 + 7) == 1_268_118, 'EfficientFace without its classifier of seven emotions'
    assert count(model, 'eyes.face.local.') == 10_208
    assert count(model, 'voice.') == conv(10, 64) + conv(64, 128) + conv(128, 256) + conv(256, 128)
    assert count(model, 'face.') == conv(1024, 64) + conv(64, 64) + conv(64, 128) + conv(128, 128)
    assert count(model, 'middle.') == block(128, 64) + block(64, 128) == 157_568
    assert count(model, 'end.') == 4*128*128 + 4*128, 'one attention for both streams'
    assert count(model) == 2_004_462 - 2*(128*8 + 8), 'the release has two classifiers that nothing asks'


def test_rjcma_code_has_the_widths_of_the_release():
    model = make_published('rjcma-v4-paper')
    code = build('rjcma-code', PUBLISHED['rjcma-v4-paper']['dims'], level='frame', task='arousal')
    layer = 3*(300*300 + 300) + sum(d*d + d + 512*d + d for d in (256, 128, 128))
    assert count(code, 'blocks.') == 2*layer, 'two layers with weights of their own, keys along 300 frames'
    assert count(code, 'head.') == count(model, 'head.') == 512*256 + 256 + 2*256 + 256 + 1
    tcn = lambda i, o: sum(5*a*o + 2*o for a in (i, *[o]*7)) + (i*o + o if i != o else 0) + 2*o # weight norm, a path across, batch norm
    assert count(code, 'fronts.') == tcn(512, 256) + tcn(128, 128) + tcn(768, 128)
    assert count(model, 'blocks.') == 512*512 + 512 + sum(d*512 + 2*300*300 for d in (256, 128, 128)), 'the equations, fed back'
