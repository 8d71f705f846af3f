"""Likeness of two images: PSNR and SSIM, for image tokenizers."""

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.metrics.resize import check_images
from cogjax.ops import losses

_SIGMA, _WINDOW = 1.5, 11
_K1, _K2 = 0.01, 0.03


def psnr(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """dB of each pair of uint8 images [n, y, x, c] -> float [n]; 100 where equal.

    Each is the PSNR of the image's own squared error. Their mean is above the PSNR of
    the mean squared error of a set: say which one a table has.
    """
    errors = _difference(images, others) / 255
    return np.asarray(losses.psnr(np.mean(errors**2, axis=(1, 2, 3))))


def ssim(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Structural similarity of pairs of uint8 [n, y, x, c] -> float64 [n], at most 1.

    Wang et al. 2004: Gaussian window 11 x 11 of sigma 1.5, K 0.01 and 0.03, range 255,
    biased variances, mean over windows inside the image and over channels. UserError
    for images below 11 x 11.
    """
    _difference(images, others)
    if min(images.shape[1:3]) < _WINDOW:
        raise UserError(
            f"SSIM needs images of {_WINDOW} x {_WINDOW} at least, got "
            f"{images.shape[1]} x {images.shape[2]}"
        )
    c1, c2 = (_K1 * 255) ** 2, (_K2 * 255) ** 2
    similarities = []
    for pair in zip(images, others, strict=True):
        x, y = (image.astype(np.float64) for image in pair)
        mean_x, mean_y, xx, yy, xy = map(_window, (x, y, x * x, y * y, x * y))
        squares = mean_x**2 + mean_y**2
        means = (2 * mean_x * mean_y + c1) / (squares + c1)
        variances = xx + yy - squares
        contrast = (2 * (xy - mean_x * mean_y) + c2) / (variances + c2)
        similarities.append(np.mean(means * contrast))
    return np.array(similarities)


def _difference(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """float64 x - y, of uint8 images of one shape; UserError for anything else."""
    check_images(images)
    if images.shape != others.shape:
        raise UserError(f"pairs are needed: shapes {images.shape} and {others.shape}")
    if images.dtype != np.uint8 or others.dtype != np.uint8:
        raise UserError(f"uint8 images expected, got {images.dtype}, {others.dtype}")
    return images.astype(np.float64) - others


def _window(x_yxc: np.ndarray) -> np.ndarray:
    """Gaussian means of all windows inside: [y, x, c] -> [y - 10, x - 10, c]."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    taps = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    taps /= taps.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(x_yxc, _WINDOW, axis)
        x_yxc = windows @ taps
    return x_yxc
