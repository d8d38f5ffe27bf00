"""What a forward pass and a training step of every model cost at the shapes of its paper, beside the released code's.

    python benchmarks/steps.py                                       # two to four minutes on two free cores
    python benchmarks/steps.py --models rcma-v1 avtca-paper --repeats 3
    python benchmarks/steps.py --device cuda --precision bf16 --compile

A step is forward, backward and AdamW on noise in the shape of a batch; medians of several, after two that warm up. Peak memory is what the steps add
to the process (on a GPU: what is allocated at most). The released code's milliseconds were taken on two cores in fp32: its fusion block alone at the published
widths (System 3), everything after the face network, and everything from pixels (System 2), and the whole model (MulT, the MMSA re-implementation).
Nothing of it is part of this repository. Run this on a machine that does nothing else.
"""
import os, platform, time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
import tyro

from mmemo.compare import measure_step, noise_batch
from mmemo.core import pick_device, seed_everything, write_json
from mmemo.models import MODELS, build


@dataclass
class Settings:
    models: tuple[str, ...] = () # names; every model where none is given
    repeats: int = 7 # of each pass; the median counts
    device: str = 'cpu' # or cuda
    precision: Literal['fp32', 'bf16'] = 'fp32'
    compile: bool = False # through torch.compile; the compiling itself is not timed
    threads: int = 2 # on a processor
    out: Path|None = None # default: benchmarks/results/steps.json, and steps-DEVICE-PRECISION.json elsewhere


@dataclass
class Case:
    "A model at a shape."
    model: str
    what: str # which part of it
    shapes: dict # modality -> (steps, width), or (steps, 3, h, w)
    batch: int
    task: str = 'expression'
    level: str = 'clip'
    seconds: float = 2.4
    options: dict | None = None
    released_ms: float | None = None # a training step of the released code, two cores, fp32


FRAMES = dict(visual=(60, 512), audio=(120, 768)) # System 1: 60 frames of CLIP, 2.4 s of wav2vec 2.0
WIDTHS = dict(visual=256, audio=128, text=128)
RELEASED3 = dict(widths=WIDTHS, hidden=256, mix='time', length=300, norm='batch', residual=False, channel_dropout=0., head_dropout=0., modality_dropout=0.)


def cases() -> list:
    "Every model; those of papers as the paper has them, the others at the shapes of System 1."
    words, three = dict(text=(50, 768)), dict(visual=(50, 35), audio=(50, 74), text=(50, 768))
    fused = {m: (300, w) for m, w in WIDTHS.items()}
    raw = dict(visual=(300, 512), audio=(300, 128), text=(300, 768))
    whole = lambda m, b: Case(m, 'whole, from pixels', dict(visual=(15, 3, 224, 224), audio=(156, 10)), b, seconds=3.6, options=dict(frontend='pixels'), released_ms=1335)
    part = lambda m: Case(m, 'after the face network', dict(visual=(15, 1024), audio=(156, 10)), 32, seconds=3.6, released_ms=191)
    third = lambda m: (Case(m, 'fusion', fused, 32, 'valence', 'frame', 12., dict(RELEASED3, tcn_levels=0), 1190), Case(m, 'whole', raw, 32, 'valence', 'frame', 12., RELEASED3))
    first = [Case(m, '', FRAMES, 32, level='frame') for m in ('bicross', 'bicross-sequential', 'bicross-diagram', 'visual', 'audio', 'early', 'late', 'tfn', 'lmf')]
    second = [c for m in ('avtca-paper', 'avtca-diagram', 'avtca-code') for c in (part(m), whole(m, 4))]
    rest = [Case('text', '', words, 32), Case('mult', 'aligned', three, 32, 'sentiment', released_ms=697)]
    return first + second + [c for m in ('rcma-v1', 'rjcma-v4', 'rjcma-code') for c in third(m)] + rest


def one(c:Case, s:Settings) -> dict:
    "A row of the table."
    seed_everything(0)
    device = pick_device(s.device)
    dims = {m: shape[-1] for m, shape in c.shapes.items()}
    net = build(c.model, dims=dims, task=c.task, level=c.level, **(c.options or {})).to(device)
    parameters = sum(p.numel() for p in net.parameters())
    batch = noise_batch(c.shapes, c.batch, c.task, c.level, seconds=c.seconds, device=device)
    found = measure_step(torch.compile(net) if s.compile else net, batch, repeats=s.repeats, precision=s.precision)
    shape = ', '.join(f"{m} {' x '.join(map(str, v))}" for m, v in c.shapes.items())
    return dict(model=c.model, part=c.what, shapes=shape, batch=c.batch, parameters=parameters, **found, released_ms=c.released_ms,
                times_faster=c.released_ms and c.released_ms/found['step_ms'])


def conditions(s:Settings) -> dict:
    info = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').is_file() else []
    cpu = next((l.split(':')[1].strip() for l in info if l.startswith('model name')), platform.processor())
    gpu = torch.cuda.get_device_name() if s.device.startswith('cuda') else 'none'
    return dict(date=str(date.today()), cpu=cpu, cores=os.cpu_count(), threads=torch.get_num_threads(), gpu=gpu, precision=s.precision, compiled=s.compile,
                torch=torch.__version__, repeats=s.repeats, load=round(os.getloadavg()[0], 1))


def main(s:Settings):
    torch.set_num_threads(s.threads)
    told = conditions(s)
    print(', '.join(f'{k}: {v}' for k, v in told.items()), flush=True)
    for m in s.models: MODELS.get_or_explain(m)
    chosen = [c for c in cases() if not s.models or c.model in s.models]
    left = [m for m in MODELS if m not in {c.model for c in cases()}] # fitted in one go: there are no steps
    rows = []
    for c in chosen:
        rows.append(one(c, s))
        r = rows[-1]
        print(f"{c.model} {c.what}: forward {r['forward_ms']:.1f} ms, step {r['step_ms']:.1f} ms" + (f", released {c.released_ms:.0f} ms" if c.released_ms else ''), flush=True)
    table = pd.DataFrame(rows)
    print('\n' + table.rename(columns=dict(forward_ms='forward (ms)', step_ms='step (ms)', peak_mb='peak (MB)', released_ms='released (ms)', times_faster='times faster'))
          .drop(columns='shapes').round(1).astype(object).where(lambda t: t.notna(), '').to_string(index=False))
    if left: print(f"Without steps, and so without a row: {', '.join(left)}.")
    name = 'steps.json' if s.device == 'cpu' and not s.compile and s.precision == 'fp32' else f"steps-{s.device}-{s.precision}{'-compiled' if s.compile else ''}.json"
    write_json(s.out or Path('benchmarks/results')/name, dict(told, command='python benchmarks/steps.py', rows=rows))


if __name__ == '__main__': main(tyro.cli(Settings, description=__doc__))
