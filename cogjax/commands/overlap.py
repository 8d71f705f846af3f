"""`cogjax data overlap`: images of a data set that are nearly in another."""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

from cogjax.commands.arguments import add_command, load_as, number, whole
from cogjax.commands.progress import Progress
from cogjax.errors import UserError
from cogjax.files import check_apart, check_file, write_file

_MODEL = "compare by the vectors of a CLIP, a model folder; default: thumbnails"
_THRESHOLD = "distance below which images are near duplicates; thumbnails: 10 of 255"
_OVERWRITE = "replace files that are there already, and the data set in --out"
_OUT = "also write B without its near duplicates, a new or empty folder"


def add_parser(actions) -> None:
    """Adds `data overlap`."""
    summary = "Find the images of B that are nearly in A, and write B without them."
    parser = add_command(actions, "overlap", _overlap, summary)
    add = parser.add_argument
    add("a", metavar="A", help="data set, such as one to train on")
    add("b", metavar="B", help="data set whose images are asked about; may be A")
    add("--split-a", default="train", metavar="NAME", help="default: %(default)s")
    add("--split-b", default="val", metavar="NAME", help="default: %(default)s")
    add("--model", metavar="CLIP", help=_MODEL)
    add("--threshold", type=number(0, 255, True), metavar="D", help=_THRESHOLD)
    add("--n", type=whole(1, 1000), default=20, help="pairs to show (%(default)s)")
    add("--sheet", metavar="FILE.png", help="also draw them, to choose a threshold by")
    add("--json", metavar="FILE", help="also write all pairs")
    add("--out", metavar="DIR", help=_OUT)
    add("--overwrite", action="store_true", help=_OVERWRITE)


def _overlap(args: argparse.Namespace) -> None:
    _check(args)
    import numpy as np

    from cogjax.data import overlap
    from cogjax.data.images import encode_png
    from cogjax.data.output import Output
    from cogjax.data.records import DATA_SET, open_split, read_manifest

    a, b = open_split(args.a, args.split_a), open_split(args.b, args.split_b)
    if args.out:
        DATA_SET.check(Path(args.out), args.overwrite)
    threshold = args.threshold or (None if args.model else overlap.NEAR)
    vectors = _clip_vectors(args.model) if args.model else overlap.thumbnails
    with Progress() as progress:
        pairs = overlap.find_pairs(a, b, vectors, progress)
        near = [p for p in pairs if threshold is not None and p.distance < threshold]
        if args.out:
            size = read_manifest(args.b).image_size
            output = Output(args.out, size, args.overwrite, progress)
            left_out = {pair.b for pair in near}
            overlap.write_without(args.b, args.split_b, left_out, output)
    _print(args, a, b, pairs, near, threshold)
    if args.sheet:
        pixels = np.asarray(overlap.sheet(a, b, pairs[: args.n]))
        write_file(args.sheet, encode_png(pixels), args.overwrite)
    if args.json:
        found = [asdict(p) | {"b": b[p.b].id, "a": a[p.a].id} for p in pairs]
        content = {"threshold": threshold, "model": args.model, "pairs": found}
        text = json.dumps(content, ensure_ascii=False, indent=2)
        write_file(args.json, text + "\n", args.overwrite)


def _check(args: argparse.Namespace) -> None:
    """UserError for what does not go together, before anything is read."""
    same = Path(args.a).resolve() == Path(args.b).resolve()
    if same and args.split_a == args.split_b:
        raise UserError(
            f"A and B are the same split {args.split_a!r}: give another --split-b"
        )
    if args.out:
        check_apart(args.out, args.a)
        check_apart(args.out, args.b)
        if args.model and args.threshold is None:
            raise UserError(
                "--out needs --threshold D with --model: choose it on a --sheet of the "
                "nearest pairs"
            )
    if args.sheet and not args.sheet.lower().endswith(".png"):
        raise UserError(f"--sheet expects a .png file, got {args.sheet}")
    for path in filter(None, (args.sheet, args.json)):
        check_file(path, args.overwrite)


def _clip_vectors(model: str):
    """Vectors whose root mean square difference is the distance of unit vectors."""
    clip = load_as("Embedder", model)

    def vectors(images):
        found = clip.embed_images(images)
        return found * math.sqrt(found.shape[1])

    return vectors


def _print(args, a, b, pairs, near, threshold) -> None:
    for pair in pairs[: args.n]:
        print(f"{pair.distance:8.3f}  {b[pair.b].id}  {a[pair.a].id}")
    where = f"{args.b} {args.split_b}", f"{args.a} {args.split_a}"
    if threshold is None:
        print(
            f"{where[0]}: {len(pairs)} images; give --threshold D to count those near"
        )
        return
    print(
        f"{where[0]}: {len(near)} of {len(pairs)} images are nearly in {where[1]} "
        f"(distance below {threshold:g})"
    )
    if args.out:
        print(f"{args.out}: {args.b} without them")
