import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.evaluate.metrics.psnr_ssim import psnr, ssim

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (2, 16, 14, 3)).astype(np.uint8)
Y = np.clip(X + RNG.normal(0, 40, X.shape), 0, 255).astype(np.uint8)


def test_psnr():
    expected = 10 * np.log10(255**2 / np.mean((X.astype(float) - Y) ** 2, (1, 2, 3)))
    np.testing.assert_allclose(psnr(X, Y), expected, rtol=1e-5)
    np.testing.assert_allclose(psnr(X, X), 100, rtol=1e-5)


def ssim_by_hand(x, y):
    """Window by window, with variances about the window's own means."""
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = 6.5025, 58.5225
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = (v[i : i + 11, j : j + 11].astype(float) for v in (x, y))
            ma, mb = np.sum(window * a), np.sum(window * b)
            va, vb = (np.sum(window * (v - m) ** 2) for v, m in ((a, ma), (b, mb)))
            cov = np.sum(window * (a - ma) * (b - mb))
            values.append(
                (2 * ma * mb + c1)
                * (2 * cov + c2)
                / ((ma**2 + mb**2 + c1) * (va + vb + c2))
            )
    return np.mean(values)


def test_ssim_against_the_direct_form():
    expected = [
        np.mean([ssim_by_hand(x[..., c], y[..., c]) for c in range(3)])
        for x, y in zip(X, Y, strict=True)
    ]
    np.testing.assert_allclose(ssim(X, Y), expected, rtol=1e-9)
    np.testing.assert_allclose(ssim(X, X), 1, rtol=1e-12)
    assert np.all(ssim(X, 255 - X) < 0)
    np.testing.assert_allclose(ssim(X, Y), ssim(Y, X), rtol=1e-12)


def test_mistakes():
    with pytest.raises(UserError, match="11 x 11 at least, got 10 x 14"):
        ssim(X[:, :10], Y[:, :10])
    with pytest.raises(UserError, match="pairs are needed"):
        psnr(X, Y[:, :10])
    with pytest.raises(UserError, match="uint8 images expected"):
        psnr(X, Y / 255)
    with pytest.raises(UserError, match="must be"):
        psnr(X[0], Y[0])
