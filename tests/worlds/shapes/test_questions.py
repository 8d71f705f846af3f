"""Answers against a reader of the English questions that knows only the scene."""

import re

import numpy as np
import pytest

from cogjax.worlds.shapes.captions import COLOUR_WORDS, SHAPE_WORDS, plural
from cogjax.worlds.shapes.dataset import sample_scene
from cogjax.worlds.shapes.questions import KINDS, ask, ask_all, same_answer
from cogjax.worlds.shapes.scenes import COLOURS, Item, Scene, relations
from cogjax.worlds.shapes.splits import HELD_COLOURS, HELD_COUNTS

NOUNS = {w: k for k, (words, _) in SHAPE_WORDS.items() for w in words}
NOUNS |= {plural(word): shape for word, shape in NOUNS.items()}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
SIDES = {"to the left of": "left", "to the right of": "right"}
SCENES = [sample_scene(np.random.default_rng(i)) for i in range(60)]


def things(words, items):
    """Items that a noun phrase without article names."""
    for word in words.split():
        if word in COLOURS:
            items = [i for i in items if i.colour == word]
        elif word in ("small", "little", "large", "big"):
            size = "small" if word in ("small", "little") else "large"
            items = [i for i in items if i.size == size]
        elif word not in ("shape", "shapes", "one", "ones"):
            items = [i for i in items if i.shape == NOUNS[word]]
    return items


def truth(text, items):
    if found := re.fullmatch(r"is there an? (.*)\?", text):
        return bool(things(found[1], items))
    if found := re.fullmatch(r"(?:is|are) there exactly (\w+) (.*)\?", text):
        return len(things(found[2], items)) == NUMBERS.index(found[1])
    if found := re.fullmatch(
        r"is the (\w+) (to the left of|to the right of|above|below) the (\w+)\?", text
    ):
        (a,), (b,) = things(found[1], items), things(found[3], items)
        return relations(a, b) == {SIDES.get(found[2], found[2])}
    found = re.fullmatch(r"is the (\w+) (\w+)\?", text)
    (item,) = things(found[1], items)
    return item.colour == found[2]


def place(text, items):
    side = re.fullmatch(r"where is the (\w+) seen from the (\w+)\?", text)
    if not side and (turned := re.fullmatch(r"on which side of .*", text)):
        q, p = re.findall(r"the (\w+)", turned[0])
        side = [None, p, q]
    if side:
        (a,), (b,) = things(side[1], items), things(side[2], items)
        (name,) = relations(a, b)
        return name
    (item,) = things(re.search(r"is the (\w+)\?", text)[1], items)
    assert min(abs(item.x - 0.5), abs(item.y - 0.5)) > 0.1
    return ("top " if item.y < 0.5 else "bottom ") + (
        "left" if item.x < 0.5 else "right"
    )


def answered(question, items):
    """The answer that the scene gives to an English question."""
    text = question.text
    if question.kind == "count":
        words = re.match(r"how many (.*?) (?:are|does)", text)[1]
        return NUMBERS[len(things(words, items))]
    if question.kind in ("colour", "shape"):
        found = things(re.search(r"(?:is|are) the (.*)\?", text)[1], items)
        (only,) = {getattr(i, question.kind) for i in found}
        assert (" is the " in text) == (len(found) == 1)
        return only
    if question.kind == "where":
        return place(text, items)
    return "yes" if truth(text, items) else "no"


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_what_the_scene_shows(kind):
    number = 0
    for i, scene in enumerate(SCENES):
        for seed in range(5):
            rng = np.random.default_rng([i, seed])
            if question := ask(kind, scene, "en", rng):
                assert question.kind == kind and question.language == "en"
                want = answered(question, scene.items)
                assert question.answer == want, question
                number += 1
    assert number > 100


@pytest.mark.parametrize("kind", KINDS)
def test_both_languages_ask_the_same(kind):
    """The same draws: a Chinese answer is right because the English one is."""
    for i, scene in enumerate(SCENES):
        english, chinese = (
            ask(kind, scene, word, np.random.default_rng(i)) for word in ("en", "zh")
        )
        assert (english is None) == (chinese is None)
        if english:
            assert same_answer(chinese.answer, english.answer), (english, chinese)
            assert chinese.text.endswith("？") and not re.search("[a-z]", chinese.text)
            assert not re.search("[{}a-z]", chinese.answer)
            named = {
                k for k, word in COLOUR_WORDS.items() if f"{word}色" in chinese.text
            }
            assert named == {
                word
                for word in COLOURS
                if word in english.text.split(" ") or f" {word}?" in english.text
            }


def test_yes_and_no_are_even_and_all_kinds_vary():
    answers = {kind: [] for kind in KINDS}
    for i, scene in enumerate(SCENES):
        for question in ask_all(scene, np.random.default_rng(i)):
            if question.language == "en":
                answers[question.kind].append(question.answer)
    assert 0.3 < np.mean([a == "yes" for a in answers["yes-no"]]) < 0.7
    assert len(set(answers["count"])) >= 5 and "zero" in answers["count"]
    assert len(set(answers["colour"])) == 10 and len(set(answers["shape"])) == 8
    assert len(set(answers["where"])) == 8


def test_the_same_generator_asks_the_same():
    first, again = (ask_all(SCENES[3], np.random.default_rng(7)) for _ in range(2))
    assert first == again and len(first) >= 8
    other = ask_all(SCENES[3], np.random.default_rng(8))
    assert first != other


def test_a_false_statement_states_nothing_held_out():
    counts = {(shape, NUMBERS[n]) for shape, n in HELD_COUNTS}
    for i, scene in enumerate(SCENES):
        for seed in range(5):
            question = ask("yes-no", scene, "en", np.random.default_rng([seed, i]))
            words = re.findall(r"\w+", question.text)
            shapes = [NOUNS[word] for word in words if word in NOUNS]
            colours = [word for word in words if word in COLOURS]
            assert not {(s, c) for s in shapes for c in colours} & HELD_COLOURS
            numbers = [word for word in words if word in NUMBERS]
            assert not {(s, n) for s in shapes for n in numbers} & counts


def test_a_diagonal_has_no_side_and_a_middle_no_corner():
    circle = Item("circle", "red", 0.5, 0.5, 0.1)
    diagonal = Scene((circle, Item("star", "blue", 0.75, 0.75, 0.1)))
    for seed in range(20):
        question = ask("where", diagonal, "en", np.random.default_rng(seed))
        assert question.answer == "bottom right" and "star" in question.text
    assert ask("where", Scene((circle,)), "en", np.random.default_rng(0)) is None


def test_shapes_of_two_colours_have_none():
    mixed = Scene(
        (Item("ring", "red", 0.25, 0.5, 0.1), Item("ring", "blue", 0.75, 0.5, 0.1))
    )
    assert ask("colour", mixed, "en", np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("Three.", "three"),
        ("3", "三个"),
        ("there are two", "两个"),
        ("disc", "circle"),
        ("a ring", "圆环"),
        ("红色的", "red"),
        ("on the left", "左边"),
        ("none", "zero"),
        ("是", "yes"),
        (" 左上角。", "top left"),
    ],
)
def test_the_same_in_other_words(given, wanted):
    assert same_answer(given, wanted) and same_answer(wanted, given)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("two", "three"), ("left", "top left"), ("", "yes"), ("mauve", "mauve")],
)
def test_not_the_same(given, wanted):
    assert not same_answer(given, wanted)
