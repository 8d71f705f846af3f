"""`cogjax evaluate`: figures of a model on a data set, by outside judges."""

import argparse
import json

from cogjax.commands.arguments import SEED, add_command, add_weights, whole
from cogjax.commands.progress import Progress
from cogjax.files import check_folder_for, write_atomic

_BEST_OF = "candidates a prompt, of which the caption loss picks one (%(default)s)"


def add_parser(commands) -> None:
    """Adds `evaluate`."""
    summary = "Measure a model on the emoji set: right concept, right style, captions."
    parser = add_command(commands, "evaluate", _evaluate, summary)
    add = parser.add_argument
    add("model", metavar="MODEL", help="shipped name or folder")
    add("--data", required=True, metavar="DIR", help="data set folder")
    add("--suite", choices=("emoji",), default="emoji", help="default: %(default)s")
    add("--gallery", metavar="DIR", help="emoji set whose concepts compete (--data)")
    add("--n", type=whole(1, 100_000), default=200, help="prompts (%(default)s)")
    add("--best-of", type=whole(1, 64), default=8, metavar="N", help=_BEST_OF)
    add("--seed", type=SEED, default=0, metavar="N", help="default: %(default)s")
    add_weights(parser)
    add("--json", metavar="FILE", help="also write the figures as JSON")
    add("--sheet", metavar="FILE", help="also draw pictures beside the real ones, PNG")


def _evaluate(args: argparse.Namespace) -> None:
    for path in filter(None, (args.json, args.sheet)):
        check_folder_for(path)
    import cogjax
    from cogjax.evaluate.emoji import evaluate_emoji

    model = cogjax.load(args.model, weights=args.weights)
    with Progress() as progress:
        figures = evaluate_emoji(
            model,
            args.data,
            n=args.n,
            best_of=args.best_of,
            seed=args.seed,
            gallery=args.gallery,
            sheet=args.sheet,
            progress=progress,
        )
    figures = {"model": args.model, "weights": args.weights, **figures}
    text = json.dumps(figures, indent=2, ensure_ascii=False)
    print(text)
    if args.json:
        write_atomic(args.json, text + "\n")
