"""Requests for images of shapes, in words and back, English and Chinese.

A `Request` lists everything that must be there; a caption words it in one of many ways.
The same tables and templates write captions and read them, so reading is exact.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cogjax.worlds.shapes.scenes import COLOURS
from cogjax.worlds.words import article

LANGUAGES = ("en", "zh")
# Words for a thing, the first one the usual; English ones have a plural in s or es.
SHAPE_WORDS = {
    "circle": (("circle", "disc"), ("圆形", "圆")),
    "square": (("square",), ("正方形", "方块")),
    "triangle": (("triangle",), ("三角形",)),
    "diamond": (("diamond", "rhombus"), ("菱形",)),
    "star": (("star",), ("五角星", "星形")),
    "heart": (("heart",), ("心形", "爱心")),
    "cross": (("cross",), ("十字形", "十字")),
    "ring": (("ring",), ("圆环", "环形")),
}
COLOUR_WORDS = dict(
    zip(
        COLOURS,
        ("红", "橙", "黄", "绿", "青", "蓝", "紫", "粉", "棕", "黑"),
        strict=True,
    )
)
SIZE_WORDS = {"small": (("small", "little"), "小"), "large": (("large", "big"), "大")}
NUMBER_WORDS = {
    1: ("one", "一"),
    2: ("two", "两"),
    3: ("three", "三"),
    4: ("four", "四"),
    5: ("five", "五"),
    6: ("six", "六"),
}


@dataclass(frozen=True)
class Phrase:
    """`count` shapes of a kind; None leaves an attribute open.

    not_colour: a colour that none of them has; then colour is None.
    """

    count: int
    shape: str
    colour: str | None = None
    size: str | None = None
    not_colour: str | None = None


@dataclass(frozen=True)
class Request:
    """Phrases of different shapes, and nothing else in the image.

    relation: of the first of two single shapes to the second: "left", "above" or
    "larger"; None where there is none, and then the phrases are in order of shape.
    """

    phrases: tuple[Phrase, ...]
    relation: str | None = None

    def __post_init__(self):
        if self.relation is None:
            ordered = sorted(self.phrases, key=lambda phrase: phrase.shape)
            object.__setattr__(self, "phrases", tuple(ordered))


# {p} is the first phrase of the request, {q} the second, {r} the third.
_PREFIXES = {
    "en": ("", "a picture of ", "a drawing of ", "an image with "),
    "zh": ("", "图中有", "画着", "一张图，上面有"),
}
_TEMPLATES = {
    ("en", 1, None): ("{p}",),
    ("zh", 1, None): ("{p}",),
    ("en", 2, None): ("{p} and {q}", "{p} with {q}", "{p} together with {q}"),
    ("zh", 2, None): ("{p}和{q}", "{p}与{q}", "{p}，还有{q}"),
    ("en", 3, None): ("{p}, {q} and {r}", "{p} and {q} and {r}"),
    ("zh", 3, None): ("{p}、{q}和{r}", "{p}，{q}，{r}"),
    ("en", 2, "left"): (
        "{p} to the left of {q}",
        "{p} left of {q}",
        "{q} to the right of {p}",
        "{q} right of {p}",
        "{p} on the left and {q} on the right",
    ),
    ("zh", 2, "left"): (
        "{p}在{q}的左边",
        "{q}在{p}的右边",
        "{q}左侧的{p}",
        "{p}右侧的{q}",
        "左边{p}，右边{q}",
    ),
    ("en", 2, "above"): (
        "{p} above {q}",
        "{p} over {q}",
        "{q} below {p}",
        "{q} under {p}",
        "{p} at the top and {q} at the bottom",
    ),
    ("zh", 2, "above"): (
        "{p}在{q}的上方",
        "{q}在{p}的下方",
        "{q}上面的{p}",
        "{p}下面的{q}",
        "上边{p}，下边{q}",
    ),
    ("en", 2, "larger"): (
        "{p} larger than {q}",
        "{p} that is bigger than {q}",
        "{q} smaller than {p}",
    ),
    ("zh", 2, "larger"): ("{p}比{q}大", "{q}比{p}小", "比{q}更大的{p}"),
}


def write(request: Request, language: str, rng: np.random.Generator) -> str:
    """One of the captions of a request in "en" or "zh", sampled by `rng`."""
    phrases = list(request.phrases)
    if request.relation is None:
        phrases = [phrases[i] for i in rng.permutation(len(phrases))]
    templates = _TEMPLATES[language, len(phrases), request.relation]
    words = _phrase_en if language == "en" else _phrase_zh
    named = zip("pqr", (words(phrase, rng) for phrase in phrases), strict=False)
    return pick(_PREFIXES[language], rng) + pick(templates, rng).format(**dict(named))


def read(caption: str) -> Request | None:
    """The request that a caption of either language states, None if it is none.

    Wide and narrow punctuation are the same: text models write the latter for both.
    """
    text = unicodedata.normalize("NFKC", caption).strip().rstrip(".。").lower()
    for language, relation, pattern in _patterns():
        if found := pattern.fullmatch(text):
            read_phrase = _read_en if language == "en" else _read_zh
            phrases = [
                read_phrase(found[name])
                for name in "pqr"
                if name in found.re.groupindex
            ]
            if len({phrase.shape for phrase in phrases}) == len(phrases):
                return Request(tuple(phrases), relation)
    return None


def pick(choices: Sequence, rng: np.random.Generator) -> Any:
    """One of the choices, sampled by `rng`."""
    return choices[rng.integers(len(choices))]


def _phrase_en(phrase: Phrase, rng) -> str:
    noun = pick(SHAPE_WORDS[phrase.shape][0], rng)
    if phrase.count > 1:
        noun = plural(noun)
    words = [phrase.colour, noun] if phrase.colour else [noun]
    if phrase.size:
        words.insert(0, pick(SIZE_WORDS[phrase.size][0], rng))
    number = NUMBER_WORDS[phrase.count][0] if phrase.count > 1 else article(words[0])
    text = " ".join([number, *words])
    if phrase.not_colour:
        text += f" that {'is' if phrase.count == 1 else 'are'} not {phrase.not_colour}"
    return text


def _phrase_zh(phrase: Phrase, rng) -> str:
    text = f"{NUMBER_WORDS[phrase.count][1]}个"
    if phrase.not_colour:
        text += f"不是{COLOUR_WORDS[phrase.not_colour]}色的"
    if phrase.colour:
        text += f"{COLOUR_WORDS[phrase.colour]}色{pick(('', '的'), rng)}"
    if phrase.size:
        text += f"{SIZE_WORDS[phrase.size][1]}"
    return text + pick(SHAPE_WORDS[phrase.shape][1], rng)


def plural(noun: str) -> str:
    """More than one of an English noun of SHAPE_WORDS."""
    return noun + ("es" if noun.endswith("s") else "s")


def _either(words) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


def _inverse(table) -> dict[str, object]:
    return {word: key for key, words in table.items() for word in words}


_NOUNS_EN = _inverse({k: en for k, (en, _) in SHAPE_WORDS.items()})
_NOUNS_EN |= {plural(noun): shape for noun, shape in _NOUNS_EN.items()}
_NOUNS_ZH = _inverse({k: zh for k, (_, zh) in SHAPE_WORDS.items()})
_SIZES_EN = _inverse({k: en for k, (en, _) in SIZE_WORDS.items()})
_SIZES_ZH = {zh: k for k, (_, zh) in SIZE_WORDS.items()}
_COLOURS_ZH = {zh: k for k, zh in COLOUR_WORDS.items()}
_COUNTS = {word: n for n, words in NUMBER_WORDS.items() for word in words}
_COUNTS |= {"a": 1, "an": 1, "二": 2}
_EN = (
    rf"({_either(k for k in _COUNTS if k.isascii())})"
    rf"(?: ({_either(_SIZES_EN)}))?(?: ({_either(COLOURS)}))?"
    rf" ({_either(_NOUNS_EN)})(?: that (?:is|are) not ({_either(COLOURS)}))?"
)
_ZH = (
    rf"({_either(k for k in _COUNTS if not k.isascii())})个"
    rf"(?:不是({_either(_COLOURS_ZH)})色的)?(?:({_either(_COLOURS_ZH)})色的?)?"
    rf"({_either(_SIZES_ZH)})?({_either(_NOUNS_ZH)})"
)


def _read_en(text: str) -> Phrase:
    count, size, colour, noun, not_colour = re.fullmatch(_EN, text).groups()
    size = _SIZES_EN[size] if size else None
    return Phrase(_COUNTS[count], _NOUNS_EN[noun], colour, size, not_colour)


def _read_zh(text: str) -> Phrase:
    count, not_colour, colour, size, noun = re.fullmatch(_ZH, text).groups()
    colours = [_COLOURS_ZH[c] if c else None for c in (colour, not_colour)]
    size = _SIZES_ZH[size] if size else None
    return Phrase(_COUNTS[count], _NOUNS_ZH[noun], colours[0], size, colours[1])


@functools.cache
def _patterns() -> list[tuple[str, str | None, re.Pattern]]:
    """(language, relation, pattern with a group a phrase) of every template."""
    bare = {
        "en": re.sub(r"\((?!\?)", "(?:", _EN),
        "zh": re.sub(r"\((?!\?)", "(?:", _ZH),
    }
    found = []
    for (language, _, relation), templates in _TEMPLATES.items():
        prefix = f"(?:{_either(_PREFIXES[language])})"
        for template in templates:
            pattern = re.sub(r"{(.)}", rf"(?P<\1>{bare[language]})", template)
            pattern = unicodedata.normalize("NFKC", prefix + pattern)
            found.append((language, relation, re.compile(pattern)))
    return found
