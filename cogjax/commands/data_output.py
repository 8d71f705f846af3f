"""What the commands that build data sets share: where one goes, and what it holds."""

import argparse
import sys

from cogjax.commands.arguments import whole
from cogjax.commands.progress import Progress
from cogjax.errors import UserError

SIZES = whole(8, 1024)
_FIT = "images of other shapes; bucket: sort into a few shapes (%(default)s)"
_ASPECT = "shapes of about --size squared pixels, in turn; default: square"
_ASPECTS = "shapes of about --size squared pixels; default: square, or five of bucket"
_OVERWRITE = "replace the data set in --out; files that are not its own stay"


def add_out(add) -> None:
    """Adds --out and --overwrite."""
    add("--out", required=True, metavar="DIR", help="a new or empty folder")
    add("--overwrite", action="store_true", help=_OVERWRITE)


def add_aspect(add) -> None:
    """Adds --aspect, of images that are made."""
    add("--aspect", metavar="W:H,...", help=_ASPECT)


def add_fit(add) -> None:
    """Adds --fit and --aspect, of images of any shape."""
    add("--fit", choices=("crop", "pad", "bucket"), default="crop", help=_FIT)
    add("--aspect", metavar="W:H,...", help=_ASPECTS)


def output(args: argparse.Namespace, progress: Progress):
    """The `Output` of --out, --size and --overwrite; of --fit and --aspect if added."""
    from cogjax.data.output import Output

    fit = getattr(args, "fit", None)
    shapes = _shapes(fit, names(getattr(args, "aspect", None)), args.size)
    return Output(args.out, args.size, args.overwrite, progress, shapes, fit == "pad")


def _shapes(fit: str | None, aspects: tuple[str, ...] | None, size: int):
    from cogjax.data.aspects import BUCKETS, of_aspect

    if aspects is None:
        aspects = BUCKETS if fit == "bucket" else ()
    if len(aspects) > 1 and fit in ("crop", "pad"):
        raise UserError("several shapes are for --fit bucket: add it, or give one")
    return tuple(of_aspect(size, text) for text in aspects)


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
    for split in manifest.counts if manifest.shapes else ():
        held = manifest.contents[split].get("shape", {})
        print(f"{split}: " + ", ".join(f"{n} of {shape}" for shape, n in held.items()))
    counts = [f"{split} {count}" for split, count in manifest.counts.items()]
    print(f"{out}: {', '.join(counts)}, skipped {len(skipped)}")
