"""The suite on a reader that sees the pictures themselves and errs as it is told."""

import functools
import json

import numpy as np
import pytest

from cogjax.data.output import Output
from cogjax.data.question_file import import_questions
from cogjax.data.records import DatasetBuilder
from cogjax.errors import UserError
from cogjax.evaluate.suites.reading import ReadingSuite
from cogjax.evaluate.suites.run import run
from cogjax.worlds.shapes import dataset as shapes
from cogjax.worlds.shapes.captions import read_caption, write_caption
from cogjax.worlds.shapes.oracle import find_shapes, items_of
from cogjax.worlds.shapes.scenes import Scene

IDENTITY = {"model_digest": "abc", "weights": "float32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("world") / "set"
    with DatasetBuilder(out, "shapes", 64, {"train": 1, "val": 1}) as builder:
        for i in range(6):
            builder.write("val", shapes.example(0, "val", i, 64, easy=True))
        builder.finish({})
    return out


@functools.cache
def scene_of(data):
    """What the oracle sees of a picture that is shown again and again."""
    pixels = np.frombuffer(data, np.uint8).reshape(64, 64, 3)
    return Scene(tuple(items_of(find_shapes(pixels))))


@pytest.fixture
def reader(painter):
    class Reader(painter):
        """Describes what the oracle sees; answers with what it was told to.

        Every third caption of a batch is of an empty picture, if not reranked.
        """

        answers_questions = True
        asked = 0

        def _paint(self, text, i, seed, guidance):
            readable = i in self.right and read_caption(text) is not None
            return super()._paint(text, i if readable else -1, seed, guidance)

        def caption_codes(self, codes, language, search):
            rng = np.random.default_rng(search.seed)
            told = []
            for i, image in enumerate(self.decode(codes)):
                scene = scene_of(image.tobytes())
                if not scene.items or (i % 3 == 2 and not search.rerank):
                    told.append("nothing")
                    continue
                request = shapes.request_of(scene, rng)
                told.append(write_caption(request, language, rng))
            self.calls.append(("captions", len(codes)))
            return told

        def ask_codes(self, codes, questions, search):
            self.calls.append(("answers", len(codes)))
            return ["yes" if text.isascii() else "不对" for text in questions]

        def image_losses(self, codes, texts):
            return np.array([float(text == "nothing") for text in texts], np.float32)

        def score_codes(self, codes, texts):
            return np.ones(len(texts), np.float32)

    return Reader(image_size=64)


def test_the_report(reader, data, tmp_path):
    suite = ReadingSuite(str(data), n=6, best_of=2, trips=8)
    report = run(suite, reader, out=tmp_path / "out", identity=IDENTITY, about={})
    captions = report["val"]["captions"]
    assert set(captions) == {"en", "zh"}
    for found in captions.values():
        assert found["greedy"]["true"]["share"] == pytest.approx(2 / 3)
        assert found["8 beams"]["true"]["share"] == pytest.approx(2 / 3)
        assert found["8 beams, reranked"]["true"]["share"] == 1
        assert found["the grammar"]["true"]["share"] == 1
    questions = report["val"]["questions"]["right"]
    truths = {name: questions["both"][f"yes-no, {name}"] for name in ("en", "zh")}
    assert all(0 < entry["share"] <= 1 for entry in truths.values())
    assert questions["kinds"]["shape"]["share"] == 0
    assert questions["overall"]["count"] >= 6 * 8
    # The same words whatever the picture.
    assert report["val"]["questions"]["another image"] == questions
    trip = report["text_round_trip"]
    # Two drawings a prompt, both right where the oracle can read them.
    assert trip["chosen"]["mean of all"]["share"] > 0.8
    assert trip["when right"]["share"] > trip["when wrong"]["share"]
    for figures in report["image_round_trip"].values():
        by_picture = figures["chosen"]["round trip, loss of the image"]
        assert by_picture["share"] == pytest.approx(2 / 3)
        assert figures["image is what the caption says"]["share"] > 0.5
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert "text -&gt; image" in (tmp_path / "out" / "report.html").read_text()
    # What was read before is not read again.
    calls = len(reader.calls)
    again = run(suite, reader, out=tmp_path / "out", identity=IDENTITY, about={})
    assert again == report and len(reader.calls) == calls


def test_questions_of_the_users_own(reader, tmp_path):
    rows = []
    for i in range(4):
        picture = shapes.example(0, "val", i, 64).image
        (tmp_path / f"{i}.png").write_bytes(picture)
        answer = "Yes." if i < 3 else "a cat"
        rows.append({"image": f"{i}.png", "question": "is it?", "answer": answer})
    rows[0]["type"] = "being"
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "set"
    import_questions(tmp_path / "asked.jsonl", Output(out, 64), val_fraction=1)
    suite = ReadingSuite(str(out), n=10)
    report = run(suite, reader, out=None, identity=IDENTITY, about={})
    found = report["val"]["questions"]["right"]
    assert found["overall"]["share"] == 0.75
    assert found["kinds"]["being"]["share"] == 1
    assert "captions" not in report["val"] and "text_round_trip" not in report


def test_a_family_without_questions_has_captions_alone(reader, data):
    reader.answers_questions = False
    suite = ReadingSuite(str(data), n=3, best_of=0)
    report = run(suite, reader, out=None, identity=IDENTITY, about={})
    assert set(report["val"]) == {"images", "captions"}


def test_nothing_is_held_out(reader, nano_data, tmp_path):
    (tmp_path / "a.png").write_bytes(shapes.example(0, "val", 0, 64).image)
    row = {"image": "a.png", "question": "is it?", "answer": "yes"}
    (tmp_path / "asked.jsonl").write_text(json.dumps(row))
    import_questions(
        tmp_path / "asked.jsonl", Output(tmp_path / "set", 64), val_fraction=0
    )
    suite = ReadingSuite(str(tmp_path / "set"))
    with pytest.raises(UserError, match="has no held-out images"):
        suite.check(reader)


def test_too_small_pictures(painter, data):
    with pytest.raises(UserError, match="images of 32 px or more"):
        ReadingSuite(str(data)).check(painter(image_size=16))
