"""`cogjax import`: files of others become a model folder."""

import argparse
from pathlib import Path

from cogjax.commands.arguments import add_command


def add_parser(commands) -> None:
    """Adds `import`."""
    summary = "Make a model folder of released weights; nothing in them is executed."
    epilog = "docs/importing.md says which files, and what to type, for each family."
    parser = add_command(commands, "import", _import, summary, epilog=epilog)
    add = parser.add_argument
    files = "files as they are distributed, or the folder with them"
    add("sources", nargs="+", metavar="SOURCE", help=files)
    add("--out", required=True, metavar="MODEL", help="model folder to write")
    family = "what the files are, where names and shapes do not tell"
    add("--family", default="", metavar="NAME", help=family)
    dtype = "how the weights are stored (%(default)s)"
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help=dtype)
    add("--overwrite", action="store_true", help="replace a model that is there")
    parser.set_defaults(words="sources")


def _import(args: argparse.Namespace) -> None:
    from cogjax.importing import import_model

    sources = [Path(each) for each in args.sources]
    done = import_model(
        sources, Path(args.out), args.family, args.dtype, args.overwrite
    )
    parts = ", ".join(f"{name} ({kind})" for name, kind in done.components.items())
    dropped = f", tensors dropped: {len(done.dropped)}" if done.dropped else ""
    print(f"{args.out}: {done.name}, {parts}, {done.weights:,} values{dropped}")
    for note in done.notes:
        print(f"note: {note}")
