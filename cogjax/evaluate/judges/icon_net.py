"""Two networks that were trained on real icons: what is shown, and in which style.

Neither has seen an image that a model made. `experiments/icons/judge.py` trains them on
the split `train` of the set `icons`. The network that tells what is shown sees how dark
an image is and no colour; blurred images are nothing to it.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from cogjax.evaluate.judges.features import run_padded
from cogjax.evaluate.judges.style import StyleNet
from cogjax.files import file_sha256
from cogjax.interop.safetensors import load_tree
from cogjax.models.icon_net import SIDE, IconNet
from cogjax.ops.image import signed

WEIGHTS = Path(__file__).parents[2] / "assets" / "icon_judge" / "judge.safetensors"
STYLES = ("emojione", "fluent-3d", "fluent-color", "fluent-flat", "fluent-mono")
STYLES += ("fxemoji", "icon-filled", "icon-multi-color", "icon-outline")
STYLES += ("icon-two-tone", "noto", "noto-v1", "twemoji")
LUMA = (0.299, 0.587, 0.114)
CONCEPT_NET, STYLE_NET = IconNet(), StyleNet(len(STYLES))
# Darkness in [0, 1] that is stretched to 1 at most: less is an empty image.
_LEAST = 1 / 16
_BATCH = 64


def features(images: np.ndarray) -> np.ndarray:
    """uint8 [n, y, x, 3] -> unit vectors float32 [n, FEATURES] of what they show."""
    run = functools.partial(run_padded, _features, CONCEPT_NET, _shipped()["concept"])
    return _in_batches(run, darkness(shrink(images)))


def styles(images: np.ndarray) -> np.ndarray:
    """uint8 [n, y, x, 3] -> the styles that they look most like, str [n]."""
    run = functools.partial(run_padded, _styles, STYLE_NET, _shipped()["style"])
    return np.array(STYLES)[_in_batches(run, shrink(images)).argmax(-1)]


def shrink(images: np.ndarray, side: int = SIDE) -> np.ndarray:
    """uint8 [n, y, x, 3] -> [n, side, side, 3], averaged."""
    small = [
        Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
        for image in images
    ]
    return np.stack([np.asarray(image) for image in small])


def darkness(images: np.ndarray) -> np.ndarray:
    """uint8 [n, y, x, 3] -> float32 [n, y, x] in [0, 1]: stretched, without colour."""
    return stretch(1 - images @ np.array(LUMA, np.float32) / 255)


def without_color(images: np.ndarray) -> np.ndarray:
    """uint8 [n, y, x, 3] -> the same in grey, its darkest pixel black."""
    grey = np.round(255 * (1 - darkness(images))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def stretch(dark_byx):
    """Darkness [b, y, x], each image stretched so that its darkest pixel is 1."""
    most = dark_byx.max((-2, -1), keepdims=True)
    return dark_byx / most.clip(_LEAST)


def _in_batches(run, images: np.ndarray) -> np.ndarray:
    starts = range(0, len(images), _BATCH)
    return np.concatenate([run(images[i : i + _BATCH], _BATCH) for i in starts])


@functools.partial(jax.jit, static_argnums=0)
def _features(net: IconNet, params: Any, dark_byx: jax.Array) -> jax.Array:
    return net.apply({"params": params}, dark_byx)


@functools.partial(jax.jit, static_argnums=0)
def _styles(net: StyleNet, params: Any, images: jax.Array) -> jax.Array:
    return net.apply({"params": params}, signed(images))


@functools.cache
def digest() -> str:
    """sha256 of the weights."""
    return file_sha256(WEIGHTS)


@functools.cache
def _shipped() -> Any:
    return load_tree(WEIGHTS)
