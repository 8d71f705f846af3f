"""One set of parameters in both directions, against dense masks through all layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.models.image_lm import ImageLM, ImageLMConfig, make_cache, reading
from cogjax.nn.block import Block, LayerInput
from cogjax.ops.attention import attention
from cogjax.ops.masks import (
    Pattern,
    hide_padding,
    image_to_text_mask,
    layer_kinds,
    text_to_image_mask,
)

# The figure's case: 6 text and 4 x 4 image, kernel 3.
NUM_TEXT, GRID, KERNEL = 6, 4, 3
NUM_IMAGE = GRID**2


def network(*kinds, row_extent="own"):
    patterns = tuple(
        Pattern(kind, GRID, GRID, kernel=KERNEL, row_extent=row_extent)
        for kind in kinds
    )
    return ImageLMConfig(
        vocab_size=128,
        width=16,
        depth=len(kinds),
        heads=2,
        mlp_dim=32,
        max_positions=NUM_TEXT + NUM_IMAGE,
        dropout=0.0,
        sandwich=False,
        norm_scope="none",
        patterns=patterns,
        num_text=NUM_TEXT,
        grid=GRID,
        text_causal=False,
    )


KINDS = layer_kinds(4, "dalle")
CONFIGS = {
    "own": network(*KINDS),
    "raster": network(*KINDS, row_extent="raster"),
    "full": network(*["full"] * 4),
}
RNG = np.random.default_rng(0)
IDS = jnp.asarray(RNG.integers(0, 128, (2, NUM_TEXT + NUM_IMAGE)))
TEXT, IMAGE = jnp.arange(NUM_TEXT), NUM_TEXT + jnp.arange(NUM_IMAGE)
TO_IMAGE = jnp.broadcast_to(jnp.concatenate([TEXT, IMAGE]), IDS.shape)
TO_TEXT = jnp.broadcast_to(jnp.concatenate([IMAGE, TEXT]), IDS.shape)
PADDING = np.arange(NUM_TEXT + NUM_IMAGE) < np.array([[0], [3]])
VISIBLE = jnp.asarray(~PADDING[:, :NUM_TEXT])


@pytest.fixture(scope="module")
def params():
    start = jax.jit(ImageLM(CONFIGS["own"]).init)(jax.random.key(0), IDS, TO_IMAGE)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape), start["params"])


def dense(params, config, ids, positions, masks):
    """The network with layer i under `masks[i]`, bool [b or 1, s, s], by hand."""
    places = params["position_embedding"]
    grid = params["row_embedding"][:, None] + params["column_embedding"]
    places = jnp.concatenate([places, grid.reshape(-1, config.width)])
    x = params["token_embedding"][ids] + places[positions]
    block = Block(
        config.heads,
        config.head_dim,
        config.mlp_dim,
        config.depth,
        norm_scope="none",
        sandwich=False,
        parent=None,
    )
    for i, mask in enumerate(masks):
        layer = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"]["layers"])
        x, _ = block.apply({"params": layer}, x, LayerInput(), mask, None)
    mean = x.mean(-1, keepdims=True)
    x = (x - mean) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    norm = params["final_norm"]
    return (x * norm["scale"] + norm["bias"]) @ params["token_embedding"].T


@pytest.mark.parametrize("name", CONFIGS)
def test_text_to_image_equals_dense_masks(params, name):
    config = CONFIGS[name]
    masks = []
    for pattern in config.patterns:
        mask = text_to_image_mask(pattern, NUM_TEXT, text_causal=False)
        masks.append(np.stack([hide_padding(mask, row) for row in PADDING]))
    want = jax.jit(lambda p: dense(p, config, IDS, TO_IMAGE, masks))(params)
    got, _ = jax.jit(ImageLM(config).apply)(
        {"params": params}, IDS, TO_IMAGE, visible=VISIBLE
    )
    got, want = np.asarray(got), np.asarray(want)
    # What stands at hidden text is nobody's business.
    np.testing.assert_allclose(got[~PADDING], want[~PADDING], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_image_to_text_equals_dense_masks(params, name):
    config = reading(CONFIGS[name])
    assert not any(pattern.causal for pattern in config.patterns)
    masks = [image_to_text_mask(p, NUM_TEXT)[None] for p in config.patterns]
    want = jax.jit(lambda p: dense(p, config, IDS, TO_TEXT, masks))(params)
    got, _ = jax.jit(ImageLM(config).apply)({"params": params}, IDS, TO_TEXT)
    np.testing.assert_allclose(got, want, atol=2e-4, rtol=1e-4)


QUESTION = 4  # positions of the question; what is left of the text is the answer
HIDDEN = np.arange(NUM_IMAGE + NUM_TEXT) - NUM_IMAGE
HIDDEN = (0 <= HIDDEN) & (HIDDEN < np.array([[0], [2]]))


@pytest.mark.parametrize("name", CONFIGS)
def test_questions_equal_dense_masks(params, name):
    """Two sequences, the question of one with padding in front of it."""
    config = reading(CONFIGS[name], QUESTION)
    masks = []
    for pattern in config.patterns:
        mask = image_to_text_mask(pattern, NUM_TEXT, QUESTION)
        masks.append(np.stack([hide_padding(mask, row) for row in HIDDEN]))
    want = jax.jit(lambda p: dense(p, config, IDS, TO_TEXT, masks))(params)
    got, _ = jax.jit(ImageLM(config).apply)(
        {"params": params}, IDS, TO_TEXT, visible=~HIDDEN[:, NUM_IMAGE:]
    )
    got, want = np.asarray(got), np.asarray(want)
    np.testing.assert_allclose(got[~HIDDEN], want[~HIDDEN], atol=2e-4, rtol=1e-4)
    caption, _ = jax.jit(ImageLM(reading(CONFIGS[name])).apply)(
        {"params": params}, IDS, TO_TEXT
    )
    # Codes see no text in either; the first of the question sees more than before it.
    np.testing.assert_allclose(
        got[0, :NUM_IMAGE], caption[0, :NUM_IMAGE], rtol=1e-4, atol=2e-4
    )
    assert np.abs(got[0, NUM_IMAGE] - caption[0, NUM_IMAGE]).max() > 0.01


@pytest.mark.parametrize("name", CONFIGS)
def test_each_position_sees_what_the_table_of_the_paper_says(params, name):
    """Where a change of one input reaches, over all layers, in both directions."""
    config = CONFIGS[name]

    # Each position has a token of its own: its row stands for the position.
    count = NUM_TEXT + NUM_IMAGE
    ids, table = jnp.arange(count)[None], params["token_embedding"]
    change = jnp.asarray(RNG.normal(size=table.shape[1]))

    def reach(config, positions):
        def scored(embedding):
            changed = {**params, "token_embedding": embedding, "head": table}
            return ImageLM(config).apply({"params": changed}, ids, positions)[0][0]

        def moved(i):
            return scored(table.at[i].add(change)) - scored(table)

        found = jax.jit(jax.vmap(moved))(jnp.arange(count))
        return np.asarray(jnp.abs(found).max(-1) > 1e-4).T

    seen = reach(config, TO_IMAGE[:1])
    assert seen[:NUM_TEXT, :NUM_TEXT].all() and seen[NUM_TEXT:, :NUM_TEXT].all()
    assert not seen[:NUM_TEXT, NUM_TEXT:].any()
    assert not np.triu(seen[NUM_TEXT:, NUM_TEXT:], 1).any()
    seen = reach(reading(config), TO_TEXT[:1])
    assert seen[NUM_IMAGE:, :NUM_IMAGE].all() and not seen[:NUM_IMAGE, NUM_IMAGE:].any()
    np.testing.assert_array_equal(
        seen[NUM_IMAGE:, NUM_IMAGE:], np.tri(NUM_TEXT, dtype=bool)
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_cached_captions_equal_the_full_forward(params, name):
    config = reading(CONFIGS[name])
    apply = jax.jit(ImageLM(config).apply)
    full, _ = apply({"params": params}, IDS, TO_TEXT)
    cache, parts = make_cache(config, 2, NUM_IMAGE + 1, 2, NUM_TEXT - 1), []
    for first in (0, *range(NUM_IMAGE + 1, NUM_IMAGE + NUM_TEXT)):
        part = slice(first, first + 1 if first else NUM_IMAGE + 1)
        mask = place = None
        if first:
            mask, place = jnp.ones((2, 1, NUM_IMAGE + 1), bool), first - NUM_IMAGE - 1
            place = jnp.int32(place)
        out, cache = apply(
            {"params": params}, IDS[:, part], TO_TEXT[:, part], mask, cache, place
        )
        parts.append(out)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), full, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_cached_drawing_equals_the_full_forward(params, name):
    """The text in one call, its padding hidden, then a code a call."""
    config = CONFIGS[name]
    apply = jax.jit(ImageLM(config).apply)
    full, _ = apply({"params": params}, IDS, TO_IMAGE, visible=VISIBLE)
    mask = VISIBLE[:, None] | jnp.eye(NUM_TEXT, dtype=bool)
    cache = make_cache(config, 2, NUM_TEXT, 2, NUM_IMAGE)
    _, cache = apply(
        {"params": params}, IDS[:, :NUM_TEXT], TO_IMAGE[:, :NUM_TEXT], mask, cache
    )
    parts = []
    for i in range(NUM_IMAGE):
        part = slice(NUM_TEXT + i, NUM_TEXT + i + 1)
        out, cache = apply(
            {"params": params},
            IDS[:, part],
            TO_IMAGE[:, part],
            VISIBLE[:, None],
            cache,
            jnp.int32(i),
        )
        parts.append(out)
    got = jnp.concatenate(parts, 1)
    np.testing.assert_allclose(got, full[:, NUM_TEXT:], rtol=1e-5, atol=1e-5)


def test_directions_share_every_parameter(params):
    shapes = [
        jax.eval_shape(ImageLM(c).init, jax.random.key(0), IDS[:, :2], IDS[:, :2])
        for c in (CONFIGS["own"], reading(CONFIGS["own"]), CONFIGS["full"])
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    tables = {k: v.shape for k, v in params.items() if k.endswith("_embedding")}
    assert tables == {
        "token_embedding": (128, 16),
        "position_embedding": (NUM_TEXT, 16),
        "row_embedding": (GRID, 16),
        "column_embedding": (GRID, 16),
    }


def test_a_causal_decoder_reads_with_itself():
    config = dataclasses.replace(CONFIGS["own"], text_causal=True)
    assert reading(config) is config


def test_questions_stand_behind_an_image():
    with pytest.raises(ValueError, match="behind an image"):
        dataclasses.replace(CONFIGS["own"], num_question=2)


def test_two_way_text_needs_patterns():
    with pytest.raises(ValueError, match="needs patterns"):
        dataclasses.replace(CONFIGS["own"], patterns=())


def test_dense_is_the_oracle_of_one_layer():
    """The helper above is `attention` under the mask, not the code that it judges."""
    query = jnp.asarray(RNG.normal(size=(1, 3, 1, 2)), jnp.float32)
    mask = np.array([[[1, 0, 1], [1, 1, 0], [1, 1, 1]]], bool)
    scores = np.einsum("btnh,bsnh->bts", query, query) / np.sqrt(2)
    weights = np.exp(np.where(mask, scores, -np.inf))
    want = (weights / weights.sum(-1, keepdims=True)) @ query[:, :, 0]
    got = attention(query, query, query, mask)[:, :, 0]
    np.testing.assert_allclose(got, want, rtol=1e-5)
