"""Muon beside optax's, and with rounded products beside float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from cogjax.ops.orthogonal import COEFFICIENTS, orthogonal
from cogjax.train.optim import OptimConfig, decay_mask, make_optimizer

RNG = np.random.default_rng(0)
SHAPES = {
    "table_embedding": (7, 4),
    "blocks": {"qkv": (2, 6, 3, 8), "out": (2, 3, 4, 5), "bias": (2, 5)},
    "tall": (9, 4),
}
AXES = {"qkv": ((1,), (2, 3)), "out": ((1, 2), (3,)), "tall": ((-2,), (-1,))}
CONFIG = OptimConfig("muon", lr=0.1, adam_lr=0.03, b2=0.8, weight_decay=0.1, clip=0)


def rate(step):
    return 0.1 / (step + 1)


def arrays():
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return jax.tree.map(
        lambda shape: RNG.normal(size=shape).astype("f"), SHAPES, is_leaf=is_shape
    )


def matrix_axes(params):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: AXES.get(path[-1].key), params
    )


def numbers(params):
    return jax.tree.map(
        lambda axes: axes and contrib.MuonDimensionNumbers(*axes),
        matrix_axes(params),
        is_leaf=lambda x: x is None or isinstance(x, tuple),
    )


OURS = make_optimizer(CONFIG, rate, matrix_axes)
OPTAX = contrib.muon(
    rate,
    weight_decay=0.1,
    weight_decay_mask=decay_mask,
    adam_b1=0.9,
    adam_b2=0.8,
    adam_weight_decay=0.1,
    adam_learning_rate=lambda step: 0.3 * rate(step),
    muon_weight_dimension_numbers=numbers,
)


def test_updates_and_states_are_those_of_optax():
    params, grads = arrays(), [arrays() for _ in range(3)]

    @jax.jit
    def run(params, grads):
        found = []
        for tx in (OURS, optax.chain(optax.identity(), OPTAX)):
            state, new = tx.init(params), params
            for grad in grads:
                updates, state = tx.update(grad, state, new)
                new = optax.apply_updates(new, updates)
            found.append((new, state))
        return found

    (new, state), (want, wanted) = jax.device_get(run(params, grads))
    assert jax.tree.structure(state) == jax.tree.structure(wanted)
    for a, b in zip(
        jax.tree.leaves((new, state)), jax.tree.leaves((want, wanted)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_rounded_products_change_a_step_little():
    params, grad = arrays(), arrays()

    @jax.jit
    def run(params, grad):
        return OURS.update(grad, OURS.init(params), params)

    updates, state = jax.device_get(run(params, grad))
    with jax.default_matmul_precision("bfloat16"):
        found, after = jax.device_get(run(params, grad))
    assert jax.tree.structure(state) == jax.tree.structure(after)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    same = {"table_embedding", "bias"}
    flat, _ = jax.tree_util.tree_flatten_with_path(found)
    for (path, a), b in zip(flat, jax.tree.leaves(updates), strict=True):
        apart = np.abs(a - b).max() / np.abs(b).max()
        assert apart < 1e-5 if path[-1].key in same else 1e-4 < apart < 0.1


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_singular_values_go_to_one(shape):
    """Beside the quintic of the singular values, in float64."""
    x = RNG.normal(size=shape)
    left, values, right = np.linalg.svd(x / np.linalg.norm(x), full_matrices=False)
    for _ in range(5):
        first, third, fifth = COEFFICIENTS
        values = first * values + third * values**3 + fifth * values**5
    found = jax.jit(orthogonal)(jnp.asarray(x / np.linalg.norm(x), jnp.float32))
    np.testing.assert_allclose(found, left * values @ right, atol=0.05)
