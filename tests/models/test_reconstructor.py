import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.models.dvae import DVAEDecoder, DVAEDecoderConfig
from cogjax.models.reconstructor import (
    Reconstructor,
    ReconstructorConfig,
    ReconstructorNetworkConfig,
    decoder_of,
    expected_codes,
    param_shapes,
    with_decoder,
    without_decoder,
)
from cogjax.models.vqgan import VQGAN, VQGANConfig
from cogjax.models.vqvae import VQVAE, Decoder, VQVAEConfig

VQ = VQVAEConfig(image_size=16, widths=(4, 8), strides=(2, 2), code_dim=4)
GAN = VQGANConfig(
    image_size=16,
    width=4,
    multipliers=(1, 1, 2),
    res_blocks=1,
    attention=(),
    z_dim=8,
    code_dim=4,
    groups=2,
)


def count(shapes):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def whole(tokenizer, kind="vqvae", **settings):
    """Config for states of width 12."""
    settings = ReconstructorConfig(kind, **settings)
    return ReconstructorNetworkConfig(settings, tokenizer, 12)


def test_the_released_decoder_has_as_many_parameters():
    z = jax.ShapeDtypeStruct((1, 32, 32, 8192), jnp.float32)
    init = DVAEDecoder(DVAEDecoderConfig()).init
    assert count(jax.eval_shape(init, jax.random.key(0), z)) == 43_829_766


@pytest.mark.parametrize(
    ("kind", "tokenizer", "maps"),
    [("vqvae", VQ, 3), ("dvae", VQ, 6), ("vqgan", VQ, 3), ("vqgan", GAN, 3)],
)
def test_maps_have_the_size_of_pictures(kind, tokenizer, maps):
    network = Reconstructor(whole(tokenizer, kind, width=8))
    states = jax.ShapeDtypeStruct((2, 16, 12), jnp.float32)
    (last, found), _ = jax.eval_shape(
        network.init_with_output, jax.random.key(0), states
    )
    assert found.shape == (2, 16, 16, maps)
    assert (last is None) == (kind == "dvae")
    assert jax.eval_shape(network.pixels, found).shape == (2, 16, 16, 3)


def test_the_map_is_two_layers_in_raster_order():
    """An inner width of its own; the decoder reads codes row by row."""
    network = Reconstructor(whole(VQ, hidden=5))
    states = jax.random.normal(jax.random.key(1), (2, 16, 12))
    params = jax.jit(network.init)(jax.random.key(0), states)["params"]
    assert params["project_in"]["kernel"].shape == (12, 5)
    h = states @ params["project_in"]["kernel"] + params["project_in"]["bias"]
    z = jax.nn.gelu(h) @ params["project_out"]["kernel"] + params["project_out"]["bias"]
    check_vectors(network, params, states, z)


def check_vectors(network, params, states, z):
    """That these are what the decoder reads."""
    _, got = jax.jit(network.apply)({"params": params}, states)
    decode = jax.jit(Decoder(VQ).apply)
    _, want = decode({"params": params["decoder"]}, z.reshape(2, 4, 4, 4))
    np.testing.assert_allclose(network.pixels(got), want, rtol=1e-5, atol=1e-5)


def test_a_softmax_starts_as_the_vector_to_be_expected():
    network = Reconstructor(whole(VQ, activation="softmax"))
    rng = np.random.default_rng(0)
    head = rng.normal(size=(VQ.codebook_size, 12))
    codebook = rng.normal(size=(VQ.codebook_size, VQ.code_dim))
    states = rng.normal(size=(2, 16, 12))
    params = jax.jit(network.init)(jax.random.key(0), states)["params"]
    shapes = jax.tree.map(np.shape, params)
    params |= expected_codes(head, codebook)
    assert jax.tree.map(np.shape, params) == shapes
    odds = np.exp(states @ head.T)
    z = odds / odds.sum(-1, keepdims=True) @ codebook
    check_vectors(network, params, states, z)


@pytest.mark.parametrize(
    ("kind", "tokenizer", "net"), [("vqvae", VQ, VQVAE), ("vqgan", GAN, VQGAN)]
)
def test_a_tokenizers_decoder_fits(kind, tokenizer, net):
    image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    own = jax.eval_shape(net(tokenizer).init, jax.random.key(0), image)["params"]
    wanted = param_shapes(whole(tokenizer, kind))["decoder"]
    decoder, rest = decoder_of(tokenizer, own), without_decoder(tokenizer, own)
    assert decoder == wanted
    assert "encoder" in rest and "decoder" not in rest
    assert with_decoder(tokenizer, rest, decoder) == own


def test_kinds_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="needs a VQ-VAE"):
        param_shapes(whole(GAN, "vqvae"))
    odd = VQVAEConfig(image_size=12, widths=(4, 8), strides=(2, 3), code_dim=4)
    for kind in ("dvae", "vqgan"):
        with pytest.raises(ValueError, match="power of 2"):
            param_shapes(whole(odd, kind))
    with pytest.raises(ValueError, match="set hidden to 0, got 8"):
        ReconstructorConfig(hidden=8, activation="softmax")
    with pytest.raises(ValueError, match="set states to 'predicting'"):
        ReconstructorConfig(states="at", activation="softmax")
    with pytest.raises(ValueError, match="multiple of 4"):
        DVAEDecoderConfig(width=6)
