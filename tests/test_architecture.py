"""docs/architecture.md lists the rooms that two paths go through: followed here, call by call."""
import importlib, re, sys, threading
from pathlib import Path

import pytest

from mmemo.commands.cli import main
from small_run import small_run

ROOT = Path(__file__).resolve().parent.parent
HOUSE = str(ROOT/'mmemo') + '/'


def rooms_entered(*argv) -> set: # without the command line itself and those that everything leans on
    "The modules whose functions a command calls, in any of its threads."
    for m in (ROOT/'mmemo').rglob('[a-z]*.py'): # what runs when a room is imported is not the path
        importlib.import_module('.'.join(m.relative_to(ROOT).with_suffix('').parts))
    seen = set()

    def watch(frame, event, arg):
        file = frame.f_code.co_filename
        if event == 'call' and file.startswith(HOUSE): seen.add(file[len(HOUSE):-3])
    threading.setprofile(watch)
    sys.setprofile(watch)
    try: assert main([str(a) for a in argv]) == 0
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {room for room in seen if '/' in room and room != 'commands/cli'}


def rooms_listed(heading:str) -> list:
    text = (ROOT/'docs'/'architecture.md').read_text()
    part = text.split(f'## {heading}\n', 1)[1].split('\n## ', 1)[0]
    return re.findall(r'^\d+\. `([\w/]+)`', part, re.M)


@pytest.fixture(scope='module')
def paths(tmp_path_factory):
    place, out = small_run(), tmp_path_factory.mktemp('paths')
    clip = next((place/'corpus'/'clips').glob('test-*.mp4'))
    quick = ('--train.epochs', '1', '--train.no-progress', '--train.device', 'cpu')
    yield {'From `mmemo predict FILE` to the figure': ('predict', clip, '--run', place/'bicross', '--out', out/'predicted', '--cache', out/'cache'),
           'From `mmemo train` to `metrics.json`': ('train', '--corpus', place/'corpus', '--cache', out/'cache', '--out', out/'run', *quick)}


@pytest.mark.parametrize('heading', ['From `mmemo predict FILE` to the figure', 'From `mmemo train` to `metrics.json`'])
def test_the_page_lists_the_rooms_of_a_path(paths, heading):
    listed, entered = rooms_listed(heading), rooms_entered(*paths[heading])
    assert len(listed) == len(set(listed)), 'no room twice'
    assert set(listed) == entered
