"""How fast the workbench answers a hand: JupyterLab in a real Chromium on the demo's run.

    make demo && python benchmarks/workbench.py              # two minutes; on a machine that does nothing else, for what others compute there is waited for here

Everything is timed in the page by `performance.now()`, from the event of the hand (the mouse button let go, the choice made) to the first animation frame in which the picture is another one.
Click: the canvas of the player (map, sound, words, label, curve) shows another clip; the plane holds 384 synthetic clips of the demo's test split. Each click is on a clip that was not clicked before;
`again` are the same clips a second time, when their evidence is kept. `film` is when the first frame of the clip's film can be shown. The very first click, which makes the player, is told apart.
Prompt: from the click on Apply, with a sentence never read before, until the star stands elsewhere. Typing: from the last letter, with the pause of 0.25 s that the panel waits for more. Colour: from the choice
of another column until the plane wears it. Laid out by UMAP; the time until UMAP stands in the place of PCA after the notebook began is told too.
Errors: from a click on a cell of the confusion matrix, no cell twice, until its clips stand below. Attribution: from a click on "next clip" until the frames of a clip never seen before are there, and, on further
clips, until its contributions by integrated gradients are.
"""
import os, platform, sys, tempfile, time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import tyro

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT/'tests'/'ui')]
from conftest import CHROMIUM, open_and_run, running_lab, stand_in
from mmemo.core import default_cache, write_json
from mmemo.panels.source import find_run


@dataclass
class Settings:
    run: str = 'runs/demo'
    clicks: int = 15 # on different clips
    edits: int = 12
    colours: int = 8
    cells: int = 12 # of the confusion matrix
    clips: int = 12 # of the attribution panel
    out: Path = Path('benchmarks/results/workbench.json')


WATCH = """() => {
  const plane = () => document.querySelector('.mmemo-figure');
  const canvas = () => { const c = document.querySelector('.mm-stage canvas'); if (!c || !c.width) return ''; const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let h = c.width * 31 + c.height; for (let i = 0; i < d.length; i += 211) h = (h * 33 + d[i]) | 0; return String(h); };
  const stars = () => { const t = plane()._fullData.find(t => t.name === 'prompts'); return [...t.x, ...t.y].join(); };
  const colour = () => plane()._fullData.map(t => t.name + t.marker.symbol + t.marker.color).join();
  const at = (i) => document.querySelectorAll('.mmemo-figure')[i];
  const sheet = () => JSON.stringify([(at(4).layout?.annotations ?? []).map(a => a.text), at(4)._fullData?.map(t => t.customdata)]);
  const strip = () => JSON.stringify((at(0).layout?.images ?? []).map(i => i.source.length)), rows = () => JSON.stringify(at(1)._fullData.map(t => t.z ?? t.y));
  window.looks = { canvas, stars, colour, sheet, strip, rows };
  window.timed = (kind, event) => { // resolves with milliseconds from the event to the first frame that looks otherwise
    const before = window.looks[kind]();
    window.answer = new Promise((done) => document.addEventListener(event, () => {
      const began = performance.now(), video = document.querySelector('.mm-screen video'), told = { picture: null, film: null };
      const ready = () => { if (told.picture !== null) { told.film ??= performance.now() - began; } };
      video?.addEventListener('loadeddata', () => told.film = performance.now() - began, { once: true });
      const look = () => {
        if (told.picture === null && window.looks[kind]() !== before) told.picture = performance.now() - began;
        if (told.picture !== null && (kind !== 'canvas' || told.film !== null || performance.now() - began > 3000)) return done(told);
        if (performance.now() - began > 15000) return done(told);
        requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    }, { once: true, capture: true }));
  };
}"""
CELLS = """() => { const g = document.querySelectorAll('.mmemo-figure')[0], a = g._fullLayout, box = g.getBoundingClientRect(), d = g._fullData[0];
  return d.y.flatMap((y, i) => d.x.map((x, j) => ({ full: d.z[i][j] > 0, at: [box.left + a.xaxis._offset + a.xaxis.d2p(x), box.top + a.yaxis._offset + a.yaxis.d2p(y)] }))) }"""
POINTS = """() => { const g = document.querySelector('.mmemo-figure'), f = g._fullLayout, box = g.getBoundingClientRect();
  return g._fullData.flatMap(t => t.customdata.map((c, i) => ({ id: c[0], at: [box.left + f.xaxis._offset + f.xaxis.l2p(t.x[i]), box.top + f.yaxis._offset + f.yaxis.l2p(t.y[i])] }))) }"""


def lone_points(page, n:int) -> list: # (x, y) of clips that no other point covers
    points = page.evaluate(POINTS)
    at = np.array([p['at'] for p in points])
    gap = (np.linalg.norm(at[:, None] - at[None], axis=-1) + 1e9*np.eye(len(at))).min(1)
    order = [i for i in np.argsort(-gap) if points[i]['id']]
    return [points[i]['at'] for i in order[:n]]


def timed(page, kind:str, event:str, do) -> dict: # milliseconds: picture, film
    page.wait_for_timeout(400) # a hand rests, too
    page.evaluate('([k, e]) => { window.timed(k, e) }', [kind, event])
    do()
    return page.evaluate('() => window.answer')


def choose(page, label:str, value:str): page.locator('.widget-dropdown', has=page.locator(f'label:text-is("{label}")')).locator('select').select_option(label=value)


def measure(page, s:Settings) -> dict:
    "All times of one session."
    page.evaluate(WATCH)
    at = lone_points(page, s.clicks + 1)
    click = lambda p: timed(page, 'canvas', 'mouseup', lambda: page.mouse.click(*p))
    first, clicks = click(at[0]), [click(p) for p in at[1:]]
    again = [click(p) for p in at[1:]]
    text, apply = page.locator('.widget-textarea textarea'), page.get_by_role('button', name='Apply')
    words = ['face', 'person', 'angry', 'happy', 'sad', 'photo', 'close', 'expression', 'neutral', 'surprised', 'feels', 'looks']
    def edit(i):
        text.fill(f'a {words[i % 12]} {words[(i + 5) % 12]} {words[(i*7 + 2) % 12]}'); page.wait_for_timeout(200)
        return timed(page, 'stars', 'click', apply.click)
    edits = [edit(i) for i in range(s.edits)]
    page.get_by_text('while typing').click()
    typed = [timed(page, 'stars', 'input', lambda i=i: text.fill(f'the {words[i % 12]} of a {words[(i + 3) % 12]} {words[(i*5 + 1) % 12]}')) for i in range(s.edits)]
    columns = ['predicted', 'subject', 'error', 'label']
    colours = [timed(page, 'colour', 'change', lambda i=i: choose(page, 'colour', columns[i % 4])) for i in range(s.colours)]
    return dict(first=first, click=clicks, again=again, prompt=edits, typing=typed, colour=colours)


def measure_errors(page, s:Settings) -> dict:
    "From a cell to its clips."
    page.evaluate(WATCH)
    page.locator('.mmemo-figure').first.scroll_into_view_if_needed()
    cells = [c['at'] for c in page.evaluate(CELLS) if c['full']]
    def click(p):
        page.mouse.move(p[0] - 3, p[1]); page.mouse.move(*p)
        return timed(page, 'sheet', 'mouseup', lambda: page.mouse.click(*p))
    return dict(cell=[click(p) for p in cells[:s.cells]])


def measure_attribution(page, s:Settings) -> dict:
    "From one clip to the next: its frames, and what each moment contributed."
    page.evaluate(WATCH)
    step = page.locator('.jupyter-button[title="next clip"]')
    def on(kind):
        page.wait_for_timeout(600) # pixels of the clip before are still worked out
        return timed(page, kind, 'click', step.click)
    return dict(frames=[on('strip') for _ in range(s.clips)], contributions=[on('rows') for _ in range(s.clips)])


def summary(found:dict) -> dict:
    "Medians and the worst, in milliseconds."
    figure = lambda rows, k: dict(median=round(median(r[k] for r in rows), 1), worst=round(max(r[k] for r in rows), 1), n=len(rows))
    lost = {k: sum(r['picture'] is None for r in rows) for k, rows in found.items() if isinstance(rows, list)}
    if any(lost.values()): raise SystemExit(f'no answer within 15 s: {lost}')
    out = {f'{k}_ms': figure(rows, 'picture') for k, rows in found.items() if isinstance(rows, list)}
    seen = [r for r in found.get('click', []) if r['film'] is not None]
    return out | (dict(film_ms=figure(seen, 'film') if seen else None, first_click_ms=round(found['first']['picture'], 1)) if 'first' in found else {})


def first_panel(nb):
    "What follows the first panel asks for other clips."
    at = next(i for i, c in enumerate(nb.cells) if 'parameters' in c.metadata.get('tags', []))
    nb.cells = nb.cells[:at + 2]


def main(s:Settings):
    from playwright.sync_api import sync_playwright
    load, run = os.getloadavg()[0], find_run(s.run).resolve()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place, sync_playwright() as play:
        folder, home = Path(place)/'notebooks', Path(place)/'home'
        folder.mkdir(); home.mkdir()
        for name in ('embedding', 'errors', 'attribution'):
            stand_in(folder, name, run, first_panel if name == 'attribution' else lambda nb: None)
        browser = play.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        with running_lab(folder, home, default_cache()) as lab:
            page = browser.new_page(viewport=dict(width=1280, height=1400))
            began = time.perf_counter()
            open_and_run(page, lab, 'embedding.ipynb', '.mmemo-figure .main-svg')
            shown = time.perf_counter() - began
            page.get_by_text('UMAP, ').wait_for(timeout=240_000)
            laid = time.perf_counter() - began
            page.wait_for_timeout(2000)
            found = summary(measure(page, s))
            page.close()
            for name, of in (('errors', measure_errors), ('attribution', measure_attribution)):
                page = browser.new_page(viewport=dict(width=1280, height=1400))
                open_and_run(page, lab, f'{name}.ipynb', '.mmemo-figure .main-svg')
                page.wait_for_timeout(4000)
                found |= summary(of(page, s))
                page.close()
            version = browser.version
        browser.close()
    told = dict(date=str(date.today()), command='python benchmarks/workbench.py', cores=os.cpu_count(), load_before=round(load, 2), load_after=round(os.getloadavg()[0], 2), python=platform.python_version(), browser=f'Chromium {version}', window='1280 x 1400')
    figures = dict(found, plane_shown_s=round(shown, 1), umap_shown_s=round(laid, 1))
    for k, target in (('click', 150), ('again', 150), ('film', None), ('prompt', 500), ('typing', 500), ('colour', None), ('cell', 150), ('frames', 150), ('contributions', 150)):
        f = figures[f'{k}_ms']
        if f: print(f"{k}: median {f['median']:.0f} ms, worst {f['worst']:.0f} ms, {f['n']} times" + (f' (wanted: {target} ms)' if target else ''))
    print(f"first click of all, which makes the player: {figures['first_click_ms']:.0f} ms; plane after {shown:.1f} s, UMAP in it after {laid:.1f} s"); print(told)
    write_json(s.out, dict(told, **figures))


if __name__ == '__main__': main(tyro.cli(Settings, description=__doc__))
