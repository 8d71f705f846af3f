"""Batches from a data set through Grain: a pure function of seed and step."""

from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np

from cogjax.errors import UserError

_THREADS = 2
MakeExample = Callable[[Any, np.random.Generator], dict[str, np.ndarray]]


def batches(
    source: Any,
    make_example: MakeExample,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches `start_step, start_step + 1, ...` without end.

    Each epoch is shuffled anew. Batch k depends on the seed and on k alone, so the
    position in the data is one number and resuming reads nothing twice.

    Args:
      source: random access, `len` and `[i]`.
      make_example: (item, random generator of this pick) -> {name: array}; arrays of
        a name have one shape.

    Raises:
      UserError: the source is empty.
    """
    if not len(source):
        raise UserError("the data split is empty: there is nothing to train on")
    dataset = grain.MapDataset.source(source).seed(seed)
    dataset = dataset.shuffle().repeat().random_map(make_example).batch(batch_size)
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=4 * _THREADS)
    iterator = iter(dataset.to_iter_dataset(options))
    iterator.set_state({"next_index": start_step})
    return iterator
