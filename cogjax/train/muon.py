"""Muon (Jordan et al. 2024): optax's, whose products may be rounded.

The orthogonalisation costs as many products as two passes of a small batch. Where an
update is traced within `jax.default_matmul_precision("bfloat16")` on a CPU they are
those of `ops/orthogonal.py`, as in Muon's own code; optax's are of float32 there.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import Array
from optax import contrib

from cogjax.ops.orthogonal import STEPS, orthogonal
from cogjax.ops.packed import rounds

Axes = tuple[tuple[int, ...], tuple[int, ...]]  # of the inputs, of the outputs


def muon(
    learning_rate: optax.Schedule,
    adam: optax.GradientTransformation,
    matrix_axes: Callable[[Any], Any],
    weight_decay: float,
    decays: Callable[[Any], Any],
) -> optax.GradientTransformation:
    """Muon for the matrices, `adam` for the rest; states as `optax.contrib.muon`'s.

    matrix_axes: of the parameters, giving for each leaf the axes of its inputs and of
    its outputs, or None for no matrix. decays: of the parameters, which decay.
    """

    def labels(params):
        return jax.tree.map(
            lambda _, axes: "muon" if axes else "adam", params, matrix_axes(params)
        )

    matrices = optax.chain(
        _momentum(matrix_axes),
        optax.stateless(lambda updates, _: _steps(updates, matrix_axes)),
        optax.add_decayed_weights(weight_decay, decays),
        optax.scale_by_learning_rate(learning_rate),
    )
    return optax.partition({"muon": matrices, "adam": adam}, labels)


def _is_hidden(x: Any) -> bool:
    """Whether `optax.partition` hides a leaf, as it is another's."""
    return isinstance(x, optax.MaskedNode)


def _of_matrices(function: Callable, updates: Any, matrix_axes: Callable) -> Any:
    """`function` of each matrix and its axes."""
    return jax.tree.map(
        lambda x, axes: x if _is_hidden(x) else function(x, axes),
        updates,
        matrix_axes(updates),
        is_leaf=_is_hidden,
    )


def _momentum(matrix_axes: Callable) -> optax.GradientTransformation:
    """Nesterov's, of norm 1 where it is still to be orthogonalised, see `_steps`."""

    def dimensions(updates):
        number = contrib.MuonDimensionNumbers
        return _of_matrices(lambda _, axes: number(*axes), updates, matrix_axes)

    whole, normed = (
        contrib.scale_by_muon(ns_steps=steps, weight_dimension_numbers=dimensions)
        for steps in (STEPS, 0)
    )

    def update(updates, state, params=None):
        momentum = normed if _are_rounded(updates) else whole
        return momentum.update(updates, state, params)

    return optax.GradientTransformation(whole.init, update)


def _are_rounded(updates: Any) -> bool:
    return all(map(rounds, jax.tree.leaves(updates)))


def _steps(updates: Any, matrix_axes: Callable) -> Any:
    """The momentum, orthogonal and scaled by the shape of each matrix."""
    step = functools.partial(_step, rounding=_are_rounded(updates))
    return _of_matrices(step, updates, matrix_axes)


def _step(x: Array, axes: Axes, rounding: bool) -> Array:
    inputs, outputs = ([axis % x.ndim for axis in each] for each in axes)
    rest = [axis for axis in range(x.ndim) if axis not in inputs + outputs]
    order = rest + inputs + outputs
    moved = x.transpose(order)
    fan_in = math.prod(x.shape[axis] for axis in inputs)
    fan_out = math.prod(x.shape[axis] for axis in outputs)
    flat = moved.reshape(-1, fan_in, fan_out)
    if rounding:
        flat = jax.vmap(orthogonal)(flat)
    flat *= max(1.0, fan_out / fan_in) ** 0.5
    back = sorted(range(x.ndim), key=order.__getitem__)
    return flat.reshape(moved.shape).transpose(back)
