"""Batches from a data set through Grain: a pure function of seed and step."""

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grain
import numpy as np

from cogjax.errors import UserError

_THREADS = 2
_AHEAD = 4 * _THREADS  # batches that are held beside the one in use
# Examples; what smaller batches take is not worth a look.
_LARGE = 1024
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
      UserError: the source is empty, or memory cannot hold such batches.
    """
    if not len(source):
        raise UserError("the data split is empty: there is nothing to train on")
    if batch_size >= _LARGE:
        _check_memory(make_example(source[0], np.random.default_rng(0)), batch_size)
    dataset = grain.MapDataset.source(source).seed(seed)
    dataset = dataset.shuffle().repeat().random_map(make_example).batch(batch_size)
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_AHEAD)
    iterator = iter(dataset.to_iter_dataset(options))
    iterator.set_state({"next_index": start_step})
    return iterator


def _check_memory(example: dict[str, np.ndarray], batch_size: int) -> None:
    """UserError, before minutes of reading, for batches that memory cannot hold."""
    size = batch_size * sum(np.asarray(value).nbytes for value in example.values())
    needed, free = (1 + _AHEAD) * size, _free_memory()
    if needed > free:
        raise UserError(
            f"out of memory: a batch of {batch_size} examples takes {size / 1e9:.3g} "
            f"GB and {1 + _AHEAD} are held, {free / 1e9:.3g} GB are free: lower "
            "train.batch_size"
        )


def _free_memory() -> float:
    """Bytes that this process can still take; infinite where the system has no word."""
    free = math.inf
    with contextlib.suppress(OSError, TypeError):
        lines = Path("/proc/meminfo").read_text()
        free = 1024.0 * int(re.search(r"MemAvailable: *(\d+) kB", lines)[1])
    with contextlib.suppress(OSError, ImportError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        if limit != resource.RLIM_INFINITY:
            free = min(free, limit - pages * os.sysconf("SC_PAGE_SIZE"))
    return free
