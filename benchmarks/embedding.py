"""What a map of clips costs beside umap-learn alone, and how soon the stars follow an edited prompt.

    python benchmarks/embedding.py                  # 10,000 vectors of width 512; a few minutes on two cores
    python benchmarks/embedding.py --clips 4500     # a smaller one

The vectors are made up: 8 classes on the unit sphere, so nothing here says how good a map of real clips is. umap-learn alone is `UMAP(...).fit_transform` with the
same settings in the same process, after both have been compiled on 4,200 other vectors. Ours adds the warm-up of `transform`, trustworthiness on 2,000 clips, and the thread.
While ours is laid out, the main thread asks for a turn every 5 ms; how late it gets it is what a panel would feel. A prompt edit is one sentence of one class, never seen before:
the tiny text tower, similarities, accuracy with its interval, and the star's new place. A colour change is what the panel does for one: the same map asked for again, another figure drawn.
"""
import os, platform, time, warnings
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import tyro

from mmemo.core import rng_for, write_json
from mmemo.panels.jobs import JobRunner
from mmemo.explain.embedding import Embedded, MapSettings, PromptBook, edit_prompts, lay_out
from mmemo.features.encoders import load_text
from mmemo.labels import EXPRESSION8, prompts_for
from mmemo.pages.theme import detach_title
from mmemo.pages.explain_plots import plot_embedding


@dataclass
class Settings:
    clips: int = 10_000
    width: int = 512
    edits: int = 20 # prompts typed
    out: Path = Path('benchmarks/results/embedding.json')


def clouds(n:int, width:int, seed) -> tuple: # unit vectors, classes
    rng = rng_for('benchmark-embedding', seed)
    y = rng.integers(8, size=n)
    x = rng.normal(size=(8, width))[y]*.5 + rng.normal(size=(n, width))
    return (x/np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


def alone(x, s:MapSettings) -> float: # seconds
    import umap
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        began = time.perf_counter()
        umap.UMAP(n_neighbors=s.neighbours, min_dist=s.min_dist, metric='cosine', random_state=s.seed, n_jobs=1).fit_transform(x)
    return time.perf_counter() - began


def beside(x, s:MapSettings) -> tuple: # Plane, seconds, ms that the main thread came late each time
    got, late, job, began = [], [], JobRunner(), time.perf_counter()
    job.start(lambda progress: lay_out(x, s, progress), got.append, on_error=got.append)
    while job.busy:
        a = time.perf_counter(); time.sleep(.005); late.append(1e3*(time.perf_counter() - a - .005))
    if isinstance(got[0], Exception): raise got[0]
    return got[0], time.perf_counter() - began, np.array(late)


def edits(x, y, plane, n:int) -> list: # ms each
    tower = load_text('tiny')
    wide = lambda v: np.pad(v, ((0, 0), (0, x.shape[1] - v.shape[1])))
    names = np.array(EXPRESSION8.classes, object)[y]
    clips = Embedded(x, pd.DataFrame(dict(clip_id=np.arange(len(x)).astype(str), label=names, subject=np.arange(len(x)) % 40)), EXPRESSION8, prompts_for(EXPRESSION8))
    book, out = PromptBook(lambda s: wide(tower(s))), []
    edit_prompts(EXPRESSION8, {}, clips, book, plane) # the first stars of all, not timed
    for i in range(n):
        a = time.perf_counter()
        edit_prompts(EXPRESSION8, {EXPRESSION8.classes[i % 8]: [f'a face that looks number {i}']}, clips, book, plane)
        out.append(1e3*(time.perf_counter() - a))
    return out


def colours(x, y, plane, s:MapSettings, n:int=6) -> list: # ms each
    out = []
    for i in range(n):
        column = [np.array(EXPRESSION8.classes, object)[y], np.array([f's{k % 40}' for k in range(len(x))], object), np.arange(len(x))/len(x)][i % 3]
        a = time.perf_counter()
        again = lay_out(x, s)
        assert again is plane, 'a colour change laid the clips out again'
        detach_title(plot_embedding(again.points, column, 'column', line=again.line()))
        out.append(1e3*(time.perf_counter() - a))
    return out


def main(s:Settings):
    load = os.getloadavg()[0]
    own = MapSettings()
    a = time.perf_counter(); alone(clouds(4200, s.width, 'warm')[0], own); lay_out(clouds(4200, s.width, 'warm')[0], own)
    warm, (x, y) = time.perf_counter() - a, clouds(s.clips, s.width, 0)
    umap_s = alone(x, own)
    plane, ours_s, late = beside(x, own)
    typed, drawn = edits(x, y, plane, s.edits), colours(x, y, plane, own)
    found = dict(clips=s.clips, width=s.width, umap_alone_s=umap_s, ours_s=ours_s, ratio=ours_s/umap_s, compile_s=warm, trustworthiness=plane.trust,
                 main_thread_late_ms=dict(median=float(np.median(late)), p99=float(np.percentile(late, 99)), worst=float(late.max())),
                 prompt_edit_ms=dict(median=median(typed), worst=max(typed)), colour_change_ms=dict(median=median(drawn), worst=max(drawn)))
    told = dict(date=str(date.today()), python=platform.python_version(), cores=os.cpu_count(), load_before=round(load, 2), nice=os.nice(0))
    print(f'{s.clips:,} x {s.width}: umap-learn alone {umap_s:.1f} s, ours {ours_s:.1f} s, ratio {ours_s/umap_s:.2f} (compiling both before: {warm:.0f} s)')
    print(f"main thread late meanwhile: median {np.median(late):.1f} ms, 99th percentile {np.percentile(late, 99):.0f} ms, worst {late.max():.0f} ms")
    print(f'prompt edit to new stars: median {median(typed):.0f} ms, worst {max(typed):.0f} ms; colour change, nothing laid out again: median {median(drawn):.0f} ms, worst {max(drawn):.0f} ms')
    print(plane.line()); print(told)
    write_json(s.out, dict(told, command=f'python benchmarks/embedding.py --clips {s.clips} --width {s.width}', **found))


if __name__ == '__main__': main(tyro.cli(Settings, description=__doc__))
