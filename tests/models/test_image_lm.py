import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from cogjax.config import section
from cogjax.models.image_lm import LAST, ImageLM, Training, matrix_axes
from cogjax.models.image_lm_config import ImageLMConfig, image_to_text
from cogjax.models.inference import for_inference, make_cache, scoring
from cogjax.ops.masks import FULL, LayerKind
from cogjax.ops.sequence import Sequence

CONFIG = ImageLMConfig(
    vocab_size=128,
    width=16,
    depth=3,
    heads=2,
    mlp_dim=32,
    max_positions=12,
    dropout=0.5,
)
IDS = np.random.default_rng(0).integers(0, 128, (2, 10)).astype(np.int32)
POSITIONS = np.broadcast_to(np.arange(10, dtype=np.int32), (2, 10))


@pytest.fixture(scope="module")
def params():
    start = jax.jit(ImageLM(CONFIG).init)(jax.random.key(0), IDS, POSITIONS)["params"]
    start, rng = jax.device_get(start), np.random.default_rng(1)
    # The initial weights hardly differ from zero: larger ones make a sharper check.
    return jax.tree.map(
        lambda x: (x + 0.3 * rng.normal(size=x.shape)).astype(np.float32), start
    )


@functools.partial(jax.jit, static_argnames="config")
def scored(params, ids, config, kwargs):
    positions = POSITIONS[: len(ids)]
    return ImageLM(config).apply({"params": params}, ids, positions, **kwargs)[0]


def logits(params, ids=IDS, config=CONFIG, **kwargs):
    return np.asarray(scored(params, ids, config, kwargs))


def test_the_future_is_invisible(params):
    changed = np.where(np.arange(10) < 6, IDS, 0)
    before, after = logits(params), logits(params, changed)
    np.testing.assert_allclose(before[:, :6], after[:, :6], atol=1e-5)
    assert np.abs(before[:, 6:] - after[:, 6:]).max() > 0.1


def test_a_row_ignores_the_rest_of_its_batch(params):
    np.testing.assert_allclose(
        logits(params)[:1],
        logits(params, IDS[:1]),
        atol=1e-4,
    )


def test_whole_tensor_norm_sees_the_batch(params):
    """Parity: with scope "tensor" (the release) rows depend on each other."""
    config = dataclasses.replace(CONFIG, norm_scope="tensor")
    together = logits(params, config=config)[:1]
    alone = logits(params, IDS[:1], config)
    assert not np.array_equal(together, alone)


def kinds(*names, **settings):
    layers = tuple(LayerKind(name, 3, **settings) for name in names)
    sequence = Sequence.text_to_image(4, (2, 3))
    return dataclasses.replace(CONFIG, sequence=sequence, kinds=layers)


SPARSE = kinds("row", "column", "conv")


WINDOW = {"window": 4, "num_pivots": 5, "num_codes": 64, "image_len": 6}
PLAIN = {"kinds": (), "sequence": Sequence.causal(10)}


# One program for all of its arrays.
empty = jax.jit(make_cache, static_argnums=range(6))


@functools.cache
def jitted_apply(config):
    return jax.jit(ImageLM(config).apply)


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        SPARSE,
        kinds("full", "row", "full"),
        kinds("conv", "conv", "row", edge="clip", row_extent="own"),
        kinds("conv", "conv", "conv", edge="torus"),
    ],
    ids=("plain", "raster", "full", "clip", "torus"),
)
def test_cached_decoding_equals_the_full_forward(params, config, window):
    """All text in one call, then the image in calls of `window` positions."""
    apply, parts = jitted_apply(config), []
    full = logits(params, config=config)
    params = for_inference(params) if window == 1 else params
    cache = empty(config, 2, 4, 2, 6, window)
    for first in (0, *range(4, 10, window)):
        part = slice(first, first + window if first else 4)
        place = np.int32(first - 4) if first else None
        out, cache = apply(
            {"params": params},
            IDS[:, part],
            POSITIONS[:, part],
            np.ones((2, 4), bool),
            cache,
            place,
        )
        parts.append(out)
    np.testing.assert_allclose(np.concatenate(parts, 1), full, rtol=1e-5, atol=1e-5)


@functools.cache
def wide():
    """(config, initial parameters) of matrices that weigh most."""
    config = dataclasses.replace(CONFIG, width=64, mlp_dim=256)
    init = jax.jit(ImageLM(config).init)
    return config, init(jax.random.key(0), IDS, POSITIONS)["params"]


@pytest.mark.parametrize(
    ("weights", "error", "size"),
    [("float32", 1e-5, 1.02), ("bfloat16", 0.02, 0.55), ("int8", 0.05, 0.32)],
)
def test_inference_weights(weights, error, size):
    """Within `error` of the largest logit; matrices wide enough to weigh most."""
    config, params = wide()
    packed = for_inference(params, weights)
    want = logits(params, config=config)
    got = logits(packed, config=config)
    assert np.abs(got - want).max() < error * np.abs(want).max()
    bytes_of = [sum(x.nbytes for x in jax.tree.leaves(p)) for p in (packed, params)]
    assert bytes_of[0] < size * bytes_of[1]


def test_kinds_hide_something(params):
    hidden = np.abs(logits(params, config=SPARSE) - logits(params))
    assert hidden[:, 4:].max() > 0.01
    np.testing.assert_allclose(hidden[:, :4], 0, atol=1e-5)


def test_full_kinds_are_plain_attention(params):
    config = dataclasses.replace(SPARSE, kinds=(FULL,) * 3)
    np.testing.assert_array_equal(logits(params, config=config), logits(params))


def test_sparse_layers_have_the_same_parameters(params):
    shapes = jax.eval_shape(ImageLM(SPARSE).init, jax.random.key(0), IDS, POSITIONS)
    jax.tree.map(lambda a, b: None, shapes["params"], params)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": SPARSE.kinds[:2]}, "2 kinds for 3 layers"),
        (WINDOW, "full layers of a causal sequence"),
        (WINDOW | PLAIN | {"num_codes": 0}, "0 and 6: set window to 0"),
        (WINDOW | PLAIN | {"num_pivots": 4}, "is 4, expected more than the 4 pos"),
        (WINDOW | PLAIN | {"num_pivots": 11}, "up to the 10 of a sequence"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPARSE, **settings)


@pytest.mark.parametrize("config", [CONFIG, SPARSE], ids=("plain", "sparse"))
def test_a_config_is_saved_as_json_and_read_back(config):
    for one in (config, image_to_text(config, 3, 2)):
        saved = json.loads(json.dumps(dataclasses.asdict(one)))
        again = section(ImageLMConfig, saved)
        assert again == one and hash(again) == hash(one)


def test_hidden_positions_are_seen_by_none(params):
    """Two of padding before the rest: the rest is as if there were none."""
    for config in (CONFIG, SPARSE):
        visible = np.arange(4) >= np.array([[0], [2]])
        other = IDS.copy()
        other[1, :2] = 5
        got, want = (logits(params, x, config, visible=visible) for x in (other, IDS))
        np.testing.assert_array_equal(got[1, 2:], want[1, 2:])
        plain = logits(params, config=config)
        np.testing.assert_allclose(want[0], plain[0], rtol=1e-4, atol=1e-4)
        assert np.abs(want[1, 2:] - plain[1, 2:]).max() > 0.01


def test_scoring_some_ids(params):
    for weights in (params, for_inference(params)):
        part = logits(scoring(weights, (30, 70)))
        whole = logits(params)[..., 30:70]
        np.testing.assert_allclose(part, whole, rtol=1e-5, atol=1e-5)
    apply = functools.partial(ImageLM(CONFIG).apply, parts=LAST)
    [last], _ = jax.jit(apply)({"params": params}, IDS, POSITIONS)
    np.testing.assert_allclose(last, logits(params)[:, -1:], rtol=1e-5, atol=1e-5)


def test_dropout_needs_a_key_and_repeats_with_it(params):
    a, b, c = (logits(params, training=Training(jax.random.key(i))) for i in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.01
    assert np.abs(a - logits(params)).max() > 0.01


@pytest.mark.parametrize(("dtype", "atol"), [("bfloat16", 0.6), ("float16", 0.1)])
def test_sixteen_bits_stay_close(params, dtype, atol):
    config = dataclasses.replace(CONFIG, dtype=dtype)
    got = logits(params, config=config)
    assert got.dtype == np.float32
    assert np.abs(got - logits(params)).mean() < atol


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


def test_each_layer_drops_out_by_a_key_of_its_own():
    """Branches of ones alone: two layers add 0, 2, 4, 6 or 8 where their masks differ.

    With one key for both they would add 0, 4 or 8: three values after the norm.
    """
    config = ImageLMConfig(
        width=64,
        depth=2,
        heads=2,
        mlp_dim=16,
        vocab_size=32,
        max_positions=4,
        sequence=Sequence.causal(4),
        dropout=0.5,
        sandwich=False,
    )
    ids = np.zeros((1, 4), np.int32)
    init = ImageLM(config).init, jax.random.key(0), ids, ids
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), jax.eval_shape(*init))
    params["params"]["final_norm"]["scale"] += 1
    layers = params["params"]["blocks"]["layers"]
    for name in ("attn_out", "mlp_out"):
        layers[name]["bias"] += 1

    @jax.jit
    def states(params, key):
        parts = ((slice(None), None),)
        found, _ = ImageLM(config).apply(
            params, ids, ids, training=Training(key), parts=parts
        )
        return found[0]

    found = np.asarray(states(params, jax.random.key(1)))[0, 0]  # [d]
    assert len(np.unique(found.round(3))) == 5
