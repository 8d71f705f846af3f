"""Images to be judged: a model draws them, or they lie in a folder already.

A folder is one that `cogjax generate` filled, with its generation.json, or any that
`cogjax data folder` reads: images with captions, such as photographs.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cogjax.data.contact_sheet import grid
from cogjax.data.folder_entries import Entry
from cogjax.data.generated import captions_of, entries_of, pixels_of
from cogjax.data.images import encode_png
from cogjax.errors import UserError

MAX_SIDE = 512  # of an image in the page
_COLUMNS = 4  # of a set of images
_NOISE = 16  # squares a side
# Images uint8 [y, x, 3] of one candidate.
Images = Sequence[np.ndarray]


@dataclass(frozen=True)
class Folder:
    """Images by what they are of: {prompt: entries}."""

    path: Path
    images: Mapping[str, Sequence[Entry]]

    def check(self, prompts: Sequence[str], count: int) -> None:
        """UserError unless there are so many images of each prompt."""
        few = [text for text in prompts if len(self.images.get(text, ())) < count]
        if few:
            raise UserError(
                f"{self.path} has fewer than {count} images of {len(few)} of "
                f"{len(prompts)} prompts, such as {few[0][:60]!r}: generate them, or "
                "lower --num-images"
            )

    def read(self, prompts: Sequence[str], count: int) -> list[Images]:
        """The first images of each prompt, none larger than the page shows it."""
        return [
            [_read(self.path, entry) for entry in self.images[text][:count]]
            for text in prompts
        ]

    def digest(self, prompts: Sequence[str], count: int) -> str:
        """sha256 of the files of these images."""
        found = hashlib.sha256()
        for entry in (entry for text in prompts for entry in self.images[text][:count]):
            found.update(hashlib.sha256(entry.read_image()).digest())
        return found.hexdigest()


def open_images(path: Path) -> Folder:
    """The images of a folder by prompt; UserError if it has none."""
    images: dict[str, list[Entry]] = {}
    for entry in entries_of(path):
        for text in captions_of(entry):
            images.setdefault(text, []).append(entry)
    if not images:
        raise UserError(
            f"{path} is no model, and has no generation.json and no images with "
            "captions: give a model, or a folder that `cogjax generate` made"
        )
    return Folder(path, images)


def longer_side(drawn: Sequence[Images]) -> int:
    """Longer side of the largest image, in pixels, at most 512."""
    return min(max(max(image.shape) for images in drawn for image in images), MAX_SIDE)


def sheet(images: Images, side: int) -> bytes:
    """A PNG of a candidate's images, all scaled to the same longer side.

    One image stands alone, several in rows of four. Nothing else is in the file.
    """
    scaled = [_scaled(image, side) for image in images]
    if len(scaled) == 1:
        return encode_png(scaled[0])
    return encode_png(np.asarray(grid(_padded(scaled), _COLUMNS)))


def noise(count: int, side: int, rng: np.random.Generator) -> Images:
    """Images of grey squares at random, in which there is nothing to see."""
    squares = rng.integers(0, 256, (count, _NOISE, _NOISE), np.uint8)
    return [
        np.asarray(Image.fromarray(each).resize((side, side), 0).convert("RGB"))
        for each in squares
    ]


def _read(source: Path, entry: Entry) -> np.ndarray:
    # One at a time: thousands of photographs at full size do not fit into memory.
    image = pixels_of(source, entry)
    return _scaled(image, MAX_SIDE) if max(image.shape) > MAX_SIDE else image


def _scaled(image: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(image.shape)
    height, width = (max(1, round(scale * n)) for n in image.shape[:2])
    method = Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((width, height), method))


def _padded(images: Images) -> np.ndarray:
    """Images of different shapes on white, uint8 [n, y, x, 3]."""
    height, width = np.max([image.shape[:2] for image in images], axis=0)
    found = np.full((len(images), height, width, 3), 255, np.uint8)
    for canvas, image in zip(found, images, strict=True):
        canvas[: image.shape[0], : image.shape[1]] = image
    return found
