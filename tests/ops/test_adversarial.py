import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops import adversarial

RNG = np.random.default_rng(0)


def test_hinge_is_its_closed_form():
    real, fake = np.array([2.0, 0.5, -1.0]), np.array([-3.0, 0.0])
    both = jax.jit(jax.value_and_grad(adversarial.hinge, (0, 1)))
    value, grads = both(real, fake)
    # (0 + .5 + 2) / 3 and (0 + 1) / 2
    assert float(value) == pytest.approx((2.5 / 3 + 0.5) / 2)
    np.testing.assert_allclose(grads[0], [0, -1 / 6, -1 / 6], rtol=1e-6)
    np.testing.assert_allclose(grads[1], [0, 1 / 4], rtol=1e-6)


def test_a_gradient_is_set():
    x, gradient = np.array([1.0, 2.0]), np.array([5.0, -3.0])

    def loss(x):
        return adversarial.with_gradient(jnp.sum(x**2), x, gradient)

    value, grad = jax.jit(jax.value_and_grad(loss))(x)
    assert float(value) == 5.0
    np.testing.assert_array_equal(grad, gradient)


def test_kernel_gradient_is_that_of_the_convolution():
    inputs = RNG.normal(size=(2, 5, 4, 3)).astype(np.float32)
    pull = RNG.normal(size=(2, 5, 4, 2)).astype(np.float32)
    got = np.asarray(jax.jit(adversarial.kernel_gradient)(inputs, pull))
    padded = np.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for i in range(3):
        for j in range(3):
            window = padded[:, i : i + 5, j : j + 4]
            want = np.einsum("byxc,byxd->cd", window, pull)
            np.testing.assert_allclose(got[i, j], want, rtol=1e-4, atol=1e-5)


def test_adaptive_weight_by_hand():
    first, second = np.array([3.0, 4.0]), np.array([[0.0], [2.0]])
    weight = jax.jit(adversarial.adaptive_weight)
    got = weight(first, second)
    assert float(got) == pytest.approx(5 / 2.0001, rel=1e-6)
    # Bounded where the second vanishes, and without gradient.
    assert float(weight(first, np.zeros((2, 1)))) == 1e4
    grad = jax.jit(jax.grad(lambda x: adversarial.adaptive_weight(x, second)))(first)
    assert not np.asarray(grad).any()
