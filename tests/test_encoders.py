"Encoders at published sizes with random weights, every family of speech encoder, and the real Whisper where it is."
import json

import numpy as np
import pytest
import torch

from mmemo.core import UserError, real_data
from mmemo.features.encoder_files import (find_speech_files, find_visual_files, is_synthetic_only, write_random_speech,
                                          write_random_visual)
from mmemo.features.encoders import load_speech, load_text, load_visual, pick_precision

FAMILIES = {'wav2vec2': dict(kind='wav2vec2'), # group norm: padding would change every step
            'wav2vec2-large': dict(kind='wav2vec2', feat_extract_norm='layer', do_stable_layer_norm=True,
                                   conv_bias=True),
            'hubert': dict(kind='hubert'), 'wavlm': dict(kind='wavlm'), 'whisper': dict(kind='whisper')}


def cosine(a, b):
    "The smallest cosine over steps."
    return float(np.min((a*b).sum(-1)/np.linalg.norm(a, axis=-1)/np.linalg.norm(b, axis=-1)))


def smooth(n, size, seed=0):
    "Pictures with structure."
    rng = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.interpolate(torch.rand(n, 3, 7, 7, generator=rng), (size, size), mode='bicubic')
    return (255*x.clamp(0, 1)).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def voice(seconds, seed=0):
    t = np.arange(int(16000*seconds))/16000
    rng = np.random.default_rng(seed)
    tone = sum(np.sin(2*np.pi*f*t*(1 + .02*np.sin(t))) for f in (140, 280, 420, 1200))
    return (.05*tone*(1 + np.sin(7*t)) + .01*rng.normal(size=len(t))).astype(np.float32)


@pytest.fixture(scope='module')
def speech_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp('speech')
    return {name: write_random_speech(root/name, **kw) for name, kw in FAMILIES.items()}


@pytest.mark.parametrize('name', FAMILIES)
def test_speech_family(speech_folders, name):
    enc = load_speech(str(speech_folders[name]), precision='fp32')
    x = voice(2.4)
    values, time, valid = enc(x)
    assert values.shape == (len(time), enc.dim) and valid.all() and values.dtype == np.float32
    assert np.allclose(np.diff(time), 1/enc.hz) and 0 <= time[0] <= .0126 and time[-1] < 2.4
    assert enc.hz == 50
    assert values.tobytes() == load_speech(str(speech_folders[name]), precision='fp32')(x)[0].tobytes()
    assert cosine(values, load_speech(str(speech_folders[name]), precision='bf16')(x)[0]) > .999
    middle = load_speech(str(speech_folders[name]), layers='1,2', precision='fp32')
    assert middle(x)[0].shape == values.shape and not np.allclose(middle(x)[0], values)
    assert len(enc(x[:50])[0]) == (1 if name == 'whisper' else 0)


@pytest.mark.parametrize('name', ['wav2vec2-large', 'whisper'])
def test_long_sound(speech_folders, name):
    "Pieces of a long clip agree with the whole where the model's context is short of the cut."
    enc = load_speech(str(speech_folders[name]), precision='fp32')
    x = voice(62)
    values, time, _ = enc(x)
    assert len(values) == enc.n_steps(len(x)) and np.allclose(np.diff(time), .02) and enc.calls == 3
    assert np.isfinite(values).all() and (np.linalg.norm(values, axis=1) > 0).all()


def test_convolutions_do_not_notice_the_cut(speech_folders):
    "With attention out of the way (layer 0 without a positional convolution), pieces equal the whole."
    folder = speech_folders['wav2vec2-large']
    enc, whole = (load_speech(str(folder), layers='0', precision='fp32') for _ in range(2))
    for e in (enc, whole):
        e.model.encoder.pos_conv_embed = torch.nn.Module()
        e.model.encoder.pos_conv_embed.forward = torch.zeros_like
    whole.longest = 1000.
    x = voice(40)
    a, b = enc(x)[0], whole(x)[0]
    assert enc.calls == 2 and whole.calls == 1 and np.abs(a - b).max() < 1e-4


def test_missing_weights_are_refused(speech_folders, tmp_path):
    from safetensors.torch import load_file, save_file
    folder = tmp_path/'half'
    folder.mkdir()
    for f in ('config.json', 'preprocessor_config.json'):
        (folder/f).write_text((speech_folders['wav2vec2']/f).read_text())
    weights = load_file(speech_folders['wav2vec2']/'model.safetensors')
    save_file({k: v for k, v in weights.items() if 'layers.1.' not in k}, folder/'model.safetensors')
    with pytest.raises(UserError, match='lack .*layers.1'): load_speech(str(folder))
    (folder/'config.json').write_text(json.dumps({'model_type': 'bert'}))
    with pytest.raises(UserError, match="speech encoder called 'bert'"): load_speech(str(folder))


def test_pickles_are_refused(tmp_path):
    (tmp_path/'open_clip_config.json').write_text('{}'); (tmp_path/'config.json').write_text('{}')
    (tmp_path/'pytorch_model.bin').write_bytes(b'\x80')
    for find in (find_visual_files, find_speech_files):
        with pytest.raises(UserError, match='pytorch_model.bin, a pickle'): find(str(tmp_path))


def test_offline_sentence():
    for find, name in ((find_visual_files, 'clip-vit-l14'), (find_visual_files, 'hf-hub:nobody/nothing'),
                       (find_speech_files, 'nobody/nothing')):
        with pytest.raises(UserError, match=f'mmemo fetch {name}'): find(name)


def test_no_path_in_what_an_encoder_says(tmp_path):
    a, b = (load_visual(str(write_random_visual(tmp_path/n/'enc'))) for n in 'ab')
    assert a.facts == b.facts and str(tmp_path) not in json.dumps(a.facts) + a.id
    assert a.facts != load_visual(str(write_random_visual(tmp_path/'c', seed=1))).facts


@pytest.fixture(scope='module')
def vit_b32(tmp_path_factory):
    return str(write_random_visual(tmp_path_factory.mktemp('clip')/'vit-b32', 'ViT-B-32-quickgelu'))


def test_vit_b32_size(vit_b32, monkeypatch):
    "bf16 against fp32, and alone against in company, at the published size."
    from mmemo.features.encoders import VisualEncoder
    monkeypatch.setattr(VisualEncoder, 'batch', 4)
    x = smooth(5, 224)
    half, full = load_visual(vit_b32, precision='bf16'), load_visual(vit_b32, precision='fp32')
    z = half(x)
    assert z.shape == (5, 512) and cosine(z, full(x)) > .999
    assert half(x[4:]).tobytes() == z[4:].tobytes() and half(x[::-1][:3]).tobytes() == z[::-1][:3].tobytes()


def test_wav2vec2_base_size(tmp_path):
    big = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, conv_dim=[512]*7,
               num_conv_pos_embeddings=128, num_conv_pos_embedding_groups=16)
    folder = str(write_random_speech(tmp_path/'base', **big))
    x = voice(1.)
    assert cosine(load_speech(folder, precision='bf16')(x)[0], load_speech(folder, precision='fp32')(x)[0]) > .999


def test_text_tower(vit_b32):
    text = load_text(vit_b32)
    z = text(['a smiling face', 'a frowning face', 'a smiling face'])
    assert z.shape == (3, 512) and np.allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5) and np.array_equal(z[0], z[2])


def test_synthetic_only(tmp_path):
    assert not is_synthetic_only('clip-vit-b32+wav2vec2-base') and not is_synthetic_only('openai/whisper-tiny')
    (tmp_path/'mmemo.json').write_text('{"knows": "planted faces and voices only"}')
    assert is_synthetic_only(str(tmp_path)) and is_synthetic_only(f'clip-vit-b32+{tmp_path}')
    assert is_synthetic_only('tiny')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
def test_gpu_agrees(vit_b32):
    x = smooth(5, 300)
    one, other = (load_visual(vit_b32, precision='fp32', device=d)(x) for d in ('cpu', 'cuda'))
    assert cosine(one, other) > .999 and pick_precision('auto', 'cuda') in ('bf16', 'fp32')


@pytest.mark.skipif(real_data() is None, reason='MMEMO_REAL_DATA is not set')
def test_real_whisper():
    "The mean of two layers equals what transformers gives by itself."
    import transformers
    from mmemo.media.sound import read_audio
    folder = real_data()/'whisper_tiny_en_encoder'
    x = read_audio(sorted((real_data()/'ravdess_speech_16k').glob('*.flac'))[0])
    enc = load_speech(str(folder), layers='2,3', precision='fp32')
    values, time, _ = enc(x)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).get_encoder().eval()
    listen = transformers.AutoFeatureExtractor.from_pretrained(folder)
    mel = listen(x, sampling_rate=16000, return_tensors='pt').input_features
    with torch.inference_mode(): hidden = model(mel, output_hidden_states=True).hidden_states
    theirs = (hidden[2] + hidden[3])[0]/2
    n = -(-len(x)//320)
    assert values.shape == (n, 384) and np.allclose(values, theirs[:n].numpy(), atol=1e-4)
    assert cosine(values, load_speech(str(folder), layers='2,3', precision='bf16')(x)[0]) > .999


def test_mfcc_is_librosas():
    "Pieces and kept filters change nothing; 3.6 s at 22,050 Hz give the 156 steps that AVT-CA's shapes are made for."
    import librosa
    enc = load_speech('mfcc')
    x = np.interp(np.arange(79_380)/22_050, np.arange(len(v := voice(3.6)))/16_000, v).astype(np.float32)
    values, time, valid = enc(x)
    assert values.shape == (156, 10) and values.dtype == np.float32 and valid.all() and time[0] == 0 and np.allclose(np.diff(time), 512/22_050)
    assert np.allclose(values, librosa.feature.mfcc(y=x, sr=22_050, n_mfcc=10, hop_length=512).T, atol=1e-2)
    long = np.tile(x, 40)
    assert len(enc(long)[0]) > enc.longest and np.allclose(enc(long)[0], librosa.feature.mfcc(y=long, sr=22_050, n_mfcc=10, hop_length=512).T, atol=1e-2)
    assert enc.facts['librosa'] == librosa.__version__ and len(enc(x[:0])[0]) == 0 and len(enc(x[:1])[0]) == 1
    assert enc.facts != load_speech('logmel').facts


def test_logmel_by_the_definition():
    "Against windows cut by hand: magnitudes of 400 samples under a Hann window, triangles even on the mel scale."
    enc, x = load_speech('logmel'), voice(.5)
    values, time, valid = enc(x)
    hann = .5 - .5*np.cos(2*np.pi*np.arange(400)/400)
    cut = np.stack([x[a:a + 400] for a in range(0, len(x) - 399, 160)])
    spectrum = np.abs(np.fft.rfft(cut*hann, 512))
    edges = np.linspace(*(1127*np.log(1 + f/700) for f in (125, 7500)), 66)
    hertz, f = 700*(np.exp(edges/1127) - 1), np.fft.rfftfreq(512, 1/16000)
    up, down = [(f[None] - hertz[:-2, None])/np.diff(hertz)[:-1, None], (hertz[2:, None] - f[None])/np.diff(hertz)[1:, None]]
    bands = np.clip(np.minimum(up, down), 0, None)
    assert values.shape == (len(cut), 64) and valid.all() and np.allclose(values, np.log(spectrum @ bands.T + .01), atol=1e-3)
    assert np.allclose(time, (np.arange(len(cut))*160 + 200)/16000) and (time < .5).all()


def test_pixels_show_the_face():
    enc, x = load_visual('pixels-48'), smooth(70, 96)
    small = enc(x)
    assert small.shape == (70, 48, 48, 3) and small.dtype == np.uint8 and enc.facts['weights'] == 'none'
    mean = x.reshape(70, 48, 2, 48, 2, 3).mean((2, 4))
    assert np.abs(small - mean).mean() < 2 and np.array_equal(enc(x[5:6])[0], small[5]) # colours in their order, and no neighbours
    wide = enc(np.pad(x, ((0, 0), (0, 0), (24, 24), (0, 0)))) # of a wide picture the middle; at its edge the filter sees what stands beside
    assert np.array_equal(wide[:, :, 1:-1], small[:, :, 1:-1])
    assert find_visual_files('pixels-48').weights == () and not is_synthetic_only('pixels-48+mfcc')
    for name in ('pixels-3', 'pixels-99999'):
        with pytest.raises(UserError, match='8 to 1024'): load_visual(name)
