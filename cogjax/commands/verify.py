"""`cogjax verify`: whether the checkpoints of a run are as they were written."""

import argparse
import json
from dataclasses import asdict

from cogjax.commands.arguments import add_command
from cogjax.errors import UserError


def add_parser(commands) -> None:
    """Adds `verify`."""
    summary = "Check the checkpoints of a run against their digests; reads every byte."
    epilog = "Exit status 2 if a step is bad. unverified: it has no digests."
    parser = add_command(commands, "verify", _verify, summary, epilog=epilog)
    text = "workdir of a run, or its checkpoints"
    parser.add_argument("folder", metavar="DIR", help=text)
    parser.add_argument("--json", action="store_true", help="print a JSON list instead")


def _verify(args: argparse.Namespace) -> None:
    from cogjax.train.manifest import verify_run

    verdicts = verify_run(args.folder)
    if args.json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            print(verdict)
    bad = [str(verdict.step) for verdict in verdicts if verdict.status == "bad"]
    if bad:
        raise UserError(
            f"{args.folder}: {len(bad)} of {len(verdicts)} steps are bad "
            f"({', '.join(bad)}); training goes on from the newest one that is not"
        )
