"""DALL-E's gradient scale of each residual branch, through the whole network."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops.gradient_scale import REPLICA_TOKENS, START
from cogjax.tasks.lm import LMTask
from cogjax.train.step import init_state, make_train_step

DEPTH, GROWTH, BATCHES = 12, 3.0, 1024
CONFIG = ImageLMConfig(
    vocab_size=32,
    width=16,
    depth=DEPTH,
    heads=2,
    mlp_dim=32,
    max_positions=7,
    dropout=0.0,
    sandwich=False,
)
IDS = np.random.default_rng(0).integers(0, 32, (4, 8))
BATCH = {"ids": IDS, "weights": np.ones((4, 8), np.float32)}
KEY = jax.random.key(0)


@functools.cache
def start():
    """Initial weights: the same of all kinds of numbers."""
    return jax.device_get(jax.jit(LMTask(CONFIG, num_codes=20).init)(KEY)[0])


def growing(params):
    """Activations grow from 1e-4 to 1e2, so gradients shrink over the layers."""
    factor = np.float32(GROWTH ** np.arange(DEPTH))
    layers = dict(params["blocks"]["layers"])
    for name in ("attn_out", "mlp_out"):
        kernel = layers[name]["kernel"]
        shape = (-1,) + (1,) * (kernel.ndim - 1)
        layers[name] = {**layers[name], "kernel": kernel * factor.reshape(shape)}
    names = "token_embedding", "position_embedding"
    tables = {name: params[name] * np.float32(0.01) for name in names}
    return {**tables, "final_norm": params["final_norm"], "blocks": {"layers": layers}}


def gradients(scale=None, **changes):
    """Gradients of the blocks [l, ...], and the loss; `scale` is that of [l, branch].

    The loss is divided as if this were one of 1,024 parts of a batch.
    """
    task = LMTask(dataclasses.replace(CONFIG, **changes), num_codes=20)
    state = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(task.init, KEY)[1]
    )
    if scale is not None:
        scale = np.asarray(scale * REPLICA_TOKENS / IDS.size, np.float32)
        state = {**state, "scale": scale}

    def loss(params):
        return task.loss(params, state, BATCH, KEY)[0] / BATCHES

    run = jax.jit(jax.value_and_grad(loss))
    loss, grads = jax.device_get(run(growing(start())))
    return grads["blocks"]["layers"], loss


@pytest.fixture(scope="module")
def exact():
    return gradients()


def zeros(grads, layer):
    """Share of the gradients of a layer's largest matrix."""
    return np.mean(np.asarray(grads["mlp_in"]["kernel"][layer]) == 0)


def worst_error(grads, exact):
    """Largest relative error of a layer's gradients, in their norm."""

    def norms(tree):
        leaves = (np.square(x.reshape(DEPTH, -1)).sum(1) for x in jax.tree.leaves(tree))
        return np.sqrt(sum(leaves))

    off = jax.tree.map(np.subtract, grads, exact)
    return np.max(norms(off) / norms(exact))


def test_plain_float16_loses_the_late_layers(exact):
    grads, _ = gradients(dtype="float16")
    assert zeros(exact[0], -1) < 0.01
    assert zeros(grads, -1) > 0.9
    assert worst_error(grads, exact[0]) > 0.9


@pytest.mark.parametrize("remat", ["none", "nothing_saveable"])
def test_scales_of_their_own_bring_all_layers_back(exact, remat):
    sizes = (np.abs(exact[0][f"{name}_out"]["bias"]).max(1) for name in ("attn", "mlp"))
    grads, loss = gradients(
        1 / np.stack(list(sizes), axis=1),
        dtype="float16",
        gradient_scale="resblock",
        remat=remat,
    )
    np.testing.assert_allclose(loss, exact[1], rtol=1e-3)
    assert zeros(grads, -1) < 0.01
    assert worst_error(grads, exact[0]) < 0.02


def test_scales_change_nothing_in_float32(exact):
    scale = np.full((DEPTH, 2), 2.0**9)
    grads, loss = gradients(scale, gradient_scale="resblock")
    assert float(loss) == float(exact[1])
    assert worst_error(grads, exact[0]) < 1e-4


def test_an_overflow_drops_the_update_and_one_scale():
    config = dataclasses.replace(CONFIG, dtype="float16", gradient_scale="resblock")
    task = LMTask(config, num_codes=20)
    tx = optax.sgd(0.1)
    step = make_train_step(task, tx, lambda _: 0.1, accumulate=1, ema_decay=0.9)
    state = jax.device_get(jax.jit(lambda: init_state(task, tx, KEY))())
    scales = state.state["scale"].copy()
    scales[3, 1] = 2.0**24 * REPLICA_TOKENS
    state = dataclasses.replace(state, state={**state.state, "scale": scales})
    after, metrics = jax.device_get(jax.jit(step)(state, BATCH))
    before = jax.tree.leaves((state.params, state.opt_state, state.ema))
    kept = jax.tree.leaves((after.params, after.opt_state, after.ema))
    assert all(np.array_equal(a, b) for a, b in zip(before, kept, strict=True))
    assert int(after.state["age"][3, 1]) == 1
    others = np.delete(np.asarray(after.state["scale"]).ravel(), 7)
    np.testing.assert_allclose(others, START * 2 ** (1 / 1000), rtol=1e-6)
    assert int(after.bad_steps) == 0 and np.isfinite(metrics["loss"])
