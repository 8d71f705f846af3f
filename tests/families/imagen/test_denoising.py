import dataclasses

import jax
import numpy as np
import optax
import pytest

from cogjax.families.imagen.denoising import DenoisingConfig, DenoisingTask, without
from cogjax.nn.unet import Text
from cogjax.ops import diffusion
from tests.models.test_unet import TINY, TINY_SR

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (16, 1, 1, 3))
BATCH = {
    "image": np.broadcast_to(COLOURS, (16, 8, 8, 3)).astype(np.uint8),
    "small": np.broadcast_to(COLOURS, (16, 4, 4, 3)).astype(np.uint8),
    "tokens": np.float32(RNG.normal(size=(16, 5, 6))),
    "mask": np.arange(5) < RNG.integers(1, 6, (16, 1)),
}


def train(task, steps=80):
    params, _ = jax.jit(task.init)(jax.random.key(0))
    tx = optax.adam(1e-2)
    opt_state = jax.jit(tx.init)(params)

    @jax.jit
    def step(params, opt_state, key):
        (loss, _), grads = jax.value_and_grad(task.loss, has_aux=True)(
            params, {}, BATCH, key
        )
        updates, opt_state = tx.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    losses = []
    for i in range(steps):
        params, opt_state, loss = step(params, opt_state, jax.random.key(i))
        losses.append(float(loss))
    return losses


@pytest.mark.parametrize(
    "model",
    [TINY, pytest.param(TINY_SR, marks=pytest.mark.slow)],
    ids=["base", "super"],
)
def test_the_loss_falls_from_that_of_saying_nothing(model):
    """At first it is the variance of the target, about that of v: 1 for unit data."""
    task = DenoisingTask(model, DenoisingConfig(), 5)
    losses = train(task)
    assert 0.4 < losses[0] < 1.3
    assert np.mean(losses[-10:]) < 0.9 * losses[0]


def test_a_network_that_says_zero_has_the_targets_power_as_loss():
    task = DenoisingTask(TINY, DenoisingConfig(prediction="x0"), 5)
    params, _ = jax.jit(task.init)(jax.random.key(0))  # its last layer is zero
    metrics = jax.jit(task.eval_metrics)(params, {}, BATCH, jax.random.key(1))
    power = np.mean((BATCH["image"] / 127.5 - 1) ** 2)
    np.testing.assert_allclose(metrics["loss"], power, rtol=1e-4)


def test_a_dropped_text_tells_nothing_not_even_its_length():
    text = Text(BATCH["tokens"], BATCH["mask"])
    dropped = np.arange(16) % 2 == 0
    found = jax.jit(without)(text, dropped)
    assert not np.any(found.tokens[::2]) and np.all(found.mask[::2].sum(1) == 1)
    np.testing.assert_array_equal(found.tokens[1::2], text.tokens[1::2])
    np.testing.assert_array_equal(found.mask[1::2], text.mask[1::2])


def test_a_stage_sees_the_small_image_and_how_noisy_it_is():
    """Without noise it is the image, shrunk and enlarged; its level is told."""
    task = DenoisingTask(TINY_SR, DenoisingConfig(augmentation="cosine"), 5)
    x = BATCH["image"] / np.float32(127.5) - 1
    small, log_snr = jax.jit(task._small)(BATCH["small"], jax.random.key(0))
    alpha, sigma = map(np.asarray, jax.jit(diffusion.alpha_sigma)(log_snr))
    left = np.asarray(small) - alpha * x  # images of one colour stay as they are
    spread = left.std(axis=(1, 2, 3)) / sigma[:, 0, 0, 0]
    np.testing.assert_allclose(spread, 1, atol=0.25)
    assert np.ptp(log_snr) > 3


def test_a_crop_is_of_image_and_small_image_at_the_same_place():
    config = dataclasses.replace(TINY_SR, attention="none")
    for crop in (-4, 3, 6, 12):
        with pytest.raises(
            ValueError, match=f"crop is {crop}, expected a multiple of 4"
        ):
            DenoisingTask(config, DenoisingConfig(crop=crop), 5)
    task = DenoisingTask(config, DenoisingConfig(crop=4), 5)
    x = np.float32(RNG.normal(size=(16, 8, 8, 3)))
    level = np.zeros(16, np.float32)
    cut, (small, kept) = jax.jit(task._crop)(x, (2 * x, level), jax.random.key(3))
    assert cut.shape == (16, 4, 4, 3) and kept is not None
    np.testing.assert_array_equal(small, 2 * cut)
    places = {tuple(np.argwhere(x[i] == cut[i, 0, 0])[0]) for i in range(16)}
    assert len(places) > 4


def test_settings_that_fit_nothing_are_refused():
    with pytest.raises(ValueError, match="prediction is 'noise'"):
        DenoisingConfig(prediction="noise")
    with pytest.raises(ValueError, match="schedule is 'sigmoid'"):
        DenoisingConfig(schedule="sigmoid")
    with pytest.raises(ValueError, match="crop is for super-resolution"):
        DenoisingTask(TINY, DenoisingConfig(crop=4), 5)
