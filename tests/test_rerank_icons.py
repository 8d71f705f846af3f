"""Figure 9 on icons: which images are chosen, and the script with a small model."""

import json
import sys

import numpy as np
import pytest

import cogjax
from cogjax.evaluate.metrics.frechet import Moments
from tests.evaluate.suites.test_icons import (  # noqa: F401
    Painter,
    data,
    draw,
    examples,
    small_judges,
)
from tests.scripts import load_script


@pytest.fixture(scope="module")
def script():
    return load_script("clip/rerank_icons.py")


def test_the_best_of_each_group_is_taken(script):
    losses = np.array([[3, 1, 2, 0, 9], [0, 1, 5, 4, 9]], float)
    values = np.arange(10.0).reshape(2, 5)
    found = script.best_of(values, losses, 2)
    np.testing.assert_array_equal(found, [[1, 3], [5, 8]])
    np.testing.assert_array_equal(script.best_of(values, losses, 4), [[3], [5]])
    np.testing.assert_array_equal(script.best_of(values, losses, 1), values)
    pairs = np.stack([values, -values], -1)
    np.testing.assert_array_equal(script.best_of(pairs, losses, 2)[..., 1], -found)


def test_a_prompt_without_a_verdict_is_left_out(script):
    mean, low, high = script.interval(np.array([[1, 1], [0, 1], [np.nan] * 2]))
    assert mean == 0.75 and 0.5 <= low <= mean <= high <= 1


def test_the_distance_of_groups_is_the_mean_of_theirs(script):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 2, 3))
    features[:, 1] += 2
    real = Moments.of(features[:, 0])
    both = script.distance(features, real)
    assert script.distance(features[:, :1], real) == pytest.approx(0, abs=1e-9)
    assert both == pytest.approx(script.distance(features[:, 1:], real) / 2)
    assert both == pytest.approx(6, abs=2)


class Clip:
    """Is content with images that show what a prompt says, of a painter's."""

    def __init__(self, painter):
        self.painter = painter

    def score(self, images, texts):
        wanted = (draw(self.painter.prompts[text]) for text in texts)
        pairs = zip(images, wanted, strict=True)
        return np.array([(a != b).any() for a, b in pairs], np.float32)


class Half(Painter):
    """Every second image is that of its first prompt; it knows its own images."""

    def generate(self, prompts, num_images, seed):
        found = super().generate(prompts, num_images, seed)
        codes, right = found.codes, found.codes.copy()
        codes[:, 0] = right[0, 0]
        return found

    def score_codes(self, codes, texts):
        return Clip(self).score(self.decode(codes), texts)


def test_both_choose_among_the_same_images(
    script,
    data,  # noqa: F811
    examples,  # noqa: F811
    tmp_path,
    monkeypatch,
    capsys,
):
    painter = Half(examples)
    models = {"drawing": painter, "clip-icons": Clip(painter)}
    monkeypatch.setattr(cogjax, "load", models.get)
    monkeypatch.setattr(script, "find", lambda name: name)
    monkeypatch.setattr(script, "model_digest", lambda folder: f"digest of {folder}")
    words = ["drawing", "--data", data, "--out", str(tmp_path), "--n", "8"]
    monkeypatch.setattr(sys, "argv", ["", *words, "--best-of", "2", "--split", "train"])
    script.main()
    found = json.loads((tmp_path / "rerank.json").read_text())
    assert found["prompts"] == 8
    for rows in found["curves"].values():
        one, two = (row["concept_top5_both"][0] for row in rows)
        assert two == 1 > one > 0.4
        assert rows[1]["fd"] < rows[0]["fd"]
    assert "| 2 | CLIP | 100.0 %" in capsys.readouterr().out
    assert (tmp_path / "rerank.png").read_bytes().startswith(b"\x89PNG")
    # Images of another model are not taken for its own.
    monkeypatch.setattr(sys, "argv", ["", "other", *words[1:]])
    with pytest.raises(SystemExit):
        script.main()
    said = capsys.readouterr().err
    assert 'model_digest is "digest of drawing" there, "digest of other" here' in said
