"""DALL-E on pairs: sequences, and the network against its statement."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from cogjax.families.dalle import presets
from cogjax.families.dalle.layout import Layout, PaddedVocab
from cogjax.families.dalle.stage import LM
from cogjax.models.image_lm import ImageLM, param_shapes
from cogjax.tasks.lm import LMTask
from tests.programs import random_params
from tests.reference import transformer as reference
from tests.reference.numeric import double

TEXT_LEN, GRID, NUM_CODES, NUM_PIECES = 5, 4, 24, 20
CODES = 2 * GRID**2
SETTINGS = presets.TransformerConfig(
    width=16, depth=4, heads=2, text_len=TEXT_LEN, kernel=3, images=2
)
LAYOUT = Layout(PaddedVocab(NUM_CODES, NUM_PIECES, TEXT_LEN), CODES, 2)
CONFIG = presets.make_transformer(SETTINGS, LAYOUT)
SETUP = SimpleNamespace(network=CONFIG)
RNG = np.random.default_rng(0)


def tall_keys(kind):
    """bool [m, m]: causal keys of each query of 8 x 4 codes, listed."""
    sees = np.zeros((CODES, CODES), bool)
    for query in range(CODES):
        keys = {
            "row": range(query - GRID, query + 1),
            "column": range(query % GRID, query + 1, GRID),
            "conv": [query - GRID * a + b for a in (0, 1) for b in (-1, 0, 1)],
        }[kind]
        sees[query, [key for key in keys if 0 <= key <= query]] = True
    return sees


def test_the_second_image_is_learnt_and_the_first_is_not():
    """Text keeps its share of the loss."""
    codes = RNG.integers(0, NUM_CODES, CODES)
    ids, weights = LAYOUT.text_to_image([1, 2], codes, 1 / 8)
    assert ids[TEXT_LEN:].tolist() == codes.tolist() and LAYOUT.length == len(ids)
    assert weights[0] == 0 and not weights[TEXT_LEN : TEXT_LEN + CODES // 2].any()
    np.testing.assert_allclose(weights[1:TEXT_LEN], 1 / 8 / (TEXT_LEN - 1))
    np.testing.assert_allclose(weights[-CODES // 2 :], 7 / 8 / (CODES // 2))
    assert LAYOUT.grid == (8, 4)


def test_the_network_is_of_one_image_of_both():
    """Logits of the statement in float64: rows of their own, columns through both."""
    shapes = param_shapes(CONFIG)
    assert shapes["row_embedding"].shape == (8, 16)
    assert shapes["column_embedding"].shape == (4, 16)
    assert shapes["position_embedding"].shape == (TEXT_LEN, 16)
    params = random_params(ImageLM(CONFIG), std=0.4)
    codes = RNG.integers(0, NUM_CODES, (2, CODES))
    texts = [LAYOUT.prompt([3, 4]), LAYOUT.prompt(())]
    ids = np.concatenate([np.stack(texts), codes], axis=1)
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    masks = [
        reference.drawing_sees(TEXT_LEN, tall_keys(kind), text_causal=True)
        for kind in ("row", "column", "row", "conv")
    ]
    form = reference.Form(sandwich=False, relaxed="none")
    want = reference.logits(double(params), ids, positions, masks, form)
    apply = jax.jit(lambda p: ImageLM(CONFIG).apply({"params": p}, ids, positions)[0])
    np.testing.assert_allclose(apply(params), want, atol=1e-5 * np.abs(want).max())
    # The loss is of the last image and of text.
    rows = [
        LAYOUT.text_to_image(text, row, 1 / 8)
        for text, row in zip(([3, 4], ()), codes, strict=True)
    ]
    found, weights = (np.stack(part) for part in zip(*rows, strict=True))
    task = LMTask(CONFIG, NUM_CODES, num_text=TEXT_LEN, length=LAYOUT.length)
    batch = {"ids": found, "weights": weights}
    metrics = jax.jit(task.eval_metrics)(params, {}, batch, None)
    losses = [
        reference.next_token_losses(each, row, 0, NUM_CODES)[-CODES // 2 :]
        for each, row in zip(want, ids, strict=True)
    ]
    assert float(metrics["image_loss"]) == pytest.approx(np.mean(losses), rel=1e-5)


def test_both_images_start_with_the_rows_of_one():
    single = dataclasses.replace(SETTINGS, images=1)
    layout = presets.make_layout(_Tokenizer(), NUM_PIECES, single)
    params = random_params(ImageLM(presets.make_transformer(single, layout)))
    found = LM.start_from(params, layout, SETUP)
    rows = found["row_embedding"]
    np.testing.assert_array_equal(rows, np.concatenate([params["row_embedding"]] * 2))
    assert jax.tree.map(np.shape, found) == jax.tree.map(
        lambda leaf: leaf.shape, param_shapes(CONFIG)
    )
    # A model of pairs starts as it is.
    assert LM.start_from(found, LAYOUT, SETUP) is found


class _Tokenizer:
    grid, codebook_size = GRID, NUM_CODES


def test_a_network_that_does_not_see_the_source_is_refused():
    with pytest.raises(ValueError, match="a column layer alone sees one from"):
        dataclasses.replace(SETTINGS, depth=2)


@pytest.mark.slow
def test_the_target_sees_its_source():
    """Random codes, and the target is the source: it is learnt to be copied.

    Three layers, one of them columns, are enough. Chance is ln 16 = 2.77 nats a code.
    """
    layout = Layout(PaddedVocab(16, 4, 2), CODES, 2)
    settings = dataclasses.replace(SETTINGS, width=48, depth=3, heads=4, text_len=2)
    network = presets.make_transformer(settings, layout)
    task = LMTask(network, 16, num_text=2, length=layout.length)
    params, optimizer = random_params(ImageLM(network), std=0.1), optax.adam(3e-3)
    state, rng = optimizer.init(params), np.random.default_rng(0)

    @jax.jit
    def update(params, state, batch):
        loss = jax.value_and_grad(task.loss, has_aux=True)
        (_, (_, metrics)), grads = loss(params, {}, batch, jax.random.key(0))
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, metrics["image_loss"]

    for _ in range(400):
        codes = rng.integers(0, 16, (32, GRID**2))
        rows = [layout.text_to_image([1], np.tile(row, 2), 1 / 8) for row in codes]
        ids, weights = (np.stack(part) for part in zip(*rows, strict=True))
        batch = {"ids": ids, "weights": weights}
        params, state, loss = update(params, state, batch)
    assert loss < 0.5
