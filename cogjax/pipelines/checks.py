"""What a value may be, for the command line and Python alike.

Nothing heavy is imported: the flags of the command line take their limits from here.
"""

import numbers
import unicodedata
import warnings
from collections.abc import Callable
from typing import Any, get_args

from cogjax.errors import Notice, UserError, shown
from cogjax.sampling.diffusion.settings import Method

NUM_IMAGES = 4  # of a prompt, unless told otherwise
MAX_IMAGES = 1000  # of a prompt
MAX_PROMPTS = 10_000
MAX_TEXT = 4096  # characters
MAX_SEED = 2**32 - 1
MAX_FIRST = 10**9
MAX_TOP_K = 2**31 - 1
MAX_TEMPERATURE = 100
MAX_STEPS = 10_000
MAX_GUIDANCE = 100
METHODS = get_args(Method)  # of a cascade
MAX_BEAMS = 64
MAX_FILLINGS = 64  # of a hole
MAX_LENGTH_PENALTY = 10
MAX_STAGES = 8  # of a cascade
MIN_STRENGTH = 0.05


def check_whole(name: str, value: Any, low: int, high: int) -> int:
    """The value as an int; UserError unless it is a whole number in [low, high]."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or not low <= value <= high:
        raise UserError(
            f"{name} is {shown(value)}, expected a whole number from {low} to {high}"
        )
    return int(value)


def check_number(
    name: str, value: Any, low: float, high: float, open_low: bool = False
) -> float:
    """The value; UserError unless it is a number in [low, high], or (low, high]."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (low < value if open_low else low <= value) or value > high:
        start = f"above {low:g}, up" if open_low else f"from {low:g}"
        raise UserError(
            f"{name} is {shown(value)}, expected a number {start} to {high:g}"
        )
    return value


def check_percentile(name: str, value: Any) -> float:
    """The value; UserError unless it is 0, or above 1 up to 100."""
    if check_number(name, value, 0, 100) and value <= 1:
        raise UserError(f"{name} is {value}, of 100: the paper has 99.5, and 0 clips")
    return value


def check_stages(name: str, value: Any, check: Callable[[str, Any], Any]) -> Any:
    """What `check` makes of a value, or of each of a tuple or list, one a stage."""
    if not isinstance(value, tuple | list):
        return check(name, value)
    if not 1 <= len(value) <= MAX_STAGES:
        raise UserError(
            f"{name} has {len(value)} values, expected one, or one a stage, at most "
            f"{MAX_STAGES}"
        )
    return tuple(check(f"{name} of stage {i}", x) for i, x in enumerate(value, 1))


def check_text(text: Any, what: str) -> str:
    """The text, stripped; UserError if it is empty, endless or no Unicode text."""
    if not isinstance(text, str):
        raise UserError(f"{what} is {shown(text)}, expected a text")
    stripped = text.strip()
    if is_blank(stripped):
        raise UserError(f"{what} is empty: write at least a word")
    if len(stripped) > MAX_TEXT:
        raise UserError(f"{what} has {len(stripped)} characters, at most {MAX_TEXT}")
    try:
        stripped.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{what} is not valid UTF-8") from None
    if "\0" in stripped:
        raise UserError(f"{what} is not UTF-8 text: it has NUL characters")
    return stripped


def say_unread(what: str, count: int, most: int, unread: str) -> None:
    """A Notice: of a text's `count` pieces `most` are read, and not its end `unread`.

    It is placed where the caller's caller is called.
    """
    warnings.warn(
        f"{what} has {count} pieces and the model reads {most}; "
        f"left off: {unread[:100]!r}",
        Notice,
        stacklevel=4,
    )


def is_blank(text: str) -> bool:
    """Whether a text has nothing but spaces and control characters."""
    # Cn is unassigned in this Python's tables: emoji newer than they are.
    kinds = {unicodedata.category(c) for c in text}
    return all(kind[0] in "CZ" and kind != "Cn" for kind in kinds)
