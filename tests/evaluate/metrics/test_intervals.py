import numpy as np
import pytest

from cogjax.evaluate.metrics.intervals import ratio_interval, seeds_interval, wilson


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(8, 10, 0.490, 0.943), (0, 10, 0.0, 0.278)]
)
def test_wilson(hits, total, low, high):
    assert wilson(hits, total) == pytest.approx((low, high), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_ratio_of_paired_shares():
    rng = np.random.default_rng(0)
    reference = (rng.random(2000) < 0.8).astype(float)
    hits = reference * (rng.random(2000) < 0.5)
    value, (low, high) = ratio_interval(hits, reference)
    assert value == hits.sum() / reference.sum()
    # Given the reference the hits are a binomial share of it.
    half = 1.96 * np.sqrt(value * (1 - value) / reference.sum())
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.004)


def test_the_ratio_of_equal_and_of_no_hits():
    hits = np.array([1.0, 0, 1, 1])
    assert ratio_interval(hits, hits) == (1.0, (1.0, 1.0))
    value, _ = ratio_interval(hits, np.zeros(4))
    assert np.isnan(value)


def test_an_interval_over_seeds_covers_both_spreads():
    """Seeds that differ widen it though their prompts agree, and the reverse."""
    rng = np.random.default_rng(0)
    seeds = np.repeat(np.array([[0.2], [0.5], [0.8]]), 200, axis=1)
    prompts = np.repeat((rng.random((1, 200)) < 0.5).astype(float), 3, axis=0)
    mean, low, high = seeds_interval(seeds)
    assert mean == pytest.approx(0.5) and (low, high) == pytest.approx((0.2, 0.8))
    mean, low, high = seeds_interval(prompts)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 200**0.5, rel=0.15)
    assert low < mean == prompts.mean() < high
