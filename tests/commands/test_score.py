"""`cogjax score` of several texts: ranked, the best first, with what is counted."""

import json

import numpy as np
import pytest
from PIL import Image

import cogjax
from cogjax import cli


class Judge:
    """The score of a text is its length."""

    def score(self, images, texts):
        assert len(images) == len(texts)
        return np.array([len(text) for text in texts], np.float32)

    def unseen(self, texts):
        return ()


class Reading(Judge):
    def caption(self, images, language=None, **search): ...

    ask = caption


class Clip(Judge):
    def embed_images(self, images): ...

    embed_texts = embed_images


@pytest.fixture
def image(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("model", "unit"),
    [
        (Reading, "nats a text token"),
        (Clip, "1 - cosine"),
        (Judge, "nats a code"),
    ],
)
def test_texts_are_ranked(model, unit, image, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(vars(cogjax), "load", lambda name, **settings: model())
    out = tmp_path / "scores.json"
    words = ["score", image, "a tiger", "猫", "a tomato", "--json", str(out), "a cat"]
    words += ["--by", "clip", "--clip", "clip-icons"] if model is Clip else []
    assert cli.main(words) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith(f"rank  {unit}") and head.endswith("text")
    assert [line.split(maxsplit=2) for line in lines] == [
        ["1", "1.0000", "猫"],
        ["2", "5.0000", "a cat"],
        ["3", "7.0000", "a tiger"],
        ["4", "8.0000", "a tomato"],
    ]
    found = json.loads(out.read_text("utf-8"))
    assert found["unit"] == unit and found["file"] == image
    assert found["scores"][0] == {"text": "猫", "score": 1.0}


def test_an_empty_text_is_named(image, capsys):
    assert cli.main(["score", image, "a cat", " "]) == 2
    assert "text 2 is empty" in capsys.readouterr().err
