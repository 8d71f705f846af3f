"""The arguments that all builders of data sets share: folder, size and progress."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cogjax.data.aspects import Shape, nearest
from cogjax.data.images import decode_image, dimensions
from cogjax.data.records import DatasetBuilder

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Output:
    """The data set to write.

    size: pixels a side of its images. overwrite: replace a data set in `folder`.
    progress: called as progress(done, total, label). shapes: (height, width) that they
    have instead, each the nearest to its own. pad: with white, instead of cropping.
    """

    folder: str | os.PathLike
    size: int
    overwrite: bool = False
    progress: Progress = lambda done, total, label: None
    shapes: tuple[Shape, ...] = ()
    pad: bool = False

    def builder(self, kind: str, num_shards: Mapping[str, int]) -> DatasetBuilder:
        """A builder for that folder; UserError if something is in the way."""
        return DatasetBuilder(self.folder, kind, self.size, num_shards, self.overwrite)

    def pixels(self, data: bytes, notes: Counter) -> np.ndarray:
        """An encoded image as the set is to hold it: uint8 [y, x, 3].

        notes: counts what is lost. UserError for one that cannot be read.
        """
        shape = self.size, self.size
        if self.shapes:
            width, height = dimensions(data)
            shape = nearest(self.shapes, (height, width))
        return decode_image(data, shape, notes, pad=self.pad)
