"""MS-COCO captions and images in a folder that the user has; nothing is fetched.

DIR/captions_val2014.json, or DIR/annotations/captions_val2014.json
DIR/val2014/*.jpg, or DIR/images/val2014/, DIR/images/, DIR/
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.data.images import decode_image
from cogjax.errors import UserError, shown


@dataclass(frozen=True)
class Captioned:
    """A caption, and the file of its image."""

    caption: str
    path: Path

    def pixels(self, size: int) -> np.ndarray:
        """The middle square of the image at that size: uint8 [size, size, 3]."""
        try:
            return decode_image(self.path.read_bytes(), size)
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}") from error
        except UserError as error:
            raise UserError(f"image {self.path}: {error}") from error


def sample_captions(
    folder: str | os.PathLike, n: int, seed: int = 0
) -> tuple[str, list[Captioned]]:
    """The captions file's name, and n of its images with one of their captions each.

    A seed gives the same sample. UserError, before any image is read, if captions or
    images are missing or fewer than n.
    """
    path = _captions_file(Path(folder))
    names, captions = _read(path)
    if lost := sorted(captions.keys() - names.keys(), key=str):
        raise UserError(
            f"{path} has captions of {len(lost)} images that it does not name, such "
            f"as image_id {shown(lost[0])}: the file is cut or of another set"
        )
    if len(captions) < n:
        raise UserError(
            f"{path} has captions of {len(captions)} images, {n} are wanted: give a "
            f"smaller --n"
        )
    rng = np.random.default_rng(seed)
    keys = sorted(captions, key=str)
    picks = [keys[i] for i in rng.permutation(len(keys))[:n]]
    at = _images_folder(Path(folder), path, [names[key] for key in picks])
    return path.name, [
        Captioned(captions[key][rng.integers(len(captions[key]))], at / names[key])
        for key in picks
    ]


def _captions_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give one with captions_val*.json")
    found = [
        path
        for place in (folder, folder / "annotations")
        for path in sorted(place.glob("captions_val*.json"))
    ]
    if not found:
        raise UserError(
            f"{folder} has no captions_val*.json, in it or in {folder}/annotations: "
            f"give the folder of MS-COCO's captions and images"
        )
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise UserError(f"{folder} has {names}: leave one of them there")
    return found[0]


def _read(path: Path) -> tuple[dict[Any, str], dict[Any, list[str]]]:
    """(file name, captions) of each image by its id."""
    try:
        content = json.loads(path.read_bytes())
        names = {x["id"]: _file_name(x["file_name"]) for x in content["images"]}
        captions: dict[Any, list[str]] = {}
        for entry in content["annotations"]:
            if text := " ".join(entry["caption"].split()):
                captions.setdefault(entry["image_id"], []).append(text)
    except OSError as error:
        raise UserError(f"cannot read captions {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is no file of MS-COCO captions: expected images with id and "
            f"file_name, annotations with image_id and caption"
        ) from error
    return names, captions


def _file_name(name: str) -> str:
    """The name itself; ValueError unless a file of a folder can be called so."""
    if not name or Path(name).name != name or len(os.fsencode(name)) > 255:
        raise ValueError("no plain file name")
    return name


def _images_folder(folder: Path, captions: Path, names: list[str]) -> Path:
    """The folder of the images; UserError if some are missing."""
    split = captions.stem.removeprefix("captions_")
    places = [folder / split, folder / "images" / split, folder / "images", folder]
    counts = [sum((place / name).is_file() for name in names) for place in places]
    best = int(np.argmax(counts))
    if counts[best] == len(names):
        return places[best]
    missing = next(name for name in names if not (places[best] / name).is_file())
    raise UserError(
        f"{len(names) - counts[best]} of {len(names)} images are not in "
        f"{places[best]}, such as {missing}: put {split}'s images there"
    )
