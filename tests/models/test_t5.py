"""T5 against its statement in float64 numpy, by way of the importer of its tensors."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import safetensors.numpy

from cogjax.interop.networks import load_weights
from cogjax.models import t5
from cogjax.models.t5 import CONFIGS, T5Config, T5Encoder
from tests.published import expected_tensors
from tests.reference import t5 as reference
from tests.reference.numeric import double

SMALL = T5Config(
    width=12, depth=3, heads=2, head_dim=5, mlp_dim=20, vocab_size=40, text_len=32
)
PLAIN = dataclasses.replace(SMALL, gated=False)
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 40, (2, 30))
MASK = np.arange(30) < np.array([[30], [9]])


def tensors_of(config):
    """Random tensors under the names of the release."""
    rng = np.random.default_rng(1)
    return {
        name: np.float32(rng.normal("norm.weight" in name, 0.3, shape))
        for name, shape in expected_tensors(T5Encoder(config)).items()
    }


@functools.partial(jax.jit, static_argnums=3)
def encode(params, ids, mask, config=SMALL):
    return T5Encoder(config).apply({"params": params}, ids, mask)


def close(got, want):
    """Rounding of float32 is some 1e-6 of the largest; other formulas are far off."""
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.fixture(scope="module")
def tensors():
    found = tensors_of(SMALL)
    found["shared.weight"] = found.pop("encoder.embed_tokens.weight")
    return found


def load(tensors, config, path):
    safetensors.numpy.save_file(tensors, path)
    return load_weights(T5Encoder(config), path)


def test_gated_encoder(tensors, tmp_path):
    params = load(tensors, SMALL, tmp_path / "t5.safetensors")
    want = [
        reference.encoder(double(tensors), ids, mask, 3)
        for ids, mask in zip(IDS, MASK, strict=True)
    ]
    close(encode(params, IDS, MASK), np.stack(want))


def test_encoder_of_version_1_0(tmp_path):
    tensors = tensors_of(PLAIN)
    params = load(tensors, PLAIN, tmp_path / "t5.safetensors")
    double_tensors = double(tensors)
    double_tensors["shared.weight"] = double_tensors["encoder.embed_tokens.weight"]
    want = reference.encoder(double_tensors, IDS[1], MASK[1], 3)
    close(encode(params, IDS[1:], MASK[1:], PLAIN)[0], want)


def test_padding_is_not_seen(tensors, tmp_path):
    params = load(tensors, SMALL, tmp_path / "t5.safetensors")
    other = np.where(MASK, IDS, 7)
    found, again = encode(params, IDS, MASK), encode(params, other, MASK)
    np.testing.assert_array_equal(found[MASK], again[MASK])
    assert np.abs(found - again).max() > 1e-2


def test_files_that_hold_more(tensors, tmp_path):
    """The whole release: the table twice, a decoder, a head of its own."""
    wanted = load(tensors, SMALL, tmp_path / "encoder.safetensors")
    more = {"encoder.embed_tokens.weight": tensors["shared.weight"]}
    more |= {"lm_head.weight": np.zeros((3, 3), np.float32)}
    more |= {"decoder.final_layer_norm.weight": np.zeros(3, np.float32)}
    found = load(tensors | more, SMALL, tmp_path / "whole.safetensors")
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("v1_0-small", 35_330_816),
        ("v1_1-small", 35_332_800),
        ("v1_1-xxl", 4_762_310_656),
    ],
)
def test_parameters_are_those_of_the_release(name, count):
    shapes = jax.tree.leaves(t5.param_shapes(CONFIGS[name]))
    assert sum(leaf.size for leaf in shapes) == count
