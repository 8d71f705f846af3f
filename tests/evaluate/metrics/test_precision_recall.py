import numpy as np
import pytest

import cogjax.evaluate.metrics.precision_recall as pr
from cogjax.errors import UserError
from cogjax.evaluate.metrics.precision_recall import (
    in_any_ball,
    precision_recall,
    squared_radii,
)
from cogjax.evaluate.metrics.result import Source

RNG = np.random.default_rng(0)
SOURCE = Source("vgg16:1", "pil_bilinear")


def clusters(*places):
    return np.concatenate([RNG.normal(place, 0.1, (20, 3)) for place in places])


def test_one_of_two_modes_is_precise_and_recalls_half():
    precision, recall = precision_recall(clusters(0, 50), clusters(0), SOURCE)
    # A real picture may lie outside all balls of its own mode.
    assert precision.value >= 0.9 and 0.4 <= recall.value <= 0.5
    precision, recall = precision_recall(clusters(0), clusters(0, 50), SOURCE)
    assert 0.4 <= precision.value <= 0.5 and recall.value >= 0.9


def test_copies_and_strangers():
    x = RNG.normal(size=(30, 4))
    assert [f.value for f in precision_recall(x, x, SOURCE)] == [1, 1]
    figures = precision_recall(x, x + 100, SOURCE)
    assert [f.value for f in figures] == [0, 0]
    assert [f.name for f in figures] == ["precision", "recall"]
    assert "vgg16:1, n 30 against 30" in str(figures[0])


def test_a_ball_reaches_to_the_third_other_picture(monkeypatch):
    monkeypatch.setattr(pr, "_BLOCK", 2)
    line = np.array([[0.0], [1], [3], [7], [15]])
    np.testing.assert_allclose(squared_radii(line, 3), np.square([7, 6, 4, 7, 14]))
    np.testing.assert_allclose(squared_radii(line, 1), np.square([1, 1, 2, 4, 8]))
    points = np.array([[29.0], [29.1], [-7], [-7.1]])
    np.testing.assert_array_equal(in_any_ball(points, line), [1, 0, 1, 0])


def test_equal_pictures_are_neighbours_and_one_is_not_its_own():
    x = np.array([[0.0], [0], [0], [0], [9]])
    np.testing.assert_allclose(squared_radii(x, 3), [0, 0, 0, 0, 81])
    np.testing.assert_array_equal(in_any_ball(x[:1], x[:4]), [True])


def test_against_the_definition():
    x, y = RNG.normal(5, 1, (40, 6)), RNG.normal(5.3, 1, (30, 6))

    def share(points, centres):
        own = np.linalg.norm(centres[:, None] - centres, axis=-1)
        radii = np.sort(own, axis=1)[:, 3]
        return np.mean(
            np.any(np.linalg.norm(points[:, None] - centres, axis=-1) <= radii, 1)
        )

    figures = precision_recall(x, y, SOURCE)
    assert [f.value for f in figures] == [share(y, x), share(x, y)]
    assert figures[0].note == "k 3, unequal n"


def test_mistakes():
    x = np.zeros((3, 2))
    with pytest.raises(UserError, match="4 images a side"):
        precision_recall(x, x, SOURCE)
