import numpy as np
import pytest

from cogjax.data.images import encode_png
from cogjax.data.overlap import NEAR
from cogjax.worlds.icons import splits
from cogjax.worlds.icons.duplicates import near_train, same_pixels
from cogjax.worlds.icons.iconpark import THEMES
from cogjax.worlds.icons.palette import PALETTE
from cogjax.worlds.icons.splits import COMBINATIONS, Item, colors_of, split_items


@pytest.fixture(scope="module")
def found():
    items = [
        Item(f"k{i}", theme, color)
        for i in range(1500)
        for theme in THEMES
        for color in colors_of(f"k{i}", theme)
    ]
    return split_items(items)


def test_a_drawing_has_two_colours_and_no_black_fill():
    for i in range(200):
        for theme in THEMES:
            colors = colors_of(f"k{i}", theme)
            assert len(set(colors)) == 2 and set(colors) <= set(PALETTE)
            assert theme in THEMES[:2] or "black" not in colors


def test_splits_have_their_shares(found):
    shares = {
        s: np.mean([split == s for split in found.values()]) for s in splits.SPLITS
    }
    assert 0.02 < shares["val"] < 0.04
    assert 0.04 < shares["pairs"] < 0.07
    assert 0.05 < shares["colors"] < 0.09
    assert 0.06 < shares["combinations"] < 0.12


def test_held_out_concepts_are_nowhere_else(found):
    val = {item.concept for item, split in found.items() if split == "val"}
    assert val and all(split == "val" for i, split in found.items() if i.concept in val)


def test_nothing_held_out_is_in_train(found):
    train = [item for item, split in found.items() if split == "train"]
    pairs = {(i.concept, i.style) for i in train}
    colors = {(i.concept, i.color) for i in train}
    for item, split in found.items():
        if split == "pairs":
            assert (item.concept, item.style) not in pairs
        if split == "colors":
            assert (item.concept, item.color) not in colors
        if split == "combinations":
            assert (item.style, item.color) in COMBINATIONS
    assert not {(i.style, i.color) for i in train} & COMBINATIONS


def test_a_held_out_pair_or_colour_has_company_in_train(found):
    train = {}
    for item, split in found.items():
        if split == "train":
            train.setdefault(item.concept, []).append(item)
    for item, split in found.items():
        if split in ("pairs", "colors"):
            assert len(train[item.concept]) >= 2
        if split == "pairs":
            assert len({i.style for i in train[item.concept]}) >= 2


def test_splits_do_not_depend_on_order(found):
    items = list(found)
    assert split_items(items[::-1]) == found


def test_the_examples_of_the_readme_are_trained_on():
    for concept in ("1f408", "1f34e"):
        items = [Item(concept, style) for style in ("noto", "fluent-3d", "fluent-mono")]
        assert set(split_items(items).values()) == {"train"}


def png(value, dot=None):
    pixels = np.full((32, 32, 3), value, np.uint8)
    if dot is not None:
        pixels[4:12, 4:12] = dot
    return encode_png(pixels)


def test_the_same_image_is_found_once():
    a, b, c = (Item(name, "noto") for name in "abc")
    assert same_pixels({a: png(1), b: png(1), c: png(2)}) == {b: a}


def test_a_held_out_image_that_train_nearly_has_is_found():
    a, b, c, d = (Item(name, "noto") for name in "abcd")
    images = {a: png(255), b: png(255 - int(NEAR) + 1), c: png(255, 0), d: png(0)}
    held = dict.fromkeys(images, "pairs") | {a: "train"}
    ((query, nearest, distance),) = near_train(images, held)
    assert (query, nearest) == (b, a)
    assert distance == pytest.approx(NEAR - 1, abs=0.01)
    images.pop(b)
    assert near_train(images, held) == []
