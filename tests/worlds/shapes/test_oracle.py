"""The oracle reads renders exactly, abstains from what it cannot read."""

import numpy as np
import pytest

from cogjax.worlds.shapes import dataset as shapes
from cogjax.worlds.shapes.oracle import UNKNOWN, find_shapes, items_of, same_scene
from cogjax.worlds.shapes.scenes import COLOURS, SHAPES, Background, Item, Scene, render


@pytest.mark.parametrize("side", [32, 64, 96])
def test_random_scenes_are_read_whole(side):
    rng = np.random.default_rng(7)
    scenes = [shapes.sample_scene(rng, i % 4 == 0) for i in range(60)]
    wrong = [s for s in scenes if not same_scene(s, find_shapes(render(s, side)))]
    assert len(wrong) <= (1 if side == 32 else 0), wrong


@pytest.mark.parametrize("extent", [(1.5, 0.75), (0.75, 1.5)])
def test_oblong_scenes_are_read_whole(extent):
    rng = np.random.default_rng(7)
    seen = []
    for i in range(40):
        scene = shapes.sample_scene(rng, easy=i % 2 == 0, extent=extent)
        image = render(scene, 64)
        assert image.shape == (64 * extent[1], 64 * extent[0], 3)
        scene = Scene.from_json(scene.to_json())
        assert scene.extent == extent
        assert same_scene(scene, find_shapes(image, 64)), scene
        seen += scene.items
    # All of the picture is used, and its edges are kept free.
    assert max(item.x for item in seen) > extent[0] - 0.3
    assert max(item.y for item in seen) > extent[1] - 0.3
    assert all(item.x + item.radius < extent[0] for item in seen)
    assert all(item.y + item.radius < extent[1] for item in seen)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [0.1, 0.17])
def test_every_colour_of_every_shape(shape, radius):
    for index, colour in enumerate(COLOURS):
        item = Item(shape, colour, 0.4375, 0.5625, radius)
        scene = Scene((item,), Background(index % 4, ("plain", "checked")[index % 2]))
        (found,) = items_of(find_shapes(render(scene, 64)))
        assert (found.shape, found.colour, found.size) == (shape, colour, item.size)
        assert abs(found.x - item.x) < 0.01 and abs(found.y - item.y) < 0.01
        assert abs(found.radius - radius) < 0.01


def test_what_is_no_shape_is_unknown():
    picture = render(Scene((Item("circle", "red", 0.25, 0.25, 0.1),)), 64).copy()
    picture[40:44, 8:60] = COLOURS["blue"]  # a bar
    found = {item.colour: item.shape for item in items_of(find_shapes(picture))}
    assert found == {"red": "circle", "blue": UNKNOWN}


def test_touching_shapes_are_not_guessed():
    items = [Item("square", "red", x, 0.5, 0.1) for x in (0.4, 0.55)]
    (found,) = items_of(find_shapes(render(Scene(tuple(items)), 64)))
    assert found.shape == UNKNOWN


def test_specks_are_something_but_nothing_to_name():
    picture = render(Scene(()), 64).copy()
    picture[10:13, 10:13] = COLOURS["green"]
    assert [item.shape for item in items_of(find_shapes(picture))] == [UNKNOWN]
    picture[10:13, 10:13] = 255
    picture[10, 10] = COLOURS["green"]  # one pixel is noise
    assert find_shapes(picture) == []


def test_empty_and_plain_pictures():
    assert find_shapes(np.full((64, 64, 3), 255, np.uint8)) == []
    found = find_shapes(np.full((64, 64, 3), COLOURS["red"], np.uint8))
    assert [piece.item.shape for piece in found] == [UNKNOWN]


def test_same_scene_wants_all_and_nothing_else():
    scene = shapes.sample_scene(np.random.default_rng(3))
    found = find_shapes(render(scene, 64))
    assert same_scene(scene, found)
    assert not same_scene(scene, found[1:]) and not same_scene(scene, found + found[:1])
    moved = Scene((Item("ring", "red", 0.5, 0.5, 0.17),))
    elsewhere = Scene((Item("ring", "red", 0.5625, 0.5, 0.17),))
    assert not same_scene(moved, find_shapes(render(elsewhere, 64)))
