import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.evaluate.metrics.captions import bleu
from cogjax.evaluate.metrics.cider import cider_d

REFERENCES = [
    ["a red cube".split(), "the cube is red".split()],
    ["a blue ball".split()],
    ["a green cone".split(), "one cone".split()],
]


def test_a_caption_that_is_its_reference_scores_ten_a_filled_order():
    # Three words have no 4-gram, whose cosine is then 0.
    own = [["a", "blue", "ball"]] * 3
    np.testing.assert_allclose(cider_d(own, REFERENCES)[1], 7.5)


def test_by_hand():
    """ "a" is in all three pictures and weighs nothing, other grams log 3."""
    candidates = [["a", "red", "ball"], ["a", "ball"], ["one", "red", "cone"]]
    # Picture 0: idf of "ball", "red", "cube" is log 3. Words with "a red cube":
    # cosine 1/2; bigrams (a red), (red ball) with (a red), (red cube): 1/2. With "the
    # cube is red": words 1 / sqrt(2 * 4). Picture 2: "one red cone" with "a green
    # cone": 1 / sqrt(3 * 2); with "one cone": 2 / sqrt(3 * 2).
    # Lengths differ by 0 and 1; by 1; by 0 and 1.
    second = 1 / np.sqrt(2)
    off = np.exp(-1 / 72)
    first = (1 / 2 + 1 / 2 + off / np.sqrt(8)) / 2
    third = (1 / np.sqrt(6) + off * 2 / np.sqrt(6)) / 2
    expected = 10 / 4 * np.array([first, second * off, third])
    np.testing.assert_allclose(cider_d(candidates, REFERENCES), expected)


def test_repeating_a_rare_word_does_not_pay():
    once, often = ["blue", "x", "y", "z"], ["blue"] * 4
    scores = [cider_d([["a"], c, ["a"]], REFERENCES)[1] for c in (once, often)]
    assert scores[1] < scores[0]


def test_one_image_says_nothing_about_what_is_rare():
    with pytest.raises(UserError, match="2 images at least"):
        cider_d([["a", "cat"]], [[["a", "cat"]]])


def test_chinese_characters_are_tokens_as_any():
    own = [[list("红色的方块")], [list("蓝色的球")]]
    candidates = [own[0][0], own[1][0]]
    np.testing.assert_allclose(cider_d(candidates, own), [10, 10])
    assert bleu(candidates, own) == pytest.approx(1)
