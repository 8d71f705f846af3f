"""What `cogjax generate` writes: images as they are made, a grid, and a JSON record.

Nothing is overwritten: images take the next free number behind the words of their
prompt, and a second run in the same folder writes `grid-2.png` and `generation-2.json`.
"""

import json
import unicodedata
from pathlib import Path
from typing import Any

from cogjax.files import write_new

_MAX_SLUG_BYTES = 120


class Generated:
    """The images of a request in a folder; each holds its own part of the record.

    record: the fields of the JSON file besides the images.
    """

    def __init__(self, out: Path, prompts: tuple[str, ...], record: dict[str, Any]):
        self._out, self._prompts, self._record = out, prompts, record
        self._images: list[dict[str, Any]] = []
        self._pixels: list[Any] = []
        self._unread: dict[int, str] = {}
        self.unseen: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many images are written."""
        return len(self._images)

    def add(self, part: Any) -> None:
        """Writes the images of a `Part`."""
        import numpy as np

        from cogjax.data.images import encode_png
        from cogjax.pipelines.recipe import of_image

        result = part.result
        self._unread |= dict(zip(part.prompts, result.unread, strict=False))
        self.unseen = tuple(dict.fromkeys(self.unseen + result.unseen))
        for prompt, index in np.ndindex(*result.pixels.shape[:2]):
            pixels = result.pixels[prompt, index]
            own = of_image(result, prompt, index) | {"index": part.images[index]}
            data = encode_png(pixels, self._record | own)
            stem = slug(self._prompts[part.prompts[prompt]])
            path = write_numbered(self._out, stem, ".png", data, first=1)
            self._images.append({"file": path.name} | own)
            self._pixels.append(pixels)

    def close(self) -> str:
        """Writes the grid, and last the record that names the images: what is there.

        If there are fewer than were asked for, the record says so.
        """
        names = [image["file"] for image in self._images]
        num_images = self._record["settings"]["num_images"]
        asked = num_images * len(self._prompts)
        record = self._record | {"prompts": self._prompts}
        record["unread"] = [self._unread.get(i, "") for i in range(len(self._prompts))]
        if len(names) < asked:
            record |= {"unfinished": f"{len(names)} of {asked} images"}
        grid = self._grid(num_images, names)
        record |= {"grid": grid.name, "images": self._images}
        text = json.dumps(record, ensure_ascii=False) + "\n"
        path = write_numbered(self._out, "generation", ".json", text)
        count = f"{len(names)} of {asked}" if len(names) < asked else len(names)
        return f"{count} images, {grid.name} and {path.name} in {self._out}"

    def _grid(self, columns: int, names: list[str]) -> Path:
        """All images in one; the file says that it is no image of its own."""
        import numpy as np

        from cogjax.data.contact_sheet import grid
        from cogjax.data.images import encode_png

        recipe = {"cogjax": self._record["cogjax"], "grid": names}
        image = encode_png(np.asarray(grid(np.stack(self._pixels), columns)), recipe)
        return write_numbered(self._out, "grid", ".png", image)


def slug(prompt: str) -> str:
    """Returns a file name of the prompt's letters, marks and digits in any script.

    Everything else becomes one "-"; at most 120 bytes of UTF-8; never empty.
    """
    text = unicodedata.normalize("NFKC", prompt).lower()
    letters = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    name = "-".join(letters.split()).encode()[:_MAX_SLUG_BYTES]
    return name.decode("utf-8", "ignore").strip("-") or "image"


def write_numbered(
    folder: Path, stem: str, suffix: str, data: bytes | str, first: int = 0
) -> Path:
    """Writes to the first free name of stem, stem-2, ... (first=1: stem-1, ...).

    Processes that write into one folder at once never take the same.
    """
    path = folder / (f"{stem}-{first}{suffix}" if first else f"{stem}{suffix}")
    index = max(first, 1)
    while not write_new(path, data):
        index += 1
        path = folder / f"{stem}-{index}{suffix}"
    return path
