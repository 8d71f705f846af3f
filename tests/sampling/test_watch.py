"""Attention weights against dense softmax in float64 numpy (`tests/reference`)."""

import dataclasses

import numpy as np
import pytest

from cogjax.models.image_lm import ImageLM
from cogjax.models.inference import for_inference
from cogjax.sampling.tokens.watch import (
    compiled_weights_of_codes,
    compiled_weights_of_tokens,
)
from tests.models.test_reference import (
    CAUSAL,
    CODES,
    CODES_AT,
    COGVIEW,
    DEPTH,
    GRID,
    IDS,
    LAYOUT,
    PRE_NORM,
    RASTER,
    SPARSE_MASKS,
    TEXTS,
    TWO_WAY,
    drawing_masks,
    ernie,
    random_params,
)
from tests.reference import transformer as reference
from tests.reference.numeric import double

COUNT = GRID**2


@pytest.fixture(scope="module")
def params():
    return random_params(COGVIEW)


def wanted(params, ids, places, masks, form=reference.Form()):  # noqa: B008
    """[l, n, t, t] of one sequence without padding."""
    exact = double(params)
    x = reference.embed(exact, np.array([ids]), np.array([places]))
    return reference.all_weights(exact, x, masks, form)[:, 0]


def close(found, want):
    assert want.max() > 0.5  # Far from even.
    np.testing.assert_allclose(found, want, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_codes_after_a_text_with_padding(params, packed):
    text, codes = TEXTS[1], CODES[1]
    prompts = LAYOUT.prompts([text])
    padding = int(prompts.num_padding[0])
    assert padding == 3
    own = for_inference(params) if packed else params
    which = np.int32([0, 5, COUNT - 1])
    found = compiled_weights_of_codes(
        ImageLM(COGVIEW), own, prompts, np.array([codes]), which
    )
    ids = IDS.cogview_drawing(text, codes)[:-2]  # Not the last code, nor the end.
    places = IDS.cogview_positions(ids)
    masks = [reference.causal(len(ids))] * DEPTH
    first = LAYOUT.prompt_len - padding - 1  # Where the first code is predicted.
    want = wanted(params, ids, places, masks)[:, :, first + which]
    assert found.shape == (DEPTH, 2, 3, LAYOUT.prompt_len + COUNT)
    close(found[..., padding:-1], want)
    assert not found[..., :padding].any() and not found[..., -1].any()


def test_codes_of_sparse_layers(params):
    """Each layer's own rule, as DALL-E's: what a layer does not see has no weight."""
    network = dataclasses.replace(COGVIEW, **RASTER)
    rng = np.random.default_rng(2)
    ids = rng.integers(0, IDS.rows, (1, 9 + COUNT))
    watched = np.arange(8, 8 + COUNT)
    positions = np.arange(ids.shape[1])[None]
    found = compiled_weights_of_tokens(
        ImageLM(network), params, ids, positions, watched
    )
    masks = SPARSE_MASKS
    close(found, wanted(params, ids[0], positions[0], masks)[:, :, watched])
    for layer, mask in zip(found, masks, strict=True):
        assert not np.asarray(layer)[:, ~mask[watched]].any()


def test_codes_after_a_text_that_sees_itself():
    """ERNIE-ViLG's: padding stands before the text, codes have rows and columns."""
    network, text, codes = ernie("full"), TEXTS[2], CODES[2]
    params = random_params(network)
    prompts = TWO_WAY.prompts([text])
    padding = int(prompts.num_padding[0])
    assert padding
    which = np.arange(COUNT, dtype=np.int32)
    found = compiled_weights_of_codes(
        ImageLM(network), params, prompts, np.array([codes]), which
    )
    ids, places = IDS.ernie_drawing(text, codes, CODES_AT)
    masks = drawing_masks(("full",) * DEPTH, len(text) + 1, text_causal=False)
    want = wanted(params, ids, places, masks, PRE_NORM)[:, :, len(text) : -1]
    close(found[..., padding:-1], want[..., :-1])


def test_text_after_codes(params):
    """A caption, where each piece is predicted."""
    ids = IDS.cogview_reading(TEXTS[0], CODES[0])[:-1]
    places = np.arange(len(ids))
    watched = places[-len(TEXTS[0]) :] - 1
    found = compiled_weights_of_tokens(
        ImageLM(COGVIEW), params, np.array([ids]), places[None], watched
    )
    masks = [mask[: len(ids), : len(ids)] for mask in CAUSAL]
    close(found, wanted(params, ids, places, masks)[:, :, watched])
