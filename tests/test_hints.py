"""What a message, a docstring or a page tells a person to type is a command that exists, with options that exist."""
import ast, json, re
from functools import lru_cache
from pathlib import Path

import pytest

from mmemo.commands.cli import COMMANDS
from mmemo.commands.doctor import Check, examine
from mmemo.core import UserError
from mmemo.features.encoder_files import SPEECH_ENCODERS, VISUAL_ENCODERS
import mmemo.features.encoder_files as encoder_files_module

ROOT = Path(__file__).resolve().parent.parent
PROSE = set('carries developers does import reads renders shows ships writes'.split())         # "mmemo reads ...", "from mmemo import"
MAKES = set('a another features intervals it of one the this'.split())                        # "make one", "what they make of a clip"


def list_texts(): # (where, text)
    for p in sorted((ROOT/'mmemo').rglob('*.py')):
        if p.name == '_modidx.py': continue
        for node in ast.walk(ast.parse(p.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str): yield p, node.value
            elif isinstance(node, ast.JoinedStr): yield p, ''.join(v.value if isinstance(v, ast.Constant) else 'X' for v in node.values)
    for p in (ROOT/'README.md', ROOT/'CONTRIBUTING.md', *sorted((ROOT/'docs').rglob('*.md'))): yield p, p.read_text()
    for p in sorted((ROOT/'nbs').rglob('*.ipynb')):
        for c in json.loads(p.read_text())['cells']:
            if c['cell_type'] == 'markdown': yield p, ''.join(c['source'])


@lru_cache(None)
def options_of(name:str) -> set:
    "Every option that a command and its sub-commands take."
    import tyro
    options = {'--help'}

    def walk(parser):
        for action in parser._actions:
            options.update(action.option_strings)
            if isinstance(action.choices, dict): [walk(p) for p in action.choices.values()]
    walk(tyro.extras.get_parser(COMMANDS[name].build()))
    return options | {o.replace('-', '_').replace('__', '--', 1) for o in options}


def find_faults(texts, commands, targets) -> list: # (where, what is wrong)
    faults = []
    for where, text in texts:
        for line in re.sub(r'\\\n\s*', ' ', text).splitlines():
            for found in re.finditer(r'\bmmemo ([a-z][\w-]*)([^`|#]*)', line):
                name, rest = found[1], found[2].split('mmemo ')[0]
                if name in PROSE: continue
                if name not in commands: faults.append((where, f'mmemo {name}'))
                else: faults += [(where, f'mmemo {name} {o}') for o in re.findall(r'(?<!\S)--[a-z][\w.-]*\w', rest) if o not in options_of(name)]
            faults += [(where, f'make {t}') for t in re.findall(r'\bmake ([a-z][\w-]*)', line) if t not in targets | MAKES]
    return faults


def list_targets() -> set: return set(re.findall(r'^([a-z][\w-]*):', (ROOT/'Makefile').read_text(), re.M))


def test_what_is_said_can_be_typed():
    assert find_faults(list_texts(), COMMANDS, list_targets()) == []


def test_what_cannot_be_typed_is_found():
    text = 'say `mmemo tran` or `mmemo train --lr 3`, then\n`mmemo demo \\\n  --out x --sed 3`, `make tset`; mmemo reads them, make one'
    assert [w for _, w in find_faults([('', text)], COMMANDS, list_targets())] == ['mmemo tran', 'mmemo train --lr', 'mmemo demo --sed', 'make tset']


def test_what_the_doctor_hints_at_is_there(monkeypatch):
    "Every encoder that it lists can be fetched under the name it gives; none is, here."
    asked = []
    monkeypatch.setattr(encoder_files_module, 'find_hub_folder', lambda repo, name, fetch=False: asked.append((name, fetch)) or (_ for _ in ()).throw(UserError('no network')))
    hints = [c.hint for c in examine(['encoders']) if c.hint.startswith('mmemo fetch ')]
    names = {name for table in (VISUAL_ENCODERS, SPEECH_ENCODERS) for name in table} - {'tiny'}
    for hint in hints: assert hint.removeprefix('mmemo fetch ') in names
    for name in names:
        asked.clear()
        try: encoder_files_module.fetch(name)
        except UserError: assert asked and asked[0][1], name
    areas = ('machine', 'decoders', 'faces', 'notebooks', 'places')
    assert all(isinstance(c, Check) for c in examine(areas))


@pytest.mark.parametrize('word', ['predict', 'doctor', 'cache', 'fetch'])
def test_help_comes_without_torch(word):
    import subprocess, sys
    code = f"import sys\nfrom mmemo.commands.cli import main\ntry: main(['{word}', '--help'])\nexcept SystemExit: pass\nprint('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == 'False', done.stderr
