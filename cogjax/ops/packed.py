"""Products of dense layers: one gradient rule for training, one packed form for use.

Autodiff asks for the weight gradient as dy^T x and transposes it; on XLA's CPU backend
x^T dy, the same numbers in the layout of the weights, is 1.1 to 1.4 times as fast
(`experiments/bench/matmul_gradient.py`).
"""

import functools
import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from cogjax.ops.platform import platform

WeightFormat = Literal["float32", "bfloat16", "int8"]
WEIGHT_FORMATS = ("float32", "bfloat16", "int8")
# Up to this many rows the weights are the left factor: on XLA's CPU backend 8 rows run
# 1.2 times as fast, and the product is bound by reading the weights anyway.
FEW_ROWS = 64


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Packed:
    """Weights as they are used, not trained: one row for each output.

    rows: [o, i], float32, bfloat16 or int8. scale: float32 [o], what a row was divided
    by, None if by nothing.
    """

    rows: Array
    scale: Array | None = None

    def __getitem__(self, index) -> "Packed":
        """Some of the outputs: a slice, or int ids [...] for embeddings [..., i]."""
        scale = None if self.scale is None else self.scale[index]
        return Packed(self.rows[index], scale)

    def astype(self, dtype) -> Array:
        """The weights themselves, [..., i]."""
        rows = self.rows.astype(dtype)
        return (
            rows if self.scale is None else rows * self.scale[..., None].astype(dtype)
        )


def pack(rows: Array, weights: WeightFormat) -> Packed:
    """Packs [o, i]; int8 is symmetric with a scale for each output."""
    if weights != "int8":
        return Packed(rows.astype(weights))
    scale = jnp.maximum(jnp.max(jnp.abs(rows), axis=1), 1e-12) / 127
    return Packed(jnp.round(rows / scale[:, None]).astype(jnp.int8), scale)


def product(x: Array, packed: Packed) -> Array:
    """x [..., i] times packed weights -> [..., o], in the dtype of x."""
    flat = x.reshape(-1, x.shape[-1])
    rows = packed.rows.astype(x.dtype)
    if len(flat) <= FEW_ROWS:
        out = rows @ flat.T
        if packed.scale is not None:
            out = out * packed.scale[:, None].astype(x.dtype)
        out = lax.optimization_barrier(out).T
    else:
        out = lax.dot_general(flat, rows, (((1,), (1,)), ((), ())))
        if packed.scale is not None:
            out = out * packed.scale.astype(x.dtype)
    return out.reshape(*x.shape[:-1], len(rows))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def dense(x: Array, kernel: Array, num_axes: int = 1) -> Array:
    """Contracts the last `num_axes` axes of x with the first of the kernel.

    x: [..., i1, i2], kernel: [i1, i2, o1, o2, ...] -> [..., o1, o2, ...], for two axes.
    Within `jax.default_matmul_precision("bfloat16")` factors are rounded on CPUs too.
    """
    lead = x.ndim - num_axes
    if rounds(x):
        rows, matrix = _as_matrices(x, kernel, num_axes)
        out = rounded(rows, matrix, 0)
        return out.reshape(*x.shape[:lead], *kernel.shape[num_axes:])
    axes = tuple(range(lead, x.ndim)), tuple(range(num_axes))
    return lax.dot_general(x, kernel, (axes, ((), ())))


def rounds(x: Array) -> bool:
    """Whether factors of x are rounded to bfloat16, and products added up in float32.

    So TPUs compute float32 by themselves. XLA's CPU backend does not heed the precision
    that is asked for: 1.8 times as fast where the CPU multiplies bfloat16.
    """
    asked = jax.config.jax_default_matmul_precision == "bfloat16"
    return asked and x.dtype == jnp.float32 and platform() == "cpu"


def _as_matrices(x: Array, kernel: Array, num_axes: int) -> tuple[Array, Array]:
    """x as [rows, i] and the kernel as [i, o]."""
    inputs = math.prod(kernel.shape[:num_axes])
    return x.reshape(-1, inputs), kernel.reshape(inputs, -1)


def rounded(x: Array, y: Array, axis: int) -> Array:
    """Contracts the last axis of x [r, i] with an axis of y, in float32."""
    x, y = x.astype(jnp.bfloat16), y.astype(jnp.bfloat16)
    numbers = (((1,), (axis,)), ((), ()))
    return lax.dot_general(x, y, numbers, preferred_element_type=jnp.float32)


def _forward(x, kernel, num_axes):
    return dense(x, kernel, num_axes), (x, kernel)


def _backward(num_axes, saved, grad):
    x, kernel = saved
    if rounds(x):
        return _rounded_gradients(x, kernel, grad, num_axes)
    lead = x.ndim - num_axes
    outs = tuple(range(lead, grad.ndim)), tuple(range(num_axes, kernel.ndim))
    grad_x = lax.dot_general(grad, kernel, (outs, ((), ())))
    grad_kernel = _kernel_gradient(x, grad, num_axes)
    return grad_x.astype(x.dtype), grad_kernel.astype(kernel.dtype)


def _rounded_gradients(x: Array, kernel: Array, grad: Array, num_axes: int):
    rows, matrix = _as_matrices(x, kernel, num_axes)
    grad = grad.reshape(len(rows), -1)
    grad_kernel = rounded_over_rows(rows, grad).reshape(kernel.shape)
    return rounded(grad, matrix, 1).reshape(x.shape), grad_kernel.astype(kernel.dtype)


def rounded_over_rows(x: Array, y: Array) -> Array:
    """x^T y of [r, i] and [r, o], as `rounded`."""
    # XLA would take a transpose of x into the product, which is then one of float32.
    # It does not where a row of zeros is behind both.
    left = jnp.pad(x.astype(jnp.bfloat16).T, ((0, 0), (0, 1)))  # [i, r + 1]
    right = jnp.pad(y.astype(jnp.bfloat16), ((0, 1), (0, 0)))  # [r + 1, o]
    return rounded(left, right, 0)


def _kernel_gradient(x: Array, grad: Array, num_axes: int) -> Array:
    """x^T grad over all rows: [i1, i2, o1, o2, ...]."""
    lead = tuple(range(x.ndim - num_axes))
    numbers = ((lead, lead), ((), ()))
    inputs, outputs = x.shape[len(lead) :], grad.shape[len(lead) :]
    if math.prod(inputs) <= math.prod(outputs) or platform() != "cpu":
        return lax.dot_general(x, grad, numbers)
    # The left factor is transposed first: better the narrow one, and then the result.
    # Without the barrier XLA turns the product around again.
    out = lax.optimization_barrier(lax.dot_general(grad, x, numbers))
    last = out.ndim - num_axes
    return out.transpose(*range(last, out.ndim), *range(last))


dense.defvjp(_forward, _backward)


def scores(x: Array, table: Array) -> Array:
    """Products of x [..., d] and the rows of a table [v, d]: [..., v].

    Factors are rounded where those of `dense` are.
    """
    if not rounds(x):
        return jnp.einsum("...d,vd->...v", x, table)
    rows = x.reshape(-1, x.shape[-1])
    return _rounded_scores(rows, table).reshape(*x.shape[:-1], len(table))


@jax.custom_vjp
def _rounded_scores(x: Array, table: Array) -> Array:
    return rounded(x, table, 1)


def _scores_backward(saved, grad):
    x, table = saved
    return rounded(grad, table, 0), rounded_over_rows(grad, x)


_rounded_scores.defvjp(lambda x, y: (_rounded_scores(x, y), (x, y)), _scores_backward)
