"""Captions: what is written reads back, in both languages, by every template."""

import numpy as np
import pytest

from cogjax.worlds.shapes.captions import (
    Phrase,
    SceneRequest,
    read_caption,
    write_caption,
)
from cogjax.worlds.shapes.scenes import COLOURS, SHAPES
from cogjax.worlds.words import LANGUAGES


def random_request(rng):
    """Any request of the grammar, most of them more crowded than the world's."""
    shapes = rng.permutation(list(SHAPES))[: rng.integers(1, 4)]
    relation = None
    if len(shapes) == 2 and rng.random() < 0.6:
        relation = ("left", "above", "larger")[rng.integers(3)]
    phrases = []
    for shape in shapes:
        hue = (None, *COLOURS)[rng.integers(len(COLOURS) + 1)]
        size = (None, "small", "large")[rng.integers(3)]
        hues = {"not_colour": hue} if rng.random() < 0.2 else {"colour": hue}
        count = 1 if relation else int(rng.integers(1, 7))
        phrases.append(Phrase(count, str(shape), size=size, **hues))
    return SceneRequest(tuple(phrases), relation)


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_reads_back(language):
    rng = np.random.default_rng(0)
    for _ in range(1500):
        request = random_request(rng)
        text = write_caption(request, language, rng)
        assert read_caption(text) == request, text


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("a red circle", SceneRequest((Phrase(1, "circle", "red"),))),
        (
            "An image with an orange disc.",
            SceneRequest((Phrase(1, "circle", "orange"),)),
        ),
        ("three little crosses", SceneRequest((Phrase(3, "cross", size="small"),))),
        (
            "two stars that are not green",
            SceneRequest((Phrase(2, "star", not_colour="green"),)),
        ),
        (
            "a ring to the right of a blue heart",
            SceneRequest((Phrase(1, "heart", "blue"), Phrase(1, "ring")), "left"),
        ),
        (
            "a square smaller than a star",
            SceneRequest((Phrase(1, "star"), Phrase(1, "square")), "larger"),
        ),
        (
            "图中有两个红色小圆形和一个菱形",
            SceneRequest((Phrase(2, "circle", "red", "small"), Phrase(1, "diamond"))),
        ),
        (
            "一个爱心在一个圆环的下方",
            SceneRequest((Phrase(1, "ring"), Phrase(1, "heart")), "above"),
        ),
    ],
)
def test_known_captions(text, request_):
    assert read_caption(text) == request_


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a cat",
        "a red",
        "a red circle and",
        "a red circle and a blue circle",
        "seven circles",
        "a circle left a square",
        "一个红色",
        "a red circle\nand a star",
    ],
)
def test_what_is_no_caption(text):
    assert read_caption(text) is None


def test_order_means_nothing_without_a_relation():
    one, two = Phrase(1, "star"), Phrase(2, "ring", "red")
    assert SceneRequest((one, two)) == SceneRequest((two, one))
    assert SceneRequest((one, two), "left") != SceneRequest((two, one), "left")


def test_wide_and_narrow_punctuation_are_the_same():
    """A text model over NFKC text writes the narrow comma."""
    wide, narrow = (
        "一张图，上面有左边一个圆形，右边一个爱心",
        "一张图,上面有左边一个圆形,右边一个爱心",
    )
    assert read_caption(wide) == read_caption(narrow) is not None
