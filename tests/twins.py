"""The planted corpus written out in the shape of Aff-Wild2, RAVDESS, CREMA-D and CMU-MOSEI, defects included: trees whose truth is known.

A reader of a data set can be wrong in silence: labels one frame late, a speaker on both sides, an impossible value taken for a number.
On the real data nobody would notice, because nobody knows the truth. Here it is known. `write_twin` takes a planted corpus and lays it
out as the four data sets lie on disk; then it plants their known defects, each by name, each on clips of its own. A good reader names
every defect in its report and reads all other clips as if nothing had happened.

Nothing is rendered a second time: files are linked or copied, tracks are copied from one container to another. A twin is synthetic, and
`twin_facts` (in `mmemo.corpora.readers`) says so for whoever reads it; the only thing it has from the real data set is the shape.

| shape | what stands in it | what it cannot say |
|---|---|---|
| `affwild2` | EXPR and VA label files, a test list, videos, numbered pictures | test clips have no labels; a clip is its own subject |
| `ravdess` | `Actor_01/01-01-06-...mp4`; *Calm* is planted Neutral of weak intensity, *Other* is left out | what is said: the name promises one of two sentences |
| `crema-d` | `.flv`, `.wav`, three tables; the voice's vote is the planted state of the voice; *Surprise* and *Other* are left out | what is said; ages and the like are drawn |
| `cmu-mosei` | `.csd` files, one video a subject, one segment a clip | raw clips: features only |
| `cmu-mosei-pickle` | the same as MMSA's unaligned pickle | seconds |
"""
import json, os, pickle, shutil, wave
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mmemo.core import Registry, UserError, atomic_path, read_json, rng_for, write_json
from mmemo.corpora.cremad import CREMAD_ACTORS, CREMAD_BROKEN, CREMAD_EMOTIONS, CREMAD_PEOPLE, CREMAD_SENTENCES, LETTERS
from mmemo.corpora.affwild2_files import HEADERS
from mmemo.corpora.manifest import Corpus
from mmemo.labels import CREMA6, MOSEI_EMOTIONS, RAVDESS8
from mmemo.media.files import open_media
from mmemo.media.frames import VideoReader
from mmemo.media.sound import read_audio


# Media without rendering
#
# A hard link costs nothing, but two names then share their bytes, and harm done to one would reach the planted clip. So
# nothing in a twin is ever written in place: what is harmed is written beside, and takes the name.

def place(source, target) -> Path: # the target; its folder is made
    "The same file under another name: linked where the disk can, else copied."
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try: os.link(Path(source).resolve(), target)
    except OSError: shutil.copyfile(source, target)
    return target


def put(path, data) -> Path: # bytes or text
    "Write a file anew; another name of the old one keeps what it had."
    with atomic_path(path) as tmp: tmp.write_bytes(data.encode() if isinstance(data, str) else data)
    return Path(path)


def cut(path, size:int): # bytes that are left
    "A download that ended early."
    put(path, Path(path).read_bytes()[:size])


# Copying tracks leaves every decoded picture as it was. Two containers ask for care. An AVI keeps no times, only a
# rate, and wants H.264 with start codes. An FLV has no times below zero, so the packet that warms up the sound decoder
# is left out: kept, it would move picture and sound by 64 ms against a `.wav` of the same clip.

def remux(source, target, tracks=('video', 'audio'),
          clock=None, # seconds -> seconds, ascending: moves the pictures in time
         ) -> Path:
    "Copy the tracks of a clip into another container, by the target's ending."
    import av
    from av.bitstream import BitStreamFilterContext
    with atomic_path(target) as tmp, open_media(source) as a, av.open(str(tmp), 'w') as b:
        streams = [s for s in a.streams if s.type in tracks]
        to = {s.index: b.add_stream_from_template(s) for s in streams}
        avi, start_codes = b.format.name == 'avi', {}
        for s in streams:
            if avi and s.type == 'video':
                to[s.index].time_base = 1/s.average_rate
                start_codes[s.index] = BitStreamFilterContext('h264_mp4toannexb', s, to[s.index])
        for p in a.demux(streams):
            if p.dts is None or p.pts < 0: continue
            s, scale = p.stream, float(p.time_base)
            if clock and s.type == 'video': p.pts, p.dts = (round(clock(t*scale)/scale) for t in (p.pts, p.dts))
            for q in start_codes[s.index].filter(p) if s.index in start_codes else [p]:
                q.stream = to[s.index]
                b.mux(q)
    return Path(target)


def write_wav(path, samples, rate:int=16000) -> Path: # (n,) float in -1..1
    "Sixteen bits, one channel."
    with atomic_path(path) as tmp, wave.open(str(tmp), 'wb') as w:
        w.setparams((1, 2, rate, 0, 'NONE', ''))
        w.writeframes((np.clip(samples, -1, 1)*32767).round().astype('<i2').tobytes())
    return Path(path)


def sound_of(source, target) -> Path:
    "A clip's sound as a .wav."
    return write_wav(target, read_audio(source))


def write_pictures(source, folder):
    "Every frame as 00001.jpg, 00002.jpg and so on, as face detectors leave their crops."
    import cv2
    Path(folder).mkdir(parents=True, exist_ok=True)
    film = VideoReader(source)
    for i, frame in enumerate(film.frames(range(len(film))), 1):
        cv2.imwrite(str(Path(folder)/f'{i:05d}.jpg'), frame[..., ::-1])


# A twin, and a defect
#
# A twin knows its truth: one row for every clip that a whole tree would give, under the name that the reader gives it,
# with the planted clip it was.

SHAPES = {'affwild2': 'affwild2-expr', 'ravdess': 'ravdess', 'crema-d': 'crema-d', 'cmu-mosei': 'cmu-mosei',
          'cmu-mosei-pickle': 'cmu-mosei'} # shape -> name of the reader

@dataclass
class Twin:
    "A planted corpus in the shape of another data set, and what is true of it."
    root: Path
    shape: str
    truth: pd.DataFrame # clip_id as it is read, planted, subject, group, split, and what the shape labels
    corpus: Corpus # the planted one
    free: list # clips that defects may harm, in the order in which they are taken
    touched: dict = field(default_factory=dict) # defect -> clips that are read otherwise because of it

    @property
    def place(self) -> Path: # what a reader is given
        return self.root/'unaligned_50.pkl' if self.shape.endswith('pickle') else self.root
    @property
    def options(self) -> dict: # and what it must be told
        asked = {'cmu-mosei': dict(folds=self.root/'folds.json'), 'cmu-mosei-pickle': dict(allow_pickle=True)}
        return asked.get(self.shape, {})
    def __fspath__(self): return str(self.place)

    def row(self, clip_id:str): return self.truth.set_index('clip_id', drop=False).loc[clip_id]
    def source(self, clip_id:str) -> Path: return self.corpus.path(self.row(clip_id).planted) # the planted film
    def rename(self, old:str, new:str): self.truth.loc[self.truth.clip_id == old, 'clip_id'] = new


# A defect is a sentence and a function that harms the tree. It has clips of its own, whichever others are asked for,
# and all clips but the ones it touches must be read as before: a tree with one defect, with all of them and with none
# can be compared. `told` is the line that the reader's report must hold. Some defects need none, because reading them
# rightly is all there is to do.

@dataclass(frozen=True)
class Defect:
    "One way in which a data set is not as its description says."
    name: str
    what: str
    harm: object # (twin, its clips ...) -> a list of the clips that are read otherwise, where they are not its own
    takes: int # training clips that it needs for itself
    told: tuple # kind, and words of the line in the reader's report
    same: bool # its own clips are read as before
    reader: str # the reader, and its options, with which it shows
    options: dict


DEFECTS = {shape: Registry(f'defect of {shape}') for shape in SHAPES}

def defect(shape:str, name:str, what:str, harm, takes:int=0, told:tuple=(), same:bool=False, reader:str='', **options):
    "File a defect under its name."
    DEFECTS[shape][name] = Defect(name, what, harm, takes, told, same, reader or SHAPES[shape], options)


def told_table(shape:str) -> pd.DataFrame: # columns: defect, what, told
    "All defects of a shape."
    return pd.DataFrame([dict(defect=d.name, what=d.what, told=': '.join(d.told)) for d in DEFECTS[shape].values()])


def victims(twin:Twin, name:str) -> list: # clip ids
    "The training clips that a defect harms."
    known = list(DEFECTS[twin.shape].values())
    place = [d.name for d in known].index(name)
    at, n = sum(d.takes for d in known[:place]), known[place].takes
    if at + n > len(twin.free):
        need = sum(d.takes for d in known)
        raise UserError(f"{twin.shape}: defect '{name}' found no clip to harm; all defects need {need} training clips, "
                        f'this corpus has {len(twin.free)} for them.')
    return twin.free[at:at + n]


def plant(twin:Twin, names) -> Twin: # the same twin; names of defects
    "Harm the tree, in the order in which the defects are filed."
    for name in names: DEFECTS[twin.shape].get_or_explain(name)
    for d in DEFECTS[twin.shape].values():
        if d.name not in names: continue
        mine = victims(twin, d.name)
        found = d.harm(twin, *mine)
        twin.touched[d.name] = found if isinstance(found, list) else [] if d.same else mine
    note_twin(twin)
    return twin


def note_twin(twin:Twin):
    "A hidden file that readers pass over and `twin_facts` finds."
    known = {k: v for k, v in twin.corpus.facts.items() if k in ('generator', 'version')}
    write_json(twin.root/'.twin.json', dict(synthetic=True, twin_of=twin.shape, defects=list(twin.touched), **known))

def shuffled(clips) -> list: return list(rng_for('twin').permutation(np.array(clips, object)))


# Aff-Wild2
#
# Both tasks share a tree. A value that a planted clip does not have is -1 for a class and -5 for valence and arousal.
# Nine digits bring a float32 back as it was. Test clips stand in a list and have no labels, as in the challenge.

ABAW = '6th_ABAW_Annotations'
CHALLENGE = dict(expr=f'{ABAW}/EXPR_Recognition_Challenge', va=f'{ABAW}/VA_Estimation_Challenge')
SET = dict(train='Train_Set', val='Validation_Set')

def label_lines(frames:pd.DataFrame, task:str) -> list: # of one clip -> the lines of its file, header first
    "A label file's text, line by line."
    if task == 'expr': return [HEADERS['expr'], *frames.label.astype(str)]
    values = frames[['valence', 'arousal']].fillna(-5.).to_numpy()
    return [HEADERS['va'], *(f'{v:.9g},{a:.9g}' for v, a in values)]


def write_affwild2(corpus:Corpus, root) -> Twin:
    "Videos, pictures, labels of two tasks, and the list of test videos."
    root, rows = Path(root), corpus.clips.set_index('clip_id')
    for clip, frames in corpus.frames.groupby('clip_id', observed=True):
        row = rows.loc[clip]
        place(corpus.path(row), root/'batch1'/f'{clip}.mp4')
        write_pictures(corpus.path(row), root/'cropped'/clip)
        for task in CHALLENGE if row.split in SET else ():
            put(root/CHALLENGE[task]/SET[row.split]/f'{clip}.txt', '\n'.join([*label_lines(frames, task), '']))
    test = corpus.clips.clip_id[corpus.clips.split == 'test']
    for folder in CHALLENGE.values(): put(root/folder/'test_set.txt', '\n'.join([*test, '']))
    clip = corpus.clips.clip_id
    truth = corpus.clips.assign(planted=clip, speaker=corpus.clips.subject, subject=clip, group=clip)
    truth = truth[['clip_id', 'planted', 'subject', 'speaker', 'group', 'split']]
    return Twin(root, 'affwild2', truth, corpus, shuffled(truth.clip_id[truth.split == 'train']))


# The defects of the labels. An empty line in the middle is a frame without a label: whoever passes over it moves all
# later labels.

def labels_of(twin:Twin, clip:str, task:str) -> Path: # of a training clip
    return twin.root/CHALLENGE[task]/SET['train']/f'{clip}.txt'


def _relabel(twin:Twin, clip:str, change, tasks=('expr', 'va'), end:str='\n'): # change: (line number, line) -> line or None
    "Write the label files of a clip anew; line 0 is the first frame."
    for task in tasks:
        head, *lines = labels_of(twin, clip, task).read_text().split('\n')[:-1]
        lines = [new for i, x in enumerate(lines) if (new := change(i, x)) is not None]
        put(labels_of(twin, clip, task), end.join([head, *lines, '']))


def _minus_five(i:int, line:str) -> str: # either value, and then none
    v, a = line.split(',')
    return (f'-5,{a}', f'{v},-5', line)[i % 3]


def _one_more(twin:Twin, clip:str): # the last label once more
    n = len(labels_of(twin, clip, 'expr').read_text().split('\n')) - 3
    _relabel(twin, clip, lambda i, x: f'{x}\n{x}' if i == n else x)


def _third(value:str): return lambda i, line: value if i == 2 else line # in place of the third label


def _beside_labels(twin:Twin, name:str, data): # in both challenges
    for folder in CHALLENGE.values(): put(twin.root/folder/SET['train']/name, data)


defect('affwild2', 'minus_one', 'A class of -1 is no label.',
       lambda t, c: _relabel(t, c, lambda i, x: '-1' if i % 3 else x, ['expr']), 1)
defect('affwild2', 'minus_five', 'A frame with -5 in either value has no label.',
       lambda t, c: _relabel(t, c, _minus_five, ['va']), 1, ('note', 'one value of -5'), reader='affwild2-va')
defect('affwild2', 'one_label_more', 'The official number of frames is one too high.',
       _one_more, 1, ('mended', 'labels past the last frame, cut'), same=True)
defect('affwild2', 'labels_missing', 'The later frames have no line.',
       lambda t, c: _relabel(t, c, lambda i, x: x if i < 5 else None),
       1, ('mended', 'frames past the last label, marked as without'))
defect('affwild2', 'ninth_class', 'A class of 9.', lambda t, c: _relabel(t, c, _third('9'), ['expr']),
       1, ('skipped', 'is no class from 0 to 7'))
defect('affwild2', 'impossible_valence', 'A valence of 1.5.', lambda t, c: _relabel(t, c, _third('1.5,0'), ['va']),
       1, ('skipped', 'is no pair of values in -1 to 1'), reader='affwild2-va')
defect('affwild2', 'blank_line', 'An empty line among the labels.', lambda t, c: _relabel(t, c, _third('')),
       1, ('skipped', "line 4: ''"))
defect('affwild2', 'crlf', 'Lines end as they do in Windows.',
       lambda t, c: _relabel(t, c, lambda i, x: x, end='\r\n'), 1, same=True)
defect('affwild2', 'another_header', 'A file without the header lies among the labels.',
       lambda t: _beside_labels(t, 'stranger.txt', '3\n4\n'), 0, ('skipped', 'expected the header'))
defect('affwild2', 'empty_file', 'A label file of no bytes.', lambda t: _beside_labels(t, 'empty.txt', b''),
       0, ('skipped', 'the file is empty'))


# Then pictures and videos. `_left` and `_right` are two people in one video: here the second of them is another planted
# clip, whose pictures are kept and whose own video is taken away, so that the pair shares one video and one sound. The
# old spelling of the folders comes at the very end, since all other defects look for the new one.

def film_of(twin:Twin, clip:str, ending:str='.mp4') -> Path: return twin.root/'batch1'/f'{clip}{ending}'


def crop_of(twin:Twin, clip:str, number:int) -> Path: return twin.root/'cropped'/clip/f'{number:05d}.jpg'


def crops_of(twin:Twin, clip:str) -> Path: return twin.root/'cropped'/clip


def _two_people(twin:Twin, one:str, two:str) -> list:
    "One video, one sound, two label files, two folders of pictures."
    for clip, new in ((one, f'{one}_left'), (two, f'{one}_right')):
        for task in CHALLENGE: labels_of(twin, clip, task).rename(labels_of(twin, new, task))
        crops_of(twin, clip).rename(crops_of(twin, new))
        twin.truth.loc[twin.truth.clip_id == clip, ['clip_id', 'subject', 'group']] = [new, new, one]
    film_of(twin, two).unlink()
    return [f'{one}_left', f'{one}_right', one, two]


def _gaps(twin:Twin, clip:str):
    for i in (2, 5, 6): crop_of(twin, clip, i).unlink()


def _past_the_end(twin:Twin, clip:str):
    "A picture of a frame that the video does not have."
    last = max(crops_of(twin, clip).iterdir())
    place(last, crop_of(twin, clip, int(last.stem) + 1))


def _uneven(twin:Twin, clip:str):
    "The first half runs twice as fast; only the time stamps know."
    half = float(VideoReader(twin.source(clip)).times.max()/2)
    remux(twin.source(clip), film_of(twin, clip), clock=lambda t: t/2 if t < half else half/2 + (t - half)*1.5)


defect('affwild2', 'missing_crops', 'A frame without a face has no picture; the numbers have gaps.',
       _gaps, 1, ('missing', 'frames without a picture'))
defect('affwild2', 'no_crops', 'No face was found in the whole video.', lambda t, c: shutil.rmtree(crops_of(t, c)),
       1, ('missing', 'no folder of pictures'))
defect('affwild2', 'picture_past_the_end', 'One picture more than there are frames.', _past_the_end,
       1, ('mended', 'pictures past the last frame'), same=True)
defect('affwild2', 'picture_zero', 'A picture that counts from 0.',
       lambda t, c: place(crop_of(t, c, 1), crop_of(t, c, 0)), 1, ('skipped', 'the first frame is number 1'), same=True)
defect('affwild2', 'left_right', 'Two people in one video.', _two_people, 2, ('note', 'one video, one sound, 2 clips'))
defect('affwild2', 'no_sound', 'A video without sound.',
       lambda t, c: remux(t.source(c), film_of(t, c), ['video']), 1, ('missing', 'no sound track'), same=True)
defect('affwild2', 'avi', 'An AVI, which keeps no time stamps.',
       lambda t, c: remux(t.source(c), film_of(t, c, '.avi')) and film_of(t, c).unlink(), 1)
defect('affwild2', 'variable_rate', 'A variable frame rate.', _uneven, 1, ('note', 'variable frame rate'))
defect('affwild2', 'no_video', 'Labels of a video that was never downloaded.', lambda t, c: film_of(t, c).unlink(),
       1, ('missing', 'no video of this name'))
defect('affwild2', 'cut_video', 'A download that ended early.',
       lambda t, c: cut(film_of(t, c), film_of(t, c).stat().st_size//2),
       1, ('missing', 'video cannot be used'))


def _later_folder(twin:Twin, clip:str):
    "A video and its pictures in folders that came later."
    place(film_of(twin, clip), twin.root/'new_vids'/f'{clip}.mp4')
    film_of(twin, clip).unlink()
    (twin.root/'cropped_new_50_vids').mkdir()
    crops_of(twin, clip).rename(twin.root/'cropped_new_50_vids'/clip)


def _hidden_beside_labels(twin:Twin):
    "What a Mac leaves in folders and archives."
    _beside_labels(twin, '._ghost.txt', b'\0\5\x16\7')
    put(twin.root/'__MACOSX'/CHALLENGE['expr']/SET['train']/'ghost.txt', f'{HEADERS["expr"]}\n1\n')


def _odd_names(twin:Twin):
    "A name that leads out of the folder, and one that nothing is known of."
    for folder in CHALLENGE.values():
        path = twin.root/folder/'test_set.txt'
        put(path, path.read_text() + '../../../etc/passwd\nnowhere\n')


def _aligned(twin:Twin) -> list:
    for f in [*twin.root.glob('cropped*')]: f.rename(f.with_name(f.name.replace('cropped', 'cropped_aligned')))
    return list(twin.truth.clip_id)


def _with_blanks(twin:Twin):
    for task, name in (('expr', 'EXPR Classification Challenge'), ('va', 'VA Estimation Challenge')):
        there = twin.root/CHALLENGE[task]
        for side in SET.values(): (there/side).rename(there/side.replace('_', ' '))
        there.rename(twin.root/ABAW/name)
    (twin.root/ABAW).rename(twin.root/'3rd ABAW Annotations')


defect('affwild2', 'second_copy', 'A video that stands in two batches.',
       lambda t, c: place(film_of(t, c), t.root/'batch2'/f'{c}.mp4'),
       1, ('note', 'a second file of this name'), same=True)
defect('affwild2', 'hidden_files', 'What a Mac leaves in folders and archives.', _hidden_beside_labels)
defect('affwild2', 'odd_test_names', 'A test list that leads out of the folder.', _odd_names,
       0, ('skipped', 'expected a name, found a path'))
defect('affwild2', 'new_videos_folder', 'Videos that came later lie in folders of their own.', _later_folder, 1)
defect('affwild2', 'aligned_only', 'Only the aligned pictures were downloaded.',
       _aligned, 0, ('missing', 'is taken in its place'))
defect('affwild2', 'old_folder_names', 'The spelling of earlier years, with blanks.', _with_blanks)


# RAVDESS
#
# A RAVDESS name has room for four takes of a class by one actor, twice that with strong intensity. Planted subjects
# become actors in the order in which they come. *Calm* is not planted; planted Neutral of weak intensity is written as
# Calm, so that the class is there. Nothing in the clip tells the two apart: a model that does has read the file names.

WEAK = .925 # planted intensities are from .85 to 1

def first_free(slots, used:set, what:str) -> str: # marks it as used
    "The first name that is not taken."
    for s in slots:
        if s not in used: used.add(s); return s
    raise UserError(f'{what}: the shape has no room for so many clips of one subject and class.')


def ravdess_names(clips:pd.DataFrame) -> pd.DataFrame: # planted, subject, group (the name without the modality), label
    "A RAVDESS name for every planted clip but those of class Other."
    clips = clips[clips.label != 'Other']
    actors, used, rows = {s: i for i, s in enumerate(dict.fromkeys(clips.subject), 1)}, set(), []
    if len(actors) > 24: raise UserError(f'RAVDESS has 24 actors, this corpus {len(actors)} subjects; plant fewer.')
    for c in clips.itertuples():
        weak, actor = c.intensity < WEAK, actors[c.subject]
        label = 'Calm' if weak and c.label == 'Neutral' else c.label
        levels = (1,) if label == 'Neutral' else (1, 2) if weak else (2, 1)
        slots = (f'01-{RAVDESS8.index(label) + 1:02d}-{i:02d}-{s:02d}-{r:02d}-{actor:02d}'
                 for i in levels for s in (1, 2) for r in (1, 2))
        rows.append(dict(planted=c.clip_id, subject=f'actor{actor:02d}', split=c.split, label=label,
                         group=first_free(slots, used, f'{c.subject}, {label}')))
    return pd.DataFrame(rows)


def write_ravdess(corpus:Corpus, root) -> Twin:
    "One audio-visual file a performance; the twins of each are a trap, and stand below."
    truth = ravdess_names(corpus.clips).assign(clip_id=lambda t: '01-' + t.group)
    twin = Twin(Path(root), 'ravdess', truth, corpus, shuffled(truth.clip_id[truth.split == 'train']))
    for clip in truth.clip_id: place(twin.source(clip), actor_file(twin, clip))
    return twin

def actor_file(twin:Twin, clip:str, modality:str='01', ending:str='.mp4') -> Path:
    "Where a recording of a performance lies."
    return twin.root/f'Actor_{clip[-2:]}'/f'{modality}{clip[2:]}{ending}'


def _pair(twin:Twin, clip:str): # beside the audio-visual file, or in its place
    "The twins of a performance: picture alone, sound alone."
    remux(twin.source(clip), actor_file(twin, clip, '02'), ['video'])
    sound_of(twin.source(clip), actor_file(twin, clip, '03', '.wav'))


def _every_pair(twin:Twin):
    for clip in twin.truth.clip_id: _pair(twin, clip)


def _mute(twin:Twin, clip:str):
    _pair(twin, clip)
    remux(twin.source(clip), actor_file(twin, clip), ['video'])


def _pair_instead(twin:Twin, clip:str, left:int=0) -> list: # bytes that are left of the audio-visual file
    "The audio-visual file is gone, or cannot be opened; its twins stand in."
    _pair(twin, clip)
    cut(actor_file(twin, clip), left)
    if not left: actor_file(twin, clip).unlink()
    twin.rename(clip, new := '02' + clip[2:])
    return [clip, new]


def _sing(twin:Twin, *clips): # the same films under the names of songs
    for clip in clips: place(twin.source(clip), actor_file(twin, clip[:3] + '02' + clip[5:]))

def _elsewhere(twin:Twin, clip:str):
    place(twin.source(clip), twin.root/'Actor_23'/f'{clip}.mp4')
    actor_file(twin, clip).unlink()

def _lost_link(twin:Twin, clip:str):
    actor_file(twin, clip, '02').unlink(missing_ok=True)
    actor_file(twin, clip, '02').symlink_to('gone.mp4')

def _stray(twin:Twin, name:str): # a planted film under a name that it should not have
    place(twin.source(twin.truth.clip_id[0]), twin.root/name)


defect('ravdess', 'twins', 'Every performance is there three times: with sound, without, and as sound alone.',
       _every_pair,
       0, ('note', 'files are twins of clips'))
defect('ravdess', 'av_without_sound', 'An audio-visual file that has lost its sound.', _mute,
       1, ('missing', 'this audio-visual file has no sound'))
defect('ravdess', 'pair_in_place_of_av', 'Only picture and sound apart.', _pair_instead,
       1, ('mended', 'clips with the sound of their twin'))
defect('ravdess', 'cut_short', 'An audio-visual file that ended in its header.', lambda t, c: _pair_instead(t, c, 400),
       1, ('skipped', 'expected a video or sound file'))
defect('ravdess', 'wrong_folder', "A file in another actor's folder.", _elsewhere, 1, ('note', 'name another actor'))
defect('ravdess', 'songs', 'Songs lie among the speech.',
       _sing, 3, ('note', "files that vocal='speech' does not ask for"), same=True)
defect('ravdess', 'empty_file', 'A sound of no bytes.', lambda t, c: put(actor_file(t, c, '03', '.wav'), b''),
       1, ('skipped', 'the file is empty (0 bytes)'), same=True)
defect('ravdess', 'link_to_nothing', 'A file that was moved away from under its link.', _lost_link,
       1, ('skipped', 'a link to nothing'), same=True)
defect('ravdess', 'sound_named_av', 'Somebody took the sound out and kept the name.',
       lambda t, c: sound_of(t.source(c), actor_file(t, c, '01', '.wav')),
       1, ('mended', 'named audio-visual (01), but a sound'), same=True)
defect('ravdess', 'unpacked_twice', 'The archive was unpacked a second time, one folder deeper.',
       lambda t, c: place(t.source(c), t.root/'Speech'/actor_file(t, c).relative_to(t.root)),
       1, ('skipped', 'a second file of this name'), same=True)


defect('ravdess', 'strong_neutral', 'Neutral of strong intensity was never recorded.',
       lambda t: _stray(t, 'Actor_01/01-01-01-02-01-01-01.mp4'), 0, ('skipped', 'neutral has no strong intensity'))
defect('ravdess', 'impossible_song', 'Disgust was never sung.',
       lambda t: _stray(t, 'Actor_01/01-02-07-01-01-01-01.mp4'), 0, ('skipped', 'song has no disgust'))
defect('ravdess', 'song_of_actor_18', 'Actor 18 sang nothing.',
       lambda t: _stray(t, 'Actor_18/01-02-03-01-01-01-18.mp4'), 0, ('skipped', 'actor 18 recorded no songs'))
defect('ravdess', 'malformed_name', 'A name of another making.',
       lambda t: _stray(t, 'Actor_01/happy (1).mp4'), 0, ('skipped', 'expected seven two-digit parts'))
defect('ravdess', 'code_out_of_range', 'A ninth emotion.',
       lambda t: _stray(t, 'Actor_01/01-01-09-01-01-01-01.mp4'), 0, ('skipped', 'emotion is 09, expected 01 to 08'))
defect('ravdess', 'video_named_audio', 'A film that is named a sound.',
       lambda t: _stray(t, 'Actor_01/03-01-03-01-01-01-01.mp4'),
       0, ('skipped', 'named audio-only (03), but it is a .mp4'))
defect('ravdess', 'other_files', 'A page that came with the archive.', lambda t: put(t.root/'README.txt', 'RAVDESS'),
       0, ('note', 'other files, neither picture nor sound'))
defect('ravdess', 'hidden_files', 'What a Mac leaves in folders and archives.',
       lambda t: _stray(t, 'Actor_01/._01-01-03-01-01-01-01.mp4') or _stray(t, '__MACOSX/01-01-03-01-01-01-01.mp4'))


# CREMA-D
#
# Planted clips say in which modality their evidence is, so the raters' votes can be planted too: who hears a clip votes
# for the state of its voice, who sees it for that of its face, and who does both for its label. The XOR clips make
# honest ties. Each of their cues alone says nothing about the label, and the raters of one modality are left between
# Happiness and Anger. Tables are harmed as text, line by line, because that is how they break.

LETTER = dict(zip(CREMA6.classes, LETTERS))
KINDS = dict(VoiceVote='voice_state', FaceVote='face_state', MultiModalVote='label') # vote -> column of the plan
SUMMARY, COUNTS = 'processedResults/summaryTable.csv', 'processedResults/tabulatedVotes.csv'
PEOPLE = 'VideoDemographics.csv'

def cremad_names(clips:pd.DataFrame) -> pd.DataFrame: # clip_id, planted, subject, label, and a vote of each kind
    "A CREMA-D name for every planted clip whose class CREMA-D has."
    clips = clips[clips.label.isin(CREMA6.classes) & (clips.subset != 'coincidence')] # brow and accent are no votes
    sad = next(iter(clips.subject[clips.label == 'Sadness']), None) # becomes actor 1040, whose sad clip was misnamed
    others = iter(a for a in CREMAD_ACTORS if a not in ('1040', '1064', '1076')) # of whom broken clips are known
    actors = {s: '1040' if s == sad else next(others) for s in dict.fromkeys(clips.subject)}
    code, used, rows = {c: e for e, c in CREMAD_EMOTIONS.items()}, set(), []
    letter = lambda state: {'cue0': 'H', 'cue1': 'A'}.get(state) or LETTER[state]
    for c in clips.itertuples():
        actor, level = actors[c.subject], ('LO', 'MD', 'HI')[int((c.intensity - .85)/.0501)]
        if c.label == 'Neutral': level = 'XX'
        said = [f'IEO_{code[c.label]}_{level}', *(f'{s}_{code[c.label]}_XX' for s in CREMAD_SENTENCES if s != 'IEO')]
        if actor == '1040' and c.label == 'Sadness': said.insert(0, 'ITH_SAD_XX')
        name = first_free((f'{actor}_{s}' for s in said), used, f'{c.subject}, {c.label}')
        rows.append(dict(clip_id=name, planted=c.clip_id, subject=actor, split=c.split, label=c.label, group=c.group,
                         xor=c.subset == 'xor', **{vote: letter(getattr(c, state)) for vote, state in KINDS.items()}))
    return pd.DataFrame(rows)


def answers(vote:str) -> list: # of ten raters, in the order of the letters
    "How many gave each answer where this vote came out."
    won, other = vote.split(':'), next(c for c in LETTERS if c not in vote)
    return [8//len(won) if c in won else 10 - 8//len(won)*len(won) if c == other else 0 for c in LETTERS]


def summary_row(number:int, row) -> str: # one row of the truth
    cells = [f'"{row[v]}","{100*max(answers(row[v]))//10}"' for v in ('VoiceVote', 'FaceVote', 'MultiModalVote')]
    return f'"{number}","{row.clip_id}",' + ','.join(cells)


def tabulated_row(number:int, kind:int, row, vote:str) -> str: # kind: 1 voice, 2 face, 3 both
    n = answers(vote)
    return f'"{kind}{number:05d}",{",".join(map(str, n))},"{row.clip_id}",{sum(n)},{max(n)/sum(n)},"{vote}"'


def write_votes(twin:Twin):
    "The summary of the votes, and the counts behind them."
    rows = [r for _, r in twin.truth.iterrows()]
    head = '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"'
    put(twin.root/SUMMARY, '\n'.join([head, *(summary_row(i, r) for i, r in enumerate(rows, 1)), '']))
    head = '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"'
    counts = [tabulated_row(i, k, r, r[v]) for k, v in enumerate(KINDS, 1) for i, r in enumerate(rows, 1)]
    put(twin.root/COUNTS, '\n'.join([head, *counts, '']))


def write_people(twin:Twin):
    "Ages and the like, drawn: planted subjects have none."
    def person(actor):
        rng = rng_for('twin-person', actor)
        rest = ','.join(f'"{rng.choice(CREMAD_PEOPLE[c][1])}"' for c in ('sex', 'race', 'ethnicity'))
        return f'{actor},{rng.integers(20, 75)},{rest}'
    lines = ['"ActorID","Age","Sex","Race","Ethnicity"', *map(person, sorted(set(twin.truth.subject))), '']
    put(twin.root/PEOPLE, '\n'.join(lines))


def flv_and_wav(twin:Twin, source, clip:str):
    remux(source, twin.root/'VideoFlash'/f'{clip}.flv')
    sound_of(source, twin.root/'AudioWAV'/f'{clip}.wav')


def write_cremad(corpus:Corpus, root) -> Twin:
    "Films, sounds and three tables."
    truth = cremad_names(corpus.clips)
    mine = (truth.split == 'train') & ~truth.xor & (truth.clip_id != MISNAMED)
    twin = Twin(Path(root), 'crema-d', truth, corpus, shuffled(truth.clip_id[mine]))
    for clip in truth.clip_id: flv_and_wav(twin, twin.source(clip), clip)
    write_votes(twin); write_people(twin)
    return twin

MISNAMED = '1040_ITH_SAD_XX' # an earlier release wrote one X


POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:' + '0'*64 + '\nsize 131376\n'

def flv(twin:Twin, clip:str) -> Path: return twin.root/'VideoFlash'/f'{clip}.flv'


def wav(twin:Twin, clip:str) -> Path: return twin.root/'AudioWAV'/f'{clip}.wav'


def _pointers(twin:Twin, clip:str): # one film, and a folder of mp3
    put(flv(twin, clip), POINTER)
    for other in twin.truth.clip_id[:5]: put(twin.root/'AudioMP3'/f'{other}.mp3', POINTER)


def _known_broken(twin:Twin):
    "Without sound, and one of them of no length."
    for clip in CREMAD_BROKEN:
        remux(twin.source(twin.truth.clip_id[0]), flv(twin, clip), ['video'])
        write_wav(wav(twin, clip), np.zeros(1600))
    put(flv(twin, '1064_TIE_SAD_XX'), b'')


def _misname(twin:Twin) -> list:
    if MISNAMED not in set(twin.truth.clip_id):
        raise UserError("crema-d: defect 'misnamed' needs a clip of Sadness, found none.")
    for path in (flv(twin, MISNAMED), wav(twin, MISNAMED)): path.rename(path.with_stem(MISNAMED[:-1]))
    return [MISNAMED]


def _mp3_instead(twin:Twin, clip:str): # decoders look into a file and not at its name
    place(wav(twin, clip), twin.root/'AudioMP3'/f'{clip}.mp3')
    wav(twin, clip).unlink()


def _impossible_names(twin:Twin): # an emotion, a level and an actor that CREMA-D does not have
    film = twin.source(twin.truth.clip_id[0])
    for name in ('1001_DFA_JOY_XX', '1001_DFA_ANG_HI', '1099_DFA_ANG_XX'): flv_and_wav(twin, film, name)


defect('crema-d', 'lfs_pointers', 'A zip download holds pointers in place of files.', _pointers,
       1, ('skipped', 'Git LFS pointers, not media'))
defect('crema-d', 'known_broken', 'Four clips that are known to be broken.',
       _known_broken, 0, ('skipped', 'known to be broken'))
defect('crema-d', 'misnamed', 'One X too few in the name of a clip.',
       _misname, 0, ('mended', 'misnamed by an earlier release'))
defect('crema-d', 'no_wav', 'The sound is in the film only.', lambda t, c: wav(t, c).unlink(),
       1, ('note', "no wav: the video's own sound"))
defect('crema-d', 'only_mp3', 'The sound is there as mp3 only.',
       _mp3_instead, 1, ('mended', 'no wav: sound from the mp3'))
defect('crema-d', 'empty_file', 'A sound of no bytes.',
       lambda t, c: put(wav(t, c), b''), 1, ('skipped', 'the file is empty (0 bytes)'))
defect('crema-d', 'impossible_names', 'Names that are none.', _impossible_names, 0, ('skipped', "emotion is 'JOY'"))
defect('crema-d', 'second_copy', 'The same clip in a second folder.',
       lambda t, c: place(wav(t, c), t.root/'backup/AudioWAV'/f'{c}.wav'),
       1, ('skipped', 'a second file of this name'), same=True)
defect('crema-d', 'hidden_files', 'What a Mac leaves in folders.',
       lambda t: put(t.root/'AudioWAV/._1001_DFA_ANG_XX.wav', b'\0'))


def _edit(twin:Twin, table:str, change): # change: a line of the table -> lines
    "Write a table anew; its header stays."
    head, *lines = (twin.root/table).read_text().split('\n')
    put(twin.root/table, '\n'.join([head, *(new for line in lines for new in change(line))]))


def _edit_clip(twin:Twin, table:str, clip:str, change): # change: the lines of one clip
    _edit(twin, table, lambda line: change(line) if clip in line else [line])


def _tie(twin:Twin) -> list:
    twin.truth.loc[twin.truth.xor, ['VoiceVote', 'FaceVote']] = 'A:H'
    write_votes(twin)
    return twin.truth.clip_id[twin.truth.xor].tolist()


def _without_vote(twin:Twin, clip:str):
    for table in (SUMMARY, COUNTS): _edit_clip(twin, table, clip, lambda line: [])


def _contradict(twin:Twin, clip:str): # the summary, which is believed, says another class than the counts
    other = 'D' if twin.row(clip).MultiModalVote == 'F' else 'F'
    _edit_clip(twin, SUMMARY, clip, lambda line: [','.join([*line.split(',')[:-2], f'"{other}","80"'])])
    twin.truth.loc[twin.truth.clip_id == clip, 'MultiModalVote'] = other


def _people(twin:Twin, actor:str, change) -> list: # change: the actor's line
    _edit_clip(twin, PEOPLE, actor, change)
    return twin.truth.clip_id[twin.truth.subject == actor].tolist()


def _leads_out(twin:Twin): # a row at the end
    _edit(twin, SUMMARY, lambda line: [line] if line else ['"9999","../1001_DFA_ANG_XX"' + ',"A","80"'*3, ''])


defect('crema-d', 'ties', 'Raters of one modality tie where only both modalities tell the label.', _tie,
       0, ('skipped', 'the raters tie between Anger and Happiness'), target='perceived_audio')
defect('crema-d', 'no_vote', 'A clip that no rater was shown.', _without_vote,
       1, ('skipped', 'no vote for perceived_av'), target='perceived_av')
defect('crema-d', 'contradicting_tables', 'The summary says another class than the counts.', _contradict,
       1, ('note', 'by counting; the first is used'), target='perceived_av')
defect('crema-d', 'not_in_the_summary', 'A clip that the summary forgot.',
       lambda t, c: _edit_clip(t, SUMMARY, c, lambda line: []),
       1, ('mended', 'no vote in the summary: counted here'), same=True, target='perceived_av')
defect('crema-d', 'answers_do_not_add_up', 'Eleven answers by ten raters.',
       lambda t, c: _edit_clip(t, COUNTS, c, lambda line: [line.replace('",10,', '",11,')]),
       1, ('skipped', 'do not add up to its numResponses'), target='perceived_av')
defect('crema-d', 'row_twice', 'A line of the summary that stands there twice.',
       lambda t, c: _edit_clip(t, SUMMARY, c, lambda line: [line, line]),
       1, ('mended', 'stands there again, as before'), same=True, target='perceived_av')
defect('crema-d', 'lost_quotation_mark', 'A reader of CSV swallows the lines that follow.',
       lambda t, c: _edit_clip(t, SUMMARY, c, lambda line: [line[:-1]]), 1, same=True, target='perceived_av')
defect('crema-d', 'row_that_leads_out', 'A name in a table that leads out of the folder.', _leads_out,
       0, ('skipped', "'../1001_DFA_ANG_XX'"), target='perceived_av')
defect('crema-d', 'actor_unknown', 'An actor that the table of people does not have.',
       lambda t: _people(t, t.truth.subject.iloc[0], lambda line: []), 0, ('missing', 'actors not in it'))
defect('crema-d', 'impossible_age', 'An actor of 511 years.',
       lambda t: _people(t, t.truth.subject.iloc[-1], lambda line: [','.join([line[:4], '511', *line.split(',')[2:]])]),
       0, ('skipped', "Age is '511'"))


# CMU-MOSEI
#
# MOSEI has features only, and they are given: `tracks` is modality -> clip -> (values, times), as `extract` finds them
# in the planted clips. Where there is no text track, each spoken word becomes a fixed random vector, its time known. A
# subject becomes a video, its clips the segments of it, with half a second of nothing between them. Sentiment is three
# times the valence; the class, where MOSEI has it, is present with three times its intensity, and the other five
# emotions are absent.

def steps_of(track) -> tuple: # (t, d) float32, (t,) float64
    "Values and seconds of a track, given as a pair or as an object that has both."
    values, time = track if isinstance(track, tuple) else (track.values, track.time)
    return np.asarray(values, np.float32), np.asarray(time, np.float64)


def planted_words(corpus:Corpus) -> dict: # clip_id -> [(word, start, end)]
    "What is said in each clip, and when."
    told = Path(corpus.root)/'truth.parquet'
    if not told.is_file(): raise UserError(f"{corpus.name}: expected truth.parquet with the words' times, found none.")
    truth = pd.read_parquet(told, columns=['clip_id', 'words'])
    return {c: [(str(w), float(a), float(b)) for w, a, b in words] for c, words in zip(truth.clip_id, truth.words)}


def word_track(words:list, dim:int=12) -> tuple: # (t, d), (t,)
    "A fixed random vector for each word, in the middle of its time."
    vectors = [rng_for('twin-word', w).normal(size=dim) for w, *_ in words]
    return np.array(vectors, np.float32).reshape(-1, dim), np.array([(a + b)/2 for _, a, b in words])


def mosei_truth(corpus:Corpus, tracks:dict, mark:str) -> pd.DataFrame: # mark: between video and number, '[{}]' or '$_${}'
    "One row a segment: names, labels, and where it lies in its video."
    clips = corpus.clips
    length = {c: max((_end(tracks[m][c]) for m in tracks if c in tracks[m]), default=0.) for c in clips.clip_id}
    number, end, rows = {}, {}, []
    for c in clips.itertuples():
        video = f'v_{c.subject}$x' # real names hold _, - and $, too
        i, start = number.setdefault(video, 0), end.get(video, .5) + .5
        number[video], end[video] = i + 1, start + length[c.clip_id]
        emotions = {e: 3*c.intensity*(c.label == e) for e in MOSEI_EMOTIONS.classes}
        said = '' if pd.isna(c.transcript) else c.transcript
        rows.append(dict(clip_id=video + mark.format(i), planted=c.clip_id, subject=video, group=video, split=c.split,
                         start=start, end=end[video], label=c.label, sentiment=3*c.valence, **emotions, transcript=said))
    return pd.DataFrame(rows)


def _end(track) -> float: # when the last step is over
    _, time = steps_of(track)
    return float(time[-1] + _period(time)/2) if len(time) else 0.


def _period(time) -> float: return float(np.median(np.diff(time))) if len(time) > 1 else .04


def _with_text(corpus:Corpus, tracks) -> dict: # tracks with a modality 'text'
    if not tracks: raise UserError('cmu-mosei has features only; give tracks={modality: {clip_id: (values, times)}}.')
    if 'text' in tracks: return tracks
    return tracks | dict(text={c: word_track(w) for c, w in planted_words(corpus).items()})


CSD = dict(visual=('CMU_MOSEI_VisualFacet42.csd', 'FACET 4.2'), audio=('CMU_MOSEI_COVAREP.csd', 'COVAREP'),
           text=('CMU_MOSEI_TimestampedWordVectors.csd', 'glove_vectors'),
           words=('CMU_MOSEI_TimestampedWords.csd', 'words'), labels=('CMU_MOSEI_Labels.csd', 'All Labels')) # role -> file, name in it
ROW, PARTS = ['sentiment', *MOSEI_EMOTIONS.classes], dict(train='train', val='valid', test='test')

def write_csd(path, name:str, entries:dict): # video -> (features, intervals)
    "A computational sequence."
    import h5py
    with atomic_path(path) as tmp, h5py.File(tmp, 'w') as f:
        for video, (features, intervals) in entries.items():
            f.create_dataset(f'{name}/data/{video}/features', data=features)
            f.create_dataset(f'{name}/data/{video}/intervals', data=np.asarray(intervals, np.float64).reshape(-1, 2))
        f.create_dataset(f'{name}/metadata/root name', data=[json.dumps(name)], dtype=h5py.string_dtype())


def joined(truth:pd.DataFrame, tracks:dict) -> dict: # video -> (features, intervals)
    "The tracks of a video's segments, one after the other on the video's clock."
    def video(rows):
        parts = [(*steps_of(tracks[c]), s) for c, s in zip(rows.planted, rows.start) if c in tracks]
        values, middle = np.concatenate([v for v, *_ in parts]), np.concatenate([t + s for _, t, s in parts])
        half = np.concatenate([np.full(len(t), _period(t)/2) for _, t, _ in parts])
        return values, np.stack([middle - half, middle + half], 1)
    return {v: video(rows) for v, rows in truth.groupby('group', sort=False) if rows.planted.isin(list(tracks)).any()}


def write_mosei(corpus:Corpus, root, tracks:dict) -> Twin:
    "Computational sequences, and the lists of videos."
    root, tracks = Path(root), _with_text(corpus, tracks)
    truth, said = mosei_truth(corpus, tracks, '[{}]'), planted_words(corpus)
    groups = list(truth.groupby('group', sort=False))
    for m in tracks: write_csd(root/CSD[m][0], CSD[m][1], joined(truth, tracks[m]))
    write_csd(root/CSD['labels'][0], CSD['labels'][1], {v: (g[ROW].to_numpy(), g[['start', 'end']]) for v, g in groups})
    spoken = {v: [(w, a + s, b + s) for c, s in zip(g.planted, g.start) for w, a, b in said[c]] for v, g in groups}
    write_csd(root/CSD['words'][0], CSD['words'][1],
              {v: (np.array([[w.encode()] for w, *_ in ws]), [t for _, *t in ws]) for v, ws in spoken.items() if ws})
    lists = {name: sorted(set(truth.group[truth.split == s])) for s, name in PARTS.items()}
    write_json(root/'folds.json', lists)
    mine = truth.group.isin(lists['train'][:-2]) # the last two videos are harmed as a whole
    return Twin(root, 'cmu-mosei', truth, corpus, shuffled(truth.clip_id[mine]))


@contextmanager
def csd_of(twin:Twin, role:str): # yields the group of the entries, to be changed
    "A sequence of a twin, opened to be harmed; only the finished file takes the name."
    import h5py
    path, name = twin.root/CSD[role][0], CSD[role][1]
    with atomic_path(path) as tmp:
        shutil.copyfile(path, tmp)
        with h5py.File(tmp, 'a') as f: yield f[name]['data']


def _step_in(data, twin:Twin, clip:str) -> int: # the second step of a segment, counted in its video
    row = twin.row(clip)
    return int(np.searchsorted(data[row.group]['intervals'][:].mean(1), row.start)) + 1


def _train_video(twin:Twin, i:int) -> str: return sorted(set(twin.truth.group[twin.truth.split == 'train']))[i]


def _clips_in(twin:Twin, video:str) -> list: return twin.truth.clip_id[twin.truth.group == video].tolist()


def _off(role:str, value:float): # one feature of one step
    def harm(twin, clip):
        with csd_of(twin, role) as data: data[twin.row(clip).group]['features'][_step_in(data, twin, clip), 0] = value
    return harm


def _relabel_segment(twin:Twin, clip:str, **arrays): # what stands in its row
    video, i = clip[:-1].rsplit('[', 1)
    with csd_of(twin, 'labels') as data:
        for k, v in arrays.items(): data[video][k][int(i)] = v


def _change_video(twin:Twin, role:str, video:str, change): # change: features, intervals -> both
    with csd_of(twin, role) as data:
        entry = data[video]
        new = dict(zip(('features', 'intervals'), change(entry['features'][:], entry['intervals'][:])))
        for k, v in new.items(): del entry[k]; entry[k] = v


def _without_face(twin:Twin) -> list:
    with csd_of(twin, 'visual') as data: del data[_train_video(twin, -1)]
    return _clips_in(twin, _train_video(twin, -1))


def _double_width(twin:Twin) -> list:
    _change_video(twin, 'audio', _train_video(twin, -2), lambda x, t: (np.concatenate([x, x], 1), t))
    return _clips_in(twin, _train_video(twin, -2))


def _pauses(twin:Twin): # after each word
    between = lambda t: np.concatenate([t, np.stack([t[:, 1], t[:, 1] + .01], 1)])
    for video in sorted(set(twin.truth.group)):
        _change_video(twin, 'words', video, lambda x, t: (np.concatenate([x, np.full((len(x), 1), b'sp')]), between(t)))


def _link_out(twin:Twin):
    import h5py
    with csd_of(twin, 'labels') as data: data['stolen'] = h5py.ExternalLink('../secret.csd', '/All Labels/data/v')


def _second_face_file(twin:Twin):
    entry = np.ones((2, 9)), [[0, 1], [1, 2]]
    write_csd(twin.root/'CMU_MOSEI_VisualOpenFace2.csd', 'OpenFace_2', {_train_video(twin, 0): entry})


def _in_lists(twin:Twin, change): # change: videos of the training list -> others
    lists = read_json(twin.root/'folds.json')
    write_json(twin.root/'folds.json', lists | dict(train=change(lists['train'])))


def _forgotten(twin:Twin) -> list:
    _in_lists(twin, lambda videos: [v for v in videos if v != _train_video(twin, 1)])
    return _clips_in(twin, _train_video(twin, 1))

NO_TIME = [[2., 1.], [np.nan, 1.]] # ends before it begins; begins at no time


defect('cmu-mosei', 'minus_infinity', 'A value that is -inf.',
       _off('audio', -np.inf), 1, ('mended', 'audio: values that are -inf'))
defect('cmu-mosei', 'not_a_number', 'A value that is NaN.',
       _off('visual', np.nan), 1, ('mended', 'visual: values that are NaN'))
defect('cmu-mosei', 'label_out_of_range', 'A sentiment of 7.',
       lambda t, c: _relabel_segment(t, c, features=[7, 0, 0, 0, 0, 0, 0]),
       1, ('skipped', 'sentiment is 7, expected -3 to 3'))
defect('cmu-mosei', 'impossible_segment', 'A segment that ends before it begins; those after it keep their numbers.',
       lambda t, c: _relabel_segment(t, c, intervals=[9, 1]), 1, ('skipped', 'a segment from 9 to 1 s cannot be'))
defect('cmu-mosei', 'no_features', 'A video whose face was never measured.',
       _without_face, 0, ('missing', 'clips without a step'))
defect('cmu-mosei', 'another_width', 'A video with features of another width.', _double_width,
       0, ('skipped', 'features a step, expected'))
defect('cmu-mosei', 'steps_out_of_order', 'Steps that are not in the order of time.',
       lambda t: _change_video(t, 'audio', _train_video(t, 0), lambda x, s: (x[::-1], s[::-1])),
       0, ('mended', 'steps put in the order of time'))
defect('cmu-mosei', 'impossible_interval', 'Steps at no possible time.', lambda t: _change_video(
       t, 'visual', _train_video(t, 0), lambda x, s: (np.concatenate([x, x[:2]]), np.concatenate([s, NO_TIME]))),
       0, ('skipped', 'steps with an impossible interval'))
defect('cmu-mosei', 'pauses', "Pauses stand among the words, as 'sp'.", _pauses)
defect('cmu-mosei', 'second_visual_file', 'Faces measured by two programs.', _second_face_file,
       0, ('note', 'a second file for visual, not used'))
defect('cmu-mosei', 'phones', 'A sequence that is not needed, with a web page saved in its place.',
       lambda t: put(t.root/'CMU_MOSEI_TimestampedPhones.csd', '<!DOCTYPE html><html>502</html>'),
       0, ('note', 'a sequence of another kind'))
defect('cmu-mosei', 'link_out', 'An entry that points into another file.', _link_out,
       0, ('skipped', 'is a link to another place, and is not followed'))
defect('cmu-mosei', 'unknown_video_in_lists', 'The lists name a video that is not there.',
       lambda t: _in_lists(t, lambda videos: [*videos, 'unheard-of']),
       0, ('missing', 'videos of the lists without a clip'))
defect('cmu-mosei', 'video_in_no_list', 'A video that the lists forgot.',
       _forgotten, 0, ('note', 'clips of videos in no list'))


# MMSA's pickle
#
# The same features without seconds: arrays padded to one length, the true lengths beside them for sound and face, and
# in a mask for the words. The longest clip has exactly the padded length.

def padded(tracks:list) -> tuple: # of (t, d) -> (n, longest, d) float32, lengths
    "Arrays of one length."
    n = [len(x) for x in tracks]
    out = np.zeros((len(tracks), max(n), tracks[0].shape[1]), np.float32)
    for i, x in enumerate(tracks): out[i, :len(x)] = x
    return out, n


def mmsa_part(truth:pd.DataFrame, tracks:dict) -> dict: # rows of one split
    "One of train, valid and test."
    ready = {m: padded([steps_of(t[c])[0] for c in truth.planted]) for m, t in tracks.items()}
    text, words = ready['text']
    bert = np.zeros((len(truth), 3, text.shape[1]), np.float32)
    bert[:, 1] = np.arange(text.shape[1]) < np.array(words)[:, None]
    sentiment = truth.sentiment.to_numpy(np.float32)
    return dict(id=truth.clip_id.tolist(), raw_text=np.array(truth.transcript, object), regression_labels=sentiment,
                classification_labels=np.sign(sentiment) + 1, annotations=['Neutral']*len(truth),
                text=text, text_bert=bert, audio=ready['audio'][0], vision=ready['visual'][0],
                audio_lengths=ready['audio'][1], vision_lengths=ready['visual'][1])


def write_mosei_pickle(corpus:Corpus, root, tracks:dict) -> Twin:
    "MMSA's unaligned file."
    tracks = _with_text(corpus, tracks)
    if gone := [m for m in ('visual', 'audio') if m not in tracks]:
        raise UserError(f"MMSA's files hold face, sound and text; no tracks for {gone[0]}.")
    truth = mosei_truth(corpus, tracks, '$_${}')
    data = {name: mmsa_part(truth[truth.split == s], tracks) for s, name in PARTS.items()}
    twin = Twin(Path(root), 'cmu-mosei-pickle', truth, corpus, shuffled(truth.clip_id[truth.split == 'train']))
    put(twin.place, pickle.dumps(data, 4))
    return twin


@contextmanager
def pickle_of(twin:Twin, protocol:int=4): # yields the data, to be changed
    "The file of a twin, read without care since it is our own."
    data = pickle.loads(twin.place.read_bytes())
    yield data
    put(twin.place, pickle.dumps(data, protocol))


def _set_item(field:str, value, *at): # in the clip's row of a field
    def harm(twin, clip):
        with pickle_of(twin) as data:
            part = next(p for p in data.values() if clip in p['id'])
            i = part['id'].index(clip)
            part[field][(i, *at) if at else i] = value
    return harm


def _repeat_item(name:str=''): # once more at the end of its part, under another id
    def harm(twin, clip):
        with pickle_of(twin) as data:
            part = next(p for p in data.values() if clip in p['id'])
            i = part['id'].index(clip)
            again = lambda v: np.concatenate([v, v[i:i + 1]]) if isinstance(v, np.ndarray) else [*v, v[i]]
            part.update({k: again(v) for k, v in part.items()})
            part['id'][-1] = name or clip
    return harm


def _full_padding(twin:Twin): # as language models leave it: no zeros
    with pickle_of(twin) as data:
        for part in data.values(): part['text'][part['text_bert'][:, 1] == 0] = 9

def _textless(twin:Twin) -> list:
    with pickle_of(twin) as data: del data['valid']['raw_text']
    return twin.truth.clip_id[twin.truth.split == 'val'].tolist()

def _older(twin:Twin):
    with pickle_of(twin, 2): pass


defect('cmu-mosei-pickle', 'minus_infinity', 'A value that is -inf.', _set_item('audio', -np.inf, 1, 0),
       1, ('mended', 'audio: values that are -inf'))
defect('cmu-mosei-pickle', 'not_a_number', 'A value that is NaN.', _set_item('vision', np.nan, 1, 0),
       1, ('mended', 'visual: values that are NaN'))
defect('cmu-mosei-pickle', 'empty_text', 'A clip in which nothing is said.', _set_item('raw_text', ''),
       1, ('note', 'clips with an empty transcript, kept'))
defect('cmu-mosei-pickle', 'label_out_of_range', 'A sentiment of 7.', _set_item('regression_labels', 7),
       1, ('skipped', 'sentiment is 7, expected -3 to 3'))
defect('cmu-mosei-pickle', 'clip_twice', 'A clip that stands there twice.', _repeat_item(),
       1, ('skipped', 'stands there a second time'), same=True)
defect('cmu-mosei-pickle', 'odd_id', 'An id that leads out of the folder.', _repeat_item('../../etc/passwd$_$0'),
       1, ('skipped', "expected an id such as 'video$_$3'"), same=True)
defect('cmu-mosei-pickle', 'impossible_length', 'More steps than the array has.', _set_item('audio_lengths', 99999),
       1, ('mended', 'cannot be; zeros at the ends are cut'), same=True)
defect('cmu-mosei-pickle', 'padding_not_zero', 'Padding that is not zero.', _full_padding)
defect('cmu-mosei-pickle', 'no_raw_text', 'One part comes without its texts.', _textless, 0, ('missing', "'raw_text'"))
defect('cmu-mosei-pickle', 'older_protocol', 'A pickle as Python 2 wrote it.', _older)


# One call for all
#
# `write_twin` refuses a folder that holds something, and a corpus that is not synthetic: a twin of real clips would
# look real.

WRITERS = {'affwild2': write_affwild2, 'ravdess': write_ravdess, 'crema-d': write_cremad, 'cmu-mosei': write_mosei,
           'cmu-mosei-pickle': write_mosei_pickle}

def write_twin(corpus:Corpus, # a planted one
               shape:str, # one of `SHAPES`
               folder, # empty, or not there yet
               defects='all', # names from `DEFECTS[shape]`; () for none
               tracks:dict|None=None, # for cmu-mosei: modality -> clip_id -> (values, times) or a track
              ) -> Twin: # it can be given to a reader as a path
    "Write a planted corpus out in the shape of another data set."
    folder = Path(folder)
    if shape not in SHAPES: raise UserError(f"there is no shape '{shape}'; expected one of {', '.join(SHAPES)}.")
    if not corpus.synthetic:
        raise UserError(f'{corpus.name}: twins are written of planted corpora only, so that nobody takes one for real.')
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f'{folder}: holds something already; name another folder.')
    names = [defects] if isinstance(defects, str) else list(defects)
    if names == ['all']: names = list(DEFECTS[shape])
    for name in names: DEFECTS[shape].get_or_explain(name)
    given = (tracks,) if shape.startswith('cmu-mosei') else ()
    return plant(WRITERS[shape](corpus, folder, *given), names)
