"""Classes in place of texts: a prompt is the number or the name of one.

    #classes 1000
    tench, Tinca tinca
    ...

The file has a line for each class, in order: its names with commas between them, or
nothing where only its number is known. The 1,000 of ImageNet have such names.
"""

from collections.abc import Sequence

from cogjax.data.text import TextTokenizer, clean
from cogjax.errors import UserError, did_you_mean, shown

_HEAD = "#classes "
_MAX_CLASSES = 1 << 20


class ClassNames(TextTokenizer):
    """The text tokenizer of a model of classes: one id a prompt."""

    def __init__(self, serialized: bytes, name: str = "tokenizer"):
        """Reads the lines; UserError for other files."""
        try:
            head, *lines = serialized.decode("utf-8").split("\n")
            count = int(head.removeprefix(_HEAD))
        except ValueError as error:
            raise UserError(f"{name} has no classes: it is damaged") from error
        if not 0 < count <= _MAX_CLASSES or len(lines) != count + 1 or lines[-1]:
            raise UserError(
                f"{name} is damaged: it names {count} classes and has others"
            )
        self.serialized, self._names = serialized, lines[:-1]
        self._ids = {}
        for i, names in enumerate(self._names):
            for each in (names, *names.split(",")):
                # A name of two classes, as ImageNet's cranes, means the first.
                self._ids.setdefault(_folded(each), i)
        self._ids.pop("", None)

    @classmethod
    def of(cls, names: Sequence[str]) -> "ClassNames":
        """Makes it from the names of each class, "" for one that has none."""
        lines = [clean(name) for name in names]
        return cls("\n".join([f"{_HEAD}{len(lines)}", *lines, ""]).encode())

    @property
    def size(self) -> int:
        """Number of classes."""
        return len(self._names)

    def encode(self, text: str) -> list[int]:
        """The class of a number or a name; UserError for anything else."""
        wanted, last = _folded(text), len(self._names) - 1
        if wanted.isascii() and wanted.isdigit() and len(wanted) < 9:
            number = int(wanted)
        else:
            number = self._ids.get(wanted, -1)
        if not 0 <= number <= last:
            hint = did_you_mean(wanted, self._ids) if wanted and self._ids else ""
            hint = hint if "did you mean" in hint else ""
            raise UserError(
                f"this model draws classes: {shown(text)} is no number from 0 to {last}"
                f"{' and no name of a class' if self._ids else ''}{hint}"
            )
        return [number]

    def _text(self, ids: list[int]) -> str:
        """The names of classes, or their numbers."""
        return ", ".join(self._names[i] or str(i) for i in ids)

    def merges(self) -> None:
        """None: nothing is merged."""


def is_classes(data: bytes) -> bool:
    """Whether a file starts as that of classes does."""
    return data.startswith(_HEAD.encode())


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())
