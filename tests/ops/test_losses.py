import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.losses import psnr, token_losses, weighted_mean


def test_token_losses_equal_minus_log_softmax():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5))
    targets = np.array([[0, 4, 2], [1, 1, 3]])
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(probs, targets[..., None], -1)[..., 0])
    got = token_losses(jnp.asarray(logits), jnp.asarray(targets))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_weighted_mean():
    values, weights = jnp.array([1.0, 2.0, 9.0]), jnp.array([1.0, 3.0, 0.0])
    assert float(weighted_mean(values, weights)) == pytest.approx(7 / 4)
    assert float(weighted_mean(values, 0 * weights)) == 0


def test_psnr():
    assert float(psnr(jnp.array(0.01))) == pytest.approx(20, rel=1e-5)
