"""A decoder that is trained anew under codes that stay."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.families.cogview import presets as cogview
from cogjax.families.vqgan import presets as vqgan
from cogjax.models.registry import network_of
from cogjax.tasks.decoder import DecoderConfig, DecoderTask

CONFIG = DecoderConfig(
    pixels="l2", perceptual_weight=0.0, disc_start=1, disc_layers=1, disc_width=4
)
RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
TOKENIZERS = {
    "vqvae": dataclasses.replace(
        cogview.TOKENIZERS["nano"], image_size=16, strides=(2, 4)
    ),
    "vqgan": dataclasses.replace(vqgan.TOKENIZERS["nano"], multipliers=(1,)),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def trained(request):
    """(config, parameters, codebook) of a tokenizer of each kind, at random."""
    config = TOKENIZERS[request.param]
    images = np.zeros((1, 16, 16, 3), np.float32)
    shapes = jax.eval_shape(network_of(config).init, KEY, images)["params"]
    params = jax.tree.map(
        lambda x: RNG.normal(0, 0.2, x.shape).astype(np.float32), shapes
    )
    codes = RNG.normal(size=(config.codebook_size, config.code_dim))
    return config, params, codes.astype(np.float32)


@pytest.fixture(scope="module")
def batch():
    return {"image": RNG.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)}


def reconstruct(config, params, codebook, images):
    """(pixels, ids) by the nearest code, without the task."""
    net = network_of(config)
    z = net.apply({"params": params}, images, method="encode")
    ids = jnp.argmin(jnp.square(z[..., None, :] - codebook).sum(-1), -1)
    codes = jnp.take(codebook, ids, axis=0)
    return net.apply({"params": params}, codes, method="decode"), ids


def test_it_starts_as_the_tokenizer_and_only_the_decoder_learns(trained, batch):
    config, start, codebook = trained
    task = DecoderTask(config, start, codebook, CONFIG)
    params, state = jax.jit(task.init)(KEY)
    images = batch["image"].astype(np.float32) / 255

    @jax.jit
    def step(params, state):
        def loss(params):
            return task.loss(params, state, batch, KEY)

        found, grads = jax.value_and_grad(loss, has_aux=True)(params)
        value, (state, metrics) = found
        moved = jax.tree.map(lambda x, g: x - 0.05 * g, params, grads)
        return moved, state, grads, value, metrics

    run = jax.jit(lambda params: reconstruct(config, params, codebook, images))
    wanted, ids = jax.device_get(run(start))
    moved, after, grads, value, metrics = jax.device_get(step(params, state))
    error = np.mean(np.square(np.asarray(2 * wanted - 2 * images)))
    np.testing.assert_allclose(value, error, rtol=1e-4)
    assert metrics["disc_loss"] == 0 and int(after["step"]) == 1
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads["net"]))
    # With the discriminator from the second step on.
    last, after, grads, _, metrics = jax.device_get(step(moved, after))
    assert metrics["disc_weight"] > 0 and metrics["disc_loss"] > 0
    assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(grads["discriminator"]))
    # What the codes of a picture are has not changed, its reconstruction has.
    network = task.network(last, after)
    assert jax.tree.structure(network) == jax.tree.structure(start)
    drawn, again = jax.device_get(run(network))
    np.testing.assert_array_equal(again, ids)
    np.testing.assert_array_equal(task.codebook(last, after), codebook)
    assert np.abs(drawn - wanted).max() > 1e-3
    metrics = jax.jit(task.eval_metrics)(last, after, batch, KEY)
    error = np.square(np.clip(drawn, 0, 1) - images).mean((1, 2, 3))
    np.testing.assert_allclose(metrics["psnr"], -10 * np.log10(error).mean(), rtol=1e-5)


@pytest.mark.parametrize("trained", ["vqvae"], indirect=True)
def test_squared_and_absolute_error(trained, batch):
    config, start, codebook = trained

    @jax.jit
    def run(start):
        found = []
        for pixels in ("l1", "l2"):
            settings = dataclasses.replace(CONFIG, pixels=pixels)
            task = DecoderTask(config, start, codebook, settings)
            found.append(task.loss(*task.init(KEY), batch, KEY))
        return found

    (absolute, (_, metrics)), (square, _) = run(start)
    np.testing.assert_allclose(absolute, metrics["l1"], rtol=1e-6)
    # Jensen: the mean square is at least the square of the mean.
    assert float(square) > float(absolute) ** 2
