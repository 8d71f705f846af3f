import itertools

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


X, XS = np.ones((2, 4), np.float32), np.arange(3, dtype=np.float32)


def stored(depth):
    """Parameters as `Stack` keeps them, of layers with one dense layer of 4."""
    rng = np.random.default_rng(0)
    shapes = {"kernel": (depth, 4, 4), "bias": (depth, 4)}
    dense = {k: np.float32(rng.normal(0, 0.5, v)) for k, v in shapes.items()}
    return {"layers": {"dense": dense}}


def layer_of(params, i):
    return jax.tree.map(lambda leaf: leaf[i], params["layers"])


def by_hand(params, x):
    means = []
    for layer in range(3):
        mine = {"params": layer_of(params, layer)}
        x, mean = Layer().apply(mine, x, XS[layer], 0.5)
        means.append(mean)
    return x, jnp.stack(means)


# (remat, unroll); all of them are one program in the tests below.
FORMS = list(itertools.product(("none", "nothing_saveable"), (1, 3)))


@pytest.fixture(scope="module")
def params():
    """Start values of three layers of `Layer`."""
    start = jax.jit(Stack(Layer(parent=None), 3).init)
    return start(jax.random.key(0), X, XS, 0.5)["params"]


def test_equals_a_loop_with_gradients(params):
    def run(form):
        stack = Stack(Layer(parent=None), 3, *form)
        return lambda params: stack.apply({"params": params}, X, XS, 0.5)

    def with_gradient(run, params):
        def loss(params):
            found = run(params)
            return jnp.sum(found[0] ** 2), found

        return jax.grad(loss, has_aux=True)(params)

    assert params["layers"]["dense"]["kernel"].shape == (3, 4, 4)
    runs = [lambda params: by_hand(params, X), *map(run, FORMS)]
    every = jax.jit(lambda params: [with_gradient(run, params) for run in runs])
    (want_grad, want), *found = every(params)
    for grad, got in found:
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
        for a, b in zip(*map(jax.tree.leaves, (grad, want_grad)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_layers_start_different(params):
    kernels = np.asarray(params["layers"]["dense"]["kernel"])
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1


class Kinded(nn.Module):
    """x -> x + kind * dense(x) + own, reporting the kind."""

    kind: int = 0

    @nn.compact
    def __call__(self, x, own):
        return x + self.kind * nn.Dense(4, name="dense")(x) + own, jnp.full(
            2, self.kind
        )


@pytest.mark.parametrize("kinds", [(1, 2, 1, 2, 1), (3, 1, 2), (2, 2), (1, 1, 1, 4)])
def test_kinds_are_applied_in_order(kinds):
    depth, params = len(kinds), stored(len(kinds))
    own = np.arange(depth, dtype=np.float32)
    forms = [*FORMS, ("none", 5), ("nothing_saveable", 5)]
    stacks = [Stack(Kinded(parent=None), depth, *form, kinds) for form in forms]
    run = jax.jit(lambda p: [stack.apply({"params": p}, X, own) for stack in stacks])
    want = X
    for i, kind in enumerate(kinds):
        dense = layer_of(params, i)["dense"]
        want = want + kind * (want @ dense["kernel"] + dense["bias"]) + own[i]
    for got, seen in run(params):
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
    [
        ((1, 1, 1, 1), 1, False),
        ((1, 1, 1, 1), 2, True),
        ((1, 1, 1, 1), 4, True),
        ((1, 2, 1, 2), 1, True),
        ((1, 2, 1, 2, 1), 1, True),
    ],
)
def test_layers_beside_others_are_kept_apart_to_be_computed_again(kinds, unroll, apart):
    """Outside of a loop XLA merges them with the forward pass, whose values it keeps;
    in one pass of a loop it computes all of them at once.
    """
    stack = Stack(Kinded(parent=None), len(kinds), "nothing_saveable", unroll, kinds)
    own = np.zeros(len(kinds), np.float32)
    params = {"params": stored(len(kinds))}
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(stack.apply(p, X, own)[0] ** 2)))
    text = gradient.lower(params).as_text()
    assert ("optimization_barrier" in text) == apart


@pytest.mark.parametrize("listed", [False, True])
def test_parameters_of_another_depth(listed):
    params = {"params": stored(4)}
    if listed:
        params = {"params": {"layers": [layer_of(stored(4), i) for i in range(4)]}}
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
    stack, xs = (
        Stack(Counted(parent=None), 5, kinds=kinds),
        [np.ones(4, np.float32)] * 5,
    )
    params = {"params": stored(5)}
    jax.eval_shape(stack.apply, params, X, xs)
    assert sorted(traced) == [1, 2]
