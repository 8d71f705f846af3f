"""Code of docs/importing.md, which tells users how others load what is exported."""

import re
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs" / "importing.md"


def loader():
    """`load_exported` of the page."""
    names: dict = {}
    exec(_blocks()[0], names)
    return names["load_exported"]


def script():
    """The program that runs programs."""
    return _blocks()[1]


def _blocks():
    return re.findall(r"^```python\n(.*?)^```$", _PAGE.read_text("utf-8"), re.M | re.S)
