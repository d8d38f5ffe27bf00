"Words with times, text encoders, text tracks, and Whisper: each next to the naive form that gets it wrong."
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mmemo.features import text as T
from mmemo.core import UserError, read_json
from mmemo.features.cache import list_cache
from mmemo.features.tracks import FeatureStore, Track, load_track, pack_tracks
from mmemo.corpora.manifest import Corpus, Report, check_manifest, load_corpus, save_corpus
from mmemo.media.files import write_clip
from mmemo.features.text import (add_text, load_text_encoder, make_text_jobs, make_text_track, tokenize_words,
                                 write_random_text)
from mmemo.features.words import Words, add_words, read_clip_words, read_words, spread_transcript
from mmemo.features.transcripts import Listener, cut_at_pauses, join_tokens, tighten, transcribe
from mmemo.features.windows import Windows, WindowSettings

RATE, LETTER = 16000, .2 # the planted Whisper takes 0.2 s a letter


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads(); torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def bert(tmp_path_factory): return write_random_text(tmp_path_factory.mktemp('text')/'bert')


@pytest.fixture(scope='module')
def encoder(bert): return load_text_encoder(str(bert), precision='fp32', device='cpu')


def plain(rows:dict, seconds=2., **columns) -> Corpus: # clip id -> words; segments, so no file is opened
    clips = pd.DataFrame(dict(clip_id=list(rows), path=[f'{c}.mp4' for c in rows], start=0., end=seconds, **columns))
    return add_words(Corpus('plain', '.', check_manifest(clips)), {c: w for c, w in rows.items() if w is not None})


def film(path, sound, seconds=None):
    n = int(25*(seconds or len(sound)/RATE))
    write_clip(path, np.random.default_rng(0).integers(0, 255, (n, 64, 64, 3)).astype(np.uint8), 25, sound)
    return path


def noise(seconds, level=.1, seed=0): return np.random.default_rng(seed).normal(0, level, int(RATE*seconds)).astype(np.float32)


# --- words -------------------------------------------------------------------------------------------------------------

def test_words_in_every_spelling():
    rows = [['I', .2, .3], ['am', .3, .5]]
    forms = [json.dumps(rows), rows, [tuple(map(str, r)) for r in rows], [dict(zip(('word', 'start', 'end'), r)) for r in rows],
             np.array([np.array(r, object) for r in rows], object), rows[::-1]] # as JSON, from Parquet, out of order
    for form in forms: assert read_words(form).rows == rows
    for nothing in (None, np.nan, pd.NA, '', '  '): assert read_words(nothing) is None
    assert len(read_words('[]')) == 0 # listened to, nobody spoke: not the same as unknown


@pytest.mark.parametrize('bad', ['[["I", 0.2', '5', '"I am"', '[["I", 0.2]]', '[["I", "soon", 1]]', '[["I", 0.4, 0.2]]', '[["I", NaN, 1]]',
                                 '[["I", 0, Infinity]]', '{"I": 1}', '[null]', '['*100_000])
def test_words_that_cannot_be(bad):
    with pytest.raises(UserError, match='^words: '): read_words(bad)


def test_words_survive_a_csv_file(tmp_path):
    corpus = plain({'a': [('1,5 "euro"', .1, .5)], 'b': [], 'c': None})
    save_corpus(replace(corpus, root=tmp_path), tmp_path)
    told = load_corpus(tmp_path).clips.to_dict('records')
    assert read_clip_words(told[0], 2.).rows == [['1,5 "euro"', .1, .5]]
    assert len(read_clip_words(told[1], 2.)) == 0 and read_clip_words(told[2], 2.) is None
    # a list written into CSV as it stands comes back as Python's spelling of it, which is no JSON
    corpus.clips.assign(words=[[['happy', .1, .5]], None, None]).to_csv(tmp_path/'naive.csv', index=False)
    with pytest.raises(UserError, match='words'): read_clip_words(pd.read_csv(tmp_path/'naive.csv').to_dict('records')[0], 2.)


def test_a_transcript_alone_is_spread_by_length():
    words = spread_transcript('a considerably long word', 2.4)
    assert not words.timed and words.start[0] == 0 and words.end[-1] == pytest.approx(2.4)
    assert (words.end - words.start)/np.array([len(w) for w in words.text]) == pytest.approx(2.4/21)
    by_number = np.arange(4)*.6
    assert abs(by_number - words.start).max() > .4
    assert spread_transcript('你好。', 1.).text == ['你', '好。'] and len('你好。'.split()) == 1


# --- encoders ----------------------------------------------------------------------------------------------------------

def test_a_words_vector_is_the_mean_of_its_tokens(encoder):
    words = ['happy', "don't", 'xyz', 'open', '.']
    ids, owner = tokenize_words(encoder.tokenizer, words)
    states = encoder.model(input_ids=torch.tensor([[2, *ids, 3]])).last_hidden_state[0, 1:-1].detach().numpy()
    values, count = encoder(words)
    assert count.tolist() == [1, 5, 3, 1, 1] and count.sum() == len(ids)
    for i in range(len(words)): assert np.allclose(values[i], states[owner == i].mean(0), atol=1e-4)
    assert np.abs(values[3] - states[3]).max() > .1 # one token a word, by number
    first = np.stack([states[owner == i][0] for i in range(len(words))])
    assert np.abs(values[2] - first[2]).max() > .1 # the first token of each
    assert [t for t, _ in encoder.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("don't")] == ['don', "'", 't'] # word_ids would say three


def test_a_word_knows_its_neighbours(encoder):
    one, two = encoder(['i', 'am', 'open'])[0], encoder(['the', 'open', 'garden'])[0]
    assert np.abs(one[2] - two[1]).max() > .1
    tower = load_text_encoder('tiny') # which reads each word alone, and says so
    assert tower(['i', 'am', 'happy'])[0][2].tobytes() == tower(['the', 'happy', 'man'])[0][1].tobytes()


def without_places(folder, room): # positions that are all zero, so that an encoder with more of them has the same weights
    enc = load_text_encoder(str(folder), precision='fp32', device='cpu')
    e, enc.room = enc.model.embeddings, room
    e.position_embeddings = torch.nn.Embedding.from_pretrained(torch.zeros(2048, 48))
    e.register_buffer('position_ids', torch.arange(2048)[None], persistent=False)
    e.register_buffer('token_type_ids', torch.zeros(1, 2048, dtype=torch.long), persistent=False)
    return enc


def test_long_texts_are_read_to_their_end(bert, encoder):
    words = [['open', 'garden', 'happy', 'the', 'am'][i] for i in np.random.default_rng(0).integers(0, 5, 1300)]
    before = encoder.calls
    values, count = encoder(words)
    assert encoder.calls - before == 6 and (count == 1).all() and (np.linalg.norm(values, axis=1) > 0).all()
    assert len(encoder.tokenizer(' '.join(words), truncation=True, max_length=512)['input_ids']) == 512 # what one pass leaves of it
    # against one pass over everything, pieces without context are farther off where they were cut
    short, whole = without_places(bert, 512), without_places(bert, 2048)(words)[0]
    cuts = T.cut_pieces(1300, 255)
    blind = np.concatenate([short(words[a:b])[0] for a, b in cuts])
    off = lambda x: np.mean([np.linalg.norm(x[b - 2:b + 2] - whole[b - 2:b + 2]) for _, b in cuts[:-1]])
    assert off(short(words)[0]) < .9*off(blind)


def test_roberta_has_fewer_places_than_its_table_has_rows(tmp_path):
    "Byte-level tokens, and positions that begin behind the padding's own."
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel
    vocab = {w: i for i, w in enumerate(['<s>', '<pad>', '</s>', '<unk>', *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    t = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.post_processor = processors.RobertaProcessing(('</s>', 2), ('<s>', 0), add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=t, pad_token='<pad>', unk_token='<unk>', bos_token='<s>', eos_token='</s>').save_pretrained(tmp_path)
    RobertaModel(RobertaConfig(vocab_size=len(vocab), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
                               max_position_embeddings=66, pad_token_id=1), add_pooling_layer=False).save_pretrained(tmp_path)
    enc = load_text_encoder(str(tmp_path), precision='fp32', device='cpu')
    assert enc.room == 64 and enc.before == [0] and enc.after == [2]
    words = ['我', "don't", 'naïve', 'go']*12
    values, count = enc(words) # 66 as the longest pass would end in an IndexError
    assert np.isfinite(values).all() and (count > 0).all() and enc.calls > 1
    ids, owner = tokenize_words(enc.tokenizer, words)
    for i in (0, 1, 2): assert enc.tokenizer.decode(ids[owner == i]).strip() == words[i]


def test_layers_precision_and_tokenizer_change_the_key(bert, encoder, tmp_path):
    corpus, keys = plain({'a': [('i', 0, 1)]}), []
    import shutil
    cased = shutil.copytree(bert, tmp_path/'bert')
    told = read_json(cased/'tokenizer.json'); told['normalizer']['lowercase'] = False
    (cased/'tokenizer.json').write_text(json.dumps(told))
    for enc in (encoder, load_text_encoder(str(bert), layers='1,2', precision='fp32'), load_text_encoder(str(bert), precision='bf16'),
                load_text_encoder(str(cased), precision='fp32')):
        for hz in (25., 50.): keys.append(make_text_jobs(None, corpus, enc, hz)[0].key)
    for other in ([('i', 0, .9)], [('I', 0, 1)]): keys.append(make_text_jobs(None, plain({'a': other}), encoder, 25.)[0].key)
    keys.append(make_text_jobs(None, plain({'a': [('i', 0, 1)]}, seconds=3.), encoder, 25.)[0].key)
    assert len(set(keys)) == len(keys)
    assert encoder.files.weight_hash == load_text_encoder(str(cased)).files.weight_hash # the weights alone do not notice another tokenizer


def test_only_whole_safetensors_are_taken(bert, tmp_path):
    import shutil
    from safetensors.torch import load_file, save_file
    pickled = shutil.copytree(bert, tmp_path/'pickled'); (pickled/'model.safetensors').rename(pickled/'pytorch_model.bin')
    with pytest.raises(UserError, match='a pickle, which is never loaded'): load_text_encoder(str(pickled))
    partial = shutil.copytree(bert, tmp_path/'partial')
    weights = load_file(partial/'model.safetensors')
    gone = next(k for k in weights if 'layer.2' in k and 'query.weight' in k)
    save_file({k: v for k, v in weights.items() if k != gone}, partial/'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(UserError, match=r'weights lack .*query'): load_text_encoder(str(partial))
    torn = shutil.copytree(bert, tmp_path/'torn'); (torn/'tokenizer.json').write_text('{')
    with pytest.raises(UserError, match='cannot be loaded'): load_text_encoder(str(torn))
    with pytest.raises(UserError, match='no text model'): load_text_encoder('data:tiny-wav2vec2')
    with pytest.raises(UserError, match="mmemo fetch google-bert/bert-base-uncased"): load_text_encoder('bert-base')


def test_the_network_is_left_alone(bert, monkeypatch):
    import socket
    def refuse(*a, **k): raise AssertionError('somebody reached for the network')
    monkeypatch.setattr(socket.socket, 'connect', refuse); monkeypatch.setattr(socket, 'getaddrinfo', refuse)
    load_text_encoder(str(bert)); load_text_encoder('tiny')
    with pytest.raises(UserError, match='not on this machine'): load_text_encoder('minilm')


# --- tracks ------------------------------------------------------------------------------------------------------------

def test_words_stand_where_they_are_spoken():
    "Not where their number in the clip would put them, and not everywhere."
    words = Words(['a', 'b', 'c'], np.array([.2, 1.7, 1.9]), np.array([.4, 1.9, 2.]))
    vectors = np.eye(3, dtype=np.float32)
    track = make_text_track(words, vectors, 2., hz=25.)
    want = np.zeros((50, 3)); want[5:10, 0] = 1
    want[42, 1] = want[43:47, 1] = 1; want[47] = [0, .5, .5]; want[48:, 2] = 1 # 1.9 s is in the middle of step 47
    assert np.allclose(track.values, want, atol=1e-3) and track.valid.tolist() == want.any(1).tolist()
    assert track.time == pytest.approx((np.arange(50) + .5)/25) and track.source['timed']
    by_number = vectors[np.arange(50)*3//50]
    assert (np.abs(by_number - want).max(1) > .4).sum() > 35
    one_a_clip = np.broadcast_to(vectors.mean(0), (50, 3))
    assert (np.abs(one_a_clip - want).max(1) > .3).all()


def test_short_words_and_two_speakers():
    words = Words(['blip', 'long', 'over', 'late', 'out'], np.array([.101, .2, .2, 1.9, 2.5]), np.array([.102, .4, .3, 9., 2.6]))
    track = make_text_track(words, np.eye(5, dtype=np.float32), 2., hz=25.)
    assert track.values[2].tolist() == [1, 0, 0, 0, 0] # one millisecond, between the middles of two steps
    assert not any(np.floor(a*25 + .5) < np.floor(b*25 + .5) for a, b in [(.101, .102)]) # choosing steps by their middles loses it
    assert np.allclose(track.values[5], [0, .5, .5, 0, 0], atol=1e-3) # two at once
    assert np.allclose(track.values[7], [0, 2/3, 1/3, 0, 0], atol=1e-3) or track.values[7, 1] > track.values[7, 2]
    assert track.valid[-1] and len(track) == 50 and not track.values[:, 4].any() # cut at the clip's end; beyond it, nothing


def test_edges_on_the_grid_make_no_extra_steps():
    assert .29*100 < 29 # and so a word that begins there would take a step that it does not touch
    for hz in (25., 29.97, 100.):
        for k in range(60):
            track = make_text_track(Words(['a'], np.array([k/hz]), np.array([(k + 3)/hz])), np.ones((1, 2), np.float32), 4., hz=hz)
            assert np.flatnonzero(track.valid).tolist() == [k, k + 1, k + 2]


def test_an_hour_takes_no_long_loop():
    import time
    n = 9000
    start = np.sort(np.random.default_rng(0).uniform(0, 3590, n))
    begun = time.process_time()
    track = make_text_track(Words(['w']*n, start, start + .3), np.ones((n, 64), np.float32), 3600., hz=25.)
    assert len(track) == 90_000 and time.process_time() - begun < 10


# --- a corpus ----------------------------------------------------------------------------------------------------------

def some_corpus(extra=()):
    rows = {'a': [('i', .2, .4), ('am', .5, .7), ('happy', 1., 1.6)], 'b': None, 'c': [('open', .1, .3), ('garden', .4, 1.1)], 'd': None, 'e': []}
    corpus = plain(rows | dict(extra), label=['Anger', 'Fear', 'Fear', 'Sadness', 'Anger'] + ['Fear']*len(extra))
    corpus.clips.loc[corpus.clips.clip_id == 'b', 'transcript'] = 'the open garden'
    return corpus


def test_add_text(encoder, tmp_path):
    corpus = some_corpus()
    store = add_text(None, corpus, encoder, tmp_path, progress=False)
    assert store.facts['text'] == dict(timed=3, untimed=1, without=1, bad=0, encoded=4, cached=0)
    assert store['text'].missing == {'d': 'no transcript', 'e': 'no words'}
    assert [len(store.clip(c, 'text')) for c in 'abcde'] == [50, 50, 50, 0, 50]
    assert not store.clip('e', 'text').valid.any() and store.clip('b', 'text').valid.all()
    alone = encoder(['i', 'am', 'happy'])[0]
    assert np.allclose(store.clip('a', 'text').values[[6, 14, 30]], alone, atol=2e-3)
    listed = list_cache(tmp_path)
    assert listed[listed.modality == 'text'].tracks.sum() == 4
    sources = [load_track(p).source for p in (tmp_path/'tracks').rglob('*.safetensors')]
    assert sorted(s['timed'] for s in sources) == [False, True, True, True] and all(s['encoder'] == 'bert' for s in sources)


def test_neighbours_do_not_change_bytes(encoder, bert, tmp_path):
    corpus = some_corpus([('long', [(f'word{i}', i/100, i/100 + .01) for i in range(180)])])
    store = add_text(None, corpus, encoder, tmp_path/'all', progress=False)
    for clip in 'ac':
        own = add_text(None, corpus.subset([clip]), load_text_encoder(str(bert), precision='fp32'), tmp_path/clip, progress=False)
        assert own.clip(clip, 'text').values.tobytes() == store.clip(clip, 'text').values.tobytes()
    shapes = set()
    hook = encoder.model.register_forward_pre_hook(lambda m, a, k: shapes.add(tuple(k['input_ids'].shape)), with_kwargs=True)
    for words in (['i'], ['i', 'am', 'happy'], ['open']*13, ['open']*300, ['open']*900): encoder(words)
    hook.remove()
    # few shapes, one clip in each; padding to the longest of a batch would make a clip's arithmetic depend on its neighbours
    assert shapes == {(1, 16), (1, 512)}


def test_second_run_encodes_nothing_and_a_stopped_one_goes_on(encoder, tmp_path, monkeypatch):
    corpus, done = some_corpus(), []
    whole = T.encode_text
    def stops(job, *rest):
        if len(done) == 2: raise KeyboardInterrupt
        done.append(job.clip_id); return whole(job, *rest)
    monkeypatch.setattr(T, 'encode_text', stops)
    with pytest.raises(KeyboardInterrupt): add_text(None, corpus, encoder, tmp_path, progress=False)
    monkeypatch.setattr(T, 'encode_text', whole)
    store = add_text(None, corpus, encoder, tmp_path, progress=False)
    assert (store.facts['text']['encoded'], store.facts['text']['cached']) == (2, 2)
    before = encoder.calls
    again = add_text(None, corpus, encoder, tmp_path, progress=False)
    assert encoder.calls == before and again['text'].values.tobytes() == store['text'].values.tobytes()
    fresh = add_text(None, corpus, encoder, tmp_path/'fresh', progress=False)
    assert fresh['text'].values.tobytes() == store['text'].values.tobytes()


def test_a_damaged_cell_is_named_and_hurts_nobody_else(encoder, tmp_path):
    corpus = some_corpus()
    good = add_text(None, corpus, encoder, tmp_path/'good', progress=False)
    rng, cell = np.random.default_rng(5), corpus.clips.words[0]
    for k in range(60):
        data = bytearray(cell.encode())
        at = int(rng.integers(len(data)))
        if k % 3 == 0: data[at] ^= 1 << int(rng.integers(8))
        elif k % 3 == 1: data = data[:at]
        else: data[at:at] = data[at:at + 9]
        clips = corpus.clips.copy(); clips.loc[0, 'words'] = data.decode('utf8', 'replace')
        jobs = make_text_jobs(None, replace(corpus, clips=clips), encoder, 25.)
        assert [j.key for j in jobs[1:]] == [j.key for j in make_text_jobs(None, corpus, encoder, 25.)[1:]]
        assert jobs[0].error.startswith('text: words: ') or jobs[0].key or jobs[0].words is None
    clips.loc[0, 'words'] = '[["i", 3, 2]]'
    old = pd.DataFrame([('plain', 'c', 'c.mp4', 'no picture')], columns=['corpus', 'clip_id', 'path', 'reason'])
    store = add_text(FeatureStore({}, {}, old), replace(corpus, clips=clips), encoder, tmp_path/'bad', progress=False)
    assert store.quarantine.set_index('clip_id').reason.to_dict() == {'a': "text: words: 'i' stands from 3.0 to 2.0 s, which cannot be.", 'c': 'no picture'}
    assert len(pd.read_csv(tmp_path/'bad'/'quarantine.csv')) == 2 and store.facts['text']['bad'] == 1
    for c in 'bce': assert store.clip(c, 'text').values.tobytes() == good.clip(c, 'text').values.tobytes()
    assert len(store.clip('a', 'text')) == 0


def test_segments_count_from_their_own_start(encoder, tmp_path):
    film(tmp_path/'long.mp4', noise(4.))
    clips = check_manifest(pd.DataFrame(dict(clip_id=['x', 'y', 'z'], path='long.mp4', start=[np.nan, 1., 3.], end=[np.nan, 2.5, np.nan])))
    corpus = add_words(Corpus('cuts', tmp_path, clips), {c: [('happy', .2, .4)] for c in 'xyz'})
    store = add_text(None, corpus, encoder, tmp_path/'cache', progress=False)
    assert [len(store.clip(c, 'text')) for c in 'xyz'] == [100, 38, 25]
    for c in 'xyz': assert np.flatnonzero(store.clip(c, 'text').valid).tolist() == [5, 6, 7, 8, 9]


def test_features_without_files_take_their_length_from_the_other_tracks(encoder, tmp_path):
    corpus = plain({'a': [('happy', .2, .4)], 'b': [('happy', .2, .4)]}); corpus.clips[['start', 'end']] = np.nan
    hour = {'a': Track(np.ones((30, 3), np.float32), (np.arange(30) + .5)/10, np.ones(30, bool))}
    store = add_text(FeatureStore({'audio': pack_tracks(hour, ['a', 'b'])}), corpus, encoder, tmp_path, progress=False)
    assert len(store.clip('a', 'text')) == 75 and 'how long the clip is' in store['text'].missing['b']


def test_three_modalities_in_windows_and_batches(encoder, tmp_path):
    corpus, rng = some_corpus(), np.random.default_rng(0)
    def tracks(hz, d): return {c: Track(rng.normal(size=(int(2*hz), d)).astype(np.float32), (np.arange(int(2*hz)) + .5)/hz, np.ones(int(2*hz), bool)) for c in 'abcde'}
    two = FeatureStore({'visual': pack_tracks(tracks(30, 8), list('abcde')), 'audio': pack_tracks(tracks(50, 6), list('abcde'))}, dict(encoders=dict(visual='v')))
    store = add_text(two, corpus, encoder, tmp_path, progress=False)
    assert store.modalities == ('visual', 'audio', 'text') and store.facts['encoders'] == dict(visual='v', text='bert') and 'text' not in two
    assert not store.facts['synthetic_only'] and add_text(two, corpus, 'tiny', tmp_path, progress=False).facts['synthetic_only']
    batch = Windows(corpus, store, WindowSettings(length=30, stride=30), modalities=('visual', 'audio', 'text')).whole()
    assert {m: tuple(x.shape) for m, x in batch.x.items()} == {'visual': (10, 30, 8), 'audio': (10, 50, 6), 'text': (10, 25, 48)}
    second = lambda c, half: [i for i, n in enumerate(batch.clip_id) if n == c][half]
    a = second('a', 0)
    spoken = batch.time['text'][a][batch.mask['text'][a]]
    assert spoken.min() == pytest.approx(.22, abs=.001) and spoken.max() < .701 and batch.mask['text'][a].sum() == 11
    assert batch.mask['text'][second('a', 1)].sum() == 15 and not batch.x['text'][a][~batch.mask['text'][a]].any()
    for c in 'de':
        for half in (0, 1): assert not batch.mask['text'][second(c, half)].any()
    # taking steps by the video's frame numbers would hear 'happy', spoken from second 1 on, in the first second's window
    assert store.clip('a', 'text').valid[:30][25:].all() and batch.time['text'][a].max() < 1


def test_text_alone_and_no_text_at_all(encoder, tmp_path):
    corpus = some_corpus()
    only = add_text(None, corpus, encoder, tmp_path, progress=False)
    assert len(Windows(corpus, only, WindowSettings(length=25), modalities=('text',))) > 0
    silent = plain({'a': None, 'b': None}, label=['Anger', 'Fear'])
    none = add_text(None, silent, encoder, tmp_path, progress=False)
    assert len(none['text'].values) == 0 and none['text'].dim == 48 and none.facts['text']['without'] == 2


# --- Whisper -----------------------------------------------------------------------------------------------------------

def planted_whisper(folder, said=' no yes go', stop=None, heads=True): # stop: letters after which it says that it stopped early
    """A Whisper that writes one sentence whatever it hears, a letter each 0.2 s.

    Its decoder's positions are unit vectors, so the output layer can map each position to the letter that shall follow; the query of
    each position is the encoder's place at which that letter is 'heard', so the alignment has a truth, too."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer
    names = ['<|endoftext|>', '<|startoftranscript|>', '<|en|>', '<|zh|>', '<|translate|>', '<|transcribe|>', '<|startoflm|>',
             '<|startofprev|>', '<|nospeech|>', '<|notimestamps|>']
    letters = {c: i for i, c in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = WhisperTokenizer(vocab=letters | {names[0]: 256}, merges=[], extra_special_tokens=names[1:])
    spelt, first_time, d, prompt = tokenizer.encode(said, add_special_tokens=False), 266, 64, 3
    spelt = spelt[:stop]
    end = first_time + round(len(spelt)*LETTER/.02)
    script = [first_time, *spelt, end, *([end] if stop else []), 256]
    config = WhisperConfig(vocab_size=first_time + 1501, d_model=d, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, decoder_attention_heads=1,
                           encoder_ffn_dim=8, decoder_ffn_dim=8, max_target_positions=64, decoder_start_token_id=257, pad_token_id=256, bos_token_id=256,
                           eos_token_id=256, suppress_tokens=None, begin_suppress_tokens=None, tie_word_embeddings=False, median_filter_width=3)
    model = WhisperForConditionalGeneration(config)
    one = torch.eye(d)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if 'embed_positions' not in name and 'layer_norm' not in name: p.zero_()
        model.model.decoder.embed_positions.weight.copy_(one)
        model.proj_out.weight[258] += 10*one[0] # English, where it is asked
        for i, token in enumerate(script): model.proj_out.weight[token] += 10*one[prompt - 1 + i]
        place = torch.nn.functional.layer_norm(model.model.encoder.embed_positions.weight, (d,))
        attention = model.model.decoder.layers[0].encoder_attn
        attention.k_proj.weight.copy_(one)
        for i in range(len(script)): attention.q_proj.weight[:, prompt + i] = .3*place[round((i + .5)*LETTER/.02)]
    how = dict(lang_to_id={'<|en|>': 258, '<|zh|>': 259}, task_to_id={'translate': 260, 'transcribe': 261}, no_timestamps_token_id=265, is_multilingual=True,
               max_initial_timestamp_index=50, prev_sot_token_id=263, max_length=64, _from_model_config=False, suppress_tokens=None,
               begin_suppress_tokens=None, **(dict(alignment_heads=[[0, 0]]) if heads else {}))
    for k, v in how.items(): setattr(model.generation_config, k, v)
    for part in (model, tokenizer, WhisperFeatureExtractor()): part.save_pretrained(folder)
    return folder


@pytest.fixture(scope='module')
def whisper(tmp_path_factory): return planted_whisper(tmp_path_factory.mktemp('whisper')/'planted')


def test_whisper_writes_words_with_their_times(whisper):
    listener = Listener(str(whisper), device='cpu')
    words = listener(noise(2.5))
    assert [w for w, *_ in words] == ['no', 'yes', 'go'] and listener.calls == 1
    assert np.array([w[1:] for w in words]) == pytest.approx(np.array([[0., .6], [.6, 1.4], [1.4, 2.]]), abs=.05)
    even = np.linspace(0, 2.5, 4)
    assert np.abs(np.stack([even[:-1], even[1:]], 1) - np.array([w[1:] for w in words])).max() > .2 # dividing by number
    assert Listener(str(whisper), language='English', device='cpu').language == 'en'
    with pytest.raises(UserError, match="language 'french'"): Listener(str(whisper), language='french')


def test_whisper_hears_nothing_in_the_padding(whisper):
    "What is said to be spoken after the end of the sound was not."
    words = Listener(str(whisper), device='cpu')(noise(1.))
    assert all(b <= 1. for *_, b in words) and words[-1][0] in ('yes', 'go')
    listener = Listener(str(whisper), device='cpu')
    model, tokenizer, mel = listener.parts
    model.generate = lambda *a, **k: dict(sequences=torch.tensor([[266, *tokenizer.encode(' a b c', add_special_tokens=False)]]),
                                          token_timestamps=torch.tensor([[0., .2, .4, .6, 1.4, 1.5, 1.6]]))
    assert [(w, round(a, 2), round(b, 2)) for w, a, b in listener.hear(noise(1.))[0]] == [('a', 0., .4), ('b', .4, 1.)] # c begins beyond the end


def test_whisper_goes_on_where_it_stopped(tmp_path):
    listener = Listener(str(planted_whisper(tmp_path, stop=7)), device='cpu') # ' no yes' and two time stamps: there is more
    words = listener(noise(3.5))
    assert listener.calls == 3 and [w for w, *_ in words][:4] == ['no', 'yes', 'no', 'yes']
    assert words[2][1] == pytest.approx(1.4, abs=.05)


def test_long_sound_is_cut_where_it_is_quiet(whisper):
    sound = noise(65.); gaps = [(25.3, 25.8), (51., 51.4)]
    for a, b in gaps: sound[int(a*RATE):int(b*RATE)] *= .001
    cuts = cut_at_pauses(sound)
    assert len(cuts) == 3 and cuts[0][0] == 0 and cuts[-1][1] == len(sound) and all(a[1] == b[0] for a, b in zip(cuts, cuts[1:]))
    assert all(a < c[1]/RATE < b for (a, b), c in zip(gaps, cuts)) and all(b - a <= 28*RATE for a, b in cuts)
    assert not any(a < 28*k < b for k in (1, 2) for a, b in gaps) # counting seconds cuts into speech
    words = Listener(str(whisper), device='cpu')(sound)
    assert [w for w, *_ in words] == ['no', 'yes', 'go']*3 and words[3][1] == pytest.approx(cuts[1][0]/RATE, abs=.5)
    assert (np.diff([w[1] for w in words]) > 0).all()


def test_whisper_without_alignment_heads_and_half_a_whisper(tmp_path, whisper):
    words = Listener(str(planted_whisper(tmp_path/'old', heads=False)), device='cpu')(noise(2.5))
    assert [w for w, *_ in words] == ['no', 'yes', 'go'] and words[1][1] == pytest.approx(.6, abs=.1)
    import shutil
    from safetensors.torch import load_file, save_file
    half = shutil.copytree(whisper, tmp_path/'half')
    save_file({k: v for k, v in load_file(half/'model.safetensors').items() if 'decoder' not in k}, half/'model.safetensors', metadata={'format': 'pt'})
    film(tmp_path/'a.mp4', noise(1.))
    corpus = Corpus('one', tmp_path, check_manifest(pd.DataFrame(dict(clip_id=['a'], path=['a.mp4']))))
    with pytest.raises(UserError, match='weights lack'): transcribe(corpus, half, tmp_path/'cache', progress=False) # the model's fault, not the clip's
    (half/'generation_config.json').unlink()
    with pytest.raises(UserError, match='encoder only'): Listener(str(half))
    with pytest.raises(UserError, match='expected a Whisper model'): Listener('data:tiny-wav2vec2')
    with pytest.raises(UserError, match='mmemo fetch whisper-base'): Listener('whisper-base')


def test_a_pause_does_not_belong_to_the_next_word():
    sound = noise(3.); sound[int(.5*RATE):int(2.*RATE)] = 0
    aligned = [('one', 0., .5), ('two', .5, 3.)] # without a gap, as Whisper's alignment is
    assert tighten(aligned, sound) == [('one', 0., .5), ('two', 2., 3.)]
    assert tighten(aligned, noise(3.)) == aligned # nothing is quiet: nothing is known
    assert tighten([('w', .6, 1.)], sound) == [('w', .6, 1.)] # all quiet
    speaking = [make_text_track(Words([w for w, *_ in x], *(np.array([w[i] for w in x]) for i in (1, 2))), np.eye(2, dtype=np.float32), 3.).valid.mean()
                for x in (aligned, tighten(aligned, sound))]
    assert speaking == pytest.approx([1., .5], abs=.03)


def test_tokens_to_words():
    "Spaces begin words; bytes of one letter wait for each other; characters stay apart; marks go with the word before."
    pieces = {1: ' hel', 2: 'lo', 3: ',', 4: ' wor', 5: 'ld', 6: ' 好', 7: '吗', 8: '？', 9: ' ok'}
    decode = lambda run: ''.join(pieces[i] for i in run)
    times = np.arange(10)/10
    assert join_tokens(decode, [99, 1, 2, 3, 98, 4, 5, 99], times, 90) == [('hello,', 0., .3), ('world', .4, .6)]
    assert [w for w, *_ in join_tokens(decode, [6, 7, 8, 9], times, 90)] == ['好', '吗？', 'ok']
    half = lambda run: {(1,): ' \ufffd', (1, 2): ' é'}[tuple(run)]
    assert join_tokens(half, [99, 1, 2], times, 90) == [('é', 0., .2)]
    assert len(join_tokens(decode, [1, 2, 3, 4, 5], times, 90)) == 2 # a word a token would be five


def small_corpus(root):
    quiet = noise(2., level=1e-4)
    for name, sound in dict(a=noise(2.2), b=noise(2.4, seed=1), q=quiet, k=noise(2.)).items(): film(root/f'{name}.mp4', sound)
    write_clip(root/'m.mp4', np.zeros((25, 64, 64, 3), np.uint8), 25)
    (root/'z.mp4').write_bytes(b'')
    ids = ['a', 'b', 'm', 'q', 'z', 'gone', 'k']
    clips = pd.DataFrame(dict(clip_id=ids, path=[f'{c}.mp4' for c in ids], transcript=[None]*6 + ['kids are talking'], label='Fear'))
    return Corpus('small', root, check_manifest(clips))


def test_transcribe(whisper, tmp_path, encoder):
    corpus, report = small_corpus(tmp_path), Report('transcribe', tmp_path)
    told = transcribe(corpus, whisper, tmp_path/'cache', report=report, progress=False)
    rows = told.clips.set_index('clip_id')
    assert rows.transcript[['a', 'b', 'k']].tolist() == ['no yes go', 'no yes go', 'kids are talking']
    assert rows.transcript_by['a'] == 'machine: planted' and rows.transcript_by[['m', 'q', 'z', 'gone', 'k']].isna().all()
    assert [w for w, *_ in json.loads(rows.words['a'])] == ['no', 'yes', 'go']
    without = told.facts['transcripts']['without']
    assert sorted(without) == ['gone', 'm', 'q', 'z'] and without['m'] == 'no sound' and without['q'].startswith('silent')
    assert str(tmp_path) not in json.dumps(without) and sorted(report.of('skipped')['where']) == sorted(without)
    assert told.facts['transcripts'] | dict(without=0) == dict(by='machine: planted', model='planted', weights=Listener(str(whisper)).weight_hash, language=None,
                                                             precision='fp32', version=1, clips=2, kept=1, without=0)
    assert 'words' not in corpus.clips and 'transcripts' not in corpus.facts # the corpus that was given is as it was
    store = add_text(None, told, encoder, tmp_path/'cache', progress=False)
    assert store.facts['text'] | dict(encoded=0) == dict(timed=2, untimed=1, without=4, bad=0, encoded=0, cached=0)
    save_corpus(replace(told, root=tmp_path), tmp_path) # and back from CSV
    assert [j.key for j in make_text_jobs(None, load_corpus(tmp_path), encoder, 25.)] == [j.key for j in make_text_jobs(None, told, encoder, 25.)]


def test_transcribe_goes_on_after_a_stop(whisper, tmp_path):
    corpus = small_corpus(tmp_path)
    class Stops(Listener):
        def __call__(self, samples):
            if self.calls == 1: raise KeyboardInterrupt
            return super().__call__(samples)
    with pytest.raises(KeyboardInterrupt): transcribe(corpus, Stops(str(whisper), device='cpu'), tmp_path/'cache', progress=False)
    listener = Listener(str(whisper), device='cpu')
    told = transcribe(corpus, listener, tmp_path/'cache', progress=False)
    assert listener.calls == 1 # b alone; a was kept
    again = Listener(str(whisper), device='cpu')
    same = transcribe(corpus, again, tmp_path/'cache', progress=False)
    assert again.calls == 0 and 'parts' not in vars(again) # the weights were not even loaded
    assert same.clips.words.tolist()[:2] == told.clips.words.tolist()[:2]
    more = transcribe(corpus, again, tmp_path/'cache', again=True, progress=False)
    assert again.calls == 1 and more.clips.transcript.tolist()[-1] == 'no yes go' # the given transcript gave way when asked to
    other = Listener(str(whisper), language='en', device='cpu')
    transcribe(corpus, other, tmp_path/'cache', progress=False)
    assert other.calls == 2 # another language is another key
    assert not list((tmp_path/'cache').glob('tmp/*'))
