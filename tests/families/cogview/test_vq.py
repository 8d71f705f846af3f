"""CogView's image tokenizer with a comparison of images that is not the paper's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.families.cogview.presets import TOKENIZERS
from cogjax.families.cogview.stage import VQ
from cogjax.models.reconstructor import DECODERS
from cogjax.stages.sections import RunConfig

MODEL = dataclasses.replace(TOKENIZERS["nano"], code_dim=2, resize=True)
LEVELS = {"method": "fsq", "levels": (8, 4)}  # no codebook that moves
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def decoded():
    """(parameters of the network, pixels in [0, 1] through the nearest codes)."""
    task = make_task()

    @jax.jit
    def reconstruct():
        params, state = task.init(jax.random.key(0))
        net, pixels = {"params": params["net"]}, IMAGES / jnp.float32(255)
        z = task.model.apply(net, pixels, method="encode")
        codebook = task.codebook(params, state)
        ids = jnp.argmin(jnp.square(z[..., None, :] - codebook).sum(-1), -1)
        return params["net"], task.model.apply(net, codebook[ids], method="decode")

    return jax.device_get(reconstruct())


def make_task(**settings):
    model, task = dataclasses.asdict(MODEL), {"name": "vq", **LEVELS, **settings}
    return VQ.task(RunConfig.of({"task": task, "model": model, "data": {"path": "x"}}))


def loss_of(net, **settings):
    task = make_task(**settings)

    @jax.jit
    def run():
        params, state = task.init(jax.random.key(0))
        params, batch = {**params, "net": net}, {"image": IMAGES}
        loss, (_, metrics) = task.loss(params, state, batch, jax.random.key(1))
        return loss - metrics["codebook_loss"], params

    return jax.device_get(run())


def test_the_papers_loss_is_the_squared_error_of_pixels(decoded):
    net, pixels = decoded
    loss, params = loss_of(net)
    assert loss == pytest.approx(np.square(pixels - IMAGES / 255).mean(), rel=1e-4)
    assert "discriminator" not in params


def test_another_comparison_is_of_pixels_about_minus_one_to_one(decoded):
    net, pixels = decoded
    loss, params = loss_of(net, pixels="l1")
    assert loss == pytest.approx(2 * np.abs(pixels - IMAGES / 255).mean(), rel=1e-4)
    assert params["discriminator"] == {}


def test_the_discriminators_weight_reads_the_last_kernel(decoded):
    kernel = decoded[0]["decoder"]["out"]["kernel"]
    assert DECODERS["vqvae"].side(MODEL) == kernel.shape[0] == 3
    assert DECODERS["vqvae"].side(TOKENIZERS["nano"]) == 1
