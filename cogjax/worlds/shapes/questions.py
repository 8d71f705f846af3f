"""Questions about scenes of shapes with exact answers, English and Chinese.

Five kinds: how many, what colour, which shape, where, yes or no. A question is asked
only where the scene decides it: all shapes of a kind are alike, and a place is clear by
GenEval's rule. None states a held-out combination (`splits.py`) unless the scene
shows it.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.worlds.shapes.captions import (
    COLOUR_WORDS,
    LANGUAGES,
    NUMBER_WORDS,
    SHAPE_WORDS,
    SIZE_WORDS,
    pick,
    plural,
)
from cogjax.worlds.shapes.scenes import COLOURS, SHAPES, Item, Scene, relations
from cogjax.worlds.shapes.splits import HELD_COLOURS, HELD_COUNTS, HELD_RELATIONS, MOST
from cogjax.worlds.words import article

KINDS = ("count", "colour", "shape", "where", "yes-no")
# How far from the middle, in shares of the side, a corner begins.
CORNER = 0.125
_PLACES = {
    "left": (("left", "to the left", "on the left"), ("左边", "左侧", "左")),
    "right": (("right", "to the right", "on the right"), ("右边", "右侧", "右")),
    "above": (("above", "over"), ("上方", "上面", "上边")),
    "below": (("below", "under"), ("下方", "下面", "下边")),
    "top left": (("top left", "in the top left corner"), ("左上角", "左上")),
    "top right": (("top right", "in the top right corner"), ("右上角", "右上")),
    "bottom left": (("bottom left", "in the bottom left corner"), ("左下角", "左下")),
    "bottom right": (
        ("bottom right", "in the bottom right corner"),
        ("右下角", "右下"),
    ),
}
_TRUTHS = {
    "yes": (("yes",), ("对", "是", "有")),
    "no": (("no",), ("不对", "不是", "没有", "否")),
}
# The relation as seen from the other shape.
_BACK = {"left": "right", "right": "left", "above": "below", "below": "above"}
_SIDES = {
    "left": ("to the left of", "左边"),
    "right": ("to the right of", "右边"),
    "above": ("above", "上方"),
    "below": ("below", "下方"),
}
_ASK = {
    ("en", "count"): ("how many {p} are there?", "how many {p} does the picture show?"),
    ("zh", "count"): ("图中有多少个{p}？", "有几个{p}？"),
    ("en", "colour"): ("what colour {be} the {p}?", "which colour {be} the {p}?"),
    ("zh", "colour"): ("{p}是什么颜色的？", "{p}的颜色是什么？"),
    ("en", "shape"): ("what shape {be} the {p}?", "which shape {be} the {p}?"),
    ("zh", "shape"): ("{p}是什么形状的？", "{p}的形状是什么？"),
    ("en", "side"): (
        "where is the {p} seen from the {q}?",
        "on which side of the {q} is the {p}?",
    ),
    ("zh", "side"): ("{p}在{q}的哪边？", "从{q}看，{p}在哪边？"),
    ("en", "corner"): (
        "where in the picture is the {p}?",
        "in which corner is the {p}?",
    ),
    ("zh", "corner"): ("{p}在图中的哪里？", "{p}在哪个角？"),
}


@dataclass(frozen=True)
class Question:
    """kind: of KINDS. language: "en" or "zh". answer: as the grammar words it."""

    kind: str
    language: str
    text: str
    answer: str


def ask(
    kind: str, scene: Scene, language: str, rng: np.random.Generator
) -> Question | None:
    """A question of a kind, sampled by `rng`; None if the scene decides none."""
    asked = _ASKERS[kind](scene.items, language, rng)
    return asked and Question(kind, language, *asked)


def ask_all(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """One question of each kind and language that the scene decides."""
    asked = [ask(kind, scene, word, rng) for kind in KINDS for word in LANGUAGES]
    return [question for question in asked if question]


def same_answer(given: str, wanted: str) -> bool:
    """Whether two answers say the same, in other words or the other language too."""
    meaning = _meaning(given)
    return meaning is not None and meaning == _meaning(wanted)


def _meaning(answer: str) -> str | None:
    """The meaning of an answer, None for a text that answers no question."""
    text = " ".join(answer.strip().rstrip(".。!！").lower().split())
    for word in ("there are ", "it is ", "the ", "an ", "a "):
        text = text.removeprefix(word)
    return _meanings().get(text)


@functools.cache
def _meanings() -> dict[str, str]:
    found = {}
    for table in (_PLACES, _TRUTHS, SHAPE_WORDS):
        for key, words in table.items():
            found |= {word: key for word in (*words[0], *words[1])}
    found |= {plural(word): k for k, words in SHAPE_WORDS.items() for word in words[0]}
    for colour, word in COLOUR_WORDS.items():
        found |= {name: colour for name in (colour, f"{word}色", f"{word}色的", word)}
    numbers = NUMBER_WORDS | {0: ("zero", "零")}
    for number, (english, chinese) in numbers.items():
        names = (english, chinese, f"{chinese}个", str(number), f"{number}个")
        found |= {name: str(number) for name in names}
    return found | {"none": "0", "二": "2", "二个": "2"}


# Each gives (question, answer) or None.


def _ask_count(items: Sequence[Item], language: str, rng):
    shape, colour = None, None
    form = rng.random()
    if form < 0.15:
        shape = pick([s for s in SHAPES if s not in {i.shape for i in items}], rng)
    elif form < 0.85:
        shape = pick(_kinds(items), rng)
    if form > 0.7:
        colour = pick(
            sorted({i.colour for i in items if shape in (None, i.shape)}), rng
        )
    number = sum(shape in (None, i.shape) and colour in (None, i.colour) for i in items)
    words = _group(language, shape, colour, 2, rng)
    return _fill(language, "count", rng, p=words), _number(number, language)


def _ask_colour(items: Sequence[Item], language: str, rng):
    decided = [
        shape
        for shape in _kinds(items)
        if len({i.colour for i in items if i.shape == shape}) == 1
    ]
    if not decided:
        return None
    shape = pick(decided, rng)
    found = [i for i in items if i.shape == shape]
    words = _group(language, shape, None, len(found), rng)
    be = "is" if len(found) == 1 else "are"
    question = _fill(language, "colour", rng, p=words, be=be)
    return question, _colour(found[0].colour, language)


def _ask_shape(items: Sequence[Item], language: str, rng):
    """Asks which shapes have a colour or a size, if they are of one kind."""
    groups = [("colour", name) for name in COLOURS] + [("size", n) for n in SIZE_WORDS]
    decided = []
    for field, name in groups:
        found = [i for i in items if getattr(i, field) == name]
        if len({i.shape for i in found}) == 1:
            decided.append((field, name, found))
    if not decided:
        return None
    field, name, found = pick(decided, rng)
    if language == "zh":
        named = f"{COLOUR_WORDS[name]}色" if field == "colour" else SIZE_WORDS[name][1]
        words = f"{named}的图形"
    else:
        named = name if field == "colour" else pick(SIZE_WORDS[name][0], rng)
        words = f"{named} {'one' if len(found) == 1 else 'ones'}"
    be = "is" if len(found) == 1 else "are"
    question = _fill(language, "shape", rng, p=words, be=be)
    return question, SHAPE_WORDS[found[0].shape][language == "zh"][0]


def _ask_where(items: Sequence[Item], language: str, rng):
    """From another shape, or in which corner of the image."""
    pairs, corners = _sides(items), _corners(items)
    if not pairs and not corners:
        return None
    index = language == "zh"
    if pairs and (not corners or rng.random() < 0.6):
        side, *shapes = pick(pairs, rng)
        p, q = (pick(SHAPE_WORDS[shape][index], rng) for shape in shapes)
        return _fill(language, "side", rng, p=p, q=q), _PLACES[side][index][0]
    corner, shape = pick(corners, rng)
    p = pick(SHAPE_WORDS[shape][index], rng)
    return _fill(language, "corner", rng, p=p), _PLACES[corner][index][0]


def _ask_truth(items: Sequence[Item], language: str, rng):
    """A statement about the scene, true or false with equal chance."""
    truth = bool(rng.random() < 0.5)
    forms = [_state_existence, _state_colour, _state_count, _state_side]
    for which in rng.permutation(len(forms)):
        if stated := forms[which](items, language, truth, rng):
            answer = _TRUTHS["yes" if truth else "no"][language == "zh"][0]
            return stated, answer
    return None


def _state_existence(items, language, truth, rng):
    shown = {(i.shape, i.colour) for i in items}
    pairs = [(shape, colour) for shape in SHAPES for colour in COLOURS]
    false = [x for x in pairs if x not in shown and x not in HELD_COLOURS]
    shape, colour = pick(sorted(shown) if truth else false, rng)
    if language == "zh":
        return f"图中有{_group('zh', shape, colour, 1, rng)}，对吗？"
    words = _group("en", shape, colour, 1, rng)
    return f"is there {article(words)} {words}?"


def _state_colour(items, language, truth, rng):
    alone = _single(items)
    if not alone:
        return None
    item = pick(alone, rng)
    others = [
        hue
        for hue in COLOURS
        if hue != item.colour and (item.shape, hue) not in HELD_COLOURS
    ]
    colour = item.colour if truth else pick(others, rng)
    words = _group(language, item.shape, None, 1, rng)
    if language == "zh":
        return f"{words}是{COLOUR_WORDS[colour]}色的，对吗？"
    return f"is the {words} {colour}?"


def _state_count(items, language, truth, rng):
    shape = pick(_kinds(items), rng)
    real = sum(i.shape == shape for i in items)
    others = [n for n in range(1, MOST + 1) if (shape, n) not in HELD_COUNTS]
    number = real if truth else pick([n for n in others if n != real], rng)
    words = _group(language, shape, None, number, rng)
    if language == "zh":
        return f"图中正好有{NUMBER_WORDS[number][1]}个{words}，对吗？"
    be = "is" if number == 1 else "are"
    return f"{be} there exactly {NUMBER_WORDS[number][0]} {words}?"


def _state_side(items, language, truth, rng):
    pairs = _sides(items)
    if not truth:
        # The opposite side is wrong, and must not be held out either.
        pairs = [(s, a, b) for s, a, b in pairs if not _held(_BACK[s], a, b)]
    if not pairs:
        return None
    side, a, b = pick(pairs, rng)
    side = side if truth else _BACK[side]
    p, q = (_group(language, shape, None, 1, rng) for shape in (a, b))
    if language == "zh":
        return f"{p}在{q}的{_SIDES[side][1]}，对吗？"
    return f"is the {p} {_SIDES[side][0]} the {q}?"


_ASKERS = {
    "count": _ask_count,
    "colour": _ask_colour,
    "shape": _ask_shape,
    "where": _ask_where,
    "yes-no": _ask_truth,
}


def _kinds(items: Sequence[Item]) -> list[str]:
    return sorted({i.shape for i in items})


def _single(items: Sequence[Item]) -> list[Item]:
    """Items that are alone of their shape."""
    shapes = [i.shape for i in items]
    return [i for i in items if shapes.count(i.shape) == 1]


def _held(side: str, a: str, b: str) -> bool:
    if side in ("right", "below"):
        side, a, b = _BACK[side], b, a
    return (side, a, b) in HELD_RELATIONS


def _sides(items: Sequence[Item]) -> list[tuple[str, str, str]]:
    """(where a lies, a, b) of single shapes that are on one side of each other."""
    found = []
    for a in _single(items):
        for b in _single(items):
            sides = relations(a, b) if a is not b else ()
            if len(sides) == 1 and not _held(side := min(sides), a.shape, b.shape):
                found.append((side, a.shape, b.shape))
    return found


def _corners(items: Sequence[Item]) -> list[tuple[str, str]]:
    """(corner, shape) of single shapes away from both middle lines."""
    found = []
    for i in _single(items):
        if min(abs(i.x - 0.5), abs(i.y - 0.5)) >= CORNER:
            rows = "top" if i.y < 0.5 else "bottom"
            found.append((f"{rows} {'left' if i.x < 0.5 else 'right'}", i.shape))
    return found


def _group(
    language: str, shape: str | None, colour: str | None, count: int, rng
) -> str:
    """A noun with a colour, no article; shape None is any shape."""
    if language == "zh":
        noun = pick(SHAPE_WORDS[shape][1], rng) if shape else "图形"
        return f"{COLOUR_WORDS[colour]}色的{noun}" if colour else noun
    noun = pick(SHAPE_WORDS[shape][0], rng) if shape else "shape"
    noun = plural(noun) if count != 1 else noun
    return f"{colour} {noun}" if colour else noun


def _number(number: int, language: str) -> str:
    if not number:
        return "zero" if language == "en" else "零个"
    english, chinese = NUMBER_WORDS[number]
    return english if language == "en" else f"{chinese}个"


def _colour(colour: str, language: str) -> str:
    return colour if language == "en" else f"{COLOUR_WORDS[colour]}色"


def _fill(language: str, form: str, rng, **words) -> str:
    return pick(_ASK[language, form], rng).format(**words)
