"""What was generated, as files: images as they are made, a grid, and a JSON record.

Nothing is overwritten: images take the next free number behind the words of their
prompt, and a second run in the same folder writes `grid-2.png` and `generation-2.json`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.data.contact_sheet import grid
from cogjax.data.images import encode_png
from cogjax.files import slug, write_numbered


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


class Generated:
    """The images of a request in a folder; each holds its own part of the record.

    record: the fields of the JSON file besides the images; its "settings" have
    "num_images", how many of a prompt were asked for.
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
        recipe = {"cogjax": self._record.get("cogjax"), "grid": names}
        image = encode_png(np.asarray(grid(np.stack(self._pixels), columns)), recipe)
        return write_numbered(self._out, "grid", ".png", image)
