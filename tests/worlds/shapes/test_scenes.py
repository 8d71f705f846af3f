"""Scenes: drawn right, placed apart, related as GenEval says."""

import math

import numpy as np
import pytest

from cogjax.worlds.shapes.scenes import (
    COLOURS,
    GAP,
    GROUNDS,
    RADII,
    SHAPES,
    Background,
    Item,
    Scene,
    coverage,
    place,
    relations,
    render,
)

# Areas in squared radii, worked out by hand.
AREAS = {
    "circle": math.pi,
    "square": (2 * 0.88) ** 2,
    "triangle": 0.5 * 2 * 1.8,
    "diamond": 2 / 1.25,
    "star": 10 * 0.5 * 0.5 * math.sin(math.pi / 5),
    "cross": 4 * 0.64 - 0.64**2,
    "ring": math.pi * (1 - 0.55**2),
}


@pytest.mark.parametrize("shape", AREAS)
def test_areas(shape):
    drawn = coverage(shape, (64, 64), 50, (128, 128))
    assert drawn.sum() / 50**2 == pytest.approx(AREAS[shape], rel=0.01)
    assert drawn.min() == 0 and drawn.max() == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_is_cut_by_the_window_it_is_painted_in(shape):
    whole = render(Scene((Item(shape, "black", 0.5, 0.5, 0.17),)), 128)
    dark = (255 - whole[..., 0].astype(float)) / (255 - COLOURS["black"][0])
    area = coverage(shape, (64, 64), 0.17 * 128, (128, 128))
    assert dark.sum() == pytest.approx(area.sum(), rel=0.005)


def test_colour_and_place():
    picture = render(Scene((Item("circle", "red", 0.25, 0.75, 0.1),)), 64)
    assert tuple(picture[48, 16]) == COLOURS["red"]
    assert tuple(picture[16, 48]) == GROUNDS[0]
    # Supersampled: the edge is neither.
    edge = picture[48, 16 + 6].astype(int)
    assert 30 < edge[1] < 255


def test_the_same_scene_at_every_size():
    scene = Scene((Item("heart", "blue", 0.5, 0.375, 0.17),), Background(2, "checked"))
    large = render(scene, 128).reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(large - render(scene, 64)).mean() < 1


@pytest.mark.parametrize("texture", ["striped", "checked", "dotted"])
def test_textures_are_light_and_differ(texture):
    plain = render(Scene((), Background(1)), 64)
    picture = render(Scene((), Background(1, texture)), 64)
    assert len(np.unique(plain)) == 1
    assert picture.min() >= plain.min() - 22 and picture.std() > 3


def test_drawing_leaves_the_background_as_it_was():
    """The background is kept between calls: painting must not reach it."""
    empty = render(Scene(()), 64)
    render(Scene((Item("square", "black", 0.5, 0.5, 0.17),)), 64)
    assert (render(Scene(()), 64) == empty).all()


def test_place_keeps_them_apart():
    radii = [RADII["small"]] * 6
    for seed in range(50):
        centres = place(radii, np.random.default_rng(seed))
        for i, a in enumerate(centres or ()):
            assert all(0.1 <= x <= 0.9 for x in a)
            for b in centres[:i]:
                assert math.dist(a, b) >= 0.2 + GAP - 1e-9
    assert place([RADII["large"]] * 20, np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("dx", "dy", "expected"),
    [
        (-0.5, 0.0, {"left"}),
        (0.5, 0.1, {"right"}),
        (0.0, -0.4, {"above"}),
        (0.3, 0.3, {"right", "below"}),
        # Closer than a tenth of both extents: no side at all.
        (0.03, 0.03, set()),
    ],
)
def test_relations(dx, dy, expected):
    a = Item("circle", "red", 0.5 + dx, 0.5 + dy, 0.1)
    b = Item("square", "blue", 0.5, 0.5, 0.1)
    assert relations(a, b) == expected
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
    assert relations(b, a) == {opposite[name] for name in expected}


def test_json_round_trip():
    items = (Item("ring", "pink", 0.25, 0.5, 0.17),)
    scene = Scene(items, Background(3, "dotted", 0.25))
    assert Scene.from_json(scene.to_json()) == scene
