"""`cogjax data folder`, `tfds` and `questions`: images that are there to a data set."""

import argparse

from cogjax.commands.arguments import add_command, number
from cogjax.commands.data_output import SIZES, add_fit, add_out, names, output, report
from cogjax.commands.progress import Progress

_FROM = 'one {"image": "a.jpg", "question": "...", "answer": "..."} a line'
_BUDGET = "of broken files to skip before stopping (%(default)s)"
_FIELD = "field of tables and .json with the captions; default: text, caption, ..."
_FEATURES = "texts or labels; default: those named text, caption, ..., or the only one"
_VAL = "of images to hold out as split val (%(default)s)"


def add_parsers(actions) -> None:
    """Adds `folder`, `tfds` and `questions`."""
    summary = "Import images with captions: .txt files, metadata.jsonl, CSV or .tar."
    folder = add_command(actions, "folder", _folder, summary)
    add = folder.add_argument
    add("source", metavar="SRC", help="folder, CSV, metadata.jsonl or .tar")
    add_out(add)
    add("--size", type=SIZES, default=256, help="pixels a side (%(default)s)")
    add_fit(add)
    share = number(0, 1)
    add("--budget", type=share, default=0.05, metavar="SHARE", help=_BUDGET)
    add("--val", type=share, default=0.02, metavar="SHARE", help=_VAL)
    add("--caption-field", metavar="NAME", help=_FIELD)

    summary = "Import a data set of tensorflow-datasets; no TensorFlow is needed."
    tfds = add_command(actions, "tfds", _tfds, summary)
    add = tfds.add_argument
    add("name", metavar="NAME", help="prepared as array_record, such as my_set:1.0.0")
    add_out(add)
    add("--data-dir", metavar="DIR", help="of tensorflow-datasets; default: its own")
    add("--size", type=SIZES, default=256, help="pixels a side (%(default)s)")
    add_fit(add)
    add("--budget", type=share, default=0.05, metavar="SHARE", help=_BUDGET)
    add("--caption-field", metavar="A,B", help=_FEATURES)

    summary = "Import questions about your images, for `cogjax ask`."
    questions = add_command(actions, "questions", _import_questions, summary)
    add = questions.add_argument
    add("--from", dest="source", required=True, metavar="FILE.jsonl", help=_FROM)
    add_out(add)
    add("--size", type=SIZES, default=256, help="pixels a side (%(default)s)")
    add_fit(add)
    add("--val", type=share, default=0.02, metavar="SHARE", help=_VAL)


def _folder(args: argparse.Namespace) -> None:
    from cogjax.data.folder import import_folder

    with Progress(args.out) as progress:
        found = import_folder(
            args.source,
            output(args, progress),
            budget=args.budget,
            val_fraction=args.val,
            caption_field=args.caption_field,
        )
    _report_import(args.out, found)


def _tfds(args: argparse.Namespace) -> None:
    from cogjax.data.tfds_import import import_tfds

    with Progress(args.out) as progress:
        found = import_tfds(
            args.name,
            output(args, progress),
            data_dir=args.data_dir,
            captions=names(args.caption_field) or (),
            budget=args.budget,
        )
    _report_import(args.out, found)


def _report_import(out: str, found) -> None:
    skipped = [f"{name}: {reason}" for name, reason in found.skipped]
    report(out, found.manifest, skipped)


def _import_questions(args: argparse.Namespace) -> None:
    from cogjax.data.question_file import import_questions

    with Progress(args.out) as progress:
        manifest = import_questions(
            args.source,
            output(args, progress),
            val_fraction=args.val,
        )
    report(args.out, manifest, [])
    print(f"questions {manifest.info['num_questions']}")
