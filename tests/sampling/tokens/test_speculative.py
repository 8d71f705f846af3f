"""Speculative decoding draws from the same distribution as decoding one by one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
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
    image_keys,
    prefill,
    sample_tokens,
)
from cogjax.sampling.tokens.speculative import _verify, speculate

CONFIG = ImageLMConfig(
    vocab_size=12,
    width=16,
    depth=2,
    heads=2,
    mlp_dim=32,
    max_positions=16,
    dropout=0.0,
)
FORWARD = jax.jit(ImageLM(CONFIG).apply)
NUM_CODES, PROMPT, EMPTY = 4, [8, 9, 10], [8, 11, 10]


@pytest.fixture(scope="module")
def params():
    ids = jnp.zeros((1, 2), jnp.int32)
    start = jax.jit(ImageLM(CONFIG).init)(jax.random.key(0), ids, ids)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.5 * rng.normal(size=x.shape), start)


@functools.partial(jax.jit, static_argnums=0, static_argnames="window")
def draw(model, params, prompt, keys, forced, *, sampler, window):
    common = {"ids": OutputIds(jnp.ones(NUM_CODES, bool)), "sampler": sampler}
    params = scoring(params, (0, NUM_CODES))
    prompts = Prompts(prompt, jnp.zeros(len(prompt), jnp.int32))
    args = params, prompts, keys, forced
    if not window:
        return sample_tokens(model, *args, **common), forced.shape[1]
    guided = sampler.guidance is not None
    state = prefill(model, *args, guided=guided, window=window)
    return speculate(model, params, state, keys, window=window, **common)


def run(params, batch, num_tokens, sampler, window, *, model=None, forced=None, seed=0):
    model = model or ImageLM(CONFIG)
    prompt = jnp.asarray([PROMPT] if sampler.guidance == 1 else [PROMPT, EMPTY])
    keys = image_keys(seed, 0, batch)
    forced = jnp.full((batch, num_tokens), -1) if forced is None else forced
    tokens, calls = draw(
        model,
        params,
        prompt,
        keys,
        forced,
        sampler=sampler.numbers(),
        window=window,
    )
    return np.asarray(tokens), int(calls)


def exact(params, num_tokens, sampler):
    """Probability of every sequence, by one full forward each."""
    grids = np.stack(
        np.meshgrid(*[np.arange(NUM_CODES)] * num_tokens, indexing="ij"), -1
    )
    sequences = grids.reshape(-1, num_tokens)

    def logits(prompt):
        ids = np.concatenate([np.tile(prompt, (len(sequences), 1)), sequences], 1)
        places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        out = FORWARD({"params": params}, ids, places)[0]
        return out[:, len(prompt) - 1 : -1, :NUM_CODES]

    scores = logits(PROMPT)
    if sampler.guidance != 1:
        empty = logits(EMPTY)
        scores = empty + sampler.guidance * (scores - empty)
    probs = np.asarray(sampler.numbers().probs(scores.reshape(-1, NUM_CODES)))
    probs = probs.reshape(scores.shape)
    each = np.take_along_axis(probs, sequences[..., None], -1)[..., 0]
    return each.prod(1)


@pytest.mark.parametrize(
    ("sampler", "window"),
    [
        (Sampler(), 2),
        (Sampler(temperature=0.8, top_p=0.9), 3),
        (Sampler(guidance=2.0, top_k=3), 3),
    ],
    ids=("plain", "top_p", "guided"),
)
def test_the_distribution_is_the_same(params, sampler, window):
    """Chi-square over all 4^4 sequences; guesses that are taken unchecked fail it."""
    num_tokens, draws = 4, 40_000
    tokens, _ = run(params, draws, num_tokens, sampler, window)
    index = tokens @ NUM_CODES ** np.arange(num_tokens)[::-1]
    counts = np.bincount(index, minlength=NUM_CODES**num_tokens)
    expected = draws * exact(params, num_tokens, sampler)
    assert counts[expected == 0].sum() == 0
    # Rare sequences together: a chi-square needs a few of each.
    common = expected >= 5
    counts = np.append(counts[common], counts[~common].sum())
    expected = np.append(expected[common], max(expected[~common].sum(), 1e-9))
    kept = expected > 1
    chi = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    freedom = kept.sum() - 1
    assert abs(chi - freedom) < 5 * np.sqrt(2 * freedom)


def test_calls_are_fewer(params):
    _, calls = run(params, 1, 8, Sampler(temperature=0.2), 4)
    assert calls < 8


@pytest.mark.parametrize("names", [(), ("row", "conv")])
def test_greedy_equals_one_by_one(params, names):
    kinds = tuple(LayerKind(name, kernel=3) for name in names)
    sequence = Sequence.text_to_image(len(PROMPT), (3, 3))
    config = dataclasses.replace(CONFIG, sequence=sequence, kinds=kinds)
    settings = {"sampler": Sampler(temperature=0), "model": ImageLM(config)}
    one_by_one, _ = run(params, 2, 9, window=0, **settings)
    tokens, calls = run(params, 2, 9, window=5, **settings)
    np.testing.assert_array_equal(tokens, one_by_one)
    assert calls <= 9


def test_forced_tokens_stay(params):
    forced = np.full((3, 6), -1)
    forced[:, [0, 1, 4]] = [3, 1, 2]
    tokens, _ = run(params, 3, 6, Sampler(), 3, forced=jnp.asarray(forced))
    np.testing.assert_array_equal(tokens[:, [0, 1, 4]], forced[:, [0, 1, 4]])


def test_a_sequence_is_the_same_in_every_batch(params):
    whole, _ = run(params, 5, 8, Sampler(), 3)
    alone, _ = run(params, 1, 8, Sampler(), 3)
    np.testing.assert_array_equal(alone[0], whole[0])
    assert len({tuple(row) for row in whole}) > 1


def test_verify_by_hand():
    """The second guess is impossible under p: it is drawn again, from what q lacks."""
    guesses = jnp.array([[0, 1, 2]])
    q = jnp.array([[[0.5, 0.5, 0, 0], [0.2, 0.8, 0, 0], [0, 0, 1.0, 0]]])
    p = jnp.array([[[0.5, 0.5, 0, 0], [0.6, 0.0, 0.4, 0], [0, 0, 0, 1.0]]])
    numbers = jnp.full((1, 2, 3), 0.55)
    none = jnp.zeros((1, 3), bool)
    tokens, kept = _verify(guesses, q, p, none, numbers)
    # max(0, p - q) is [0.4, 0, 0.4, 0], so 0.55 is token 2; the third follows p.
    np.testing.assert_array_equal(tokens, [[0, 2, 3]])
    np.testing.assert_array_equal(kept, [2])
    forced, kept = _verify(guesses, q, p, ~none, numbers)
    np.testing.assert_array_equal(forced, guesses)
    np.testing.assert_array_equal(kept, [3])
