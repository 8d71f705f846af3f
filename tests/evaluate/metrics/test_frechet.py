import functools

import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.evaluate.metrics.frechet import Moments, fid, fid_infinity, frechet_distance
from cogjax.evaluate.metrics.result import Source

RNG = np.random.default_rng(0)
SOURCE = Source("inception-2015-12-05", "tf1_bilinear")


def covariance(width, rank=None):
    x = RNG.normal(size=(width, rank or width + 3))
    return x @ x.T / x.shape[1]


def rotation(width):
    return np.linalg.qr(RNG.normal(size=(width, width)))[0]


def test_equal_covariances_leave_the_means():
    s, mean1, mean2 = covariance(9), *RNG.normal(size=(2, 9))
    expected = np.sum((mean1 - mean2) ** 2)
    np.testing.assert_allclose(frechet_distance(mean1, s, mean2, s), expected, 1e-12)
    assert frechet_distance(mean1, s, mean1, s) == pytest.approx(0, abs=1e-12)


def test_commuting_covariances_have_a_closed_form():
    """Sum of (sqrt(a) - sqrt(b))^2, diagonal or in any common basis."""
    a, b = RNG.uniform(0.1, 3, (2, 7))
    expected = np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    for turn in (np.eye(7), rotation(7)):
        pair = [turn @ np.diag(values) @ turn.T for values in (a, b)]
        distance = frechet_distance(np.zeros(7), pair[0], np.zeros(7), pair[1])
        np.testing.assert_allclose(distance, expected, 1e-12)


@pytest.mark.parametrize("rank", [None, 5])
def test_rotations_and_exchange_change_nothing(rank):
    s1, s2, turn = covariance(12, rank), covariance(12, rank), rotation(12)
    mean1, mean2 = RNG.normal(size=(2, 12))
    distance = frechet_distance(mean1, s1, mean2, s2)
    turned = frechet_distance(
        turn @ mean1, turn @ s1 @ turn.T, turn @ mean2, turn @ s2 @ turn.T
    )
    # The roots of eigenvalues that are 0 but for rounding have half of the digits.
    np.testing.assert_allclose(turned, distance, 1e-12 if rank is None else 1e-6)
    np.testing.assert_allclose(frechet_distance(mean2, s2, mean1, s1), distance, 1e-6)


def test_against_the_root_of_the_product():
    linalg = pytest.importorskip("scipy.linalg")
    s1, s2 = covariance(40), covariance(40)
    mean1, mean2 = RNG.normal(size=(2, 40))
    root = linalg.sqrtm(s1 @ s2).real
    expected = np.sum((mean1 - mean2) ** 2) + np.trace(s1 + s2 - 2 * root)
    np.testing.assert_allclose(frechet_distance(mean1, s1, mean2, s2), expected, 1e-6)


def test_streams_and_shards_give_the_moments_of_one_pass():
    # A mean of a thousand deviations, where sums of squares would lose six digits.
    x = RNG.normal(1000, 1, (257, 6))
    whole = Moments.of(x)
    np.testing.assert_allclose(whole.mean, x.mean(0), 1e-14)
    np.testing.assert_allclose(whole.covariance, np.cov(x.T), 1e-10, 1e-12)

    first, *rest = map(Moments.of, np.split(x, [1, 64, 200]))
    stream = functools.reduce(Moments.merge, rest, first)
    shards = [Moments.of(shard) for shard in (x[::2], x[1::2])]
    for other in (stream, shards[0].merge(shards[1]), shards[1].merge(shards[0])):
        assert other.count == 257
        np.testing.assert_allclose(other.mean, whole.mean, 1e-14)
        np.testing.assert_allclose(other.scatter, whole.scatter, 1e-10, 1e-9)


def test_the_figure_is_named_by_its_extractor_and_says_what_biases_it():
    pair = Moments.of(RNG.normal(size=(40, 5))), Moments.of(RNG.normal(size=(30, 5)))
    figure = fid(*pair, SOURCE)
    assert (figure.name, figure.n, figure.reference) == ("FID", 30, 40)
    assert figure.note == "unequal n"
    assert fid(*pair, Source("efflite0:1a", "none")).name == "FD-efflite0"
    few = Moments.of(RNG.normal(size=(5, 5)))
    assert fid(few, few, SOURCE).note == "n below the 5 features: strong bias"


def test_one_picture_or_two_extractors_are_refused():
    one, many = Moments.of(RNG.normal(size=(1, 5))), Moments.of(RNG.normal(size=(9, 5)))
    with pytest.raises(UserError, match="at least 2 images, got 1"):
        fid(one, many, SOURCE)
    other = Moments.of(RNG.normal(size=(9, 4)))
    with pytest.raises(UserError, match="two extractors"):
        fid(other, many, SOURCE)
    with pytest.raises(UserError, match="cannot be merged"):
        other.merge(many)


def test_infinity_takes_most_of_the_bias_away():
    """Equal distributions: 0 at infinity, where FID of 400 pictures is far from it."""
    reference = Moments(10**6, np.zeros(32), np.eye(32) * (10**6 - 1))
    x = RNG.normal(size=(400, 32))
    plain = fid(reference, Moments.of(x), SOURCE)
    figure = fid_infinity(reference, x, SOURCE)
    assert figure.name == "FID-inf" and figure.n == 400
    assert plain.value > 0.5 and abs(figure.value) < 0.25 * plain.value
    assert f"{plain.value:.5g} at n" in figure.note
    other = fid_infinity(reference, x, Source("efflite0", "none"))
    assert other.name == "FD-inf-efflite0"
    with pytest.raises(UserError, match="3 images a side"):
        fid_infinity(reference, x[:2], SOURCE)
