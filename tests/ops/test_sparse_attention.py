"""The structured forms against dense attention under the masks."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.attention import attention
from cogjax.ops.cache import cache_plan, empty_cache
from cogjax.ops.masks import (
    EDGES,
    Pattern,
    hide_padding,
    image_to_text_mask,
    text_to_image_mask,
)
from cogjax.ops.sparse_attention import cached_attention, sparse_attention

NUM_TEXT = 3
# The kernel reaches over all of some grids, and over two row ends in one.
GRIDS = ((4, 4, 3), (6, 5, 5), (5, 2, 5), (1, 6, 3))


def patterns(causal):
    for rows, cols, kernel in GRIDS:
        yield Pattern("row", rows, cols, causal)
        yield Pattern("row", rows, cols, causal, row_extent="own")
        yield Pattern("column", rows, cols, causal)
        for edge in EDGES:
            yield Pattern("conv", rows, cols, causal, kernel, edge)


CAUSAL, BOTH = list(patterns(True)), list(patterns(False))


def inputs(length, dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    shape = (2, length, 2, 4)
    return [jnp.asarray(rng.normal(size=shape), dtype) for _ in range(3)]


def dense(arrays, mask, alpha=32.0):
    return attention(*arrays, jnp.asarray(mask)[None], alpha=alpha)


def reference(arrays, mask):
    """Dense attention in float64, with numpy."""
    query, key, value = (np.asarray(x, np.float64) for x in arrays)
    scores = np.einsum("btnh,bsnh->bnts", query, key) / query.shape[-1] ** 0.5
    probs = np.exp(np.where(mask, scores, -np.inf))
    probs /= probs.sum(-1, keepdims=True)
    return np.einsum("bnts,bsnh->btnh", probs, value)


# One compilation a case, instead of one an operation.
sparse = jax.jit(
    sparse_attention,
    static_argnums=(3, 4),
    static_argnames=(
        "image_first",
        "text_causal",
        "num_question",
        "num_asked",
        "alpha",
    ),
)


def cached_step(plan):
    """Jitted: of query, key, value, cache, place and visible text."""
    return jax.jit(
        lambda q, k, v, cache, place, visible: cached_attention(
            q, k, v, cache, plan, place, prefix_visible=visible
        )
    )


@pytest.mark.parametrize("pattern", CAUSAL, ids=str)
def test_text_to_image(pattern):
    arrays = inputs(NUM_TEXT + pattern.length)
    mask = text_to_image_mask(pattern, NUM_TEXT)
    got = sparse(*arrays, pattern, NUM_TEXT)
    np.testing.assert_allclose(got, reference(arrays, mask), atol=2e-6)


@pytest.mark.parametrize("pattern", BOTH, ids=str)
def test_image_to_text(pattern):
    arrays = inputs(NUM_TEXT + pattern.length)
    mask = image_to_text_mask(pattern, NUM_TEXT)
    got = sparse(*arrays, pattern, NUM_TEXT, image_first=True)
    np.testing.assert_allclose(got, reference(arrays, mask), atol=2e-6)


@pytest.mark.parametrize("pattern", CAUSAL[:12], ids=str)
def test_gradients(pattern):
    arrays = inputs(NUM_TEXT + pattern.length)
    mask = text_to_image_mask(pattern, NUM_TEXT)
    weights = inputs(NUM_TEXT + pattern.length, seed=1)[0]

    def grads(function):
        return jax.jit(jax.grad(lambda x: jnp.sum(function(x) * weights)))(arrays)

    got = grads(lambda args: sparse_attention(*args, pattern, NUM_TEXT))
    for a, b in zip(got, grads(lambda args: dense(args, mask)), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)


DTYPES = {"float64": 1e-12, "float32": 2e-6, "bfloat16": 2e-2, "float16": 3e-3}


@pytest.mark.parametrize("alpha", [1.0, 32.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype, alpha):
    with jax.enable_x64(dtype == "float64"):
        pattern = Pattern("conv", 4, 4, kernel=3)
        arrays = inputs(NUM_TEXT + 16, dtype)
        got = sparse(*arrays, pattern, NUM_TEXT, alpha=alpha)
    assert got.dtype == dtype
    exact = reference(arrays, text_to_image_mask(pattern, NUM_TEXT))
    got = np.asarray(got, np.float64)
    np.testing.assert_allclose(got, exact, rtol=0, atol=DTYPES[dtype])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_large_scores_stay_finite_in_16_bit(dtype):
    pattern = Pattern("row", 4, 4)
    arrays = [x * 100 for x in inputs(NUM_TEXT + 16, dtype)]
    assert np.isfinite(np.asarray(sparse(*arrays, pattern, NUM_TEXT))).all()


def test_text_both_ways_and_padding():
    pattern = Pattern("row", 4, 4, row_extent="own")
    arrays = inputs(NUM_TEXT + 16)
    visible = np.array([[True, False, True], [False, True, False]])
    got = sparse(*arrays, pattern, NUM_TEXT, text_causal=False, text_visible=visible)
    mask = text_to_image_mask(pattern, NUM_TEXT, text_causal=False)
    padding = np.pad(~visible, ((0, 0), (0, 16)))
    masks = np.stack([hide_padding(mask, row) for row in padding])
    want = attention(*arrays, jnp.asarray(masks))
    np.testing.assert_allclose(got, want, atol=2e-6)


FULL = Pattern("full", 4, 4, causal=False)


@pytest.mark.parametrize("pattern", [*BOTH[:6], FULL], ids=str)
def test_questions_both_ways_and_padding(pattern):
    """Two in one sequence, of 3 positions, with answers of 2."""
    arrays = inputs(10 + pattern.length)
    visible = np.array([[True] * 10, [False, *[True] * 4, False, False, *[True] * 3]])
    form = {"image_first": True, "num_question": 3, "num_asked": 2}
    got = sparse(*arrays, pattern, 10, **form, text_visible=visible)
    mask = image_to_text_mask(pattern, 10, 3, 2)
    padding = np.pad(~visible, ((0, 0), (pattern.length, 0)))
    masks = np.stack([hide_padding(mask, row) for row in padding])
    want = attention(*arrays, jnp.asarray(masks))
    np.testing.assert_allclose(got, want, atol=2e-6)
    plain = sparse(*arrays, pattern, 10, image_first=True)
    assert np.abs(plain - want)[:, pattern.length :].max() > 1e-3


@pytest.mark.parametrize("missing", [1, 5])
@pytest.mark.parametrize("pattern", CAUSAL[:6], ids=str)
def test_the_last_positions_may_be_missing(pattern, missing):
    arrays = inputs(NUM_TEXT + pattern.length)
    whole = sparse(*arrays, pattern, NUM_TEXT)
    short = [x[:, :-missing] for x in arrays]
    got = sparse(*short, pattern, NUM_TEXT)
    np.testing.assert_allclose(got, whole[:, :-missing], atol=2e-6)


def test_images_share_the_text_of_their_prompt():
    pattern = Pattern("row", 2, 3)
    plan = cache_plan(pattern)
    arrays = [jnp.concatenate([x] * 3)[:6] for x in inputs(1)]
    empty = empty_cache(plan, 2, NUM_TEXT, 6, *arrays[0].shape[2:], jnp.float32)
    rng = np.random.default_rng(1)
    shared = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), "f4"), empty)
    copied = shared._replace(
        prefix_key=jnp.repeat(shared.prefix_key, 3, axis=0),
        prefix_value=jnp.repeat(shared.prefix_value, 3, axis=0),
    )
    visible = jnp.array([[True, False, True], [True, True, True]])
    step = cached_step(plan)
    got, new = step(*arrays, shared, 4, visible)
    want, _ = step(*arrays, copied, 4, jnp.repeat(visible, 3, axis=0))
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_array_equal(new.prefix_key, shared.prefix_key)


@pytest.mark.parametrize("pattern", CAUSAL[:6], ids=str)
def test_a_window_of_positions_equals_one_after_the_other(pattern):
    """Also with many rows, where single positions take the other form of product."""
    arrays = [jnp.concatenate([x] * 9)[:17] for x in inputs(4)]
    visible = jnp.ones((1, NUM_TEXT), bool)

    def cache(window):
        plan = cache_plan(pattern, window)
        heads = arrays[0].shape[2:]
        empty = empty_cache(plan, 1, NUM_TEXT, len(arrays[0]), *heads, jnp.float32)
        rng = np.random.default_rng(1)
        prefix = {
            name: jnp.asarray(rng.normal(size=getattr(empty, name).shape), "f4")
            for name in ("prefix_key", "prefix_value")
        }
        return plan, empty._replace(**prefix)

    plan, together = cache(4)
    want, _ = cached_step(plan)(*arrays, together, 0, visible)
    plan, one = cache(1)
    step = cached_step(plan)
    for i in range(4):
        part = [x[:, i : i + 1] for x in arrays]
        got, one = step(*part, one, i, visible)
        np.testing.assert_allclose(got, want[:, i : i + 1], atol=2e-6)


def test_under_scan_checkpoint_and_switch():
    kinds = (Pattern("row", 4, 4), Pattern("column", 4, 4))
    start = 0.3 * inputs(NUM_TEXT + 16)[0]

    def layer(x, kind, forms):
        return jax.lax.switch(kind, [lambda x, f=f: x + f(x) for f in forms], x)

    def loss(x, forms):
        step = jax.checkpoint(lambda x, kind: (layer(x, kind, forms), None))
        return jnp.sum(jax.lax.scan(step, x, jnp.array([0, 1, 0]))[0] ** 2)

    blocks = [lambda x, p=p: sparse_attention(x, x, x, p, NUM_TEXT) for p in kinds]
    masks = [text_to_image_mask(p, NUM_TEXT) for p in kinds]
    full = [lambda x, m=m: dense([x, x, x], m) for m in masks]
    got = jax.jit(jax.grad(lambda x: loss(x, blocks)))(start)
    want = jax.jit(jax.grad(lambda x: loss(x, full)))(start)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


def test_sharded_over_batch_and_heads(compiled_text):
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.make_mesh(
        (2, 2), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )
    sharding = NamedSharding(mesh, PartitionSpec("data", None, "tensor"))
    pattern = Pattern("row", 4, 4)
    arrays = inputs(NUM_TEXT + 16)
    function = jax.jit(
        lambda *args: sparse_attention(*args, pattern, NUM_TEXT),
        in_shardings=(sharding,) * 3,
        out_shardings=sharding,
    )
    placed = [jax.device_put(x, sharding) for x in arrays]
    want = sparse_attention(*arrays, pattern, NUM_TEXT)
    np.testing.assert_allclose(function(*placed), want, atol=2e-6)
    # Batch and heads are independent: nothing has to be fetched from other devices.
    compiled = compiled_text(function, *placed)
    assert not re.findall(r"all-gather|all-reduce|all-to-all|collective", compiled)


@pytest.mark.parametrize("kind", ["row", "column", "conv"])
def test_no_array_of_all_pairs(kind):
    pattern = Pattern(kind, 16, 16, kernel=3)
    x = jax.ShapeDtypeStruct((1, NUM_TEXT + 256, 1, 4), jnp.float32)
    grad = jax.grad(lambda x: sparse_attention(x, x, x, pattern, NUM_TEXT).sum())
    sizes = [eqn.outvars[0].aval.size for eqn in jax.make_jaxpr(grad)(x).jaxpr.eqns]
    assert max(sizes) < 256 * 256 / 2


@pytest.mark.parametrize(
    "length, pattern, settings",
    [
        (20, Pattern("row", 4, 4), {}),
        (18, Pattern("row", 4, 4, False), {}),
        (18, Pattern("row", 4, 4), {"image_first": True}),
        (19, Pattern("full", 4, 4), {}),
    ],
)
def test_bad_lengths_and_kinds(length, pattern, settings):
    with pytest.raises(ValueError, match="positions are not|no sparse form"):
        sparse_attention(*inputs(length), pattern, NUM_TEXT, **settings)
