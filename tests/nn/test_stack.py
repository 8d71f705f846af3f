import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.nn.stack import Stack, repetition
from cogjax.ops.masks import sparse_kinds


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


class Kinded(nn.Module):
    """x -> x + kind * dense(x) + own, reporting the kind."""

    kind: int = 0

    @nn.compact
    def __call__(self, x, own):
        return x + self.kind * nn.Dense(4, name="dense")(x) + own, jnp.full(
            2, self.kind
        )


@pytest.mark.parametrize("unroll", [1, 5])
@pytest.mark.parametrize("remat", ["none", "nothing_saveable"])
@pytest.mark.parametrize("kinds", [(1, 2, 1, 2, 1), (3, 1, 2), (2, 2), (1, 1, 1, 4)])
def test_kinds_are_applied_in_order(kinds, remat, unroll):
    depth = len(kinds)
    stack = Stack(Kinded(parent=None), depth, remat, unroll, kinds)
    own = jnp.arange(float(depth))
    params = stack.init(jax.random.key(0), X, own)["params"]
    got, seen = stack.apply({"params": params}, X, own)
    want = X
    for i, kind in enumerate(kinds):
        layer = jax.tree.map(lambda leaf, i=i: leaf[i], params["layers"])
        want, _ = Kinded(kind).apply({"params": layer}, want, own[i])
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_array_equal(seen, np.repeat(np.array(kinds)[:, None], 2, 1))


@pytest.mark.parametrize(
    "kinds, expected",
    [
        ("aaaa", (1, 4)),
        ("abab", (2, 2)),
        ("ababa", (2, 2)),
        ("abc", (1, 1)),
        (sparse_kinds(64), (4, 15)),
    ],
)
def test_repetition(kinds, expected):
    assert repetition(kinds) == expected


@pytest.mark.parametrize(
    "kinds, unroll, apart",
    [((1, 1, 1, 1), 1, False), ((1, 1, 1, 1), 4, True), ((1, 2, 1, 2, 1), 1, True)],
)
def test_layers_outside_a_loop_are_kept_apart_to_be_computed_again(
    kinds, unroll, apart
):
    """Else XLA merges them with the forward pass, whose values it then keeps."""
    stack = Stack(Kinded(parent=None), len(kinds), "nothing_saveable", unroll, kinds)
    own = jnp.zeros(len(kinds))
    params = stack.init(jax.random.key(0), X, own)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(stack.apply(p, X, own)[0] ** 2)))
    text = gradient.lower(params).as_text()
    assert ("optimization_barrier" in text) == apart


@pytest.mark.parametrize("listed", [False, True])
def test_parameters_of_another_depth(listed):
    params = Stack(Layer(parent=None), 4).init(jax.random.key(0), X, jnp.zeros(4), 0.5)
    if listed:
        layers = params["params"]["layers"]
        rows = [jax.tree.map(lambda leaf, i=i: leaf[i], layers) for i in range(4)]
        params = {"params": {"layers": rows}}
    with pytest.raises(ValueError, match="parameters of 4 layers for 3"):
        Stack(Layer(parent=None), 3).apply(params, X, XS, 0.5)


def test_layers_of_one_kind_are_traced_once():
    """Also where they are written out one by one."""
    traced = []

    class Counted(Kinded):
        @nn.compact
        def __call__(self, x, own):
            traced.append(self.kind)
            return super().__call__(x, own)

    kinds = (1, 2, 1, 1, 2)
    stack, xs = Stack(Counted(parent=None), 5, kinds=kinds), [jnp.ones(4)] * 5
    params = stack.init(jax.random.key(0), X, xs)
    traced.clear()
    jax.eval_shape(stack.apply, params, X, xs)
    assert sorted(traced) == [1, 2]
