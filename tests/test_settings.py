"""Every field of every settings class says what it may be; just outside is refused in a sentence, both ends are taken."""
import importlib, math, pkgutil, typing
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path

import pytest

import mmemo
from mmemo.commands.cli import COMMANDS, find_settings_class, main
from mmemo.core import Registry, UserError, to_jsonable
from mmemo.ranges import OutOfRange, Range, Text, check_fields, collect_ranges
from mmemo.explain.embedding import MapSettings
from mmemo.commands.corpus import ExportTiers, ImportTable
from mmemo.commands.demo import DemoConfig
from mmemo.features.reading import ExtractSettings
from mmemo.features.windows import WindowSettings
from mmemo.media.faces import FaceSettings
from mmemo.models.registry import MODELS, build, make_config
from mmemo.planted.corpus import PlantedConfig
from mmemo.training.loop import RECIPES, TrainConfig
from mmemo.training.run_config import RunConfig, make_run_config

GIVEN = dict(frames=Path('frames.csv'), out=Path('talk.eaf'), root=Path('x'), name='tiny', what='list', table=Path('x'), corpus=Path('x'), run=Path('x'), file=Path('x'), files=(Path('x'),), runs=(Path('x'),)) # what has no default
CONFIGS = {f'model {name}': (entry.config, entry.preset) for name, entry in MODELS.items()}
PLAIN = {c.__name__: (c, {}) for c in (RunConfig, TrainConfig, WindowSettings, ExtractSettings, FaceSettings, PlantedConfig, MapSettings, DemoConfig)}
WORDS = {f'mmemo {name}': (find_settings_class(command.build()), {}) for name, command in COMMANDS.items()} | {'mmemo manifest import': (ImportTable, {}), 'mmemo manifest tiers': (ExportTiers, {})}
ALL = CONFIGS | PLAIN | WORDS


def make(cls, given):
    "An instance, checked; what has no default is filled in."
    known = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    made = cls(**{k: ((Path('x'),) if k in ('files', 'runs') else GIVEN[k]) for k in known if k not in given} | given)
    check_fields(made)
    return made


def parts(kind) -> set:
    "The plain types that an annotation is made of."
    return {p for k in typing.get_args(kind) for p in parts(k)} if typing.get_args(kind) else {kind}


def is_stated(kind, allowed) -> bool: # numbers and words need an entry; switches, paths, choices and dataclasses say it themselves
    if typing.get_origin(kind) is typing.Literal or kind is dict: return True
    return allowed is not None or not parts(kind) & {int, float, str, dict, tuple}


@pytest.mark.parametrize('name', ALL)
def test_every_field_states_what_it_may_be(name):
    lacking = [f for f, (kind, allowed) in collect_ranges(ALL[name][0]).items() if not is_stated(kind, allowed)]
    assert not lacking
    assert all(allowed is None or isinstance(allowed, (Range, Text, tuple, Registry)) for _, allowed in collect_ranges(ALL[name][0]).values())


def wrap(kind, value): # as the field has it: one, several, or by name
    outer = typing.get_origin(kind) or kind
    return (value,) if outer is tuple else dict.fromkeys(('visual', 'audio'), value) if outer is dict else value


def cases(kind, allowed) -> list:
    "Values just outside what a field may be."
    if kind is dict: return [3, None]
    words, outer = parts(kind), typing.get_origin(kind) or kind
    several = outer in (tuple, dict)
    wrong = []
    if type(None) not in words: wrong.append(None)
    if isinstance(allowed, Range):
        is_int = int in words and float not in words
        step = 1 if is_int else 1e-6
        wrong += [wrap(kind, v) for v in (allowed.least - step*max(1, abs(allowed.least)), allowed.most + step*max(1, allowed.most), math.nan, math.inf, -math.inf, 'many')]
        if is_int and not several: wrong += [allowed.least + .5, True]
    elif isinstance(allowed, (tuple, Registry)): wrong += [wrap(kind, 'nothing of the kind'), wrap(kind, 3)]
    elif isinstance(allowed, Text): wrong += [wrap(kind, 3)] if typing.get_origin(kind) is not dict else [dict(a=3)]
    elif words == {bool}: wrong += ['true', 'false', 2, math.nan]
    elif is_dataclass(kind): wrong += [3, 'x']
    return wrong


@pytest.mark.parametrize('name', ALL)
def test_just_outside_is_one_sentence(name):
    cls, given = ALL[name]
    for field, (kind, allowed) in collect_ranges(cls).items():
        for value in cases(kind, allowed):
            with pytest.raises(UserError) as e: make(cls, given | {field: value})
            said = str(e.value)
            assert f"'{field}'" in said and 'expected' in said and '\n' not in said, (field, value, said)
            assert len(said) < 400


@pytest.mark.parametrize('name', ALL)
def test_both_ends_are_taken(name):
    "The range by itself, whatever other fields would have to say to such an end."
    cls, given = ALL[name]
    usual = make(cls, given)
    for field, (kind, allowed) in collect_ranges(cls).items():
        ends = [allowed.least, allowed.most] if isinstance(allowed, Range) else list(allowed) if isinstance(allowed, (tuple, Registry)) else []
        before = getattr(usual, field)
        for end in ends:
            object.__setattr__(usual, field, wrap(kind, end))
            check_fields(usual)
        object.__setattr__(usual, field, before)


def test_no_settings_class_is_forgotten():
    "Whatever is called Config or Settings, or has a table of ranges, is among those above."
    seen = set()
    for m in pkgutil.walk_packages(mmemo.__path__, 'mmemo.'):
        for thing in vars(importlib.import_module(m.name)).values():
            if not (isinstance(thing, type) and is_dataclass(thing)): continue
            if thing.__name__.endswith(('Config', 'Settings')) or 'ranges' in vars(thing): seen.add(thing)
    known = {cls for cls, _ in ALL.values()}
    assert len(known) > 25 and {c.__name__ for c in seen - known} <= {'StepConfig', 'Request'} # the bases of two


@pytest.mark.parametrize('wrong, said', [
    (dict(lr=math.nan), "'lr' is nan"), (dict(lr=-1e-3), "'lr' is -0.001"), (dict(weight_decay=-1), "'weight_decay' is -1"), (dict(smoothing=-1), "'smoothing' is -1"),
    (dict(seed=12345678901234567890), "'seed' is 12345678901234567890"), (dict(seed=-1), "'seed' is -1"), (dict(device='gpu'), "'device' is 'gpu'"), (dict(patience=-1), "'patience' is -1"),
    (dict(warmup=3), "'warmup' is 3"), (dict(batch=0), "'batch' is 0"), (dict(learn_scale='false'), "'learn_scale' is 'false'; expected True or False"), (dict(epochs=2.5), 'expected a whole number'),
    (dict(schedule='steps', milestones=(-1,)), "'milestones' is"), (dict(min_lr=.1, lr=.01), "'min_lr' is 0.1; expected at most lr = 0.01"), (dict(optimiser='adamww'), "Did you mean 'adamw'")])
def test_settings_of_training(wrong, said):
    with pytest.raises(UserError, match=said): TrainConfig(**wrong)


@pytest.mark.parametrize('model, wrong, said', [
    ('bicross', dict(dim=0), "'dim' is 0"), ('bicross', dict(dropout=2), "'dropout' is 2"), ('visual', dict(dim=7, heads=2), "'dim' is 7; expected an even multiple of heads = 2"),
    ('early', dict(dim=20, heads=3), "'dim' is 20"), ('bicross', dict(dim=20, heads=4), 'multiple of 2 x heads'), ('mult', dict(dim=32, heads=6), "'dim' is 32"), ('avtca-paper', dict(heads=0), "'heads' is 0"),
    ('bicross', dict(kernel=2), "'kernel' is 2; expected an odd number"), ('late', dict(channel_dropout=math.nan), "'channel_dropout' is nan"), ('bicross', dict(residual='false'), "'residual' is 'false'"),
    ('linear', dict(most=0), "'most' is 0"), ('tfn', dict(fuse=0), "'fuse' is 0"), ('rjcma-v4', dict(recursion=5), "'recursion' is 5; expected 0 to 4"), ('late', dict(modalities=5), "'modalities' is 5")])
def test_settings_of_models(model, wrong, said):
    with pytest.raises(UserError, match=said): build(model, dict(visual=4, audio=4), **wrong)


@pytest.mark.parametrize('name', MODELS)
def test_the_least_of_each_size_builds(name):
    "What a range lets through can be built and answers."
    usual = make_config(name, dict(dims=dict(visual=4, audio=4, text=4)))
    for field in ('layers', 'tcn_levels', 'recursion', 'rank', 'kernel', 'ffn', 'fuse', 'hidden', 'dropout', 'modality_dropout'):
        if field in {f.name for f in fields(usual)} and not (field == 'kernel' and name == 'rjcma-code'):
            least = collect_ranges(type(usual))[field][1].least
            build(name, dict(visual=4, audio=4, text=4), **{field: least})


def test_what_was_stored_still_loads():
    for config in (RunConfig(), RunConfig(train=RECIPES['avtca-code'], options=dict(modalities=('visual',), causal=True)), RunConfig(model='late', smoothing=.4)):
        stored = to_jsonable(config)
        assert list(to_jsonable(make_run_config(stored))) == list(stored) and to_jsonable(make_run_config(stored)) == stored
    assert make_run_config(dict(train=dict(learn_scale=1, epochs=3))).train.epochs == 3 # a switch as JSON of others has it


def test_copies_are_checked_too():
    with pytest.raises(OutOfRange): replace(TrainConfig(), lr=-1.)
    with pytest.raises(OutOfRange): replace(FaceSettings(), margin=math.inf)


@pytest.mark.parametrize('words, said', [
    ('train --corpus x --train.lr nan', "mmemo: training setting 'lr' is nan; expected 0 to 1,000. (--train.lr)"),
    ('train --corpus x --smoothing nan', "mmemo: run setting 'smoothing' is nan; expected 0 to 3,600, or None. (--smoothing)"),
    ('train --corpus x --window.length 1000000', "mmemo: window setting 'length' is 1000000; expected 1 to 10,000. (--window.length)"),
    ('train --corpus x --settings.faces.margin nan', "mmemo: face setting 'margin' is nan; expected -0.4 to 10. (--settings.faces.margin)"),
    ('compare --seeds 0', "mmemo: option 'seeds' is 0; expected 1 to 1,000. (--seeds)"), ('demo --seed -1', "mmemo: option 'seed' is -1; expected 0 to 4,294,967,295. (--seed)"),
    ('predict x.mp4 --seconds nan', "mmemo: option 'seconds' is nan; expected 0.04 to 400, or None. (--seconds)"), ('extract x --settings.every 0', "mmemo: setting 'every' is 0; expected 1 to 1,000,000. (--settings.every)"),
    ('reproduce rcma --root x --train.batch 0', "mmemo: training setting 'batch' is 0; expected 1 to 1,000,000. (--train.batch)"),
    ('train --corpus x --epchs 3', "mmemo: train has no option '--epchs'. Did you mean '--train.epochs'? `mmemo train --help` tells them."),
    ('train --corpus x --options dim 0', "mmemo: model setting 'dim' is 0; expected 2 to 16,384."),
    ('compare --corpus x --models visual audio --options visual.dim 0', "mmemo: model setting 'dim' is 0; expected 2 to 16,384."),
    ('compare --corpus x --models visual --options visual.train.lr nan', "mmemo: training setting 'lr' is nan; expected 0 to 1,000.")])
def test_the_command_says_the_same(words, said, capsys):
    assert main(words.split()) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ('', said + '\n')
