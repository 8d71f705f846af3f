"""`cogjax config`: the shipped experiments, and what the keys of a config mean."""

import argparse
import ast
import json
from pathlib import Path

from cogjax.commands.arguments import add_command
from cogjax.commands.table import flattened, print_table
from cogjax.errors import UserError

_NAME = "shipped experiment (cogview/icons:transformer), file, or task (lm); none lists"

_WIDEST = 40


def add_parser(commands) -> None:
    """Adds `config`."""
    summary = "List every key of a config with its default and what it means."
    parser = add_command(commands, "config", _config, summary)
    parser.set_defaults(overrides=[])
    parser.add_argument("name", nargs="?", metavar="NAME", help=_NAME)
    parser.add_argument("--json", action="store_true", help="print a JSON list instead")


def _config(args: argparse.Namespace) -> None:
    if not args.name:
        _refuse(args.overrides, "there is no NAME")
    rows = _keys(args.name, args.overrides) if args.name else _experiments()
    if args.json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    cells = [[*map(_cut, row.values())][:-1] + [*row.values()][-1:] for row in rows]
    print_table(list(rows[0]), cells)
    if not args.name:
        print("\n`cogjax config NAME` lists the keys of one, with their values.")
        print(f"Tasks of the families, for the key task.name: {_tasks()}")


def _experiments() -> list[dict[str, str]]:
    """The shipped experiments, each with the first line of what it says of itself."""
    from cogjax.config_files import shipped_configs

    return [
        {"experiment": name, "what": _about(path)}
        for name, path in shipped_configs().items()
    ]


def _tasks() -> str:
    """Those of installed packages too."""
    from cogjax.catalogue import families

    found = [
        f"{f.name}: {', '.join(f.stages)}" for f in families().values() if f.stages
    ]
    return "; ".join(found)


def _about(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ")


def _keys(name: str, overrides: list[str]) -> list[dict[str, str]]:
    """The keys of a config or of a task; the former have a value too."""
    from cogjax.catalogue import stages
    from cogjax.config import load
    from cogjax.stages.run import find_stage

    of_task = name in stages()
    if of_task:
        _refuse(overrides, f"{name} is a task, whose keys have defaults alone")
    config = {"task": {"name": name}} if of_task else load(name, overrides)
    from cogjax.config_keys import spelled
    from cogjax.stages.keys import check_keys, keys_of_stage

    stage = find_stage({"task": config.get("task", {})})
    check_keys(stage, config)
    values = {key: spelled(value) for key, value in flattened(config)}
    rows = []
    for key in keys_of_stage(stage):
        row = {"key": key.name, "value": values.get(key.name, key.default)}
        row |= {"default": key.default, "expects": key.kind, "meaning": key.meaning}
        if of_task:
            del row["value"]
        rows.append(row)
    return rows


def _refuse(overrides: list[str], why: str) -> None:
    """UserError for values that would go nowhere."""
    if overrides:
        word = overrides[0].partition("=")[0]
        raise UserError(
            f"{word} changes nothing, since {why}: give a shipped experiment or a file"
        )


def _cut(cell: str) -> str:
    """A cell of a table; the whole is in the JSON list."""
    return cell if len(cell) <= _WIDEST else f"{cell[: _WIDEST - 3]}..."
