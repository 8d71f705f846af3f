"""Languages and words that the captions of all worlds need, and shares by hash."""

import hashlib
import re

LANGUAGES = ("en", "zh")


def article(noun: str) -> str:
    """Returns "a" or "an" by the first letter."""
    return "an" if noun[:1].lower() in "aeiou" else "a"


def share(salt: str, text: str) -> float:
    """A number in [0, 1) that depends on the texts alone, for splits."""
    digest = hashlib.sha256(f"{salt}|{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def slug(text: str) -> str:
    """Lower-case letters and digits, other characters as one hyphen."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
