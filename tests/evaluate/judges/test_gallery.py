import numpy as np
import pytest

from cogjax.evaluate.judges.gallery import (
    first_colors,
    make_gallery,
    thumbnails_of,
)
from cogjax.worlds.icons.splits import Item

STYLES = ("a", "b", "c")
NUM = 12
RNG = np.random.default_rng(0)
# One drawing a concept and style; concept 0 is in style "a" alone.
ITEMS = [
    Item(f"{concept:02}", style)
    for concept in range(NUM)
    for style in STYLES
    if concept or style == "a"
]
SHAPES = RNG.normal(size=(NUM, 8))
OFFSETS = dict(zip(STYLES, 9 * RNG.normal(size=(3, 8)), strict=True))
FEATURES = np.stack(
    [
        SHAPES[int(x.concept)] + OFFSETS[x.style] + 0.1 * RNG.normal(size=8)
        for x in ITEMS
    ]
)


def different_thumbnails():
    return np.random.default_rng(1).random((len(ITEMS), 256)).astype(np.float32)


def test_a_concept_is_found_by_its_drawings_in_other_styles():
    gallery = make_gallery(ITEMS, different_thumbnails())
    asked = [item for item in ITEMS if item.concept != "00"]
    # A middle of a style is far from that of another, and must not matter.
    queries = np.stack([SHAPES[int(x.concept)] + OFFSETS[x.style] for x in asked])
    np.testing.assert_array_equal(gallery.ranks(FEATURES, queries, asked), 0)
    wrong = np.roll(queries, 3, axis=0)  # Another concept in the right style.
    assert (gallery.ranks(FEATURES, wrong, asked) > 0).all()


def test_the_target_is_never_in_the_gallery():
    gallery = make_gallery(ITEMS, different_thumbnails())
    for item in ITEMS:
        found = {(ITEMS[i].concept, ITEMS[i].style) for i in gallery.witnesses(item)}
        others = {(x.concept, x.style) for x in ITEMS if x.concept == item.concept}
        assert found == others - {(item.concept, item.style)}
    # A query that is its target, whose other drawings show something else, is lost.
    features = FEATURES.copy()
    (mine,) = np.nonzero([x.concept == "05" for x in ITEMS])
    for place in mine[1:]:
        features[place] = OFFSETS[ITEMS[place].style] - SHAPES[5]
    rank = gallery.ranks(features, features[mine[:1]], [ITEMS[mine[0]]])
    assert rank > 5


def test_a_concept_in_one_style_is_not_asked_for_but_competes():
    gallery = make_gallery(ITEMS, different_thumbnails())
    only, other = Item("00", "a"), Item("07", "a")
    query = (SHAPES[7] + 1.5 * SHAPES[0] + OFFSETS["a"])[None].repeat(3, 0)
    found = gallery.ranks(FEATURES, query, [only, other, only])
    np.testing.assert_array_equal(found, [np.nan, 1, np.nan])


def test_drawings_that_look_alike_are_one():
    thumbnails = different_thumbnails()
    places = {(x.concept, x.style): i for i, x in enumerate(ITEMS)}
    # Concepts 3 and 4 are drawn alike in "b"; concept 6 twice, in "a" and "c".
    thumbnails[places["03", "b"]] = thumbnails[places["04", "b"]]
    thumbnails[places["06", "a"]] = thumbnails[places["06", "c"]]
    gallery = make_gallery(ITEMS, thumbnails)
    assert gallery.twins.sum() == NUM + 2 and gallery.twins[3, 4]
    query = (SHAPES[4] + OFFSETS["a"])[None]
    assert gallery.ranks(FEATURES, query, [Item("03", "a")]) > 0  # 3 is not near 4 ...
    assert gallery.ranks(FEATURES, query, [Item("04", "a")]) == 0
    twin = gallery.ranks(FEATURES, (SHAPES[3] + OFFSETS["a"])[None], [Item("04", "a")])
    alone = make_gallery(ITEMS, different_thumbnails())
    rival = alone.ranks(FEATURES, (SHAPES[3] + OFFSETS["a"])[None], [Item("04", "a")])
    assert twin == rival - 1  # ... but does not count against it.
    np.testing.assert_array_equal(
        gallery.witnesses(Item("06", "a")), [places["06", "b"]]
    )


def test_a_tie_is_lost():
    gallery = make_gallery(ITEMS, different_thumbnails())
    blank = np.zeros((1, 8))
    rank = gallery.ranks(np.zeros_like(FEATURES), blank, [Item("05", "b")])
    assert rank == NUM - 2  # concept 0 is not drawn in "b"


def test_a_gallery_needs_one_colour_of_each_drawing():
    items = [Item("x", "s", "red"), Item("x", "s", "blue"), Item("a", "s")]
    assert first_colors(items) == [2, 1]
    assert (
        make_gallery([items[2], items[1]], np.eye(2, 256)).witnesses(items[0]).tolist()
        == []
    )


@pytest.mark.parametrize("color", [(224, 32, 32), (240, 200, 90)])
def test_thumbnails_know_no_colour(color):
    image = np.full((1, 64, 64, 3), 255, np.uint8)
    image[:, 16:48, 8:24] = color
    black = np.where(image == 255, image, 0)
    np.testing.assert_allclose(thumbnails_of(image), thumbnails_of(black), atol=1e-5)
    assert thumbnails_of(image).sum() == 8 * 4
