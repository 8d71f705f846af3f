"""`cogjax bench`: speed of a part on this machine, as a share of its limits too."""

import argparse
import json
from dataclasses import fields

from cogjax.catalogue import FAMILIES
from cogjax.commands.arguments import add_command, add_file, add_weights, whole
from cogjax.commands.progress import Progress
from cogjax.errors import UserError
from cogjax.files import check_file, write_file

_FORMS = ("sparse", "causal", "dense")
_PARTS = ("train", "prefill", "decode", "tokenizer-encode", "tokenizer-decode")
_PARTS += ("denoise", "denoise-super")
_TOKENIZER = "that of a family's release for tokenizer-*, not the size's: "
_ONE_PROMPT = "the batch is images of one prompt, otherwise of as many prompts"
_CONFIG = "a transformer of a training config instead of a size"
_COMPARE = "run full attention under an n x n mask beside it and print the ratios"
_ATTENTION = "DALL-E's kinds, full in causal parts, full masked (%(default)s)"


def add_parser(commands) -> None:
    """Adds `bench`."""
    summary = "Measure a part, random weights: speed, memory, share of the roofline."
    parser = add_command(commands, "bench", _bench, summary)
    add = parser.add_argument
    add("part", choices=_PARTS, metavar="PART", help=", ".join(_PARTS))
    parser.set_defaults(overrides=[])
    add("--size", choices=("reference", "1.3b", "emoji", "nano"), default="reference")
    add("--config", metavar="CONFIG", help=_CONFIG)
    add("--config.KEY", dest="_", metavar="VALUE", help="of that, as for train")
    add("--attention", choices=_FORMS, default="sparse", help=_ATTENTION)
    add("--compare", choices=("dense",), help=_COMPARE)
    add("--batch", type=whole(1, 1024), default=2, help="default: %(default)s")
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    released = [name for name, family in FAMILIES.items() if family.tokenizer]
    words = _TOKENIZER + ", ".join(released)
    add("--tokenizer", choices=released, default="", metavar="FAMILY", help=words)
    add("--one-prompt", action="store_true", help=_ONE_PROMPT)
    add_weights(parser)
    add("--runs", type=whole(1, 1000), default=5, help="median of (%(default)s)")
    add_file(parser, "--json", help="also write the metrics as JSON")


def _bench(args: argparse.Namespace) -> None:
    if args.json:
        check_file(args.json, args.overwrite)
    if args.compare and args.part.startswith(("tokenizer", "denoise")):
        raise UserError("--compare dense is for the transformer, this part has none")
    if args.overrides and not args.config:
        raise UserError(f"{args.overrides[0]} is of a config: give --config CONFIG")
    if args.tokenizer and not args.part.startswith("tokenizer"):
        raise UserError(f"--tokenizer is for tokenizer-*, {args.part} has none")
    from cogjax.bench import Setup, bench

    kind = _of_config(args) if args.config else Setup
    setup = kind(**{field.name: getattr(args, field.name) for field in fields(kind)})
    with Progress() as progress:
        report = bench(setup, compare=args.compare, runs=args.runs, progress=progress)
    for name, value in report.items():
        print(
            f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}"
        )
    if args.json:
        write_file(args.json, json.dumps(report, indent=2) + "\n", args.overwrite)


def _of_config(args: argparse.Namespace) -> type:
    """The setup of a config; UserError for flags that its file decides."""
    own = {"size": "reference", "attention": "sparse", "compare": None}
    own |= {"dtype": "float32", "one_prompt": False}
    for name, default in own.items():
        if getattr(args, name) != default:
            flag = name.replace("_", "-")
            raise UserError(
                f"--{flag} is not for --config, which has its own: leave it out"
            )
    from cogjax.bench_config import ConfigSetup

    args.overrides, args.attention = tuple(args.overrides), "own"
    return ConfigSetup
