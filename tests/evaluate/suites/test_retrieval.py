"""The suite on a model that knows numbers: grey levels of images, figures in texts."""

import json

import numpy as np
import pytest

from cogjax import cli
from cogjax.data.images import encode_png
from cogjax.data.records import DatasetBuilder, Example
from cogjax.errors import UserError
from cogjax.evaluate.suites.retrieval import RetrievalSuite, _measure
from cogjax.evaluate.suites.run import run
from cogjax.worlds.shapes.scenes import Item, Scene, render
from tests.conftest import TOY_COLOURS

COUNT = 40


class Numbers:
    """Vectors of one place for each number; Chinese texts are read one too high."""

    def embed_images(self, images):
        return np.eye(64, dtype=np.float32)[images[:, 0, 0, 0]]

    def embed_texts(self, texts):
        read = [int(text.split()[-1]) + (not text.isascii()) for text in texts]
        return np.eye(64, dtype=np.float32)[read]

    def score(self, images, texts):
        return 1 - np.sum(self.embed_images(images) * self.embed_texts(texts), 1)


def build(out, examples, splits=("train", "val"), kind="icons"):
    with DatasetBuilder(out, kind, 8, dict.fromkeys(splits, 1)) as builder:
        for split, example in examples:
            builder.write(split, example)
        builder.finish({})
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Numbers 0 to 39 as images; 40 and 41 are names that no image here has."""
    examples = []
    for i in range(COUNT + 2):
        png = encode_png(np.full((8, 8, 3), i, np.uint8))
        captions = (("en", f"number {i}"), ("en", f"a grey {i}"), ("zh", f"数字 {i}"))
        meta = {"label_en": f"the {i}", "label_zh": f"字 {i}"}
        split = "val" if i < COUNT else "train"
        examples.append((split, Example(str(i), png, captions, meta)))
    return build(tmp_path_factory.mktemp("numbers") / "set", examples)


@pytest.fixture(scope="module")
def report(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "report"
    identity = {"model_digest": "abc"}
    found = run(
        RetrievalSuite(str(data)), Numbers(), out=out, identity=identity, about={}
    )
    assert json.loads((out / "report.json").read_text()) == found
    page = (out / "report.html").read_text()
    assert "zh, text to image" in page and "en, image to name" in page
    return found["val"]


def test_languages_and_directions_are_apart(report):
    assert report["images"] == COUNT
    for direction in ("image_to_text", "text_to_image"):
        english = report["captions"]["en"][direction]
        assert english["top_1"]["share"] == english["top_5"]["share"] == 1
        assert english["top_1"]["count"] == english["among"] == COUNT
        assert english["top_1"]["interval"][0] > 0.9
        assert report["captions"]["zh"][direction]["top_1"]["share"] == 0
    assert report["concepts"]["en"]["image_to_name"]["among"] == COUNT + 2
    assert report["concepts"]["en"]["image_to_name"]["top_1"]["share"] == 1
    assert report["concepts"]["zh"]["image_to_name"]["top_1"]["share"] == 0


def test_answers_of_other_images_are_at_chance(report):
    for direction in report["captions"]["en"].values():
        assert direction["chance_1"] == pytest.approx(1 / COUNT)
        assert direction["chance_5"] == pytest.approx(5 / COUNT)
        low, high = direction["shuffled_1"]["interval"]
        assert low <= direction["chance_1"] <= high


def test_one_caption_of_two_images_is_right_for_both(tmp_path):
    pngs = [encode_png(np.full((8, 8, 3), i, np.uint8)) for i in (3, 3, 5, 6)]
    texts = ("number 3", "number 3", "number 5", "number 7")
    examples = [
        ("val", Example(str(i), png, (("en", text),)))
        for i, (png, text) in enumerate(zip(pngs, texts, strict=True))
    ]
    data = build(tmp_path / "set", examples)
    suite = RetrievalSuite(str(data))
    found, _ = suite.run(Numbers(), lambda *args: None)
    by_image = found["val"]["captions"]["en"]["image_to_text"]
    by_text = found["val"]["captions"]["en"]["text_to_image"]
    assert (by_image["top_1"]["share"], by_image["among"]) == (0.75, 3)
    assert (by_text["top_1"]["count"], by_text["among"]) == (3, 4)
    assert by_text["top_1"]["share"] == pytest.approx(2 / 3)


class Swapped:
    """Takes the first image for the second, and the second for the first."""

    texts = ("a red circle", "a picture of a red circle", "a blue square")

    def embed_images(self, images):
        return np.eye(3, dtype=np.float32)[[1, 0, 2]]

    def embed_texts(self, texts):
        return np.eye(3, dtype=np.float32)[[self.texts.index(text) for text in texts]]


@pytest.mark.parametrize(("kind", "share"), [("shapes", 1), ("folder", 1 / 3)])
def test_on_shapes_every_true_caption_is_right(kind, share, tmp_path):
    items = (
        Item("circle", "red", 0.3, 0.3, 0.15),
        Item("circle", "red", 0.6, 0.7, 0.15),
        Item("square", "blue", 0.5, 0.5, 0.15),
    )
    examples = []
    for item, text in zip(items, Swapped.texts, strict=True):
        scene = Scene((item,))
        meta = {"scene": scene.to_json()}
        png = encode_png(render(scene, 32))
        examples.append(("unseen", Example(text, png, (("en", text),), meta)))
    data = build(tmp_path / "set", examples, ("train", "unseen"), kind)
    report, _ = RetrievalSuite(str(data)).run(Swapped(), lambda *args: None)
    for direction in report["unseen"]["captions"]["en"].values():
        assert direction["top_1"]["share"] == pytest.approx(share)


def test_refusals(data, tmp_path):
    only = build(tmp_path / "set", [("train", Example("1", b"", (("en", "x"),)))])
    with pytest.raises(UserError, match="has no held-out captions: its splits are"):
        RetrievalSuite(str(only)).check(None)
    RetrievalSuite(str(data)).check(None)


def test_the_command_with_a_clip(toy_clip_folder, tmp_path, capsys):
    examples = [
        ("val", Example(name, encode_png(np.uint8([[colour] * 8] * 8)), (("", name),)))
        for name, colour in TOY_COLOURS.items()
    ]
    data = build(tmp_path / "set", examples)
    words = ["evaluate", toy_clip_folder, "--suite", "retrieval", "--data", data]
    words += ["--json", tmp_path / "found.json"]
    assert cli.main([str(word) for word in words]) == 0
    assert "val.captions." in capsys.readouterr().out
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["suite"] == "retrieval" and report["n"] == 1000
    found = report["val"]["captions"][""]
    assert [d["top_1"]["share"] for d in found.values()] == [1, 1]


def test_the_control_is_at_chance_where_neighbours_show_one_thing():
    """As colours of an icon: two rows in turn have the same right answer."""
    right = np.repeat(np.eye(40, dtype=bool), 2, axis=0)
    measured = _measure(right.astype(np.float32), right)
    assert measured["top_1"]["share"] == 1 and measured["shuffled_1"]["share"] == 0
