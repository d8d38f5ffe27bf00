"""Faces: following, gaps, one clip a tracker, and real faces where there are some."""
import numpy as np
import pytest

from mmemo.core import UserError, real_data
from mmemo.media.faces import FaceSettings, FaceTracker, detectors, read_face_chunks, place_square
from mmemo.media.files import write_clip
from mmemo.media.frames import VideoReader


@pytest.fixture
def told():
    "A detector that is told what to find: a list of (k, 4) boxes, one for each frame it looks at."
    boxes = []
    detectors['told'] = lambda settings: lambda frame, left=list(boxes): np.asarray(left.pop(0), float).reshape(-1, 4)
    yield boxes
    del detectors['told']


def blank(n, h=100, w=160): return np.zeros((n, h, w, 3), np.uint8)
def middles(boxes): return (boxes[:, :2] + boxes[:, 2:])/2


def test_gap_is_invalid_and_recovers(told):
    told += [[[60, 30, 40, 40]]]*25 + [[]]*25 + [[[10, 10, 40, 40]]]*10
    crops, boxes, valid = FaceTracker(FaceSettings('told', every=1, size=32), 25).crop(blank(60), np.arange(60))
    assert crops.shape == (60, 32, 32, 3)
    assert valid[:25].all() and valid[50:].all()
    assert valid.sum() == 25 + 12 + 10 # held for half a second, then lost
    assert np.allclose(middles(boxes)[50], (30, 30), atol=2) # back at once, no gliding over from the old place


def test_no_face_gives_middle_squares(told):
    told += [[]]*8
    crops, boxes, valid = FaceTracker(FaceSettings('told', every=1, size=32), 25).crop(blank(8), np.arange(8))
    assert not valid.any() and crops.shape == (8, 32, 32, 3) and (boxes == [30, 0, 130, 100]).all()


def test_no_stale_box_from_another_clip(told):
    told += [[[5, 5, 30, 30]]]*10
    settings = FaceSettings('told', every=1, size=32)
    one = FaceTracker(settings, 25)
    one.crop(blank(10), np.arange(10))
    with pytest.raises(UserError, match='belongs to one clip'): one.crop(blank(10), np.arange(10))
    told[:] = [[]]*10
    _, boxes, valid = FaceTracker(settings, 25).crop(blank(10), np.arange(10))
    assert not valid.any() and (boxes == [30, 0, 130, 100]).all()


def test_late_face_does_not_reach_back(told):
    told += [[]]*10 + [[[60, 30, 40, 40]]]*10
    _, boxes, valid = FaceTracker(FaceSettings('told', every=1), 25).crop(blank(20), np.arange(20))
    assert not valid[:10].any() and valid[10:].all() and (boxes[:10] == [30, 0, 130, 100]).all()


def test_smoothing_reduces_jitter(told):
    rng = np.random.default_rng(0)
    boxes = np.array([60, 30, 40, 40.]) + rng.normal(0, 2, (200, 1, 4))
    jitter = {}
    for smooth in (0, .2):
        told[:] = list(boxes)
        _, b, _ = FaceTracker(FaceSettings('told', every=1, smooth=smooth), 25).crop(blank(200), np.arange(200))
        jitter[smooth] = np.abs(np.diff(middles(b), axis=0)).mean()
    assert jitter[.2] < .5*jitter[0]


def test_follows_a_moving_face(told):
    track = [[[10 + 2*i, 30, 40, 40]] for i in range(40)] # 50 px a second, more than a face's width
    told += track
    _, boxes, _ = FaceTracker(FaceSettings('told', every=1), 25).crop(blank(40), np.arange(40))
    lag = np.array([t[0][0] + 20 for t in track]) - middles(boxes)[:, 0]
    assert lag.max() < 8 # a fifth of the face, the margin's width


def test_stays_with_its_face(told):
    small, large = [60, 30, 40, 40], [5, 5, 60, 60]
    told += [[small]]*5 + [[large, small], [large], [small], [large], [small]]*3
    _, boxes, valid = FaceTracker(FaceSettings('told', every=1), 25).crop(blank(20), np.arange(20))
    assert valid.all() and np.abs(middles(boxes) - (80, 50)).max() <= 1 # a larger face appears beside, or alone for one frame


def test_follows_a_cut(told):
    told += [[[10, 10, 40, 40]]]*5 + [[[100, 50, 40, 40]]]*5
    _, boxes, valid = FaceTracker(FaceSettings('told', every=1), 25).crop(blank(10), np.arange(10))
    assert valid.all() and np.allclose(middles(boxes)[6:], (120, 70), atol=2)


@pytest.mark.parametrize('every', [1, 3, 5])
def test_chunk_size_does_not_matter(told, every):
    rng = np.random.default_rng(1)
    truth = [[] if 20 < i < 30 else [[40 + rng.integers(-9, 9), 30, 40, 40]] for i in range(50)]
    film = rng.integers(0, 255, (50, 100, 160, 3)).astype(np.uint8)
    results = []
    for n in (1, 7, 50):
        told[:] = truth
        tracker = FaceTracker(FaceSettings('told', every=every, size=24), 25)
        parts = [tracker.crop(film[i:i + n], np.arange(i, min(i + n, 50))) for i in range(0, 50, n)]
        results.append([np.concatenate(p) for p in zip(*parts)])
    for r in results[1:]: assert all(np.array_equal(a, b) for a, b in zip(r, results[0]))


def test_detector_looks_at_every_nth_frame():
    looked = []
    detectors['counting'] = lambda settings: lambda frame: looked.append(1) or np.zeros((0, 4))
    tracker = FaceTracker(FaceSettings('counting', every=5), 25)
    for i in range(0, 50, 8): tracker.crop(blank(8), np.arange(i, i + 8))
    del detectors['counting']
    assert len(looked) == 12 # of 56


def test_crops_stay_inside(told):
    for box in ([-20, -20, 40, 40], [150, 90, 40, 40], [0, 0, 300, 300]):
        x0, y0, x1, y1 = place_square(box, .2, 100, 160)
        assert 0 <= x0 < x1 <= 160 and 0 <= y0 < y1 <= 100 and x1 - x0 == y1 - y0


def test_none_is_the_middle_square(tmp_path):
    film = np.random.default_rng(0).integers(0, 255, (10, 60, 80, 3)).astype(np.uint8)
    crops, boxes, valid = FaceTracker(FaceSettings('none'), 25).crop(film, np.arange(10))
    assert np.array_equal(crops, film[:, :, 10:70]) and valid.all() and (boxes == [10, 0, 70, 60]).all()
    crops, _, _ = FaceTracker(FaceSettings('none', size=32), 25).crop(film, np.arange(10))
    assert crops.shape == (10, 32, 32, 3)
    write_clip(tmp_path/'x.mp4', film, 25)
    assert sum(len(c) for _, c, _, _ in read_face_chunks(VideoReader(tmp_path/'x.mp4'), FaceSettings('none', size=32), size=4)) == 10


def test_yunet_says_what_it_needs(tmp_path):
    with pytest.raises(UserError, match='expected model_file'): FaceTracker(FaceSettings('yunet'), 25)
    (tmp_path/'net.onnx').write_bytes(b'not a net')
    with pytest.raises(UserError, match='cannot load it'): FaceTracker(FaceSettings('yunet', model_file=str(tmp_path/'net.onnx')), 25)
    with pytest.raises(UserError, match="Did you mean 'yunet'"): FaceTracker(FaceSettings('yunett'), 25)


@pytest.mark.parametrize('name,middle', [('01-01-01-01-01-01-01.mp4', (630, 340)), ('grid_bbaf2n.mpg', (156, 172)),
                                         ('single_face_near_silent.mp4', (298, 183))])
def test_haar_on_real_faces(name, middle):
    if real_data() is None: pytest.skip('MMEMO_REAL_DATA is not set: no real faces to try')
    reader = VideoReader(real_data()/'clips'/name, end=1.)
    crops, boxes, valid = (np.concatenate(x) for x in list(zip(*read_face_chunks(reader, FaceSettings('haar', size=64))))[1:])
    assert valid.all() and crops.shape[1:] == (64, 64, 3)
    assert np.abs(middles(boxes) - middle).max() < .1*reader.height
    assert (boxes[:, 2] - boxes[:, 0]).std() < .02*reader.height
