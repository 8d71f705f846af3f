"""Low-rank changes of a network's matrices (LoRA, Hu et al. 2021, arXiv 2106.09685).

An adapter is a tree like the parameters' with {"a": [l..., i, r], "b": [l..., r, o]} in
the place of each kernel that it changes, to W + scale * A B. No network knows of it:
the sum is made before the network is applied, so every task works alike.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.errors import UserError


@dataclass(frozen=True)
class LoRAConfig:
    """What is learnt beside frozen weights.

    rank: of the matrices that are learnt, 0 is off. alpha: A B is multiplied by alpha /
    rank. match: names of the matrices that change, such as "qkv", or regular
    expressions of the end of their paths; () is all.
    """

    rank: int = 0
    alpha: float = 16.0
    match: tuple[str, ...] = ()

    def __post_init__(self):
        if self.rank < 0 or not 0 < self.alpha < math.inf:
            raise UserError("config section 'lora': rank is 0 or more, alpha above 0")
        for pattern in self.match:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(
                    f"config key 'lora.match': {pattern!r} is no regular expression "
                    f"({error})"
                ) from error

    @property
    def scale(self) -> float:
        """The factor of A B."""
        return self.alpha / self.rank


class Matrix(NamedTuple):
    """How a kernel is a matrix, or one for each layer of a stack.

    stack: () or (layers,). inputs, outputs: sizes of its axes.
    """

    stack: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def matrix_of(path: Sequence[str], shape: Sequence[int]) -> Matrix | None:
    """The matrix that a parameter is; None for biases, norms, tables.

    path: its names, such as ("blocks", "layers", "qkv", "kernel").
    """
    stacked = int("layers" in path[:-1])
    stack, sizes = tuple(shape[:stacked]), tuple(shape[stacked:])
    if path[-1] != "kernel" or len(sizes) < 2:
        return None
    # Convolutions and projections of heads have one axis of outputs, others of inputs.
    convolution = not stacked and len(sizes) == 4
    inputs = len(sizes) - 1 if convolution or path[-2].endswith("out") else 1
    return Matrix(stack, sizes[:inputs], sizes[inputs:])


def init_adapter(key: Array, shapes: Any, config: LoRAConfig) -> dict[str, Any]:
    """A new adapter, float32: A is normal with variance 1 / i, B is zero.

    shapes: nested, of the network's parameters. UserError if `config.match` names none
    of its matrices.
    """
    found = _matrices(shapes)
    chosen = {path: each for path, each in found.items() if _matches(path, config)}
    if not chosen:
        names = sorted({path[-2] for path in found})
        raise UserError(
            f"config key 'lora.match': no matrix ends in {' or '.join(config.match)}, "
            f"the network has {', '.join(names)}"
        )
    adapter: dict[str, Any] = {}
    keys = jax.random.split(key, len(chosen))
    for each, (path, (stack, inputs, outputs)) in zip(
        keys, sorted(chosen.items()), strict=True
    ):
        inside = adapter
        for name in path[:-1]:
            inside = inside.setdefault(name, {})
        size = math.prod(inputs)
        a = jax.random.normal(each, (*stack, size, config.rank)) * size**-0.5
        b = jnp.zeros((*stack, config.rank, math.prod(outputs)))
        inside[path[-1]] = {"a": a, "b": b}
    return adapter


def merge(params: Any, adapter: Mapping[str, Any], scale: float) -> Any:
    """The parameters with `scale` * A B added; for jax arrays and for numpy's.

    A leaf stays the same object where the adapter has nothing.
    """
    if is_pair(adapter):
        a, b = adapter["a"], adapter["b"]
        return params + ((scale * a) @ b).reshape(params.shape).astype(params.dtype)
    changed = {name: merge(params[name], x, scale) for name, x in adapter.items()}
    return {**params, **changed}


def is_pair(adapter: Mapping[str, Any]) -> bool:
    """Whether this part of an adapter is the A and B of one kernel."""
    return adapter.keys() == {"a", "b"} and not isinstance(adapter["a"], Mapping)


def _matrices(shapes: Any, path: tuple[str, ...] = ()) -> dict[tuple, Matrix]:
    found: dict[tuple, Matrix] = {}
    for name, part in shapes.items():
        if isinstance(part, Mapping):
            found |= _matrices(part, (*path, name))
        elif matrix := matrix_of((*path, name), part.shape):
            found[*path, name] = matrix
    return found


def _matches(path: tuple[str, ...], config: LoRAConfig) -> bool:
    name = "/".join(path[:-1])
    patterns = (rf"(^|/)({pattern})$" for pattern in config.match)
    return not config.match or any(re.search(each, name) for each in patterns)
