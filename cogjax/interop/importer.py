"""What a family says about released weights: how they are known, and what they become.

    IMPORTER = Importer(about, detect, plan, exports)      in families/x/imports.py

`plan` looks at names, shapes and config files alone; `importing.py` reads the tensors
one by one, when all of them have been compared with the rules. `exports` gives the same
rules for a network of ours, and `exporting/public.py` follows them backwards.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.catalogue import importers, resolve
from cogjax.errors import UserError
from cogjax.interop.rules import Rule, sources_of
from cogjax.interop.source import Source, Tensors
from cogjax.interop.tree import check_leaves, flatten
from cogjax.models.registry import shapes_of


@dataclass(frozen=True)
class Conversion:
    """One network: its config, and how tensors make its leaves.

    dropped: pattern of the names of tensors that are not needed.
    """

    config: Any
    rules: Sequence[Rule]
    tensors: Tensors
    dropped: str = "(?!)"  # Matches nothing.

    @property
    def unused(self) -> list[str]:
        """Names of tensors that are dropped."""
        return sorted(x for x in self.tensors if re.fullmatch(self.dropped, x))

    def check(self, what: str) -> None:
        """UserError naming tensors that are missing, unknown, or of another form.

        All of other shapes are named, and the first that is not of floats.
        """
        unused = set(self.unused)
        used = {name: x for name, x in self.tensors.items() if name not in unused}
        check_leaves(used, sources_of(self.rules), what)
        for name, x in used.items():
            if not np.issubdtype(x.dtype, np.floating):
                raise UserError(
                    f"{what}: {name} is {x.dtype}, expected floats: take weights that "
                    "are not quantized"
                )
        leaves = {rule.leaf for rule in self.rules}
        if wrong := leaves ^ self.leaves.keys():
            raise ValueError(f"no rules, or rules for no leaves: {sorted(wrong)}")

    @property
    def leaves(self) -> dict[str, Any]:
        """Shapes of parameters and state by their paths."""
        return leaves_of(self.config)


@dataclass(frozen=True)
class Import:
    """The model that a source becomes; fields are as of `Model`.

    licence: of the released weights, as known. others: files of text that were used.
    """

    family: str
    components: Mapping[str, Conversion]
    licence: str
    layout: Any = None
    text: Any = None
    sampler: Any = None
    notes: Sequence[str] = ()
    others: Sequence[Path] = field(default=())


@dataclass(frozen=True)
class Export:
    """How public code keeps a network.

    public: what loads it there. rules: those of its import. files: the names of files
    by the beginnings of names of the tensors in them, which are left off. others: the
    contents of small files beside them. text: name of the text tokenizer's file, which
    is one of those or is kept as it is; empty where the public code has none. notes:
    what to know.
    """

    public: str
    rules: Sequence[Rule]
    files: Mapping[str, str]
    others: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    notes: Sequence[str] = ()


# (config, the `Model` that it is of, whether for PyTorch) -> how it is kept; None for a
# network that the public code cannot hold.
Exporter = Callable[[Any, Any, bool], Export | None]


@dataclass(frozen=True)
class Importer:
    """about: the files in a few words. detect: whether a source is of them.

    exports: the way back, by kinds of networks.
    """

    about: str
    detect: Callable[[Source], bool]
    plan: Callable[[Source], Import]
    exports: Mapping[str, Exporter] = field(default_factory=dict)


def part_of(name: str, source: Source) -> Import:
    """What another importer makes of some files of a source; UserError if nothing."""
    importer = resolve(importers()[name])
    if not importer.detect(source):
        path = next(iter(source.weights))
        raise UserError(f"{path} is no {importer.about}, which is expected beside it")
    return importer.plan(source)


def lost_size(image_size: int, usual: int) -> list[str]:
    """Notes of an export whose files do not say the size of images."""
    if image_size == usual:
        return []
    return [
        f"the files do not say that images have {image_size} px: an import takes them "
        f"to have {usual}"
    ]


@contextlib.contextmanager
def making(what: str) -> Iterator[None]:
    """UserError, which names `what`, for sizes that a config refuses in the block."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"these weights make no {what}: {error}") from error


def leaves_of(config: Any) -> dict[str, Any]:
    """Shapes of a network's parameters and state by their paths.

    UserError for sizes that make no network.
    """
    try:
        params, state = shapes_of(config)
    except ValueError as error:
        raise UserError(
            f"the sizes of these weights make no network: {error}"
        ) from error
    return flatten({**params, **state})


def shape_of(tensors: Tensors, name: str, sides: int) -> tuple[int, ...]:
    """Shape of a tensor with so many sides; UserError if there is no such tensor."""
    found = tensors.get(name)
    if found is None or len(found.shape) != sides:
        is_there = f"is {found.shape}" if found else "is missing"
        raise UserError(f"{name} {is_there}, expected {sides} sides: another model?")
    return found.shape


def count(tensors: Tensors, pattern: str) -> int:
    """One more than the largest number that stands at the group of a pattern.

    UserError if more than one below it is missing: work is never more than the file is.
    """
    found = (re.fullmatch(pattern, name) for name in tensors)
    # Longer numbers are no layers, and would not be ints in short time.
    numbers = {int(match[1]) for match in found if match and len(match[1]) < 5}
    total = max(numbers, default=-1) + 1
    if total > len(numbers) + 1:
        raise UserError(
            f"only {len(numbers)} of {total} layers or blocks are there: give all "
            "files of the model"
        )
    return total
