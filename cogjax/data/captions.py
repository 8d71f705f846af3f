"""Captions as they come in: bytes to lines, a line to a caption.

What is changed or left out of them is counted, by its reason in words, in the `Counter`
that an import keeps.
"""

import unicodedata
from collections import Counter

from cogjax.errors import UserError

MAX_CAPTION = 2000
CUT = f"captions cut to {MAX_CAPTION:,} characters"
NO_TEXT = "captions with characters that are no text, now spaces"


def decode_text(data: bytes) -> str:
    """UTF-8 bytes as text; UserError with the reason if they are none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8 text") from error
    check_no_nul(text)
    return text


def check_no_nul(text: str) -> None:
    """UserError for NUL characters, which UTF-16 has where it is read as UTF-8."""
    if "\0" in text:
        raise UserError("not UTF-8 text: it has NUL characters, as UTF-16 does")


def lines_of(text: str) -> list[str]:
    """Only line feeds end a line: other separators are white space in it."""
    return text.split("\n")


def clean_caption(text: str, notes: Counter | None = None) -> str:
    """Control and private characters become spaces; at most 2,000 characters.

    notes: counts what is lost. UserError for text that holds NUL characters.
    """
    check_no_nul(text)
    notes = Counter() if notes is None else notes
    # Unassigned code points stay: emoji newer than this Python's tables are among them.
    kinds = [unicodedata.category(c) for c in text[: 4 * MAX_CAPTION]]
    kept = [
        " " if kind in ("Cc", "Cs", "Co") else c
        for c, kind in zip(text, kinds, strict=False)
    ]
    notes[NO_TEXT] += not {"Cs", "Co"}.isdisjoint(kinds)
    whole = " ".join("".join(kept).split())
    notes[CUT] += len(whole) > MAX_CAPTION or len(text) > 4 * MAX_CAPTION
    return whole[:MAX_CAPTION].rstrip()
