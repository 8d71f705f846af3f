import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.families.dalle.presets import TOKENIZERS
from cogjax.models.dvae import DVAE, DVAEConfig
from cogjax.models.tokenizers import param_shapes, state_shapes
from tests.programs import random_params
from tests.reference import dvae as reference
from tests.reference.numeric import double

TINY = DVAEConfig(image_size=8, grid=4, width=8, blocks=2, code_dim=6, codebook_size=10)
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (2, 8, 8, 3)).astype(np.float32)
CODEBOOK = RNG.normal(size=(10, 6)).astype(np.float32)


def count(shapes):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_paper_has_the_released_number_of_parameters():
    """74 and 76 arrays; the codebook is the kernel of the decoder's first layer."""
    params, state = param_shapes(TOKENIZERS["paper"]), state_shapes(TOKENIZERS["paper"])
    assert count(params["encoder"]) == 53_786_240
    assert count((params["decoder"], state)) == 43_829_766
    arrays = [len(jax.tree.leaves(params[part])) for part in ("encoder", "decoder")]
    assert arrays == [74, 76 - len(state)]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_presets_fit_together(name):
    config = TOKENIZERS[name]
    net, size = DVAE(config), config.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    z = jax.ShapeDtypeStruct((1, *(config.grid,) * 2, config.code_dim), jnp.float32)
    params = param_shapes(config)
    logits, back = (
        jax.eval_shape(lambda p, x, m=m: net.apply({"params": p}, x, method=m), *args)
        for m, *args in (("encode", params, images), ("decode", params, z))
    )
    assert logits.shape == (1, config.grid, config.grid, config.codebook_size)
    assert back.shape == images.shape


def test_networks_are_those_of_the_paper():
    net = DVAE(TINY)
    params = random_params(net, IMAGES)
    logits = jax.jit(lambda p, x: net.apply(p, x, method="encode"))(
        {"params": params}, IMAGES
    )
    exact, size = double(params), (TINY.levels, TINY.blocks)
    want = reference.encode(exact["encoder"], double(IMAGES), *size)
    np.testing.assert_allclose(logits, want, atol=1e-5 * np.abs(want).max())
    weights = RNG.dirichlet(np.ones(10), (2, 4, 4))

    @jax.jit
    def decode(params, z):
        maps = net.apply(params, z, method="decode_maps")
        return *maps, net.apply(params, z, method="decode")

    *maps, pixels = decode({"params": params}, np.float32(weights @ CODEBOOK))
    want = reference.decode(exact["decoder"], weights, double(CODEBOOK), *size)
    got = np.concatenate(maps, axis=-1)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
    shown = np.clip(pixels, 0, 1)
    np.testing.assert_allclose(shown, reference.pixels(want), atol=1e-5)


def test_a_grid_that_no_halving_reaches():
    with pytest.raises(ValueError, match="72 is no power of 2 times grid 12"):
        DVAEConfig(image_size=72, grid=12)


@pytest.mark.parametrize("settings", [{"grid": 0}, {"blocks": 0}, {"codebook_size": 0}])
def test_sizes_of_nothing_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is 0, expected 1 to"):
        DVAEConfig(**settings)
