"""Adapters as files, and models with adapters.

An adapter folder is as PEFT writes it: `adapter_config.json`, with an entry "cogjax" of
our own, and `adapter_model.safetensors` with `base_model.model.NAME.lora_A.weight` and
`lora_B.weight`, one of each a layer. In use its changes are added to the weights when a
model is loaded, before these are packed: whatever the model does, it does with them.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.config import load_json, save_json, section
from cogjax.data.word_list import WordList
from cogjax.errors import UserError, shown
from cogjax.files import FolderKind, file_sha256, partial_folder
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.interop.tree import check_values, flatten, unflatten
from cogjax.model import Component, Model, digest
from cogjax.nn.lora import LoRAConfig, Matrix, matrix_of, merge

CONFIG, WEIGHTS, WORDS = "adapter_config.json", "adapter_model.safetensors", "words.txt"
_MAX_WEIGHT = 100.0  # What is beyond is a slip.


def _files(config: dict[str, Any]) -> list[str] | None:
    return [WEIGHTS, WORDS] if config.get("peft_type") == "LORA" else None


ADAPTER = FolderKind("LoRA folder", CONFIG, _files)


@dataclass(frozen=True)
class Base:
    """The network that an adapter changes.

    component: its name in a model. sha256: `digest` of it. source: the model's name or
    folder where the adapter was trained.
    """

    component: str
    sha256: str
    source: str = ""


@dataclass(frozen=True, eq=False)
class Adapter:
    """What LoRA has learnt.

    changes: nested, as of `nn/lora.py`. words: of the texts that the base and the
    adapter were trained on; None if they are not known.
    """

    changes: Mapping[str, Any]
    config: LoRAConfig
    base: Base
    words: WordList | None = None


@dataclass(frozen=True)
class _Stored:
    """What is read of adapter_config.json; weights: sha256 of the other file."""

    r: int
    lora_alpha: float
    cogjax: Base
    weights: str


def save_adapter(
    adapter: Adapter, params: Any, folder: str | os.PathLike, overwrite: bool = False
) -> Path:
    """Writes an adapter folder; with `overwrite` it replaces another adapter.

    params: of the base, nested arrays or their shapes. UserError if the folder holds
    anything else.
    """
    folder, base = ADAPTER.check(folder, overwrite), adapter.base
    flat, tensors, modules = flatten(adapter.changes), {}, set()
    for path, matrix in _matrices(params):
        if f"{path}/a" in flat:
            pair = flat[f"{path}/a"], flat[f"{path}/b"]
            tensors |= _tensors(_names(base.component, path, matrix), matrix, *pair)
            modules.add(path.split("/")[-2])
    with partial_folder(folder) as partial:
        save_tree(partial / WEIGHTS, tensors, None)
        stored = {
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": base.source,
            "r": adapter.config.rank,
            "lora_alpha": adapter.config.alpha,
            "lora_dropout": 0.0,
            "target_modules": sorted(modules),
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "cogjax": asdict(base),
            "weights": file_sha256(partial / WEIGHTS),
        }
        save_json(stored, partial / CONFIG)
        if adapter.words:
            adapter.words.save(partial / WORDS)
        ADAPTER.publish(partial, folder, overwrite)
    return folder


def with_adapters(model: Model, adapters: Mapping[str | os.PathLike, float]) -> Model:
    """The model with the changes of adapter folders, each times its weight, added.

    UserError for a folder that is no adapter, is damaged or belongs to another model.
    """
    if not adapters:
        return model
    found = model
    for folder, weight in adapters.items():
        _check_weight(folder, weight)
        adapter = load_adapter(folder, model)
        name, scale = adapter.base.component, weight * adapter.config.scale
        params = merge(found[name].params, adapter.changes, scale)
        found = found.with_component(name, replace(found[name], params=params))
        found = replace(found, words=_both(found.words, adapter.words))
    used = {Path(folder).name: weight for folder, weight in adapters.items()}
    return replace(found, card={**found.card, "adapters": used})


def load_adapter(folder: str | os.PathLike, model: Model) -> Adapter:
    """Reads the adapter of a model; UserError for a folder that does not fit it."""
    folder = Path(folder)
    stored, weights = _read_config(folder), folder / WEIGHTS
    base, config = stored.cogjax, LoRAConfig(stored.r, stored.lora_alpha)
    if base.sha256 != digest(model[base.component]):
        raise UserError(
            f"{folder} was trained on another {base.component} than this model's: load "
            f"it with {base.source or 'the model it was trained on'}"
        )
    tensors = load_tree(weights)
    if file_sha256(weights) != stored.weights:
        raise UserError(f"{weights} has changed since it was written: copy it again")
    check_values(tensors, {n: np.zeros(0, np.float32) for n in tensors}, str(weights))
    changes = _changes(tensors, model[base.component], base.component, weights)
    words = folder / WORDS
    return Adapter(
        changes, config, base, WordList.load(words) if words.is_file() else None
    )


def _read_config(folder: Path) -> _Stored:
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} is not an adapter folder: it has no {CONFIG}")
    config = load_json(path)
    if config.get("peft_type") != "LORA" or "cogjax" not in config:
        raise UserError(f"{path} is of no LoRA that cogjax has trained")
    own = ("r", "lora_alpha", "cogjax", "weights")
    try:
        found = section(_Stored, {name: config[name] for name in own if name in config})
        LoRAConfig(found.r, found.lora_alpha)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if found.r < 1:
        raise UserError(f"{path}: r is {found.r}, expected 1 or more")
    return found


def _check_weight(folder: Any, weight: Any) -> None:
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not abs(weight) <= _MAX_WEIGHT:
        raise UserError(
            f"the weight of adapter {folder} is {shown(weight)}, expected a number "
            f"from {-_MAX_WEIGHT:g} to {_MAX_WEIGHT:g}"
        )


def _both(one: WordList | None, other: WordList | None) -> WordList | None:
    """The words of two lists; None where one is not known, so that no word is new."""
    return WordList(one.words | other.words) if one and other else None


def _matrices(params: Any) -> Iterator[tuple[str, Matrix]]:
    """(path, form) of each kernel."""
    for path, leaf in flatten(params).items():
        if matrix := matrix_of(path.split("/"), leaf.shape):
            yield path, matrix


def _names(component: str, path: str, matrix: Matrix) -> list[str]:
    """PEFT's name of a kernel, or of each layer where they are stacked."""
    parts = ["base_model.model", component, *path.split("/")[:-1]]
    if not matrix.stack:
        return [".".join(parts)]
    place = len(parts) - parts[::-1].index("layers")
    layers = range(matrix.stack[0])
    return [".".join([*parts[:place], str(i), *parts[place:]]) for i in layers]


def _tensors(names: list[str], matrix: Matrix, a: Any, b: Any) -> dict[str, np.ndarray]:
    """A and B of one kernel, as PEFT keeps them, by name."""
    a, b = (np.asarray(x).reshape(len(names), *x.shape[-2:]) for x in (a, b))
    a, b = np.swapaxes(a, 1, 2), np.swapaxes(b, 1, 2)  # [l, r, i], [l, o, r]
    if len(matrix.inputs) == 3:  # A convolution: [l, r, c, y, x], [l, o, r, 1, 1]
        a = np.moveaxis(a.reshape(*a.shape[:2], *matrix.inputs), -1, 2)
        b = b[..., None, None]
    found = {f"{name}.lora_A.weight": x for name, x in zip(names, a, strict=True)}
    return found | {
        f"{name}.lora_B.weight": x for name, x in zip(names, b, strict=True)
    }


def _pair(tensors: Mapping[str, Any], names: list[str], matrix: Matrix) -> Any:
    """The inverse of `_tensors`: {"a", "b"}; ValueError for shapes that do not fit."""
    a = np.stack([tensors[f"{name}.lora_A.weight"] for name in names])
    b = np.stack([tensors[f"{name}.lora_B.weight"] for name in names])
    if len(matrix.inputs) == 3:
        a, b = np.moveaxis(a, 2, -1), b[..., 0, 0]
    inputs, outputs = math.prod(matrix.inputs), math.prod(matrix.outputs)
    a, b = a.reshape(len(names), -1, inputs), b.reshape(len(names), outputs, -1)
    if a.shape[1] != b.shape[2]:
        raise ValueError(f"ranks {a.shape[1]} and {b.shape[2]}")
    a, b = np.swapaxes(a, 1, 2), np.swapaxes(b, 1, 2)
    return {"a": a, "b": b} if matrix.stack else {"a": a[0], "b": b[0]}


def _changes(
    tensors: Mapping[str, Any], part: Component, component: str, path: Path
) -> dict[str, Any]:
    """The adapter of a component; UserError for tensors that it has no place for."""
    flat, left = {}, set(tensors)
    for kernel, matrix in _matrices(part.params):
        names = _names(component, kernel, matrix)
        own = {f"{name}.lora_{x}.weight" for name in names for x in "AB"}
        if not own & left:
            continue
        try:
            pair = _pair(tensors, names, matrix)
        except (KeyError, ValueError, IndexError) as error:
            raise UserError(f"{path} does not fit {kernel}: {error}") from error
        flat |= {f"{kernel}/{name}": x for name, x in pair.items()}
        left -= own
    if left or not flat:
        raise UserError(f"{path}: {shown(min(left, default=''))} changes no weight")
    return unflatten(flat)
