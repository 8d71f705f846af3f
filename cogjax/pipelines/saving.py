"""What was generated, as files: an image each, a grid, and one JSON record of all.

Nothing is overwritten: images take the next free number behind the words of their
prompt, and a second call for a folder writes `grid-2.png` and `generation-2.json`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cogjax.data.contact_sheet import grid
from cogjax.data.images import encode_png
from cogjax.files import slug, write_numbered


class Saved(NamedTuple):
    """Names of the files in a folder: of the images, of the grid, of the record.

    asked: how many images there were to be.
    """

    images: list[str]
    grid: str
    record: str
    asked: int


class Saving:
    """The images of a request in a folder, as they are made.

    Each image holds its own part of the record. num_images: of each prompt. record:
    what the images have in common, of `recipe`.
    """

    def __init__(
        self, out: Path, prompts: Sequence[str], num_images: int, record: Mapping
    ):
        self._out, self._prompts, self._record = out, tuple(prompts), dict(record)
        self._num_images = num_images
        self._images: list[dict[str, Any]] = []
        self._pixels: list[np.ndarray] = []
        self._unread: dict[int, str] = {}
        self.unseen: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many images are written."""
        return len(self._images)

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
            self._images.append({"file": path.name} | own)
            self._pixels.append(pixels)

    def close(self) -> Saved:
        """Writes the grid, and last the record that names the images: what is there.

        If there are fewer than were asked for, the record says so.
        """
        names = [image["file"] for image in self._images]
        asked = self._num_images * len(self._prompts)
        unread = [self._unread.get(i, "") for i in range(len(self._prompts))]
        record = self._record | {"prompts": self._prompts, "unread": unread}
        if len(names) < asked:
            record |= {"unfinished": f"{len(names)} of {asked} images"}
        sheet = self._grid(names)
        record |= {"grid": sheet.name, "images": self._images}
        text = json.dumps(record, ensure_ascii=False) + "\n"
        path = write_numbered(self._out, "generation", ".json", text)
        return Saved(names, sheet.name, path.name, asked)

    def _grid(self, names: list[str]) -> Path:
        """All images in one; the file says that it is no image of its own."""
        recipe = {"cogjax": self._record.get("cogjax"), "grid": names}
        sheet = grid(np.stack(self._pixels), self._num_images)
        return write_numbered(
            self._out, "grid", ".png", encode_png(np.asarray(sheet), recipe)
        )


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
