"""InceptionV3, inference only (Szegedy et al. 2015, arXiv 1512.00567).

Two networks share the layers. FID's is the one that TensorFlow published on 2015-12-05:
its average pools leave the padding out of the mean, its very last block has a maximum
pool, and it has 1008 classes. torchvision's, which CogView's FID code took, counts the
padding as zeros, averages in all blocks, and has 1000 classes. They are not comparable.

Each mixed block is a table of branches, and children are named as in torchvision.
Batch normalisation (epsilon 0.001) is folded in by `interop/networks.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.nn.conv import Conv

IMAGE_SIZE = 299


class _Conv(NamedTuple):
    """Convolution and relu; stride 2 goes without padding, else as `padding` says."""

    name: str
    width: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "SAME"


# A branch is pools and convolutions in turn; a tuple of them splits, then concatenates.
_Branch = Sequence["str | _Conv | tuple[_Conv, ...]"]
_ROW, _COLUMN, _POINT, _SQUARE = (1, 7), (7, 1), (1, 1), (3, 3)

_STEM: _Branch = (
    _Conv("Conv2d_1a_3x3", 32, _SQUARE, 2),
    _Conv("Conv2d_2a_3x3", 32, _SQUARE, padding="VALID"),
    _Conv("Conv2d_2b_3x3", 64, _SQUARE),
    "reduce",
    _Conv("Conv2d_3b_1x1", 80, _POINT),
    _Conv("Conv2d_4a_3x3", 192, _SQUARE, padding="VALID"),
    "reduce",
)


def _mixed_5(pool_width: int) -> tuple[_Branch, ...]:
    return (
        (_Conv("branch1x1", 64, _POINT),),
        (_Conv("branch5x5_1", 48, _POINT), _Conv("branch5x5_2", 64, (5, 5))),
        (
            _Conv("branch3x3dbl_1", 64, _POINT),
            _Conv("branch3x3dbl_2", 96, _SQUARE),
            _Conv("branch3x3dbl_3", 96, _SQUARE),
        ),
        ("average", _Conv("branch_pool", pool_width, _POINT)),
    )


_MIXED_6A: tuple[_Branch, ...] = (
    (_Conv("branch3x3", 384, _SQUARE, 2),),
    (
        _Conv("branch3x3dbl_1", 64, _POINT),
        _Conv("branch3x3dbl_2", 96, _SQUARE),
        _Conv("branch3x3dbl_3", 96, _SQUARE, 2),
    ),
    ("reduce",),
)


def _mixed_6(inner: int) -> tuple[_Branch, ...]:
    return (
        (_Conv("branch1x1", 192, _POINT),),
        (
            _Conv("branch7x7_1", inner, _POINT),
            _Conv("branch7x7_2", inner, _ROW),
            _Conv("branch7x7_3", 192, _COLUMN),
        ),
        (
            _Conv("branch7x7dbl_1", inner, _POINT),
            _Conv("branch7x7dbl_2", inner, _COLUMN),
            _Conv("branch7x7dbl_3", inner, _ROW),
            _Conv("branch7x7dbl_4", inner, _COLUMN),
            _Conv("branch7x7dbl_5", 192, _ROW),
        ),
        ("average", _Conv("branch_pool", 192, _POINT)),
    )


_MIXED_7A: tuple[_Branch, ...] = (
    (_Conv("branch3x3_1", 192, _POINT), _Conv("branch3x3_2", 320, _SQUARE, 2)),
    (
        _Conv("branch7x7x3_1", 192, _POINT),
        _Conv("branch7x7x3_2", 192, _ROW),
        _Conv("branch7x7x3_3", 192, _COLUMN),
        _Conv("branch7x7x3_4", 192, _SQUARE, 2),
    ),
    ("reduce",),
)


def _mixed_7(pool: str) -> tuple[_Branch, ...]:
    def split(a: str, b: str) -> tuple[_Conv, ...]:
        return _Conv(a, 384, (1, 3)), _Conv(b, 384, (3, 1))

    return (
        (_Conv("branch1x1", 320, _POINT),),
        (_Conv("branch3x3_1", 384, _POINT), split("branch3x3_2a", "branch3x3_2b")),
        (
            _Conv("branch3x3dbl_1", 448, _POINT),
            _Conv("branch3x3dbl_2", 384, _SQUARE),
            split("branch3x3dbl_3a", "branch3x3dbl_3b"),
        ),
        (pool, _Conv("branch_pool", 192, _POINT)),
    )


def _blocks(variant: str) -> dict[str, tuple[_Branch, ...]]:
    return {
        "Mixed_5b": _mixed_5(32),
        "Mixed_5c": _mixed_5(64),
        "Mixed_5d": _mixed_5(64),
        "Mixed_6a": _MIXED_6A,
        "Mixed_6b": _mixed_6(128),
        "Mixed_6c": _mixed_6(160),
        "Mixed_6d": _mixed_6(160),
        "Mixed_6e": _mixed_6(192),
        "Mixed_7a": _MIXED_7A,
        "Mixed_7b": _mixed_7("average"),
        "Mixed_7c": _mixed_7("maximum" if variant == "fid" else "average"),
    }


class InceptionV3(nn.Module):
    """Pixels in [-1, 1] [b, y, x, 3] -> pool3 features [b, 2048] and logits [b, k].

    y, x: 299 in all published values, at least 75.
    variant: "fid" or "torchvision". The logits have the bias; the Inception Score of
    DM-GAN and guided-diffusion goes without: subtract `params["fc"]["bias"]`.
    """

    variant: str = "fid"

    @nn.compact
    def __call__(self, x_byxc: Array) -> tuple[Array, Array]:
        x = self._branch("", x_byxc, _STEM)
        for name, branches in _blocks(self.variant).items():
            parts = [self._branch(name + ".", x, branch) for branch in branches]
            x = jnp.concatenate(parts, axis=-1)
        features = jnp.mean(x, axis=(1, 2))
        classes = 1008 if self.variant == "fid" else 1000
        return features, nn.Dense(classes, name="fc")(features)

    def _branch(self, prefix: str, x: Array, branch: _Branch) -> Array:
        for step in branch:
            if isinstance(step, str):
                x = self._pool(step, x)
            elif isinstance(step, _Conv):
                x = _conv(prefix, x, step)
            else:
                x = jnp.concatenate([_conv(prefix, x, part) for part in step], axis=-1)
        return x

    def _pool(self, kind: str, x: Array) -> Array:
        if kind == "reduce":
            return nn.max_pool(x, _SQUARE, (2, 2))
        if kind == "maximum":
            return nn.max_pool(x, _SQUARE, padding="SAME")
        counted = self.variant != "fid"
        return nn.avg_pool(x, _SQUARE, padding="SAME", count_include_pad=counted)


def _conv(prefix: str, x: Array, conv: _Conv) -> Array:
    padding = "VALID" if conv.stride == 2 else conv.padding
    strides = (conv.stride, conv.stride)
    name = prefix + conv.name
    layer = Conv(conv.width, conv.kernel, strides, padding=padding, name=name)
    return jax.nn.relu(layer(x))
