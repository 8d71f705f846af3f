import numpy as np
import pytest

from cogjax.evaluate.metrics.significance import holm, sign_flip_test, sign_test


def test_sign_flips_up_to_twelve_are_all_tried():
    assert sign_flip_test(np.array([1.0, 2, 3, 4])) == pytest.approx(2 / 16)
    assert sign_flip_test(np.array([1.0, 2, -3])) == 1
    # The sums are 8, 6, 4, 2 and their opposites: all but two are as far as 4.
    assert sign_flip_test(np.array([1.0, -2, 5])) == pytest.approx(6 / 8)
    assert sign_flip_test(np.zeros(5)) == 1 and sign_flip_test(np.zeros(0)) == 1


def test_sign_flips_of_many_are_drawn():
    rng = np.random.default_rng(0)
    same = [sign_flip_test(rng.normal(0, 1, 30)) for _ in range(100)]
    assert 1 <= np.sum(np.less(same, 0.05)) <= 12
    assert abs(np.mean(same) - 0.5) < 0.12
    shifted = rng.normal(1, 1, 30)
    assert sign_flip_test(shifted) < 1e-3 and sign_flip_test(-shifted) < 1e-3


def test_the_sign_test_is_the_binomial():
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(3, 3) == 1 and sign_test(0, 0) == 1
    assert sign_test(9, 1) == pytest.approx(22 / 1024)


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []
