"""Sparse layers against full attention: what is compared after a run, or a stop."""

import argparse
import json

import numpy as np
import pytest
from cogjax.experiments.ernie_vilg import sparse_learning

from cogjax.errors import UserError

IMAGES = np.array([1.0, 2.0])


def points(*losses):
    """Losses of two images in a run that is judged every 10 updates."""
    return [
        {"updates": 10 * (i + 1), "losses": (loss * IMAGES).tolist()}
        for i, loss in enumerate(losses)
    ]


def costs(sparse, full):
    """What updates take when the first round was disturbed."""
    seconds = {"sparse": sparse, "full": full}
    return {name: {"processor": [9 * x, x, x]} for name, x in seconds.items()}


def test_equal_updates_and_equal_core_seconds():
    """Full attention takes half as long again: of 30 updates it has time for 20."""
    runs = {
        "sparse": [points(9, 7, 5), points(9, 7, 6)],
        "full": [points(8, 6, 4), points(8, 5, 4)],
    }
    updates, seconds = sparse_learning.comparison(runs, costs(2.0, 3.0))
    assert (updates["equal"], seconds["equal"]) == ("updates", "core-seconds")
    assert updates["updates"] == {"sparse": 30, "full": 30}
    assert seconds["updates"] == {"sparse": 30, "full": 20}
    assert updates["seeds"] == pytest.approx([1.5, 3.0])
    assert seconds["seeds"] == pytest.approx([-1.5, 1.5])
    assert updates["loss"] == pytest.approx({"sparse": 8.25, "full": 6.0})
    mean, low, high = updates["difference"]
    assert mean == pytest.approx(2.25) and low < mean < high


def test_losses_between_two_points():
    found = sparse_learning.after(points(9, 7, 5), 25)
    np.testing.assert_allclose(found, 6 * IMAGES)
    np.testing.assert_allclose(sparse_learning.after(points(9, 7), 20), 7 * IMAGES)


def test_time_that_ends_before_the_first_point_is_refused():
    """Full attention does 10 of 30 updates, or 9, while sparse layers do all."""
    args = argparse.Namespace(updates=30, points=3)
    sparse_learning.check_points(costs(2.0, 6.0), args)
    message = "full attention does 9 updates .* the first point at 10: .* more --points"
    with pytest.raises(UserError, match=message):
        sparse_learning.check_points(costs(2.0, 6.5), args)


def test_runs_of_another_config_are_refused(tmp_path, monkeypatch, capsys):
    """Other seeds, and another place of the results, are the same configs."""
    manifest = argparse.Namespace(image_size=256)
    monkeypatch.setattr(sparse_learning.records, "read_manifest", lambda path: manifest)
    args = argparse.Namespace(out=tmp_path / "a", data="large", grids=[16, 32])
    vars(args).update(updates=20, points=2, rounds=1, nano=False)
    parser = argparse.ArgumentParser()
    sparse_learning.check(args, parser)
    sparse_learning.check(args, parser)
    args.out = (tmp_path / "a").rename(tmp_path / "b")
    sparse_learning.check(args, parser)
    monkeypatch.setitem(sparse_learning.TRAINED, "model.width", 48)
    with pytest.raises(SystemExit):
        sparse_learning.check(args, parser)
    assert "another config for 16 x 16 codes: choose an" in capsys.readouterr().err


def test_a_run_goes_on_behind_its_last_point(tmp_path, monkeypatch):
    """A stop while the second of three parts is trained; the first is not repeated."""
    trained = []

    def train(config, workdir):
        trained.append((config["train"]["steps"], config["train"]["save_every"]))
        if len(trained) == 2:
            raise KeyboardInterrupt
        assert (workdir / "codes").resolve() == (tmp_path / "codes").resolve()

    class Stage:
        def job(self, run, folder):
            return None

    monkeypatch.setattr(sparse_learning.launch, "train", train)
    monkeypatch.setattr(sparse_learning.launch, "find_stage", lambda config: Stage())
    monkeypatch.setattr(sparse_learning, "held_out", lambda job, folder: [1.0])
    args = argparse.Namespace(
        out=tmp_path, data="large", nano=False, updates=20, points=3
    )
    with pytest.raises(KeyboardInterrupt):
        sparse_learning.train("full", 16, 1, args)
    found = sparse_learning.train("full", 16, 1, args)
    assert [each["updates"] for each in found] == [6, 13, 20]
    assert trained == [(6, 6), (13, 13), (13, 13), (20, 20)]


def test_runs_are_of_the_grid_and_rounded(tmp_path):
    args = argparse.Namespace(out=tmp_path, data="large", nano=False)
    sparse, full = (
        sparse_learning.settings(x, 32, 2, args) for x in ("sparse", "full")
    )
    for config in (sparse, full):
        assert config["train"]["products"] == "bfloat16"
        assert config["train"]["seed"] == 2 and config["model"]["width"] == 96
        assert config["optim"]["clip"] == 76 * 16
    assert (sparse["model"]["attention"], full["model"]["attention"]) == (
        "sparse",
        "full",
    )
    read = json.loads((tmp_path / "tokenizer-32" / "config.json").read_text())
    assert read["components"]["tokenizer"]["config"]["image_size"] == 256
