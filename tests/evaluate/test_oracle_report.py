"""The oracle's own figures, on few renders, and the second judge."""

import numpy as np
import pytest

from cogjax.data import shapes
from cogjax.data.shape_scenes import Item, Scene, render
from cogjax.evaluate import checker
from cogjax.evaluate.oracle_report import DAMAGES, evaluate_oracle


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
    scenes = [shapes.draw_scene(rng) for _ in range(8)]
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


def test_second_judge_is_not_the_first():
    """It finds shapes that touch, which the oracle takes for one."""
    square = Item("square", "red", 0.3125, 0.5, 0.1)
    ring = Item("ring", "blue", 0.5, 0.5, 0.1)
    (found,) = checker.check(render(Scene((square, ring)), 64)[None])
    assert {(item.shape, item.colour) for item in found} == {
        ("square", "red"),
        ("ring", "blue"),
    }
