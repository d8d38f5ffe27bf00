"""Films of somebody's own: faces are looked for by one rule, in training and ever after, and what has none is told."""
import json

import numpy as np
import pytest

from mmemo.commands.evaluate import evaluate
from mmemo.commands.predict import extract_file
from mmemo.core import UserError, read_json
from mmemo.corpora.manifest import load_corpus
from mmemo.features.coverage import list_faceless, measure_coverage
from mmemo.features.extract import extract
from mmemo.features.reading import ExtractSettings
from mmemo.media.faces import FaceSettings
from mmemo.media.files import write_clip
from mmemo.media.frames import VideoReader
from mmemo.media.sound import read_audio
from mmemo.training.run_config import choose_settings
from mmemo.training.runs import load_run
from small_run import call_mmemo, small_run
from test_misbehaving_media import heads

FOUND = [0, 1, 2, 3, 4, 6, 7, 8, 10, 11, 13, 15, 17, 19, 20, 21, 24, 28, 30, 33, 34, 35, 36, 37, 38] # drawn people whom the cascade sees in a picture


def film_person(place, clip, seed, where, others=()):
    "A drawn face before a wall, in a wide picture, with the sound of a planted clip."
    length, rng = len(VideoReader(clip)), np.random.default_rng(seed)
    film = heads(length, (seed, where, 128), *others)
    film[:, :40] = rng.integers(0, 255, (1, 40, 360, 3)) # no two walls are equal
    write_clip(place, film, 25, read_audio(clip))


def film_study(folder, most=12):
    "Films under own classes; one of them shows nobody, one two people, and from one somebody leaves."
    folder.mkdir(parents=True)
    corpus = load_corpus(small_run()/'corpus')
    clips = corpus.clips.groupby('split', sort=False).head(-(-most//3))
    names = ['nobody', 'two', 'leaves', *(f'film {i}' for i in range(3, len(clips)))]
    for i, (name, path) in enumerate(zip(names, map(corpus.path, clips.clip_id))):
        stay = lambda frame: (30 + i, 60)
        where = dict(nobody=lambda frame: None, leaves=lambda frame: stay(frame) if frame < 9 else None).get(name, stay)
        film_person(folder/f'{name}.mp4', path, FOUND[i % len(FOUND)], where, [(5, lambda frame: (220, 60), 112)]*(name == 'two'))
    labels = ['Frust', 'Langeweile']*(len(names)//2)
    table = clips.assign(clip_id=names, path=[f'{n}.mp4' for n in names], label=labels)
    table[['clip_id', 'path', 'subject', 'split', 'label']].to_csv(folder/'manifest.csv', index=False)
    return folder


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    place = tmp_path_factory.mktemp('faces')
    film_study(place/'films')
    code, said = call_mmemo('train', '--corpus', place/'films', '--out', place/'run', '--model', 'early', '--train.epochs', 1, '--train.lambda-text', 0)
    return place, code, said


def test_training_looks_for_faces_and_says_who_has_none(study):
    place, code, said = study
    assert code == 3 and 'in 1 clip there is none (nobody)' in said and 'Traceback' not in said, said
    about = read_json(place/'run'/'config.json')
    assert about['run']['settings']['faces']['detector'].startswith('auto-') and about['features']['shows'] == 'faces'
    assert any('nobody' in w for w in read_json(place/'run'/'metrics.json')['warnings'])
    assert 'nobody' in (place/'run'/'report.html').read_text() and 'nobody' in (place/'run'/'card.md').read_text()
    code, said = call_mmemo('evaluate', place/'run', '--split', 'all')
    assert code == 3 and '(nobody)' in said, said


def test_a_sheet_of_faces_stands_before_the_encoding(study):
    place, _, said = study
    sheet = said.split('Faces as they are cut out: ')[1].splitlines()[0].strip()
    page = open(sheet, encoding='utf8').read()
    assert said.index(sheet) < said.find('clips to encode') or 'clips to encode' not in said # they were in the cache
    assert page.count('<figure') == 12 and 2 <= page.count('class="lost"') <= 4


def compare_crops(run, corpus, store, cache):
    "Each film by itself, as `mmemo predict` reads it, against what the training saw."
    settings = choose_settings(run, 'auto')
    for row in corpus.clips.itertuples():
        if row.clip_id == 'nobody':
            with pytest.raises(UserError, match='no face was found in any'): extract_file(corpus.path(row.clip_id), 'tiny', settings, cache)
            continue
        _, alone = extract_file(corpus.path(row.clip_id), 'tiny', settings, cache)
        name = corpus.path(row.clip_id).stem
        mine, theirs = store.clip(row.clip_id, 'visual'), alone.clip(name, 'visual')
        assert mine.values.tobytes() == theirs.values.tobytes() and mine.valid.tolist() == theirs.valid.tolist(), row.clip_id


def test_prediction_sees_the_crops_of_training(study, tmp_path):
    run, corpus = load_run(study[0]/'run'), load_corpus(study[0]/'films')
    store = extract(corpus, settings=run.config.settings, cache=tmp_path/'all', progress=False)
    coverage = measure_coverage(store).set_index('clip_id')
    assert list_faceless(store) == ['nobody'] and coverage.faces['two'] == coverage.frames['two'] and 0 < coverage.faces['leaves']
    compare_crops(run, corpus, store, tmp_path/'alone')
    small = load_corpus(small_run()/'corpus') # planted: small and square, so they stay as they are
    some = small.subset(small.clips.clip_id[:5])
    store = extract(some, settings=run.config.settings, cache=tmp_path/'all', progress=False)
    assert measure_coverage(store).eval('frames == faces').all()
    compare_crops(run, some, store, tmp_path/'alone')


@pytest.mark.slow
def test_a_hundred_films(tmp_path):
    run = load_run(small_run()/'bicross')
    film_study(tmp_path/'films', most=48)
    corpus, small = load_corpus(tmp_path/'films'), load_corpus(small_run()/'corpus')
    assert len(corpus) + len(small) == 96
    for each in (corpus, small):
        store = extract(each, settings=run.config.settings, cache=tmp_path/'all', progress=False)
        compare_crops(run, each, store, tmp_path/'alone')


def test_what_was_never_seen_is_refused(study, tmp_path):
    place, run, corpus = study[0], load_run(study[0]/'run'), load_corpus(study[0]/'films')
    whole = extract(corpus, settings=ExtractSettings(faces=FaceSettings('none')), cache=tmp_path, progress=False)
    with pytest.raises(UserError, match="trained on faces .*'haar'.*these features are of whole pictures"): evaluate(run, corpus, store=whole)
    code, said = call_mmemo('evaluate', place/'run', '--faces', 'yunet')
    assert code == 2 and "faces that 'haar' cut out, and 'yunet' cuts them otherwise" in said, said
    code, said = call_mmemo('train', '--corpus', place/'films', '--out', tmp_path/'rooms', '--model', 'early', '--train.epochs', 1,
                            '--settings.faces.detector', 'none', '--train.lambda-text', 0, '--train.no-progress')
    assert code == 0 and 'Faces as they are cut out' not in said, said
    code, said = call_mmemo('predict', place/'films'/'two.mp4', '--run', tmp_path/'rooms', '--faces', 'haar', '--out', tmp_path/'page')
    assert code == 2 and 'was trained on whole pictures' in said, said
    code, said = call_mmemo('predict', place/'films'/'nobody.mp4', '--run', tmp_path/'rooms', '--out', tmp_path/'page')
    assert code == 0, said # as it was trained


def test_a_detector_that_comes_later_changes_no_run(study, tmp_path, monkeypatch):
    monkeypatch.setenv('MMEMO_CACHE', str(tmp_path))
    (tmp_path/'detectors').mkdir()
    (tmp_path/'detectors'/'face_detection_yunet_2023mar.onnx').write_bytes(b'a model')
    assert FaceSettings().detector == 'auto-yunet'
    assert choose_settings(load_run(study[0]/'run')).faces.detector == json.loads((study[0]/'run'/'config.json').read_text())['run']['settings']['faces']['detector'] == 'auto-haar'
