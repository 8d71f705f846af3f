"""The folder that an export fills: a head with the sha256 of every file, and the files.

{"cogjax": "model export", "format": "safetensors", "components": {...},
 "files": {name: sha256}, "notes": [...]}
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cogjax.files import FolderKind, check_apart, partial_folder
from cogjax.model_folder import file_sha256

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
    if Path(source).is_dir():
        check_apart(out, source)


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
