import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.nn.stack import Stack


class Layer(nn.Module):
    """x -> x + tanh(dense(x)) * shared + own, reporting its output's mean."""

    @nn.compact
    def __call__(self, x, own, shared):
        x = x + jnp.tanh(nn.Dense(4, name="dense")(x)) * shared + own
        return x, jnp.mean(x)


X, XS = jnp.ones((2, 4)), jnp.arange(3.0)


def by_hand(params, x):
    means = []
    for layer in range(3):
        mine = jax.tree.map(lambda leaf, i=layer: leaf[i], params["layers"])
        x, mean = Layer().apply({"params": mine}, x, XS[layer], 0.5)
        means.append(mean)
    return x, jnp.stack(means)


@pytest.mark.parametrize("unroll", [1, 3])
@pytest.mark.parametrize("remat", ["none", "nothing_saveable"])
def test_equals_a_loop_with_gradients(remat, unroll):
    stack = Stack(Layer(parent=None), 3, remat, unroll)
    params = stack.init(jax.random.key(0), X, XS, 0.5)["params"]
    assert params["layers"]["dense"]["kernel"].shape == (3, 4, 4)
    got = stack.apply({"params": params}, X, XS, 0.5)
    for a, b in zip(got, by_hand(params, X), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)

    def loss(params, run):
        return jnp.sum(run(params)[0] ** 2)

    mine = jax.grad(loss)(params, lambda p: stack.apply({"params": p}, X, XS, 0.5))
    expected = jax.grad(loss)(params, lambda p: by_hand(p, X))
    for a, b in zip(*map(jax.tree.leaves, (mine, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_layers_start_different():
    params = Stack(Layer(parent=None), 3).init(jax.random.key(0), X, XS, 0.5)["params"]
    kernels = params["layers"]["dense"]["kernel"]
    assert float(jnp.abs(kernels[0] - kernels[1]).max()) > 0.1
