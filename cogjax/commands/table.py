"""Tables for people, on a terminal and in a file."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cogjax.errors import printable

# A file has no width: there each row is one line.
_WIDE = 100_000


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints rows under the names of their columns; on a terminal long cells wrap.

    Numbers stand at the right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i, name in enumerate(columns):
        numbers = all(isinstance(row[i], int | float) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        # Texts of others, in which brackets and colours mean nothing.
        table.add_row(*(Text(_cell(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    with console.capture() as found:
        console.print(table)
    for line in found.get().splitlines():
        print(line.rstrip())


def flattened(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of all that stands in nested mappings, lists of them too."""
    for name, value in values.items():
        if isinstance(value, list | tuple) and any(
            isinstance(x, Mapping) for x in value
        ):
            value = {str(i): each for i, each in enumerate(value, 1)}
        if isinstance(value, Mapping):
            yield from flattened(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def print_facts(facts: Mapping[str, Any]) -> None:
    """Prints what is known of one thing, a name and a value a line."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        print(f"{printable(name):<{width}}  {_cell(value)}")


def sized(count: int) -> str:
    """Bytes in words: 12.1 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(str(value))
