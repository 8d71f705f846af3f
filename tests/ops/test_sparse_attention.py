"""The structured forms against dense attention under the masks."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.attention import attention
from cogjax.ops.cache import cache_plan, empty_cache
from cogjax.ops.masks import EDGES, FULL, LayerKind
from cogjax.ops.sequence import Segment, Sequence
from cogjax.ops.sparse_attention import (
    cached_attention,
    has_blocks,
    sparse_attention,
)
from tests.reference import numeric

NUM_TEXT = 3
# The kernel reaches over all of some grids, and over two row ends in one.
GRIDS = ((4, 4, 3), (6, 5, 5), (5, 2, 5), (1, 6, 3))
GRIDS_WITH_GRADIENTS = ((4, 4), (6, 5))


def cases():
    for rows, cols, kernel in GRIDS:
        kinds = [LayerKind("row"), LayerKind("row", row_extent="own")]
        kinds.append(LayerKind("column"))
        kinds += [LayerKind("conv", kernel, edge) for edge in EDGES]
        for kind in kinds:
            yield kind, (rows, cols)


CASES = list(cases())
ROW, CONV = LayerKind("row"), LayerKind("conv", 3)
SEQUENCE = Sequence.text_to_image(NUM_TEXT, (4, 4))
of_cases = pytest.mark.parametrize(("kind", "grid"), CASES, ids=str)
of_some = pytest.mark.parametrize(("kind", "grid"), CASES[:6], ids=str)


def inputs(length, dtype=np.float32, seed=0, rows=2):
    rng = np.random.default_rng(seed)
    shape = (rows, length, 2, 4)
    return [rng.normal(size=shape).astype(jnp.dtype(dtype)) for _ in range(3)]


def dense(arrays, mask, alpha=32.0):
    return attention(*arrays, jnp.asarray(mask)[None], alpha=alpha)


def hide_padding(mask, padding):
    """Masks [b, s, s] of rows with padding bool [b, s], which sees itself alone."""
    return mask & ~padding[:, None] | np.eye(len(mask), dtype=bool)


# One compilation a case, instead of one an operation.
sparse = jax.jit(sparse_attention, static_argnames=("sequence", "kind", "alpha"))


@functools.partial(jax.jit, static_argnames=("sequence", "kind"))
def sparse_and_gradients(arrays, weights, sequence, kind):
    out, back = jax.vjp(lambda *x: sparse_attention(*x, sequence, kind), *arrays)
    return out, back(weights)


cached_step = jax.jit(
    lambda q, k, v, cache, place, visible: cached_attention(
        q, k, v, cache, place, prefix_visible=visible
    )
)


@of_cases
def test_text_to_image(kind, grid):
    """Also its gradients, on two grids: they follow from the same slices."""
    sequence = Sequence.text_to_image(NUM_TEXT, grid)
    arrays, mask = inputs(sequence.length), sequence.mask(kind)
    want = numeric.attention(*arrays, mask)
    if grid not in GRIDS_WITH_GRADIENTS:
        got = sparse(*arrays, sequence, kind)
        np.testing.assert_allclose(got, want, atol=2e-6)
        return
    weights = inputs(sequence.length, seed=1)[0]
    got, grads = sparse_and_gradients(arrays, weights, sequence, kind)
    np.testing.assert_allclose(got, want, atol=2e-6)
    wanted = numeric.attention_gradients(arrays, weights, mask)
    for a, b in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)


@of_cases
def test_image_to_text(kind, grid):
    sequence = Sequence.image_to_text(grid, NUM_TEXT)
    arrays = inputs(sequence.length)
    got = sparse(*arrays, sequence, kind)
    want = numeric.attention(*arrays, sequence.mask(kind))
    np.testing.assert_allclose(got, want, atol=2e-6)


DTYPES = {"float64": 1e-12, "float32": 2e-6, "bfloat16": 2e-2, "float16": 3e-3}


@pytest.mark.parametrize(
    ("dtype", "alpha"), [*((dtype, 32.0) for dtype in DTYPES), ("float16", 1.0)]
)
def test_dtypes(dtype, alpha):
    with jax.enable_x64(dtype == "float64"):
        arrays = inputs(NUM_TEXT + 16, dtype)
        got = sparse(*arrays, SEQUENCE, CONV, alpha=alpha)
    assert got.dtype == dtype
    exact = numeric.attention(*arrays, SEQUENCE.mask(CONV))
    got = np.asarray(got, np.float64)
    np.testing.assert_allclose(got, exact, rtol=0, atol=DTYPES[dtype])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_large_scores_stay_finite_in_16_bit(dtype):
    arrays = [x * 100 for x in inputs(NUM_TEXT + 16, dtype)]
    assert np.isfinite(np.asarray(sparse(*arrays, SEQUENCE, ROW))).all()


def test_text_both_ways_and_padding():
    kind = LayerKind("row", row_extent="own")
    sequence = Sequence.text_to_image(NUM_TEXT, (4, 4), "all")
    arrays = inputs(sequence.length)
    visible = np.array([[True, False, True], [False, True, False]])
    got = sparse(*arrays, sequence, kind, visible)
    masks = hide_padding(sequence.mask(kind), np.pad(~visible, ((0, 0), (0, 16))))
    want = numeric.attention(*arrays, masks[:, None])
    np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize(("kind", "grid"), [*CASES[:6], (FULL, (4, 4))], ids=str)
def test_questions_both_ways_and_padding(kind, grid):
    """Two in one sequence, of 3 positions, with answers of 2."""
    sequence, image = Sequence.image_to_text(grid, 2, 3, 2), grid[0] * grid[1]
    arrays = inputs(sequence.length)
    text = [[True] * 10, [False, *[True] * 4, False, False, *[True] * 3]]
    visible = np.pad(np.array(text), ((0, 0), (image, 0)), constant_values=True)
    got = sparse(*arrays, sequence, kind, visible)
    masks = hide_padding(sequence.mask(kind), ~visible)
    want = numeric.attention(*arrays, masks[:, None])
    np.testing.assert_allclose(got, want, atol=2e-6)
    # No caption of as many pieces sees the same.
    plain = numeric.attention(*arrays, Sequence.image_to_text(grid, 10).mask(kind))
    assert np.abs(plain - want)[:, image:].max() > 1e-3


@pytest.mark.parametrize("missing", [1, 5])
@of_some
def test_the_last_positions_may_be_missing(kind, grid, missing):
    sequence = Sequence.text_to_image(NUM_TEXT, grid)
    arrays = [x[:, :-missing] for x in inputs(sequence.length)]
    got = sparse(*arrays, sequence.first(sequence.length - missing), kind)
    mask = sequence.mask(kind)[:-missing, :-missing]
    np.testing.assert_allclose(got, numeric.attention(*arrays, mask), atol=2e-6)


def cache_of(kind, grid, window, prompts, rows):
    """An empty cache behind random texts of the prompts."""
    plan = cache_plan(kind, grid, window)
    empty = jax.eval_shape(
        lambda: empty_cache(plan, prompts, NUM_TEXT, rows, 2, 4, jnp.float32)
    )
    rng = np.random.default_rng(1)

    def one(path, leaf):
        prefix = "prefix" in jax.tree_util.keystr(path)
        return np.float32(rng.normal(size=leaf.shape) * prefix)

    return jax.tree_util.tree_map_with_path(one, empty)


def test_images_share_the_text_of_their_prompt():
    arrays = inputs(1, rows=6)
    shared = cache_of(ROW, (2, 3), 1, 2, 6)
    copied = dataclasses.replace(
        shared,
        prefix_key=shared.prefix_key.repeat(3, axis=0),
        prefix_value=shared.prefix_value.repeat(3, axis=0),
    )
    visible = np.array([[True, False, True], [True, True, True]])
    got, new = cached_step(*arrays, shared, 4, visible)
    want, _ = cached_step(*arrays, copied, 4, visible.repeat(3, axis=0))
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_array_equal(new.prefix_key, shared.prefix_key)


@of_some
def test_a_window_of_positions_equals_one_after_the_other(kind, grid):
    """Also with many rows, where single positions take the other form of product."""
    arrays, visible = inputs(4, rows=17), np.ones((1, NUM_TEXT), bool)
    want, _ = cached_step(*arrays, cache_of(kind, grid, 4, 1, 17), 0, visible)
    one = cache_of(kind, grid, 1, 1, 17)
    for i in range(4):
        part = [x[:, i : i + 1] for x in arrays]
        got, one = cached_step(*part, one, i, visible)
        np.testing.assert_allclose(got, want[:, i : i + 1], atol=2e-6)


def test_under_scan_checkpoint_and_switch():
    kinds = (ROW, LayerKind("column"))
    start = 0.3 * inputs(NUM_TEXT + 16)[0]

    def layer(x, kind, forms):
        return jax.lax.switch(kind, [lambda x, f=f: x + f(x) for f in forms], x)

    def loss(x, forms):
        step = jax.checkpoint(lambda x, kind: (layer(x, kind, forms), None))
        return jnp.sum(jax.lax.scan(step, x, jnp.array([0, 1, 0]))[0] ** 2)

    blocks = [lambda x, k=k: sparse_attention(x, x, x, SEQUENCE, k) for k in kinds]
    masks = [SEQUENCE.mask(kind) for kind in kinds]
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
    arrays = inputs(NUM_TEXT + 16)
    function = jax.jit(
        lambda *args: sparse_attention(*args, SEQUENCE, ROW),
        in_shardings=(sharding,) * 3,
        out_shardings=sharding,
    )
    placed = [jax.device_put(x, sharding) for x in arrays]
    want = numeric.attention(*arrays, SEQUENCE.mask(ROW))
    np.testing.assert_allclose(function(*placed), want, atol=2e-6)
    # Batch and heads are independent: nothing has to be fetched from other devices.
    compiled = compiled_text(function, *placed)
    assert not re.findall(r"all-gather|all-reduce|all-to-all|collective", compiled)


@pytest.mark.parametrize("name", ["row", "column", "conv"])
def test_no_array_of_all_pairs(name):
    sequence, kind = Sequence.text_to_image(NUM_TEXT, (16, 16)), LayerKind(name, 3)
    x = jax.ShapeDtypeStruct((1, sequence.length, 1, 4), jnp.float32)
    grad = jax.grad(lambda x: sparse_attention(x, x, x, sequence, kind).sum())
    sizes = [eqn.outvars[0].aval.size for eqn in jax.make_jaxpr(grad)(x).jaxpr.eqns]
    assert max(sizes) < 256 * 256 / 2


QUESTION = Segment(2, "all", (0,))


@pytest.mark.parametrize(
    "sequence",
    [
        Sequence.causal(5),
        Sequence.text_to_image(3, (2, 2)).first(3),
        # An image that sees no text, a third segment, an image alone.
        Sequence((Segment(3), Segment(4, grid=(2, 2)))),
        Sequence((Segment(3), Segment(4, grid=(2, 2)), Segment(1))),
        Sequence((Segment(4, "all", grid=(2, 2)),)),
        # Texts of two forms, and texts that see each other.
        Sequence((Segment(4, "all", grid=(2, 2)), QUESTION, Segment(3, sees=(0,)))),
        Sequence(
            (
                Segment(4, "all", grid=(2, 2)),
                Segment(3, sees=(0,)),
                Segment(3, sees=(0, 1)),
            )
        ),
    ],
    ids=str,
)
def test_what_has_no_blocks(sequence):
    assert not has_blocks(sequence)
    with pytest.raises(ValueError, match="are not text and an image"):
        sparse_attention(*inputs(sequence.length), sequence, ROW)


def test_bad_lengths_and_kinds():
    with pytest.raises(ValueError, match="20 positions are not"):
        sparse(*inputs(20), SEQUENCE, ROW)
    with pytest.raises(ValueError, match="no sparse form"):
        sparse(*inputs(19), SEQUENCE, FULL)
