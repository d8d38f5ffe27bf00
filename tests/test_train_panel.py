"""Training in a panel, without a browser: real trainings on a small corpus, begun, watched, stopped, judged."""
import json, shutil, threading, time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmemo.training.loop import TrainConfig
from mmemo.panels import train as T
from mmemo.places import whole_folder
from mmemo.core import UserError
from mmemo.panels.clip import clip_panel
from mmemo.panels.parts import NoPanel
from mmemo.training.runs import load_run, run_experiment
from small_run import small_run


@pytest.fixture
def panel(tmp_path):
    "A panel whose trainings nobody has seen."
    T.SESSIONS.clear()
    panel = T.train_panel(str(small_run()), out=str(tmp_path/'live'), model='audio', epochs=2, lr=2e-3, text_weight=0.)
    yield panel
    panel.session.stop(); panel.session.job.wait(60)


def wait(panel): panel.session.job.wait(180); assert not panel.session.busy, 'the training did not end'


def until(condition, seconds=60):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, 'waited too long'
        time.sleep(.02)


def test_a_training_is_the_one_of_the_command_line(panel, tmp_path):
    panel.view.train.click()
    assert panel.view.train.disabled and not panel.view.stop.disabled
    wait(panel)
    x = panel.session.trainings[0]
    assert x.status == 'done', x.reason
    again = run_experiment(x.config, panel.session.corpus, panel.session.store, tmp_path/'again')
    assert [h['val_loss'] for h in again.history] == [h['val_loss'] for h in x.run.history] and x.run.folder == tmp_path/'live'/'audio'
    # the figure is the history's, point for point; the table the run's, with its interval
    lines = {d['name']: d for d in panel.view.curves.figure['data']}
    assert lines['training']['y'] == [h['train_loss'] for h in x.run.history]
    value = x.run.metrics['val']['all']['macro_f1']
    assert f"{value['value']:.2f} [{value['ci95'][0]:.2f}, {value['ci95'][1]:.2f}]" in panel.view.results.value and 'synthetic' in panel.view.notes.value
    assert list(panel.selection.epoch) == [0, 1] and set(panel.selection.model) == {'audio'}
    assert not panel.view.train.disabled and panel.view.stop.disabled


def test_the_run_opens_in_another_panel(panel):
    panel.view.train.click(); wait(panel)
    other = clip_panel(str(panel.session.trainings[0].run.folder))
    assert not isinstance(other, NoPanel) and len(other.controller.table) == 16
    assert sorted(p.name for p in panel.session.out.iterdir()) == ['audio'] and (panel.session.out/'audio'/'report.html').exists()


def test_stop_keeps_the_best_so_far(panel):
    panel.view.epochs.value = 400
    panel.view.train.click()
    until(lambda: len(panel.selection) >= 3)
    pressed = time.monotonic(); panel.view.stop.click()
    assert panel.view.stop.disabled and 'stopping' in panel.view.said.value
    wait(panel)
    x = panel.session.trainings[0]
    assert x.status == 'stopped' and len(x.history) < 400 and time.monotonic() - pressed < 30
    kept = load_run(x.run.folder)
    from mmemo.training.loop import Trainer
    windows = kept.windows(panel.session.corpus, panel.session.store, 'val')
    trainer = Trainer(kept.model, windows, windows, x.config.train); trainer.model = kept.model
    assert trainer.validate()['val_score'] == pytest.approx(x.best['val_score'], abs=1e-6) # the weights in the folder are the best ones
    assert 'was stopped' in panel.view.said.value and f"epoch {x.best['epoch']}" in panel.view.said.value


def test_a_stop_before_the_first_step_leaves_a_whole_run(panel):
    panel.view.train.click(); panel.view.stop.click(); wait(panel)
    assert panel.session.trainings[0].status == 'stopped' and len(load_run(panel.session.trainings[0].run.folder).history) == 1


def test_the_panel_answers_while_it_trains(panel, monkeypatch):
    monkeypatch.setattr('mmemo.panels.session.TrainConfig', lambda: TrainConfig(patience=0)) # it does not end by itself, however slow this thread is
    panel.view.model.value, panel.view.epochs.value = 'bicross', 400
    panel.view.train.click()
    until(lambda: panel.session.share > 0)
    main, took = threading.current_thread(), []
    for theme in ('dark', 'light')*5:
        began = time.perf_counter(); panel.state.theme = theme; took.append(time.perf_counter() - began)
        assert panel.session.busy and panel.session.job.thread is not main
        time.sleep(.05)
    print('another theme while it trains, ms:', np.round(np.array(took)*1000))
    assert np.median(took) < 1
    panel.session.stop(); wait(panel)


def test_earlier_trainings_stay_thin_and_the_test_is_looked_at_once(panel):
    for seed in (0, 1):
        panel.view.seed.value = seed
        panel.view.train.click(); wait(panel)
    one, two = panel.session.trainings
    data = panel.view.curves.figure['data']
    thin = [d for d in data if d['name'] == one.name]
    assert len(thin) == 2 and all(d['line']['width'] < 2 for d in thin) and thin[1]['y'] == [h['val_score'] for h in one.history]
    assert [p.name for p in sorted(panel.session.out.iterdir())] == ['audio', 'audio-2']
    tested = [f"{x.run.metrics['test']['all']['macro_f1']['value']:.2f}" for x in (one, two)]
    assert 'Test subjects:' not in panel.view.looked.value and 'Test subjects:' not in panel.to_html()
    panel.view.look.click()
    best = max((one, two), key=lambda x: (round(x.judged['value'], 6), -x.best['val_loss']))
    assert f'training {best.number}' in panel.view.looked.value and tested[best.number - 1] in panel.view.looked.value
    assert panel.view.look.disabled
    seen = panel.view.looked.value
    panel.view.train.click(); wait(panel)
    assert panel.view.look.disabled and panel.view.looked.value == seen
    with pytest.raises(UserError, match='looked at already'): panel.session.look()
    again = T.train_panel(str(small_run()), out=str(panel.session.out)) # the cell is run again
    assert again.session is panel.session and again.view.look.disabled and again.view.curves.figure['data'] == panel.view.curves.figure['data']


def test_only_one_at_a_time(panel):
    panel.view.epochs.value = 400
    panel.view.train.click(); panel.controller.train()
    assert len(panel.session.trainings) == 1 and 'is running' in panel.view.said.value
    panel.session.stop(); wait(panel)


def test_what_goes_wrong_is_one_sentence_and_leaves_nothing(panel, monkeypatch):
    def fails(*args): raise UserError('there is no room on this disk.')
    monkeypatch.setattr('mmemo.panels.session.write_report', fails)
    panel.view.train.click(); wait(panel)
    assert 'failed, and nothing was written' in panel.view.said.value and 'no room' in panel.view.said.value
    assert list(panel.session.out.iterdir()) == [] and panel.view.look.disabled and not panel.view.train.disabled
    monkeypatch.undo()
    panel.view.train.click(); wait(panel) # and the next one works
    assert panel.session.trainings[1].status == 'done' and 'no room' in panel.view.results.value


def test_what_cannot_be_set_is_not_offered(panel):
    assert 'text' not in panel.view.model.options and {'linear', 'rcma-v1', 'avtca-paper'} <= set(panel.view.model.options)
    panel.view.model.value = 'linear'
    assert panel.view.epochs.disabled and panel.view.text_weight.disabled
    panel.view.train.click(); wait(panel)
    assert panel.session.trainings[0].status == 'done' and 'linear' in panel.view.results.value
    with pytest.raises(UserError, match="'text' cannot be trained here"): panel.session.config('text', 1, 1e-3, 0, 0.)
    assert isinstance(T.train_panel(str(small_run()), model='text'), NoPanel)


@pytest.mark.parametrize('model', ['rjcma-code', 'avtca-code', 'mult', 'tfn'])
def test_what_is_offered_trains(panel, model):
    panel.view.model.value, panel.view.epochs.value = model, 1
    panel.view.train.click(); wait(panel)
    assert panel.session.trainings[0].status == 'done', panel.session.trainings[0].reason


def test_a_kernel_that_dies_leaves_no_half_run(tmp_path):
    import os, signal, subprocess, sys
    code = f"""
import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})
import mmemo.panels.session as session
from functools import partial
session.TrainConfig = partial(session.TrainConfig, patience=0) # it does not end by itself
from mmemo.panels.train import train_panel
panel = train_panel({str(small_run())!r}, out={str(tmp_path/'live')!r}, model='audio', epochs=500)
panel.view.train.click()
while not len(panel.selection): time.sleep(.02)
print('going', flush=True); time.sleep(float(sys.argv[1]))
"""
    start = lambda seconds: subprocess.Popen([sys.executable, '-c', code, str(seconds)], stdout=subprocess.PIPE, text=True)
    first = start(0)
    assert first.stdout.readline() == 'going\n' and first.wait(60) == 0 # ends as a kernel that is shut down does
    assert not list((tmp_path/'live').glob('audio*')) and not list((tmp_path/'live').rglob('*.json'))
    second = start(60)
    assert second.stdout.readline() == 'going\n'; second.send_signal(signal.SIGKILL); second.wait()
    assert not list((tmp_path/'live').glob('audio*')) and list((tmp_path/'live').rglob('config.json')) # killed: hidden, not a run
    with whole_folder(tmp_path/'live'/'next'): assert not list((tmp_path/'live').rglob('config.json')) # and swept by the next
