import itertools

import numpy as np
import pytest

from cogjax.ops.masks import (
    EDGES,
    KINDS,
    LayerKind,
    image_mask,
    sample_pivots,
    sparse_kinds,
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


def cases():
    for grid, name in itertools.product(GRIDS, KINDS):
        for edge in EDGES if name == "conv" else EDGES[:1]:
            yield LayerKind(name, kernel=3, edge=edge), grid
    yield LayerKind("row", row_extent="own"), (3, 5)


def test_counts_of_dalle():
    masks = [image_mask(LayerKind(name), (32, 32)) for name in ("row", "column")]
    masks += [image_mask(LayerKind("conv", edge=edge), (32, 32)) for edge in EDGES]
    found = {k: tuple(int(m[k].sum()) for m in masks) for k in COUNTS}
    assert found == COUNTS


@pytest.mark.parametrize(("kind", "grid"), list(cases()), ids=str)
def test_causal_kinds(kind, grid):
    mask = image_mask(kind, grid)
    assert np.diag(mask).all()
    assert not np.triu(mask, 1).any()


@pytest.mark.parametrize(("kind", "grid"), list(cases()), ids=str)
def test_kinds_of_both_directions_are_symmetric(kind, grid):
    mask = image_mask(kind, grid, causal=False)
    assert np.diag(mask).all()
    np.testing.assert_array_equal(mask, mask.T)
    assert not (image_mask(kind, grid) & ~mask).any()


def keys(kind, grid, row, col, causal=True):
    """(row, col) of the keys that the query at (row, col) sees."""
    seen = image_mask(kind, grid, causal=causal)[row * grid[1] + col]
    return {divmod(int(k), grid[1]) for k in np.flatnonzero(seen)}


def test_row_reaches_the_cell_above():
    found = keys(LayerKind("row"), (4, 4), 2, 1)
    assert found == {(1, 1), (1, 2), (1, 3), (2, 0), (2, 1)}
    own = LayerKind("row", row_extent="own")
    assert keys(own, (4, 4), 2, 1) == {(2, 0), (2, 1)}
    both = keys(own, (4, 4), 2, 1, causal=False)
    assert both == {(2, 0), (2, 1), (2, 2), (2, 3)}


def test_column():
    assert keys(LayerKind("column"), (4, 5), 2, 3) == {(0, 3), (1, 3), (2, 3)}


def test_conv_edges():
    corner = {
        "raster": {(1, 3), (2, 0), (2, 1), (2, 3), (3, 0)},
        "clip": {(2, 0), (2, 1), (3, 0)},
        # Wraps to the right end of its rows; the rows below it are the first ones.
        "torus": {(0, 0), (0, 1), (0, 3), (2, 0), (2, 1), (2, 3), (3, 0)},
    }
    for edge, expected in corner.items():
        assert keys(LayerKind("conv", 3, edge), (4, 4), 3, 0) == expected


def window_keys(edge, grid, kernel, query, causal):
    """A window told by its cells: which keys of the flat sequence lie in it."""
    (rows, cols), radius, found = grid, kernel // 2, set()
    row, col = divmod(query, cols)
    for down, right in itertools.product(range(-radius, radius + 1), repeat=2):
        other_row, other_col = row + down, col + right
        if edge == "torus":
            other_row, other_col = other_row % rows, other_col % cols
        # "raster" knows no ends of rows.
        if edge == "clip" and not (0 <= other_row < rows and 0 <= other_col < cols):
            continue
        found.add(other_row * cols + other_col)
    last = query if causal else rows * cols - 1
    return {key for key in found if 0 <= key <= last}


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (6, 2)])
def test_a_window_cell_by_cell(grid, edge, causal):
    """Also at the ends of rows, and in the direction that reads an image."""
    for kernel in (3, 5):
        mask = image_mask(LayerKind("conv", kernel, edge), grid, causal=causal)
        for query, seen in enumerate(mask):
            expected = window_keys(edge, grid, kernel, query, causal)
            assert set(np.flatnonzero(seen)) == expected


def test_conv_is_a_window_inside():
    window = set(itertools.product((1, 2, 3), (1, 2, 3)))
    for edge in EDGES:
        kind = LayerKind("conv", 3, edge)
        assert keys(kind, (5, 5), 2, 2, causal=False) == window


def test_sparse_kinds():
    kinds = [kind.name for kind in sparse_kinds(64)]
    assert kinds[:6] == ["row", "column", "row", "row", "row", "column"]
    assert kinds[-1] == "conv"
    assert [kinds.count(k) for k in ("row", "column", "conv")] == [47, 16, 1]
    assert sparse_kinds(6, 3, "own")[-1] == LayerKind("conv", 3, row_extent="own")
    assert sparse_kinds(0) == ()


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
        (lambda: LayerKind("rows"), "name is 'rows'"),
        (lambda: LayerKind("conv", kernel=4), "odd"),
        (lambda: LayerKind("conv", edge="wrap"), "edge is 'wrap'"),
        (lambda: three_region_mask(10, 4, 1, [0]), "multiple of window"),
        (lambda: sample_pivots(np.random.default_rng(0), 8, 9, 4), "from 8"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
