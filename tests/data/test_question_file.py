"""Questions about the user's own pictures."""

import json

import numpy as np
import pytest
from PIL import Image

from cogjax.data import records
from cogjax.data.output import Output
from cogjax.data.question_file import import_questions
from cogjax.errors import UserError

GOOD = {"image": "red.png", "question": " what\ncolour? ", "answer": "red"}


@pytest.fixture
def folder(tmp_path):
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        Image.new("RGB", (20, 12), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path.parent / "outside.png").write_bytes(b"")
    return tmp_path


def written(folder, *rows):
    path = folder / "asked.jsonl"
    lines = [
        row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows
    ]
    path.write_bytes(b"\n".join(lines))
    return path


def test_questions_of_a_picture_are_one_example(folder):
    rows = [
        GOOD,
        {
            "image": "blue.png",
            "question": "什么颜色？",
            "answer": "蓝色",
            "type": "hue",
        },
        b"",
        {**GOOD, "question": "how many?", "answer": "one"},
    ]
    manifest = import_questions(
        written(folder, *rows), Output(folder / "set", 8), val_fraction=0
    )
    assert manifest.counts == {"train": 2, "val": 0}
    assert manifest.info == {"num_questions": 3, "changed": {}}
    assert manifest.contents["train"]["questions"] == {"": 2, "hue": 1}
    source = records.open_split(folder / "set", "train")
    found = {source[i].id: source[i] for i in range(2)}
    asked = (("", "what colour?", "red"), ("", "how many?", "one"))
    assert found["red.png"].questions == asked
    assert found["red.png"].captions == ()
    assert found["blue.png"].questions == (("hue", "什么颜色？", "蓝色"),)
    pixels = records.decode_image(found["blue.png"].image)
    np.testing.assert_array_equal(pixels, np.broadcast_to([0, 0, 255], (8, 8, 3)))


def test_a_picture_by_two_names_is_one(folder):
    names = ("red.png", "./red.png", f"../{folder.name}/red.png")
    rows = [{**GOOD, "image": name} for name in names]
    manifest = import_questions(written(folder, *rows), Output(folder / "set", 8))
    assert sum(manifest.counts.values()) == 1
    assert manifest.info == {"num_questions": 3, "changed": {}}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"{", "asked.jsonl:2: not JSON"),
        (b'{"image": "\xff"}', "asked.jsonl:2: not UTF-8"),
        ([1], "asked.jsonl:2: not a JSON object"),
        ({**GOOD, "answer": " "}, "asked.jsonl:2: needs .* has no answer"),
        ({**GOOD, "question": 3}, "asked.jsonl:2: needs .* has no question"),
        ({**GOOD, "type": 3}, "asked.jsonl:2: type is no text"),
        (
            {**GOOD, "image": "../outside.png"},
            "asked.jsonl:2: .*outside.png is outside",
        ),
        (
            {**GOOD, "image": "x" * 300},
            "asked.jsonl:2: image x+: File name too long",
        ),
        ({**GOOD, "image": "lost.png"}, "asked.jsonl:2: image lost.png is missing"),
        ({**GOOD, "image": "broken.png"}, "asked.jsonl:2: image broken.png: not a"),
    ],
)
def test_a_bad_line_is_named(folder, row, message):
    with pytest.raises(UserError, match=message):
        import_questions(written(folder, GOOD, row), Output(folder / "set", 8))
    assert not (folder / "set").exists()


def test_no_questions(folder):
    with pytest.raises(UserError, match="holds no questions"):
        import_questions(written(folder), Output(folder / "set", 8))
    with pytest.raises(UserError, match=r"lost.jsonl: cannot be read"):
        import_questions(folder / "lost.jsonl", Output(folder / "set", 8))
