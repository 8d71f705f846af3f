"""Operations and results of the products and convolutions of a function."""

import math
from typing import Any

import jax
from jax.extend import core


def count_flops(function: Any, *args: Any) -> float:
    """FLOPs of one call, on all devices together, loops by their trip counts.

    Traced, not run: arguments may be shapes. What is computed again for a gradient
    counts; blocks that a kernel skips are counted as computed.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def product_bytes(function: Any, *args: Any) -> float:
    """Bytes that all products and convolutions of one call give, loops once."""
    return _given(jax.make_jaxpr(function)(*args).jaxpr)


def _given(jaxpr: core.Jaxpr) -> float:
    total = 0.0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
            result = eqn.outvars[0].aval
            total += result.size * result.dtype.itemsize
        total += sum(_given(inner) for inner in _inner(eqn.params))
    return total


def _count(jaxpr: core.Jaxpr) -> float:
    return sum(_of(eqn) for eqn in jaxpr.eqns)


def _of(eqn) -> float:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        inner = math.prod(shape[axis] for axis in contracted)
        return 2.0 * eqn.outvars[0].aval.size * inner
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval
        outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        # Most inputs of a strided convolution's gradient are zeros in between.
        zeros = math.prod(params["lhs_dilation"])
        return 2.0 * eqn.outvars[0].aval.size * kernel.size / outputs / zeros
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in params["branches"])
    times = 1
    if name == "scan":
        times = params["length"]
    elif name == "pallas_call":
        times = math.prod(params["grid_mapping"].grid)
    elif name == "shard_map":
        # The compiler's own axes split what is inside. JAX has renamed the others.
        taken = next(params[name] for name in params if name.endswith("manual_axes"))
        times = math.prod(params["mesh"].shape[name] for name in taken)
    return times * sum(_count(inner) for inner in _inner(params))


def _inner(params: dict[str, Any]):
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, core.ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, core.Jaxpr):
                yield each
