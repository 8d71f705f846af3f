"""`cogjax verify`: whether a folder that cogjax has filled is as it was written."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cogjax.commands.arguments import add_command
from cogjax.errors import UserError


def add_parser(commands) -> None:
    """Adds `verify`."""
    summary = "Check a run, data set, model or export against its digests; reads all."
    epilog = "Exit status 2 if a part is bad. unverified: there, but without digest."
    parser = add_command(commands, "verify", _verify, summary, epilog=epilog)
    text = "workdir of a run or its checkpoints, data set, encoded set, model or export"
    parser.add_argument("folder", metavar="DIR", help=text)
    parser.add_argument("--json", action="store_true", help="print a JSON list instead")


def _verify(args: argparse.Namespace) -> None:
    rows, parts, advice = _look(Path(args.folder))
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            name = f"step {row['step']}" if "step" in row else row["file"]
            reason = f", {row['reason']}" if row["reason"] else ""
            print(f"{name}: {row['status']}{reason}")
    bad = [
        str(row.get("step", row.get("file"))) for row in rows if row["status"] == "bad"
    ]
    if bad:
        raise UserError(
            f"{args.folder}: {len(bad)} of {len(rows)} {parts} are bad "
            f"({', '.join(bad)}); {advice}"
        )


def _look(folder: Path) -> tuple[list[dict[str, Any]], str, str]:
    """(a row for each part with its status, what parts are, what to do about bad)."""
    from cogjax import model_folder
    from cogjax.data import records
    from cogjax.exporting import folder as exports

    if not folder.is_dir():
        raise UserError(f"cannot verify {folder}: there is no such folder")
    if (folder / records.DATA_SET.head).is_file():
        rows = _rows(records.verify(folder), records.read_manifest(folder).checksums)
        return rows, "files", "copy or build the data again"
    if model_folder.is_model(folder):
        return _rows(model_folder.verify(folder)), "files", "copy or export it again"
    if (folder / exports.HEAD).is_file():
        return _rows(exports.verify(folder)), "files", "copy or export it again"
    if (folder / "encoding.json").is_file():
        raise UserError(f"{folder} is not encoded to its end: give that command again")
    from cogjax.train.manifest import verify_run

    rows = [asdict(verdict) for verdict in verify_run(folder)]
    return rows, "steps", "training goes on from the newest one that is not"


def _rows(
    faults: dict[str, str], digested: Iterable[str] | None = None
) -> list[dict[str, Any]]:
    """digested: names of the files that have a digest; None for all."""
    rows = []
    for name, fault in faults.items():
        known = digested is None or name in digested
        status = "bad" if fault else "good" if known else "unverified"
        rows.append({"file": name, "status": status, "reason": fault})
    return rows
