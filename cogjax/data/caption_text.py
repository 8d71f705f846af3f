"""How the captions of DALL-E mini were cleaned, and prompts are before they are cut.

The rules are those of borisdayma/dalle-mini's normaliser: lower case, ASCII, signs
become commas, and a space in front. Letters with marks lose them and emoji are spelled
by their Unicode names; of letters without a Latin form, which the release spells by
sound, nothing is left.
"""

import functools
import html
import math
import re
import unicodedata
from collections.abc import Callable, Sequence

# Letters and signs that no decomposition takes apart.
_ASCII = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201b\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201f\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
        **{"\u2014": "--", "\u2026": "...", "\u2022": "*", "\u00d7": "x"},
        **{"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE"},
        **{"ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ł": "l", "Ł": "L", "đ": "d"},
        **{"ı": "i", "©": "(c)", "®": "(r)", "€": "EUR", "£": "PS", "°": "deg"},
    }
)
# Stand for a dot, an apostrophe and a slash that stay: letters that ASCII has not.
_DOT, _APOSTROPHE, _SLASH = "\u0101", "\u0103", "\u0105"
_Rule = tuple[str, str]
_BEFORE_HASHTAGS: tuple[_Rule, ...] = (
    (r"<person>([,\s]*(and)*[,\s]*<person>)+", " people "),
    ("<person>", " a person "),  # The likeliest of the three that the release draws.
    (r"\A\s*\[\d+\]", ""),  # References of Wikipedia.
    (r"\[\d+\]\s*\Z", ""),
    ("<[^<]+?>", " "),
    (r"http\S+", ""),
    (r"(\d),(\d{3})", r"\1\2"),
    (r"(\d),(\d{3})", r"\1\2"),
    (r"(\w)\.(\w)", rf"\1{_DOT}\2"),
    (r"'(?=([stdm]|ll|re|ve)\b)", _APOSTROPHE),
    (r"(\d)/(\d)", rf"\1{_SLASH}\2"),
    (r"(\w)-(\w)", r"\1 \2"),
    (r"([%&/$*])", r" \1 "),
)
_AFTER_HASHTAGS: tuple[_Rule, ...] = (
    (r"[_#\\]", " "),
    ("['\"`]", ' " '),
    (r"[()\[\].,|:;?!=+~\-/{}]", ","),
    (_DOT, "."),
    (_APOSTROPHE, "'"),
    (_SLASH, "/"),
    (r"(\D)\1{3,}", r"\1"),
    (r'(\s*"+\s*)+', ' " '),
    (r"(\s*,+\s*)+", ", "),
    (r"\s+", " "),
    (r"\A ?,?\s*", ""),
    (r"\s*,?\s*\Z", ""),
)


def normalized(text: str, words: Sequence[str] = ()) -> str:
    """The text as captions were in training, a space in front.

    words: the commonest first, by which hashtags are cut; without them a hashtag stays
    one word.
    """
    text = html.unescape(html.unescape(text))
    text = _latin(spelled(text, ":")).lower()
    text = _follow(_BEFORE_HASHTAGS, text)
    split = hashtag_splitter(tuple(words)) if words else str
    text = re.sub(r"#(\w+)", lambda match: split(match[1]), text)
    return " " + _follow(_AFTER_HASHTAGS, text)


def spelled(text: str, sign: str) -> str:
    """Emoji as their names in Unicode, "_" for spaces and a sign on both sides."""
    return "".join(_name(c, sign) for c in text)


def _name(character: str, sign: str) -> str:
    name = unicodedata.name(character, "")
    if unicodedata.category(character) != "So" or character < "\u2190" or not name:
        return character
    return f"{sign}{name.lower().replace(' ', '_')}{sign}"


@functools.lru_cache(maxsize=4)
def hashtag_splitter(words: tuple[str, ...]) -> Callable[[str], str]:
    """Puts spaces into what is written without: the commonest words that fill it.

    A word costs the logarithm of its rank. Digits in a row stay together.
    """
    cost = {word: math.log(rank) for rank, word in enumerate(words, 1)}
    longest = max(map(len, words))

    def split(text: str) -> str:
        found = (_cut(part, cost, longest) for part in re.split("[^a-zA-Z0-9]+", text))
        return " ".join(word for part in found for word in part)

    return split


def _cut(text: str, cost: dict[str, float], longest: int) -> list[str]:
    """The cheapest words that make a text; what is no word costs infinitely much."""
    # For each length of the start: its cost, and the length of its last word.
    best = [(0.0, 0)]
    for end in range(1, len(text) + 1):
        sizes = range(1, min(longest, end) + 1)
        best.append(
            min(
                (best[end - n][0] + cost.get(text[end - n : end].lower(), math.inf), n)
                for n in sizes
            )
        )
    found: list[str] = []
    end = len(text)
    while end:
        word = text[end - best[end][1] : end]
        end -= len(word)
        if found and word[-1].isdigit() and found[-1][0].isdigit():
            found[-1] = word + found[-1]
        else:
            found.append(word)
    return found[::-1]


def _latin(text: str) -> str:
    """ASCII alone: letters without their marks, and a few signs as others."""
    text = unicodedata.normalize("NFKD", text.translate(_ASCII))
    text = text.replace("\u2044", "/")  # The slash of fractions.
    return text.encode("ascii", "ignore").decode()


def _follow(rules: Sequence[_Rule], text: str) -> str:
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text
