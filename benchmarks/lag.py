"""How late is the voice? The planted lag against what attention, attributions, the input's energy and a detector of onsets and offsets say.

    python benchmarks/lag.py            # reads runs/demo (`make demo` makes it); renders takes for the detector, once, and trains it: half an hour on two cores that have other work, too

Everything here is synthetic. Judged are the clips whose truth table says that both face and voice show something; in about six of ten the lag is exactly 0, so that
"always 0" is a strong guess and stands beside the rest, and figures are given for the clips with a lag apart. What is read from a map, and how, is chosen on the validation
clips by the share within one step of the slower stream; figures are on the test clips, with intervals over subjects.
The detector is no map and explains no model. It reads the same frozen features, and was told onset and offset of thousands of takes of other people, rendered for it; it says what the features hold.
Its lag is the offset at which its onsets and its offsets of face and voice lie over each other best; where that is not settled, it may know how often a planted lag is 0 ("knowing the prior").
Tried, judged on the same test clips: 16,000 voices and 9,600 faces with few XOR clips among them and two nets of each for 12 epochs 0.89, 25,600 voices and three nets for 10 epochs 0.87, and what stands here 0.88.
"""
import multiprocessing, time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from torch import nn

from mmemo.explain.attribution import attribute
from mmemo.explain.map_scores import average_over_subjects, score_attention, smooth_steps
from mmemo.core import atomic_path, write_json
from mmemo.commands.demo import format_figure
from mmemo.features.encoders import load_speech, load_visual
from mmemo.explain.modalities import measure_step
from mmemo.panels.source import open_source
from mmemo.planted.corpus import PlantedConfig, hash_generator, plan_corpus, render_face_take, render_voice_take
from mmemo.explain.truth import PLANTED, gather_judged_clips
from mmemo.explain.voice_lag import WAYS, measure_attention_lags, measure_map_lags
from mmemo.features.batch import pick_rows

GRID = dict(integrated_gradients=[{}, dict(of='log_odds')], gradient_x_input=[{}, dict(of='log_odds')], occlusion=[dict(width=.24), dict(width=.24, of='log_odds')], ablation=[dict(width=.24, of='log_odds')])
SMOOTH = (.04, .08, .12) # seconds
BIN, BINS, REACH_BINS = .02, 120, 16 # the detector's clock: seconds, how many in a clip, how far a lag is looked for
MIDDLES = (torch.arange(BINS) + .5)*BIN
EDGES = np.arange(-.66, .67, .12) # seconds, of the histogram of errors; the outer bins take the rest


@dataclass
class Settings:
    run: Path = Path('runs/demo') # with bicross/ and corpus/ in it
    steps: int = 16 # of integrated gradients
    takes: Path = Path('runs/lag') # where rendered takes are kept
    voices: int = 24000 # clips planned for the detector; takes that are new and show something are fewer
    faces: int = 16000
    generator: int = 74 # of the takes
    epochs: int = 10 # of the detectors
    nets: int = 2 # detectors of each modality, whose probabilities are averaged
    workers: int = 2
    out: Path = Path('benchmarks/results/lag.json')


def both_show(run, split:str): # -> Judged of the clips in which face and voice show something
    "The clips of a split whose lag is known."
    j = gather_judged_clips(open_source(run, split), 0)
    keep = np.flatnonzero(j.clips.lag.notna() & ~np.isnan(j.interval['visual'][:, 0]) & ~np.isnan(j.interval['audio'][:, 0]))
    j.batch, j.clips = pick_rows(j.batch, keep), j.clips.iloc[keep].reset_index(drop=True)
    for each in (j.interval, *j.energy.values()): each.update({m: v[keep] for m, v in each.items()})
    return j


def from_attention(j) -> dict: # name -> (b,) seconds
    "Peaks of the lag curves, and the lag of two curves: how much each step is looked at."
    with torch.no_grad(): maps = j.model(j.batch, maps=True).maps
    heads = {-1: 'mean', -2: 'largest'} | {h: f'head {h + 1}' for h in range(maps[0].weights.shape[1])}
    out = {f'peak of {m.name}, layer {m.layer + 1}, {name}': measure_attention_lags(m, h) for m in maps for h, name in heads.items()}
    return out | from_curves('looked at', {m: score_attention(maps, m) for m in PLANTED}, j, (True,))


def from_curves(name:str, values:dict, j, kinds=(True, False)) -> dict: # modality -> (b, t)
    "Every way of laying two curves over each other."
    out = {}
    for signed, seconds in product(kinds, SMOOTH):
        smooth = {m: smooth_steps(torch.as_tensor(values[m]).float(), j.batch.time[m], j.batch.mask[m], signed, seconds) for m in PLANTED}
        out |= {f"{name}, {'as it is' if signed else 'its size'}, {seconds} s, {way}": measure_map_lags(smooth, j.batch.time, j.batch.mask, way) for way in WAYS}
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


def takes_of(rows:pd.DataFrame, config:PlantedConfig, m:str) -> np.ndarray: # (n, BINS, d) float16; in a process of its own
    "Takes rendered and encoded, never written as clips."
    import cv2
    cv2.setNumThreads(1); torch.set_num_threads(1)
    encoder = (load_speech if m == 'audio' else load_visual)('tiny', precision='fp32', device='cpu')
    def one(r):
        if m == 'visual': return encoder(render_face_take(r, config)), (np.arange(config.frames) + .5)/config.fps
        return encoder(render_voice_take(r, config)[0])[:2]
    return np.stack([on_bins(torch.from_numpy(x)[None], torch.as_tensor(at, dtype=torch.float32))[0].numpy() for x, at in map(one, rows.itertuples(index=False))]).astype(np.float16)


def on_bins(x, at): # (n, t, d), (t,) -> (n, BINS, d)
    "Features at the middle of each bin."
    i = torch.searchsorted(at, MIDDLES).clamp(1, len(at) - 1)
    w = ((MIDDLES - at[i - 1])/(at[i] - at[i - 1])).clamp(0, 1)[:, None]
    return x[:, i - 1]*(1 - w) + x[:, i]*w


def make_takes(m:str, n:int, s) -> tuple: # file of (n, BINS, d) float16, (n, 2) seconds, (n,) in how many clips, (k,) lags of the plan
    "Takes that show something, for so many clips of people of their own, a share of them XOR as among the clips that are judged; kept in a file."
    from tqdm.auto import tqdm
    config = PlantedConfig(seed=s.generator, train_subjects=n//16, train_clips=n//16*16, both=.35/.6, audio=0., video=0., coincidence=0.)
    plan, who = plan_corpus(config).query("split == 'train'"), PLANTED[m]
    shown = plan.query(f"{who}_state != 'Neutral'")
    own, often = shown.drop_duplicates(f'{who}_take'), shown.groupby(f'{who}_take', sort=False).size().to_numpy() # a take of an XOR quartet is in two clips
    file = s.takes/f'{m}-{hash_generator(config)}.npy'
    if not file.is_file():
        parts = [own[i:i + 100] for i in range(0, len(own), 100)]
        with ProcessPoolExecutor(s.workers, mp_context=multiprocessing.get_context('spawn')) as pool:
            x = np.concatenate(list(tqdm(pool.map(partial(takes_of, config=config, m=m), parts), total=len(parts), desc=f'Takes of the {who}, by the hundred')))
        with atomic_path(file) as tmp: np.save(tmp, x)
    return file, own[[f'{who}_onset', f'{who}_offset']].to_numpy(), often, plan.lag.to_numpy()


class Detector(nn.Module):
    "Where evidence begins and where it ends: a distribution over bins for each, from the features of one modality."
    def __init__(self, mean, spread, h:int=64, dropout:float=.2):
        super().__init__()
        self.register_buffer('mean', mean); self.register_buffer('spread', spread)
        self.into, self.drop = nn.Linear(len(mean), h), nn.Dropout(dropout)
        self.convs = nn.ModuleList(nn.Conv1d(h, 2*h, 5, padding=2*2**i, dilation=2**i) for i in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(h) for _ in self.convs)
        self.gru, self.out = nn.GRU(h, h//2, batch_first=True, bidirectional=True), nn.Linear(2*h, 2)

    def forward(self, x): # (n, BINS, d) -> (n, BINS, 2) log-probabilities
        x = self.into(self.drop((x - self.mean)/self.spread))
        for conv, norm in zip(self.convs, self.norms): x = x + self.drop(nn.functional.glu(conv(norm(x).mT), 1).mT)
        return self.out(torch.cat([x, self.gru(x)[0]], -1)).log_softmax(1)


def trained(job:tuple, told:dict, held:dict, s) -> dict: # (modality, seed); of each modality: takes as `make_takes` gives them, clips to be judged on -> weights
    "The detector whose loss on validation is least; in a process of its own."
    (m, seed), soft = job, lambda e: (-.5*((MIDDLES[:, None] - torch.as_tensor(e).float()[:, None])/BIN)**2).softmax(1) # an edge lies between bins
    torch.set_num_threads(1)
    file, edges, often = told[m]
    x, y, order = torch.from_numpy(np.load(file)), soft(edges), torch.from_numpy(np.repeat(np.arange(len(often)), often))
    held_x, held_y = torch.from_numpy(held[m][0]), soft(held[m][1])
    loss = lambda net, x, y: -(y*net(x.float())).sum((1, 2)).mean()
    torch.manual_seed(seed)
    some = x[::8].float()
    net = Detector(some.mean((0, 1)), some.std((0, 1)) + 1e-4)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=.05)
    schedule, best = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=s.epochs*-(-len(order)//64)), (np.inf, None)
    for epoch in range(s.epochs):
        net.train()
        for i in order[torch.randperm(len(order))].split(64):
            optimiser.zero_grad(); loss(net, x[i], y[i]).backward(); nn.utils.clip_grad_norm_(net.parameters(), 1.); optimiser.step(); schedule.step()
        net.eval()
        with torch.no_grad(): now = float(loss(net, held_x, held_y))
        if now < best[0]: best = now, {k: v.clone() for k, v in net.state_dict().items()}
        print(f'detector {seed + 1} of the {PLANTED[m]}, {len(x)} takes, epoch {epoch + 1} of {s.epochs}: validation loss {now:.3f}', flush=True)
    return {k: v.numpy() for k, v in best[1].items()}


def detectors(val, s) -> tuple: # modality -> nets; lags of the plan; how many takes
    "Takes rendered, and detectors trained on them, several at a time."
    takes = {m: make_takes(m, n, s) for m, n in (('audio', s.voices), ('visual', s.faces))}
    told = {m: t[:3] for m, t in takes.items()}
    held = {m: (on_bins(val.batch.x[m].float(), val.batch.time[m][0]).numpy(), val.interval[m]) for m in takes}
    jobs, nets = list(product(takes, range(s.nets))), {m: [] for m in takes}
    with ProcessPoolExecutor(s.workers, mp_context=multiprocessing.get_context('spawn')) as pool:
        for (m, _), weights in zip(jobs, pool.map(partial(trained, told=told, held=held, s=s), jobs)):
            weights = {k: torch.from_numpy(v) for k, v in weights.items()}
            net = Detector(weights['mean'], weights['spread'])
            net.load_state_dict(weights)
            nets[m].append(net.eval())
    return nets, takes['audio'][3], {PLANTED[m]: len(t[1]) for m, t in takes.items()}


def from_detector(nets:dict, lags, j, knowing:bool) -> dict: # lags: of the training plan; knowing: may it use them?
    "The offset at which onsets and offsets of face and voice lie over each other; or every way of weighing that against how often a lag is planted."
    with torch.no_grad(): edges = {m: torch.stack([net(on_bins(j.batch.x[m].float(), j.batch.time[m][0])).exp() for net in nets[m]]).mean(0).numpy() for m in nets}
    f, v, offsets = edges['visual'], edges['audio'], np.arange(-REACH_BINS, REACH_BINS + 1)
    laid = lambda k: (f[:, max(0, -k):BINS - max(0, k)]*v[:, max(0, k):BINS - max(0, -k)]).sum(1) # (n, 2): face and voice k bins apart
    alike = np.log(np.stack([laid(k) for k in offsets], 1) + 1e-6).sum(2)
    zero, rest = (lags == 0).mean(), np.histogram(lags[lags != 0], (np.arange(len(offsets) + 1) - REACH_BINS - .5)*BIN)[0] + 1.
    prior = np.log(rest/rest.sum()*(1 - zero) + zero*(offsets == 0))
    say = lambda fit: offsets[fit.argmax(1)]*BIN
    return {f'what fits times {p}, plus the prior': say(p*alike + prior) for p in (.7, 1., 1.4, 2., 2.8)} if knowing else {'what fits best': say(alike)}


def score(said, j, step:float) -> dict:
    "Errors of one reading as a distribution, and the share within a step."
    error, lagged, who = said - j.clips.lag.to_numpy(), (j.clips.lag != 0).to_numpy(), j.clips.subject
    near = lambda seconds, which: average_over_subjects(np.where(np.isnan(error[which]), 0., np.abs(error[which]) <= seconds + 1e-6), who[which])
    every, known = np.ones(len(error), bool), error[~np.isnan(error)]
    counts = np.histogram(np.clip(known, EDGES[0] + 1e-6, EDGES[-1] - 1e-6), EDGES)[0]
    spread = np.nanstd(said[lagged])
    return dict(within_step=near(step, every), within_step_lagged=near(step, lagged), within_0_1_s=near(.1, every), within_0_1_s_lagged=near(.1, lagged),
                median_abs=float(np.nanmedian(np.abs(error))), quantiles={str(q): float(np.nanquantile(error, q)) for q in (.05, .25, .5, .75, .95)},
                r_lagged=float(np.corrcoef(said[lagged], j.clips.lag[lagged])[0, 1]) if spread > 0 else None, histogram=counts.tolist(), n=len(error), n_lagged=int(lagged.sum()))


def main(s:Settings):
    torch.set_num_threads(1)
    start = time.perf_counter()
    val, test = (both_show(s.run, split) for split in ('val', 'test'))
    step = measure_step(test.batch.time['visual'], test.batch.mask['visual'])
    nets, lags, taught = detectors(val, s)
    sources = {'attention': from_attention, 'attribution': lambda j: from_attribution(j, s.steps), 'energy': from_energy,
               'detector': lambda j: from_detector(nets, lags, j, False), 'detector knowing the prior': lambda j: from_detector(nets, lags, j, True)}
    told = {'always 0': dict(chosen='always 0', compared=1, val=score(np.zeros(len(val.clips)), val, step), test=score(np.zeros(len(test.clips)), test, step))}
    for name, of in sources.items():
        here = {k: score(v, val, step) for k, v in of(val).items()}
        best = max(here, key=lambda k: (here[k]['within_step']['value'], -here[k]['median_abs']))
        told[name] = dict(chosen=best, compared=len(here), val=here[best], test=score(of(test)[best], test, step))
        t = told[name]['test']
        print(f"{name}: {best} (of {len(here)}); validation {here[best]['within_step']['value']:.2f}, test {format_figure(t['within_step'])}", flush=True)
    told = dict(synthetic=True, date=str(date.today()), command='python benchmarks/lag.py', run=str(s.run), chosen_on='val', split='test', takes=taught, step_s=round(step, 4), goal_within_step=.9,
                histogram_edges=EDGES.round(2).tolist(), readings=told, minutes=round((time.perf_counter() - start)/60, 1))
    write_json(s.out, told)
    report(told)


def report(t:dict):
    "The table, printed."
    shown = pd.DataFrame([dict(reading=k, **{'within one step': format_figure(r['test']['within_step']), 'of clips with a lag': format_figure(r['test']['within_step_lagged']), 'within 0.1 s': format_figure(r['test']['within_0_1_s']),
                               'median error (s)': f"{r['test']['median_abs']:.3f}", 'r, clips with a lag': '' if r['test']['r_lagged'] is None else f"{r['test']['r_lagged']:.2f}"}, chosen=r['chosen']) for k, r in t['readings'].items()])
    n = next(iter(t['readings'].values()))['test']
    print(f"\nSynthetic. Error of the lag on {n['n']} test clips, {n['n_lagged']} of them with a lag; one step is {t['step_s']} s; [95 % interval over subjects]\n")
    print(shown.to_string(index=False))
    best = max((k for k in t['readings'] if k != 'always 0'), key=lambda k: t['readings'][k]['test']['within_step_lagged']['value'])
    reached = [k for k, r in t['readings'].items() if r['test']['within_step']['value'] >= t['goal_within_step']]
    print(f"\ngoal {t['goal_within_step']}: {'reached by ' + ', '.join(reached) if reached else 'reached by none of these'}; where there is a lag, {best} says it best. {t['minutes']} min")


if __name__ == '__main__': main(tyro.cli(Settings, description=__doc__))
