"""Convolutions with fewer products (Winograd 1980; Lavin and Gray 2015, 1509.09308).

Along an axis, `m` neighbouring outputs of a kernel of `r` taps are coefficients of a
product of two polynomials, which its values at m + r - 1 points determine: so many
products instead of m * r. The inputs are mixed to values at the points
(`_Form.inputs`), so is the kernel (`.kernel`), and the products are mixed to the
outputs (`.outputs`). Both axes can be treated so, one inside the other.

Fewer products cost rounding: values at larger points are larger and cancel. The errors
of the forms here are 2 (2 taps) and 3 (3 taps) times those of the plain sum.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Outputs and points by taps; the last point is infinity. These have small errors
# (Barabasz et al. 2020, 1803.10986).
_POINTS = {2: (3, (0.0, 1.0, -1.0)), 3: (4, (0.0, 1.0, -1.0, 0.5, -2.0))}
# Inputs and outputs of a band of rows: its values at all points stay in the cache, and
# the kernel is read anew for each band.
_BAND_BYTES = 2**24


# A convolution without padding.
Plain = Callable[[Array, Array], Array]


class _Form(NamedTuple):
    """Matrices of `m` outputs a time with kernels of `r` taps, n = m + r - 1.

    inputs: [n, n], kernel: [n, r], outputs: [m, n].
    """

    inputs: np.ndarray
    kernel: np.ndarray
    outputs: np.ndarray


def convolve(x_byxc: Array, kernel: Array, plain: Plain) -> Array:
    """Convolution without padding, of stride 1.

    Args:
      x_byxc: [b, y + r - 1, x + r - 1, c]; kernel: [r, r, c, d], r 2 or 3. plain: the
        convolution that is done at each point, of kernels [1, 3, c, d] or
        [1, 1, c, d].

    Returns:
      [b, y, x, d]. With 2 taps 4 / 9 of the products, along both axes; with 3 taps half
      of them, along y: rows lie apart in memory and are mixed without moving any.
      Inputs are finite, as images of bytes are: one that is infinite makes the outputs
      of its form NaN, also those that it is no input of.
    """
    taps, rows = len(kernel), x_byxc.shape[1] - len(kernel) + 1
    batch = x_byxc.shape[0]
    axes = (1, 2) if taps == 2 else (1,)
    outputs = x_byxc.shape[2] * kernel.shape[3]
    row_bytes = 4 * (x_byxc.shape[2] * x_byxc.shape[3] + outputs)
    form = _form(taps)
    kernels = _kernels(axes, form, kernel)
    bands = max(1, rows * row_bytes // _BAND_BYTES)
    if batch == 0 or batch * bands == 1:
        return _along(axes, form, plain, x_byxc, kernels)
    each = len(form.outputs)
    height = -(-rows // (bands * each)) * each
    bands = -(-rows // height)
    below = bands * height - rows
    x = jnp.pad(x_byxc, ((0, 0), (0, below), (0, 0), (0, 0)))

    def band(i: Array) -> Array:
        start = i // bands, i % bands * height, 0, 0
        size = 1, height + taps - 1, *x.shape[2:]
        return _along(
            axes, form, plain, jax.lax.dynamic_slice(x, start, size), kernels
        )[0]

    found = jax.lax.map(band, jnp.arange(batch * bands))  # [b * bands, height, x, d]
    return found.reshape(batch, bands * height, *found.shape[2:])[:, :rows]


def _kernels(axes: Sequence[int], form: _Form, kernel: Array) -> Any:
    """The kernel at each point of each of `axes`: nested lists of [1, 1 or r, c, d]."""
    if not axes:
        return kernel
    axis, *rest = axes
    taps = [
        jax.lax.slice_in_dim(kernel, i, i + 1, axis=axis - 1)
        for i in range(kernel.shape[axis - 1])
    ]
    return [_kernels(rest, form, _mix(row, taps)) for row in form.kernel]


def _along(
    axes: Sequence[int], form: _Form, plain: Plain, x: Array, kernels: Any
) -> Array:
    """`convolve` by `_kernels`."""
    if not axes:
        return plain(x, kernels)
    axis, *rest = axes
    each, taps = len(form.outputs), form.kernel.shape[1]
    size = x.shape[axis] - taps + 1
    tiles = -(-size // each)
    inputs = _phases(x, axis, each, tiles, len(form.inputs))
    products = [
        _along(rest, form, plain, _mix(row, inputs), part)
        for row, part in zip(form.inputs, kernels, strict=True)
    ]
    outputs = [_mix(row, products) for row in form.outputs]
    shape = list(outputs[0].shape)
    shape[axis] = each * tiles
    out = jnp.stack(outputs, axis=axis + 1).reshape(shape)
    return jax.lax.slice_in_dim(out, 0, size, axis=axis)


def _phases(x: Array, axis: int, each: int, tiles: int, count: int) -> list[Array]:
    """Elements `tile * each + i` along an axis, i < `count`: each [.., tiles, ..]."""
    groups = tiles + (count - 1) // each
    pad = [(0, 0)] * x.ndim
    pad[axis] = 0, groups * each - x.shape[axis]
    x = jnp.pad(x, pad)
    x = x.reshape(*x.shape[:axis], groups, each, *x.shape[axis + 1 :])
    found = []
    for i in range(count):
        phase = jax.lax.index_in_dim(x, i % each, axis + 1, keepdims=False)
        start = i // each
        found.append(jax.lax.slice_in_dim(phase, start, start + tiles, axis=axis))
    return found


def _mix(weights: np.ndarray, arrays: list[Array]) -> Array:
    """The sum of weights times arrays, without those of weight 0."""
    terms = [x if w == 1 else w * x for w, x in zip(weights, arrays, strict=True) if w]
    return functools.reduce(jnp.add, terms)


@functools.cache
def _form(taps: int) -> _Form:
    """By interpolation at the points (Toom and Cook), float32 in the end."""
    each, points = _POINTS[taps]
    count = each + taps - 1
    inputs, kernel = np.zeros((count, count)), np.zeros((count, taps))
    outputs = np.zeros((each, count))
    for i, point in enumerate(points):
        others = [other for other in points if other != point]
        inputs[i, : count - 1] = np.poly(others)[::-1]
        kernel[i] = point ** np.arange(taps) / np.prod([point - x for x in others])
        outputs[:, i] = point ** np.arange(each)
    inputs[-1] = np.poly(points)[::-1]
    kernel[-1, -1] = outputs[-1, -1] = 1
    return _Form(*(np.float32(matrix) for matrix in (inputs, kernel, outputs)))
