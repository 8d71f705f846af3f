"""What a fault of `tests/mutations.py` is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """`old` becomes `new`, and one of `tests` should fail.

    path: file in cogjax/ that holds `old`, once; if it has moved, `old` alone finds it.
    tests: files in tests/, the likeliest to fail first. why: what is wrong then.
    """

    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str
