"""Frames a CPU second of each decoder on H.264 films that are written here: all frames in order, in chunks of 64.

A decoder's threads count with it (`time.process_time`), so that the figures stand on a machine with other work. The
median of the rounds is printed, and whether the decoder's frames are PyAV's to the last bit.

    python benchmarks/decode.py              # under a minute
"""
import tempfile, time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from extract import film
from mmemo.core import UserError
from mmemo.media.files import write_clip
from mmemo.media.frames import VideoReader

SIZES = {'720p': (720, 1280, 150), '224 px': (224, 224, 1500), '360p': (360, 640, 400)} # height, width, frames


@dataclass
class Config:
    rounds: int = 3      # of which the median is printed
    backends: str = 'pyav,decord,torchcodec'


def read_all(path, backend):
    "Frames a CPU second, and a sum that two decoders share only where they show the same."
    begun, frames, total = time.process_time(), 0, 0
    for _, pixels in VideoReader(path, backend=backend).chunks(64):
        frames += len(pixels)
        total += int(pixels[-1, ::7, ::7].sum())
    return frames/(time.process_time() - begun), total


def measure(path, backends, rounds):
    "One row a decoder: its rate, and whether it shows what PyAV shows."
    _, right = read_all(path, 'pyav')
    for backend in backends:
        try: got = [read_all(path, backend) for _ in range(rounds)]
        except UserError as e:
            print(str(e).replace(str(path), path.name))
            continue
        yield dict(film=path.stem, backend=backend, rate=np.median([r for r, _ in got]), same=got[0][1] == right)


def main(config: Config):
    with tempfile.TemporaryDirectory() as tmp:
        rows = []
        for name, (height, width, n) in SIZES.items():
            write_clip(path := Path(tmp)/f'{name}.mp4', film(n, height, width), 25)
            rows += measure(path, config.backends.split(','), config.rounds)
    print(pd.DataFrame(rows).to_string(index=False, float_format='{:.0f}'.format))


if __name__ == '__main__': main(tyro.cli(Config))
