"""Languages and words that the captions of all worlds need."""

LANGUAGES = ("en", "zh")


def article(noun: str) -> str:
    """Returns "a" or "an" by the first letter."""
    return "an" if noun[:1].lower() in "aeiou" else "a"
