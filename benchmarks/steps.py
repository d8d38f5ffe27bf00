"""What a forward pass and a training step of every model cost at the shapes of its paper, beside the released code's.

    python benchmarks/steps.py                                       # two to four minutes on two free cores
    python benchmarks/steps.py --models rcma-v1 avtca-paper --repeats 3
    python benchmarks/steps.py --device cuda --precision bf16 --compile

A step is forward, backward and AdamW on noise in the shape of a batch; medians of several, after two that warm up. Peak memory is what the steps add
to the process (on a GPU: what is allocated at most). The released code's milliseconds were taken on two cores in fp32, on another machine: its fusion block alone at the published
widths (System 3), everything after the face network, and everything from pixels (System 2), and the whole model (MulT, the MMSA re-implementation).
Nothing of it is part of this repository. So that machines can be told apart, `as described` is measured in the same run: System 3's released fusion, plainly
written by us from what it computes (two layers, and the product that is thrown away). The paper has three steps where the release has two; both are measured.
Run this on a machine that does nothing else.
"""
import os, platform
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
import tyro
from torch import nn

from mmemo.training.step_cost import make_noise_batch, measure_step, time_median
from mmemo.core import pick_device, seed_everything, write_json
from mmemo.models.registry import MODELS, build


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
    fusion = lambda m, what, **o: Case(m, what, fused, 32, 'valence', 'frame', 12., dict(RELEASED3, tcn_levels=0, **o), 1190)
    third = lambda m: (fusion(m, 'fusion'), *([] if m == 'rjcma-code' else [fusion(m, 'fusion, two steps', recursion=2)]), Case(m, 'whole', raw, 32, 'valence', 'frame', 12., RELEASED3))
    first = [Case(m, '', FRAMES, 32, level='frame') for m in ('bicross', 'bicross-sequential', 'bicross-paper', 'visual', 'audio', 'early', 'late', 'tfn', 'lmf')]
    second = [c for m in ('avtca-paper', 'avtca-diagram', 'avtca-code') for c in (part(m), whole(m, 4))]
    rest = [Case('text', '', words, 32), Case('mult', 'aligned', three, 32, 'sentiment', released_ms=697)]
    return first + second + [c for m in ('rcma-v1', 'rjcma-v4', 'rjcma-code') for c in third(m)] + rest


class AsDescribed(nn.Module):
    "One layer of System 3's released fusion, with the query layer whose result nobody reads."
    def __init__(self, widths, length:int, wide:int):
        super().__init__()
        self.query, self.drop, self.root = nn.Linear(wide, wide), nn.Dropout(.6), wide**.5
        self.key, self.value, self.back = (nn.ModuleList(nn.Linear(*size(d)) for d in widths) for size in (lambda d: (length, length), lambda d: (d, d), lambda d: (wide, d)))

    def forward(self, X:list) -> list: # [(b, t, d_m)]
        joint, new = torch.cat(X, -1), []
        self.query(joint)
        for x, key, value, back in zip(X, self.key, self.value, self.back):
            scores = self.drop(torch.tanh(key(x.mT) @ joint / self.root))
            new.append(x + self.drop(torch.relu(back(torch.relu(torch.tanh(value(x) @ scores))))))
        return new


def reference(s:Settings, batch:int=32, length:int=300) -> float:
    "Milliseconds of a training step of the fusion as released: two layers, a hidden layer with batch norm, one value a frame."
    seed_everything(0)
    device = pick_device(s.device)
    layers = nn.ModuleList(AsDescribed(WIDTHS.values(), length, 512) for _ in range(2))
    head = nn.ModuleDict(dict(lift=nn.Linear(512, 256), norm=nn.BatchNorm1d(256), out=nn.Linear(256, 1)))
    net = nn.ModuleList([layers, head]).to(device)
    X, y = [torch.randn(batch, length, d, device=device) for d in WIDTHS.values()], torch.rand(batch, length, 1, device=device)
    optimiser = torch.optim.Adam(net.parameters())
    def step():
        h = X
        with torch.autocast(device.type, torch.bfloat16, enabled=s.precision == 'bf16'):
            for layer in layers: h = layer(h)
            h = head['norm'](head['lift'](torch.cat(h, -1)).mT).mT
            loss = (torch.tanh(head['out'](nn.functional.leaky_relu(h))) - y).square().mean()
        loss.backward(); optimiser.step(); optimiser.zero_grad()
    return time_median(step, s.repeats, device)


def one(c:Case, s:Settings) -> dict:
    "A row of the table."
    seed_everything(0)
    device = pick_device(s.device)
    dims = {m: shape[-1] for m, shape in c.shapes.items()}
    net = build(c.model, dims=dims, task=c.task, level=c.level, **(c.options or {})).to(device)
    parameters = sum(p.numel() for p in net.parameters())
    batch = make_noise_batch(c.shapes, c.batch, c.task, c.level, seconds=c.seconds, device=device)
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
    rows, plain = [], reference(s) if any('fusion' in c.what for c in chosen) else None
    if plain: print(f'System 3, released fusion as described: step {plain:.1f} ms here, 1190 ms where it was measured', flush=True)
    for c in chosen:
        rows.append(one(c, s))
        r = rows[-1]
        r['times_faster_here'] = plain/r['step_ms'] if 'fusion' in c.what else None
        print(f"{c.model} {c.what}: forward {r['forward_ms']:.1f} ms, step {r['step_ms']:.1f} ms" + (f", released {c.released_ms:.0f} ms" if c.released_ms else ''), flush=True)
    table = pd.DataFrame(rows)
    print('\n' + table.rename(columns=dict(forward_ms='forward (ms)', step_ms='step (ms)', peak_mb='peak (MB)', released_ms='released (ms)', times_faster='times faster', times_faster_here='than described, here'))
          .drop(columns='shapes').round(1).astype(object).where(lambda t: t.notna(), '').to_string(index=False))
    if left: print(f"Without steps, and so without a row: {', '.join(left)}.")
    name = 'steps.json' if s.device == 'cpu' and not s.compile and s.precision == 'fp32' else f"steps-{s.device}-{s.precision}{'-compiled' if s.compile else ''}.json"
    write_json(s.out or Path('benchmarks/results')/name, dict(told, command='python benchmarks/steps.py' + (f' --precision {s.precision}' if s.precision != 'fp32' else '') + ' --compile'*s.compile, as_described_ms=plain, rows=rows))


if __name__ == '__main__': main(tyro.cli(Settings, description=__doc__))
