import itertools

import numpy as np
import pytest

from cogjax.data import batches as module
from cogjax.data.batches import batches
from cogjax.errors import UserError

SOURCE = list(range(10))


def make(item, rng):
    return {"id": np.int32(item), "noise": rng.random(2)}


def take(count, **settings):
    settings = {"batch_size": 4, "seed": 7} | settings
    return list(itertools.islice(batches(SOURCE, make, **settings), count))


def assert_equal(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("start", [1, 2, 3, 7, 100])
def test_batch_k_is_a_function_of_seed_and_k(start):
    # Across epochs of 2.5 batches, the draws of make_example included.
    whole = take(start + 3)
    assert_equal(take(3, start_step=start), whole[start:])


def test_threads_change_nothing(monkeypatch):
    two = take(6)
    for threads in (1, 4):
        monkeypatch.setattr(module, "_THREADS", threads)
        assert_equal(take(6), two)


def test_epochs_hold_everything_once_in_a_new_order():
    ids = np.concatenate([batch["id"] for batch in take(15)]).reshape(6, 10)
    assert (np.sort(ids, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in ids}) == 6


def test_draws_are_new_in_each_epoch():
    noise = np.concatenate([batch["noise"][:, 0] for batch in take(10)])
    assert len(set(noise.tolist())) == 40


def test_seeds_differ():
    first, second = take(1), take(1, seed=8)
    assert (first[0]["id"] != second[0]["id"]).any()


def test_errors_of_an_example_come_through():
    def broken(item, rng):
        raise UserError(f"record {item} is damaged")

    with pytest.raises(UserError, match="record [0-9] is damaged"):
        next(batches(SOURCE, broken, batch_size=2, seed=0))


def test_an_empty_source_is_refused():
    with pytest.raises(UserError, match="empty"):
        batches([], make, batch_size=2, seed=0)


def test_batches_that_memory_cannot_hold_are_refused(monkeypatch):
    """20 bytes an example; 8 batches are read ahead of the one in use."""
    monkeypatch.setattr(module, "_free_memory", lambda: 9 * 20 * 2048 - 1)
    with pytest.raises(
        UserError, match="^out of memory: a batch of 2048 .* 9 are held"
    ):
        take(0, batch_size=2048)
    assert take(0, batch_size=2047) == take(0, batch_size=4) == []
    monkeypatch.undo()
    assert 0 < module._free_memory()
