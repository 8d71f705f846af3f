"""A tensor of a file that is read when asked for: no file is in memory whole."""

from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np

_WIDER = {
    np.dtype(half): np.dtype(np.float32) for half in (np.float16, ml_dtypes.bfloat16)
}


@dataclass(frozen=True)
class StoredTensor:
    """shape and dtype of `read()`, which gives half precision as float32."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def widened(dtype: np.dtype) -> np.dtype:
    """The type in which values of a type are given: float32 for the half ones."""
    return _WIDER.get(dtype, dtype)


def of_array(array: np.ndarray) -> StoredTensor:
    """A tensor that is in memory already."""
    wide = array.astype(widened(array.dtype), copy=False)
    return StoredTensor(wide.shape, wide.dtype, lambda: wide)
