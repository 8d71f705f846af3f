"""Codes sampled from an encoded text, with caches, are those of whole passes."""

import functools

import jax
import numpy as np
import pytest

from cogjax.data.sequences import Prompts
from cogjax.models.encoder_decoder import EncoderDecoder, param_shapes
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.models.encoder_decoder_inference import for_inference, scoring
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    Sampler,
    compiled_advance,
    image_keys,
)
from cogjax.sampling.tokens.encoder_decoder import compiled_prefill
from cogjax.sampling.tokens.speculative import compiled_speculate

CONFIG = EncoderDecoderConfig(
    width=16,
    depth=2,
    heads=2,
    mlp_dim=24,
    text_vocab_size=20,
    text_len=6,
    vocab_size=14,
    image_len=9,
    start=13,
)
NETWORK = EncoderDecoder(CONFIG)
CODES = 12
IDS = OutputIds(np.ones(CODES, bool))
# Two texts of different lengths, and no text, for guidance.
PROMPTS = Prompts(
    np.array([[0, 5, 6, 7, 8, 2], [0, 9, 2, 1, 1, 1], [0, 2, 1, 1, 1, 1]], np.int32),
    np.array([0, 3, 4], np.int32),
)
FORCED = np.full((2, 9), -1, np.int32)
FORCED[1, 2] = 11
GUIDANCE = 3.0


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda x: rng.normal(0, 0.7, x.shape).astype(np.float32), param_shapes(CONFIG)
    )


@functools.partial(jax.jit)
def score(params, ids, mask, codes):
    return NETWORK.apply({"params": params}, ids, mask, codes, method="score")


def expected(params):
    """The likeliest guided codes, each from whole passes without a cache."""
    mask = np.arange(6) < 6 - PROMPTS.num_padding[:, None]
    codes = np.zeros((2, 8), np.int32)
    found = np.zeros((2, 9), np.int32)
    for i in range(9):
        rows = codes[[0, 1, 0, 1]]
        logits = score(params, PROMPTS.ids[[0, 1, 2, 2]], mask[[0, 1, 2, 2]], rows)
        given, free = np.split(np.asarray(logits)[:, i, :CODES], 2)
        best = (free + GUIDANCE * (given - free)).argmax(-1)
        found[:, i] = np.where(FORCED[:, i] >= 0, FORCED[:, i], best)
        codes[:, i : i + 1] = found[:, i : i + 1]
    return found


def prefill(params, window=1):
    packed = scoring(for_inference(params), CODES)
    keys = image_keys(0, 0, 2)
    state = compiled_prefill(
        NETWORK, packed, PROMPTS, keys, FORCED, guided=True, window=window
    )
    return packed, keys, state


def test_the_cache_gives_what_whole_passes_give(params):
    packed, _, state = prefill(params)
    sampler = Sampler(temperature=0, guidance=GUIDANCE).numbers()
    _, tokens = compiled_advance(NETWORK, packed, state, 9, ids=IDS, sampler=sampler)
    wanted = expected(params)
    assert len(set(wanted[0])) > 3 and np.any(wanted[0] != wanted[1])
    np.testing.assert_array_equal(tokens, wanted)


def test_drafted_codes_are_the_same(params):
    packed, keys, state = prefill(params, window=3)
    sampler = Sampler(temperature=0, guidance=GUIDANCE).numbers()
    settings = {"ids": IDS, "sampler": sampler, "window": 3}
    tokens, calls = compiled_speculate(NETWORK, packed, state, keys, **settings)
    np.testing.assert_array_equal(tokens, expected(params))
    assert calls <= 8


def test_prompts_that_cannot_share():
    keys = image_keys(0, 0, 3)
    with pytest.raises(ValueError, match="2 prompts cannot share 3 sequences"):
        compiled_prefill(NETWORK, {}, PROMPTS, keys, FORCED, guided=True)
