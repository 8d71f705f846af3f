"""`cogjax evaluate`: options to suites, reports of a real model, and mistakes."""

import json
import shutil
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from cogjax import cli, model_folder
from cogjax.evaluate.suites import run as runner
from cogjax.evaluate.suites.coco import CocoSuite
from cogjax.evaluate.suites.emoji import EmojiSuite
from cogjax.evaluate.suites.icons import IconsSuite
from cogjax.evaluate.suites.reading import ReadingSuite
from cogjax.evaluate.suites.shapes import ShapesSuite
from tests.conftest import make_nano_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder whose export draws 32 px, with random weights."""
    run = tmp_path_factory.mktemp("run")
    make_nano_model(image_size=32).save(run / "export")
    return run


@pytest.fixture
def photographs(tmp_path):
    content = {"images": [], "annotations": []}
    for i in range(4):
        Image.new("RGB", (40, 32), (60 * i,) * 3).save(tmp_path / f"{i}.png")
        content["images"].append({"id": i, "file_name": f"{i}.png"})
        content["annotations"].append({"image_id": i, "caption": f"a red {i}"})
    (tmp_path / "captions_val2017.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def suites(monkeypatch):
    """The suites that were to be run, and how."""
    found = []

    def run(suite, model, **settings):
        found.append((suite, model, settings))
        return {"figure": 1}

    monkeypatch.setattr(runner, "run", run)
    return found


def evaluate(*words):
    return cli.main(["evaluate", *map(str, words)])


def test_shapes_with_a_real_model(folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    words = [folder, "--suite", "shapes", "--out", out, "--n", 8, "--num-images", 1]
    words += ["--temperature", "0.5"]
    assert evaluate(*words, "--json", tmp_path / "figures.json") == 0
    assert "report.html" in capsys.readouterr().out
    text = (out / "report.json").read_text(encoding="utf-8")
    assert text == (tmp_path / "figures.json").read_text(encoding="utf-8")
    report = json.loads(text)
    # Random weights draw nothing that was asked for; the ceiling does not need them.
    assert report["seen"]["score"]["overall"] < 0.5
    assert report["seen"]["renders"]["overall"] > 0.8
    assert report["weights"] == "float32"
    assert len(report["model_digest"]) == 64
    assert json.loads((out / "settings.json").read_text())["n"] == 8
    # The same model in another folder goes on; a card says nothing about figures.
    shutil.copytree(folder / "export", tmp_path / "copy")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    config["card"] = {"name": "renamed"}
    del config["seal"]
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config))
    nothing = "cogjax.pipelines.tokens.TokensPipeline.generate"
    monkeypatch.setattr(nothing, lambda *args, **settings: 1 / 0)
    assert evaluate(tmp_path / "copy", *words[1:]) == 0
    again = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert {**again, "model": None} == {**report, "model": None}
    # Other weights do not.
    model = model_folder.load(folder / "export")
    norm = model["transformer"].params["final_norm"]
    norm["scale"] = norm["scale"] + 1
    model_folder.save(model, tmp_path / "copy", overwrite=True)
    capsys.readouterr()
    assert evaluate(tmp_path / "copy", *words[1:]) == 2
    assert "something else: model_digest is " in capsys.readouterr().err
    assert evaluate(*words, "--weights", "bfloat16") == 2
    assert 'weights is "float32" there, "bfloat16" here' in capsys.readouterr().err


def test_coco_with_a_real_model(folder, photographs, monkeypatch, capsys):
    class Extractor:
        id, resize = "fake:1", "none"

        def __call__(self, images):
            return images.reshape(len(images), -1)[:, :2].astype(float)

        def outputs(self, images):
            return self(images), None

    features = ModuleType("cogjax.evaluate.judges.features")
    calls = []
    features.make_extractor = lambda *names, **files: (
        calls.append((*names, files)) or Extractor()
    )
    monkeypatch.setitem(sys.modules, "cogjax.evaluate.judges.features", features)
    words = [folder, "--suite", "coco", "--data", photographs, "--n", 4, "--out"]
    words += [photographs / "out", "--distractors", 2, "--extractor", "fake"]
    assert evaluate(*words, "--weights-file", "w.npz", "--best-of", 2) == 0
    assert calls == [("fake", {"weights": "w.npz", "merges": None})]
    report = json.loads((photographs / "out" / "report.json").read_text())
    names = [figure["name"] for figure in report["generated"]]
    assert names[:3] == (
        ["CapLoss[without_end]", "R-precision[2 distractors]", "FD-fake-0[both]"]
    )
    values = [figure["value"] for figure in report["generated"] + report["photographs"]]
    assert np.isfinite(values).all()


def test_options_reach_the_suite(suites, folder, photographs, tmp_path, capsys):
    common = ["--seed", 5, "--out", tmp_path / "out"]
    words = ["--suite", "shapes", "--guidance", "2", "--batch-size", "7", *common]
    assert evaluate(folder / "export", *words) == 0
    words = ["--data", photographs, "--n", "3", "--temperature", "0.5", *common]
    assert evaluate(folder, "--suite", "coco", *words) == 0
    capsys.readouterr()
    words = ["--data", "set", "--n", "3", "--best-of", "2", "--json"]
    assert evaluate("emoji", *words, tmp_path / "f.json") == 0
    assert capsys.readouterr().out == "figure  1\n"
    assert json.loads((tmp_path / "f.json").read_text()) == {"figure": 1}
    words = ["--data", "set", "--n", "4", "--beams", "2", *common]
    assert evaluate(folder, "--suite", "reading", *words) == 0
    words = ["--data", "set", "--n", "1000", "--best-of", "1", *common]
    assert evaluate(folder, "--suite", "icons", *words) == 0
    (shapes, model, settings), (coco, _, _), (emoji, _, without) = suites[:3]
    (read, _, _), (icons, _, _) = suites[3:]
    assert shapes == ShapesSuite(seed=5, guidance=(2.0,))
    assert model.batch_size == 7
    assert settings["out"] == str(tmp_path / "out")
    assert settings["identity"]["weights"] == "float32"
    captions = coco.captions
    wanted = CocoSuite(captions, "captions_val2017.json", 5, temperature=0.5)
    assert coco == wanted.__class__(**{**vars(wanted), "model_name": folder.name})
    assert len(captions) == 3
    assert emoji == EmojiSuite("set", n=3, best_of=2)
    assert without["out"] is None
    assert icons == IconsSuite("set", n=1000, best_of=1, seed=5)
    assert read == ReadingSuite("set", n=4, seed=5, beams=2, best_of=8)


def test_oracle_is_a_target_of_its_own(monkeypatch, tmp_path, capsys):
    report = ModuleType("cogjax.evaluate.suites.oracle")
    report.evaluate_oracle = lambda n, seed, progress: {"n": n, "seed": seed}
    monkeypatch.setitem(sys.modules, "cogjax.evaluate.suites.oracle", report)
    assert evaluate("oracle", "--n", 7, "--json", tmp_path / "o.json") == 0
    assert json.loads((tmp_path / "o.json").read_text()) == {"n": 7, "seed": 0}
    assert capsys.readouterr().out == "n     7\nseed  0\n"
    assert evaluate("oracle", "--best-of", 7) == 2
    message = "--best-of does not go with the oracle suite"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--suite shapes", "the shapes suite needs --out DIR"),
        ("--suite coco --out o", "the coco suite needs --data DIR"),
        ("", "the emoji suite needs --data DIR"),
        ("--suite reading --data d", "the reading suite needs --out DIR"),
        ("--suite reading --data full --out o", "full is not a data set"),
        ("--suite shapes --out o --beams 4", "--beams does not go with the shapes"),
        ("--suite coca --out o", "unknown --suite 'coca': did you mean 'coco'"),
        ("--suite shapes --out o --data d", "--data does not go with the shapes"),
        ("--data d --num-images 2", "--num-images does not go with the emoji suite"),
        ("--data d --best-of 0", "the emoji suite needs 1 or more"),
        ("--suite icons --data d --best-of 0", "the icons suite needs 1 or more"),
        ("--suite icons --data d --gallery g", "--gallery does not go with the icons"),
        ("--suite shapes --out full", "full is not empty and holds no evaluation"),
        ("--suite shapes --out o --guidance 1,x", "from 0 to 100, got 'x'"),
        ("--suite shapes --out o --n 0", "from 1 to 100000, got '0'"),
        ("--suite coco --data no --out o", "no is no folder"),
        ("--suite coco --data full --out o", "full has no captions_val*.json"),
        ("--suite coco --data . --out o --n 9", "of 4 images, 9 are wanted"),
        ("--suite coco --data . --out o --guidance 1,2", "takes one --guidance"),
        ("--suite coco --data . --out o --weights-file x", "add --extractor NAME"),
        ("--suite coco --data . --out o --clip clip-vit-b-32", "go together: give all"),
        ("--suite shapes --out o", "32 px or more, the model makes 16"),
        ("--suite coco --data . --n 4 --out o", "too few for 9 distractors"),
        ("--data full", "full is not a data set"),
        ("--suite retrieval", "the retrieval suite needs --data DIR"),
        ("--suite retrieval --data d --beams 2", "--beams does not go with the retr"),
        ("--suite retrieval --data d", "does not compare images and texts by vectors"),
    ],
)
def test_mistakes(words, message, photographs, monkeypatch, capsys, nano_folder):
    monkeypatch.chdir(photographs)
    (photographs / "full").mkdir()
    (photographs / "full" / "thesis.txt").write_text("years of work")
    assert evaluate(nano_folder, *words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (photographs / "o").exists()


def test_a_run_that_has_not_ended(tmp_path, capsys):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    words = ["--suite", "shapes", "--out", tmp_path / "out"]
    assert evaluate(tmp_path / "run", *words) == 2
    assert "is a training run without an export" in capsys.readouterr().err
