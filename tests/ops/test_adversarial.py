import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops import adversarial

RNG = np.random.default_rng(0)


def test_hinge_is_its_closed_form():
    real, fake = jnp.array([2.0, 0.5, -1.0]), jnp.array([-3.0, 0.0])
    # (0 + .5 + 2) / 3 and (0 + 1) / 2
    assert float(adversarial.hinge(real, fake)) == pytest.approx((2.5 / 3 + 0.5) / 2)
    grads = jax.grad(adversarial.hinge, (0, 1))(real, fake)
    np.testing.assert_allclose(grads[0], [0, -1 / 6, -1 / 6], rtol=1e-6)
    np.testing.assert_allclose(grads[1], [0, 1 / 4], rtol=1e-6)


def test_a_gradient_is_set():
    x, gradient = jnp.array([1.0, 2.0]), jnp.array([5.0, -3.0])

    def loss(x):
        return adversarial.with_gradient(jnp.sum(x**2), x, gradient)

    value, grad = jax.value_and_grad(loss)(x)
    assert float(value) == 5.0
    np.testing.assert_array_equal(grad, gradient)


def test_kernel_gradient_is_that_of_the_convolution():
    inputs = jnp.asarray(RNG.normal(size=(2, 5, 4, 3)), jnp.float32)
    pull = jnp.asarray(RNG.normal(size=(2, 5, 4, 2)), jnp.float32)
    got = adversarial.kernel_gradient(inputs, pull)
    padded = np.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for i in range(3):
        for j in range(3):
            window = padded[:, i : i + 5, j : j + 4]
            want = np.einsum("byxc,byxd->cd", window, pull)
            np.testing.assert_allclose(got[i, j], want, rtol=1e-4, atol=1e-5)


def test_adaptive_weight_by_hand():
    first, second = jnp.array([3.0, 4.0]), jnp.array([[0.0], [2.0]])
    got = adversarial.adaptive_weight(first, second)
    assert float(got) == pytest.approx(5 / 2.0001, rel=1e-6)
    # Bounded where the second vanishes, and without gradient.
    assert float(adversarial.adaptive_weight(first, jnp.zeros(1))) == 1e4
    grad = jax.grad(lambda x: adversarial.adaptive_weight(x, second))(first)
    assert not grad.any()
