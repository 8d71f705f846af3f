"""A model as files: config.json, text.model, words.txt, .safetensors of components.

    {"format": 2, "family": ..., "text": sha256, "words": sha256,
     "components": {name: {"kind": ..., "config": {...}, "sha256": ...}},
     "layout": {...}, "sampler": {...}, "card": {...}, "seal": sha256 of all that}

A tokenizer folder is a model with the component "tokenizer" alone. A model may have no
words.txt, the words of the texts it was trained on. Every file is compared with its
sha256, every weight with its config; nothing is executed. Who changes config.json on
purpose removes its seal.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from cogjax.catalogue import families, resolve
from cogjax.config import load_json, save_json, section
from cogjax.data.text_files import load_text
from cogjax.data.word_list import WordList
from cogjax.errors import UserError, shown
from cogjax.files import FolderKind, file_sha256, partial_folder
from cogjax.interop.safetensors import load_tree, open_safetensors, save_tree
from cogjax.interop.tree import check_leaves, check_values, flatten
from cogjax.model import Component, Model
from cogjax.model_format_1 import upgrade
from cogjax.models.registry import config_class, shapes_of
from cogjax.sampling.diffusion.settings import CascadeSampler
from cogjax.sampling.tokens.autoregressive import Sampler

FORMAT = 2
WORDS = "words.txt"


def _files(config: dict[str, Any]) -> list[str] | None:
    """Files that a config.json names; None if it is not of a model or tokenizer."""
    if config.get("format") == FORMAT:
        names = config["components"]
    elif config.get("format") == 1 and "tokenizer" in config:
        names = {"tokenizer", "transformer", "reconstructor"} & config.keys()
    else:
        return None
    words = [WORDS] if config.get("words") else []
    return [*(f"{name}.safetensors" for name in names), "text.model", *words]


MODEL = FolderKind("model folder", "config.json", _files)


@dataclass(frozen=True)
class StoredComponent:
    """The entry of one weights file in config.json; format 1 has no sha256."""

    kind: str
    config: dict[str, Any]
    sha256: str = ""


@dataclass(frozen=True)
class StoredModel:
    """The contents of config.json. text, words: sha256 of a file, empty without it.

    seal: `seal_of` the other fields; empty in folders of before there were seals.
    """

    format: int
    family: str
    components: dict[str, StoredComponent]
    text: str = ""
    layout: dict[str, Any] | None = None
    sampler: Sampler | CascadeSampler = Sampler()
    card: dict[str, Any] = field(default_factory=dict)
    words: str = ""
    seal: str = ""

    def __post_init__(self):
        for name in self.components:
            # Names of components are names of files, which must not leave the folder.
            if not name.isidentifier():
                raise ValueError(f"{shown(name)} cannot be the name of a component")


def find(source: str | os.PathLike) -> Path:
    """Folder of a shipped model's name, or `source` itself if it is a folder.

    A training run is the model that it has exported.
    """
    if not isinstance(source, str | os.PathLike):
        raise UserError(
            f"the model is {shown(source)}, expected a model folder or a shipped "
            "model's name"
        )
    if Path(source).is_dir():
        return _of_run(Path(source))
    there = shipped()
    if str(source) not in there:
        known = ", ".join(there) or "none"
        raise UserError(
            f"no model {str(source)!r}: give a model folder or one of: {known}"
        )
    return there[str(source)]


def _of_run(folder: Path) -> Path:
    """The export of a training run; any other folder as it is."""
    export = folder / "export"
    if (folder / "checkpoints").is_dir() and not (export / MODEL.head).is_file():
        raise UserError(
            f"{folder} is a training run without an export: it has not ended; make one "
            f"with `cogjax export {folder} --out DIR` and give that"
        )
    return export if (export / MODEL.head).is_file() else folder


def find_file(source: str | os.PathLike, name: str) -> Path:
    """A file of a model folder or of a shipped model's name.

    Files that shipped models share are in the package once, by their sha256.
    """
    folder = find(source)
    path = folder / name
    if path.exists() or folder.resolve().parent != _assets().resolve():
        return path
    stored = read_config(folder)
    sha256 = {f"{key}.safetensors": c.sha256 for key, c in stored.components.items()}
    sha256["text.model"] = stored.text
    shared = _assets() / "shared" / f"{sha256.get(name)}{path.suffix}"
    return shared if shared.exists() else path


def find_text(source: str | os.PathLike) -> Path:
    """Text model file: `source`, or that of the folder or shipped model it names."""
    if Path(source).is_dir() or str(source) in shipped():
        return find_file(source, "text.model")
    return Path(source)


def weights_of(source: str | os.PathLike) -> list[Path]:
    """Files of the weights in a model folder or of a shipped model's name."""
    folder = find(source)
    names = (f"{name}.safetensors" for name in read_config(folder).components)
    return [path for name in names if (path := find_file(folder, name)).exists()]


def is_model(folder: Path) -> bool:
    """Whether a folder has the config.json of a model, and not that of a run."""
    path = folder / "config.json"
    return path.is_file() and "format" in load_json(path)


def _assets() -> Path:
    return Path(str(resources.files("cogjax") / "assets"))


def shipped() -> dict[str, Path]:
    """Folders of the models in the package, by name."""
    return {p.parent.name: p.parent for p in sorted(_assets().glob("*/config.json"))}


def read_config(folder: Path) -> StoredModel:
    """Reads config.json, of format 1 too; UserError for one that does not fit."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} is not a model folder: it has no config.json")
    config = load_json(path)
    if "unfinished" in config:
        raise UserError(f"{folder} is only half written: save or export it again")
    version, family = config.get("format"), config.get("family")
    known = (*families(), "") if version == FORMAT else tuple(families())
    if type(version) is not int or version not in (1, FORMAT) or family not in known:
        raise UserError(
            f"{path} is format {shown(version)} of family {shown(family)}: this reads "
            f"1 and {FORMAT} of {', '.join(map(repr, families()))}"
        )
    try:
        config = upgrade(folder, config) if version == 1 else config
        stored = section(StoredModel, config)
    except (UserError, ValueError, TypeError, AttributeError) as error:
        # The sections of format 1 may be of any type.
        raise UserError(f"{path}: {error}") from error
    if version == FORMAT:
        _check_whole(folder, config, stored)
    return stored


def _check_whole(folder: Path, config: dict[str, Any], stored: StoredModel) -> None:
    """UserError for an entry that is lost: `save` writes all of them."""
    path, parts = folder / "config.json", stored.components
    # Folders of before there were words and seals have no entry of them.
    needed = {field.name for field in fields(StoredModel)} - {"words", "seal"}
    lost = sorted(needed - config.keys())
    lost += [f"components.{n}.sha256" for n, part in parts.items() if not part.sha256]
    if lost or not parts:
        raise UserError(f"{path} has no {(lost or ['components'])[0]}: export it again")
    named = {f"{name}.safetensors" for name in parts}
    named |= {"text.model"} if stored.text else set()
    there = [*folder.glob("*.safetensors"), *folder.glob("text.model")]
    if more := {each.name for each in there} - named:
        raise UserError(
            f"{path} does not name {min(more)}, which is beside it: move that away, or "
            "export the model again"
        )
    if stored.seal and stored.seal != seal_of(config):
        raise UserError(
            f"{path} has changed since it was written: copy or export the model again, "
            "or remove its seal if the change is yours"
        )


def seal_of(config: Mapping[str, Any]) -> str:
    """sha256 of the contents of config.json but for the seal itself."""
    rest = {key: value for key, value in config.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def load(source: str | os.PathLike) -> Model:
    """Reads the model in a folder, or a shipped one by its name.

    Raises UserError for a missing, damaged or unfitting file.
    """
    return _load(source, _component)


def load_outline(source: str | os.PathLike) -> Model:
    """As `load`, without weights: networks that are described and cannot run."""
    return _load(source, lambda *named: Component(_config(*named), {}))


def load_shapes(source: str | os.PathLike) -> Model:
    """As `load`, with the shapes of the weights in their place; no weight is read.

    Leaves are `jax.ShapeDtypeStruct`. Raises UserError for a file that is missing or
    holds other shapes; `verify` compares what is in it.
    """
    return _load(source, _shapes)


def _load(source: str | os.PathLike, component: Callable[..., Component]) -> Model:
    folder = find(source)
    stored = read_config(folder)
    text = layout = None
    if stored.text:
        path = find_text(folder)
        text = load_text(path)
        _check_file(path, stored.text)
    if stored.layout is not None:
        layout = _layout(folder, stored)
    components = {name: component(folder, stored, name) for name in stored.components}
    found = stored.family, components, layout, text, stored.sampler, stored.card
    return Model(*found, _words(folder, stored))


def verify(folder: Path) -> dict[str, str]:
    """The fault of each file of a model folder in words, "" for a good one.

    UserError if config.json cannot be read.
    """
    stored = read_config(folder)
    checks = {
        f"{name}.safetensors": functools.partial(_component, folder, stored, name)
        for name in stored.components
    }
    if stored.text:
        path = find_text(folder)
        checks["text.model"] = functools.partial(_check_file, path, stored.text)
    if stored.words:
        checks[WORDS] = functools.partial(_words, folder, stored)
    return {name: _fault(check) for name, check in checks.items()}


def _fault(check: Callable[[], Any]) -> str:
    try:
        check()
    except (UserError, OSError) as error:
        return str(error)
    return ""


def load_component(source: str | os.PathLike, name: str) -> Component:
    """As `load`, one component alone, such as the "tokenizer" of images."""
    folder = find(source)
    return _component(folder, read_config(folder), name)


def load_words(source: str | os.PathLike) -> WordList | None:
    """As `load`, the list of words alone; None if the model has none."""
    folder = find(source)
    return _words(folder, read_config(folder))


def _words(folder: Path, stored: StoredModel) -> WordList | None:
    if not stored.words:
        return None
    words = WordList.load(folder / WORDS)
    _check_file(folder / WORDS, stored.words)
    return words


def _layout(folder: Path, stored: StoredModel) -> Any:
    named = families()[stored.family].layout if stored.family else ""
    if not named:
        raise UserError(
            f"{folder}/config.json has a layout, which family "
            f"{shown(stored.family)} has not"
        )
    try:
        return section(resolve(named), stored.layout, "layout")
    except UserError as error:
        raise UserError(f"{folder}/config.json: {error}") from error


def _config(folder: Path, stored: StoredModel, name: str) -> Any:
    if name not in stored.components:
        there = ", ".join(stored.components) or "nothing"
        raise UserError(f"{folder} has no {name}, only {there}: give another folder")
    found = stored.components[name]
    try:
        return section(config_class(found.kind), found.config, name)
    except (UserError, ValueError) as error:
        raise UserError(f"{folder}/config.json, {name}: {error}") from error


def _shapes(folder: Path, stored: StoredModel, name: str) -> Component:
    part = _described(folder, stored, name)
    path = find_file(folder, f"{name}.safetensors")
    wanted = flatten({**part.params, **part.state})
    check_leaves(open_safetensors(path), wanted, str(path))
    return part


def _described(folder: Path, stored: StoredModel, name: str) -> Component:
    """A component with the shapes that its config gives its weights."""
    config = _config(folder, stored, name)
    try:
        return Component(config, *shapes_of(config))
    except ValueError as error:
        raise UserError(f"{folder}/config.json, {name}: {error}") from error


def _component(folder: Path, stored: StoredModel, name: str) -> Component:
    part = _described(folder, stored, name)
    path = find_file(folder, f"{name}.safetensors")
    tree = load_tree(path)
    flat, wanted = flatten(tree), flatten({**part.params, **part.state})
    check_leaves(flat, wanted, str(path))
    check_values(flat, wanted, str(path))
    _check_file(path, stored.components[name].sha256)
    return Component(part.config, tree, {key: tree.pop(key) for key in part.state})


def _check_file(path: Path, sha256: str) -> None:
    if sha256 and file_sha256(path) != sha256:
        raise UserError(
            f"{path} is not the file that its config.json names: copy or export the "
            "whole folder again"
        )


def save(
    model: Model,
    folder: str | os.PathLike,
    dtype: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes the model folder; `dtype` "float16" halves its size.

    With `overwrite` it replaces another model in the folder, with all its files.
    UserError if the folder holds anything else.
    """

    def write(name: str, path: Path) -> None:
        part = model.components[name]
        save_tree(path, {**part.params, **part.state}, dtype)

    return save_with(model, folder, write, overwrite)


def save_with(
    model: Model,
    folder: str | os.PathLike,
    write: Callable[[str, Path], None],
    overwrite: bool,
) -> Path:
    """As `save`; `write` writes the weights of a component of a name to a path.

    The components of `model` need no weights. Nothing is left if `write` raises.
    """
    folder = MODEL.check(folder, overwrite)
    with partial_folder(folder) as partial:
        stored = dataclasses.asdict(_write_parts(model, partial, write))
        # Sealed as it is read: a file has lists for tuples and texts for all keys.
        written = load_json(save_json(stored, partial / "config.json"))
        save_json({**written, "seal": seal_of(written)}, partial / "config.json")
        MODEL.publish(partial, folder, overwrite)
    return folder


def _write_parts(
    model: Model, folder: Path, write: Callable[[str, Path], None]
) -> StoredModel:
    """Writes all files but config.json; returns the contents of that."""
    components = {}
    for name, part in model.components.items():
        path = folder / f"{name}.safetensors"
        write(name, path)
        config = dataclasses.asdict(part.config)
        components[name] = StoredComponent(part.kind, config, file_sha256(path))
    text, words, layout = "", "", None
    if model.words:
        words = file_sha256(model.words.save(folder / WORDS))
    if model.text:
        text = file_sha256(model.text.save(folder / "text.model"))
    if model.layout is not None:
        layout = dataclasses.asdict(model.layout)
    found = model.family, components, text, layout, model.sampler, model.card
    return StoredModel(FORMAT, *found, words)
