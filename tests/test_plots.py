"""Every figure in a real page at 1280 and 900 px is in tests/ui; here: what figures hold, for awkward data."""
import json

import numpy as np
import pandas as pd
import plotly.io as pio
import pytest

from mmemo.core import UserError, rng_for
from mmemo.labels import COLOURS, EXPRESSION8, RAVDESS8
from mmemo.pages.clip_plots import (describe_map, find_spans, plot_attention, plot_film_strip, plot_loudness,
                                    plot_probabilities, plot_spectrogram, plot_waveform, space_times)
from mmemo.pages.score_plots import plot_confusion, plot_history, plot_nuisance, plot_scores
from mmemo.pages.theme import DASHES, set_theme, spread_labels

rng = rng_for('test-plots')


def probabilities(t, c=8):
    p = rng.random((t, c))
    return p/p.sum(1, keepdims=True)


def timeline(t=50, **k): return plot_probabilities((np.arange(t) + .5)/25, probabilities(t), EXPRESSION8.classes, end=t/25, **k)


def contrast(a, b):
    "WCAG contrast of two hex colours."
    def light(h):
        x = np.array([int(h[i:i + 2], 16) for i in (1, 3, 5)])/255
        return np.where(x <= .04045, x/12.92, ((x + .055)/1.055)**2.4) @ [.2126, .7152, .0722]
    a, b = sorted((light(a), light(b)))
    return (b + .05)/(a + .05)


@pytest.mark.parametrize('theme', ['mmemo', 'mmemo_dark'])
def test_template_text_is_legible(theme):
    "Text of 12 px or more, and contrast of 4.5 with the paper."
    layout = pio.templates[theme].layout
    assert contrast(layout.font.color, layout.paper_bgcolor) > 7
    assert contrast(layout.title.subtitle.font.color, layout.paper_bgcolor) > 4.5
    sizes = [layout.font.size, layout.title.font.size, layout.title.subtitle.font.size, layout.xaxis.tickfont.size, layout.xaxis.title.font.size,
             layout.legend.font.size, layout.hoverlabel.font.size, layout.annotationdefaults.font.size, layout.coloraxis.colorbar.tickfont.size]
    assert min(sizes) >= 12
    scale = layout.colorscale
    assert scale.sequential[0][1] == layout.paper_bgcolor, 'zero is the background'
    assert dict(scale.diverging)[.5] == layout.paper_bgcolor, 'zero is the background in signed maps too'


def test_classes_differ_by_more_than_colour():
    "Two classes of one space never share colour and dash."
    for space in (EXPRESSION8, RAVDESS8):
        assert len({(COLOURS[c], DASHES[c]) for c in space.classes}) == space.n


def test_no_figure_sets_a_small_font():
    figures = [timeline(), plot_confusion(np.eye(8), EXPRESSION8.classes), plot_attention(np.ones((4, 6))/6, np.arange(4), np.arange(6)),
               plot_waveform(rng.normal(0, .1, 16000)), plot_history([dict(epoch=0, train_loss=1., val_loss=1., val_macro_f1=.2)]*3)]
    def sizes(o):
        if isinstance(o, dict):
            for k, v in o.items():
                if k == 'size' and isinstance(v, (int, float)): yield v
                yield from sizes(v)
        elif isinstance(o, list):
            for v in o: yield from sizes(v)
    for f in figures:
        fonts = [s for s in sizes(json.loads(f.to_json())['layout']) if s]
        assert min(fonts) >= 12


def test_timeline_names_every_line_and_marks_the_predicted():
    fig = timeline(truth='Fear')
    lines = [d for d in fig.data if d.type == 'scatter']
    assert len(lines) == 8 and sum(d.line.width == 4 for d in lines) == 1 and lines[-1].line.width == 4
    assert {d.name for d in lines} == set(EXPRESSION8.classes)
    labels = [a.text for a in fig.layout.annotations]
    assert len(labels) == 8 and all(any(c in t for t in labels) for c in EXPRESSION8.classes)
    bars = [d for d in fig.data if d.type == 'bar']
    assert {d.y[0] for d in bars} == {'labelled', 'predicted'}
    for d in (d for d in bars if d.y[0] == 'predicted'): assert np.isclose(sum(d.x), 2.)


@pytest.mark.parametrize('t', [1, 2, 3, 1000])
def test_timeline_of_any_length(t):
    fig = timeline(t)
    assert fig.layout.xaxis.range == (0, t/25)


def test_no_frame_is_said(): assert 'no frame' in plot_probabilities([], np.zeros((0, 8)), EXPRESSION8.classes).layout.annotations[0].text


def test_unlabelled_frames_stay_empty():
    fig = timeline(10, truth=[None]*10)
    bar = next(d for d in fig.data if d.type == 'bar' and d.y[0] == 'labelled')
    assert sum(bar.x) == 0


@pytest.mark.parametrize('seed', range(20))
def test_end_labels_never_overlap_and_stay_inside(seed):
    v = np.random.default_rng(seed).random(8)**4
    p = spread_labels(v, .08)
    assert np.diff(np.sort(p)).min() > .0799 and p.max() <= 1 and (np.argsort(p) == np.argsort(v, kind='stable')).all()


def test_spans_cover_the_labelled_time_once():
    labels = rng.choice(['A', 'B', None], 80)
    times = (np.arange(80) + .5)/25
    found = find_spans(times, labels, 3.2)
    assert np.isclose(sum(b - a for a, b, _ in found), sum(x is not None for x in labels)/25)
    assert all(b <= c + 1e-9 for (_, b, _), (c, *_) in zip(found, found[1:]))


@pytest.mark.parametrize('samples', [None, np.zeros(0, np.float32)])
@pytest.mark.parametrize('view', [plot_waveform, plot_loudness, plot_spectrogram])
def test_no_sound_is_said(samples, view): assert 'no sound track' in view(samples).layout.annotations[0].text


@pytest.mark.parametrize('view', [plot_waveform, plot_loudness, plot_spectrogram])
@pytest.mark.parametrize('seconds', [.05, 2.4, 600])
def test_sound_of_any_length_is_small(view, seconds):
    fig = view(rng.normal(0, .1, int(16000*seconds)).astype(np.float32), end=seconds)
    assert len(fig.to_json()) < 1_000_000 and fig.layout.xaxis.range == (0, seconds)


@pytest.mark.parametrize('view', [plot_waveform, plot_loudness, plot_spectrogram])
def test_digital_silence(view):
    fig = view(np.zeros(16000, np.float32))
    assert 'NaN' not in fig.to_json() and 'nan' not in (fig.layout.title.text or '')


def test_map_axes_are_seconds_of_the_right_side():
    w = rng.random((30, 50))
    fig = plot_attention(w/w.sum(1, keepdims=True), np.arange(30)/25, np.arange(50)/50, 'face', 'voice')
    heat = fig.data[0]
    assert fig.layout.xaxis.title.text.startswith('voice time (s)') and fig.layout.yaxis.title.text.startswith('face time (s)')
    assert np.shape(heat.z) == (30, 50) and heat.zmin == 0 and len(heat.x) == 50 and len(heat.y) == 30


def test_signed_map_is_symmetric_about_zero():
    fig = plot_attention(rng.normal(size=(5, 6)), np.arange(5), np.arange(6), signed=True)
    assert fig.data[0].zmin == -fig.data[0].zmax


def test_map_with_wrong_shape_is_a_sentence():
    with pytest.raises(UserError, match='queries, keys'): plot_attention(np.zeros((1, 4, 5, 6)), [0], [0])
    with pytest.raises(UserError, match='signed=True'): plot_attention(np.full((2, 2), -1.), [0, 1], [0, 1])


@pytest.mark.parametrize('q,k', [(1, 1), (1, 9), (7, 1), (3, 2)])
def test_tiny_maps(q, k):
    w = np.full((q, k), 1/k)
    assert 'evenly' in describe_map(w, np.arange(k)) or k < 4
    plot_attention(w, np.arange(q)/25, np.arange(k)/50)


def test_confusion_of_empty_rows():
    counts = np.zeros((8, 8), int); counts[0, 0] = 3
    fig = plot_confusion(counts, EXPRESSION8.classes)
    assert sum('nobody labelled' in (a.text or '') for a in fig.layout.annotations) == 7
    plot_confusion(np.zeros((8, 8), int), EXPRESSION8.classes)


def test_confusion_prints_counts_and_shares():
    fig = plot_confusion([[3, 1], [0, 4]], ['a', 'b'])
    assert fig.data[0].text[0][0] == '3<br>75%' and fig.data[0].text[1][0] == ''


def test_scores_draw_the_interval():
    row = dict(model='m', subset='all', accuracy=dict(value=.5, ci95=[.4, .7]))
    dot = plot_scores([row], 'accuracy').data[0]
    assert np.isclose(dot.error_x.array[0], .2) and np.isclose(dot.error_x.arrayminus[0], .1)
    plot_scores([dict(row, accuracy=dict(value=.5, ci95=None))], 'accuracy')


def test_history_with_gaps_and_one_epoch():
    plot_history([dict(epoch=0, train_loss=2.), dict(epoch=1, train_loss=1., val_loss=1.5, val_macro_f1=.3)], best=1)
    assert 'one step' in plot_history([]).layout.annotations[0].text


def test_nuisance_without_intervals():
    table = pd.DataFrame(dict(nuisance=[0, 1, 0, 1], model=['bicross']*2 + ['pixels']*2, value=[.9, .8, .3, .2]))
    fig = plot_nuisance(table)
    assert next(d for d in fig.data if d.name == 'pixels').line.dash == 'dash'


def test_film_strip_is_small_and_says_what_is_missing():
    frames = rng.integers(0, 255, (8, 112, 112, 3)).astype(np.uint8)
    fig = plot_film_strip(frames, space_times(2.4), 2.4, valid=[False] + [True]*7)
    assert len(fig.layout.images) == 8 and len(fig.to_json()) < 200_000
    assert [a.text for a in fig.layout.annotations] == ['<b>no face</b>']
    assert 'no picture' in plot_film_strip([], [], 1.).layout.annotations[0].text


def test_theme_changes_in_place_and_back():
    fig = timeline()
    before = fig.to_json()
    assert set_theme(set_theme(fig, 'dark'), 'light').to_json() == before


def test_rows_share_their_time_axis():
    "Left and right margins are equal, so that rows under each other agree pixel for pixel."
    sound = rng.normal(0, .1, 38400)
    w = np.full((60, 120), 1/120)
    rows = [timeline(60), plot_waveform(sound), plot_loudness(sound), plot_spectrogram(sound), plot_film_strip(np.zeros((4, 8, 8, 3), np.uint8), space_times(2.4, 4), 2.4), plot_attention(w, np.arange(60)/25, np.arange(120)/50)]
    assert len({(f.layout.margin.l, f.layout.margin.r) for f in rows}) == 1
