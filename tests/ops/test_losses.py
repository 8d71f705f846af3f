import jax
import numpy as np
import pytest

from cogjax.ops.losses import (
    bounded_exp,
    contrastive,
    from_logit_laplace,
    logit_laplace,
    psnr,
    token_losses,
    weighted_mean,
)


def test_token_losses_equal_minus_log_softmax():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5))
    targets = np.array([[0, 4, 2], [1, 1, 3]])
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(probs, targets[..., None], -1)[..., 0])
    got = jax.jit(token_losses)(np.float32(logits), targets)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_weighted_mean():
    values, weights = np.float32([[1, 2, 9], [1, 3, 0]])
    mean = jax.jit(weighted_mean)
    assert float(mean(values, weights)) == pytest.approx(7 / 4)
    assert float(mean(values, 0 * weights)) == 0


def test_psnr():
    assert float(psnr(np.float32(0.01))) == pytest.approx(20, rel=1e-5)


def test_logit_laplace_is_a_density_of_pixels():
    """exp(-loss) integrates over x = 0.8 p + 0.1 to the mass between 0.1 and 0.9."""
    pixels = np.linspace(0, 1, 20001)
    mean, scale, laplace = 0.3, 0.4, jax.jit(logit_laplace)
    density = np.exp(
        -np.asarray(laplace(np.float32(pixels), mean, np.log(scale)), np.float64)
    )
    mass = np.trapezoid(density, 0.8 * pixels + 0.1)

    def cumulative(logit):
        side = np.sign(logit - mean)
        return 0.5 + side * (1 - np.exp(-abs(logit - mean) / scale)) / 2

    edge = np.log(9.0)
    assert mass == pytest.approx(cumulative(edge) - cumulative(-edge), rel=1e-4)


def test_the_likeliest_pixel_of_a_mean():
    pixels = np.linspace(0, 1, 5)
    x = 0.8 * pixels + 0.1
    back = jax.jit(from_logit_laplace)(np.float32(np.log(x / (1 - x))))
    np.testing.assert_allclose(back, pixels, atol=1e-6)


def contrastive_reference(logits, captions):
    """Float64, term by term: each right answer has an equal share."""
    total = 0.0
    for table in (logits, logits.T):
        for i, row in enumerate(table):
            right = [j for j, text in enumerate(captions) if text == captions[i]]
            log_sum = np.log(np.sum(np.exp(row)))
            total += np.mean([log_sum - row[j] for j in right])
    return total / (2 * len(logits))


@pytest.fixture(scope="module")
def loss():
    return jax.jit(contrastive)


@pytest.mark.parametrize("captions", ["abcde", "abaca", "aaaaa"])
def test_contrastive_equals_its_definition(captions, loss):
    logits = np.random.default_rng(0).normal(0, 4, (5, 5))
    same = np.array([[a == b for b in captions] for a in captions])
    got = loss(np.float32(logits), same)
    assert float(got) == pytest.approx(contrastive_reference(logits, captions), 1e-5)
    # Images and captions play one part.
    assert float(loss(np.float32(logits.T), same)) == pytest.approx(float(got), 1e-6)


def test_contrastive_is_finite_at_the_highest_scale(loss):
    logits = np.float32(100 * np.eye(5))
    assert 0 <= float(loss(logits, np.eye(5, dtype=bool))) < 1e-5
    assert float(loss(-logits, np.eye(5, dtype=bool))) == pytest.approx(
        100 + np.log(4), 1e-5
    )


def test_bounded_exp_stops_at_its_bound_and_comes_back():
    slope = jax.jit(
        lambda x, sign: jax.value_and_grad(lambda x: sign * bounded_exp(x, 100.0))(x)
    )
    top = np.log(100.0)
    for x, sign, value, gradient in (
        (1.0, -1.0, -np.e, -np.e),
        (1.0, 1.0, np.e, np.e),
        # A descent would go up: it stays. Here it would go down: it may.
        (top + 1, -1.0, -100.0, 0.0),
        (top + 1, 1.0, 100.0, 100.0),
    ):
        got = slope(np.float32(x), np.float32(sign))
        np.testing.assert_allclose(got, (value, gradient), rtol=1e-5)
