"""The oracle's own figures, on few renders, and the second judge."""

import numpy as np
import pytest

from cogjax.evaluate.judges import checker
from cogjax.evaluate.suites.oracle import DAMAGES, evaluate_oracle
from cogjax.worlds.shapes import dataset as shapes
from cogjax.worlds.shapes.scenes import Scene, render


@pytest.fixture(scope="module")
def report():
    return evaluate_oracle(24, seed=3)


def test_report(report):
    assert report["scene_exact"] == report["caption_exact"] == 1
    assert report["checker_agrees"]["share"] > 0.9
    low, high = report["shuffled"]["interval"]
    assert low <= report["shuffled"]["chance"] <= high
    # Harder damage is not easier.
    damaged = {name: entry["scene_exact"] for name, entry in report["damaged"].items()}
    assert damaged["blur 1.5"] < damaged["blur 0.7"] and damaged["noise 12"] > 0.9
    assert set(damaged) == {*DAMAGES, "32 px", "48 px", "128 px"}


def test_targets_are_what_logits_read():
    """A network that says exactly the targets is read as the scene."""
    rng = np.random.default_rng(0)
    scenes = [shapes.sample_scene(rng) for _ in range(8)]
    wanted = checker.targets(scenes)
    shape = (*wanted["there"].shape, checker.NUM_LOGITS)
    logits = np.zeros(shape, np.float32)
    logits[..., 0] = wanted["there"] - 0.5
    parts = checker.split_logits(logits)
    for name in ("shape", "colour", "size"):
        hot = wanted[name][..., None] == np.arange(parts[name].shape[-1])
        parts[name][hot] = 1
    for scene, items in zip(scenes, checker.read_logits(logits), strict=True):
        assert set(items) == set(scene.items)


def test_the_second_judge_reads_any_number_of_pictures():
    """More than a batch, places and sizes too."""
    scenes = [shapes.sample_scene(np.random.default_rng(i)) for i in range(70)]
    found = checker.check(np.stack([render(scene, 64) for scene in scenes]))
    wrong = [
        s for s, items in zip(scenes, found, strict=True) if set(items) != set(s.items)
    ]
    assert len(found) == 70 and len(wrong) <= 1
    assert checker.check(render(Scene(()), 64)[None]) == [[]]
