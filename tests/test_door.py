"""The front door: `from mmemo import name` for every public name, lazily, from a checkout and from a built wheel."""
import ast, os, subprocess, sys
from pathlib import Path

import pytest

import mmemo

ROOT = Path(__file__).resolve().parent.parent
NAMES = mmemo.__all__


def in_new_process(code:str, **kwargs) -> str:
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, **kwargs).stdout.strip()


def test_every_name_is_there():
    import importlib
    for name in NAMES:
        room, original = mmemo._DOORS[name]
        assert getattr(mmemo, name) is getattr(importlib.import_module(f'mmemo.{room}'), original), name
    assert set(NAMES) <= set(dir(mmemo)), 'completion sees them'
    with pytest.raises(AttributeError, match="no attribute 'trian'"): mmemo.trian


def test_what_issue_and_readme_promise():
    assert {'load_corpus', 'extract', 'train', 'predict', 'compare', 'build', 'load_run', 'attention_panel'} <= set(NAMES)


def test_importing_is_light():
    heavy = "('torch', 'numpy', 'pandas', 'ipywidgets', 'plotly', 'umap', 'transformers')"
    assert in_new_process(f'import sys, mmemo; dir(mmemo); print([m for m in {heavy} if m in sys.modules])', cwd=ROOT) == '[]'
    slow = "('torch', 'ipywidgets', 'plotly', 'umap', 'transformers')"
    one = f'import sys; from mmemo import Corpus, split_by_subject; print([m for m in {slow} if m in sys.modules])'
    assert in_new_process(one, cwd=ROOT) == '[]', 'one name brings its own room and no other'


def test_waiting_threads_sleep():
    "What a person has set stays."
    code = "import os, mmemo; print(os.environ['OMP_WAIT_POLICY'])"
    rest = {k: v for k, v in os.environ.items() if k != 'OMP_WAIT_POLICY'}
    assert in_new_process(code, cwd=ROOT, env=rest) == 'PASSIVE'
    assert in_new_process(code, cwd=ROOT, env=rest | dict(OMP_WAIT_POLICY='ACTIVE')) == 'ACTIVE'


def test_type_checkers_see_the_same():
    tree = ast.parse((ROOT/'mmemo'/'__init__.pyi').read_text())
    stub = {a.asname: (n.module, a.name) for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert stub == mmemo._DOORS


@pytest.mark.slow
def test_from_a_wheel_outside_the_checkout(tmp_path):
    "Built, installed into an empty folder, and each name imported in a process that does not see the checkout."
    build = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '-w', str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob('mmemo-*.whl'))
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--target', str(tmp_path/'site'), str(wheel)], check=True, capture_output=True)
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path/'site')!r})
import mmemo
assert mmemo.__file__.startswith({str(tmp_path)!r}), mmemo.__file__
for name in {NAMES!r}: exec(f'from mmemo import {{name}}')
from importlib.resources import files
assert all(files('mmemo').joinpath('static', f).is_file() for f in {sorted(p.name for p in (ROOT/'mmemo'/'static').iterdir())!r})
print('all of them')"""
    assert in_new_process(code, cwd=tmp_path).endswith('all of them')
