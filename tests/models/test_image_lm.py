import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.models.image_lm import ImageLM, ImageLMConfig, make_cache, matrix_axes
from cogjax.ops.masks import Pattern

CONFIG = ImageLMConfig(
    vocab_size=128,
    width=16,
    depth=3,
    heads=2,
    mlp_dim=32,
    max_positions=12,
    dropout=0.5,
)
IDS = jnp.asarray(np.random.default_rng(0).integers(0, 128, (2, 10)))
POSITIONS = jnp.broadcast_to(jnp.arange(10), (2, 10))


@pytest.fixture(scope="module")
def params():
    start = jax.jit(ImageLM(CONFIG).init)(jax.random.key(0), IDS, POSITIONS)["params"]
    rng = np.random.default_rng(1)
    # The initial weights hardly differ from zero: larger ones make a sharper check.
    return jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape), start)


def logits(params, ids=IDS, config=CONFIG, **kwargs):
    return ImageLM(config).apply({"params": params}, ids, POSITIONS, **kwargs)[0]


def test_the_future_is_invisible(params):
    changed = IDS.at[:, 6:].set(0)
    before, after = logits(params), logits(params, changed)
    np.testing.assert_allclose(before[:, :6], after[:, :6], atol=1e-5)
    assert float(jnp.abs(before[:, 6:] - after[:, 6:]).max()) > 0.1


def test_a_row_ignores_the_rest_of_its_batch(params):
    np.testing.assert_allclose(
        logits(params)[:1],
        ImageLM(CONFIG).apply({"params": params}, IDS[:1], POSITIONS[:1])[0],
        atol=1e-4,
    )


def test_whole_tensor_norm_sees_the_batch(params):
    """Parity: with scope "tensor" (the release) rows depend on each other."""
    config = dataclasses.replace(CONFIG, norm_scope="tensor")
    together = logits(params, config=config)[:1]
    alone = ImageLM(config).apply({"params": params}, IDS[:1], POSITIONS[:1])[0]
    assert not np.array_equal(together, alone)


@pytest.mark.parametrize("chunks", [(10,), (4, 6), (7, 1, 1, 1), (1,) * 10])
def test_cached_decoding_equals_the_full_forward(params, chunks):
    cache, slot, parts = make_cache(CONFIG, 2, 12), 0, []
    for size in chunks:
        part = slice(slot, slot + size)
        mask = (
            jnp.arange(12)[None, None] <= jnp.arange(slot, slot + size)[None, :, None]
        )
        out, cache = ImageLM(CONFIG).apply(
            {"params": params}, IDS[:, part], POSITIONS[:, part], mask, cache, slot
        )
        parts.append(out)
        slot += size
    np.testing.assert_allclose(
        jnp.concatenate(parts, 1), logits(params), rtol=1e-5, atol=1e-5
    )


SPARSE = dataclasses.replace(
    CONFIG,
    num_text=4,
    patterns=tuple(Pattern(k, 2, 3, kernel=3) for k in ("row", "column", "conv")),
)


def kinds(*names, **settings):
    patterns = [Pattern(name, 2, 3, kernel=3, **settings) for name in names]
    return dataclasses.replace(CONFIG, num_text=4, patterns=tuple(patterns))


SPARSE = kinds("row", "column", "conv")


@pytest.mark.parametrize(
    "config",
    [
        SPARSE,
        kinds("full", "row", "full"),
        kinds("conv", "conv", "row", edge="clip", row_extent="own"),
        kinds("conv", "conv", "conv", edge="torus"),
    ],
    ids=("raster", "full", "clip", "torus"),
)
def test_sparse_decoding_equals_the_full_forward(params, config):
    model, cache, parts = ImageLM(config), make_cache(config, 2, 10), []
    # All text at once, then the image position by position.
    for first, last in ((0, 4), *((i, i + 1) for i in range(4, 10))):
        part = slice(first, last)
        mask = jnp.arange(4)[None, None] <= jnp.arange(first, last)[None, :, None]
        mask = jnp.broadcast_to(mask, (2, *mask.shape[1:]))
        out, cache = model.apply(
            {"params": params}, IDS[:, part], POSITIONS[:, part], mask, cache, first
        )
        parts.append(out)
    full = logits(params, config=config)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), full, rtol=1e-5, atol=1e-5)


def test_patterns_hide_something(params):
    hidden = jnp.abs(logits(params, config=SPARSE) - logits(params))
    assert float(hidden[:, 4:].max()) > 0.01
    np.testing.assert_allclose(hidden[:, :4], 0, atol=1e-5)


def test_full_patterns_are_plain_attention(params):
    patterns = (Pattern("full", 2, 3),) * 3
    config = dataclasses.replace(SPARSE, patterns=patterns)
    np.testing.assert_array_equal(logits(params, config=config), logits(params))


def test_sparse_layers_have_the_same_parameters(params):
    shapes = jax.eval_shape(ImageLM(SPARSE).init, jax.random.key(0), IDS, POSITIONS)
    jax.tree.map(lambda a, b: None, shapes["params"], params)


def test_one_pattern_a_layer():
    with pytest.raises(ValueError, match="2 patterns for 3 layers"):
        dataclasses.replace(SPARSE, patterns=SPARSE.patterns[:2])


def test_vocab_range_is_a_slice(params):
    part = logits(params, vocab_range=(30, 70))
    np.testing.assert_allclose(part, logits(params)[..., 30:70], rtol=1e-5, atol=1e-5)


def test_dropout_needs_a_key_and_repeats_with_it(params):
    a, b, c = (logits(params, key=jax.random.key(i)) for i in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert float(jnp.abs(a - c).max()) > 0.01
    assert float(jnp.abs(a - logits(params)).max()) > 0.01


@pytest.mark.parametrize(("dtype", "atol"), [("bfloat16", 0.6), ("float16", 0.1)])
def test_sixteen_bits_stay_close(params, dtype, atol):
    config = dataclasses.replace(CONFIG, dtype=dtype)
    got = logits(params, config=config)
    assert got.dtype == jnp.float32
    assert float(jnp.abs(got - logits(params)).mean()) < atol


def test_every_kernel_of_the_blocks_is_a_matrix(params):
    axes = matrix_axes(params)
    flat = jax.tree_util.tree_leaves_with_path(
        axes, is_leaf=lambda x: x is None or isinstance(x, tuple)
    )
    named = {jax.tree_util.keystr(path) for path, value in flat if value}
    assert len(named) == 4
    block = params["blocks"]["layers"]
    for name in ("qkv", "attn_out", "mlp_in", "mlp_out"):
        inputs, outputs = axes["blocks"]["layers"][name]["kernel"]
        rank = block[name]["kernel"].ndim
        assert sorted((0, *inputs, *outputs)) == list(range(rank))
