"""Beams against a search through all texts, on a vocabulary of five."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.data.sequences import Prompts, left_pad
from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.inference import scoring
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    Sampler,
    advance,
    image_keys,
    prefill,
)
from cogjax.sampling.tokens.beam import beam_search

CONFIG = ImageLMConfig(
    vocab_size=128,
    width=16,
    depth=2,
    heads=2,
    mlp_dim=32,
    max_positions=8,
    dropout=0.0,
    unroll=2,
)
LM = ImageLM(CONFIG)
PROMPTS = [[100, 101, 102], [110], [104, 105]]
SIZE, STOP, LENGTH = 5, 3, 3
# One piece may not be written.
ALLOWED = np.array([True, True, True, True, False])
PREFILL = jax.jit(prefill, static_argnums=0)
SEARCH = jax.jit(beam_search, static_argnums=0, static_argnames=("beams", "wanted"))
IDS = OutputIds(jnp.asarray(ALLOWED), end=STOP)


@pytest.fixture(scope="module")
def weights():
    ids = jnp.zeros((1, 2), jnp.int32)
    start = jax.jit(LM.init)(jax.random.key(0), ids, ids)["params"]
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape), start)


def read(params, prompts, beams):
    padded = Prompts(*left_pad(prompts, 4, 127))
    rows = beams * len(prompts)
    forced = jnp.full((rows, LENGTH), -1)
    keys = image_keys(0, 0, rows)
    return PREFILL(LM, params, padded, keys, forced)


@pytest.fixture(scope="module")
def params(weights):
    """Those with which the first ids are scored alone."""
    return scoring(weights, (0, SIZE))


@pytest.fixture(scope="module")
def everything(weights):
    """(texts, their log-probabilities) of each prompt: all that can be written."""
    texts = set()
    for tail in itertools.product(np.flatnonzero(ALLOWED).tolist(), repeat=LENGTH):
        end = tail.index(STOP) + 1 if STOP in tail else LENGTH
        texts.add(tail[:end])
    texts, apply, found = sorted(texts), jax.jit(LM.apply), []
    for prompt in PROMPTS:
        filled = [[*prompt, *text, *[0] * (LENGTH - len(text))] for text in texts]
        ids = jnp.asarray(filled)
        places = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
        logits, _ = apply({"params": weights}, ids, places)
        logits = np.where(ALLOWED, np.asarray(logits, np.float64)[:, :, :SIZE], -np.inf)
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        start = len(prompt) - 1
        found.append(
            [
                sum(logp[row, start + j, token] for j, token in enumerate(text))
                for row, text in enumerate(texts)
            ]
        )
    return texts, np.array(found)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_enough_beams_find_the_best_of_all_texts(params, everything, penalty):
    texts, logp = everything
    scores = logp / np.array([len(text) for text in texts]) ** penalty
    state = read(params, PROMPTS, 9)
    tokens, got = SEARCH(LM, params, state, beams=9, length_penalty=penalty, ids=IDS)
    np.testing.assert_allclose(got[:, 0], scores.max(1), rtol=1e-5)
    for row, best in zip(np.asarray(tokens)[:, 0], scores.argmax(1), strict=True):
        want = [*texts[best], *[STOP] * LENGTH][:LENGTH]
        np.testing.assert_array_equal(row, want)


def test_all_beams_are_different_texts_with_their_scores(params, everything):
    texts, logp = everything
    state = read(params, PROMPTS, 4)
    tokens, got = SEARCH(
        LM, params, state, beams=4, length_penalty=1.0, wanted=4, ids=IDS
    )
    assert (np.diff(got, axis=1) <= 0).all()
    known = {text: i for i, text in enumerate(texts)}
    for rows, scores, all_logp in zip(np.asarray(tokens), got, logp, strict=True):
        found = []
        for row, score in zip(rows.tolist(), scores, strict=True):
            if score == -np.inf:
                assert row == [STOP] * LENGTH
                continue
            end = row.index(STOP) + 1 if STOP in row else LENGTH
            found.append(known[tuple(row[:end])])
            np.testing.assert_allclose(score, all_logp[found[-1]] / end, rtol=1e-5)
        assert len(found) == len(set(found)) > 1


@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_all_wanted_are_found_whatever_is_beside(params, everything, penalty):
    texts, logp = everything
    scores = logp / np.array([len(text) for text in texts]) ** penalty
    settings = {"beams": 9, "length_penalty": penalty, "wanted": 9, "ids": IDS}
    tokens, got = SEARCH(LM, params, read(params, PROMPTS, 9), **settings)
    np.testing.assert_allclose(got, np.sort(scores)[:, :-10:-1], rtol=1e-5)
    for i, prompt in enumerate(PROMPTS):
        alone, its = SEARCH(LM, params, read(params, [prompt], 9), **settings)
        np.testing.assert_array_equal(alone[0], tokens[i])
        np.testing.assert_allclose(its[0], got[i], rtol=1e-5)


def test_the_penalty_and_the_prompts_matter(everything):
    """Else the test above would see little: best texts differ in all of these ways."""
    texts, logp = everything
    lengths = np.array([len(text) for text in texts])
    best = {p: (logp / lengths**p).argmax(1) for p in (0.0, 2.0)}
    assert (lengths[best[0.0]] < lengths[best[2.0]]).any()
    assert len({tuple(row) for row in logp.round(3)}) == len(PROMPTS)


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]])
def test_one_beam_is_greedy(params, prompts):
    state = read(params, prompts, 1)
    tokens, _ = SEARCH(LM, params, state, beams=1, length_penalty=0.0, ids=IDS)
    sampler = Sampler(temperature=0).numbers()
    greedy = jax.jit(advance, static_argnums=0)(
        LM, params, state, LENGTH, sampler=sampler, ids=IDS
    )
    np.testing.assert_array_equal(tokens[:, 0], greedy.tokens)


def test_more_beams_are_never_worse_here(params, everything):
    """Three beams beside the greedy text and beside the best one."""
    _, logp = everything
    found = []
    for beams in (1, 3):
        state = read(params, PROMPTS, beams)
        _, score = SEARCH(LM, params, state, beams=beams, length_penalty=0.0, ids=IDS)
        found.append(np.asarray(score)[:, 0])
    assert (found[0] <= found[1] + 1e-5).all()
    assert (found[1] <= logp.max(1) + 1e-5).all()
