"""How the tensors of a file make the leaves of a network, and the other way round.

A network has a list of rules. A file is compared with all of them before the first one
is followed, so that one message names all tensors that are missing, unknown or of
another shape. PyTorch keeps kernels as [outputs, inputs], convolutions as [o, i, y, x].
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Shapes = Mapping[str, Any]  # of leaves, by paths joined with "/"


@dataclass(frozen=True)
class Rule:
    """One leaf: `make` of the tensors of each part, one behind the other.

    sources: shapes of the tensors that it needs. parts: names of those of each part.
    """

    leaf: str
    sources: dict[str, tuple[int, ...]]
    parts: tuple[tuple[str, ...], ...]
    make: Callable[..., np.ndarray]

    def values(self, read: Callable[[str], np.ndarray]) -> Iterator[np.ndarray]:
        """The values of the leaf in order, part by part."""
        for names in self.parts:
            yield self.make(*map(read, names))

    def tensors(self, part: int, leaf: np.ndarray) -> dict[str, np.ndarray]:
        """The tensors that make a part of the leaf, bit by bit: `values` inverted.

        ValueError if values are computed from tensors and not only moved.
        """
        sizes = [sum(math.prod(self.sources[x]) for x in names) for names in self.parts]
        values = np.split(leaf.reshape(-1), np.cumsum(sizes)[:-1])[part]
        names = self.parts[part]
        shapes = [self.sources[name] for name in names]
        if values.size != sum(map(math.prod, shapes)):
            raise ValueError(f"{self.leaf} is computed of {', '.join(names)}")
        found = [np.empty(shape, values.dtype) for shape in shapes]
        made = self.make(*found)
        if np.may_share_memory(made, found[0]):
            made[...] = values.reshape(made.shape)  # Made is a view of the tensor.
        else:
            order = self._order(shapes)
            whole = np.empty(values.size, values.dtype)
            whole[order] = values.reshape(-1)
            found = _split(whole, shapes)
        return dict(zip(names, found, strict=True))

    def _order(self, shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Where in its tensors, one behind the other, each value of a part is."""
        count = sum(map(math.prod, shapes))
        order = self.make(*_split(np.arange(count), shapes)).reshape(-1)
        if not np.array_equal(np.sort(order), np.arange(count)):
            raise ValueError(f"{self.leaf} is computed of {len(shapes)} tensors")
        return order


def _split(whole: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Arrays of these shapes that lie one behind the other."""
    parts = np.split(whole, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
    return [x.reshape(shape) for x, shape in zip(parts, shapes, strict=True)]


def of_one(
    leaf: str, source: str, shape: Sequence[int], make: Callable = lambda x: x
) -> Rule:
    """A leaf made of one tensor, which is of that shape."""
    return Rule(leaf, {source: tuple(shape)}, ((source,),), make)


def copy(leaf: str, source: str, wanted: Shapes) -> Rule:
    """The tensor as it is."""
    return of_one(leaf, source, wanted[leaf].shape)


def layer(wanted: Shapes, path: str, weight: str, bias: str) -> list[Rule]:
    """The kernel of a dense layer or a convolution, and its bias if it has one."""
    kernel = f"{path}/kernel"
    *sides, inputs, outputs = wanted[kernel].shape
    order = (2, 3, 1, 0) if sides else (1, 0)
    shape = outputs, inputs, *sides
    rules = [of_one(kernel, weight, shape, lambda x: x.transpose(order))]
    if f"{path}/bias" in wanted:
        rules.append(copy(f"{path}/bias", bias, wanted))
    return rules


def stacked(
    wanted: Shapes, leaf: str, name: str, depth: int, num_inputs: int = 1
) -> Rule:
    """One leaf for all layers; `name` has a place for the layer's number.

    num_inputs: axes of a kernel that are inputs. All other leaves are vectors.
    """
    names, own = [name.format(i) for i in range(depth)], wanted[leaf].shape[1:]
    shape = (math.prod(own),)
    if leaf.endswith("/kernel"):
        shape = math.prod(own[num_inputs:]), math.prod(own[:num_inputs])
    parts = tuple((each,) for each in names)
    return Rule(leaf, dict.fromkeys(names, shape), parts, lambda x: x.T.reshape(own))


def stacked_modules(
    wanted: Shapes, names: Mapping[str, str], prefix: str, depth: int
) -> Iterator[Rule]:
    """`stacked` of all leaves of the modules in `names`, {ours: theirs}.

    prefix: of their names, with a place for the layer's number.
    """
    for leaf in wanted:
        *_, module, kind = f"/{leaf}".split("/")
        if module not in names:
            continue
        name = f"{prefix}{names[module]}.{'bias' if kind == 'bias' else 'weight'}"
        # Both axes of heads are inputs of what is behind attention.
        yield stacked(wanted, leaf, name, depth, 2 if module == "attn_out" else 1)


def joined(
    wanted: Shapes, leaf: str, names: Sequence[str], depth: int, num_inputs: int = 1
) -> Rule:
    """One leaf for all layers, of several tensors each side by side, such as query,
    key and value; `names` have places for the layer's number, others as of `stacked`.
    """
    own = wanted[leaf].shape[1:]
    inputs = own[:num_inputs] if leaf.endswith("/kernel") else ()
    outputs = math.prod(own[len(inputs) :]) // len(names)
    shape = (outputs, math.prod(inputs)) if inputs else (outputs,)
    parts = tuple(tuple(name.format(i) for name in names) for i in range(depth))
    sources = {name: shape for part in parts for name in part}

    def make(*arrays: np.ndarray) -> np.ndarray:
        return np.concatenate([x.T for x in arrays], axis=-1).reshape(own)

    return Rule(leaf, sources, parts, make)


def layers_of(wanted: Shapes) -> list[str]:
    """Paths of what has leaves."""
    return sorted({path.rpartition("/")[0] for path in wanted if "/" in path})


class Shaped(NamedTuple):
    """Anything with a shape."""

    shape: tuple[int, ...]


def sources_of(rules: Sequence[Rule]) -> dict[str, Shaped]:
    """All tensors that rules need, by name."""
    return {name: Shaped(x) for rule in rules for name, x in rule.sources.items()}
