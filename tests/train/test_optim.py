import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.ops.small_floats import VARIANCE, unpack
from cogjax.train.optim import OptimConfig, decay_mask, make_optimizer, make_schedule


def test_schedule_is_linear_then_cosine():
    config = OptimConfig(lr=1.0, warmup=10, final_ratio=0.1)
    schedule = jax.jit(make_schedule(config, 110))
    assert float(schedule(5)) == pytest.approx(0.5)
    for step in (10, 35, 60, 110):
        cosine = (1 + math.cos(math.pi * (step - 10) / 100)) / 2
        assert float(schedule(step)) == pytest.approx(0.1 + 0.9 * cosine, rel=1e-5)


def test_warmup_below_one_is_a_share_of_the_steps():
    config = OptimConfig(lr=1.0, warmup=0.1, schedule="constant")
    schedule = jax.jit(make_schedule(config, 100))
    assert float(schedule(5)) == pytest.approx(0.5)
    assert float(schedule(99)) == 1.0


@pytest.mark.parametrize("decay", [60, 0.5])
def test_the_cosine_may_end_early(decay):
    config = OptimConfig(lr=1.0, warmup=20, final_ratio=0.25, decay=decay)
    schedule = jax.jit(make_schedule(config, 120))
    found = [float(schedule(step)) for step in (20, 40, 60, 119)]
    np.testing.assert_allclose(found, [1, (1 + 0.25) / 2, 0.25, 0.25], rtol=1e-5)


def test_norms_biases_and_single_numbers_do_not_decay():
    one = np.ones(3)
    params = {
        "norm": {"scale": one},
        "out": {"kernel": one, "bias": one},
        "emb": one,
        "logit_scale": np.float32(1),
    }
    mask = decay_mask(params)
    assert mask == {
        "norm": {"scale": False},
        "out": {"kernel": True, "bias": False},
        "emb": True,
        "logit_scale": False,
    }


def test_decay_alone_shrinks_the_kernel_and_not_the_bias():
    params = {"kernel": np.ones((2, 2)), "bias": np.ones(2)}
    config = OptimConfig(lr=0.1, warmup=0, weight_decay=0.5, schedule="constant")
    tx = make_optimizer(config, lambda step: 0.1)
    updates, _ = first_update(tx, jax.tree.map(np.zeros_like, params), params)
    np.testing.assert_allclose(updates["kernel"], -0.05 * np.ones((2, 2)), rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], np.zeros(2))


def first_update(tx, grads, params):
    """(updates, state) of one program."""
    run = jax.jit(lambda grads, params: tx.update(grads, tx.init(params), params))
    return run(grads, params)


def test_embeddings_decay_unless_told():
    one = np.ones(2)
    params = {"token_embedding": one, "out": {"kernel": one, "bias": one}}
    assert decay_mask(params, embeddings=False) == {
        "token_embedding": False,
        "out": {"kernel": True, "bias": False},
    }
    params = {"token_embedding": np.ones(2), "kernel": np.ones(2)}
    grads = jax.tree.map(np.zeros_like, params)
    for settings in ({}, {"moments": "16bit"}):
        config = OptimConfig(weight_decay=0.5, decay_embeddings=False, **settings)
        tx = make_optimizer(config, lambda step: 0.1)
        updates, _ = first_update(tx, grads, params)
        np.testing.assert_allclose(updates["kernel"], -0.05 * np.ones(2), rtol=1e-6)
        np.testing.assert_array_equal(updates["token_embedding"], np.zeros(2))


def test_moments_of_16_bits_follow_adam():
    """Within the rounding of 9 and 10 bits of the exact moments, in float64."""
    rng, b1, b2 = np.random.default_rng(0), 0.9, 0.96
    config = OptimConfig(b1=b1, b2=b2, weight_decay=0, clip=0, moments="16bit")
    tx = make_optimizer(config, lambda step: 1.0)
    params = {"kernel": np.zeros(200, np.float32)}
    state, mean, variance = jax.jit(tx.init)(params), np.zeros(200), np.zeros(200)
    update = jax.jit(tx.update)
    sizes = 10.0 ** rng.uniform(-8, 0, 200)
    for count in range(1, 31):
        grad = sizes * rng.normal(1, 0.5, 200)
        updates, state = update({"kernel": np.float32(grad)}, state, params)
        mean = b1 * mean + (1 - b1) * grad
        variance = b2 * variance + (1 - b2) * grad**2
        step = mean / (1 - b1**count)
        step /= np.sqrt(variance / (1 - b2**count)) + 1e-8
        np.testing.assert_allclose(-updates["kernel"], step, rtol=0.02, atol=2e-3)
    kept = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (200,)]
    assert [leaf.dtype for leaf in kept] == [jnp.uint16] * 2


def test_the_kept_variance_is_clipped():
    tx = make_optimizer(OptimConfig(clip=0, moments="16bit"), lambda step: 1.0)
    params, grads = {"kernel": np.zeros(1)}, {"kernel": np.full(1, 1e3)}
    _, state = first_update(tx, grads, params)
    [_, packed] = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (1,)]
    found = jax.jit(unpack, static_argnums=1)(packed, VARIANCE)
    np.testing.assert_array_equal(found, [5.0])


def test_muon_update_of_a_matrix_is_orthogonal():
    """A Muon step has about equal singular values, however skewed the gradient."""
    rng = np.random.default_rng(0)
    # Stacked [l, d, f], as the layers are.
    params = {"kernel": np.zeros((2, 6, 6)), "bias": np.zeros(3)}
    grad = rng.normal(size=(2, 6, 6)) * np.logspace(0, -2, 6)
    grads = {"kernel": grad, "bias": np.ones(3)}
    config = OptimConfig(name="muon", lr=1.0, adam_lr=0.5, weight_decay=0, clip=0)
    axes = {"kernel": ((1,), (2,)), "bias": None}
    tx = make_optimizer(config, lambda step: 1.0, lambda params: axes)
    updates, _ = first_update(tx, grads, params)
    for layer in np.asarray(updates["kernel"]):
        values = np.linalg.svd(layer, compute_uv=False)
        assert values.max() < 1.5 and values[:4].min() > 0.4
    # AdamW with Nesterov: the first step is adam_lr * (0.9 / 1.9 + 1) in size.
    np.testing.assert_allclose(updates["bias"], -0.5 * (1 + 0.9 / 1.9), rtol=1e-4)


def test_muon_needs_a_task_that_names_its_matrices():
    with pytest.raises(UserError, match="does not fit this task"):
        make_optimizer(OptimConfig(name="muon"), lambda step: 1.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"lr": 0.0},
        {"clip": -1.0},
        {"warmup": -0.1},
        {"decay": 0.0},
        {"name": "muon", "moments": "16bit"},
    ],
)
def test_values_out_of_range(bad):
    with pytest.raises(UserError, match="config section 'optim'"):
        OptimConfig(**bad)


def test_sixteen_bits_are_refused_where_they_stand_still():
    with pytest.raises(
        UserError, match="moments '16bit' are for b2 up to 0.99, got 0.999"
    ):
        OptimConfig(moments="16bit", b2=0.999)


def test_the_table_of_flax_is_an_embedding_too():
    params = {"token_embedding": {"embedding": np.ones(2)}}
    mask = decay_mask(params, embeddings=False)
    assert mask == {"token_embedding": {"embedding": False}}
