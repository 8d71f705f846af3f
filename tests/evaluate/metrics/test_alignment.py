import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.evaluate.metrics.alignment import (
    caption_losses,
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
    cosine = clip_score(images, texts, SOURCE)
    assert cosine.name == "clip_cosine"
    assert cosine.value == pytest.approx((1 + 0 - 1) / 3, abs=1e-12)
    score = clip_score(images, texts, SOURCE, "clipscore_2.5")
    assert score.name == "clipscore_2.5"
    assert score.value == pytest.approx(2.5 / 3)
    assert "clip-vit-b32:1, n 3, resize pil_bicubic" in str(score)
    with pytest.raises(UserError, match="clip_cosine or clipscore_2.5"):
        clip_score(images, texts, SOURCE, "clip")
    with pytest.raises(UserError, match="3 images and 2 captions"):
        clip_score(images, texts[:2], SOURCE)


def test_caption_losses_are_means_over_text_tokens():
    log_probs = np.log([[0.5, 0.25, 0.125, 0.9], [0.1, 0.2, 0.3, 0.4]])
    log_probs[0, 3] = np.nan
    with_end = caption_losses(log_probs, np.array([2, 3]))
    expected = [2 * np.log(2), -np.log(0.1 * 0.2 * 0.3 * 0.4) / 4]
    np.testing.assert_allclose(with_end, expected)
    without = caption_losses(log_probs, np.array([2, 3]), "without_end")
    np.testing.assert_allclose(without, [1.5 * np.log(2), -np.log(0.006) / 3])

    figure = mean_caption_loss(with_end, Source("self:1", "none"))
    assert figure.name == "CapLoss[with_end]" and figure.n == 2
    assert figure.value == pytest.approx(np.mean(expected))


def test_an_impossible_token_costs_infinity_and_one_after_the_end_nothing():
    log_probs = np.array([[-1.0, -np.inf, -1], [-1, -1, -np.inf]])
    losses = caption_losses(log_probs, np.array([1, 1]))
    np.testing.assert_array_equal(losses, [np.inf, 1])


@pytest.mark.parametrize(
    ("log_probs", "lengths", "variant", "message"),
    [
        (np.zeros((2, 3)), [3, 1], "with_end", "1 to 3 terms"),
        (np.zeros((2, 3)), [0, 1], "without_end", "1 to 3 terms"),
        (np.zeros((2, 3)), [1], "with_end", r"\(2, 3\) and \(1,\)"),
        (np.ones((1, 3)), [1], "with_end", "at most 0"),
        (np.full((1, 3), np.nan), [1], "with_end", "no NaN"),
        (np.zeros((2, 3)), [1, 1], "mean", "with_end or without_end"),
    ],
)
def test_bad_log_probabilities(log_probs, lengths, variant, message):
    with pytest.raises(UserError, match=message):
        caption_losses(log_probs, np.array(lengths), variant)


def test_r_precision_of_a_perfect_a_constant_and_a_random_scorer():
    truth = np.arange(50) % 20
    perfect = np.eye(20)[truth]
    figure = r_precision(perfect, truth, SOURCE, distractors=9)
    assert figure.value == 1 and figure.name == "R-precision[9 distractors]"
    assert figure.note.startswith("chance 0.1, 95 % 0.9286 to 1,")
    constant = r_precision(0 * perfect, truth, SOURCE, distractors=9)
    assert constant.value == pytest.approx(0.1)
    assert r_precision(-perfect, truth, SOURCE).value == 0

    scores, truth = RNG.normal(size=(2000, 30)), RNG.integers(30, size=2000)
    values = [r_precision(scores, truth, SOURCE, distractors=k).value for k in (1, 4)]
    np.testing.assert_allclose(values, [0.5, 0.2], atol=0.04)
    everyone = r_precision(scores, truth, SOURCE)
    assert "chance 0.03333" in everyone.note and "[all distractors]" in everyone.name


def test_the_same_caption_twice_is_no_distractor():
    captions = ["a cat", "a dog", "a cat", "a cow"]
    scores = np.array([[5.0, 1, 9, 2]])
    assert r_precision(scores, np.array([0]), SOURCE).value == 0
    figure = r_precision(scores, np.array([0]), SOURCE, captions=captions)
    assert figure.value == 1 and "chance 0.3333" in figure.note
    with pytest.raises(UserError, match="3 distractors: only 2 other"):
        r_precision(scores, np.array([0]), SOURCE, captions=captions, distractors=3)
    with pytest.raises(UserError, match="only 0 other"):
        r_precision(scores, np.array([0]), SOURCE, captions=["a cat"] * 4)


def test_bad_scores():
    with pytest.raises(UserError, match=r"scores \[n, m\]"):
        r_precision(np.zeros((2, 3)), np.zeros(3, int), SOURCE)
    with pytest.raises(UserError, match="truth in"):
        r_precision(np.zeros((2, 3)), np.array([0, 3]), SOURCE)
    with pytest.raises(UserError, match="2 captions for scores of 3"):
        r_precision(np.zeros((2, 3)), np.array([0, 1]), SOURCE, captions=["a"] * 2)
