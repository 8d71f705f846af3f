"""What was generated, as files: an image each, a grid, and one JSON record of all.

Nothing is overwritten: images take the next free number behind the words of their
prompt, and a second call for a folder writes `grid-2.png` and `generation-2.json`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cogjax.data.contact_sheet import grid
from cogjax.data.images import encode_png
from cogjax.files import slug, write_numbered


class Saved(NamedTuple):
    """Names of the files in a folder: of the images, of the grid, of the record."""

    images: list[str]
    grid: str
    record: str


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


def save_generation(found: Any, out: Path, record: Mapping[str, Any]) -> Saved:
    """Writes the images of a `Generation`, the grid, and last the record that names
    them. Each image holds its own part of the record, too.

    record: what they have in common, of `recipe`. UserError if a file cannot be
    written.
    """
    images = []
    for prompt, index in np.ndindex(*found.pixels.shape[:2]):
        own = of_image(found, prompt, index)
        image = encode_png(found.pixels[prompt, index], {**record, **own})
        name = slug(found.prompts[prompt])
        path = write_numbered(out, name, ".png", image, first=1)
        images.append({"file": path.name} | own)
    flat = found.pixels.reshape(-1, *found.pixels.shape[2:])
    image = encode_png(np.asarray(grid(flat, found.pixels.shape[1])))
    grid_path = write_numbered(out, "grid", ".png", image)
    whole = {**record, "prompts": found.prompts, "unread": found.unread}
    whole |= {"grid": grid_path.name, "images": images}
    text = json.dumps(whole, ensure_ascii=False) + "\n"
    record_path = write_numbered(out, "generation", ".json", text)
    names = [image["file"] for image in images]
    return Saved(names, grid_path.name, record_path.name)
