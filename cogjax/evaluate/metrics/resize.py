"""The published ways to resize images before a feature network.

They differ by up to 2 of 255 grey levels on average, and FIDs then differ by more than
between models (Parmar et al. 2022, arXiv 2104.11222). Each is linear and separable: two
matrices.

| rule | who | kernel |
|---|---|---|
| torch_bilinear | pytorch-fid | half-pixel centres, no antialiasing |
| tf1_bilinear | TTUR, guided-diffusion, torch-fidelity | corners at whole pixels |
| clean_bicubic | clean-fid | cubic a = -0.5, antialiased, clipped to 0..255 |
| pil_bicubic | CLIP | the same of a PIL image: uint8 between the two passes |
| pil_bilinear | CogView, DM-GAN | triangle, antialiased, also of a PIL image |
| none | | images have the network's size already |

PIL rounds and clips after the first pass already, which moves pixels beside hard edges
by up to ten levels: the rules of CLIP and clean-fid are not one.
"""

import functools

import numpy as np

from cogjax.errors import UserError

RULES = (
    "torch_bilinear",
    "tf1_bilinear",
    "clean_bicubic",
    "pil_bicubic",
    "pil_bilinear",
    "none",
)


def resize(images: np.ndarray, size: int | tuple[int, int], rule: str) -> np.ndarray:
    """uint8 or float [n, y, x, c] in 0..255 -> float32 [n, *size, c] in 0..255.

    Whole numbers by the two rules of PIL images, which need uint8; the others leave
    fractions, which networks read. UserError for an unknown rule, for other values
    where uint8 is needed, and for "none" where the size differs.
    """
    if rule not in RULES:
        raise UserError(f"resize rule {rule!r}: expected one of {', '.join(RULES)}")
    check_images(images)
    height, width = (size, size) if isinstance(size, int) else size
    if rule == "none":
        if images.shape[1:3] != (height, width):
            raise UserError(
                f"resize rule 'none' needs images of {height} x {width}, got "
                f"{images.shape[1]} x {images.shape[2]}: name a rule"
            )
        return np.asarray(images, np.float32)
    rows = resize_matrix(images.shape[1], height, rule)
    columns = resize_matrix(images.shape[2], width, rule)
    if not rule.startswith("pil"):
        pixels = apply_separable(images, rows, columns)
        return np.clip(pixels, 0, 255) if rule == "clean_bicubic" else pixels
    if images.dtype != np.uint8:
        raise UserError(f"resize rule {rule!r} is of uint8, got {images.dtype}")
    return _round(_down(_round(_across(images, columns)), rows))


def apply_separable(
    images: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """[n, y, x, c] by rows [Y, y] and columns [X, x] -> [n, Y, X, c] of their dtype."""
    return _down(_across(images, columns), rows)


def _across(images: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Along x; PIL's first pass."""
    return np.matmul(columns, np.asarray(images, columns.dtype))


def _down(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Along y, as one product that BLAS runs."""
    n, y, x, c = images.shape
    return np.matmul(rows, images.reshape(n, y, x * c)).reshape(n, len(rows), x, c)


@functools.lru_cache(maxsize=64)
def resize_matrix(old: int, new: int, rule: str) -> np.ndarray:
    """Weights float32 [new, old] of one axis; rows sum to 1. Not to be written to."""
    # Both frameworks compute places in float32: at pixel 500 the pixels show it.
    scale, places = np.float32(old / new), np.arange(new, dtype=np.float32)
    if rule == "tf1_bilinear":
        matrix = _bilinear(places * scale, old)
    elif rule == "torch_bilinear":
        matrix = _bilinear(np.clip((places + 0.5) * scale - 0.5, 0, None), old)
    else:
        kernel, support = (_triangle, 1) if rule == "pil_bilinear" else (_cubic, 2)
        matrix = _antialiased(old, new, kernel, support)
    matrix = matrix.astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def check_images(images: np.ndarray) -> None:
    """UserError unless `images` is [n, y, x, c] with images in it."""
    if np.ndim(images) != 4 or 0 in np.shape(images):
        raise UserError(f"images must be [n, y, x, c], got shape {np.shape(images)}")


def _round(pixels: np.ndarray) -> np.ndarray:
    """To whole grey levels, halves up: PIL's way."""
    return np.clip(np.floor(pixels + np.float32(0.5)), 0, 255)


def _bilinear(places: np.ndarray, old: int) -> np.ndarray:
    """Between the two pixels around each place; beyond the last one, that one."""
    low = np.minimum(np.floor(places).astype(int), old - 1)
    high = np.minimum(low + 1, old - 1)
    share = places - low
    matrix = np.zeros((len(places), old))
    rows = np.arange(len(places))
    np.add.at(matrix, (rows, low), 1 - share)
    np.add.at(matrix, (rows, high), share)
    return matrix


def _antialiased(old: int, new: int, kernel, support: int) -> np.ndarray:
    """PIL's resampling: the kernel widened by the reduction, cut at the edges."""
    scale = old / new
    stretch = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    # PIL takes the pixels whose centres round into the support, then normalises.
    first = np.clip((centres - support * stretch + 0.5).astype(int), 0, None)
    last = np.minimum((centres + support * stretch + 0.5).astype(int), old)
    pixels = np.arange(old)
    inside = (pixels >= first[:, None]) & (pixels < last[:, None])
    weights = kernel((pixels + 0.5 - centres[:, None]) / stretch) * inside
    return weights / weights.sum(axis=1, keepdims=True)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(x), 0, None)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -0.5 (torch and OpenCV have -0.75)."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
