"""Speculative decoding draws from the same distribution as decoding one by one."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from cogjax.data.sequences import Prompts
from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.inference import scoring
from cogjax.ops.masks import LayerKind
from cogjax.ops.sequence import Sequence
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    Sampler,
    SamplerNumbers,
    image_keys,
    prefill,
)
from cogjax.sampling.tokens.speculative import _verify, speculate
from tests.programs import full_forward, random_params

CONFIG = ImageLMConfig(
    vocab_size=12,
    width=16,
    depth=2,
    heads=2,
    mlp_dim=32,
    max_positions=16,
    dropout=0.0,
)
NUM_CODES, PROMPT, EMPTY = 4, [8, 9, 10], [8, 11, 10]
IDS = OutputIds(np.ones(NUM_CODES, bool))
PROBS = jax.jit(SamplerNumbers.probs)


@pytest.fixture(scope="module")
def params():
    return random_params(ImageLM(CONFIG), seed=1, std=0.5)


@functools.partial(jax.jit, static_argnums=0, static_argnames="window")
def draw(model, params, prompt, keys, forced, *, sampler, window):
    params = scoring(params, (0, NUM_CODES))
    prompts = Prompts(prompt, np.zeros(len(prompt), np.int32))
    guided = sampler.guidance is not None
    args = params, prompts, keys, forced
    state = prefill(model, *args, guided=guided, window=window)
    settings = {"ids": IDS, "sampler": sampler, "window": window}
    return speculate(model, params, state, keys, **settings)


def run(params, batch, num_tokens, numbers, window, *, model=None, forced=None):
    model = model or ImageLM(CONFIG)
    prompt = np.array([PROMPT] if numbers.guidance is None else [PROMPT, EMPTY])
    keys = image_keys(0, 0, batch)
    forced = np.full((batch, num_tokens), -1) if forced is None else forced
    args = model, params, prompt, keys, forced
    tokens, calls = draw(*args, sampler=numbers, window=window)
    return np.asarray(tokens), int(calls)


def exact(params, num_tokens, numbers):
    """Probability of every sequence, by one full forward each."""
    grids = np.stack(
        np.meshgrid(*[np.arange(NUM_CODES)] * num_tokens, indexing="ij"), -1
    )
    sequences = grids.reshape(-1, num_tokens)

    def logits(prompt):
        ids = np.concatenate([np.tile(prompt, (len(sequences), 1)), sequences], 1)
        out = np.asarray(full_forward(ImageLM(CONFIG), params, ids))
        return out[:, len(prompt) - 1 : -1, :NUM_CODES]

    scores = logits(PROMPT)
    if numbers.guidance is not None:
        empty = logits(EMPTY)
        scores = empty + numbers.guidance * (scores - empty)
    probs = np.asarray(PROBS(numbers, scores.reshape(-1, NUM_CODES)))
    probs = probs.reshape(scores.shape)
    each = np.take_along_axis(probs, sequences[..., None], -1)[..., 0]
    return each.prod(1)


@pytest.mark.parametrize(
    ("sampler", "window"),
    [(Sampler(), 2), (Sampler(0.8, top_k=3, top_p=0.9, guidance=1.5), 3)],
    ids=("plain", "cut and guided"),
)
def test_the_distribution_is_the_same(params, sampler, window):
    """Chi-square over all 4^4 sequences; guesses that are taken unchecked fail it."""
    num_tokens, draws, numbers = 4, 20_000, sampler.numbers()
    tokens, _ = run(params, draws, num_tokens, numbers, window)
    index = tokens @ NUM_CODES ** np.arange(num_tokens)[::-1]
    counts = np.bincount(index, minlength=NUM_CODES**num_tokens)
    expected = draws * exact(params, num_tokens, numbers)
    assert counts[expected == 0].sum() == 0
    # Rare sequences together: a chi-square needs a few of each.
    common = expected >= 5
    counts = np.append(counts[common], counts[~common].sum())
    expected = np.append(expected[common], max(expected[~common].sum(), 1e-9))
    kept = expected > 1
    chi = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    freedom = kept.sum() - 1
    assert abs(chi - freedom) < 5 * np.sqrt(2 * freedom)


def test_greedy_follows_the_full_forward(params):
    """In a window of sparse layers; full attention is in the distributions above."""
    kinds = (LayerKind("row"), LayerKind("conv", kernel=3))
    sequence = Sequence.text_to_image(len(PROMPT), (3, 3))
    model = ImageLM(dataclasses.replace(CONFIG, sequence=sequence, kinds=kinds))
    greedy, forced = Sampler(temperature=0).numbers(), np.full((2, 9), -1)
    forced[1, 0] = 1
    tokens, calls = run(params, 2, 9, greedy, 5, model=model, forced=forced)
    ids = np.concatenate([[PROMPT] * 2, tokens], axis=1)
    logits = np.asarray(full_forward(model, params, ids))
    picked = logits[:, len(PROMPT) - 1 : -1, :NUM_CODES].argmax(-1)
    np.testing.assert_array_equal(picked[0], tokens[0])
    np.testing.assert_array_equal(picked[1, 1:], tokens[1, 1:])
    assert tokens[1, 0] == 1
    assert calls <= 9


@pytest.fixture(scope="module")
def five(params):
    return run(params, 5, 8, Sampler().numbers(), 3)[0]


def test_forced_tokens_stay(params, five):
    forced = np.full((5, 8), -1)
    forced[:, [0, 1, 4]] = [3, 1, 2]
    tokens, _ = run(params, 5, 8, Sampler().numbers(), 3, forced=forced)
    np.testing.assert_array_equal(tokens[:, [0, 1, 4]], forced[:, [0, 1, 4]])
    assert (tokens != five).any()


def test_a_sequence_is_the_same_in_every_batch_and_calls_are_fewer(params, five):
    alone, _ = run(params, 1, 8, Sampler().numbers(), 3)
    np.testing.assert_array_equal(alone[0], five[0])
    assert len({tuple(row) for row in five}) > 1
    _, calls = run(params, 1, 8, Sampler(temperature=0.2).numbers(), 3)
    assert calls < 8


VERIFY = jax.jit(_verify)


def test_verify_by_hand():
    """The second guess is impossible under p: it is drawn again, from what q lacks."""
    guesses = np.array([[0, 1, 2]])
    q = np.float32([[[0.5, 0.5, 0, 0], [0.2, 0.8, 0, 0], [0, 0, 1, 0]]])
    p = np.float32([[[0.5, 0.5, 0, 0], [0.6, 0, 0.4, 0], [0, 0, 0, 1]]])
    numbers = np.full((1, 2, 3), 0.55, np.float32)
    none = np.zeros((1, 3), bool)
    tokens, kept = VERIFY(guesses, q, p, none, numbers)
    # max(0, p - q) is [0.4, 0, 0.4, 0], so 0.55 is token 2; the third follows p.
    np.testing.assert_array_equal(tokens, [[0, 2, 3]])
    np.testing.assert_array_equal(kept, [2])
    forced, kept = VERIFY(guesses, q, p, ~none, numbers)
    np.testing.assert_array_equal(forced, guesses)
    np.testing.assert_array_equal(kept, [3])
