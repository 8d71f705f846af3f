"""Tables as plain text, for a terminal."""

from collections.abc import Sequence

from cogjax.errors import printable


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells, each column as wide as its widest cell."""
    rows = [list(map(printable, row)) for row in rows]
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(size) for cell, size in zip(row, sizes, strict=True)
        ).rstrip()
        for row in rows
    )
