"""The house in order: notebooks and package agree, imports go one way, `import mmemo` is light."""
import ast, configparser, json, os, re, shutil, subprocess, sys, tomllib
from pathlib import Path

import pytest

import house

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT/'mmemo'
MODULES = sorted(p for p in PACKAGE.rglob('*.py') if p.name not in ('__init__.py', '_modidx.py', '__main__.py'))
NOTEBOOKS = sorted((ROOT/'nbs').rglob('*.ipynb'))
BIN = Path(sys.executable).parent


def name_of(module:Path) -> str: # 'models.bicross'
    return '.'.join(module.relative_to(PACKAGE).with_suffix('').parts)


def place_of(module:Path) -> tuple: # (number of its folder, number within it)
    head = re.search(r'File to edit: .*?nbs/(?:(\d\d)_\w+/)?(\d\d)_\w+\.ipynb', module.read_text()[:2000])
    assert head, f'{module.name} was not exported from a numbered notebook'
    return int(head[1] or 0), int(head[2])


def imported(module:Path): # full names below mmemo: 'core', 'models.bicross'
    inside = list(module.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = inside[:len(inside) - node.level + 1] if node.level else None
            if node.level: name = '.'.join(filter(None, [*base, node.module or '']))
            elif (node.module or '').split('.')[0] == 'mmemo': name = node.module[6:]
            else: continue
            yield name
            yield from (f'{name}.{a.name}'.strip('.') for a in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name[6:] for a in node.names if a.name.startswith('mmemo.'))


def misplaced(places:dict, imports:dict) -> list:
    return [(m, i) for m, names in imports.items() for i in names if i in places and places[i] >= places[m]]


def test_imports_go_from_high_numbers_to_low():
    places = {name_of(m): place_of(m) for m in MODULES}
    assert len(places) > 15
    assert misplaced(places, {name_of(m): list(imported(m)) for m in MODULES}) == []
    assert misplaced({'low': (0, 1), 'high': (0, 2)}, {'low': ['high']}) == [('low', 'high')]     # the rule can fail


def test_numbers_are_unique():
    for folder in {p.parent for p in NOTEBOOKS}:
        numbers = [p.name[:2] for p in folder.glob('[0-9]*.ipynb')]
        assert len(numbers) == len(set(numbers)), folder


def test_exported_code_needs_no_nbdev():
    for m in MODULES: assert not re.search(r'^\s*(from|import) (nbdev|fastcore|execnb)\b', m.read_text(), re.M), m.name


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "The tracked and new files of this checkout in an empty folder."
    there = tmp_path_factory.mktemp('house')
    for name in ('settings.ini', 'pyproject.toml', 'README.md'): shutil.copy(ROOT/name, there/name)
    for name in ('nbs', 'mmemo'): shutil.copytree(ROOT/name, there/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    return there


def tree(folder:Path) -> dict:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file() and '__pycache__' not in p.parts}


@pytest.mark.parametrize('command', ['nbdev_export', 'nbdev_clean'])
def test_command_changes_nothing(copy, command):
    before = tree(copy)
    subprocess.run([BIN/command], cwd=copy, check=True, capture_output=True, env=os.environ | {'PYTHONPATH': str(copy)})
    after = tree(copy)
    assert [name for name in before | after if before.get(name) != after.get(name)] == []


def test_settings_say_the_same_to_both_nbdevs():
    ini = configparser.ConfigParser(); ini.read(ROOT/'settings.ini')
    new = tomllib.loads((ROOT/'pyproject.toml').read_text())
    for key, value in new['tool']['nbdev'].items(): assert ini['DEFAULT'][key].lower() == str(value).lower(), key
    assert ini['DEFAULT']['lib_name'] == new['project']['name']
    assert new['project']['requires-python'].startswith('>=' + ini['DEFAULT']['min_python'])
    sys.path.insert(0, str(ROOT))
    import mmemo
    assert ini['DEFAULT']['version'] == mmemo.__version__


def test_import_is_light():
    code = "import sys, mmemo; print([m for m in ('torch', 'umap', 'transformers', 'ipywidgets', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_widgets_first_appear_in_the_panels():
    for m in MODULES:
        if place_of(m)[0] < 90: assert not re.search(r'\b(ipywidgets|anywidget)\b.*', '\n'.join(re.findall(r'^\s*(?:from|import) .*', m.read_text(), re.M))), m.name


def stored_widgets(notebook:dict) -> list: # where nbconvert and JupyterLab leave the state of widgets
    shown = [o for c in notebook['cells'] for o in c.get('outputs', []) if 'application/vnd.jupyter.widget-view+json' in o.get('data', {})]
    return [*notebook.get('metadata', {}).get('widgets', {}), *shown]


def test_stored_widgets_are_noticed():
    state = {'metadata': {'widgets': {'application/vnd.jupyter.widget-state+json': {'state': {}}}}, 'cells': []}
    view = {'metadata': {}, 'cells': [{'outputs': [{'data': {'application/vnd.jupyter.widget-view+json': {}}}]}]}
    assert len(stored_widgets(state)) == len(stored_widgets(view)) == 1 and not stored_widgets({'metadata': {}, 'cells': [{}]})


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_form(path):
    notebook = json.loads(path.read_text())
    cells = notebook['cells']
    code = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
    assert max((len(json.dumps(c.get('outputs', []))) for c in cells), default=0) < 200_000
    assert not stored_widgets(notebook), 'the state of widgets is stored in it: megabytes, and stale tomorrow'
    if path.parent.name == 'workbench':
        assert len(cells) <= 15 and not any(c.get('outputs') for c in cells)
        assert not any(re.search(r'^\s*(def|class) ', c, re.M) for c in code)
    else:
        assert ''.join(cells[0]['source']).startswith('# ')


# --- the rules of tests/house.py, each held by every notebook and each shown to notice its own counter-example ---------------

def sheet(*cells, **outputs): # cells: exported code, '>' before an example, '#' before prose -> a Notebook
    raw = []
    for text in cells:
        kind = 'markdown' if text.startswith('# ') else 'code'
        source = text[1:] if text.startswith('>') else text if kind == 'markdown' else f'#| export\n{text}'
        raw.append(dict(cell_type=kind, source=[source], outputs=[]))
    if outputs: raw[-1]['outputs'] = [dict(data=outputs)]
    notebook = house.Notebook.__new__(house.Notebook)
    notebook.path, notebook.cells = Path('00_sheet.ipynb'), [house.Cell(c) for c in raw]
    return notebook


LONG = 'x = ' + ' + '.join(['a_rather_long_name']*6)
BLOCK = 'def {0}():\n' + '    x = 1\n'*7 + '    return x'
COUNTER = { # rule: (what it must name, what it must leave in peace)
    'wide_lines': (sheet('x = 1 # ' + 'so ' * 40), sheet('x = 1')),
    'crowded_lines': (sheet('a = 1; b = 2'), sheet('if a: b = 2\nfor i in x:\n    print(i)')),
    'tall_cells': (sheet('\n'.join(['x = 1']*41)), sheet('\n'.join(['x = 1']*39))),
    'crowded_cells': (sheet(BLOCK.format('f') + '\n\n' + BLOCK.format('g')), sheet('def f(): return 1\n\ndef g(): return 2')),
    'long_waits': (sheet('def f(): pass', 'def g(): pass', 'def h(): pass', '>assert f() is None'), sheet('def f(): pass', 'def g(): pass', '>assert f() is None', 'def h(): pass')),
    'too_many_cells': (sheet(*['x = 1']*81), sheet(*['x = 1']*80)),
    'no_picture': (sheet('# words', '>1 + 1'), sheet('>draw()', **{'image/png': 'iVBO'})),
    'mixed_imports': (sheet('>import os\nos.getcwd()'), sheet('>import os\nfrom pathlib import Path')),
    'hung_methods': (sheet('class A: pass\nA.f = g'), sheet('class A: pass\na.f = g')),
    'odd_names': (sheet('def frames_of(clip): pass'), sheet('def list_frames(clip): pass\n\ndef macro_f1(p): pass\n\ndef is_whole(run): pass')),
    'house_words': (sheet('def f(found): return found'), sheet('def f(x):\n    found = x\n    return found')),
}


@pytest.mark.parametrize('rule', house.RULES)
def test_a_rule_notices_its_counter_example(rule):
    broken, fine = COUNTER[rule]
    assert house.RULES[rule](broken) and not house.RULES[rule](fine)


def test_an_import_within_an_example_is_mixed():
    assert house.mixed_imports(sheet('>def f():\n    import os\n    return os')) and not house.mixed_imports(sheet('def f():\n    import os\n    return os'))


def test_a_long_line_with_a_compound_statement_is_crowded():
    assert house.crowded_lines(sheet(f'if something: {LONG}')) and house.crowded_lines(sheet(f'def f(x): {LONG}'))
    assert not house.crowded_lines(sheet(f'if something:\n    {LONG}')), 'on a line of its own it may be that long'


@pytest.mark.parametrize('rule', house.RULES)
@pytest.mark.parametrize('notebook', house.library(), ids=lambda n: f'{n.path.parent.name}-{n.path.stem}')
def test_a_notebook_keeps_the_rules(notebook, rule):
    if rule == 'no_picture' and notebook.path.stem in ('00_core', '01_labels'): pytest.skip('shows its asserts')
    assert house.RULES[rule](notebook) == []


def test_the_figures_of_the_house():
    f = house.figures(house.library())
    assert f['exported cell, characters, median'] <= 650 and f['90th percentile'] <= 1300
    assert f['cells with two or more definitions, %'] <= 15 and f['defining cells with an example, %'] >= 75
    assert f['expression nodes a line, median'] <= 9


def subclasses(package:str, ending:str):
    "Classes of a package whose names have this ending, from its modules as they are imported."
    import importlib
    for m in sorted((PACKAGE/package).glob('[a-z]*.py')):
        room = importlib.import_module(f'mmemo.{package}.{m.stem}')
        yield from (c for n, c in vars(room).items() if n.endswith(ending) and isinstance(c, type) and c.__module__ == room.__name__)


def test_panels_and_configs_have_one_base():
    from mmemo.models.parts import ModelConfig
    from mmemo.panels.parts import Panel
    panels, configs = list(subclasses('panels', 'Panel')), list(subclasses('models', 'Config'))
    assert len(panels) > 7 and all(issubclass(c, Panel) for c in panels), [c for c in panels if not issubclass(c, Panel)]
    assert len(configs) > 6 and all(issubclass(c, ModelConfig) for c in configs), [c for c in configs if not issubclass(c, ModelConfig)]
