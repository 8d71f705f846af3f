"""T5's buckets of relative positions, and attention with a bias and no scale."""

import numpy as np
import pytest

from cogjax.ops.relative_attention import relative_buckets
from tests.reference.t5 import bucket


def test_buckets_of_the_release():
    """Measured on the release in PyTorch, by key - query."""
    known = dict(
        zip(
            (-200, -128, -64, -16, -8, -7, -1, 0, 1, 7, 8, 64, 200),
            (15, 15, 14, 10, 8, 7, 1, 0, 17, 23, 24, 30, 31),
            strict=True,
        )
    )
    buckets = relative_buckets(201, both_ways=True)
    for relative, wanted in known.items():
        query = max(-relative, 0)
        assert buckets[query, query + relative] == wanted, relative


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize("num", [32, 8])
def test_buckets_count_thresholds(both_ways, num):
    buckets = relative_buckets(150, both_ways, num)
    rows = range(0, 150, 37)
    wanted = [[bucket(k - q, both_ways, num) for k in range(150)] for q in rows]
    np.testing.assert_array_equal(buckets[rows], wanted)
    assert buckets.max() == num - 1
