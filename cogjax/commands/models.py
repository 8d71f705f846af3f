"""`cogjax models` and `cogjax info`: which models there are, and what one can do."""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cogjax.commands.arguments import add_command
from cogjax.commands.table import print_facts, print_table, sized
from cogjax.errors import UserError

# Fields of a network's config that say how large it is, in this order.
_SIZES = ("image_size", "codebook_size", "width", "text_width", "depth", "heads")
_SIZES += ("text_len", "vocab_size")
_LANGUAGES = {"English": "zh", "Chinese": "en"}  # What only the other one excludes.

# Keys of a card's figure.
_MEASURED = {"percent", "what", "n", "of", "judge"}
_DAMAGED = "(damaged)"  # In place of a family.


def add_parser(commands) -> None:
    """Adds `models` and `info`."""
    summary = "List the shipped models, and those in folders."
    parser = add_command(commands, "models", _models, summary)
    text = "a model, a training run, or a folder with some in it"
    parser.add_argument("folders", nargs="*", metavar="DIR", help=text)
    parser.add_argument("--json", action="store_true", help="print a JSON list instead")

    summary = "Say what a model is made of, what it can do, and under which licences."
    parser = add_command(commands, "info", _info, summary)
    text = "shipped name, model folder or training run"
    parser.add_argument("model", metavar="MODEL", help=text)
    parser.add_argument("--json", action="store_true", help="print JSON instead")


def _models(args: argparse.Namespace) -> None:
    from cogjax import model_folder

    given = {}
    for name in args.folders:
        given |= _models_in(Path(name))
    found = model_folder.shipped() | given
    rows = {name: _row_or_fault(name, folder) for name, folder in found.items()}
    if args.json:
        print(json.dumps(list(rows.values()), ensure_ascii=False, indent=2))
    else:
        cells = [
            {**row, "size": sized(row["size"]), "measured": _measured(row["measured"])}
            for row in rows.values()
        ]
        print_table(list(cells[0]), [list(row.values()) for row in cells])
        bracketed = any(" [" in row["measured"] for row in cells)
        legend = "Brackets are 95 % intervals. " if bracketed else ""
        print(f"\n{legend}`cogjax info NAME` says more of one.")
    if given and all(rows[name]["family"] == _DAMAGED for name in given):
        raise UserError(f"no model could be read: {rows[min(given)]['what']}")


def _models_in(folder: Path) -> dict[str, Path]:
    """A folder's own model or run, or those one level below; UserError for none."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give one with models in it")
    for places in ([folder], sorted(folder.iterdir())):
        if found := {str(place): place for place in places if _holds_model(place)}:
            return found
    raise UserError(f"{folder} holds no model and no finished training run")


def _holds_model(place: Path) -> bool:
    from cogjax.model_folder import MODEL, is_model

    if (place / "export" / MODEL.head).is_file():
        return True
    try:
        return place.is_dir() and is_model(place)
    except UserError:  # Another program's config.json.
        return False


def _row_or_fault(name: str, place: Path) -> dict[str, Any]:
    """A row, of a damaged model what is wrong with it."""
    try:
        return _row(name, place)
    except UserError as error:
        row = {"name": name, "family": _DAMAGED, "networks": "", "size": 0}
        return row | {"measured": {}, "what": str(error)}


def _row(name: str, place: Path) -> dict[str, Any]:
    """One model of the table; size in bytes."""
    from cogjax import model_folder

    folder = model_folder.find(place)
    stored = model_folder.read_config(folder)
    parts = ", ".join(part.kind for part in stored.components.values())
    return {
        "name": name,
        "family": stored.family or "none",
        "networks": parts,
        "size": sum(_files(folder, stored).values()),
        "measured": stored.card.get("measured", {}),
        "what": stored.card.get("what", ""),
    }


def _measured(found: Any) -> str:
    """What a card says was measured, in a line; as it is if it has another form.

    percent: share of `n` things, named by `of`, that are as `what` says. interval: its
    95 % interval, which a card may leave out. judge: what decided it.
    """
    if not isinstance(found, Mapping) or not _MEASURED <= found.keys():
        return str(found or "")
    n = f"{found['n']:,}" if isinstance(found["n"], int) else found["n"]
    between = f" {found['interval']}" if "interval" in found else ""
    return (
        f"{found['percent']} %{between} {found['what']} "
        f"(n {n} {found['of']}; judge: {found['judge']})"
    )


def _files(folder: Path, stored: Any) -> dict[str, int]:
    """Bytes of each file of a model, also of those that shipped models share."""
    from cogjax import model_folder

    names = [f"{name}.safetensors" for name in stored.components]
    names += ["text.model"] if stored.text else []
    names += [model_folder.WORDS] if stored.words else []
    paths = {name: model_folder.find_file(folder, name) for name in names}
    paths[model_folder.MODEL.head] = folder / model_folder.MODEL.head
    return {name: path.stat().st_size for name, path in paths.items() if path.exists()}


def _info(args: argparse.Namespace) -> None:
    from cogjax import model_folder

    folder = _no_data_set(model_folder.find(args.model))
    stored, model = model_folder.read_config(folder), model_folder.load_shapes(folder)
    found = _facts(args.model, folder, model)
    parts = [_component(name, part) for name, part in model.components.items()]
    files = _files(folder, stored)
    if args.json:
        whole = found | {"networks": parts, "files": files, "card": dict(model.card)}
        print(json.dumps(whole, ensure_ascii=False, indent=2))
        return
    found["measured"] = _measured(found["measured"])
    print_facts({name: value for name, value in found.items() if value})
    print()
    print_table(list(parts[0]), [list(part.values()) for part in parts])
    print()
    print_table(["file", "size"], [[k, sized(size)] for k, size in files.items()])


def _no_data_set(folder: Path) -> Path:
    """The folder; UserError for a data set."""
    from cogjax.data.manifest import DATA_SET
    from cogjax.model_folder import MODEL

    if (folder / DATA_SET.head).is_file() and not (folder / MODEL.head).is_file():
        raise UserError(
            f"{folder} is a data set and no model: `cogjax data show {folder}` says "
            "what it holds"
        )
    return folder


def _facts(name: str, folder: Path, model: Any) -> dict[str, Any]:
    """What is said of the whole model, in a line each."""
    from cogjax.catalogue import families

    family, card, text = families().get(model.family), model.card, model.text
    found = {
        "model": name,
        "folder": str(folder),
        "what": card.get("what", ""),
        "family": family.about if family else "none: networks without a pipeline",
    }
    found |= _abilities_of_shapes(model, family, folder)
    found["text"] = f"{text.size:,} pieces{_length(model)}" if text else ""
    found["languages"] = _languages(text) if text else []
    found["words seen"] = f"{len(model.words.words):,}" if model.words else ""
    found["licences"] = card.get("licenses") or card.get("licence", "")
    names = (
        "version",
        "data",
        "config",
        "hardware",
        "source",
        "imported_as",
        "trained",
    )
    found |= {key: card[key] for key in names if key in card}
    found["measured"] = card.get("measured", {})
    page = folder / "card.md"
    return found | {"figures": str(page) if page.is_file() else ""}


def _abilities_of_shapes(model: Any, family: Any, folder: Path) -> dict[str, Any]:
    """As `_abilities`, of a model without weights: nothing is computed with any."""
    import jax

    from cogjax import model_folder

    found = {}

    def look(weights: dict[str, tuple[Any, Any]]) -> None:
        parts = {
            name: dataclasses.replace(part, params=params, state=state)
            for name, part in model.components.items()
            for params, state in [weights[name]]
        }
        found.update(_abilities(dataclasses.replace(model, components=parts), family))

    shapes = {name: (x.params, x.state) for name, x in model.components.items()}
    try:
        jax.eval_shape(look, shapes)
    except jax.errors.JAXTypeError:
        # A pipeline of a package outside, which looks at values when it is made.
        return _abilities(model_folder.load(folder), family)
    return found


def _abilities(model: Any, family: Any) -> dict[str, Any]:
    """What the model can be asked for; as `cogjax serve` finds it out."""
    from cogjax.catalogue import resolve
    from cogjax.pipelines.contracts import Codec
    from cogjax.serve.abilities import Abilities

    if family is None or not family.pipeline:
        return {"can": ["encode", "decode"] if "tokenizer" in model.components else []}
    loaded = resolve(family.pipeline)(model, weights="float32")
    able = Abilities.of(loaded)
    found = {"can": list(able.tasks), "settings": list(able.settings)}
    found |= {"styles": list(able.styles), "aspects": list(able.aspects)}
    if isinstance(loaded, Codec):
        (height, width), (rows, columns) = loaded.size, loaded.shape
        codes = f"{rows} x {columns} of {loaded.num_codes:,} codes"
        found["images"] = f"{width} x {height} pixels, {codes}"
    elif size := getattr(loaded, "image_size", 0):
        found["images"] = f"{size} x {size} pixels"
    return found


def _length(model: Any) -> str:
    """How much of a text is read, where the model says so."""
    for place in (model.layout, *(part.config for part in model.components.values())):
        if length := getattr(place, "text_len", 0):
            return f", the first {length} of a text are read"
    return ""


def _languages(text: Any) -> list[str]:
    """Those that the pieces have letters of."""
    either = text.pieces_in(None)
    return [n for n, other in _LANGUAGES.items() if text.pieces_in(other) != either]


def _component(name: str, part: Any) -> dict[str, Any]:
    """A network: its kind, its parameters, and what says how large it is."""
    from cogjax.interop.tree import flatten

    count = sum(leaf.size for leaf in flatten(part.params).values())
    sizes = [
        f"{field} {getattr(part.config, field):,}"
        for field in _SIZES
        if isinstance(getattr(part.config, field, None), int)
    ]
    return {
        "network": name,
        "kind": part.kind,
        "parameters": count,
        "sizes": ", ".join(sizes),
    }
