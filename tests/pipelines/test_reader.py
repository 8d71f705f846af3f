"""Captions and scores of a nano model, and what is no image and no code."""

import numpy as np
import pytest
from PIL import Image

from cogjax.errors import UserError
from cogjax.pipelines.reader import Search

PROMPTS = ("a red apple", "一只猫的线稿", "line drawing of a whale")


def test_caption_is_text_in_the_language(nano_model, pictures):
    english = nano_model.caption(pictures, "en", temperature=1.0, seed=5)
    chinese = nano_model.caption(pictures, "zh", temperature=1.0, seed=5)
    assert len(english) == len(chinese) == 3
    assert not any("\u4e00" <= c <= "\u9fff" for text in english for c in text)
    assert not any(c.isascii() and c.islower() for text in chinese for c in text)
    assert nano_model.caption(Image.fromarray(pictures[0])) == nano_model.caption(
        pictures[:1]
    )


def test_score_is_per_pair(nano_model, pictures):
    scores = nano_model.score(pictures, PROMPTS)
    alone = nano_model.score(pictures[2:], PROMPTS[2:])
    np.testing.assert_allclose(scores[2:], alone, rtol=1e-5)
    assert len(set(nano_model.score(pictures[[0, 0]], PROMPTS[:2]))) == 2


def test_one_text_is_scored_for_each_image(nano_model, pictures):
    want = nano_model.score(pictures, PROMPTS[:1] * 3)
    np.testing.assert_array_equal(nano_model.score(pictures, PROMPTS[0]), want)
    codes = nano_model.encode(pictures)
    want = nano_model.image_losses(codes, PROMPTS[:1] * 3)
    np.testing.assert_array_equal(nano_model.image_losses(codes, PROMPTS[0]), want)


def test_score_is_the_mean_over_text_tokens(nano_model, pictures):
    pieces = nano_model.model.text.encode(PROMPTS[0])
    codes = nano_model.encode(pictures[:1])[0].reshape(-1)
    prompt = nano_model.layout.caption_prompt(codes)
    ids, _ = nano_model.layout.image_to_text(pieces, codes)
    network = {"params": nano_model.model["transformer"].params}
    places = np.arange(len(ids))[None]
    logits, _ = nano_model._generator.apply(network, ids[None, :-1], places[:, :-1])
    start, stop = nano_model.layout.vocab.text_start, nano_model.layout.vocab.size
    logits = np.asarray(logits, np.float64)[0, len(prompt) - 1 :, start:stop]
    values = np.log(np.exp(logits).sum(-1)) - [
        row[i] for row, i in zip(logits, ids[len(prompt) :] - start, strict=True)
    ]
    expected = values[: min(len(pieces), nano_model.layout.text_len)].mean()
    got = nano_model.score(pictures[:1], PROMPTS[:1])
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_image_losses_is_the_mean_over_codes(nano_model, drawn):
    """Prompts of different length, each alone and without padding."""
    got = nano_model.image_losses(drawn.codes[:, 0], PROMPTS)
    network = {"params": nano_model.model["transformer"].params}
    for prompt, grid, value in zip(PROMPTS, drawn.codes[:, 0], got, strict=True):
        start = nano_model.layout.prompt(nano_model.model.text.encode(prompt))
        codes = grid.reshape(-1)
        ids = np.array([[*start, *codes[:-1]]])
        logits, _ = nano_model._generator.apply(
            network, ids, np.arange(ids.shape[1])[None]
        )
        logits = np.asarray(logits, np.float64)[0, len(start) - 1 :]
        logits = logits[:, : nano_model.num_codes]
        losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(codes)), codes]
        np.testing.assert_allclose(value, losses.mean(), rtol=1e-5)
    with pytest.raises(UserError, match="3 images but 1 texts"):
        nano_model.image_losses(drawn.codes[:, 0], ["a"])


def test_bad_arrays(nano_model):
    with pytest.raises(UserError, match="encode expects uint8"):
        nano_model.encode(np.zeros((1, 16, 16, 3)))
    with pytest.raises(UserError, match="n > 0"):
        nano_model.encode(np.zeros((0, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match="1 images but 2 texts"):
        nano_model.score(np.zeros((1, 16, 16, 3), np.uint8), ["a", "b"])
    with pytest.raises(UserError, match="no image"):
        nano_model.caption([])


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((1, 3, 3), int), r"codes are int64 \[1, 3, 3\], expected integers"),
        (np.zeros((0, 4, 4), int), "n > 0"),
        (np.zeros((1, 4, 4)), "codes are float64"),
        (np.full((1, 4, 4), -1), "codes are from -1 to -1, expected 0 to 31"),
        (np.full((1, 4, 4), 10**6), "to 1000000, expected 0 to"),
    ],
)
def test_codes_that_are_none(nano_model, codes, message):
    """At every door that takes codes."""
    for use in (
        nano_model.decode,
        lambda codes: nano_model.score_codes(codes, "a"),
        lambda codes: nano_model.image_losses(codes, "a"),
        lambda codes: nano_model.caption_codes(codes, None, Search()),
    ):
        with pytest.raises(UserError, match=message):
            use(codes)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("a.png", "cannot read image a.png: No such file"),
        (5, "images is 5"),
        (np.zeros((1, 16, 16, 3)), "ndarray float64"),
        (
            np.zeros((1, 1, 16, 16, 3), np.uint8),
            "expected a PIL image, a path, or pixels",
        ),
    ],
)
def test_images_that_are_none(nano_model, images, message):
    with pytest.raises(UserError, match=message):
        nano_model.caption(images)


def test_pixels_of_one_image_are_one_image(nano_model, pictures):
    want = nano_model.score(pictures[:1], PROMPTS[0])
    np.testing.assert_array_equal(nano_model.score(pictures[0], PROMPTS[0]), want)
