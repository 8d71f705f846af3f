"""Which captions and images are kept: the rules that papers name, one by one.

DALL-E (Ramesh et al. 2021, appendix C) drops captions that are short, not English or
boilerplate, and images whose aspect ratio is outside [1/2, 2]. ERNIE-ViLG (Zhang et al.
2021) has a criterion of 15 words, drops special characters, and keeps similarities of
image and text above 0.5. Its rule of a noun at least needs a tagger, and is not here.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cogjax.data.records import Example
from cogjax.data.word_list import words_of
from cogjax.errors import UserError

Limits = tuple[float | None, float | None]
# Why something is dropped, and whether it is.
Rule = tuple[str, Callable[[Any], bool]]

_MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\\.?"
_DATE = "|".join(
    (
        r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}",
        rf"\d{{1,2}}(st|nd|rd|th)?\s+(of\s+)?{_MONTH},?\s+\d{{4}}",
        rf"{_MONTH}\s+(\d{{1,2}}(st|nd|rd|th)?,?\s+)?\d{{4}}",
        r"\d{4}\s*年(\s*\d{1,2}\s*月)?(\s*\d{1,2}\s*日)?",
    )
)
_MADE = r"((photo(graph)?|image|picture)s?\s+)?(photographed|taken|captured|uploaded)"
_BOILERPLATE = re.compile(
    rf"({_MADE}|photo(graph)?s?)\s+((on|in)\s+)?({_DATE})"
    rf"|(拍摄|摄)于\s*({_DATE})"
    r"|\b(img|dsc[nf]?|pict?)[-_ ]?\d{3,}(\.[a-z]{3,4})?\b",
    re.IGNORECASE,
)
_SPECIAL = set("#@*\\_{}[]<>|")


@dataclass(frozen=True)
class Rules:
    """What is kept; the defaults keep all. UserError for limits the wrong way round.

    words, characters: least and most of a caption, None is no limit; words are those of
    `words_of`. language: "en" or "zh", by script. boilerplate: keep captions that are
    mostly a date of a photograph or the name a camera gives. special: keep captions
    with special characters. aspect: least and most width / height of the image before
    it was cropped. banned: sources of images.
    """

    words: Limits = (None, None)
    characters: Limits = (None, None)
    language: str = ""
    boilerplate: bool = True
    special: bool = True
    aspect: Limits = (None, None)
    banned: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("words", "characters", "aspect"):
            least, most = getattr(self, name)
            if least is not None and most is not None and least > most:
                raise UserError(f"{name}: at least {least:g} and at most {most:g}")

    def of_captions(self) -> Iterator[Rule]:
        """Functions of a text."""
        yield from _outside(self.words, "words", lambda text: len(words_of(text)))
        yield from _outside(self.characters, "characters", len)
        if self.language:
            yield f"not {self.language}", lambda text: script(text) != self.language
        if not self.boilerplate:
            yield "boilerplate", is_boilerplate
        if not self.special:
            yield "special characters", has_special

    def of_images(self) -> Iterator[Rule]:
        """Functions of an `Example`."""
        yield from _outside(self.aspect, "aspect ratio", aspect_ratio)
        for name in self.banned:
            yield f"source {name}", lambda item, name=name: source_of(item) == name


def _outside(limits: Limits, what: str, measure: Callable) -> Iterator[Rule]:
    least, most = limits
    if least is not None:
        yield f"{what} below {least:g}", lambda item: measure(item) < least
    if most is not None:
        yield f"{what} above {most:g}", lambda item: measure(item) > most


def script(text: str) -> str:
    """ "zh" or "en" by the script of most words; "" if that is neither's.

    A Chinese character counts as a word; kana are no Chinese, accents no English. That
    tells no English from other languages in plain Latin letters.
    """
    words = words_of(text)
    chinese = sum("㐀" <= word <= "鿿" or word >= "\U00020000" for word in words)
    english = sum(word.isascii() and not word.isdigit() for word in words)
    others = sum(not word.isdigit() for word in words) - chinese - english
    if max(chinese, english) <= others:
        return ""
    # Chinese captions hold Latin names more often than the other way round.
    return "zh" if chinese >= english else "en"


def is_boilerplate(text: str) -> bool:
    """Whether most words are a photograph's date or a camera's name for a file."""
    left = words_of(_BOILERPLATE.sub(" ", text))
    return 2 * len(left) < len(words_of(text))


def has_special(text: str) -> bool:
    r"""Whether there are symbols, controls or one of # @ * \ _ { } [ ] < > |."""
    return any(unicodedata.category(c)[0] in "SC" or c in _SPECIAL for c in text)


def aspect_ratio(item: Example) -> float:
    """Width / height when it was imported; UserError if that was not noted."""
    try:
        return int(item.meta["width"]) / int(item.meta["height"])
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"the width and height that {item.id} had before it was cropped are not "
            "known: import the images again with `cogjax data folder`"
        ) from error


def source_of(item: Example) -> str:
    """Where an image is from: its source, or its style if it has none."""
    return item.meta.get("source") or item.meta.get("style", "")
