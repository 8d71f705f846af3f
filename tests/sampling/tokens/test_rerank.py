"""Losses of captions and of codes against full forwards, row by row."""

import jax
import numpy as np
import pytest

from cogjax.data.sequences import Prompts, left_pad
from cogjax.models.image_lm import ImageLM
from cogjax.models.inference import scoring
from cogjax.sampling.tokens.rerank import caption_losses, code_losses
from tests.programs import NANO, full_forward, random_params

LM = ImageLM(NANO)
# Ids below are codes of an image, from here on pieces of a text.
TEXT = 40


@pytest.fixture(scope="module")
def weights():
    return random_params(LM, seed=1)


def token_losses(weights, sequences, start, stop):
    """float64 [2, 10]: of each token from the second on, `start` .. `stop` competing.

    What is no such token, or is behind a sequence, has the loss of another one.
    """
    ids = np.zeros((2, 11), np.int32)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = sequence
    logits = full_forward(LM, weights, ids)[:, :-1, start:stop]
    logits = np.asarray(logits, np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = np.clip(ids[:, 1:], start, stop - 1) - start
    return -np.take_along_axis(log_probs, targets[..., None], -1)[..., 0]


def test_caption_losses(weights):
    """Mean over the weighted tokens, image codes not competing."""
    ids = np.array([[1, 100, 101, 102, 127], [3, 104, 102, 127, 127]], np.int32)
    weighted = np.array([[0, 0, 1, 1, 0], [0, 0, 1, 0, 0]], np.float32)
    losses = jax.jit(caption_losses, static_argnums=0, static_argnames="first_id")
    params = scoring(weights, (TEXT, 128))
    got = losses(LM, params, ids, weighted, first_id=TEXT)
    each = token_losses(weights, ids, TEXT, 128)[:, :4]
    expected = (each * weighted[:, 1:]).sum(1) / weighted.sum(1)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_code_losses(weights):
    """The text does not compete; padding changes nothing."""
    prompts = [[100, 101, 102, 103, 104], [110, 111]]
    codes = np.array([[5, 6, 7, 8, 9, 5], [0, 39, 1, 38, 2, 37]], np.int32)
    ids, padding = left_pad(prompts, 5, 127)
    places = np.maximum(np.arange(5) - padding[:, None], 0)
    losses = jax.jit(code_losses, static_argnums=0)
    padded = Prompts(ids, padding, places, 5 - padding)
    got = losses(LM, scoring(weights, (0, TEXT)), padded, codes)
    sequences = [[*prompt, *row] for prompt, row in zip(prompts, codes, strict=True)]
    each = token_losses(weights, sequences, 0, TEXT)
    expected = [each[0, 4:], each[1, 1:7]]
    np.testing.assert_allclose(got, expected, rtol=1e-4)
