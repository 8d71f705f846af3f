import dataclasses

import jax
import numpy as np
import optax
import pytest

from cogjax.families.imagen.denoising import DenoisingConfig, DenoisingTask, without
from cogjax.nn.unet import Text
from cogjax.ops import diffusion
from tests.models.test_unet import FLAT, TINY, TINY_SR

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (16, 1, 1, 3))
BATCH = {
    "image": np.broadcast_to(COLOURS, (16, 8, 8, 3)).astype(np.uint8),
    "small": np.broadcast_to(COLOURS, (16, 4, 4, 3)).astype(np.uint8),
    "tokens": np.float32(RNG.normal(size=(16, 5, 6))),
    "mask": np.arange(5) < RNG.integers(1, 6, (16, 1)),
}


WITHOUT = dataclasses.replace(TINY_SR, attention="none")
CROPPED = pytest.param(WITHOUT, marks=pytest.mark.slow)


class Echo:
    """A network that says half of z and remembers what it was asked."""

    config = TINY

    def apply(self, variables, *args):
        del variables
        self.seen = args
        return 0.5 * args[0]


def asked(task, batch, key=0, method="loss"):
    """(loss, inputs of the network) of a task whose network is an Echo."""

    @jax.jit
    def run(batch, key):
        task.model = Echo()
        found = getattr(task, method)({}, {}, batch, key)
        loss = found["loss"] if isinstance(found, dict) else found[0]
        return loss, task.model.seen

    return jax.tree.map(np.asarray, run(batch, jax.random.key(key)))


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
    [FLAT, pytest.param(TINY_SR, marks=pytest.mark.slow), CROPPED],
    ids=["base", "super", "crops"],
)
def test_the_loss_falls_from_that_of_saying_nothing(model):
    """At first it is the variance of the target, about that of v: 1 for unit data."""
    crop = 4 if model is WITHOUT else 0
    task = DenoisingTask(model, DenoisingConfig(crop=crop), 5)
    losses = train(task)
    assert 0.4 < losses[0] < 1.3
    assert np.mean(losses[-10:]) < 0.9 * losses[0]


def test_a_network_that_says_zero_has_the_targets_power_as_loss():
    task = DenoisingTask(FLAT, DenoisingConfig(prediction="x0"), 5)
    params, _ = jax.jit(task.init)(jax.random.key(0))  # its last layer is zero
    metrics = jax.jit(task.eval_metrics)(params, {}, BATCH, jax.random.key(1))
    power = np.mean((BATCH["image"] / 127.5 - 1) ** 2)
    np.testing.assert_allclose(metrics["loss"], power, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_target_is_of_the_image_whatever_the_network_says(prediction):
    """In float64, from what the network saw."""
    task = DenoisingTask(TINY, DenoisingConfig(prediction=prediction), 5)
    loss, (z, log_snr, _) = asked(task, BATCH)
    x, z = BATCH["image"] / 127.5 - 1, np.float64(z)
    ratio = np.exp(np.float64(log_snr))[:, None, None, None]
    alpha, sigma = np.sqrt(ratio / (1 + ratio)), np.sqrt(1 / (1 + ratio))
    noise = (z - alpha * x) / sigma
    wanted = {"eps": noise, "x0": x, "v": alpha * noise - sigma * x}[prediction]
    assert 0.8 < noise.std() < 1.2 and len(set(log_snr)) == 16
    assert loss == pytest.approx(np.mean((0.5 * z - wanted) ** 2), rel=1e-3)


def test_a_tenth_of_the_texts_is_left_out():
    task = DenoisingTask(TINY, DenoisingConfig(), 5)
    many = {name: np.repeat(x, 256, axis=0) for name, x in BATCH.items()}
    texts = [asked(task, many, method=m)[1][2] for m in ("loss", "eval_metrics")]
    dropped = [~text.tokens.any((1, 2)) for text in texts]
    assert np.mean(dropped[0]) == pytest.approx(0.1, abs=0.02)
    assert np.all(texts[0].mask[dropped[0]].sum(1) == 1)
    assert not dropped[1].any()


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
    clean = DenoisingTask(TINY_SR, DenoisingConfig(most_augmentation=0), 5)
    small, log_snr = jax.jit(clean._small)(BATCH["small"], jax.random.key(0))
    assert len(set(np.asarray(log_snr))) == 1 and np.abs(small - x).max() < 0.06


def test_a_crop_is_of_image_and_small_image_at_the_same_place():
    for crop in (-4, 3, 6, 12):
        with pytest.raises(
            ValueError, match=f"crop is {crop}, expected a multiple of 4"
        ):
            DenoisingTask(WITHOUT, DenoisingConfig(crop=crop), 5)
    task = DenoisingTask(WITHOUT, DenoisingConfig(crop=4), 5)
    x = np.float32(RNG.normal(size=(16, 8, 8, 3)))
    level = np.zeros(16, np.float32)
    cut, (small, kept) = jax.jit(task._crop)(x, (2 * x, level), jax.random.key(3))
    assert cut.shape == (16, 4, 4, 3) and kept is not None
    np.testing.assert_array_equal(small, 2 * cut)
    places = {tuple(np.argwhere(x[i] == cut[i, 0, 0])[0]) for i in range(16)}
    assert len(places) > 4


def test_a_network_is_trained_on_the_crops():
    task = DenoisingTask(WITHOUT, DenoisingConfig(crop=4), 5)
    _, (z, _, _, small, level) = asked(task, BATCH)
    assert z.shape == small.shape == (16, 4, 4, 3) and level.shape == (16,)
    # One level an image, not one a batch.
    assert len(set(level)) == 16


def test_settings_that_fit_nothing_are_refused():
    with pytest.raises(ValueError, match="prediction is 'noise'"):
        DenoisingConfig(prediction="noise")
    with pytest.raises(ValueError, match="most_augmentation is 2"):
        DenoisingConfig(most_augmentation=2)
    with pytest.raises(ValueError, match="schedule is 'sigmoid'"):
        DenoisingConfig(schedule="sigmoid")
    with pytest.raises(ValueError, match="crop is for super-resolution"):
        DenoisingTask(TINY, DenoisingConfig(crop=4), 5)
