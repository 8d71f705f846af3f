"""Image-to-image by prompting, as DALL-E's paper: the untouched model, shapes judged.

    python experiments/dalle/image_to_image.py --out runs/image_to_image

Section 3.3 and figure 2 (d): the caption and the top rows of an image are given, 15 of
32, and the model completes the rest. Here they are 4 of 8 rows with one shape, and the
caption is one of the paper's six kinds, in fewer words: the paper's own have up to 34
pieces, and the model reads 24. The oracle tells what stands below:

    reflected, coloured, close-up   exactly what was asked, and nothing else
    sketch, sunglasses, stamp       the world has none: whether the shape is kept

Two controls need no such words. "two red circles" asks for a second shape in a caption
of the training set, "a red circle" for none. Prints a table with Wilson 95 % intervals,
by images, and the share of sources with a right image among those generated. Writes
image_to_image.json and image_to_image.png: per kind the first sources, one row each.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import cogjax
from cogjax.data.contact_sheet import grid
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.worlds.shapes.oracle import find_shapes, items_of, same_scene
from cogjax.worlds.shapes.scenes import COLOURS, RADII, SHAPES, Item, Scene, render
from cogjax.worlds.words import article

ROWS = 4
# Shapes that a reflection changes.
UPRIGHT = "triangle", "star", "heart"
Verdict = Callable[[Item, np.ndarray], bool]


def sources() -> list[Item]:
    """A shape in the upper half, of every kind, colour and size."""
    kinds = itertools.product(SHAPES, COLOURS, RADII.values())
    return [Item(shape, colour, 0.5, 0.25, radius) for shape, colour, radius in kinds]


def other_colour(item: Item) -> str:
    """The colour that is asked for: the next one."""
    names = list(COLOURS)
    return names[(names.index(item.colour) + 1) % len(names)]


def below(image: np.ndarray) -> list[Item]:
    """What the oracle finds in the lower half."""
    return [item for item in items_of(find_shapes(image)) if item.y > 0.5]


def reflected(item: Item, image: np.ndarray) -> bool:
    """Whether the lower half, turned over, is what was given."""
    upper = image.copy()
    upper[: len(image) // 2] = image[: len(image) // 2 - 1 : -1]
    upper[len(image) // 2 :] = 255
    return same_scene(Scene((item,)), find_shapes(upper), near=0.07)


def alone(item: Item, image: np.ndarray) -> bool:
    """Whether the lower half has just a shape of the kind, colour and size of item."""
    found = below(image)
    wanted = item.shape, item.colour, item.size
    return [(x.shape, x.colour, x.size) for x in found] == [wanted]


def kept(item: Item, image: np.ndarray) -> bool:
    """Whether the lower half has a shape of that kind, whatever else."""
    return any(found.shape == item.shape for found in below(image))


def coloured(item: Item, image: np.ndarray) -> bool:
    """Whether the shape stands below in the other colour."""
    return alone(replace(item, colour=other_colour(item)), image)


def enlarged(item: Item, image: np.ndarray) -> bool:
    """Whether the shape stands below, large."""
    return alone(replace(item, radius=RADII["large"]), image)


def nothing(item: Item, image: np.ndarray) -> bool:
    """Whether the lower half is empty."""
    del item
    return not below(image)


# The six captions of figure 2 (d), shorter; {x} is "red circle".
KINDS: dict[str, tuple[str, Verdict]] = {
    "reflected": ("the same {x} upside-down below", reflected),
    "coloured": ("the same {x} in {c} below", coloured),
    "close-up": ("a close-up of the {x} below", enlarged),
    "sketch": ("the same {x} as a sketch below", kept),
    "sunglasses": ("the same {x} with sunglasses below", kept),
    "stamp": ("the same {x} as a stamp below", kept),
    "control: one more": ("two {x}s", kept),
    "control: no more": ("{a} {x}", nothing),
}


def words(kind: str, item: Item) -> str:
    """The caption of a kind about an item."""
    name = f"{item.colour} {item.shape}"
    plural = name + "e" if name.endswith("s") else name
    template = KINDS[kind][0]
    name = plural if "{x}s" in template else name
    return template.format(x=name, c=other_colour(item), a=article(name))


def complete(model, kind: str, items: Sequence[Item], count: int) -> np.ndarray:
    """Pixels uint8 [sources, count, y, x, 3] below the given rows."""
    keep = np.arange(model.grid)[:, None] < np.full(model.grid, ROWS)
    pixels = [
        model.generate(
            words(kind, item),
            count,
            image=render(Scene((item,)), model.image_size),
            keep=keep,
        ).pixels[0]
        for item in items
    ]
    return np.stack(pixels)


def judge(kind: str, items: Sequence[Item], pixels: np.ndarray) -> dict:
    """Shares of right images, of sources with one, and of images with the shape."""
    right, same = (_verdicts(v, items, pixels) for v in (KINDS[kind][1], kept))
    found = {"right": _share(right), "any": _share(right.any(1)), "kept": _share(same)}
    if kind == "reflected":
        found["upright"] = _share(right[[item.shape in UPRIGHT for item in items]])
    return found


def _verdicts(
    verdict: Verdict, items: Sequence[Item], pixels: np.ndarray
) -> np.ndarray:
    """bool [sources, count]."""
    pairs = zip(items, pixels, strict=True)
    return np.array([[verdict(item, x) for x in images] for item, images in pairs])


def _share(right: np.ndarray) -> list[float]:
    """[share, low, high, n] in percent."""
    low, high = wilson(int(right.sum()), right.size)
    return [100 * float(right.mean()), 100 * low, 100 * high, right.size]


def main() -> None:
    """Generates, judges, prints the table and draws the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--model", default="shapes-dalle")
    parser.add_argument("--num-images", type=int, default=4, help="of each source")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = cogjax.load(args.model)
    report, rows = {}, []
    print("| caption | right | any of a source | the shape is below |")
    print("| --- " * 4 + "|")
    for kind in KINDS:
        items = [x for x in sources() if kind != "close-up" or x.size == "small"]
        pixels = complete(model, kind, items, args.num_images)
        report[kind] = judge(kind, items, pixels)
        rows.append(pixels[:: max(1, len(items) // 8), 0][:8])
        cells = [
            f"{mean:.1f} % [{low:.1f}, {high:.1f}] of {n}"
            for mean, low, high, n in report[kind].values()
        ]
        print(f"| {kind} |", " | ".join(cells[:3]), "|", flush=True)
    print("reflected, of triangles, stars and hearts:", report["reflected"]["upright"])
    sheet = grid(np.concatenate(rows), 8)
    Image.fromarray(np.asarray(sheet)).save(args.out / "image_to_image.png")
    (args.out / "image_to_image.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
