"""`cogjax import`: weights of others become a model folder, tensor by tensor."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogjax import model_folder
from cogjax.catalogue import importers, resolve
from cogjax.errors import UserError, did_you_mean, shown
from cogjax.files import check_apart, file_sha256
from cogjax.interop.importer import Conversion, Import, Importer
from cogjax.interop.safetensors import write_leaves
from cogjax.interop.source import Source, open_source
from cogjax.model import Component, Model
from cogjax.sampling.tokens.autoregressive import Sampler


@dataclass(frozen=True)
class Imported:
    """What was done. name: of the importer. weights: number of values in components."""

    name: str
    components: dict[str, str]
    weights: int
    dropped: tuple[str, ...]
    notes: tuple[str, ...]


def import_model(
    sources: Sequence[Path],
    out: Path,
    name: str = "",
    dtype: str = "float32",
    overwrite: bool = False,
) -> Imported:
    """Writes the model in files or folders of others as a model folder.

    name: of the importer, "" to find it out. dtype: that the weights are stored in,
    "float32" or "bfloat16". Most memory is used for one tensor and its converted copy.

    Raises UserError, with nothing written, for files that are missing, damaged, unknown
    or do not fit each other, and for `out` that is taken.
    """
    model_folder.MODEL.check(out, overwrite)
    for path in sources:
        check_apart(out, path)
    source = open_source(sources)
    name, importer = _choose(source, name)
    plan = importer.plan(source)
    what = ", ".join(str(path) for path in sources)
    for part, conversion in plan.components.items():
        conversion.check(f"{what} ({name}, {part})")
    if left := sorted(set(source.given) - set(_used(source, plan))):
        raise UserError(f"{left[0]} is nothing that {name} reads: leave it out")
    dropped = [x for each in plan.components.values() for x in each.unused]
    dropped += source.beside
    card = {
        "what": f"imported: {importer.about}",
        "imported_as": name,
        "source": _digests(_used(source, plan)),
        "licence": plan.licence,
        "dtype": dtype,
        "dropped": _summary(dropped),
        "notes": list(plan.notes),
    }
    parts = {key: Component(x.config, {}) for key, x in plan.components.items()}
    sampler = plan.sampler or Sampler()
    model = Model(plan.family, parts, plan.layout, plan.text, sampler, card)

    def write(part: str, path: Path) -> None:
        conversion = plan.components[part]
        write_leaves(path, conversion.leaves, dtype, _reader(conversion))

    model_folder.save_with(model, out, write, overwrite)
    kinds = {key: part.kind for key, part in parts.items()}
    weights = sum(
        int(np.prod(leaf.shape))
        for each in plan.components.values()
        for leaf in each.leaves.values()
    )
    return Imported(name, kinds, weights, tuple(dropped), tuple(plan.notes))


def _used(source: Source, plan: Import) -> list[Path]:
    # A small vocab.json is a config file too.
    return list(dict.fromkeys([*source.weights, *source.configs, *plan.others]))


def _digests(paths: Sequence[Path]) -> dict[str, str]:
    """sha256 of files by their names, with their folders' where two have the same."""
    names = [path.name for path in paths]
    return {
        path.name if names.count(path.name) == 1 else str(path): file_sha256(path)
        for path in paths
    }


def _reader(conversion: Conversion):
    """The values of a leaf, part by part."""
    rules = {rule.leaf: rule for rule in conversion.rules}

    def parts(leaf: str) -> Iterator[Any]:
        return rules[leaf].values(lambda name: conversion.tensors[name].read())

    return parts


def _choose(source: Source, name: str) -> tuple[str, Importer]:
    """The importer of that name, or the one that knows the source."""
    table = importers()
    if name:
        if name not in table:
            raise UserError(f"unknown --family {name!r}{did_you_mean(name, table)}")
        return name, resolve(table[name])
    found = {key: resolve(spec) for key, spec in table.items()}
    known = {key: each for key, each in found.items() if each.detect(source)}
    if len(known) == 1:
        [(name, importer)] = known.items()
        return name, importer
    if known:
        raise UserError(
            f"these files may be of {' or '.join(known)}: say which by --family"
        )
    first = ", ".join(shown(each) for each in sorted(source.names)[:3])
    raise UserError(
        f"no family here has tensors such as {first}; known are {', '.join(found)}, "
        "see docs/importing.md"
    )


def _summary(names: Sequence[str]) -> list[str]:
    """Few words for many names: those of one first part are counted."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.partition(".")[0], []).append(name)
    return [
        each[0] if len(each) == 1 else f"{root}.* ({len(each)} tensors)"
        for root, each in groups.items()
    ]
