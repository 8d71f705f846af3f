"""What was generated, as files: an image each, grids, and one JSON record of all.

Nothing is overwritten: images take the next free number behind the words of their
prompt, and a second call for a folder writes `grid-2.png` and `generation-2.json`.
A grid holds 256 images at most, fewer of large ones; more images have more grids.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cogjax.data.contact_sheet import grid
from cogjax.data.images import encode_png
from cogjax.files import slug, write_atomic, write_numbered

_MOST, _MOST_PIXELS = 256, 2**26  # of a grid: images, and pixels of them together
_LEAST_APART = 20  # times as long as a large record took: 5 % of the time at most
_SMALL = 0.05  # seconds that a record may take at any time


class Saved(NamedTuple):
    """Names of the files in a folder: of the images, of the grids, of the record.

    asked: how many images there were to be.
    """

    images: list[str]
    grids: list[str]
    record: str
    asked: int


class Saving:
    """The images of a request in a folder, as they are made.

    Each image holds its own part of the record. The record is there from the first
    part on, and says how many images there are as long as some are to come.
    num_images: of each prompt. record: what the images have in common, of `recipe`.
    """

    def __init__(
        self, out: Path, prompts: Sequence[str], num_images: int, record: Mapping
    ):
        self._out, self._prompts, self._record = out, tuple(prompts), dict(record)
        self._num_images = num_images
        self._names: list[str] = []
        self._images: list[str] = []  # JSON of each
        self._pixels: list[np.ndarray] = []  # of those that no grid has
        self._grids: list[str] = []
        self._path: Path | None = None
        self._next = 0.0
        self._unread: dict[int, str] = {}
        self.unseen: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many images are written."""
        return len(self._names)

    def add(self, prompts: Sequence[int], images: Sequence[int], result: Any) -> None:
        """Writes a `Generation`, of these prompts of the request and these images each.

        UserError if a file cannot be written.
        """
        self._unread |= dict(zip(prompts, result.unread, strict=False))
        self.unseen = tuple(dict.fromkeys(self.unseen + result.unseen))
        for prompt, index in np.ndindex(*result.pixels.shape[:2]):
            pixels = result.pixels[prompt, index]
            own = of_image(result, prompt, index) | {"index": images[index]}
            data = encode_png(pixels, self._record | own)
            stem = slug(self._prompts[prompts[prompt]])
            path = write_numbered(self._out, stem, ".png", data, first=1)
            self._names.append(path.name)
            text = json.dumps({"file": path.name} | own, ensure_ascii=False)
            self._images.append(text)
            self._pixels.append(pixels)
        if time.monotonic() >= self._next:
            self._write()
        columns, most = self._layout()
        while len(self._pixels) >= most:
            self._grid(columns, most)

    def close(self) -> Saved:
        """Writes the last grid, and the record before it and anew: what is there.

        If there are fewer than were asked for, the record says so.
        """
        self._write()
        if self._pixels:
            self._grid(*self._layout())
        return Saved(list(self._names), self._grids, self._write().name, self._asked)

    @property
    def _asked(self) -> int:
        return self._num_images * len(self._prompts)

    def _write(self) -> Path:
        """The record of the images that are there, whole or not at all."""
        start = time.monotonic()
        unread = [self._unread.get(i, "") for i in range(len(self._prompts))]
        record = self._record | {"prompts": self._prompts, "unread": unread}
        if self.count < self._asked:
            record |= {"unfinished": f"{self.count} of {self._asked} images"}
        if self._grids:
            record |= {"grid": self._grids[0]}
        if len(self._grids) > 1:
            record |= {"grids": self._grids}
        text = json.dumps(record, ensure_ascii=False)
        text = f'{text[:-1]}, "images": [{", ".join(self._images)}]}}\n'
        if self._path:
            write_atomic(self._path, text)
        else:
            self._path = write_numbered(self._out, "generation", ".json", text)
        end = time.monotonic()
        self._next = end + _LEAST_APART * max(0.0, end - start - _SMALL)
        return self._path

    def _layout(self) -> tuple[int, int]:
        """(columns, images) of a full grid: a row a prompt, if one has room."""
        pixels = math.prod(self._pixels[0].shape[:2]) if self._pixels else 1
        most = max(1, min(_MOST, _MOST_PIXELS // pixels))
        columns = self._num_images if self._num_images <= most else math.isqrt(most)
        return columns, most // columns * columns

    def _grid(self, columns: int, most: int) -> None:
        """Images in one; the file says that it is no image of its own."""
        shown, self._pixels = self._pixels[:most], self._pixels[most:]
        first = self.count - len(shown) - len(self._pixels)
        names = self._names[first : first + len(shown)]
        recipe = {"cogjax": self._record.get("cogjax"), "grid": names}
        data = encode_png(np.asarray(grid(np.stack(shown), columns)), recipe)
        self._grids.append(write_numbered(self._out, "grid", ".png", data).name)


def of_image(found: Any, prompt: int, index: int) -> dict[str, Any]:
    """What an image of a `Generation` has of its own, JSON-able.

    Its score and codes may be None.
    """
    codes, scores = found.codes, found.scores
    return {
        "prompt": found.prompts[prompt],
        "index": index,
        "score": None if scores is None else float(scores[prompt, index]),
        "codes": None if codes is None else codes[prompt, index].tolist(),
    }


def save_generation(found: Any, out: Path) -> Saved:
    """Writes a `Generation` whose recipe is not known; UserError as for `add`."""
    num_prompts, num_images = found.pixels.shape[:2]
    saving = Saving(out, found.prompts, num_images, {})
    saving.add(range(num_prompts), range(num_images), found)
    return saving.close()
