"""Low-rank changes: their sum against float64, and which matrices they change."""

import jax
import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.models import encoder_decoder, image_lm, t5
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.models.registry import network_of, shapes_of
from cogjax.nn.lora import LoRAConfig, init_adapter, matrix_of, merge
from tests.models.test_unet import TINY
from tests.programs import NANO, random_params

SETTINGS = [
    ({"rank": -1}, "rank is 0 or more"),
    ({"rank": 1, "alpha": 0.0}, "alpha above 0"),
    ({"rank": 1, "match": ("(",)}, r"'lora.match': '\(' is no regular expression"),
    ({"rank": 1, "match": ("key", "value")}, "no matrix ends in key or value, .*qkv"),
]


def made(shapes, config):
    """A new adapter, by one program."""
    return jax.device_get(
        jax.jit(lambda key: init_adapter(key, shapes, config))(jax.random.key(0))
    )


def grown(adapter):
    """The adapter with a B that is not zero."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: np.float32(rng.normal(0, 0.1, x.shape)), adapter)


def test_the_sum_is_that_of_float64():
    """W + alpha / rank * A B, layer by layer, written out."""
    params = random_params(network_of(NANO))
    config = LoRAConfig(rank=3, alpha=5.0, match=("qkv", "attn_out"))
    adapter = grown(made(params, config))
    found = merge(params, adapter, config.scale)["blocks"]["layers"]
    for name in ("qkv", "attn_out"):
        kernel = params["blocks"]["layers"][name]["kernel"]
        pair = adapter["blocks"]["layers"][name]["kernel"]
        for layer in range(NANO.depth):
            a, b = (np.float64(pair[each][layer]) for each in "ab")
            change = 5.0 / 3 * np.einsum("ir,ro->io", a, b)
            wanted = np.float64(kernel[layer]) + change.reshape(kernel.shape[1:])
            np.testing.assert_allclose(found[name]["kernel"][layer], wanted, atol=1e-6)
    assert found["mlp_in"] is params["blocks"]["layers"]["mlp_in"]


def test_a_new_adapter_changes_nothing_and_all_matrices_are_changed_by_default():
    params = random_params(network_of(NANO))
    adapter = made(params, LoRAConfig(rank=2))
    names = {"qkv", "attn_out", "mlp_in", "mlp_out"}
    assert adapter["blocks"]["layers"].keys() == names
    a = np.asarray(adapter["blocks"]["layers"]["mlp_in"]["kernel"]["a"])
    assert abs(np.std(a) * NANO.width**0.5 - 1) < 0.3
    same = merge(params, adapter, 8.0)
    assert all(map(np.array_equal, jax.tree.leaves(same), jax.tree.leaves(params)))


@pytest.mark.parametrize(
    ("module", "config"),
    [(image_lm, NANO), (encoder_decoder, EncoderDecoderConfig()), (t5, t5.T5Config())],
)
def test_kernels_of_transformers_are_the_matrices_that_they_say(module, config):
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes_of(config)[0]):
        names = [part.key for part in path]
        if names[-1] == "kernel":
            found[names[-2]] = matrix_of(names, leaf.shape), leaf.shape
    assert found.keys() <= module.MATRIX_AXES.keys()
    for name, (matrix, shape) in found.items():
        inputs, outputs = module.MATRIX_AXES[name]
        assert matrix.inputs == tuple(shape[i] for i in inputs), name
        assert matrix.outputs == tuple(shape[i] for i in outputs), name


def test_convolutions_and_attention_of_a_u_net_are_matrices():
    shapes, config = shapes_of(TINY)[0], LoRAConfig(rank=2)
    adapter = jax.eval_shape(
        lambda key: init_adapter(key, shapes, config), jax.random.key(0)
    )
    width = TINY.width
    pair = adapter["in"]["kernel"]  # 3 x 3, of 3 channels
    assert pair["a"].shape == (27, 2) and pair["b"].shape == (2, width)
    query = next(part for name, part in adapter.items() if "attention" in name)["query"]
    assert query["kernel"]["a"].ndim == 2
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    found = merge(ones, grown(adapter), 1.0)
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, ones)


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
def test_what_does_not_fit_is_said(settings, message):
    with pytest.raises(UserError, match=message):
        init_adapter(jax.random.key(0), shapes_of(NANO)[0], LoRAConfig(**settings))
