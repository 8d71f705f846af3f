import numpy as np
import pytest

import cogjax.evaluate.metrics.mmd as kernels
from cogjax.errors import UserError
from cogjax.evaluate.metrics.mmd import (
    cmmd,
    cubic_kernel,
    gaussian_kernel,
    kid,
    mmd2,
    pairwise_squares,
)
from cogjax.evaluate.metrics.result import Source

RNG = np.random.default_rng(0)
INCEPTION = Source("inception-2015-12-05", "tf1_bilinear")
CLIP = Source("clip-vit-l-14-336:1", "pil_bicubic")


def direct(x, y, kernel, biased):
    """The three means, pair by pair."""

    def mean(a, b, skip):
        values = [
            kernel(p, q)
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not (skip and i == j)
        ]
        return np.mean(values)

    return mean(x, x, not biased) + mean(y, y, not biased) - 2 * mean(x, y, False)


@pytest.mark.parametrize("biased", [True, False])
def test_against_the_sums_over_pairs(biased, monkeypatch):
    monkeypatch.setattr(kernels, "_BLOCK", 4)
    x, y = RNG.normal(size=(9, 5)), RNG.normal(0.5, 1, (6, 5))
    value = mmd2(x, y, cubic_kernel, biased=biased)
    expected = direct(x, y, lambda p, q: (p @ q / 5 + 1) ** 3, biased)
    np.testing.assert_allclose(value, expected, 1e-12)
    value = mmd2(x, y, gaussian_kernel(1.5), biased=biased)
    expected = direct(x, y, lambda p, q: np.exp(-np.sum((p - q) ** 2) / 4.5), biased)
    np.testing.assert_allclose(value, expected, 1e-12)


def test_kid_is_unbiased():
    """Its mean is 0 for one distribution, and not for sets that differ."""
    draws = [
        kid(*RNG.normal(size=(2, 20, 8)), INCEPTION, subsets=None).value
        for _ in range(300)
    ]
    error = np.std(draws) / np.sqrt(300)
    assert abs(np.mean(draws)) < 3 * error < 0.05
    assert min(draws) < 0
    x, y = RNG.normal(size=(20, 8)), RNG.normal(2, 1, (20, 8))
    assert kid(x, y, INCEPTION, subsets=None).value > 1


def test_kid_of_subsets():
    x, y = RNG.normal(size=(60, 4)), RNG.normal(0.5, 1, (50, 4))
    figure = kid(x, y, INCEPTION, subsets=200, subset_size=20)
    whole = kid(x, y, INCEPTION, subsets=None)
    assert abs(figure.value - whole.value) < 4 * figure.spread / np.sqrt(200)
    assert (figure.name, figure.n, figure.reference) == ("KID", 50, 60)
    assert figure.note == "unbiased, 200 subsets of 20, seed 2020"
    assert figure == kid(x, y, INCEPTION, subsets=200, subset_size=20)
    # Subsets of all pictures are all the same.
    assert kid(x[:50], y, INCEPTION, subsets=3).spread == pytest.approx(0, abs=1e-12)
    assert kid(x, y, Source("efflite0:1", "none")).name == "KID-efflite0"


def test_cmmd_is_the_published_formula():
    x, y = RNG.normal(1, 1, (30, 16)), RNG.normal(1.2, 1, (40, 16))
    figure = cmmd(x, y, CLIP)
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    k = [np.exp(-0.005 * ((p[:, None] - q) ** 2).sum(-1)) for p, q in [(a, a), (b, b)]]
    cross = np.exp(-0.005 * ((a[:, None] - b) ** 2).sum(-1))
    expected = 1000 * (k[0].mean() + k[1].mean() - 2 * cross.mean())
    np.testing.assert_allclose(figure.value, expected, 1e-9)
    # A distance of means, but for a percent.
    means = 10 * np.sum((a.mean(0) - b.mean(0)) ** 2)
    np.testing.assert_allclose(figure.value, means, 0.02)
    assert figure.name == "CMMD" and figure.note == "times 1000, sigma 10, biased"
    np.testing.assert_allclose(cmmd(3 * x, y, CLIP).value, figure.value, 1e-9)
    assert cmmd(x, y, Source("dino:1", "none")).name == "MMD-dino"


def test_distances():
    x = RNG.normal(100, 1, (6, 30))
    distances = pairwise_squares(x, x[:3])
    np.testing.assert_allclose(
        distances, ((x[:, None] - x[:3]) ** 2).sum(-1), atol=1e-8
    )
    assert not np.diagonal(distances).any()


def test_mistakes():
    x = np.ones((3, 2))
    with pytest.raises(UserError, match="2 images a side"):
        kid(x[:1], x, INCEPTION)
    with pytest.raises(UserError, match="0 subsets"):
        kid(x, x, INCEPTION, subsets=0)
    with pytest.raises(UserError, match="all zeros"):
        cmmd(x, 0 * x, CLIP)
