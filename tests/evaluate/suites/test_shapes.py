import json
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.evaluate.judges.compositional import Judged, make_prompts
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.evaluate.suites import run as runner
from cogjax.evaluate.suites import shapes
from cogjax.evaluate.suites.run import run
from cogjax.evaluate.suites.shapes import ShapesSuite, rerank_curve, scores
from cogjax.worlds.shapes.oracle import find_shapes, items_of

SUITE = ShapesSuite(n=16, num_images=3, best_of=4, sweep_prompts=8)
SMALL = ShapesSuite(n=8, num_images=2, best_of=2, sweep_prompts=8)
IDENTITY = {"model_digest": "abc", "weights": "float32"}


def evaluate(model, suite=SUITE, out=None, identity=IDENTITY):
    return run(suite, model, out=out, identity=identity, about={"model": "painter"})


def test_the_report_says_what_was_drawn(painter, tmp_path):
    suite = replace(SUITE, guidance=(1.0, 3.0))
    model = painter()
    report = evaluate(model, suite, tmp_path / "out")
    seen = report["seen"]
    # The first two of a prompt's three pictures are right; 32 px blur a shape at times.
    assert 0.55 < seen["score"]["overall"] <= 2 / 3
    assert seen["score"]["any"] > 0.9
    assert seen["score"]["images"] == 48
    assert seen["score"]["prompts"] == 16
    hits = sum(sum(entry["right"]) for entry in seen["prompts"])
    assert seen["score"]["interval"] == list(wilson(hits, 48))
    assert seen["score"]["overall"] == pytest.approx(hits / 48)
    assert seen["renders"]["overall"] > 0.9
    # The codes are the pixels: nothing is lost in them.
    assert seen["tokenizer"] == seen["renders"]
    assert seen["confusion"]["count"]["1"]["0"] > 0
    assert abs(seen["shuffled"]["share"] - seen["shuffled"]["chance"]) < 0.2
    assert report["unseen"]["score"]["prompts"] == 4
    sweep = {entry["value"]: entry["score"] for entry in report["sweeps"]["guidance"]}
    assert sweep[3.0]["overall"] > 0.85 > sweep[1.0]["overall"]
    assert sweep[1.0]["prompts"] == 8
    assert "temperature" not in report["sweeps"]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(
        json.dumps(report)
    )
    # The main run is drawn as the model draws by itself, not with a value of the sweep.
    assert {call[2] for call in model.calls if call[1] == 4} == {None}


def test_a_single_value_is_no_sweep(painter):
    model = painter()
    report = evaluate(model, replace(SMALL, guidance=(3.0,), temperature=(0.5,)))
    assert report["sweeps"] == {}
    assert {call[2:] for call in model.calls} == {(3.0, 0.5)}
    assert report["seen"]["score"]["overall"] > 0.85


def test_a_run_that_was_stopped_goes_on(painter, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_CHUNK", 12)
    suite = replace(SMALL, temperature=(0.7, 1.0))
    whole = painter()
    evaluate(whole, suite, tmp_path / "whole")
    model = painter()
    model.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, suite, tmp_path / "out")
    assert not (tmp_path / "out" / "report.json").exists()
    (damaged, *_) = sorted((tmp_path / "out" / "kept").glob("codes-*"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    model.stop_after = None
    evaluate(model, suite, tmp_path / "out")
    # Nothing is drawn twice but for what was damaged.
    assert len(model.calls) == len(whole.calls) + 1
    for name in ("report.json", "report.html"):
        one, other = (tmp_path / run / name for run in ("whole", "out"))
        assert one.read_bytes() == other.read_bytes()


def test_pictures_do_not_depend_on_what_is_drawn_beside(painter, tmp_path):
    few, many = painter(), painter()
    many.batch_size = 64
    one, other = (evaluate(model, SMALL) for model in (few, many))
    assert len(few.calls) >= len(many.calls)
    # Calls of the network are filled up, which no figure shows.
    assert {call[0] for call in many.calls} == {32}
    assert one == other


def test_nothing_else_is_gone_on_with(painter, tmp_path):
    out = tmp_path / "out"
    evaluate(painter(), SMALL, out)
    with pytest.raises(UserError, match=r"n is 8 there, 24 here; choose another"):
        evaluate(painter(), replace(SMALL, n=24), out)
    other = IDENTITY | {"model_digest": "xyz"}
    with pytest.raises(UserError, match=r'model_digest is "abc" there, "xyz" here'):
        evaluate(painter(), SMALL, out, identity=other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not empty and holds no evaluation"):
        evaluate(painter(), out=tmp_path / "mine")


def test_small_pictures_are_refused_before_work(painter, tmp_path):
    model = painter(image_size=16)
    with pytest.raises(UserError, match="32 px or more, the model makes 16"):
        evaluate(model, out=tmp_path / "out")
    assert not model.calls
    assert not (tmp_path / "out").exists()


def test_a_second_judge_of_64_px(painter, monkeypatch):
    checker = ModuleType("cogjax.evaluate.judges.checker")
    # Sees what is there, but never more than two things.
    checker.check = lambda images: [
        items_of(find_shapes(image))[:2] for image in images
    ]
    monkeypatch.setitem(sys.modules, "cogjax.evaluate.judges.checker", checker)
    seen = evaluate(painter(image_size=64), SMALL)["seen"]
    second = seen["second_judge"]
    assert second["images"] == 16
    assert second["tasks"]["single"]["share"] == 1
    assert 0 <= seen["score"]["overall"] - second["overall"] == 1 - second["agrees"]


def judged(right):
    prompts = make_prompts(16)
    right = np.tile(np.array(right, bool), (len(prompts), 1))
    return Judged(prompts, [[[]] * right.shape[1]] * len(prompts), right, ~right)


def test_rerank_curve():
    # Groups of 1, 2, 4 and all 5 of these; the losses choose 1, of 4 and 5, wrongly.
    right = judged([0, 1, 0, 0, 1])
    losses = np.tile([3.0, 2.0, 1.0, 4.0, 5.0], (16, 1))
    curve = rerank_curve(right, losses, 5)
    assert [entry["best_of"] for entry in curve] == [1, 2, 4, 5]
    assert [entry["groups"] for entry in curve] == [5, 2, 1, 1]
    assert [entry["overall"] for entry in curve] == pytest.approx([0.4, 0.5, 0, 0])
    assert [entry["any"] for entry in curve] == pytest.approx([0.4, 0.5, 1, 1])
    assert curve[1]["interval"] == list(wilson(16, 32))
    assert curve[1]["abstained"] == 0.5
    assert len(rerank_curve(right, losses, 1)) == 1


def test_a_good_scorer_finds_the_right_one(painter):
    suite = replace(SMALL, num_images=1, best_of=4)
    best = [
        evaluate(painter(right=(3,), judge=judge), suite)["seen"]["rerank"][-1]
        for judge in (True, False)
    ]
    assert best[0]["overall"] > 0.9
    assert best[0]["overall"] == best[0]["any"]
    assert best[1]["overall"] == 0


def test_scores_have_the_mean_over_tasks():
    found = scores(judged([1, 0, 0, 0]))
    assert found["overall"] == 0.25
    assert found["any"] == 1
    assert found["interval"] == list(wilson(16, 64))


class Camera:
    """A painter without codes, which reads nothing, as a cascade is."""

    def __init__(self, painter):
        self.painter = painter
        self.image_size, self.batch_size = painter.image_size, painter.batch_size

    def generate(self, *args, **settings):
        found = self.painter.generate(*args, **settings)
        return replace(found, codes=None)


class Clip:
    """Prefers images that are not empty."""

    def embed_images(self, images):
        raise NotImplementedError

    embed_texts = embed_images

    def score(self, images, texts):
        assert len(images) == len(texts)
        return np.array([float(len(np.unique(image)) == 1) for image in images])


def test_a_model_without_codes_is_judged_by_its_pixels(painter, tmp_path):
    suite = replace(SMALL, best_of=0)
    wanted = evaluate(painter(), suite)["seen"]
    model = Camera(painter())
    found = evaluate(model, suite, tmp_path / "out")["seen"]
    assert found["score"] == wanted["score"] and found["prompts"] == wanted["prompts"]
    assert found["tokenizer"] == found["renders"]
    calls = len(model.painter.calls)
    assert evaluate(model, suite, tmp_path / "out")["seen"] == found
    assert len(model.painter.calls) == calls  # The images were kept.


def test_a_clip_chooses_for_a_model_that_reads_nothing(painter, monkeypatch):
    with pytest.raises(UserError, match="cannot score images: give --rerank-model"):
        evaluate(Camera(painter()), SMALL)
    monkeypatch.setattr(shapes, "load", lambda _: Clip())
    monkeypatch.setattr(shapes, "find", lambda name: name)
    monkeypatch.setattr(shapes, "model_digest", lambda folder: f"digest of {folder}")
    suite = replace(SMALL, num_images=1, best_of=4, rerank_by="clip")
    report = evaluate(Camera(painter(right=(3,))), suite)
    curve = report["seen"]["rerank"]
    assert curve[0]["overall"] < 0.3 < 0.8 < curve[-1]["overall"]
    assert report["rerank_digest"] == "digest of clip"
