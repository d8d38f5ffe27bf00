"""Workbench notebooks: their form, and a run from top to bottom in a real kernel."""
import json, os, re
from pathlib import Path

import nbformat
import pytest

from small_run import guided_run, small_run

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT/'nbs'/'workbench').glob('*.ipynb'))
PANELS = dict(start='ClipPanel', attention='ClipPanel', what_if='WhatIfPanel', errors='ErrorsPanel', attribution='AttributionPanel', truth='TruthPanel', train_live='TrainPanel', your_video='VideoPanel', embedding='EmbeddingPanel') # what each notebook calls `panel`
QUICKLY = dict(truth=dict(clips=8), embedding=dict(method='pca')) # notebook -> parameters that make it quick
RUNS = dict(embedding=guided_run) # notebook -> a run that it needs

@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_it_defines_nothing_and_stores_nothing(path):
    nb = nbformat.read(path, 4)
    code = [c for c in nb.cells if c.cell_type == 'code']
    assert len(nb.cells) <= 15 and nb.cells[0].cell_type == 'markdown' and nb.cells[0].source.startswith('# ')
    assert not [c for c in code if re.search(r'^\s*(def|class|async def)\b', c.source, re.M)], 'a workbench notebook defines nothing'
    assert not any(c.outputs or c.execution_count for c in code) and 'widgets' not in nb.metadata
    assert sum('parameters' in c.metadata.get('tags', []) for c in code) == 1
    assert any('panel.state' in c.source or 'panel.selection' in c.source for c in code)


def run_notebook(path, folder, **parameters):
    "All cells in a real kernel, with some of the parameters changed."
    from nbclient import NotebookClient
    nb = nbformat.read(path, 4)
    at = next(i for i, c in enumerate(nb.cells) if 'parameters' in c.metadata.get('tags', []))
    nb.cells.insert(at + 1, nbformat.v4.new_code_cell('\n'.join(f'{k} = {v!r}' for k, v in parameters.items())))
    nb.cells.append(nbformat.v4.new_code_cell('print(type(panel).__name__)'))
    os.environ['PYTHONPATH'] = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    NotebookClient(nb, timeout=180, kernel_name='python3', resources=dict(metadata=dict(path=str(folder)))).execute()
    return nb


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs_in_a_kernel(path, tmp_path):
    nb = run_notebook(path, tmp_path, run=str(RUNS.get(path.stem, small_run)()), **QUICKLY.get(path.stem, {}))
    outputs = [o for c in nb.cells for o in c.get('outputs', [])]
    shown = [o for o in outputs if 'application/vnd.jupyter.widget-view+json' in o.get('data', {})]
    assert len(shown) == 1
    assert nb.cells[-1].outputs[0].text.strip() == PANELS[path.stem]
    assert 'Traceback' not in str(nb)
    assert max(len(json.dumps(o)) for o in outputs) < 200_000


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_without_a_run_it_says_make_demo(path, tmp_path):
    nb = run_notebook(path, tmp_path, run='runs/none')
    assert nb.cells[-1].outputs[0].text.strip() == 'NoPanel'
    assert 'make demo' in str(nb)
