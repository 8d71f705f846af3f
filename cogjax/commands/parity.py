"""`cogjax parity`: a model beside stored outputs, such as those of the public code."""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cogjax.commands.arguments import SEED, add_command, number
from cogjax.errors import UserError


def add_parser(commands) -> None:
    """Adds `parity`."""
    summary = "Compare a model's outputs with stored ones, or store them."
    epilog = (
        "Exit status 2 if an output differs. docs/importing.md names the arrays of a "
        "case."
    )
    parser = add_command(commands, "parity", _parity, summary, epilog=epilog)
    add = parser.add_argument
    add("model", metavar="MODEL", help="model folder, or a shipped model")
    add("--case", required=True, metavar="FILE", help=".npz of inputs and outputs")
    add(
        "--record", action="store_true", help="write the case with this model's outputs"
    )
    add("--component", default="", metavar="NAME", help="of a model with several")
    tolerance = "largest difference of a float (%(default)s)"
    add("--tolerance", type=number(0, 1e6), default=1e-4, help=tolerance)
    add("--seed", type=SEED, default=0, help="of recorded inputs (%(default)s)")
    add("--json", action="store_true", help="print a JSON object instead")
    add("--overwrite", action="store_true", help="replace a case that is there")


def _parity(args: argparse.Namespace) -> None:
    from cogjax import parity

    model, case = Path(args.model), Path(args.case)
    if args.record:
        found = parity.record(model, case, args.seed, args.component, args.overwrite)
        print(
            f"{case}: {', '.join(f'{name} {shape}' for name, shape in found.items())}"
        )
        return
    found = parity.compare(model, case, args.tolerance, args.component)
    wrong = [name for name, each in found.items() if each.first is not None]
    if args.json:
        rows = {name: _row(each) for name, each in found.items()}
        print(json.dumps({"passed": not wrong, "outputs": rows}, indent=2))
    else:
        for name, each in found.items():
            verdict = "differs" if each.first is not None else "equal"
            gap = f"{each.max:.1e} at most, {each.mean:.1e} on average"
            print(f"{name} {each.shape}: {verdict}, {gap}")
    if wrong:
        each = found[wrong[0]]
        raise UserError(
            f"{args.model} differs in {', '.join(wrong)}: {wrong[0]} is first "
            f"{each.found:.6g} at {list(each.first)}, expected {each.expected:.6g}"
        )


def _row(difference) -> dict[str, Any]:
    """JSON has no NaN and no infinity: they are null."""
    return {
        key: None if isinstance(x, float) and not math.isfinite(x) else x
        for key, x in asdict(difference).items()
    }
