"""PowerSGD: sums of gradients over the workers by matrices of low rank.

Vogels et al. 2019, as DALL-E uses it (section 2.4 and appendix E). A worker is one
place along the mesh's data axis. For a matrix [m, n] whose gradient is G_w, a worker
keeps an error E_w of the same shape, and in an update

    M_w = G_w + E_w
    P = sum_w M_w Q             all-reduce of [m, r]; then its columns are orthonormal
    R = sum_w M_w^T P           all-reduce of [n, r]
    sum = P R^T                 what the optimiser gets for the sum of all G_w
    E_w = M_w - sum / workers   so that the sums of all updates lose nothing

Q is a Gaussian that stays ("fixed", DALL-E), or the R of the update before ("warm").
"""

import math
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AbstractMesh, PartitionSpec

from cogjax.errors import UserError
from cogjax.ops.small_floats import MEAN, pack, unpack
from cogjax.parallel.rules import path_name

AXIS = "data"
Arrays = dict[str, Array]


@dataclass(frozen=True)
class PowerSGD:
    """How gradients are compressed between the workers.

    rank: columns of P and Q, 0 is off. A matrix is compressed where that is smaller.
    start: first updates, whose gradients are summed exactly. basis: "warm" or "fixed".
    bits: with 16 P and R are sent as bfloat16 and errors are kept as 1-6-9 floats
    (`small_floats`). feedback: False keeps no errors, which the paper shows is worse.
    """

    rank: int = 0
    start: int = 0
    basis: Literal["warm", "fixed"] = "warm"
    bits: Literal[32, 16] = 32
    feedback: bool = True

    def __post_init__(self):
        if min(self.rank, self.start) < 0:
            raise UserError(
                "config section 'optim.powersgd': rank and start must not be negative"
            )


class Matrices(NamedTuple):
    """A parameter as a stack of matrices: its shape, and the axes of rows and columns.

    Other axes number the matrices.
    """

    shape: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def factor_shapes(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of P [..., rows, r] and of Q [..., columns, r]."""
        m, n = (math.prod(self._sizes(axes)) for axes in (self.rows, self.columns))
        stack, rank = self._sizes(self._stack), min(rank, m, n)
        return tuple(
            (*stack, *self._sizes(axes), rank) for axes in (self.rows, self.columns)
        )

    def project(self, x: Array, other: Array, onto: Literal["rows", "columns"]):
        """M Q [..., rows, r], or M^T P [..., columns, r], in full float32."""
        whole, *sides = self._letters()
        rows, columns = sides if onto == "rows" else sides[::-1]
        return _einsum(f"{whole},{columns}->{rows}", x, other)

    def product(self, left: Array, right: Array) -> Array:
        """P R^T in the shape of the parameter."""
        whole, rows, columns = self._letters()
        return _einsum(f"{rows},{columns}->{whole}", left, right)

    def orthonormal(self, left: Array) -> Array:
        """P [..., rows, r] with orthonormal columns, by Householder's reflections.

        A millionth of the identity, in units of P's root mean square, makes columns
        that are 0 or equal differ.
        """
        count = len(self._stack)
        flat = left.reshape(*left.shape[:count], -1, left.shape[-1])
        size = jnp.sqrt(jnp.mean(jnp.square(flat), (-2, -1), keepdims=True))
        flat = flat / jnp.maximum(size, 1e-30) + 1e-6 * jnp.eye(*flat.shape[-2:])
        return _reflections(flat).reshape(left.shape)

    @property
    def _stack(self) -> tuple[int, ...]:
        inside = (*self.rows, *self.columns)
        return tuple(axis for axis in range(len(self.shape)) if axis not in inside)

    def _sizes(self, axes) -> tuple[int, ...]:
        return tuple(self.shape[axis] for axis in axes)

    def _letters(self) -> tuple[str, str, str]:
        """Einsum letters of the parameter, of P and of Q."""
        whole = string.ascii_lowercase[: len(self.shape)]
        stack, rows, columns = (
            "".join(whole[axis] for axis in axes)
            for axes in (self._stack, self.rows, self.columns)
        )
        return whole, f"{stack}{rows}z", f"{stack}{columns}z"


def _reflections(flat: Array) -> Array:
    """Orthonormal columns of matrices [..., m, r].

    One at a time on the CPU: jaxlib 0.10 shares out a stack on the threads that already
    wait for it when there are several devices, and never ends.
    """

    def one_by_one(flat):
        stack = flat.reshape(-1, *flat.shape[-2:])
        found = lax.map(lambda one: jnp.linalg.qr(one)[0], stack)
        return found.reshape(*flat.shape[:-1], -1)

    return lax.platform_dependent(
        flat, cpu=one_by_one, default=lambda flat: jnp.linalg.qr(flat)[0]
    )


def _einsum(letters: str, *arrays: Array) -> Array:
    return jnp.einsum(letters, *arrays, precision=lax.Precision.HIGHEST)


def find_matrices(params: Any, axes: Any, rank: int) -> dict[str, Matrices]:
    """Parameters that are sent in fewer numbers at this rank: {path: matrices}.

    params: tree of shapes. axes: of each leaf, None or (axes of rows, of columns).
    """
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        sides = axes
        for key in path:
            sides = sides[key.key]
        if sides is not None:
            one = Matrices(tuple(leaf.shape), *map(tuple, sides))
            if sum(map(math.prod, one.factor_shapes(rank))) < math.prod(leaf.shape):
                found[path_name(path)] = one
    return found


def start_memory(
    config: PowerSGD, matrices: Mapping[str, Matrices], workers: int, key: Array
) -> dict[str, Arrays]:
    """What is kept from update to update, by path of the parameter.

    Returns:
      error: [workers, *shape], 0, float32 or packed to 16 bits; {} without
        feedback.
      query: float32 Q [..., columns, r], normal.
    """
    dtype = jnp.uint16 if config.bits == 16 else jnp.float32
    keys = jax.random.split(key, len(matrices))
    kept = matrices if config.feedback else {}
    return {
        "error": {
            name: jnp.zeros((workers, *one.shape), dtype) for name, one in kept.items()
        },
        "query": {
            name: jax.random.normal(key, one.factor_shapes(config.rank)[1])
            for key, (name, one) in zip(keys, matrices.items(), strict=True)
        },
    }


def spread(errors: Array, workers: int) -> Array:
    """Errors [w, *shape] of so many other workers, with the same sum; dtypes stay."""
    total = jnp.sum(_load(errors), axis=0)
    each = _store(total / workers, errors.dtype)
    return jnp.broadcast_to(each, (workers, *each.shape))


def exact_sum(grads: Arrays, memory: dict[str, Arrays]) -> tuple[Arrays, dict]:
    """As `low_rank_sum`, of all numbers; the memory stays."""
    return lax.psum(grads, AXIS), memory


def low_rank_sum(
    config: PowerSGD,
    matrices: Mapping[str, Matrices],
    workers: int,
    grads: Arrays,
    memory: dict[str, Arrays],
) -> tuple[Arrays, dict[str, Arrays]]:
    """(sums over the workers, next memory); one worker's side, inside `shard_map`.

    grads: float32, by path; those without `matrices` are summed exactly. memory: of
    `start_memory`, errors [1, *shape] of this worker.
    """
    query, error = memory["query"], memory["error"]
    full = {
        name: grads[name] + (_load(error[name])[0] if name in error else 0.0)
        for name in matrices
    }
    rest = {name: grad for name, grad in grads.items() if name not in matrices}
    left = {
        name: one.project(full[name], query[name], "rows")
        for name, one in matrices.items()
    }
    left, rest = _send(config, left), lax.psum(rest, AXIS)
    left = {name: one.orthonormal(left[name]) for name, one in matrices.items()}
    right = {
        name: one.project(full[name], left[name], "columns")
        for name, one in matrices.items()
    }
    right = _send(config, right)
    sums = {
        name: one.product(left[name], right[name]) for name, one in matrices.items()
    }
    error = {
        name: _store(full[name] - sums[name] / workers, kept.dtype)[None]
        for name, kept in error.items()
    }
    query = right if config.basis == "warm" else query
    return {**sums, **rest}, {"error": error, "query": query}


def _send(config: PowerSGD, factors: Arrays) -> Arrays:
    """Sums over the workers, float32. What rounding loses stays in the errors.

    A device of a worker sends a part of each factor. All mesh axes are taken here: XLA
    ends the process (jaxlib 0.10, CPU) at a bfloat16 sum that leaves some to it.
    """
    mesh = jax.sharding.get_abstract_mesh()
    others = tuple(name for name in mesh.axis_names if name != AXIS)
    dtype = jnp.bfloat16 if config.bits == 16 else jnp.float32
    factors = {name: x.astype(dtype) for name, x in factors.items()}
    specs = {name: _split(mesh, others, x.shape) for name, x in factors.items()}
    summed = jax.shard_map(
        lambda parts: lax.psum(parts, AXIS),
        in_specs=(specs,),
        out_specs=specs,
        axis_names=set(others),
        check_vma=False,
    )(factors)
    return {name: x.astype(jnp.float32) for name, x in summed.items()}


def _split(mesh: AbstractMesh, names: tuple[str, ...], shape) -> PartitionSpec:
    """Over these mesh axes, along the largest axis that divides; else whole."""
    count = math.prod(mesh.shape[name] for name in names)
    found = [(size, -axis) for axis, size in enumerate(shape) if size % count == 0]
    spec = [None] * len(shape)
    if found:
        spec[-max(found)[1]] = names
    return PartitionSpec(*spec)


def _load(error: Array) -> Array:
    """As float32."""
    return unpack(error, MEAN) if error.dtype == jnp.uint16 else error


def _store(error: Array, dtype: Any) -> Array:
    """The inverse of `_load`."""
    return pack(error, MEAN) if dtype == jnp.uint16 else error


class Sent(NamedTuple):
    """Bytes of what is summed over the workers in an update, with all matrices whole
    and compressed. error: bytes of a worker's errors."""

    exact: int
    compressed: int
    error: int


def count_bytes(
    config: PowerSGD, matrices: Mapping[str, Matrices], params: Any
) -> Sent:
    """What a tree of shapes sends in an update after the first `start`."""
    whole = 4 * sum(leaf.size for leaf in jax.tree.leaves(params))
    inside = 4 * sum(math.prod(one.shape) for one in matrices.values())
    factors = sum(
        math.prod(shape)
        for one in matrices.values()
        for shape in one.factor_shapes(config.rank)
    )
    size = config.bits // 8
    error = inside // 4 * size if config.feedback else 0
    return Sent(whole, whole - inside + size * factors, error)
