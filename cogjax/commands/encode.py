"""`cogjax encode` and `encode-text`: once, before training reads it many times."""

import argparse
import re
import sys

from cogjax.commands.arguments import (
    add_command,
    add_distributed,
    join,
    number,
    whole,
)
from cogjax.commands.progress import Progress
from cogjax.files import check_folder

_SPLITS = "default: all"
_SHARD = "images a file, the unit of work and of loss (%(default)s)"
_BUDGET = "of bad images to skip before stopping (%(default)s)"
_PROCESS = "this is process I of N, which share --out; default: as --distributed says"
_MODEL = "folder of a model with a text encoder, or of Hugging Face's T5"

_WEEK = 7 * 24 * 3600


def add_parser(commands) -> None:
    """Adds `encode` and `encode-text`."""
    summary = "Encode a data set's images as codes; the same command resumes."
    parser = _add(commands, "encode", _encode, summary, "images")
    tokenizer = "or a shipped model's name"
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help=tokenizer)
    summary = "Encode a data set's captions as vectors; the same command resumes."
    parser = _add(commands, "encode-text", _encode_text, summary, "captions")
    parser.add_argument("--model", required=True, metavar="DIR", help=_MODEL)
    dtype = "to compute in; vectors are stored in bfloat16 (default: the model's)"
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help=dtype)


def _add(commands, name: str, handler, summary: str, what: str):
    """A command with what both have in common."""
    parser = add_command(commands, name, handler, summary)
    add = parser.add_argument
    add("--data", required=True, metavar="DIR", help="data set folder")
    out = "new, or of a stopped run"
    add("--out", required=True, metavar="DIR", help=out)
    add("--splits", type=_names, metavar="A,B", help=_SPLITS)
    batch = f"{what} a device and step (%(default)s)"
    add("--batch-size", type=whole(1, 65536), default=64, help=batch)
    add("--shard-size", type=whole(1), default=8192, help=_SHARD)
    add("--budget", type=number(0, 1), default=0.05, metavar="SHARE", help=_BUDGET)
    add("--process", type=_process, metavar="I/N", help=_PROCESS)
    add_distributed(parser)
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",")))


def _process(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not int(found[1]) < int(found[2]):
        raise argparse.ArgumentTypeError(f"expects I/N with I below N, got '{text}'")
    return int(found[1]), int(found[2])


def _encode(args: argparse.Namespace) -> None:
    settings, run = _begin(args)
    from cogjax.stages.encode import encode_dataset

    with Progress(args.out) as progress:
        report = encode_dataset(
            args.data, args.tokenizer, args.out, settings, **run, progress=progress
        )
    _tell(args, report)


def _encode_text(args: argparse.Namespace) -> None:
    settings, run = _begin(args)
    from cogjax.stages.encode_text import encode_texts

    run["dtype"] = args.dtype
    with Progress(args.out) as progress:
        report = encode_texts(
            args.data, args.model, args.out, settings, **run, progress=progress
        )
    if report.cut:
        print(f"{report.cut} captions are longer than the model reads, and were cut")
    if report.unknown:
        print(f"{report.unknown} captions are left out: the model does not read them")
    _tell(args, report)


def _begin(args: argparse.Namespace):
    """(settings, which process this is), all processes having met."""
    check_folder(args.out)
    join(args, patience=_WEEK)  # Shards differ, and none is lost by waiting.
    import jax

    from cogjax.stages.sharded import EncodeSettings

    sizes = args.batch_size, args.shard_size, args.budget
    process = args.process or (jax.process_index(), jax.process_count())
    return EncodeSettings(args.splits, *sizes), {"process": process}


def _tell(args: argparse.Namespace, report) -> None:
    """What was done, and what was left out."""
    for name, reason in report.skipped[:20]:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    rate = report.encoded / max(report.seconds, 1e-9)
    print(
        f"encoded {report.encoded} examples in {report.seconds:.1f} s, "
        f"{rate:.0f} a second, skipped {len(report.skipped)}"
    )
    print(f"{args.out}: {_state(report)}")


def _state(report) -> str:
    if report.manifest is None:
        return f"{report.done} of {report.shards} shards, other processes do the rest"
    counts = [f"{split} {count}" for split, count in report.manifest.counts.items()]
    return ", ".join(counts)
