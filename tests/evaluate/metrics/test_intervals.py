import pytest

from cogjax.evaluate.metrics.intervals import wilson


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(8, 10, 0.490, 0.943), (0, 10, 0.0, 0.278)]
)
def test_wilson(hits, total, low, high):
    assert wilson(hits, total) == pytest.approx((low, high), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)
