"""Weights under the names of public code, by the rules of the import, backwards.

A network that no public code holds has its own names: the path of each leaf in a model
folder, with "." between its parts.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cogjax import model_folder
from cogjax.catalogue import importers, resolve
from cogjax.exporting.folder import Exported, check, write_export
from cogjax.interop.importer import Export
from cogjax.interop.rules import Rule, Shaped
from cogjax.interop.safetensors import write_leaves
from cogjax.interop.tree import flatten
from cogjax.model import Component, Model

OWN = "no public code: names of cogjax"


class _File(NamedTuple):
    """Shapes of tensors by name, and what reads one."""

    shapes: Mapping[str, Shaped]
    read: Callable[[str], np.ndarray]


def export_weights(
    source: str, out: Path, torch: bool, dtype: str, overwrite: bool = False
) -> Exported:
    """Writes the weights of a model as public code names them, with its other files.

    torch: as state dicts of PyTorch's modules, where a family has two layouts. dtype:
    that of the files, "float32" or "float16".

    UserError for a model that cannot be read, and for `out` that is taken; nothing is
    written then.
    """
    check(out, source, overwrite)
    model = model_folder.load(source)
    exports = {name: _export(model, name, torch) for name in model.components}
    texts = {each.text for each in exports.values() if each and each.text}
    others = {k: x for each in exports.values() if each for k, x in each.others.items()}

    def write(folder: Path) -> dict[str, Any]:
        for name, export in exports.items():
            for path, file in _files(name, model[name], export).items():
                write_leaves(
                    folder / path, file.shapes, dtype, lambda x, f=file: [f.read(x)]
                )
        for path, content in others.items():
            (folder / path).write_text(content, encoding="utf-8")
        if model.text:
            for path in (texts or {"text.model"}) - others.keys():
                model.text.save(folder / path)
        return _head(model, exports)

    write_export(out, "torch" if torch else "safetensors", write, overwrite)
    loads = {name: each.public if each else OWN for name, each in exports.items()}
    return Exported(loads, _notes(exports))


def _export(model: Model, name: str, torch: bool) -> Export | None:
    """How public code keeps a component, None if it cannot."""
    part = model[name]
    for spec in importers().values():
        make = resolve(spec).exports.get(part.kind)
        if make and (export := make(part.config, model, torch)):
            return export
    return None


def _files(name: str, part: Component, export: Export | None) -> dict[str, _File]:
    """The files of weights of a component, by their names."""
    leaves = flatten({**part.params, **part.state})
    if export is None:
        own = {leaf.replace("/", "."): np.asarray(x) for leaf, x in leaves.items()}
        shapes = {key: Shaped(x.shape) for key, x in own.items()}
        return {f"{name}.safetensors": _File(shapes, own.__getitem__)}
    tensors = _Tensors(leaves, export.rules)
    found = {}
    for start, path in export.files.items():
        shapes = {
            key.removeprefix(start): shape
            for key, shape in tensors.shapes.items()
            if key.startswith(start)
        }
        read = functools.partial(tensors.read, start)
        found[path] = _File(shapes, read)
    return found


class _Tensors:
    """All tensors that leaves are made of, of which one part is made at a time."""

    def __init__(self, leaves: Mapping[str, Any], rules: Sequence[Rule]):
        self._leaves, self._rules = leaves, {rule.leaf: rule for rule in rules}
        self._places = {
            name: (rule.leaf, part)
            for rule in rules
            for part, names in enumerate(rule.parts)
            for name in names
        }
        self._part = functools.lru_cache(maxsize=1)(self._make)
        self.shapes = {
            name: Shaped(self._rules[leaf].sources[name])
            for name, (leaf, _) in self._places.items()
        }

    def read(self, start: str, name: str) -> np.ndarray:
        """The tensor whose name is `start` and `name`."""
        return self._part(*self._places[start + name])[start + name]

    def _make(self, leaf: str, part: int) -> dict[str, np.ndarray]:
        rule = self._rules[leaf]
        return rule.tensors(part, np.asarray(self._leaves[leaf], order="C"))


def _head(model: Model, exports: Mapping[str, Export | None]) -> dict[str, Any]:
    components = {
        name: {
            "kind": model[name].kind,
            "loads in": export.public if export else OWN,
        }
        for name, export in exports.items()
    }
    return {
        "components": components,
        "licence": model.card.get("licence", ""),
        "notes": _notes(exports),
    }


def _notes(exports: Mapping[str, Export | None]) -> list[str]:
    notes = [note for export in exports.values() if export for note in export.notes]
    for name, export in exports.items():
        if export is None:
            notes.append(
                f"no public code holds the {name}: docs/importing.md has its names"
            )
    return notes
