"The embedded encoders: what is shipped, what its cards promise, and the gate."
import json

import numpy as np
import pytest

from mmemo.features import tiny, tiny_captions, tiny_wav2vec2
from mmemo.core import UserError, data_dir, read_json, rng_for
from mmemo.features.encoder_files import is_synthetic_only
from mmemo.features.encoders import load_speech, load_text, load_visual
from mmemo.labels import EXPRESSION8, PROMPTS
from mmemo.planted.face import FACE_VERSION, sample_face
from mmemo.planted.voice import VOICE_VERSION

NAMES = ('tiny-clip', 'tiny-wav2vec2')


@pytest.fixture(scope='module')
def visual(): return load_visual('tiny')

@pytest.fixture(scope='module')
def speech(): return load_speech('tiny')


def test_shipped_folders_are_small():
    assert sum(p.stat().st_size for p in data_dir().rglob('*') if p.is_file()) < 12e6
    assert not [p for p in data_dir().rglob('*') if p.suffix in ('.bin', '.pt', '.pth', '.pkl')]

@pytest.mark.parametrize('name', NAMES)
def test_card_is_honest(name):
    facts, card = read_json(data_dir()/name/'mmemo.json'), (data_dir()/name/'README.md').read_text()
    assert facts['knows'] == 'planted faces and voices only' and 'planted faces and voices only' in card
    assert all(facts['probes'][k] >= tiny.GATE for k in tiny.GATED)
    assert facts['generator'] == (FACE_VERSION if name == 'tiny-clip' else VOICE_VERSION), 'run make encoders again'

def test_tiny_is_synthetic_only(): assert is_synthetic_only('tiny')

def test_training_subjects_are_no_others():
    own = [sample_face(rng_for('tiny-subject', i)).seed for i in range(tiny.FacePlan().subjects)]
    probes = [sample_face(rng_for('tiny-probe-subject', i)).seed for i in (*range(30), *range(1000, 1020))]
    corpus = [sample_face(rng_for('planted-subject', s, f'{split}{i:02d}')).seed for s in range(3) for split in ('train', 'test') for i in range(26)]
    assert len(set(own + probes + corpus)) == len(own) + len(probes) + len(corpus)

def test_open_clip_reads_the_folder_by_itself():
    import open_clip
    folder = f'local-dir:{data_dir()/"tiny-clip"}'
    model, _, transform = open_clip.create_model_and_transforms(folder)
    tokens = open_clip.get_tokenizer(folder)(['A photo of a HAPPY face, with a zeppelin!'])
    assert tokens.shape == (1, tiny_captions.CONTEXT) and tokens.max() == len(tiny_captions.list_vocabulary()) - 1 and (tokens == tiny_captions.UNKNOWN).any()
    assert model.encode_text(tokens).shape == (1, 128)

def test_every_prompt_is_in_the_words():
    words = set(tiny_captions.list_vocabulary())
    said = ' '.join(p for ps in (PROMPTS[c] for c in EXPRESSION8.classes) for p in ps).lower().replace('-', ' - ').split()
    assert not set(said) - words

def test_bf16_says_the_same(visual, speech):
    pictures, heard = tiny.render_probe_face(3000, 'Fear', 0, 1.)[0], tiny.speak_probe_voice(3000, 'Fear', 0, 1.)[0]
    for load, low, x in ((load_visual, visual, pictures), (load_speech, speech, heard)):
        pair = [e(x) for e in (low, load('tiny', precision='fp32'))]
        a, b = (v[0] if isinstance(v, tuple) else v for v in pair)
        assert ((a*b).sum(1)/np.linalg.norm(a, axis=1)/np.linalg.norm(b, axis=1)).min() > .999

def test_speech_has_the_published_hop():
    config = json.loads((data_dir()/'tiny-wav2vec2/config.json').read_text())
    assert np.prod(config['conv_stride']) == tiny_wav2vec2.HOP == 320
    from mmemo.features.encoders import receptive_field
    assert receptive_field(config['conv_kernel'], config['conv_stride']) == (tiny_wav2vec2.WIDTH, tiny_wav2vec2.HOP)
    assert 'head' not in str(config.get('architectures')).lower()

def test_face_emotion_is_read_linearly(visual):
    probe = tiny.fit_probe(lambda s, j, k: tiny.read_face_features(visual, s, j, k, 0., False), EXPRESSION8.classes, train=10, test=5, takes=1)
    assert probe.accuracy > .85, probe.confusion
    assert tiny.measure_zero_shot(load_text('tiny'), probe.features, probe.labels) > .75

def test_voice_emotion_is_read_linearly(speech):
    probe = tiny.fit_probe(lambda s, j, k: tiny.read_voice_features(speech, s, j, k, 0.), EXPRESSION8.classes, train=20, test=8, takes=1)
    assert probe.accuracy > .85, probe.confusion

def test_cues_are_read_under_nuisance(visual, speech):
    for features in (lambda s, j, k: tiny.read_face_features(visual, s, j, k, 1., True), lambda s, j, k: tiny.read_voice_features(speech, s, j, k, 1.)):
        probe = tiny.fit_probe(features, tiny.CUES, train=14, test=10, takes=1)
        assert probe.accuracy > .85, probe.confusion

def test_targets_know_no_emotion():
    learner = tiny_wav2vec2.VoiceLearner()
    assert learner.sizes == [1, len(tiny_wav2vec2.PITCHES), len(tiny_wav2vec2.WORDS) + 1, len(tiny_wav2vec2.MEASURES)]
    assert not {c.lower() for c in EXPRESSION8.classes} & {m.lower() for m in tiny_wav2vec2.MEASURES}

@pytest.mark.parametrize('name, plan', [('tiny-clip', tiny.FacePlan(subjects=2, scenes=1, frames=8, passes=1, batch=8)),
                                        ('tiny-wav2vec2', tiny.VoicePlan(subjects=2, takes=1, passes=1, batch=2))])
def test_gate_replaces_nothing_below_it(tmp_path, monkeypatch, name, plan):
    (tmp_path/name).mkdir(); (tmp_path/name/'old').touch()
    figures, which = {k: .95 for k in tiny.GATED}, 'probe_clip' if name == 'tiny-clip' else 'probe_wav2vec2'
    monkeypatch.setattr(tiny, which, lambda folder: (dict(figures), np.eye(8, dtype=int)))
    figures['emotion'] = .5
    with pytest.raises(UserError, match='nothing was replaced'): tiny.make_encoder(name, str(tmp_path), plan)
    assert (tmp_path/name/'old').exists()
    figures['emotion'] = .95
    tiny.make_encoder(name, str(tmp_path), plan)
    assert not (tmp_path/name/'old').exists()
    assert (load_visual if name == 'tiny-clip' else load_speech)(str(tmp_path/name)).dim == 128
    assert read_json(tmp_path/name/'mmemo.json')['probes']['emotion'] == .95
