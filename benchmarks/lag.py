"""How late is the voice? The planted lag against what attention, attributions, the input's energy and a detector trained on planted intervals say.

    python benchmarks/lag.py            # reads runs/demo (`make demo` makes it); about five minutes of one core

Everything here is synthetic. Judged are the clips whose truth table says that both face and voice show something; in about six of ten the lag is exactly 0, so that
"always 0" is a strong guess and stands beside the rest, and figures are given for the clips with a lag apart. What is read from a map, and how, is chosen on the validation
clips by the share within one step of the slower stream; figures are on the test clips, with intervals over subjects. The detector is no map: it has seen where evidence stands in the training
clips, and tells how much of the lag the model's features hold at all.
"""
import time
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from torch import nn

from mmemo.attribution import attention_steps, attribute, mean_over_subjects, reading
from mmemo.core import write_json
from mmemo.demo import as_text
from mmemo.modalities import step_of
from mmemo.panels import open_source
from mmemo.tcn import TCN
from mmemo.truth import PLANTED, WAYS, attention_lags, judged, map_lags
from mmemo.windows import rows

GRID = dict(integrated_gradients=[{}, dict(of='log_odds')], gradient_x_input=[{}, dict(of='log_odds')], occlusion=[dict(width=.24), dict(width=.24, of='log_odds')], ablation=[dict(width=.24, of='log_odds')])
SMOOTH = (.04, .08, .12) # seconds
EDGES = np.arange(-.66, .67, .12) # seconds, of the histogram of errors; the outer bins take the rest


@dataclass
class Settings:
    run: Path = Path('runs/demo') # with bicross/ and corpus/ in it
    steps: int = 16 # of integrated gradients
    epochs: int = 40 # of the detector
    out: Path = Path('benchmarks/results/lag.json')


def both_show(run, split:str): # -> Judged of the clips in which face and voice show something
    "The clips of a split whose lag is known."
    j = judged(open_source(run, split), 0)
    keep = np.flatnonzero(j.clips.lag.notna() & ~np.isnan(j.interval['visual'][:, 0]) & ~np.isnan(j.interval['audio'][:, 0]))
    j.batch, j.clips = rows(j.batch, keep), j.clips.iloc[keep].reset_index(drop=True)
    for each in (j.interval, *j.energy.values()): each.update({m: v[keep] for m, v in each.items()})
    return j


def from_attention(j) -> dict: # name -> (b,) seconds
    "Peaks of the lag curves, and the lag of two curves: how much each step is looked at."
    with torch.no_grad(): maps = j.model(j.batch, maps=True).maps
    heads = {-1: 'mean', -2: 'largest'} | {h: f'head {h + 1}' for h in range(maps[0].weights.shape[1])}
    out = {f'peak of {m.name}, layer {m.layer + 1}, {name}': attention_lags(m, h) for m in maps for h, name in heads.items()}
    return out | from_curves('looked at', {m: attention_steps(maps, m) for m in PLANTED}, j, (True,))


def from_curves(name:str, values:dict, j, kinds=(True, False)) -> dict: # modality -> (b, t)
    "Every way of laying two curves over each other."
    out = {}
    for signed, seconds in product(kinds, SMOOTH):
        smooth = {m: reading(torch.as_tensor(values[m]).float(), j.batch.time[m], j.batch.mask[m], signed, seconds) for m in PLANTED}
        out |= {f"{name}, {'as it is' if signed else 'its size'}, {seconds} s, {way}": map_lags(smooth, j.batch.time, j.batch.mask, way) for way in WAYS}
    return out


def from_attribution(j, steps:int) -> dict:
    "The same from what each step contributed."
    out = {}
    for method, grid in GRID.items():
        for how in grid:
            found = attribute(j.model, j.batch, method=method, steps=steps, internal_batch=64, **how)
            out |= from_curves(' '.join([method.replace('_', ' '), *(f'{k}={v}' for k, v in how.items())]), found.values, j)
    return out


def from_energy(j) -> dict:
    "The same from what the input does by itself."
    e = j.energy
    lifted = {m: v - v.min() for m, v in dict(visual=e['pixels move']['visual'], audio=e['loudness']['audio']).items()}
    return from_curves('features change', e['features change'], j, (True,)) | from_curves('pixels move and loudness', lifted, j, (True,))


class Detector(nn.Module):
    "Does this step show something? Trained on planted intervals, one modality at a time."
    def __init__(self, scale, d:int, kernel:int):
        super().__init__()
        self.scale, self.into, self.tcn, self.out = scale, nn.Linear(d, 32), TCN(32, 32, 3, kernel, .2, False), nn.Linear(32, 1)

    def forward(self, x, mask):
        h = self.into(self.scale(x, mask))
        return self.out(self.tcn(h, mask) + h)[..., 0]


def detector(m:str, train, val, epochs:int): # -> (Judged -> (b, t) log-odds)
    "The one whose loss on validation is least."
    inside = lambda j: torch.as_tensor((j.batch.time[m].numpy() >= j.interval[m][:, :1]) & (j.batch.time[m].numpy() < j.interval[m][:, 1:])).float()
    x, mask, y = train.batch.x[m].float(), train.batch.mask[m], inside(train)
    loss = lambda said, y, mask: (nn.functional.binary_cross_entropy_with_logits(said, y, reduction='none')*mask).sum()/mask.sum()
    torch.manual_seed(0)
    net = Detector(train.model.streams[m].scale, x.shape[-1], 5 if m == 'visual' else 9)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=.02)
    schedule, best = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs), (np.inf, None)
    for _ in range(epochs):
        net.train()
        for i in torch.randperm(len(x)).split(32):
            optimiser.zero_grad(); loss(net(x[i], mask[i]), y[i], mask[i]).backward(); optimiser.step()
        schedule.step(); net.eval()
        with torch.no_grad(): held = float(loss(net(val.batch.x[m].float(), val.batch.mask[m]), inside(val), val.batch.mask[m]))
        if held < best[0]: best = held, {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(best[1])
    print(f'detector of the {PLANTED[m]}: validation loss {best[0]:.3f}', flush=True)
    def say(j):
        with torch.no_grad(): return net(j.batch.x[m].float(), j.batch.mask[m])
    return say


def score(said, j, step:float) -> dict:
    "Errors of one reading as a distribution, and the share within a step."
    error, lagged, who = said - j.clips.lag.to_numpy(), (j.clips.lag != 0).to_numpy(), j.clips.subject
    near = lambda seconds, which: mean_over_subjects(np.where(np.isnan(error[which]), 0., np.abs(error[which]) <= seconds + 1e-6), who[which])
    every, known = np.ones(len(error), bool), error[~np.isnan(error)]
    counts = np.histogram(np.clip(known, EDGES[0] + 1e-6, EDGES[-1] - 1e-6), EDGES)[0]
    spread = np.nanstd(said[lagged])
    return dict(within_step=near(step, every), within_step_lagged=near(step, lagged), within_0_1_s=near(.1, every), within_0_1_s_lagged=near(.1, lagged),
                median_abs=float(np.nanmedian(np.abs(error))), quantiles={str(q): float(np.nanquantile(error, q)) for q in (.05, .25, .5, .75, .95)},
                r_lagged=float(np.corrcoef(said[lagged], j.clips.lag[lagged])[0, 1]) if spread > 0 else None, histogram=counts.tolist(), n=len(error), n_lagged=int(lagged.sum()))


def main(s:Settings):
    torch.set_num_threads(1)
    start = time.perf_counter()
    train, val, test = (both_show(s.run, split) for split in ('train', 'val', 'test'))
    step = step_of(test.batch.time['visual'], test.batch.mask['visual'])
    detect = {m: detector(m, train, val, s.epochs) for m in PLANTED}
    sources = dict(attention=from_attention, attribution=lambda j: from_attribution(j, s.steps), energy=from_energy,
                   detector=lambda j: from_curves('detector', {m: f(j) for m, f in detect.items()}, j, (True,)))
    told = {'always 0': dict(chosen='always 0', compared=1, val=score(np.zeros(len(val.clips)), val, step), test=score(np.zeros(len(test.clips)), test, step))}
    for name, of in sources.items():
        here = {k: score(v, val, step) for k, v in of(val).items()}
        best = max(here, key=lambda k: (here[k]['within_step']['value'], -here[k]['median_abs']))
        told[name] = dict(chosen=best, compared=len(here), val=here[best], test=score(of(test)[best], test, step))
        t = told[name]['test']
        print(f"{name}: {best} (of {len(here)}); validation {here[best]['within_step']['value']:.2f}, test {as_text(t['within_step'])}", flush=True)
    told = dict(synthetic=True, date=str(date.today()), command='python benchmarks/lag.py', run=str(s.run), chosen_on='val', split='test', step_s=round(step, 4), goal_within_step=.9,
                histogram_edges=EDGES.round(2).tolist(), readings=told, minutes=round((time.perf_counter() - start)/60, 1))
    write_json(s.out, told)
    report(told)


def report(t:dict):
    "The table, printed."
    shown = pd.DataFrame([dict(reading=k, **{'within one step': as_text(r['test']['within_step']), 'of clips with a lag': as_text(r['test']['within_step_lagged']), 'within 0.1 s': as_text(r['test']['within_0_1_s']),
                               'median error (s)': f"{r['test']['median_abs']:.3f}", 'r, clips with a lag': '' if r['test']['r_lagged'] is None else f"{r['test']['r_lagged']:.2f}"}, chosen=r['chosen']) for k, r in t['readings'].items()])
    n = next(iter(t['readings'].values()))['test']
    print(f"\nSynthetic. Error of the lag on {n['n']} test clips, {n['n_lagged']} of them with a lag; one step is {t['step_s']} s; [95 % interval over subjects]\n")
    print(shown.to_string(index=False))
    best = max((k for k in t['readings'] if k != 'always 0'), key=lambda k: t['readings'][k]['test']['within_step_lagged']['value'])
    reached = [k for k, r in t['readings'].items() if r['test']['within_step']['value'] >= t['goal_within_step']]
    print(f"\ngoal {t['goal_within_step']}: {'reached by ' + ', '.join(reached) if reached else 'reached by none of these'}; where there is a lag, {best} says it best. {t['minutes']} min")


if __name__ == '__main__': main(tyro.cli(Settings, description=__doc__))
