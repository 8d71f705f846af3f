"""A second judge of images of shapes: a network, trained on renders only.

It shares no code and no threshold with the oracle, so that one of them finds out a
model that learnt to please the other. `experiments/oracle/checker.py` trains it.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.interop.safetensors import load_tree
from cogjax.models.scene_net import SceneNet
from cogjax.worlds.shapes.scenes import COLOURS, LATTICE, RADII, SHAPES, Item, Scene

SIDE = 4 * LATTICE  # pixels
WEIGHTS = Path(__file__).parents[2] / "assets" / "oracle" / "checker.safetensors"
# Logits of a cell: whether a shape is centred there, and which.
_PARTS = {"shape": tuple(SHAPES), "colour": tuple(COLOURS), "size": tuple(RADII)}
NUM_LOGITS = 1 + sum(len(names) for names in _PARTS.values())
NET = SceneNet(NUM_LOGITS)
_BATCH = 64


def check(images: np.ndarray) -> list[list[Item]]:
    """Lists the items of each image uint8 [n, 64, 64, 3]; it never abstains."""
    params, found = _shipped(), []
    for start in range(0, len(images), _BATCH):
        chunk = images[start : start + _BATCH]
        # Always the same shape: compiled once.
        padded = np.zeros((_BATCH, SIDE, SIDE, 3), np.uint8)
        padded[: len(chunk)] = chunk
        found += read_logits(np.asarray(logits(params, padded)))[: len(chunk)]
    return found


@jax.jit
def logits(params: Any, images: jax.Array) -> jax.Array:
    """Pixels uint8 [b, 64, 64, 3] -> float32 [b, g, g, NUM_LOGITS]."""
    return NET.apply({"params": params}, images.astype(jnp.float32) / 255)


def read_logits(logits_byxc: np.ndarray) -> list[list[Item]]:
    """Items at the cells whose first logit is above 0 and the highest of 3 x 3."""
    there = logits_byxc[..., 0]  # [b, g, g]
    around = np.pad(there, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), axis=(1, 2))
    # windows: [b, g, g, 3, 3]
    peaks = (there > 0) & (there >= windows.max((-2, -1)))
    found: list[list[Item]] = [[] for _ in logits_byxc]
    for index, row, column in zip(*np.nonzero(peaks), strict=True):
        parts = split_logits(logits_byxc[index, row, column])
        named = {name: x[int(parts[name].argmax())] for name, x in _PARTS.items()}
        place = column / LATTICE, row / LATTICE, RADII[named["size"]]
        found[index].append(Item(named["shape"], named["colour"], *place))
    return found


def targets(scenes: Sequence[Scene]) -> dict[str, np.ndarray]:
    """Targets of the logits: "there" float32 [b, g, g], classes int32, -1 for none."""
    grid = (len(scenes), LATTICE, LATTICE)
    wanted = {name: np.full(grid, -1, np.int32) for name in _PARTS}
    wanted["there"] = np.zeros(grid, np.float32)
    for index, scene in enumerate(scenes):
        for item in scene.items:
            cell = index, round(item.y * LATTICE), round(item.x * LATTICE)
            wanted["there"][cell] = 1
            for name, names in _PARTS.items():
                wanted[name][cell] = names.index(getattr(item, name))
    return wanted


def split_logits(logits_byxc) -> dict[str, Any]:
    """ "there" [b, g, g] and the logits of each class [b, g, g, classes]."""
    ends = np.cumsum([1, *(len(names) for names in _PARTS.values())])
    parts = zip(_PARTS, ends[:-1], ends[1:], strict=True)
    split = {name: logits_byxc[..., start:end] for name, start, end in parts}
    return {"there": logits_byxc[..., 0], **split}


@functools.cache
def _shipped() -> Any:
    return load_tree(WEIGHTS)
