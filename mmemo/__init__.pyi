"""What `from mmemo import ...` offers, for type checkers and editors; tests/test_door.py keeps it equal to __init__.py."""
__version__: str

from .core import UserError as UserError
from .corpora.manifest import Corpus as Corpus, load_corpus as load_corpus
from .corpora.splits import deal_clips as deal_clips, split_by_subject as split_by_subject
from .corpora.readers import open_corpus as open_corpus, read_corpus as read_corpus
from .corpora.leaks import check_leaks as check_leaks, group_twins as group_twins
from .planted.corpus import PlantedConfig as PlantedConfig, make_planted as make_planted
from .features.extract import extract as extract
from .features.reading import ExtractSettings as ExtractSettings
from .features.sources import open_features as open_features
from .features.windows import WindowSettings as WindowSettings, Windows as Windows
from .models.registry import available as available, build as build
from .training.loop import TrainConfig as TrainConfig
from .training.runs import RunConfig as RunConfig, load_run as load_run
from .training.compare import compare as compare
from .explain.attribution import attribute as attribute
from .pages.report import write_report as write_report
from .commands.corpus import import_table as import_table
from .commands.demo import run_demo as run_demo
from .commands.train import train as train
from .commands.evaluate import evaluate as evaluate
from .commands.predict_files import predict as predict
from .panels.clip import attention_panel as attention_panel, clip_panel as clip_panel
from .panels.attribution import attribution_panel as attribution_panel
from .panels.embedding import embedding_panel as embedding_panel
from .panels.what_if import what_if_panel as what_if_panel
from .panels.errors import errors_panel as errors_panel
from .panels.truth import truth_panel as truth_panel
from .panels.train import train_panel as train_panel
from .panels.video import video_panel as video_panel
