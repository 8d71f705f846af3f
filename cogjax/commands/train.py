"""`cogjax train`."""

import argparse

from cogjax.commands.arguments import CONFIG, add_command, add_distributed, join
from cogjax.commands.table import flattened, print_facts
from cogjax.errors import UserError
from cogjax.files import check_folder

_EPILOG = (
    "`cogjax config` lists the shipped configs and the tasks of all families, and "
    "explains keys. A .py file is a program: run only your own."
)


def add_parser(commands) -> None:
    """Adds `train`."""
    summary = "Train the network of a config; the same command resumes."
    parser = add_command(
        commands,
        "train",
        _train,
        summary,
        usage="cogjax train --config CONFIG --workdir DIR [--config.KEY=V ...]",
        epilog=_EPILOG,
    )
    parser.set_defaults(overrides=[])
    add = parser.add_argument
    add("--config", required=True, metavar="CONFIG", help=CONFIG)
    add("--workdir", metavar="DIR", help="checkpoints, metrics and samples of the run")
    add(
        "--config.KEY",
        metavar="VALUE",
        dest="key",
        help="such as --config.optim.lr=3e-4",
    )
    add("--dry-run", action="store_true", help="print the config and sizes, and stop")
    add_distributed(parser)


def _train(args: argparse.Namespace) -> None:
    if not args.dry_run and not args.workdir:
        raise UserError("--workdir DIR is required (or --dry-run to train nothing)")
    from cogjax.config import load
    from cogjax.config_keys import spelled

    config = load(args.config, args.overrides)
    if args.workdir:
        check_folder(args.workdir)
    join(args)
    from cogjax.stages import run as launch

    if args.dry_run:
        print_facts({key: spelled(value) for key, value in flattened(config)})
        for name, value in launch.describe(config).items():
            print(
                f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}"
            )
    else:
        print(f"exported to {launch.train(config, args.workdir)}")
