"""A tensor of a file that is read when asked for: no file is in memory whole."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np

_WIDER = {
    np.dtype(half): np.dtype(np.float32) for half in (np.float16, ml_dtypes.bfloat16)
}


@dataclass(frozen=True)
class StoredTensor:
    """shape and dtype of `read()`, which gives half precision as float32.

    row: reads one entry along the first axis alone, where the file allows it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    row: Callable[[int], np.ndarray] | None = None

    def at(self, index: int) -> "StoredTensor":
        """One entry along the first axis."""
        read = functools.partial(self.row or (lambda i: self.read()[i]), index)
        return StoredTensor(self.shape[1:], self.dtype, read)

    def transposed(self, *axes: int) -> "StoredTensor":
        """With its axes in another order."""
        shape = tuple(self.shape[i] for i in axes)
        return StoredTensor(shape, self.dtype, lambda: self.read().transpose(axes))


def widened(dtype: np.dtype) -> np.dtype:
    """The type in which values of a type are given: float32 for the half ones."""
    return _WIDER.get(dtype, dtype)


def of_array(array: np.ndarray) -> StoredTensor:
    """A tensor that is in memory already."""
    wide = array.astype(widened(array.dtype), copy=False)
    return StoredTensor(wide.shape, wide.dtype, lambda: wide)
