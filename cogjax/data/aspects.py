"""Shapes of images that are no squares: (rows, columns), of pixels or of codes.

aspect 3:2     width and height, as people say it; 1:1 is a square
shape 48x72    rows and columns, as the contents of a data set count them
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from cogjax.errors import UserError, shown

Shape = tuple[int, int]
# The shapes of `--fit bucket`: between 1:2 and 2:1 an image loses a fifth at most.
BUCKETS = ("1:2", "2:3", "1:1", "3:2", "2:1")
UNIT = 8  # Sides are multiples of it, as what one code stands for mostly divides it.
_MOST = 8  # of a longer side to a shorter one
_USUAL = ((1, 1), (5, 4), (4, 3), (3, 2), (16, 9), (2, 1), (3, 1), (4, 1))
_SAME = 0.03  # log of how far a shape is at most from the usual aspect it is named by
_NEAR = 0.1  # log of how far from an aspect a shape may be that is asked for by it


def aspect(text: str) -> Fraction:
    """Width over height of an aspect such as "3:2"; UserError for anything else."""
    width, colon, height = text.partition(":") if isinstance(text, str) else ("",) * 3
    # Not all digits at once: Python refuses to read thousands of them.
    sides = [
        int(side) if side.strip().isdecimal() and len(side) < 8 else 0
        for side in (width, height)
    ]
    if not colon or min(sides) < 1 or max(sides) > 10_000:
        raise UserError(
            f"aspect is {shown(text)}, expected width:height such as 3:2 or 1:1"
        )
    if max(sides) > _MOST * min(sides):
        raise UserError(f"aspect is {text}, at most {_MOST}:1 and at least 1:{_MOST}")
    return Fraction(*sides)


def of_aspect(size: int, text: str) -> Shape:
    """(height, width) in pixels of an aspect, about size x size of them.

    Both are multiples of UNIT, and of all such the aspect is met best, then the number
    of pixels. UserError for a text that is no aspect.
    """
    wanted = aspect(text)
    if wanted == 1:
        return size, size
    sides = range(1, max(2, _MOST * size // UNIT) + 1)

    def miss(shape: Shape) -> float:
        rows, columns = shape
        pixels = abs(math.log(rows * columns * UNIT**2 / size**2))
        return 4 * abs(math.log(columns / rows / wanted)) + pixels

    # The widths that come into question for a height.
    near = {
        (rows, columns)
        for rows in sides
        for columns in (int(rows * wanted), math.ceil(rows * wanted))
        if columns
    }
    rows, columns = min(sorted(near), key=miss)
    return rows * UNIT, columns * UNIT


def nearest(shapes: Sequence[Shape], shape: Shape) -> Shape:
    """The shape whose aspect is nearest."""
    return min(shapes, key=lambda one: abs(_log(one) - _log(shape)))


def of_model(shapes: Sequence[Shape], text: str) -> Shape:
    """The shape of codes, of those a model was trained on, that has an aspect.

    UserError, with all that there are, if none is near.
    """
    wanted = math.log(aspect(text))
    found = min(shapes, key=lambda shape: abs(_log(shape) - wanted))
    if abs(_log(found) - wanted) > _NEAR:
        raise UserError(
            f"aspect is {text}, which this model was not trained on: it draws "
            f"{listed(shapes)}"
        )
    return found


def listed(shapes: Iterable[Shape]) -> str:
    """Shapes of codes in words: "1:1 (8 x 8 codes), 2:1 (6 x 12 codes)"."""
    return ", ".join(
        f"{spelled(rows, columns)} ({rows} x {columns} codes)"
        for rows, columns in shapes
    )


def spelled(rows: int, columns: int) -> str:
    """The aspect of a shape, by the usual one that is nearly it: 13 x 20 has 3:2."""
    exact = Fraction(columns, rows)
    for long, short in _USUAL:
        for ratio in (Fraction(long, short), Fraction(short, long)):
            if abs(math.log(ratio / exact)) < _SAME:
                return f"{long}:{short}" if ratio >= 1 else f"{short}:{long}"
    return f"{exact.numerator}:{exact.denominator}"


def name(shape: Shape) -> str:
    """A shape as the contents of a data set count it: "48x96"."""
    return f"{shape[0]}x{shape[1]}"


def of_names(names: Iterable[str]) -> tuple[Shape, ...]:
    """Shapes by the texts of `name`, those nearest to a square first.

    ValueError for a text that is none.
    """
    found = set()
    for text in names:
        rows, _, columns = text.partition("x")
        found.add((int(rows), int(columns)))
    if any(min(shape) < 1 for shape in found):
        raise ValueError("a shape of no rows or columns")
    return tuple(sorted(found, key=lambda shape: (abs(_log(shape)), shape)))


def scaled(shape: Shape, factor: float, unit: int) -> Shape:
    """A shape times a factor, in units of so many pixels: rows and columns of codes."""
    rows, columns = (max(1, round(side * factor / unit)) for side in shape)
    return rows, columns


def _log(shape: Shape) -> float:
    return math.log(shape[1] / shape[0])
