"""What the commands that build data sets share: where one goes, and what it holds."""

import argparse
import sys

from cogjax.commands.arguments import whole
from cogjax.commands.progress import Progress
from cogjax.errors import UserError

SIZES = whole(8, 1024)
_OVERWRITE = "replace the data set in --out; files that are not its own stay"


def add_out(add) -> None:
    """Adds --out and --overwrite."""
    add("--out", required=True, metavar="DIR", help="a new or empty folder")
    add("--overwrite", action="store_true", help=_OVERWRITE)


def output(args: argparse.Namespace, progress: Progress):
    """The `Output` of --out, --size and --overwrite."""
    from cogjax.data.output import Output

    return Output(args.out, args.size, args.overwrite, progress)


def names(text: str | None) -> tuple[str, ...] | None:
    """The parts of a list "A,B", None without one; UserError if all are empty."""
    if text is None:
        return None
    found = tuple(name for part in text.split(",") if (name := part.strip()))
    if not found:
        raise UserError(f"the list {text!r} names nothing: write names such as A,B")
    return found


def report(out: str, manifest, skipped: list[str]) -> None:
    """Prints counts on stdout and skipped entries on stderr."""
    for line in skipped[:20]:
        print(f"skipped {line}", file=sys.stderr)
    for reason, count in manifest.info.get("changed", {}).items():
        print(f"{count} {reason}", file=sys.stderr)
    counts = [f"{split} {count}" for split, count in manifest.counts.items()]
    print(f"{out}: {', '.join(counts)}, skipped {len(skipped)}")
