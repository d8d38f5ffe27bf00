"""How fast features are extracted, against the encoder alone and against the plain way; and in how much memory.

CLIP ViT-B/32 with random weights, faces=none, 224 px clips that are written here. Every ratio is taken within one run:
the parts are measured in turn, round after round, and the median of the rounds' ratios is printed. Run it on a machine
that does nothing else.

    python benchmarks/extract.py                  # about six minutes on two cores
    python benchmarks/extract.py --rounds 1 --clips 4
"""
import json, os, platform, subprocess, sys, tempfile, time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro


@dataclass
class Config:
    rounds: int = 3         # of which the medians are printed
    clips: int = 8          # of 64 frames each
    minutes: float = 10.    # of the long clip for the memory figure (0: leave it out)
    arch: str = 'ViT-B-32-quickgelu' # open_clip's name
    haar: bool = True       # also time haar at 720p
    out: Path | None = None # a JSON file for the figures


def film(n, height, width, seed=0):
    "A moving picture with some detail, frame by frame."
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(40, 216, (height//16 + 2, width//16 + 2, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    for t in range(n): yield np.roll(ground, (t % 50, 2*t % 70), (0, 1))[:height, :width]


def write_corpus(root, clips, frames=64, height=224, width=224):
    from mmemo.corpora.manifest import Corpus
    from mmemo.media.files import write_clip
    for i in range(clips): write_clip(root/f'{i}.mp4', film(frames, height, width, i), 25)
    names = [str(i) for i in range(clips)]
    return Corpus('bench', root, pd.DataFrame(dict(clip_id=names, path=[f'{n}.mp4' for n in names])))


def encoder_only(encoder, batches):
    "Frames a second of the encoder on frames that are ready."
    x = torch.randn(encoder.batch, 3, encoder.size, encoder.size).to(encoder.device, encoder.dtype)
    begun = time.perf_counter()
    for _ in range(batches): encoder.encode(x)
    return batches*encoder.batch/(time.perf_counter() - begun)


def end_to_end(corpus, encoder, settings):
    "Frames a second of the whole extraction into an empty cache, the timed probe left out of it."
    from mmemo.features.extract import Extraction, find_missing, run_jobs
    from mmemo.features.reading import make_jobs
    from tqdm.auto import tqdm
    with tempfile.TemporaryDirectory() as cache:
        run, jobs = Extraction({'visual': encoder}, settings, Path(cache)), make_jobs(corpus)
        begun = time.perf_counter()
        find_missing(run, jobs)
        with tqdm(total=len(jobs), disable=True) as bar: run_jobs(run, jobs, bar)
        return run.counts['frames']/(time.perf_counter() - begun)


def plain_way(corpus, model, transform):
    "Clip by clip: decode all, PIL image by image, encode, save."
    import decord, PIL.Image
    frames, begun = 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for row in corpus.clips.itertuples():
            reader = decord.VideoReader(str(corpus.path(row.clip_id)))
            pictures = reader.get_batch(range(len(reader))).asnumpy()
            x = torch.stack([transform(PIL.Image.fromarray(p)) for p in pictures]).to(next(model.parameters()))
            np.save(Path(folder)/f'{row.clip_id}.npy', model(x).float().cpu().numpy())
            frames += len(pictures)
    return frames/(time.perf_counter() - begun)


MEMORY = '''
import json, sys, threading, time
from pathlib import Path
import numpy as np, pandas as pd
from mmemo.features.encoders import load_visual
from mmemo.features.extract import Extraction, find_missing, run_jobs
from mmemo.corpora.manifest import Corpus
from mmemo.features.reading import ExtractSettings, make_jobs
def resident(): return int(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])/1024
encoder, peak, going = load_visual(sys.argv[1]), [0.], True
def look():
    while going: peak[0] = max(peak[0], resident()); time.sleep(.01)
batch = np.zeros((encoder.batch, encoder.size, encoder.size, 3), np.uint8)
for _ in range(2): encoder(batch) # the encoder's own memory, kernels and buffers included
threading.Thread(target=look, daemon=True).start()
encoder(batch); time.sleep(.1)
own = peak[0]
if sys.argv[4] == 'fast': # the pipeline's memory does not depend on how long the encoder thinks
    encoder.encode = lambda x: np.zeros((len(x), encoder.dim), np.float32)
corpus = Corpus('long', Path(sys.argv[2]), pd.DataFrame(dict(clip_id=['long'], path=['long.mp4'])))
run, jobs = Extraction({'visual': encoder}, ExtractSettings(), Path(sys.argv[3])), make_jobs(corpus)
find_missing(run, jobs)
class Bar:
    def update(self): pass
    def set_postfix_str(self, *a, **k): pass
run_jobs(run, jobs, Bar())
going = False
print(json.dumps(dict(own=own, peak=peak[0], frames=run.counts['frames'])))
'''


def memory(folder, root, minutes, fast=True):
    "Resident MB of the encoder alone and of extracting one long clip, in a process of its own."
    from mmemo.media.files import write_clip
    write_clip(root/'long.mp4', film(int(minutes*60*25), 224, 224), 25, preset='ultrafast')
    with tempfile.TemporaryDirectory() as cache:
        out = subprocess.run([sys.executable, '-c', MEMORY, str(folder), str(root), cache, 'fast' if fast else 'full'],
                             capture_output=True, text=True)
    if out.returncode: raise SystemExit(out.stderr)
    return json.loads(out.stdout.splitlines()[-1])


def conditions(config):
    from mmemo.features.encoders import pick_precision
    info = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').is_file() else []
    cpu = next((l.split(':')[1].strip() for l in info if l.startswith('model name')), platform.processor())
    return dict(date=time.strftime('%Y-%m-%d'), cpu=cpu, cores=os.cpu_count(), threads=torch.get_num_threads(),
                torch=torch.__version__, load=round(os.getloadavg()[0], 1),
                gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else 'none',
                auto=pick_precision('auto', 'cuda' if torch.cuda.is_available() else 'cpu'), arch=config.arch,
                clips=f'{config.clips} of 64 frames, 224 px', rounds=config.rounds)


def rates(config, folder, root):
    "One row a round: frames a second of each way, measured in turn."
    import open_clip
    from mmemo.features.encoders import load_visual
    from mmemo.features.reading import ExtractSettings
    corpus = write_corpus(root, config.clips)
    auto, full = load_visual(str(folder)), load_visual(str(folder), precision='fp32')
    transform = open_clip.image_transform(auto.size, is_train=False)
    settings, rows = ExtractSettings(), []
    for e in (auto, full): encoder_only(e, 1) # warm
    for i in range(config.rounds):
        # the encoder alone is measured before and after, so that a machine that changes its speed is fair to both
        half = config.clips//2 or 1
        before, ours, after = encoder_only(auto, half), end_to_end(corpus, auto, settings), encoder_only(auto, half)
        plain = plain_way(corpus, full.model, transform)
        equal = end_to_end(corpus, full, settings)
        rows.append(dict(encoder=2/(1/before + 1/after), ours=ours, ours_fp32=equal, plain_fp32=plain))
        print(f'round {i + 1}: ' + ', '.join(f'{k} {v:.1f}' for k, v in rows[-1].items()) + ' frames/s', flush=True)
    return pd.DataFrame(rows)


def main(config: Config):
    from mmemo.features.encoder_files import write_random_visual
    from mmemo.features.encoders import load_visual
    from mmemo.media.faces import FaceSettings
    from mmemo.features.reading import ExtractSettings
    figures = conditions(config)
    print(', '.join(f'{k}: {v}' for k, v in figures.items()), flush=True)
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        folder = write_random_visual(tmp/'encoder', config.arch)
        table = rates(config, folder, tmp/'clips')
        figures |= {k: float(v) for k, v in table.median().items()}
        figures |= dict(share_of_encoder=float((table.ours/table.encoder).median()),
                        over_plain=float((table.ours/table.plain_fp32).median()),
                        over_plain_equal_precision=float((table.ours_fp32/table.plain_fp32).median()))
        target = '1.9 or more' if figures['auto'] == 'bf16' else '1 or more'
        print(f"end to end / encoder only: {figures['share_of_encoder']:.3f} (to reach: 0.95)")
        print(f"end to end / plain way (fp32): {figures['over_plain']:.2f} (to reach: {target}); "
              f"at equal precision {figures['over_plain_equal_precision']:.3f} (never slower: 1 or more)", flush=True)
        if config.minutes:
            m = memory(folder, tmp, config.minutes)
            figures |= dict(memory_over_encoder_mb=m['peak'] - m['own'])
            print(f"a clip of {config.minutes:g} min ({m['frames']} frames): {m['peak']:.0f} MB resident at most, "
                  f"{m['peak'] - m['own']:.0f} MB over the encoder's own (to reach: 200 or less)", flush=True)
        if config.haar:
            corpus, encoder = write_corpus(tmp/'hd', 2, 64, 720, 1280), load_visual(str(folder))
            figures |= dict(haar_720p=end_to_end(corpus, encoder, ExtractSettings(faces=FaceSettings('haar'))))
            print(f"haar at 720p, apart: {figures['haar_720p']:.1f} frames/s end to end "
                  f"({figures['haar_720p']/encoder_only(encoder, 2):.2f} of the encoder alone)")
    if config.out: config.out.write_text(json.dumps(figures, indent=1))


if __name__ == '__main__': main(tyro.cli(Config))
