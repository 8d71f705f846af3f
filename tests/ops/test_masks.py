import itertools

import numpy as np
import pytest

from cogjax.ops.masks import (
    EDGES,
    KINDS,
    Pattern,
    hide_padding,
    image_mask,
    image_to_text_mask,
    layer_kinds,
    sample_pivots,
    text_to_image_mask,
    three_region_mask,
)

GRIDS = ((4, 4), (3, 5), (6, 2), (1, 7))
# Image keys of a query of DALL-E's 32 x 32, as counted on ru-dalle's masks; the raster
# column is the paper's wording.
COUNTS = {
    0: (1, 1, 1, 1, 1),
    1: (2, 1, 2, 2, 2),
    31: (32, 1, 11, 6, 11),
    32: (33, 2, 12, 7, 12),
    40: (33, 2, 17, 17, 17),
    500: (33, 16, 61, 61, 61),
    1023: (33, 32, 61, 36, 121),
}


def patterns(causal):
    for (rows, cols), kind in itertools.product(GRIDS, KINDS):
        for edge in EDGES if kind == "conv" else EDGES[:1]:
            yield Pattern(kind, rows, cols, causal, kernel=3, edge=edge)
    yield Pattern("row", 3, 5, causal, row_extent="own")


def test_counts_of_dalle():
    masks = [image_mask(Pattern(kind, 32, 32)) for kind in ("row", "column")]
    masks += [image_mask(Pattern("conv", 32, 32, edge=edge)) for edge in EDGES]
    found = {k: tuple(int(m[k].sum()) for m in masks) for k in COUNTS}
    assert found == COUNTS


@pytest.mark.parametrize("pattern", list(patterns(True)), ids=str)
def test_causal_patterns(pattern):
    mask = image_mask(pattern)
    assert np.diag(mask).all()
    assert not np.triu(mask, 1).any()


@pytest.mark.parametrize("pattern", list(patterns(False)), ids=str)
def test_patterns_of_both_directions_are_symmetric(pattern):
    mask = image_mask(pattern)
    assert np.diag(mask).all()
    np.testing.assert_array_equal(mask, mask.T)
    causal = image_mask(Pattern(**{**vars(pattern), "causal": True}))
    assert not (causal & ~mask).any()


def keys(pattern, row, col):
    """(row, col) of the keys that the query at (row, col) sees."""
    seen = image_mask(pattern)[row * pattern.cols + col]
    return {divmod(int(k), pattern.cols) for k in np.flatnonzero(seen)}


def test_row_reaches_the_cell_above():
    found = keys(Pattern("row", 4, 4), 2, 1)
    assert found == {(1, 1), (1, 2), (1, 3), (2, 0), (2, 1)}
    assert keys(Pattern("row", 4, 4, row_extent="own"), 2, 1) == {(2, 0), (2, 1)}
    both = Pattern("row", 4, 4, causal=False, row_extent="own")
    assert keys(both, 2, 1) == {(2, 0), (2, 1), (2, 2), (2, 3)}


def test_column():
    assert keys(Pattern("column", 4, 5), 2, 3) == {(0, 3), (1, 3), (2, 3)}


def test_conv_edges():
    corner = {
        "raster": {(1, 3), (2, 0), (2, 1), (2, 3), (3, 0)},
        "clip": {(2, 0), (2, 1), (3, 0)},
        # Wraps to the right end of its rows; the rows below it are the first ones.
        "torus": {(0, 0), (0, 1), (0, 3), (2, 0), (2, 1), (2, 3), (3, 0)},
    }
    for edge, expected in corner.items():
        assert keys(Pattern("conv", 4, 4, kernel=3, edge=edge), 3, 0) == expected


def test_conv_is_a_window_inside():
    window = set(itertools.product((1, 2, 3), (1, 2, 3)))
    for edge in EDGES:
        both = Pattern("conv", 5, 5, causal=False, kernel=3, edge=edge)
        assert keys(both, 2, 2) == window


def test_layouts_of_the_paper_figure():
    # ERNIE-ViLG: 6 text tokens, a 4 x 4 image, kernel 3.
    causal = Pattern("row", 4, 4, row_extent="own")
    mask = text_to_image_mask(causal, 6, text_causal=False)
    assert mask[:, :6].all() and not mask[:6, 6:].any()
    np.testing.assert_array_equal(mask[6:, 6:], image_mask(causal))
    both = Pattern("conv", 4, 4, causal=False, kernel=3, edge="clip")
    mask = image_to_text_mask(both, 6)
    assert not mask[:16, 16:].any()
    np.testing.assert_array_equal(mask[:16, :16], image_mask(both))
    assert mask[16:, :16].all()
    np.testing.assert_array_equal(mask[16:, 16:], np.tri(6, dtype=bool))


def test_a_question_is_seen_both_ways_and_the_answer_causally():
    both = Pattern("row", 2, 2, causal=False)
    mask, plain = image_to_text_mask(both, 5, 3), image_to_text_mask(both, 5)
    np.testing.assert_array_equal(mask[:4], plain[:4])
    assert mask[4:, :4].all()
    text = [[1, 1, 1, 0, 0]] * 3 + [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    np.testing.assert_array_equal(mask[4:, 4:], text)
    # Of two questions none sees the other.
    two = image_to_text_mask(both, 10, 3, 2)
    np.testing.assert_array_equal(two[4:, :4], True)
    np.testing.assert_array_equal(two[4:, 4:], np.kron(np.eye(2), text))
    # One position alone has nothing behind it to see.
    np.testing.assert_array_equal(image_to_text_mask(both, 5, 1), plain)


def test_causal_text_makes_full_the_plain_causal_mask():
    mask = text_to_image_mask(Pattern("full", 3, 4), 5)
    np.testing.assert_array_equal(mask, np.tri(17, dtype=bool))


def test_hidden_padding_leaves_no_row_empty():
    mask = text_to_image_mask(Pattern("column", 2, 2), 3)
    padding = np.array([True, False, True, False, False, False, False])
    hidden = hide_padding(mask, padding)
    assert hidden.any(1).all()
    np.testing.assert_array_equal(hidden[:, 1], mask[:, 1])
    assert hidden[0, 0] and not hidden[1:, 0].any()


def test_layer_kinds():
    kinds = layer_kinds(64, "dalle")
    assert kinds[:6] == ("row", "column", "row", "row", "row", "column")
    assert kinds[-1] == "conv"
    assert [kinds.count(k) for k in ("row", "column", "conv")] == [47, 16, 1]
    assert layer_kinds(24, "ru-dalle") == layer_kinds(24, "dalle")
    assert layer_kinds(6, "dalle")[-1] == "conv"
    assert layer_kinds(6, "ru-dalle")[-1] == "column"


def test_three_regions():
    pivots = sample_pivots(np.random.default_rng(0), 4, 24, 8)
    assert list(pivots[:4]) == [0, 1, 2, 3] and len(set(pivots)) == 8
    assert max(pivots) < 24
    mask, bonus = three_region_mask(24, 4, 2, pivots)
    for i, j in itertools.product(range(24), range(24)):
        in_window = j <= i and j // 4 > i // 4 - 2
        as_pivot = j in pivots and j // 4 <= i // 4 - 2
        assert mask[i, j] == (in_window or as_pivot)
        assert bonus[i, j] == (np.log(3) if as_pivot else 0)


def test_all_pivots_are_plain_causal_attention():
    mask, bonus = three_region_mask(12, 3, 2, range(12))
    np.testing.assert_array_equal(mask, np.tri(12, dtype=bool))
    assert not bonus.any()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Pattern("rows", 2, 2), "kind is 'rows'"),
        (lambda: Pattern("conv", 2, 2, kernel=4), "odd"),
        (lambda: Pattern("conv", 2, 2, edge="wrap"), "edge is 'wrap'"),
        (lambda: Pattern("row", 0, 2), "no positions"),
        (lambda: layer_kinds(4, "gpt"), "rule is 'gpt'"),
        (lambda: three_region_mask(10, 4, 1, [0]), "multiple of window"),
        (lambda: sample_pivots(np.random.default_rng(0), 8, 9, 4), "from 8"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
