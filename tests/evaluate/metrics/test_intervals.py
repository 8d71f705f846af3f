from math import erf

import numpy as np
import pytest

from cogjax.evaluate.metrics.intervals import (
    crossed_interval,
    ratio_interval,
    seeds_interval,
    wilson,
)


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


def test_an_interval_over_raters_and_prompts_covers_the_truth():
    """Choices by thresholds of raters with tastes, as the bootstrap knows nothing of.

    Few raters and many prompts, the reverse, gaps, and raters who are all alike.
    """
    rng = np.random.default_rng(0)
    for raters, prompts, taste, prompt, gaps in (
        (5, 60, 0.5, 0.2, 0.0),
        (20, 30, 0.3, 0.5, 0.0),
        (12, 40, 0.3, 0.5, 0.5),
        (8, 25, 0.0, 0.6, 0.0),
    ):
        spread = np.sqrt(taste**2 + prompt**2 + 0.7**2)
        truth = erf(0.4 / spread / np.sqrt(2))
        hits, widths = 0, []
        for _ in range(200):
            seen = 0.4 + rng.normal(0, taste, (raters, 1))
            seen = seen + rng.normal(0, prompt, (1, prompts))
            values = np.sign(seen + rng.normal(0, 0.7, (raters, prompts)))
            values[rng.random(values.shape) < gaps] = np.nan
            mean, low, high = crossed_interval(values, draws=300)
            assert low < mean < high and mean == pytest.approx(np.nanmean(values))
            hits += low <= truth <= high
            widths.append(high - low)
        # 95 % of 200, less two and a half deviations; and not by being endless.
        assert hits >= 182, (raters, prompts)
        assert np.mean(widths) < 1


def test_an_interval_of_one_rater_or_of_nothing():
    mean, low, high = crossed_interval(np.array([[1.0, -1, 1, 1]]))
    # As of four numbers: Student's t with 3 degrees of freedom.
    assert mean == 0.5 and (high - low) / 2 == pytest.approx(
        3.18 * np.std([1, -1, 1, 1]) / 2, rel=0.1
    )
    assert crossed_interval(np.array([[0.5]]))[0] == 0.5
    assert np.isnan(crossed_interval(np.array([[0.5]]))[1])
    assert np.isnan(crossed_interval(np.full((2, 2), np.nan))).all()
    assert crossed_interval(np.ones((3, 4))) == (1, 1, 1)
