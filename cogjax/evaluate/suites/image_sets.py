"""Sets of images on this disk: a folder, an archive, a table, or a data set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from cogjax.data.folder_entries import IMAGE_SUFFIXES, Entry
from cogjax.data.generated import captions_of, entries_of
from cogjax.data.images import decode_image, dimensions
from cogjax.data.output import Progress
from cogjax.data.records import DATA_SET, open_split
from cogjax.errors import UserError

_BATCH = 64


@dataclass(frozen=True)
class ImageSet:
    """Images in a fixed order, read anew each time they are gone through.

    names: of each, without the ending, by which pairs are found. read: functions that
    give encoded bytes, or raise UserError with a reason. captions: the first of each,
    "" where there is none. size: each is the middle square at so many pixels; None: as
    it is.
    """

    path: str
    names: tuple[str, ...]
    read: Sequence[Callable[[], bytes]]
    captions: tuple[str, ...]
    size: int | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Batches uint8 [b, y, x, 3] of one shape each, in order."""
        batch: list[np.ndarray] = []
        for index in range(len(self)):
            pixels = self.pixels(index)
            if batch and (len(batch) == _BATCH or pixels.shape != batch[0].shape):
                yield np.stack(batch)
                batch = []
            batch.append(pixels)
        if batch:
            yield np.stack(batch)

    def pixels(self, index: int) -> np.ndarray:
        """An image, uint8 [y, x, 3]; UserError that names it."""
        return self._of(index, lambda data: decode_image(data, self.size))

    def shapes(self, progress: Progress) -> list[tuple[int, int]]:
        """(height, width) of each, by its header; UserError for a broken one."""
        found = []
        for index in range(len(self)):
            progress(index, len(self), f"checking {self.path}")
            found.append(self._of(index, dimensions)[::-1])
        progress(len(self), len(self), f"checked {self.path}")
        return [(self.size, self.size)] * len(self) if self.size else found

    def picked(self, names: Sequence[str]) -> "ImageSet":
        """Those of some names, in their order."""
        places = {name: index for index, name in enumerate(self.names)}
        return self._only([places[name] for name in names])

    def first(self, n: int | None) -> "ImageSet":
        """The first n; all for None. UserError if there are fewer."""
        if n is None:
            return self
        if n > len(self):
            raise UserError(f"--n {n}: {self.path} has {len(self)} images")
        return self._only(range(n))

    def _only(self, places: Sequence[int]) -> "ImageSet":
        fields = ("names", "read", "captions")
        kept = {f: tuple(getattr(self, f)[i] for i in places) for f in fields}
        return replace(self, **kept)

    def _of(self, index: int, function: Callable):
        try:
            return function(self.read[index]())
        except UserError as error:
            name = self.names[index]
            raise UserError(f"image {name} of {self.path}: {error}") from error


def open_set(path: str, split: str, size: int | None = None) -> ImageSet:
    """The images of a split of a data set, or of anything that `entries_of` reads.

    UserError if there are none, or two of one name.
    """
    folder = Path(path)
    if (folder / DATA_SET.head).is_file():
        found = _of_data(path, split)
    elif folder.exists():
        entries = entries_of(folder)
        names = tuple(_name(entry) for entry in entries)
        captions = tuple(next(iter(captions_of(e)), "") for e in entries)
        found = ImageSet(path, names, [e.read_image for e in entries], captions)
    else:
        raise UserError(f"{path} is not there: give a folder of images, or a data set")
    if not len(found):
        raise UserError(f"{path} has no images")
    if len(set(found.names)) < len(found):
        twice = next(n for n in found.names if found.names.count(n) > 1)
        raise UserError(f"{path} has two images {twice!r}: rename one")
    return replace(found, size=size)


def _of_data(path: str, split: str) -> ImageSet:
    source = open_split(path, split)
    examples = [(e.id, e.captions) for e in (source[i] for i in range(len(source)))]
    return ImageSet(
        path,
        tuple(name for name, _ in examples),
        [lambda i=i: source[i].image for i in range(len(source))],
        tuple(next((text for _, text in texts), "") for _, texts in examples),
    )


def _name(entry: Entry) -> str:
    name = PurePosixPath(entry.name)
    return (
        str(name.with_suffix(""))
        if name.suffix.lower() in IMAGE_SUFFIXES
        else (entry.name)
    )
