import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.families.cogview.presets import TOKENIZERS
from cogjax.models.vqvae import VQVAE, VQVAEConfig
from tests.programs import random_params
from tests.reference import tokenizers as reference
from tests.reference.numeric import double


def shapes(config):
    size = config.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    net = VQVAE(config)
    params = jax.eval_shape(net.init, jax.random.key(0), images)["params"]
    z = jax.eval_shape(
        lambda p, x: net.apply({"params": p}, x, method="encode"), params, images
    )
    back = jax.eval_shape(
        lambda p, x: net.apply({"params": p}, x, method="decode"), params, z
    )
    return params, z, back


@pytest.mark.parametrize("name", TOKENIZERS)
def test_presets_fit_together(name):
    config = TOKENIZERS[name]
    _, z, back = shapes(config)
    assert z.shape == (1, config.grid, config.grid, config.code_dim)
    assert back.shape == (1, config.image_size, config.image_size, 3)


def test_paper_has_the_released_number_of_parameters():
    params, _, _ = shapes(TOKENIZERS["paper"])
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 19_034_883
    assert len(jax.tree.leaves(params)) == 16
    assert TOKENIZERS["paper"].grid == 32


def test_pixels_are_normalised_and_restored():
    """With all weights zero the decoder draws the mean colour, and its bias from it."""
    config = VQVAEConfig(image_size=8, widths=(4,), strides=(2,), code_dim=2)
    net = VQVAE(config)
    images = np.zeros((1, 8, 8, 3), np.float32)
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes(config)[0])
    run = jax.jit(net.apply)
    drawn = run({"params": params}, images)
    np.testing.assert_allclose(drawn[0, 0, 0], config.pixel_mean, rtol=1e-6)
    params["decoder"]["out"]["bias"] += 2.0
    drawn = run({"params": params}, images)
    expected = np.array(config.pixel_mean) + 2 * np.array(config.pixel_std)
    np.testing.assert_allclose(drawn[0, 0, 0], expected, rtol=1e-6)


def test_a_decoder_that_resizes_draws_flat_codes_flat():
    """Equal codes give equal pixels away from the border, even untrained."""
    plain = dataclasses.replace(TOKENIZERS["nano"], image_size=48, res_blocks=0)
    spreads = []
    for config in (plain, dataclasses.replace(plain, resize=True)):
        net = VQVAE(config)
        draw = jax.jit(
            lambda z, net=net: net.apply(
                net.init(jax.random.key(0), jnp.zeros((1, 48, 48, 3))),
                z,
                method="decode",
            )
        )
        inside = draw(jnp.ones((1, 12, 12, config.code_dim)))[0, 12:-12, 12:-12]
        spreads.append(np.ptp(inside, axis=(0, 1)).max())
    assert spreads[0] > 1e-2 and spreads[1] < 1e-5


@functools.cache
def tiny(resize, strides):
    """(config, float32 parameters, [encode, decode] of images and vectors)."""
    config = VQVAEConfig(
        image_size=12,
        widths=(4, 6),
        code_dim=3,
        strides=strides,
        res_blocks=1,
        res_width=5,
        resize=resize,
    )
    net = VQVAE(config)
    params = random_params(net, np.zeros((1, 12, 12, 3), np.float32))

    @jax.jit
    def run(images, z):
        apply = functools.partial(net.apply, {"params": params})
        return apply(images, method="encode"), apply(z, method="decode")

    return config, params, run


@pytest.mark.parametrize("strides", [(2, 2), (3, 2)])
@pytest.mark.parametrize("resize", [False, True])
def test_both_halves_are_the_statement_in_float64(resize, strides):
    config, params, run = tiny(resize, strides)
    rng = np.random.default_rng(1)
    images = np.float32(rng.uniform(size=(2, 12, 12, 3)))
    z = np.float32(rng.normal(size=(2, config.grid, config.grid, 3)))
    found = run(images, z)
    p = double(params)
    wanted = (
        reference.vqvae_encode(config, p["encoder"], images),
        reference.vqvae_decode(config, p["decoder"], z),
    )
    for ours, theirs in zip(found, wanted, strict=True):
        assert theirs.std() > 0.1
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
