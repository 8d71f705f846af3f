"""`cogjax evaluate`: figures of a model on a data set, by outside judges."""

import argparse
import json

from cogjax.commands.arguments import SEED, add_command, whole
from cogjax.files import check_folder_for, write_atomic


def add_parser(commands) -> None:
    """Adds `evaluate`."""
    summary = "Measure a model on the emoji set: right concept, right style, captions."
    parser = add_command(commands, "evaluate", _evaluate, summary)
    add = parser.add_argument
    add("model", metavar="MODEL", help="shipped name or folder")
    add("--data", required=True, metavar="DIR", help="data set folder")
    add("--suite", choices=("emoji",), default="emoji", help="default: %(default)s")
    add("--n", type=whole(1, 100_000), default=200, help="prompts (%(default)s)")
    add("--seed", type=SEED, default=0, help="default: %(default)s")
    add("--json", metavar="FILE", help="also write the figures as JSON")


def _evaluate(args: argparse.Namespace) -> None:
    if args.json:
        check_folder_for(args.json)
    import cogjax
    from cogjax.evaluate.runner import evaluate_emoji

    figures = evaluate_emoji(
        cogjax.load(args.model), args.data, n=args.n, seed=args.seed
    )
    text = json.dumps(figures, indent=2, ensure_ascii=False)
    print(text)
    if args.json:
        write_atomic(args.json, text + "\n")
