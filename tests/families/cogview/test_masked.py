"""The objective of masked codes: how examples are drawn, and what the loss is of."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from cogjax.data.vocab import Vocab
from cogjax.families.cogview import presets as cogview
from cogjax.families.cogview.layout import Layout
from cogjax.families.cogview.masked import MaskedMixture, MaskedTask, draw_mask
from cogjax.models.image_lm import ImageLM, param_shapes
from tests.programs import random_params
from tests.reference import masked as statement
from tests.reference import transformer as reference
from tests.reference.numeric import double, log_softmax

NUM_CODES, GRID = 24, 4
VOCAB = Vocab(NUM_CODES, 20)
MASK, PAD = VOCAB.command("[MASK]"), VOCAB.command("[PAD]")
LAYOUT = Layout(VOCAB, text_len=5, image_len=GRID**2, masked=True)
SMALL = cogview.TransformerConfig(
    width=16, depth=2, heads=2, dropout=0.0, text_len=5, alpha=1.0
)
CONFIG = cogview.make_transformer(SMALL, LAYOUT)
TASK = MaskedTask(CONFIG, VOCAB)
RNG = np.random.default_rng(0)
CODES = RNG.integers(0, NUM_CODES, (4, GRID**2))
TEXTS = [RNG.integers(0, 20, n) for n in (5, 2, 1, 4)]
EVALUATE = jax.jit(TASK.eval_metrics)


def examples(dropout=0.0, layout=LAYOUT):
    """Examples of four images, as they come from the data."""
    rng, mixture = np.random.default_rng(3), MaskedMixture(dropout)
    return [
        mixture.example(layout, [text], codes, rng)
        for text, codes in zip(TEXTS, CODES, strict=True)
    ]


@functools.cache
def batch():
    rows = examples()
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def params():
    return random_params(ImageLM(CONFIG), std=0.4)


def loss(params, data):
    return float(EVALUATE(params, {}, data, None)["loss"])


@pytest.mark.parametrize("fixed", [False, True])
def test_an_example_is_the_prompt_and_codes_of_which_some_are_masked(fixed):
    layout = dataclasses.replace(LAYOUT, fixed=fixed)
    for text, codes, row in zip(TEXTS, CODES, examples(layout=layout), strict=True):
        prompt = layout.prompt(text)
        ids, image = row["ids"][: LAYOUT.prompt_len], row["ids"][LAYOUT.prompt_len :]
        assert ids.tolist() == [PAD] * (5 - len(text)) + prompt
        np.testing.assert_array_equal(row["codes"], codes)
        masked = image == MASK
        np.testing.assert_array_equal(image[~masked], codes[~masked])
        assert masked.any()
        start = layout.image_start if fixed else len(prompt)
        places = [0] * (5 - len(text)) + list(range(len(prompt)))
        places += list(range(start, start + GRID**2))
        assert row["positions"].tolist() == places


def test_the_mask_follows_the_cosine_schedule():
    """Counts against the quantiles of ceil(n gamma(r)); every place equally often."""
    rng, n, draws = np.random.default_rng(0), 16, 4000
    masks = np.stack([draw_mask(n, rng) for _ in range(draws)])
    counts = np.sort(masks.sum(1))
    assert counts[0] == 1 and counts[-1] == n
    rates = (np.arange(draws) + 0.5) / draws
    want = np.sort([np.ceil(n * statement.gamma(r)) for r in rates])
    assert abs(counts - want).mean() < 0.2
    assert np.ptp(masks.mean(0)) < 0.05


def test_captions_are_dropped():
    for row in examples(dropout=1.0):
        assert row["ids"][: LAYOUT.prompt_len].tolist() == [PAD] * 5 + LAYOUT.prompt(())
    with pytest.raises(ValueError, match=r"caption_dropout is 2, expected 0 to 1"):
        MaskedMixture(2)


def test_the_loss_is_the_mean_of_masked_codes(params):
    """Against float64 numpy, each example without its padding."""
    values = []
    for text, row in zip(TEXTS, examples(), strict=True):
        start = LAYOUT.text_len - len(text)
        ids, places = row["ids"][start:], row["positions"][start:]
        num_text = LAYOUT.prompt_len - start
        image = reference.image_keys("full", GRID, 0, causal=False)
        sees = reference.drawing_sees(num_text, image, text_causal=False)
        masks, form = [sees] * CONFIG.depth, reference.Form()
        found = reference.logits(double(params), [ids], [places], masks, form)
        found = log_softmax(found[0, num_text:, :NUM_CODES])
        masked = np.flatnonzero(ids[num_text:] == MASK)
        values += [-found[i, row["codes"][i]] for i in masked]
    np.testing.assert_allclose(loss(params, batch()), np.mean(values), rtol=1e-5)
    assert int(TASK.weights(batch())["loss"]) == len(values)


def test_the_text_of_another_example_changes_the_loss(params):
    swapped = {**batch(), "ids": batch()["ids"].copy()}
    swapped["ids"][:, : LAYOUT.prompt_len] = batch()["ids"][::-1, : LAYOUT.prompt_len]
    assert abs(loss(params, swapped) - loss(params, batch())) > 1e-4


def test_a_training_lowers_the_loss():
    run = jax.jit(jax.value_and_grad(TASK.loss, has_aux=True))
    params, tx = random_params(ImageLM(CONFIG), std=0.05), optax.adam(1e-2)
    update, moments = jax.jit(tx.update), jax.jit(tx.init)(params)
    (first, _), _ = run(params, {}, batch(), jax.random.key(0))
    for _ in range(80):
        (last, _), grads = run(params, {}, batch(), jax.random.key(0))
        moved, moments = jax.device_get(update(grads, moments))
        params = jax.tree.map(np.add, params, moved)
    assert float(first) > 2.5 and float(last) < 0.5


def test_the_parameters_are_those_of_a_causal_network():
    """So that training may start from one."""
    causal = cogview.make_transformer(SMALL, dataclasses.replace(LAYOUT, masked=False))
    assert causal.sequence.is_causal and not CONFIG.sequence.is_causal
    assert param_shapes(causal) == param_shapes(CONFIG)
