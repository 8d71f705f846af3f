"""Beams against a search through all texts, on a vocabulary of five."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from cogjax.data.sequences import Prompts, left_pad
from cogjax.models.image_lm import ImageLM
from cogjax.models.inference import scoring
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    Sampler,
    advance,
    image_keys,
    prefill,
)
from cogjax.sampling.tokens.beam import beam_search
from tests.programs import NANO, full_forward, random_params

LM = ImageLM(dataclasses.replace(NANO, max_positions=8))
PROMPTS = [[100, 101, 102], [110], [104, 105]]
SIZE, STOP, LENGTH = 5, 3, 3
# One piece may not be written.
ALLOWED = np.array([True, True, True, True, False])
PREFILL, ADVANCE = (jax.jit(f, static_argnums=0) for f in (prefill, advance))
SEARCH = jax.jit(beam_search, static_argnums=0, static_argnames=("beams", "wanted"))
IDS = OutputIds(ALLOWED, end=STOP)


@pytest.fixture(scope="module")
def weights():
    return random_params(LM, seed=24)


def read(params, prompts, beams):
    rows = beams * len(prompts)
    forced, keys = np.full((rows, LENGTH), -1), image_keys(0, 0, rows)
    return PREFILL(LM, params, Prompts(*left_pad(prompts, 4, 127)), keys, forced)


def search(params, state, beams, penalty, wanted=1):
    found = SEARCH(
        LM,
        params,
        state,
        beams=beams,
        length_penalty=np.float32(penalty),
        wanted=wanted,
        ids=IDS,
    )
    return [np.asarray(x) for x in found]


@pytest.fixture(scope="module")
def params(weights):
    """Those with which the first ids are scored alone."""
    return scoring(weights, (0, SIZE))


@pytest.fixture(scope="module")
def nine(params):
    """The prompts, read for nine beams each."""
    return read(params, PROMPTS, 9)


@pytest.fixture(scope="module")
def everything(weights):
    """(texts, their log-probabilities) of each prompt: all that can be written."""
    texts = set()
    for tail in itertools.product(np.flatnonzero(ALLOWED).tolist(), repeat=LENGTH):
        end = tail.index(STOP) + 1 if STOP in tail else LENGTH
        texts.add(tail[:end])
    texts = sorted(texts)
    ids = np.zeros((len(PROMPTS), len(texts), 3 + LENGTH), np.int32)
    for rows, prompt in zip(ids, PROMPTS, strict=True):
        for row, text in zip(rows, texts, strict=True):
            row[: len(prompt) + len(text)] = [*prompt, *text]
    logits = full_forward(LM, weights, ids.reshape(-1, ids.shape[-1]))[:, :, :SIZE]
    logits = np.where(ALLOWED, np.asarray(logits, np.float64), -np.inf)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    logp = logp.reshape(*ids.shape, SIZE)
    found = [
        [
            sum(row[len(prompt) - 1 + j, token] for j, token in enumerate(text))
            for row, text in zip(rows, texts, strict=True)
        ]
        for rows, prompt in zip(logp, PROMPTS, strict=True)
    ]
    return texts, np.array(found)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_enough_beams_find_the_best_of_all_texts(params, nine, everything, penalty):
    texts, logp = everything
    scores = logp / np.array([len(text) for text in texts]) ** penalty
    tokens, got = search(params, nine, 9, penalty)
    np.testing.assert_allclose(got[:, 0], scores.max(1), rtol=1e-5)
    # Alone a prompt has nobody who keeps the search going.
    for i, prompt in enumerate(PROMPTS):
        _, its = search(params, read(params, [prompt] * 3, 9), 9, penalty)
        np.testing.assert_allclose(its[0, 0], scores[i].max(), rtol=1e-5)
    for row, best in zip(tokens[:, 0], scores.argmax(1), strict=True):
        want = [*texts[best], *[STOP] * LENGTH][:LENGTH]
        np.testing.assert_array_equal(row, want)


@pytest.fixture(scope="module")
def alone(params):
    """What four beams find for each prompt alone, by a penalty."""
    states = [read(params, [prompt], 4) for prompt in PROMPTS]

    def find(penalty):
        found = [search(params, state, 4, penalty, wanted=4) for state in states]
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    return find


def test_all_beams_are_different_texts_with_their_scores(alone, everything):
    texts, logp = everything
    tokens, got = alone(1.0)
    assert (np.diff(got, axis=1) <= 0).all()
    known = {text: i for i, text in enumerate(texts)}
    for rows, scores, all_logp in zip(tokens, got, logp, strict=True):
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
def test_all_wanted_are_found_whatever_is_beside(params, nine, everything, penalty):
    """Beside other prompts, and where the search may end for one prompt alone."""
    texts, logp = everything
    scores = logp / np.array([len(text) for text in texts]) ** penalty
    tokens, got = search(params, nine, 9, penalty, wanted=9)
    np.testing.assert_allclose(got, np.sort(scores)[:, :-10:-1], rtol=1e-5)
    for i, prompt in enumerate(PROMPTS):
        one, its = search(params, read(params, [prompt] * 3, 9), 9, penalty, wanted=9)
        np.testing.assert_array_equal(one[0], tokens[i])
        np.testing.assert_allclose(its[0], got[i], rtol=1e-5)


def test_the_penalty_and_the_prompts_matter(everything):
    """Else the test above would see little: best texts differ in all of these ways."""
    texts, logp = everything
    lengths = np.array([len(text) for text in texts])
    best = {p: (logp / lengths**p).argmax(1) for p in (0.0, 2.0)}
    assert (lengths[best[0.0]] < lengths[best[2.0]]).any()
    assert len({tuple(row) for row in logp.round(3)}) == len(PROMPTS)


def test_one_beam_is_greedy_and_more_are_never_worse_here(params, alone, everything):
    """Four beams beside the greedy text and beside the best one."""
    state = read(params, PROMPTS, 1)
    tokens, greedy = search(params, state, 1, 0.0)
    sampler = Sampler(temperature=0).numbers()
    drawn = ADVANCE(LM, params, state, LENGTH, sampler=sampler, ids=IDS).tokens
    np.testing.assert_array_equal(tokens[:, 0], drawn)
    _, more = alone(0.0)
    _, logp = everything
    assert (greedy[:, 0] <= more[:, 0] + 1e-5).all()
    assert (more[:, 0] <= logp.max(1) + 1e-5).all()
