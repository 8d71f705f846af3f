import functools

import jax
import numpy as np
import pytest

from cogjax.ops import diffusion
from tests.reference import diffusion as reference

TIMES = np.linspace(0, 1, 201)
RNG = np.random.default_rng(0)
X, NOISE = (np.float32(RNG.normal(size=(5, 4, 4, 3))) for _ in range(2))
LOG_SNRS = np.float32([-20, -6, 0, 5, 20])


def test_the_cosine_is_the_papers_and_stays_finite():
    found = jax.jit(diffusion.cosine_log_snr)(np.float32(TIMES))
    wanted = np.clip(reference.log_snr(reference.cosine_alpha_bar(TIMES)), -20, 20)
    np.testing.assert_allclose(found, wanted, atol=1e-2)
    assert np.all(np.diff(found) < 0) and found[-1] == pytest.approx(-20, abs=1e-2)


def test_linear_time_is_the_thousand_steps():
    found = jax.jit(diffusion.linear_log_snr)(np.float32(np.arange(1, 1001) / 1000))
    wanted = reference.log_snr(reference.discrete_linear_alpha_bar())
    error = np.abs(found - wanted)
    assert error.max() < 0.7 and error[50:].max() < 0.2
    assert np.all(np.diff(found) < 0)


def test_noise_keeps_the_variance():
    alpha, sigma = map(np.asarray, jax.jit(diffusion.alpha_sigma)(LOG_SNRS))
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-6)
    np.testing.assert_allclose(2 * np.log(alpha / sigma).ravel(), LOG_SNRS, atol=1e-5)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_a_perfect_prediction_gives_the_image_back(prediction):
    @jax.jit
    def run(log_snrs):
        z = diffusion.add_noise(X, NOISE, log_snrs)
        said = diffusion.target(prediction, X, NOISE, log_snrs)
        return diffusion.to_x0(prediction, said, z, log_snrs)

    # At the ends the image drowns in the noise, or the noise in it.
    middle = slice(1, 4)
    x0 = run(LOG_SNRS)
    np.testing.assert_allclose(x0[middle], X[middle], rtol=1e-4, atol=1e-5)
    assert np.all(np.isfinite(x0))


def test_an_error_of_the_velocity_is_not_blown_up():
    """One of the noise is, 148 times where sampling starts: 1 / alpha."""
    log_snrs = np.full(5, -10, np.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def error(prediction, log_snrs):
        z = diffusion.add_noise(X, NOISE, log_snrs)
        said = diffusion.target(prediction, X, NOISE, log_snrs) + 0.1
        return diffusion.to_x0(prediction, said, z, log_snrs) - X

    assert np.abs(error("v", log_snrs)).max() < 0.11
    assert np.abs(error("eps", log_snrs)).min() > 14


def test_dynamic_threshold_is_numpys_percentile_of_each_image():
    """A percentile is of 100, and an image's size does not change another's."""
    x0 = X * np.float32([0.1, 1, 2, 5, 9])[:, None, None, None]
    percentiles = np.float32([99.5, 99.5, 95, 90, 50])
    found = jax.jit(diffusion.dynamic_threshold)(x0, percentiles)
    wanted = reference.dynamic_threshold(x0.astype(np.float64), percentiles)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[0], x0[0])  # within [-1, 1] already
    assert np.abs(found).max() <= 1
    # Not static clipping, and not degenerate: the order of large values stays.
    assert len(np.unique(np.abs(found[3]))) > 40


def test_guidance_of_one_is_the_condition_alone():
    one, three = np.ones(5, np.float32), np.full(5, 3, np.float32)
    run = jax.jit(diffusion.guide)
    np.testing.assert_array_equal(run(X, NOISE, one), X)
    wanted = NOISE + 3 * (X - NOISE)
    np.testing.assert_allclose(run(X, NOISE, three), wanted, atol=1e-5)
