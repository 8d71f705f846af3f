"""The folder that an export fills: a head with the sha256 of every file, and the files.

{"cogjax": "model export", "format": "safetensors", "components": {...},
 "files": {name: sha256}, "notes": [...]}
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cogjax.config import load_json
from cogjax.data.manifest import fault_of
from cogjax.errors import UserError
from cogjax.files import FolderKind, check_outside, file_sha256, partial_folder
from cogjax.model_folder import find, is_model

HEAD, WHAT = "export.json", "model export"


def _files(fields: dict[str, Any]) -> list[str] | None:
    return list(fields["files"]) if fields.get("cogjax") == WHAT else None


EXPORT = FolderKind(WHAT, HEAD, _files)


class Exported(NamedTuple):
    """What was done. components: what each is for, in words."""

    components: Mapping[str, str]
    notes: Sequence[str] = ()


def check(out: Path, source: str, overwrite: bool) -> None:
    """UserError unless `out` can be filled by an export of a model."""
    EXPORT.check(out, overwrite)
    if Path(source).is_dir() and is_model(find(source)):
        check_outside(out, find(source))


def write_export(
    out: Path, kind: str, write: Callable[[Path], dict[str, Any]], overwrite: bool
) -> None:
    """Fills the folder through a hidden one; nothing is left if `write` raises.

    kind: the format. write: fills a folder, and returns the other fields of the head.
    """
    with partial_folder(out) as partial:
        fields = write(partial)
        names = sorted(path.name for path in partial.iterdir())
        files = {name: file_sha256(partial / name) for name in names}
        head = {"cogjax": WHAT, "format": kind} | fields | {"files": files}
        text = json.dumps(head, indent=2, ensure_ascii=False)
        (partial / HEAD).write_text(text + "\n", encoding="utf-8")
        EXPORT.publish(partial, out, overwrite)


def verify(folder: Path) -> dict[str, str]:
    """The fault of each file of an export in words, "" for a good one.

    UserError if its head is damaged, or says that it is only half written.
    """
    fields = load_json(folder / HEAD)
    if EXPORT.owned(folder) and "unfinished" in fields:
        raise UserError(f"{folder} is only half written: export the model again")
    files = fields.get("files")
    is_whole = isinstance(files, dict) and all(
        isinstance(x, str) for x in files.values()
    )
    if not is_whole or EXPORT.owned(folder) != {HEAD, *files}:
        raise UserError(f"{folder / HEAD} is damaged: export the model again")
    return {name: fault_of(folder / name, sha256) for name, sha256 in files.items()}
