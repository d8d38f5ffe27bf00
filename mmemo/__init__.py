"""mmemo: a workbench to understand multimodal emotion recognition.

What a notebook needs is here by name and imported when it is first used: `from mmemo import load_corpus, extract, train, predict`."""
__version__ = "0.2.0"

import os

# Threads that wait sleep: spinning, two threads beside another program take ten times as long as one.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE') # read once, when torch is loaded

_PLACES = { # room -> the names that it offers here; `name=other` where it is called otherwise there
    'core': 'UserError',
    'corpora.manifest': 'Corpus load_corpus',
    'corpora.splits': 'deal_clips split_by_subject',
    'corpora.readers': 'open_corpus read_corpus',
    'corpora.leaks': 'check_leaks group_twins',
    'planted.corpus': 'PlantedConfig make_planted',
    'features.extract': 'extract',
    'features.reading': 'ExtractSettings',
    'features.sources': 'open_features',
    'features.windows': 'WindowSettings Windows',
    'models.registry': 'available build',
    'training.loop': 'TrainConfig',
    'training.runs': 'RunConfig load_run',
    'training.compare': 'compare',
    'explain.attribution': 'attribute',
    'pages.report': 'write_report',
    'commands.corpus': 'import_table',
    'commands.demo': 'run_demo',
    'commands.train': 'train',
    'commands.evaluate': 'evaluate',
    'commands.predict_files': 'predict',
    'panels.clip': 'attention_panel clip_panel',
    'panels.attribution': 'attribution_panel',
    'panels.embedding': 'embedding_panel',
    'panels.what_if': 'what_if_panel',
    'panels.errors': 'errors_panel',
    'panels.truth': 'truth_panel',
    'panels.train': 'train_panel',
    'panels.video': 'video_panel',
}
_DOORS = {word.partition('=')[0]: (room, word.rpartition('=')[2]) for room, words in _PLACES.items() for word in words.split()}
__all__ = sorted(_DOORS)


def __getattr__(name:str):
    "A public name, from its room; Python asks here for what is not there yet."
    if name not in _DOORS: raise AttributeError(f"module 'mmemo' has no attribute '{name}'")
    from importlib import import_module
    room, original = _DOORS[name]
    globals()[name] = value = getattr(import_module(f'mmemo.{room}'), original)
    return value


def __dir__() -> list: return sorted({*globals(), *_DOORS})
