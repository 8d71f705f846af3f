import numpy as np
import pytest

from cogjax.evaluate.metrics.retrieval import chance, found

SCORES = np.array([[0.9, 0.1, 0.5], [0.2, 0.3, 0.4], [0.7, 0.7, 0.7]])
OWN = np.eye(3, dtype=bool)


def test_hits_by_hand():
    assert found(SCORES, OWN, 1).tolist() == [True, False, False]
    assert found(SCORES, OWN, 2).tolist() == [True, True, False]
    assert found(SCORES, OWN, 3).all()
    two = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    assert found(SCORES, two, 1).tolist() == [False, True, True]


def test_who_says_the_same_of_everything_finds_nothing():
    assert not found(np.zeros((4, 4)), np.eye(4, dtype=bool), 3).any()
    assert not found(np.full((4, 4), np.nan), np.eye(4, dtype=bool), 4).any()


@pytest.mark.parametrize("k", [1, 3, 9])
def test_chance_is_what_random_scores_reach(k):
    rng = np.random.default_rng(0)
    right = rng.random((5, 7)) < 0.3
    right[:, 0] = True
    hits = [found(rng.random((5, 7)), right, k).mean() for _ in range(3000)]
    assert chance(right, k) == pytest.approx(np.mean(hits), abs=0.01)
    assert chance(np.eye(8, dtype=bool), 2) == pytest.approx(0.25)
