"""One set of parameters in both directions, against dense masks through all layers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import ImageLMConfig, image_to_text
from cogjax.models.inference import make_cache
from cogjax.ops.attention import attention
from cogjax.ops.masks import sparse_kinds
from cogjax.ops.sequence import Sequence

# The figure's case: 6 text and 4 x 4 image, kernel 3.
NUM_TEXT, GRID, KERNEL = 6, 4, 3
NUM_IMAGE = GRID**2


def network(kinds):
    return ImageLMConfig(
        vocab_size=128,
        width=16,
        depth=4,
        heads=2,
        mlp_dim=32,
        max_positions=NUM_TEXT + NUM_IMAGE,
        dropout=0.0,
        sandwich=False,
        norm_scope="none",
        grid=GRID,
        sequence=Sequence.text_to_image(NUM_TEXT, (GRID, GRID), "all"),
        kinds=kinds,
    )


CONFIGS = {
    "own": network(sparse_kinds(4, KERNEL, "own", "clip")),
    "raster": network(sparse_kinds(4, KERNEL, "raster")),
    "full": network(()),
}
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 128, (2, NUM_TEXT + NUM_IMAGE)).astype(np.int32)
TEXT, IMAGE = np.arange(NUM_TEXT), NUM_TEXT + np.arange(NUM_IMAGE)
TO_IMAGE = np.broadcast_to(np.concatenate([TEXT, IMAGE]), IDS.shape)
TO_TEXT = np.broadcast_to(np.concatenate([IMAGE, TEXT]), IDS.shape)
PADDING = np.arange(NUM_TEXT + NUM_IMAGE) < np.array([[0], [3]])
VISIBLE = ~PADDING[:, :NUM_TEXT]


# One program for all of its arrays.
empty = jax.jit(make_cache, static_argnums=range(5))


@functools.cache
def jitted(config):
    """The network of a config, which several tests run."""
    return jax.jit(ImageLM(config).apply)


@pytest.fixture(scope="module")
def params():
    start = jax.jit(ImageLM(CONFIGS["own"]).init)(jax.random.key(0), IDS, TO_IMAGE)
    start, rng = jax.device_get(start["params"]), np.random.default_rng(1)
    return jax.tree.map(
        lambda x: (x + 0.3 * rng.normal(size=x.shape)).astype(np.float32), start
    )


def dense(params, config, ids, positions, hidden):
    """The network under n x n masks, by hand; hidden: bool [b, s], padding."""
    places = params["position_embedding"]
    grid = params["row_embedding"][:, None] + params["column_embedding"]
    places = jnp.concatenate([places, grid.reshape(-1, config.width)])
    x = params["token_embedding"][ids] + places[positions]
    own = np.eye(ids.shape[1], dtype=bool)
    for i, kind in enumerate(config.layer_kinds):
        mask = config.sequence.mask(kind) & ~hidden[:, None] | own  # [b, s, s]
        part = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"]["layers"])
        qkv = jnp.einsum(
            "btd,dknh->kbtnh", norm(x, part["pre_attn_norm"]), part["qkv"]["kernel"]
        )
        qkv += part["qkv"]["bias"][:, None, None]
        out = attention(*qkv, mask)
        x += jnp.einsum("btnh,nhd->btd", out, part["attn_out"]["kernel"])
        x += part["attn_out"]["bias"]
        h = norm(x, part["pre_mlp_norm"]) @ part["mlp_in"]["kernel"]
        h = jax.nn.gelu(h + part["mlp_in"]["bias"])
        x += h @ part["mlp_out"]["kernel"] + part["mlp_out"]["bias"]
    return norm(x, params["final_norm"]) @ params["token_embedding"].T


def norm(x, params):
    x -= x.mean(-1, keepdims=True)
    x /= jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    return x * params["scale"] + params["bias"]


@pytest.mark.parametrize("name", CONFIGS)
def test_text_to_image_equals_dense_masks(params, name):
    config = CONFIGS[name]
    want = jax.jit(lambda p: dense(p, config, IDS, TO_IMAGE, PADDING))(params)
    got, _ = jitted(config)({"params": params}, IDS, TO_IMAGE, visible=VISIBLE)
    got, want = np.asarray(got), np.asarray(want)
    # What stands at hidden text is nobody's business.
    np.testing.assert_allclose(got[~PADDING], want[~PADDING], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_image_to_text_equals_dense_masks(params, name):
    config = image_to_text(CONFIGS[name])
    assert not config.sequence.image.causal
    none = np.zeros(IDS.shape, bool)
    want = jax.jit(lambda p: dense(p, config, IDS, TO_TEXT, none))(params)
    got, _ = jitted(config)({"params": params}, IDS, TO_TEXT)
    np.testing.assert_allclose(got, want, atol=2e-4, rtol=1e-4)


QUESTION = 4  # positions of the question; what is left of the text is the answer
HIDDEN = np.arange(NUM_IMAGE + NUM_TEXT) - NUM_IMAGE
HIDDEN = (0 <= HIDDEN) & (HIDDEN < np.array([[0], [2]]))


@pytest.mark.parametrize("name", CONFIGS)
def test_questions_equal_dense_masks(params, name):
    """Two sequences, the question of one with padding in front of it."""
    config = image_to_text(CONFIGS[name], NUM_TEXT - QUESTION, QUESTION)
    want = jax.jit(lambda p: dense(p, config, IDS, TO_TEXT, HIDDEN))(params)
    got, _ = jax.jit(ImageLM(config).apply)(
        {"params": params}, IDS, TO_TEXT, visible=~HIDDEN
    )
    got, want = np.asarray(got), np.asarray(want)
    np.testing.assert_allclose(got[~HIDDEN], want[~HIDDEN], atol=2e-4, rtol=1e-4)
    caption, _ = jitted(image_to_text(CONFIGS[name]))({"params": params}, IDS, TO_TEXT)
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
    params = jax.device_put(params)
    ids, table = np.arange(count)[None], params["token_embedding"]
    change = RNG.normal(size=table.shape[1]).astype(np.float32)

    def reach(config, positions):
        def scored(embedding):
            changed = {**params, "token_embedding": embedding, "head": table}
            return ImageLM(config).apply({"params": changed}, ids, positions)[0][0]

        def moved(i):
            return scored(table.at[i].add(change))

        # The last is behind the table: nothing changes.
        found = np.asarray(jax.jit(jax.vmap(moved))(np.array([*range(count), 128])))
        return (np.abs(found[:-1] - found[-1]).max(-1) > 1e-4).T

    seen = reach(config, TO_IMAGE[:1])
    assert seen[:NUM_TEXT, :NUM_TEXT].all() and seen[NUM_TEXT:, :NUM_TEXT].all()
    assert not seen[:NUM_TEXT, NUM_TEXT:].any()
    assert not np.triu(seen[NUM_TEXT:, NUM_TEXT:], 1).any()
    seen = reach(image_to_text(config), TO_TEXT[:1])
    assert seen[NUM_IMAGE:, :NUM_IMAGE].all() and not seen[:NUM_IMAGE, NUM_IMAGE:].any()
    np.testing.assert_array_equal(
        seen[NUM_IMAGE:, NUM_IMAGE:], np.tri(NUM_TEXT, dtype=bool)
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_cached_captions_equal_the_full_forward(params, name):
    config = image_to_text(CONFIGS[name])
    apply = jitted(config)
    full, _ = apply({"params": params}, IDS, TO_TEXT)
    cache, parts = empty(config, 2, NUM_IMAGE + 1, 2, NUM_TEXT - 1), []
    for first in (0, *range(NUM_IMAGE + 1, NUM_IMAGE + NUM_TEXT)):
        part = slice(first, first + 1 if first else NUM_IMAGE + 1)
        visible = place = None
        if first:
            visible = np.ones((2, NUM_IMAGE + 1), bool)
            place = np.int32(first - NUM_IMAGE - 1)
        out, cache = apply(
            {"params": params}, IDS[:, part], TO_TEXT[:, part], visible, cache, place
        )
        parts.append(out)
    np.testing.assert_allclose(np.concatenate(parts, 1), full, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_cached_drawing_equals_the_full_forward(params, name):
    """The text in one call, its padding hidden, then a code a call."""
    config = CONFIGS[name]
    apply = jitted(config)
    full, _ = apply({"params": params}, IDS, TO_IMAGE, visible=VISIBLE)
    cache = empty(config, 2, NUM_TEXT, 2, NUM_IMAGE)
    _, cache = apply(
        {"params": params}, IDS[:, :NUM_TEXT], TO_IMAGE[:, :NUM_TEXT], VISIBLE, cache
    )
    parts = []
    for i in range(NUM_IMAGE):
        part = slice(NUM_TEXT + i, NUM_TEXT + i + 1)
        out, cache = apply(
            {"params": params},
            IDS[:, part],
            TO_IMAGE[:, part],
            VISIBLE,
            cache,
            np.int32(i),
        )
        parts.append(out)
    got, full = np.concatenate(parts, 1), np.asarray(full)
    np.testing.assert_allclose(got, full[:, NUM_TEXT:], rtol=1e-5, atol=1e-5)


def test_directions_share_every_parameter(params):
    shapes = [
        jax.eval_shape(ImageLM(c).init, jax.random.key(0), IDS[:, :2], IDS[:, :2])
        for c in (CONFIGS["own"], image_to_text(CONFIGS["own"]), CONFIGS["full"])
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
    sequence = Sequence.text_to_image(NUM_TEXT, (GRID, GRID))
    config = dataclasses.replace(CONFIGS["own"], sequence=sequence)
    assert image_to_text(config) is config


def test_dense_is_the_oracle_of_one_layer():
    """The helper above is `attention` under the mask, not the code that it judges."""
    query = jnp.asarray(RNG.normal(size=(1, 3, 1, 2)), jnp.float32)
    mask = np.array([[[1, 0, 1], [1, 1, 0], [1, 1, 1]]], bool)
    scores = np.einsum("btnh,bsnh->bts", query, query) / np.sqrt(2)
    weights = np.exp(np.where(mask, scores, -np.inf))
    want = (weights / weights.sum(-1, keepdims=True)) @ query[:, :, 0]
    got = attention(query, query, query, mask)[:, :, 0]
    np.testing.assert_allclose(got, want, rtol=1e-5)
