"""Captions and answers known to be right, and what tells two requests apart."""

import numpy as np
import pytest

from cogjax.evaluate.judges.reading import (
    Asked,
    agreement,
    answer_metrics,
    caption_metrics,
    is_true,
    right_answer,
)
from cogjax.evaluate.judges.round_trip import caption_choice, chosen, image_signals
from cogjax.worlds.shapes.captions import Phrase, Request, read
from cogjax.worlds.shapes.scenes import Item, Scene

SMALL, LARGE = 0.09, 0.17
SCENE = Scene(
    (Item("circle", "red", 0.25, 0.5, SMALL), Item("star", "blue", 0.75, 0.5, SMALL))
)
TRUE = (
    "a circle and a star",
    "a red disc to the left of a blue star",
    "画着一个小圆形和一个蓝色五角星",
)
FALSE = (
    "a circle",  # Not all that is there.
    "two circles and a star",
    "a blue circle and a star",
    "a star to the left of a circle",
    "a circle and a star and",  # Not of the grammar.
    "",
)


def test_a_caption_is_true_if_all_of_it_holds_and_all_is_said():
    assert all(is_true(caption, SCENE) for caption in TRUE)
    assert not any(is_true(caption, SCENE) for caption in FALSE)


def test_caption_metrics():
    references = [["a star with a circle"], ["a red circle with a star"]]
    captions = ["a circle and a star", "a red circle with a star"]
    found = caption_metrics(captions, references, [SCENE] * 2)
    # The order of kinds and the words for them do not matter to a graph.
    assert found["true"]["share"] == found["graph"]["share"] == 1
    assert found["details"] == 0.5
    other = caption_metrics(captions, [["a star and a disc"]] * 2, [SCENE] * 2)
    assert other["true"]["share"] == 1 and other["graph"]["share"] == 0.5
    both = [(), ("一个红色的圆形和一个五角星",)]
    more = caption_metrics(captions, [["a star and a disc"]] * 2, [SCENE] * 2, both)
    assert more["graph"]["share"] == 1
    assert set(caption_metrics(captions, references)) == {
        "bleu_4",
        "rouge_l",
        "meteor_exact",
        "cider_d",
    }
    same = caption_metrics([r[0] for r in references], references)
    assert same["bleu_4"] == same["rouge_l"] == 1 and same["cider_d"] > 5


def test_answers_by_kind_and_language():
    asked = [
        Asked(0, "count", "en", "how many?", "two"),
        Asked(0, "count", "zh", "有几个？", "两个"),
        Asked(1, "colour", "en", "what colour?", "red"),
    ]
    found = answer_metrics(asked, ["2", "三个", "Red."])
    assert found["overall"]["share"] == pytest.approx(2 / 3)
    assert found["kinds"]["count"]["share"] == 0.5
    assert found["languages"]["en"] == {
        "share": 1.0,
        "interval": found["languages"]["en"]["interval"],
        "count": 2,
    }
    assert found["both"]["count, zh"]["share"] == 0
    assert right_answer(" A Cat! ", "a cat") and not right_answer("cat", "a cat")


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        ("a red circle", "a circle", 1.0),
        ("a red circle", "一个红色的圆形", 1.0),
        ("a red circle", "a blue circle", 0.5),
        ("a circle", "two circles", 0.0),
        ("a circle", "a star", 0.0),
        ("a circle and a star", "a circle", 0.5),
        ("a small circle", "a large circle", 0.5),
        ("a circle that is not red", "a red circle", 0.5),
        ("a circle that is not red", "a blue circle", 1.0),
        ("a star left of a circle", "a circle right of a star", 1.0),
        ("a star left of a circle", "a circle left of a star", 2 / 3),
        ("a star left of a circle", "a star above a circle", 1.0),
        ("a star", "starry", 0.0),
    ],
)
def test_agreement(a, b, want):
    assert agreement(read(a), read(b)) == pytest.approx(want)
    assert agreement(read(b), read(a)) == pytest.approx(want)


def test_agreement_of_requests_beyond_captions():
    request = Request((Phrase(2, "star", "red", "small"),))
    assert agreement(request, request) == 1


def test_signals_choose_what_they_say():
    prompts = ["a red circle", "two stars"]
    captions = ["a blue circle", "a red disc", "two stars", "a star"]
    losses = np.array([[1.0, 2.0], [3.0, 1.0]])
    right = np.array([[False, True], [True, False]])
    found = chosen(image_signals(prompts, captions, losses), right)
    assert found["mean of all"]["share"] == 0.5 and found["any"]["share"] == 1
    assert found["caption loss"]["share"] == 0
    assert found["round trip, graph"]["share"] == 1
    # "a blue circle" has as many of the words as "a red disc".
    assert found["round trip, words"]["share"] == 0.5
    tied = image_signals(prompts[:1], ["a circle", "a disc"], losses[:1, ::-1])
    assert tied["round trip, graph"].argmax() == 0
    assert tied["round trip, graph and loss"].argmax() == 1


def test_captions_chosen_by_the_picture():
    captions = [[TRUE[0], FALSE[0]], [FALSE[1], TRUE[1]]]
    losses, drawn = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 2.0]] * 2)
    found = caption_choice([SCENE] * 2, captions, losses, drawn)
    assert found["caption loss"]["share"] == 0
    assert found["round trip, loss of the image"]["share"] == 0.5
