"""`cogjax finetune`: a model that has learnt your own images."""

import argparse

from cogjax.commands.arguments import add_command, whole
from cogjax.commands.progress import Progress

_SOURCE = "folder, CSV or .tar of images with captions, or a data set"
_BASE = "shipped name or folder of the model to start from (%(default)s)"
_LORA = "learn an adapter of this rank instead of all weights; 8 is usual"
_DATA = "data set of the base: a quarter of what is learnt, against forgetting"
_WORKDIR = "checkpoints and samples; the same command resumes (OUT-run)"
_PROMPT = "of the sample grids; may be repeated (captions that are held out)"
_STAGE = "of a cascade: tune this one alone, base or super_1 (all, one after the other)"
_DRY = "make all checks, print what would be done, and stop"
_EPILOG = "docs/finetuning.md says how images and captions lie, and what is chosen."


def add_parser(commands) -> None:
    """Adds `finetune`."""
    summary = "Tune a model on your own captioned images."
    parser = add_command(commands, "finetune", _finetune, summary, epilog=_EPILOG)
    add = parser.add_argument
    add("source", metavar="IMAGES", help=_SOURCE)
    add("--out", required=True, metavar="MODEL", help="model folder to write")
    add("--base", default="emoji", metavar="MODEL", help=_BASE)
    add("--lora", type=whole(1, 1024), default=0, metavar="RANK", help=_LORA)
    add("--stage", default="", metavar="NAME", help=_STAGE)
    add("--base-data", default="", metavar="DATA", help=_DATA)
    add("--steps", type=whole(1), default=0, metavar="N", help="at most (by images)")
    add("--prompt", action="append", default=[], metavar="TEXT", help=_PROMPT)
    add("--workdir", default="", metavar="DIR", help=_WORKDIR)
    add("--dry-run", action="store_true", help=_DRY)
    add("--overwrite", action="store_true", help="replace the model in --out")


def _finetune(args: argparse.Namespace) -> None:
    from cogjax.stages.finetune import FineTuning, check, finetune

    names = ("source", "out", "base", "workdir", "base_data", "steps", "overwrite")
    names += ("stage",)
    given = {name: getattr(args, name) for name in names}
    given |= {"rank": args.lora, "prompts": tuple(args.prompt)}
    if args.dry_run:
        with Progress() as progress:
            found = check(FineTuning(**given, progress=progress))
        for name, value in found.items():
            print(
                f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}"
            )
        return
    # The trainer has a bar of its own, with the time left.
    with Progress(args.out, bar=False) as progress:
        made = finetune(FineTuning(**given, progress=progress))
    print(f"{made.model}: the tuned model")
    for folder in made.runs:
        print(f"{folder}/samples: shows it learn")
        if args.lora:
            print(f"{folder}/adapter: the adapter alone")
