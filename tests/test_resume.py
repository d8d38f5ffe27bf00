"Killed five times and then left alone: the same cache, and no finished clip encoded twice."
import os, signal, subprocess, sys, time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmemo.features.encoder_files import write_random_speech, write_random_visual
from mmemo.media.files import write_clip

CLIPS, KILLS = 24, 5
CHILD = '''
import os, sys, time
import torch; torch.set_num_threads(1)
from pathlib import Path
from mmemo.corpora.manifest import Corpus, read_manifest
from mmemo.features.extract import extract
root, cache, log = map(Path, sys.argv[1:4])
out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def watch(event, modality, key):
    os.write(out, f'{event} {modality} {key}\\n'.encode()) # one system call: nothing is lost in a kill
    time.sleep(.01) # so that five kills find something to stop
corpus = Corpus('odd', root, read_manifest(root/'manifest.csv'))
store = extract(corpus, str(root/'clip'), str(root/'wave'), cache=cache, progress=False, watch=watch)
counts = store.facts['counts']
os.write(out, f"done {counts['encoded']} {counts['cached']} {counts['quarantined']}\\n".encode())
'''


@pytest.fixture
def root(tmp_path):
    "A corpus of clips of many lengths, one of them broken, and small encoders."
    root = tmp_path/'corpus'
    write_random_visual(root/'clip'); write_random_speech(root/'wave')
    rng, frame = np.random.default_rng(0), np.zeros((64, 64, 3), np.uint8)
    for i in range(CLIPS):
        n = 10 + 13*(i % 7)
        y, x = np.mgrid[:64, :64]
        grey = (127 + 100*np.sin((x + i + t)/5)*np.cos(y/7) for t in range(n))
        write_clip(root/f'{i}.mp4', (frame + g.astype(np.uint8)[..., None] for g in grey), 25, rng.normal(0, .1, 640*n))
    (root/'5.mp4').write_text('broken')
    clips = pd.DataFrame(dict(clip_id=[f'c{i}' for i in range(CLIPS)], path=[f'{i}.mp4' for i in range(CLIPS)]))
    clips.to_csv(root/'manifest.csv', index=False)
    return root


def start(root, cache, log):
    return subprocess.Popen([sys.executable, '-c', CHILD, root, cache, log], stderr=subprocess.PIPE)


def events(log): return [line.split() for line in log.read_text().splitlines()] if log.exists() else []
def tracks(cache): return {p.stem for p in (cache/'tracks').rglob('*.safetensors')}
def files(cache): return {p.relative_to(cache): p.read_bytes() for p in cache.rglob('*') if p.is_file()}


@pytest.mark.slow
def test_five_kills(root, tmp_path):
    plain = start(root, tmp_path/'plain', tmp_path/'plain.log')
    assert plain.wait(900) == 0, plain.stderr.read().decode()
    total = len(tracks(tmp_path/'plain'))
    assert total == 2*(CLIPS - 1)

    cache, finished, encoded, kills = tmp_path/'cache', set(), 0, 0
    for turn in range(KILLS + 1):
        log, wanted = tmp_path/f'{turn}.log', 1 + round(turn*(total - 2)/(KILLS - 1))
        child = start(root, cache, log)
        while turn < KILLS and child.poll() is None:
            if len(tracks(cache)) >= wanted:
                time.sleep(.002*turn) # not always at the same point of a clip
                child.send_signal(signal.SIGKILL); child.wait(); kills += 1
                break
            time.sleep(.001)
        assert child.wait(900) == (-signal.SIGKILL if turn < KILLS else 0), child.stderr.read().decode()
        again = [e for e in events(log) if e[0] == 'encode' and e[2] in finished]
        assert not again, f'turn {turn}: finished tracks were encoded again: {again[:3]}'
        encoded += sum(e[0] == 'finish' for e in events(log))
        finished = tracks(cache)
    assert kills == KILLS
    assert total - KILLS <= encoded <= total # a kill may fall between the file and the line in the log
    assert files(cache) == files(tmp_path/'plain')
    last = events(log)[-1]
    assert last[0] == 'done' and int(last[1]) + int(last[2]) == total and last[3] == '1'
