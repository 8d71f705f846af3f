import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops.sequence import Sequence
from cogjax.tasks.lm import LMTask

CONFIG = ImageLMConfig(
    vocab_size=128, width=16, depth=2, heads=2, mlp_dim=32, max_positions=9, dropout=0.5
)
# 5 of the 9 inputs are text, and all of it pivots, and one of the 4 codes.
WINDOW = {"num_pivots": 6, "window_times": 1, "num_codes": 20, "image_len": 4}
WINDOW["sequence"] = Sequence.causal(9)
RNG = np.random.default_rng(0)
IDS = np.concatenate([RNG.integers(20, 30, (4, 5)), RNG.integers(0, 20, (4, 5))], 1)
WEIGHTS = np.ones((4, 10), np.float32)
WEIGHTS[:, 3] = 0
BATCH = {"ids": IDS, "weights": WEIGHTS}
KEYS = [jax.random.key(i) for i in range(3)]


@pytest.fixture(scope="module")
def task_and_params():
    task = LMTask(CONFIG, num_codes=20)
    return task, initial()


@functools.cache
def initial():
    return jax.device_get(jax.jit(LMTask(CONFIG, num_codes=20).init)(KEYS[0])[0])


@functools.cache
def programs(**settings):
    """(task without dropout, its jitted loss with gradients, its jitted metrics)."""
    config = dataclasses.replace(CONFIG, dropout=0.0, **settings)
    task = LMTask(config, num_codes=20)
    loss = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    return task, loss, jax.jit(task.eval_metrics)


def test_loss_is_the_weighted_mean(task_and_params):
    task, params = task_and_params
    positions = np.broadcast_to(np.arange(9), (4, 9))
    logits, _ = jax.jit(ImageLM(CONFIG).apply)(
        {"params": params}, BATCH["ids"][:, :-1], positions
    )
    logits = np.asarray(logits, np.float64)
    picked = np.take_along_axis(logits, IDS[:, 1:, None], -1)[..., 0]
    values = np.log(np.exp(logits).sum(-1)) - picked
    weights = WEIGHTS[:, 1:]
    metrics = jax.jit(task.eval_metrics)(params, {}, BATCH, None)
    expected = (values * weights).sum() / weights.sum()
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    of_image = weights * (IDS[:, 1:] < 20)
    expected = (values * of_image).sum() / of_image.sum()
    np.testing.assert_allclose(metrics["image_loss"], expected, rtol=1e-5)


def test_two_heads_are_one_with_the_other_ids_hidden(task_and_params):
    """Values and gradients, against the whole vocabulary masked."""
    _, params = task_and_params
    config = dataclasses.replace(CONFIG, dropout=0.0)
    task = LMTask(config, num_codes=20, num_text=5)
    positions = np.broadcast_to(np.arange(9), (4, 9))
    targets, weights = IDS[:, 1:], WEIGHTS[:, 1:]
    of_text = np.arange(128) >= 20
    fitting = np.where(np.arange(9)[:, None] < 4, of_text, ~of_text)

    def masked(params):
        inputs = BATCH["ids"][:, :-1]
        logits, _ = ImageLM(config).apply({"params": params}, inputs, positions)
        log_probs = jax.nn.log_softmax(jnp.where(fitting, logits, -1e9))
        values = -jnp.take_along_axis(log_probs, targets[..., None], -1)[..., 0]
        return (values * weights).sum() / weights.sum()

    def split(params):
        return task.loss(params, {}, BATCH, jax.random.key(0))[0]

    (got, grads), (want, wanted) = (
        jax.jit(jax.value_and_grad(f))(params) for f in (split, masked)
    )
    np.testing.assert_allclose(got, want, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        grads,
        wanted,
    )


def test_window_and_pivots(task_and_params):
    """A window over everything is causal attention; pivots are drawn while training."""
    _, params = task_and_params

    def losses(window):
        config = dataclasses.replace(CONFIG, dropout=0.0, window=window, **WINDOW)
        task = LMTask(config, num_codes=20)
        loss = jax.jit(task.loss)
        return [float(loss(params, {}, BATCH, key)[0]) for key in KEYS]

    _, exact, metrics = programs()
    (full, _), _ = exact(params, {}, BATCH, KEYS[0])
    np.testing.assert_allclose(losses(9), full, rtol=1e-6)
    assert len(set(losses(2))) == 3
    _, _, scored = programs(window=2, **WINDOW)
    want, *got = (
        float(run(params, {}, BATCH, key)["loss"])
        for run, key in ((metrics, None), (scored, KEYS[0]), (scored, KEYS[1]))
    )
    assert got[0] == got[1] != want


def test_training_drops_out_and_evaluation_does_not(task_and_params):
    task, params = task_and_params
    loss, metrics = jax.jit(task.loss), jax.jit(task.eval_metrics)
    losses = [loss(params, {}, BATCH, key)[0] for key in KEYS[:2]]
    assert losses[0] != losses[1]
    evals = [metrics(params, {}, BATCH, key) for key in KEYS[:2]]
    assert evals[0]["loss"] == evals[1]["loss"]


def test_overfits_one_batch():
    (_, run, _), params, tx = programs(), initial(), optax.adam(1e-2)
    update, moments = jax.jit(tx.update), jax.jit(tx.init)(params)
    for _ in range(80):
        (loss, _), grads = run(params, {}, BATCH, KEYS[0])
        moved, moments = jax.device_get(update(grads, moments))
        params = jax.tree.map(np.add, params, moved)
    assert float(loss) < 0.5


def test_code_noise_swaps_codes_between_rows_and_nothing_else():
    task = LMTask(CONFIG, num_codes=20, code_noise=1.0)
    ids = BATCH["ids"]
    mixed = np.asarray(jax.jit(task._mix_codes)(ids, KEYS[0]))
    np.testing.assert_array_equal(mixed[:, :5], ids[:, :5])
    from_other = (mixed == np.roll(ids, 1, 0)) | (mixed == ids)
    assert from_other.all()
    assert 0.1 < np.mean(mixed[:, 5:] != ids[:, 5:]) < 0.9


def test_evaluation_has_no_code_noise(task_and_params):
    _, params = task_and_params
    _, _, metrics = programs()
    config = dataclasses.replace(CONFIG, dropout=0.0)
    noisy = jax.jit(LMTask(config, 20, 1.0).eval_metrics)
    quiet, noisy = (run(params, {}, BATCH, KEYS[0]) for run in (metrics, noisy))
    assert quiet["loss"] == noisy["loss"]
