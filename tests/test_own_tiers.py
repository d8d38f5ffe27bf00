"""Segments that people marked in a film, from ELAN and the others to a corpus, and a prediction back to them."""
import pandas as pd
import pytest

from mmemo.commands.corpus import import_table
from mmemo.core import UserError
from mmemo.corpora.manifest import load_corpus
from mmemo.corpora.tiers import read_tiers, write_tiers
from small_run import call_mmemo, small_run

MARKED = pd.DataFrame([('Stimmung', 0., 1.2, 'Frust'), ('Stimmung', 1.2, 2.2, 'Langeweile'), ('Gesagt', .2, .8, 'das geht nicht')], columns=['tier', 'start', 'end', 'text'])


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    place, corpus = tmp_path_factory.mktemp('tiers'), load_corpus(small_run()/'corpus')
    for name, path in zip('ab', map(corpus.path, corpus.clips.clip_id[:2])): (place/f'{name}.mp4').symlink_to(path)
    return place


@pytest.mark.parametrize('ending', ['.eaf', '.TextGrid'])
def test_segments_of_a_film_are_clips(films, tmp_path, ending):
    (tmp_path/'tiers').mkdir()
    for name in 'ab': write_tiers(MARKED, tmp_path/'tiers'/f'{name}{ending}')
    code, said = call_mmemo('manifest', 'import', tmp_path/'tiers', '--root', films, '--columns', 'label=Stimmung', 'transcript=Gesagt', '--out', tmp_path/'study')
    assert code == 0 and 'Frust (2), Langeweile (2)' in said, said
    clips = load_corpus(tmp_path/'study').clips
    assert clips.clip_id.is_unique and clips.path.map(lambda p: p[-5:]).tolist() == ['a.mp4']*2 + ['b.mp4']*2
    assert clips[['start', 'end']].values.tolist() == [[0, 1.2], [1.2, 2.2]]*2
    assert clips.transcript.fillna('').tolist() == ['das geht nicht', '']*2


def test_which_tier_is_asked(films, tmp_path):
    write_tiers(MARKED, tmp_path/'a.eaf')
    with pytest.raises(UserError, match='which tier has the labels. It has Gesagt, Stimmung'): import_table(tmp_path/'a.eaf', tmp_path/'study', root=films)
    with pytest.raises(UserError, match="there is no tier 'Laune'"): import_table(tmp_path/'a.eaf', tmp_path/'study', dict(label='Laune'), root=films)
    assert not (tmp_path/'study').exists()


def test_audacity_and_subtitles(films, tmp_path):
    write_tiers(MARKED[:2], tmp_path/'a.txt')
    assert load_corpus(import_table(tmp_path/'a.txt', tmp_path/'one', root=films).place).clips.label.tolist() == ['Frust', 'Langeweile']
    write_tiers(MARKED[2:], tmp_path/'a.srt')
    words = import_table(tmp_path/'a.srt', tmp_path/'two', root=films).clips
    assert words.transcript.tolist() == ['das geht nicht'] and 'label' not in words


@pytest.mark.parametrize('name,text', [('a.eaf', '<ANNOTATION'), ('a.TextGrid', 'File type = "oo'), ('a.srt', ''), ('a.txt', '0.1\t0.5\tx\n0.5 1 y\n')])
def test_a_broken_file_is_one_sentence(films, tmp_path, name, text):
    (tmp_path/name).write_text(text)
    code, said = call_mmemo('manifest', 'import', tmp_path/name, '--root', films, '--out', tmp_path/'study')
    assert code == 2 and 'Traceback' not in said and name in said and len(said.strip().splitlines()) == 1, said


def test_a_prediction_becomes_a_tier(films, tmp_path):
    code, said = call_mmemo('predict', films/'a.mp4', '--run', small_run()/'bicross', '--out', tmp_path/'page')
    assert code == 0, said
    write_tiers(MARKED, tmp_path/'mine.eaf', 'a.mp4')
    told = ('manifest', 'tiers', tmp_path/'page'/'frames.csv', tmp_path/'both.eaf', '--beside', tmp_path/'mine.eaf', '--film', 'a.mp4')
    code, said = call_mmemo(*told)
    both = read_tiers(tmp_path/'both.eaf')
    assert code == 0 and set(both.tier) == {'Stimmung', 'Gesagt', 'predicted'}, said
    frames, mine = pd.read_csv(tmp_path/'page'/'frames.csv'), both[both.tier == 'predicted']
    assert (mine.start.to_numpy()[1:] == mine.end.to_numpy()[:-1]).all() and mine.text.tolist() == frames.label[frames.label != frames.label.shift()].tolist()
    code, said = call_mmemo(*told)
    assert code == 2 and 'there is such a file already' in said


def test_somebodys_own_file_stays_whole(tmp_path):
    "All that ELAN keeps beside segments, and Praat's point tiers, are in the new file; the old one is not touched."
    from praatio import textgrid
    from praatio.data_classes.point_tier import PointTier
    from pympi import Eaf
    write_tiers(MARKED, tmp_path/'mine.eaf', 'talk.mp4')
    book = Eaf(str(tmp_path/'mine.eaf'))
    book.add_tier('empty', part='Anna')
    book.add_controlled_vocabulary('moods')
    book.to_file(str(tmp_path/'mine.eaf'))
    before = (tmp_path/'mine.eaf').read_bytes()
    (tmp_path/'frames.csv').write_text('time,label\n' + ''.join(f'{(i + .5)/30:.4f},{"Fear" if i < 20 else "Anger"}\n' for i in range(60)))
    code, said = call_mmemo('manifest', 'tiers', tmp_path/'frames.csv', tmp_path/'both.eaf', '--beside', tmp_path/'mine.eaf')
    both = Eaf(str(tmp_path/'both.eaf'))
    assert code == 0 and set(both.get_tier_names()) == {'Stimmung', 'Gesagt', 'empty', 'predicted'}, said
    assert both.get_parameters_for_tier('empty')['PARTICIPANT'] == 'Anna' and 'moods' in both.get_controlled_vocabulary_names()
    assert [m['MEDIA_URL'] for m in both.get_linked_files()] == ['talk.mp4'] and (tmp_path/'mine.eaf').read_bytes() == before
    for more in ([tmp_path/'again.eaf', '--beside', tmp_path/'both.eaf'], [tmp_path/'mine.eaf', '--beside', tmp_path/'mine.eaf', '--overwrite']):
        code, said = call_mmemo('manifest', 'tiers', tmp_path/'frames.csv', *more)
        assert code == 2 and 'Traceback' not in said, said
    assert (tmp_path/'mine.eaf').read_bytes() == before and not (tmp_path/'again.eaf').exists()
    write_tiers(MARKED, tmp_path/'mine.TextGrid')
    grid = textgrid.openTextgrid(str(tmp_path/'mine.TextGrid'), includeEmptyIntervals=True)
    grid.addTier(PointTier('Klick', [(.5, 'da')], 0, 2.2))
    grid.save(str(tmp_path/'mine.TextGrid'), format='long_textgrid', includeBlankSpaces=True)
    code, said = call_mmemo('manifest', 'tiers', tmp_path/'frames.csv', tmp_path/'both.TextGrid', '--beside', tmp_path/'mine.TextGrid')
    assert code == 0 and 'Klick' in (tmp_path/'both.TextGrid').read_text(), said
    assert set(read_tiers(tmp_path/'both.TextGrid').tier) == {'Stimmung', 'Gesagt', 'predicted'} # 30 frames a second, and can be read


def test_tiers_without_a_film_make_no_corpus(tmp_path):
    write_tiers(MARKED, tmp_path/'nofilm.TextGrid')
    code, said = call_mmemo('manifest', 'import', tmp_path/'nofilm.TextGrid', '--columns', 'label=Stimmung', '--out', tmp_path/'study')
    assert code == 2 and "not 'nofilm'" in said and not (tmp_path/'study').exists(), said
