"""The objective of super-resolution, and what of a CogView it starts from."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from cogjax.data.vocab import Vocab
from cogjax.families.cogview import presets as cogview
from cogjax.families.cogview.enlarging import (
    EnlargingMixture,
    EnlargingTask,
    positions_of,
)
from cogjax.families.cogview.layout import Layout
from cogjax.models.image_lm import ImageLM
from tests.programs import random_params
from tests.reference import transformer as reference
from tests.reference.numeric import double

NUM_CODES, SMALL, LARGE = 24, 4, 16
VOCAB = Vocab(NUM_CODES, 20)
LAYOUT = Layout(VOCAB, text_len=3, image_len=LARGE, fixed=True, enlarges=True)
SETTINGS = cogview.TransformerConfig(
    width=16, depth=2, heads=2, dropout=0.0, text_len=3, alpha=1.0
)
CONFIG = cogview.make_transformer(SETTINGS, LAYOUT)
TASK = EnlargingTask(CONFIG, LAYOUT)
RNG = np.random.default_rng(0)
CODES = RNG.integers(0, NUM_CODES, (4, SMALL + LARGE))
TEXTS = [RNG.integers(0, 20, n) for n in (3, 2, 1, 3)]


def examples(layout=LAYOUT):
    rng = np.random.default_rng(3)
    return [
        EnlargingMixture().example(layout, [text], codes, rng)
        for text, codes in zip(TEXTS, CODES, strict=True)
    ]


@functools.cache
def batch():
    rows = examples()
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("fixed", [False, True])
def test_an_example_is_a_prompt_with_the_small_image_and_the_large_one(fixed):
    layout, command = dataclasses.replace(LAYOUT, fixed=fixed), VOCAB.command
    between = [command(f"[{x}]") for x in ("EOI1", "ROI2", "POS0", "BASE", "BOI2")]
    for text, codes, row in zip(TEXTS, CODES, examples(layout), strict=True):
        small, large = codes[:SMALL].tolist(), codes[SMALL:].tolist()
        start, padding = layout.prompt(text), 3 - len(text)
        ids = [command("[PAD]")] * padding + start + small + between + large[:-1]
        assert row["ids"].tolist() == ids and row["codes"].tolist() == large
        first = [0] * padding + list(range(len(start)))
        if fixed:  # One behind those of the longest text and of its commands.
            places = first + list(range(7, 7 + SMALL + 5 + LARGE - 1))
        else:  # They begin anew behind [ROI2].
            both = list(range(len(start) + SMALL + 2))
            places = [0] * padding + both + list(range(1, 4 + LARGE - 1))
        assert row["positions"].tolist() == places
        network = cogview.make_transformer(SETTINGS, layout)
        assert network.sequence.length == len(ids) + 1
        assert network.max_positions > max(places)


def test_the_loss_is_the_mean_of_the_large_codes():
    """Against float64 numpy, each example without its padding."""
    params, values = random_params(ImageLM(CONFIG), std=0.4), []
    for text, row in zip(TEXTS, examples(), strict=True):
        padding = LAYOUT.text_len - len(text)
        ids, places = row["ids"][padding:], row["positions"][padding:]
        masks = [reference.causal(len(ids))] * CONFIG.depth
        form = reference.Form()
        found = reference.logits(double(params), [ids], [places], masks, form)[0]
        whole = [*ids, row["codes"][-1]]
        losses = reference.next_token_losses(found, whole, 0, NUM_CODES)
        values.append(losses[-LARGE:])
    metrics = jax.jit(TASK.eval_metrics)(params, {}, batch(), None)
    np.testing.assert_allclose(metrics["loss"], np.mean(values), rtol=1e-5)
    assert int(TASK.weights(batch())["loss"]) == len(TEXTS) * LARGE


@pytest.mark.slow
def test_a_training_learns_what_the_small_image_says():
    """Each large image repeats the codes of its small one, and no other tells them."""
    rng, task = np.random.default_rng(1), TASK
    square = np.arange(SMALL).reshape(2, 2).repeat(2, 0).repeat(2, 1).ravel()

    def drawn():
        small = rng.integers(0, NUM_CODES, (32, SMALL))
        rows = [
            EnlargingMixture().example(
                LAYOUT, [()], np.concatenate([x, x[square]]), rng
            )
            for x in small
        ]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    tx = optax.adam(1e-2)

    @jax.jit
    def step(params, moments, data):
        (loss, _), grads = jax.value_and_grad(task.loss, has_aux=True)(
            params, {}, data, jax.random.key(0)
        )
        updates, moments = tx.update(grads, moments)
        return optax.apply_updates(params, updates), moments, loss

    params = random_params(ImageLM(CONFIG), std=0.1)
    moments = tx.init(params)
    for _ in range(200):
        params, moments, loss = step(params, moments, drawn())
    assert float(loss) < 1.0  # log(24) is 3.2.


def test_codes_start_at_the_places_that_a_cogview_knows():
    """It holds for any grid; text keeps its own, and what is new is 0."""
    for grid, small, large in (
        (2, [0, 1, 2, 3], [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]),
        (4, [5, 7, 13, 15], range(16)),
    ):
        of = Layout(VOCAB, text_len=2, image_len=grid**2, fixed=True)
        table = RNG.normal(size=(of.length - 1, 3))
        found = positions_of(table, of, LAYOUT, CONFIG.max_positions)
        assert found.shape == (CONFIG.max_positions, 3)
        codes = table[of.image_start :]
        np.testing.assert_array_equal(found[:6], table[:6])
        np.testing.assert_array_equal(found[7 : 7 + SMALL], codes[small])
        np.testing.assert_array_equal(found[-LARGE:], codes[[*large]])
        assert not found[6].any() and not found[7 + SMALL : -LARGE].any()
    running = dataclasses.replace(LAYOUT, fixed=False)
    found = positions_of(table, running, running, len(table) + 2)
    np.testing.assert_array_equal(found[:-2], table)
    assert not found[-2:].any()
