import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.evaluate.metrics.alignment import (
    clip_score,
    mean_caption_loss,
    r_precision,
)
from cogjax.evaluate.metrics.result import Source

RNG = np.random.default_rng(0)
SOURCE = Source("clip-vit-b32:1", "pil_bicubic")


def test_clip_scores_are_two():
    images = np.array([[2.0, 0], [3, 0], [0, 1]])
    texts = np.array([[1.0, 0], [0, 5], [0, -4]])
    cosine = clip_score(images, texts, SOURCE, "clip_cosine")
    assert cosine.name == "clip_cosine"
    assert cosine.value == pytest.approx((1 + 0 - 1) / 3, abs=1e-12)
    score = clip_score(images, texts, SOURCE, "clipscore_2.5")
    assert score.name == "clipscore_2.5"
    assert score.value == pytest.approx(2.5 / 3)
    assert "clip-vit-b32:1, n 3, resize pil_bicubic" in str(score)
    with pytest.raises(UserError, match="3 images and 2 captions"):
        clip_score(images, texts[:2], SOURCE, "clip_cosine")


def test_mean_caption_loss():
    value = mean_caption_loss(np.array([1.0, 2.5]), Source("self:1", "none"))
    assert value.name == "CapLoss[without_end]" and value.n == 2
    assert value.value == 1.75 and value.spread == 0.75


def test_r_precision_of_a_perfect_a_constant_and_a_random_scorer():
    truth = np.arange(50) % 20
    perfect = np.eye(20)[truth]
    figure = r_precision(perfect, truth, SOURCE, distractors=9)
    assert figure.value == 1 and figure.name == "R-precision[9 distractors]"
    assert figure.note.startswith("chance 0.1, 95 % 0.9286 to 1,")
    constant = r_precision(0 * perfect, truth, SOURCE, distractors=9)
    assert constant.value == pytest.approx(0.1)
    assert r_precision(-perfect, truth, SOURCE, distractors=19).value == 0

    scores, truth = RNG.normal(size=(2000, 30)), RNG.integers(30, size=2000)
    values = [r_precision(scores, truth, SOURCE, distractors=k).value for k in (1, 4)]
    np.testing.assert_allclose(values, [0.5, 0.2], atol=0.04)
    everyone = r_precision(scores, truth, SOURCE, distractors=29)
    assert "chance 0.03333" in everyone.note


def test_the_same_caption_twice_is_no_distractor():
    captions = ["a cat", "a dog", "a cat", "a cow"]
    scores = np.array([[5.0, 1, 9, 2]])
    assert r_precision(scores, np.array([0]), SOURCE, distractors=3).value == 0
    own, settings = np.array([0]), {"captions": captions}
    figure = r_precision(scores, own, SOURCE, distractors=2, **settings)
    assert figure.value == 1 and "chance 0.3333" in figure.note
    with pytest.raises(UserError, match="3 distractors: only 2 other"):
        r_precision(scores, own, SOURCE, distractors=3, **settings)
    with pytest.raises(UserError, match="only 0 other"):
        r_precision(scores, own, SOURCE, distractors=1, captions=["a cat"] * 4)


def test_bad_scores():
    with pytest.raises(UserError, match=r"scores \[n, m\]"):
        r_precision(np.zeros((2, 3)), np.zeros(3, int), SOURCE, distractors=1)
    with pytest.raises(UserError, match="truth in"):
        r_precision(np.zeros((2, 3)), np.array([0, 3]), SOURCE, distractors=1)
    with pytest.raises(UserError, match="2 captions for scores of 3"):
        settings = {"distractors": 1, "captions": ["a"] * 2}
        r_precision(np.zeros((2, 3)), np.array([0, 1]), SOURCE, **settings)
