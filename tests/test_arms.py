"""The comparisons of Imagen's choices: what a stop does, their tables and figures."""

import argparse
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "experiments/imagen"


@pytest.fixture
def module(monkeypatch):
    """Loads a file of the comparisons by its name, as its command does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "arms", raising=False)
    found = []

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        found.append(name)
        return importlib.import_module(name)

    yield load
    for name in (*found, "arms"):
        sys.modules.pop(name, None)


def test_a_table_has_differences_to_its_reference_prompt_by_prompt(module):
    arms = module("arms")
    rng = np.random.default_rng(0)
    first = rng.random((3, 50))
    rows = arms.rows_of({"a": first.tolist(), "b": (first + 0.1).tolist()}, "a")
    assert rows[0]["right"][0] == pytest.approx(first.mean())
    assert "difference" not in rows[0]
    # All prompts gain alike: there is no doubt about it, though seeds and prompts vary.
    assert rows[1]["difference"] == pytest.approx((0.1, 0.1, 0.1))
    assert rows[1]["shows_from"] == pytest.approx(0, abs=1e-9)
    text = arms.show(rows, "a").splitlines()
    assert len(text) == 4 and "| +10.0 [+10.0, +10.0] | 0.0 |" in text[3]


def test_a_run_that_was_judged_is_not_trained_again(module, monkeypatch, tmp_path):
    encoders = module("encoders")
    args = argparse.Namespace(
        out=tmp_path, data="easy", images=1600, minilm=False, nano=False, num_images=2
    )
    asked = []

    def train(spec, values, workdir):
        asked.append((spec, values, workdir.relative_to(tmp_path)))
        return workdir / "export"

    config = argparse.Namespace(config=argparse.Namespace(width=64))
    monkeypatch.setattr(encoders, "train", train)
    monkeypatch.setattr(encoders, "vectors", lambda *_: "vectors")
    encoder = {"text_encoder": config}
    monkeypatch.setattr(encoders, "read_text_encoder", lambda source: encoder)
    monkeypatch.setattr(encoders.cogjax, "load", lambda folder: folder)
    monkeypatch.setattr(encoders, "prompts_of", lambda *_: [])
    monkeypatch.setattr(encoders, "right", lambda *_, **__: [0.5, 1.0])
    for _ in range(2):
        assert encoders.run("half U-Net", 1, args) == [0.5, 1.0]
    (text, _, _), (base, values, folder) = asked
    assert text == "text.py:medium" and base == "shapes.py:base"
    assert values["train.steps"] == 100 and values["train.seed"] == 1
    assert values["model.text_dim"] == 64 and values["model.width"] == 16
    assert str(folder) == "half-U-Net-1/run"


def test_a_ground_is_compared_with_those_of_the_world(module):
    thresholds = module("thresholds")
    images = np.full((3, 8, 8, 3), 255, np.uint8)
    images[1] = 240  # 12 from the grey one, 228.
    images[2, 2:6, 2:6] = 0  # A shape is no ground.
    assert thresholds.ground_error(images).tolist() == [0, 12, 0]


def test_a_folder_has_one_comparison(module, monkeypatch, tmp_path):
    arms = module("arms")
    monkeypatch.setattr(arms.jax.config, "update", lambda *_: None)
    parser = arms.make_parser("A comparison.", images=10)
    words = ["--out", str(tmp_path), "--data", "easy"]
    for more in ([], ["--seeds", "4"]):
        arms.begin(parser.parse_args([*words, *more]))
    with pytest.raises(SystemExit, match="choose another --out"):
        arms.begin(parser.parse_args([*words, "--images", "20"]))


def test_a_judge_that_tells_nothing_apart_ends_it(module, monkeypatch, tmp_path):
    arms = module("arms")
    args = argparse.Namespace(out=tmp_path, n=8)
    assert arms.check_ceiling(args, 32) == 1.0
    monkeypatch.setattr(arms, "ceiling", lambda *_: 0.9)
    with pytest.raises(SystemExit, match="below 95 %|below 95%"):
        arms.check_ceiling(args, 16)
