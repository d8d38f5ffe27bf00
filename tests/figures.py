"""Run notebooks and keep what they show: `python tests/figures.py nbs/50_models/01_attention.ipynb ...`

Every plotly figure is stored as PNG beside plotly's own data, for a git host and a printed page show nothing of the latter. Progress bars and
warnings are not kept. Needs a Chromium for the pictures (kaleido finds it)."""
import base64, io, re, sys, tempfile
from pathlib import Path

import nbformat
import plotly.graph_objects as go
from nbclient import NotebookClient

PLOTLY = 'application/vnd.plotly.v1+json'
WIDTH, SCALE = 860, 1.25 # of a picture: columns of a notebook's page


def picture(data:dict) -> str: # plotly's JSON -> base64 of a PNG
    figure = go.Figure({k: v for k, v in data.items() if k in ('data', 'layout')})
    return base64.b64encode(figure.to_image('png', width=figure.layout.width or WIDTH, scale=SCALE)).decode()


def lighter(png:str, most:int=90_000) -> str: # base64 -> base64; 256 colours where it is larger than that
    data = base64.b64decode(png)
    if len(data) <= most: return png
    from PIL import Image
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).convert('RGB').quantize(256).save(out, 'PNG', optimize=True)
    return base64.b64encode(out.getvalue()).decode() if out.tell() < len(data) else png


def teaches(output, had_some:bool) -> bool: # figures and tables, what was printed, and a plain value where one was kept before
    if output.output_type == 'stream': return output.name == 'stdout'
    data = output.get('data', {})
    return 'application/vnd.jupyter.widget-view+json' not in data and (had_some or bool(set(data) - {'text/plain'}))


def hide_scratch(output): # the name of a temporary folder is another one at every run
    if output.output_type == 'stream':
        output.text = re.sub(rf'{re.escape(tempfile.gettempdir())}/tmp\w+', '/tmp/scratch', output.text)


def keep_figures(path:Path):
    "Execute the notebook in its folder and store its outputs."
    notebook = nbformat.read(path, 4)
    before = {c.id for c in notebook.cells if c.get('outputs')}
    NotebookClient(notebook, timeout=600, kernel_name='python3', resources=dict(metadata=dict(path=str(path.parent)))).execute()
    for cell in notebook.cells:
        if cell.cell_type != 'code': continue
        cell.outputs = [o for o in cell.outputs if teaches(o, cell.id in before)]
        cell.execution_count = None
        cell.metadata.pop('execution', None)
        for o in cell.outputs:
            hide_scratch(o)
            if 'execution_count' in o: o.execution_count = None
            if PLOTLY in o.get('data', {}): o.data['image/png'] = picture(o.data[PLOTLY])
            if 'image/png' in o.get('data', {}):
                o.data['image/png'] = lighter(o.data['image/png'])
                o.data.pop('image/jpeg', None) # the same picture again
    notebook.metadata = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    text = nbformat.writes(notebook)
    path.write_text(text if text.endswith('\n') else text + '\n')


if __name__ == '__main__':
    if not sys.argv[1:] or not all(Path(a).is_file() for a in sys.argv[1:]):
        raise SystemExit('Name notebooks that are there: python tests/figures.py nbs/50_models/01_attention.ipynb ... (or make figures NB=...)')
    for name in sys.argv[1:]:
        keep_figures(Path(name))
        print(name)
