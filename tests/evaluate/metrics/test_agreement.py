import numpy as np
import pytest

from cogjax.evaluate.metrics.agreement import krippendorff_alpha

# Four observers, twelve units, missing values: Krippendorff 2011, section D and on.
NAN = np.nan
CANONICAL = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)


def test_alpha_of_the_published_example():
    assert krippendorff_alpha(CANONICAL, interval=False) == pytest.approx(
        0.743, abs=5e-4
    )
    assert krippendorff_alpha(CANONICAL, interval=True) == pytest.approx(
        0.849, abs=5e-4
    )


def test_alpha_of_perfect_random_and_opposite_raters():
    rng = np.random.default_rng(0)
    units = rng.integers(0, 3, 500).astype(float)
    assert krippendorff_alpha(np.stack([units, units]), False) == 1
    others = rng.integers(0, 3, (4, 500)).astype(float)
    assert abs(krippendorff_alpha(others, False)) < 0.05
    assert krippendorff_alpha(np.array([[0.0, 1, 0, 1], [1, 0, 1, 0]]), True) < -0.5
    assert np.isnan(krippendorff_alpha(np.array([[1.0, NAN], [NAN, 2]]), False))
    assert np.isnan(krippendorff_alpha(np.ones((3, 4)), False))
