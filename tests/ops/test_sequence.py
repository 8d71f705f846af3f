"""Who sees whom, against loops over queries and keys written from the papers' words."""

import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest

from cogjax.config import section
from cogjax.ops.masks import EDGES, FULL, KINDS, LayerKind
from cogjax.ops.sequence import Segment, Sequence

GRIDS = ((4, 4), (3, 5), (1, 7))


def kinds():
    for name in KINDS:
        for edge in EDGES if name == "conv" else EDGES[:1]:
            yield LayerKind(name, 3, edge)
    yield LayerKind("row", row_extent="own")


def is_near(kind, grid, query, key):
    """Whether a query of the image may see a key, in both directions."""
    (rows, cols), radius = grid, kind.kernel // 2
    (row, col), (key_row, key_col) = divmod(query, cols), divmod(key, cols)
    if kind.name == "column":
        return col == key_col
    if kind.name == "row" and kind.row_extent == "own":
        return row == key_row
    if kind.name == "row":
        return abs(query - key) <= cols
    if kind.name == "conv" and kind.edge == "raster":
        # A cell of the window is counted on in raster order, over the ends of rows.
        cells = itertools.product(range(-radius, radius + 1), repeat=2)
        return any(query + down * cols + right == key for down, right in cells)
    if kind.name == "conv":
        down, right = abs(row - key_row), abs(col - key_col)
        if kind.edge == "torus":
            down, right = min(down, rows - down), min(right, cols - right)
        return down <= radius and right <= radius
    return True


def table(length, sees):
    """bool [s, s] of a function of query and key."""
    found = [[sees(i, j) for j in range(length)] for i in range(length)]
    return np.array(found, bool)


def test_cogview_sees_what_is_before():
    mask = Sequence.causal(7).mask()
    np.testing.assert_array_equal(mask, table(7, lambda i, j: j <= i))


@pytest.mark.parametrize("text", ["causal", "all"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", list(kinds()), ids=str)
def test_text_to_image(kind, grid, text):
    """DALL-E: text sees the text before it; ERNIE-ViLG: all. No text sees a code."""
    num_text = 3
    sequence = Sequence.text_to_image(num_text, grid, text)

    def sees(i, j):
        if i < num_text:
            return j < num_text and (text == "all" or j <= i)
        if j < num_text:
            return True
        i, j = i - num_text, j - num_text
        before = range(i + 1)
        if kind.name == "conv" and kind.edge == "raster":
            # The causal window has the rows above and this one.
            radius, cols = kind.kernel // 2, grid[1]
            shifts = itertools.product(range(radius + 1), range(-radius, radius + 1))
            return j in before and any(i - a * cols + b == j for a, b in shifts)
        return j in before and is_near(kind, grid, i, j)

    assert sequence.length == num_text + grid[0] * grid[1]
    np.testing.assert_array_equal(sequence.mask(kind), table(sequence.length, sees))


@pytest.mark.parametrize(("question", "answer"), [(0, 4), (3, 2), (2, 0)])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", list(kinds()), ids=str)
def test_image_to_text(kind, count, question, answer):
    """The image sees itself both ways, each text it and nothing of the others."""
    grid, size = (3, 4), 12
    sequence = Sequence.image_to_text(grid, answer, question, count)

    def sees(i, j):
        if i < size:
            return j < size and is_near(kind, grid, i, j)
        if j < size:
            return True
        (text, i), (other, j) = (divmod(x - size, question + answer) for x in (i, j))
        return text == other and (j <= i or j < question)

    assert sequence.length == size + count * (question + answer)
    np.testing.assert_array_equal(sequence.mask(kind), table(sequence.length, sees))


def test_a_finer_image_sees_text_and_a_coarse_one():
    """Super-resolution needs no other form."""
    coarse = Segment(4, "causal", (0,), (2, 2))
    fine = Segment(12, "causal", (0, 1), (4, 4))
    sequence = Sequence((Segment(2), coarse, fine))

    def sees(i, j):
        if i < 6:
            return j <= i and (i < 2 or j < 2 or (i % 2 == j % 2))
        return j < 6 or (j <= i and (i - 6) % 4 == (j - 6) % 4)

    found = sequence.mask(LayerKind("column"))
    np.testing.assert_array_equal(found, table(18, sees))
    assert sequence.starts == (0, 2, 6) and sequence.image == coarse


@pytest.mark.parametrize(
    "sequence",
    [
        Sequence.causal(9),
        Sequence.text_to_image(3, (2, 3)),
        Sequence.image_to_text((2, 2), 3, 2),
    ],
    ids=("causal", "to image", "to text"),
)
def test_the_first_positions_are_a_sequence(sequence):
    whole = {sum(x.length for x in sequence.segments[:i]) for i in (1, 2, 3)}
    for length in range(1, sequence.length + 1):
        try:
            part = sequence.first(length)
        except ValueError:
            # The image, or the question, would lose a part of what it sees.
            assert length not in whole and length < 6
            continue
        kind = LayerKind("row")
        mask = sequence.mask(kind)[:length, :length]
        np.testing.assert_array_equal(part.mask(kind), mask)
    assert sequence.first(sequence.length) == sequence
    for length in (0, sequence.length + 1):
        with pytest.raises(ValueError, match=f"{length} positions are no start"):
            sequence.first(length)


def test_what_sees_all_before_it():
    assert Sequence.causal(4).is_causal
    assert Sequence.text_to_image(3, (2, 2)).is_causal
    assert not Sequence.text_to_image(3, (2, 2), "all").is_causal
    assert not Sequence((Segment(3), Segment(4))).is_causal
    assert not Sequence.image_to_text((2, 2), 3).is_causal
    np.testing.assert_array_equal(
        Sequence.text_to_image(5, (3, 4)).mask(FULL), np.tri(17, dtype=bool)
    )


def test_saved_as_json_and_read_back():
    sequence = Sequence.image_to_text((2, 3), 4, 2, 2)
    saved = json.loads(json.dumps(asdict(sequence)))
    again = section(Sequence, saved)
    assert again == sequence and hash(again) == hash(sequence)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Segment(3, "both"), "within is 'both'"),
        (lambda: Segment(0), "at least 1"),
        (lambda: Segment(4, grid=(0, 2)), "has no positions"),
        (lambda: Segment(5, grid=(2, 2)), "5 positions are no 2 x 2 image"),
        (lambda: Segment(3, "all", grid=(2, 2)), "3 positions are no 2 x 2 image"),
        (lambda: Sequence((Segment(2), Segment(2, sees=(1,)))), "segment 1 sees"),
        (lambda: Sequence((Segment(2, sees=(0,)),)), "segment 0 sees"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
