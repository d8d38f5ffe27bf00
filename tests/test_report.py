"""Reports travel alone: one file, no network, everything escaped, small enough to mail."""
import json, re, shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from mmemo.core import UserError
from mmemo.pages.score_plots import plot_confusion
from mmemo.pages.html import render_figure, render_markdown, render_page, render_table, render_text
from mmemo.pages.report import format_interval, write_report
from small_run import small_run


class Reader(HTMLParser):
    "Which tags a page has, and whether each is closed."
    def __init__(self): super().__init__(); self.open, self.links, self.seen = [], [], []
    def handle_starttag(self, tag, attrs):
        a = dict(attrs); self.seen.append((tag, a))
        self.links += [a[k] for k in ('src', 'href') if a.get(k)]
        if tag not in ('meta', 'link', 'img', 'br', 'hr'): self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f'</{tag}> closes <{self.open[-1:]}>'
        self.open.pop()


def read(text):
    r = Reader(); r.feed(text); r.close()
    assert r.open == []
    return r


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')/'bicross'
    shutil.copytree(small_run()/'bicross', folder)
    return write_report(folder)


def test_report_stands_alone(report):
    text = report.read_text()
    r = read(text)
    assert report.name == 'report.html' and report.stat().st_size < 10e6
    assert not [u for u in r.links if not u.startswith(('data:', '#'))], 'nothing is fetched'
    assert text.count('* plotly.js v') == 1, 'the library stands there once'


def test_report_says_what_it_must(report):
    text = report.read_text()
    for said in ('synthetic', 'macro-F1', 'each left out in turn', 'given this training', 'fewer than 8', 'one answer a clip',
                 'mmemo train', 'Stated and chosen', 'Subjects of each split', 'decided between'): assert said in text, said
    assert '0.3334' not in text, 'the figure of the stated form does not stand on ours'
    assert text.index('class="warning"') < text.index('<h2>Results')
    assert re.search(r'\d\.\d\d \[\d\.\d\d, \d\.\d\d\]', text), 'values stand with their intervals'


def test_every_figure_on_the_page_is_data(report):
    figures = re.findall(r'data-at="(\w+)">(.*?)</script>', report.read_text(), re.S)
    assert {n for n, _ in figures} == {'scores', 'confusion', 'history'}
    for _, f in figures: assert 'template' not in json.loads(f)['layout']


def test_a_missing_run_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match='there is no such folder'): write_report(tmp_path/'no')
    (tmp_path/'empty').mkdir()
    with pytest.raises(UserError, match='no run'): write_report(tmp_path/'empty')
    assert list((tmp_path/'empty').iterdir()) == []


@pytest.mark.parametrize('evil', ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '</script><b>', '<!--<script>', '<!-- --!><script', "' onload='x", '&lt;'])
def test_nothing_from_outside_is_run(evil):
    fig = plot_confusion(np.eye(2), [evil, 'b'])
    text = render_page(evil, [render_text(evil), render_text(evil, 'h1'), render_table([{evil: evil, 'n': 1}], evil), render_markdown(evil), render_figure(fig, 'f')])
    r = read(text)
    assert not [t for t, a in r.seen if t in ('img', 'b') or any(k.startswith('on') for k in a)]
    assert sum(t == 'script' for t, _ in r.seen) == 4, 'figure, templates, library, drawing: none came from outside'
    data = text.split('class="data"')[1].split('</script>')[0]
    assert '<' not in data and evil.replace('<', '\\u003c').split('"')[0] in data, '`<!--<script>` would hide all that follows from the browser'


@pytest.mark.parametrize('figure,said', [(dict(value=.5, ci95=[.4, .6]), '0.50 [0.40, 0.60]'), (dict(value=.5, ci95=[.499, .501]), '0.500 [0.499, 0.501]'), (dict(value=None), 'not defined'),
                                         (dict(value=float('nan'), ci95=[0, 1]), 'not defined'), (dict(value=.5, ci95=[None, None]), '0.50 [no interval]')])
def test_digits_follow_the_interval(figure, said): assert format_interval(figure) == said


def test_empty_table_speaks(): assert 'Nothing' in render_table([])
