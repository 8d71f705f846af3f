"""The arguments that all builders of data sets share: folder, size and progress."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cogjax.data.records import DatasetBuilder

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Output:
    """The data set to write.

    size: pixels a side of its images. overwrite: replace a data set in `folder`.
    progress: called as progress(done, total, label).
    """

    folder: str | os.PathLike
    size: int
    overwrite: bool = False
    progress: Progress = lambda done, total, label: None

    def builder(self, kind: str, num_shards: Mapping[str, int]) -> DatasetBuilder:
        """A builder for that folder; UserError if something is in the way."""
        return DatasetBuilder(self.folder, kind, self.size, num_shards, self.overwrite)
