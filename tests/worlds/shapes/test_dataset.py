"""The world of shapes: true captions, held-out combinations, the same for a seed."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from cogjax.data import records
from cogjax.data.output import Output
from cogjax.errors import UserError
from cogjax.worlds.shapes import dataset as shapes
from cogjax.worlds.shapes import splits
from cogjax.worlds.shapes.captions import Phrase, Request, read
from cogjax.worlds.shapes.scenes import COLOURS, RADII, SHAPES, Item, Scene

SHOWN = range(60)


@pytest.fixture(scope="module")
def examples():
    return {s: [shapes.example(0, s, i, 32) for i in SHOWN] for s in shapes.SPLITS}


def scene(example):
    return Scene.from_json(example.meta["scene"])


@pytest.mark.parametrize("split", shapes.SPLITS)
def test_captions_are_true(examples, split):
    for example in examples[split]:
        assert len(example.captions) == 2 * shapes.CAPTIONS
        for _, text in example.captions:
            assert shapes.satisfied(read(text), scene(example).items), text


def test_held_out_is_never_shown_or_stated(examples):
    for example in examples["train"] + examples["val"]:
        assert not any(shapes.held_out(read(text)) for _, text in example.captions)
        assert not held(scene(example))
    assert all(held(scene(example)) for example in examples["unseen"])


def held(scene):
    shown = [item.shape for item in scene.items]
    return any(
        (item.shape, item.colour) in splits.HELD_COLOURS
        or (item.shape, shown.count(item.shape)) in splits.HELD_COUNTS
        for item in scene.items
    )


def test_what_is_held_out_is_seen_otherwise():
    """Every shape, colour and count is in train, in other company."""
    assert len(splits.HELD_COLOURS) == len(splits.HELD_COUNTS) == len(SHAPES)
    assert len({colour for _, colour in splits.HELD_COLOURS}) == len(SHAPES)
    for count in range(2, splits.MOST + 1):
        assert sum(n == count for _, n in splits.HELD_COUNTS) < len(SHAPES) / 2
    assert 0.1 < len(splits.HELD_RELATIONS) / (2 * 56) < 0.2


def test_a_function_of_seed_split_and_index():
    one = shapes.example(3, "train", 7, 32)
    assert one == shapes.example(3, "train", 7, 32)
    others = [(4, "train", 7), (3, "val", 7), (3, "train", 8)]
    assert all(shapes.example(*other, 32).image != one.image for other in others)


def test_questions_change_nothing_else():
    plain, asked = (
        shapes.example(3, "val", 7, 32, questions=questions)
        for questions in (False, True)
    )
    assert plain.questions == () and len(asked.questions) > 5
    assert dataclasses.replace(asked, questions=()) == plain
    # What was written before there were questions is written as before.
    assert records.Example.unpack(asked.pack()) == asked
    assert b"questions" not in plain.pack()


def test_the_easy_world_is_a_part_of_the_whole():
    for index in range(30):
        example = shapes.example(0, "train", index, 32, easy=True)
        assert scene(example).background.texture == "plain"
        assert all(
            (8 * item.x, 8 * item.y) == (round(8 * item.x), round(8 * item.y))
            for item in scene(example).items
        )
        assert all(
            shapes.satisfied(read(text), scene(example).items)
            for _, text in example.captions
        )
    textures = {
        scene(shapes.example(0, "train", i, 32)).background.texture for i in SHOWN
    }
    assert len(textures) == 4


RED = Item("circle", "red", 0.25, 0.5, RADII["small"])
BLUE = Item("star", "blue", 0.75, 0.5, RADII["large"])


@pytest.mark.parametrize(
    ("request_", "right"),
    [
        (Request((Phrase(1, "circle"), Phrase(1, "star"))), True),
        (Request((Phrase(1, "circle", "red"), Phrase(1, "star", "blue"))), True),
        # Bound the wrong way round.
        (Request((Phrase(1, "circle", "blue"), Phrase(1, "star", "red"))), False),
        # Nothing else may be there.
        (Request((Phrase(1, "circle"),)), False),
        (Request((Phrase(2, "circle"), Phrase(1, "star"))), False),
        (Request((Phrase(1, "circle"), Phrase(1, "star")), "left"), True),
        (Request((Phrase(1, "star"), Phrase(1, "circle")), "left"), False),
        (Request((Phrase(1, "circle"), Phrase(1, "star")), "above"), False),
        (Request((Phrase(1, "star"), Phrase(1, "circle")), "larger"), True),
        (Request((Phrase(1, "circle"), Phrase(1, "star")), "larger"), False),
        (
            Request((Phrase(1, "circle", not_colour="red"), Phrase(1, "star"))),
            False,
        ),
        (
            Request((Phrase(1, "circle", not_colour="blue"), Phrase(1, "star"))),
            True,
        ),
        (Request((Phrase(1, "circle", size="large"), Phrase(1, "star"))), False),
    ],
)
def test_all_or_nothing(request_, right):
    assert shapes.satisfied(request_, (RED, BLUE)) == right


@pytest.mark.parametrize("task", shapes.TASKS)
def test_tasks_ask_for_what_can_be_drawn(task):
    rng = np.random.default_rng(0)
    for unseen in (False, True)[: 1 + (task in shapes.UNSEEN_TASKS)]:
        for _ in range(10):
            request = shapes.ask(task, rng, unseen)
            assert shapes.held_out(request) == unseen
            drawn = shapes.sample_scene_for(request, rng)
            assert shapes.satisfied(request, drawn.items)


def test_describe_says_something_of_every_kind():
    rng = np.random.default_rng(0)
    said = [shapes.describe(shapes.sample_scene(rng), rng) for _ in range(400)]
    phrases = [phrase for request in said for phrase in request.phrases]
    assert {"left", "above", "larger", None} == {request.relation for request in said}
    assert {phrase.count for phrase in phrases} == set(range(1, splits.MOST + 1))
    assert {phrase.colour for phrase in phrases} == {None, *COLOURS}
    assert any(phrase.not_colour for phrase in phrases)


def test_build(tmp_path):
    manifest = shapes.build_shapes(
        Output(tmp_path / "set", 32), num=20, seed=5, workers=1
    )
    assert manifest.counts == {"train": 20, "val": 1, "unseen": 1}
    train = records.open_split(tmp_path / "set", "train")
    wanted = {f"train-{i}": shapes.example(5, "train", i, 32) for i in range(20)}
    assert {train[i].id: train[i] for i in range(20)} == wanted
    assert Image.open(io.BytesIO(train[0].image)).size == (32, 32)


def test_an_out_that_is_in_the_way(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="is not empty and not a data set"):
        shapes.build_shapes(Output(tmp_path, 32), num=20)
