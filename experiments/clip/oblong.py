"""How a CLIP of squares is shown oblong images: cropped, squeezed, padded, in parts.

    python experiments/clip/oblong.py --n 300

The shipped `clip-shapes` chooses one of 300 scenes of each shape for each caption, as
it would among candidates. Prints the share of captions that the chosen scene fulfils,
by the scene itself, with Wilson 95 % intervals.
"""

import argparse
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

import cogjax
from cogjax.data.aspects import of_aspect
from cogjax.data.images import to_square
from cogjax.data.records import decode_image
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.worlds.shapes.captions import read_caption
from cogjax.worlds.shapes.dataset import example, satisfied
from cogjax.worlds.shapes.scenes import Scene

Way = Callable[[Image.Image, int], list[np.ndarray]]


def middle(image: Image.Image, size: int) -> list[np.ndarray]:
    """The middle square alone."""
    return [to_square(image, size)]


def squeezed(image: Image.Image, size: int) -> list[np.ndarray]:
    """All of it, its sides scaled apart."""
    return [np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))]


def padded(image: Image.Image, size: int) -> list[np.ndarray]:
    """All of it, on white."""
    method = Image.Resampling.LANCZOS
    return [np.asarray(ImageOps.pad(image, (size, size), method, color="white"))]


def parts(image: Image.Image, size: int) -> list[np.ndarray]:
    """The squares at both ends, whose vectors are averaged."""
    method = Image.Resampling.LANCZOS
    return [
        np.asarray(ImageOps.fit(image, (size, size), method, centering=(place, place)))
        for place in (0.0, 1.0)
    ]


WAYS: dict[str, Way] = {
    "middle square": middle,
    "squeezed": squeezed,
    "padded": padded,
    "both ends": parts,
}


def chosen(clip, way: Way, images: list[Image.Image], texts: list[str]) -> np.ndarray:
    """Which image is nearest to each text."""
    shown = [way(image, clip.image_size) for image in images]
    vectors = clip.embed_images(np.concatenate(shown))
    vectors = vectors.reshape(len(images), -1, vectors.shape[-1]).mean(1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (clip.embed_texts(texts) @ vectors.T).argmax(1)


def main() -> None:
    """Renders, asks and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=300, help="scenes a shape (300)")
    args = parser.parse_args()
    clip = cogjax.load("clip-shapes")
    print("| aspect |", " | ".join(WAYS), "|")
    print("| --- " * (len(WAYS) + 1) + "|")
    for aspect in ("1:1", "3:2", "2:1", "1:2"):
        shape = of_aspect(64, aspect)
        made = [example(7, "val", i, shapes=(shape,)) for i in range(args.n)]
        images = [Image.fromarray(decode_image(each.image)) for each in made]
        texts = [each.captions[0][1] for each in made]
        scenes = [Scene.from_json(each.meta["scene"]).items for each in made]
        cells = []
        for way in WAYS.values():
            best = chosen(clip, way, images, texts)
            pairs = zip(texts, best, strict=True)
            count = sum(satisfied(read_caption(text), scenes[i]) for text, i in pairs)
            low, high = (100 * x for x in wilson(count, args.n))
            cells.append(f"{100 * count / args.n:.1f} % [{low:.0f}, {high:.0f}]")
        print(f"| {aspect} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
