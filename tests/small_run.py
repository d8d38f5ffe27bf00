"""A corpus of 48 planted clips and a `bicross` trained on it for a moment: enough to look at, far too little to believe."""
import atexit, os, shutil, subprocess, sys, tempfile
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def small_run():
    "A folder as `mmemo demo` leaves it: corpus/ and bicross/. Made once a test session, removed at its end."
    given = os.environ.get('MMEMO_SMALL_RUN') # a folder that was made earlier, to save the minute while a test is written
    place = Path(given or tempfile.mkdtemp(prefix='mmemo-small-'))
    if not given: atexit.register(shutil.rmtree, place, ignore_errors=True)
    os.environ['MMEMO_CACHE'] = str(place/'cache')
    if (place/'bicross'/'metrics.json').exists(): return place
    from mmemo.features.extract import extract
    from mmemo.planted.corpus import PlantedConfig, make_planted
    from mmemo.training.run_config import RunConfig
    from mmemo.training.runs import run_experiment
    from mmemo.training.loop import TrainConfig
    config = PlantedConfig(seed=160, both=.35, audio=.2, video=.2, coincidence=0., train_subjects=4, val_subjects=3, test_subjects=3, train_clips=16, val_clips=16, test_clips=16, nuisance=.3)
    corpus = make_planted(place/'corpus', config, workers=2, progress=False)
    store = extract(corpus, 'tiny', 'tiny', progress=False)
    train = TrainConfig(epochs=3, lr=2e-3, lambda_text=0., device='cpu', progress=False)
    run_experiment(RunConfig(corpus=str(place/'corpus'), train=train), corpus, store, place/'bicross')
    return place


@lru_cache(maxsize=1)
def guided_run():
    "A run of the same corpus, apart from the other, that was trained with the text guide, so that its clips stand among the words."
    place = small_run()
    if (place/'words'/'guided'/'metrics.json').exists(): return place/'words'/'guided'
    from mmemo.corpora.readers import open_corpus
    from mmemo.features.extract import extract
    from mmemo.training.run_config import RunConfig
    from mmemo.training.runs import run_experiment
    from mmemo.training.loop import TrainConfig
    corpus = open_corpus(place/'corpus')
    store = extract(corpus, 'tiny', 'tiny', progress=False)
    train = TrainConfig(epochs=4, lr=2e-3, lambda_text=.1, device='cpu', progress=False)
    run_experiment(RunConfig(corpus=str(place/'corpus'), train=train), corpus, store, place/'words'/'guided')
    return place/'words'/'guided'


def call_mmemo(*words) -> tuple: # exit status, what was printed
    "`mmemo` in a process of its own."
    done = subprocess.run([sys.executable, '-m', 'mmemo', *map(str, words)], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr
