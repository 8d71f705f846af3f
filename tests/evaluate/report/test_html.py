"""What a browser would make of a report: read back with the standard parser."""

from html.parser import HTMLParser

import numpy as np
import pytest

from cogjax.evaluate.report import html
from cogjax.evaluate.report.html import GalleryImage
from cogjax.evaluate.report.plots import line_plot
from cogjax.evaluate.suites.run import run
from cogjax.evaluate.suites.shapes import ShapesSuite

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Fails where tags do not nest; keeps cells, texts and sources."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.texts, self.links = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def count(self, tag):
        return sum(name == tag for name, _ in self.seen)


def test_a_whole_report(painter, tmp_path):
    suite = ShapesSuite(
        n=8, num_images=2, best_of=2, sweep_prompts=8, guidance=(1.0, 3.0)
    )
    model = painter(right=(0,))
    run(suite, model, out=tmp_path, identity={}, about={"model": "<b>&x"})
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http:" not in text and "https:" not in text
    assert "@import" not in text
    assert "url(" not in text
    page = Reader(text)
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "<b>&x on shapes" in page.texts
    # Best of k of both splits, and guidance.
    assert page.count("svg") == 3
    assert page.count("script") == page.count("b") == 0
    headings = [t for t in page.texts if "images" in t and "combinations" in t]
    assert len(headings) == 6
    assert "wrong: nothing" in page.texts
    assert {"best of 1, mean of 2", "best of 2"} <= set(page.texts)


def test_text_is_escaped_everywhere():
    nasty = "<script>'\"&"
    picture = GalleryImage(np.zeros((2, 2, 3), np.uint8), nasty, nasty, False)
    parts = [
        html.table([nasty], [[nasty, nasty]], nasty),
        html.gallery([picture]),
        html.section(nasty, html.note(nasty)),
        html.confusion_table({nasty: {nasty: 1}}, nasty),
        line_plot({nasty: [(1, 1, 0, 2)]}, nasty, nasty),
    ]
    page = Reader(html.page(nasty, *parts))
    assert page.count("script") == 0
    assert sum(nasty in text for text in page.texts) == 16
    (alt,) = [attrs["alt"] for tag, attrs in page.seen if tag == "img"]
    assert alt == nasty


def test_confusion_cells():
    table = html.confusion_table({"a": {"a": 3, "b": 1}, "c": {"b": 2}}, "letters")
    page = Reader(table)
    assert [t for t in page.texts if t.strip()][1:] == (
        ["asked / generated", "a", "c", "b", "a", "3", "1", "c", "2"]
    )
    shades = [a["style"] for tag, a in page.seen if tag == "td" and "style" in a]
    assert [s[s.index(")") + 3 :] for s in shades] == ["0.45)", "0.15)", "0.60)"]


@pytest.mark.parametrize("log_x", [False, True])
def test_points_lie_where_they_should(log_x):
    line = [(x, y, y - 0.1, y + 0.1) for x, y in ((1, 0.2), (2, 0.4), (8, 0.8))]
    page = Reader(line_plot({"up": line}, "k", "score", log_x=log_x))
    dots = [(float(a["cx"]), float(a["cy"])) for tag, a in page.seen if tag == "circle"]
    (x1, y1), (x2, y2), (x8, y8) = dots
    share = 1 / 3 if log_x else 1 / 7
    assert (x2 - x1) / (x8 - x1) == pytest.approx(share, abs=1e-3)
    assert (y2 - y1) / (y8 - y1) == pytest.approx(1 / 3, abs=1e-3)
    assert y8 < y1
    assert {"1", "2", "8", "k", "score", "up"} <= set(page.texts)


def test_plots_of_a_single_value_and_of_equal_ones():
    for line in ([(4, 0, 0, 0)], [(1, 7, 7, 7), (2, 7, 7, 7)], [(0, 1e-4, 0, 3e4)]):
        page = Reader(line_plot({"x": line}, "a", "b"))
        places = [float(a["cy"]) for tag, a in page.seen if tag == "circle"]
        assert all(14 <= y <= 254 for y in places)
