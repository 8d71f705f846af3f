"""What a user gave to import: files of weights, config files and others."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cogjax.errors import UserError, shown
from cogjax.interop.containers import kind_of_file, open_tensors
from cogjax.interop.pickles import NoArrays
from cogjax.interop.safetensors import failed_download
from cogjax.interop.stored import StoredTensor
from cogjax.plain_yaml import NoAliases

# Names of what surrounds the weights in checkpoints of trainers.
_ROOTS = ("state_dict", "model_state_dict", "module", "model")
# What trainers keep beside the weights, and nothing here needs.
_BESIDE = re.compile(
    r"(optimizer|lr_sched|scheduler|callbacks|loops|hparams|hyper_parameters|amp|"
    r"grad_scaler|loss_scaler|rng_state|rng_tracker|random_rng|cuda_rng|torch_rng|"
    r"client_lr|buffer_names|param_shapes)[\w]*(\..*)?"
)
# DeepSpeed's and Megatron's files that name the folder with the newest weights.
_NEWEST = ("latest", "latest_checkpointed_iteration.txt")
# Bytes of a config file; those of VQGANs have 3 kB, a vocab.json of CLIP has 860.
_MAX_CONFIG = {".json": 1 << 20, ".yaml": 1 << 16, ".yml": 1 << 16}
# What PyYAML raises for damaged files and for values that are not of their tags.
_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError)
# Suffixes of what is distributed as weights or tokenizers, never a page or pointer.
_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pkl", ".pt", ".pth", ".msgpack")
_DISTRIBUTED = (*_WEIGHTS, ".model")
Tensors = Mapping[str, StoredTensor]


@dataclass(frozen=True)
class Source:
    """Files, by path: weights, config files, and others, such as text tokenizers.

    weights: tensors by name, without what a trainer puts around them. beside: names of
    tensors that are left out for that reason. given: files that were named one by one.
    """

    weights: Mapping[Path, Tensors]
    configs: Mapping[Path, Mapping[str, Any]]
    others: Sequence[Path] = ()
    beside: Sequence[str] = ()
    given: Sequence[Path] = field(default=())

    @property
    def tensors(self) -> dict[str, StoredTensor]:
        """Those of all files; UserError for a name that two of them have."""
        found: dict[str, StoredTensor] = {}
        for path, tensors in self.weights.items():
            if twice := found.keys() & tensors.keys():
                raise UserError(
                    f"{path} and another file both have {shown(min(twice))}: give the "
                    "files of one model"
                )
            found |= tensors
        return found

    @property
    def names(self) -> set[str]:
        """Names of the tensors of all files."""
        return {name for tensors in self.weights.values() for name in tensors}

    def config(self, key: str) -> dict[str, Any]:
        """The config files that have a key, joined; {} if none has."""
        found: dict[str, Any] = {}
        for config in self.configs.values():
            if key in config:
                found |= config
        return found


def open_source(paths: Sequence[Path]) -> Source:
    """Opens files and the files in folders; no tensor is read.

    In a folder with safetensors other files of weights are left alone: they are copies.
    Raises UserError for what is missing, damaged, or no weights at all.
    """
    weights, configs, others, beside, given = {}, {}, [], [], []
    for path in paths:
        if not path.exists():
            raise UserError(f"cannot read {path}: there is no such file or folder")
        files = _files_of(path) if path.is_dir() else [path]
        given += [] if path.is_dir() else [path]
        for file in files:
            if kind := kind_of_file(file):
                found = _opened(file, file in given)
                # Nothing is around those of Flax: "model" is a part of their names.
                is_flax = kind == "flax"
                tensors, more = (found, []) if is_flax else _unwrapped(found, file)
                beside += more
                if tensors:
                    weights[file] = tensors
            elif (config := _read_config(file)) is not None:
                configs[file] = config
            else:
                if file in given or file.suffix in _DISTRIBUTED:
                    _check_download(file)
                others.append(file)
    if not weights:
        names = ", ".join(str(path) for path in paths)
        raise UserError(f"{names}: no weights of PyTorch, Flax or safetensors here")
    return Source(weights, configs, others, beside, given)


def _check_download(file: Path) -> None:
    if fault := failed_download(file):
        raise UserError(f"{file} is not the file that was to be fetched: {fault}")


def _opened(file: Path, was_named: bool) -> Tensors:
    """Tensors of a file; none of one that a trainer left in a folder."""
    try:
        return open_tensors(file)
    except NoArrays:
        if was_named:
            raise
        return {}


def _files_of(folder: Path) -> list[Path]:
    """Files of a folder, and of the one in it that is named as the newest."""
    found = [path for path in sorted(folder.iterdir()) if path.is_file()]
    found = [path for path in found if not path.name.startswith(".")]
    for path in [path for path in found if path.name in _NEWEST]:
        name = path.read_bytes()[:100].decode(errors="replace").strip()
        inner = folder / name
        if name != inner.name or not inner.is_dir():
            raise UserError(f"{path} names {shown(name)}, which is no folder beside it")
        found += [file for file in sorted(inner.iterdir()) if file.is_file()]
    kinds = {path: kind_of_file(path) for path in found}
    if "safetensors" in kinds.values():
        copies = _WEIGHTS[1:]
        found = [
            path
            for path in found
            if kinds[path] == "safetensors"
            or not (kinds[path] or path.suffix in copies)
        ]
    _check_shards(found)
    return found


def _check_shards(files: Sequence[Path]) -> None:
    """UserError if an index names a file that is not there, beside one that is."""
    for path in files:
        if not path.name.endswith(".index.json"):
            continue
        shards = (_read_config(path) or {}).get("weight_map")
        if not isinstance(shards, Mapping):
            raise UserError(f"{path} is no index of weights: it has no weight_map")
        names = {str(name) for name in shards.values()}
        missing = names - {each.name for each in files}
        # An index of copies, as for another framework, names none of the files.
        if missing and missing != names:
            name = shown(min(missing))
            raise UserError(f"{path} names {name}, which is missing: fetch it")


def _read_config(path: Path) -> dict[str, Any] | None:
    """A JSON or YAML file of sections, None for another file."""
    if path.stat().st_size > _MAX_CONFIG.get(path.suffix, -1):
        return None
    try:
        text = path.read_text(encoding="utf-8")
        is_json = path.suffix == ".json"
        found = json.loads(text) if is_json else yaml.load(text, NoAliases)
    except (*_DAMAGED, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{path} is damaged: {reason}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return found if isinstance(found, dict) else None


def _unwrapped(tensors: Tensors, path: Path) -> tuple[Tensors, list[str]]:
    """(tensors without the names of what surrounds them, names of what is beside)."""
    beside: list[str] = []
    while True:
        inside = {name for name in tensors if not _BESIDE.fullmatch(name)}
        if not inside:
            return {}, [*beside, *tensors]
        roots = {name.partition(".")[0] for name in inside}
        if len(roots) > 1 and roots & set(_ROOTS[:2]):
            odd = min(name for name in inside if not name.startswith(_ROOTS[:2]))
            raise UserError(
                f"{path} has {shown(odd)} beside its weights, which nothing here knows"
            )
        if len(roots) != 1 or not roots <= set(_ROOTS):
            return tensors, beside
        [root] = roots
        beside += sorted(tensors.keys() - inside)
        tensors = {name.removeprefix(f"{root}."): tensors[name] for name in inside}
