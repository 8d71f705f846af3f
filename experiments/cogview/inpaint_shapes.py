"""In-painting on the world of shapes: a quarter of a scene drawn anew, by the oracle.

    python experiments/cogview/inpaint_shapes.py shapes --n 100 --fillings 1 8

A square of half a side is drawn anew in each rendered scene, after its caption.
It lies at random over the centre of a shape and cuts through shapes, its sides on
multiples of `--step` pixels: with 8, where codes of the shipped models end, and with 1
anywhere. A result is right if the oracle sees all that the caption states and nothing
else; beside it stands drawing the whole, after the same captions. Border: how far
pixels on both sides of the square's edge differ, against the scene's own there.
Outside: pixels beyond the faded edge that are not bitwise the scene's, and kept codes
that changed. `--fillings` is for models code by code; leave it out for a masked model
or a cascade. `--rerank N`: the hole and the whole alike are the best of N. Writes JSON
with `--json FILE`.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

import cogjax
from cogjax.data.images import as_square
from cogjax.evaluate.metrics.intervals import ratio_interval, wilson
from cogjax.files import write_atomic
from cogjax.pipelines.contracts import Codec
from cogjax.worlds.shapes.captions import SceneRequest, write_caption
from cogjax.worlds.shapes.dataset import request_of, sample_scene, satisfied
from cogjax.worlds.shapes.oracle import find_shapes, items_of
from cogjax.worlds.shapes.scenes import render
from cogjax.worlds.words import LANGUAGES


class Case(NamedTuple):
    """pixels: uint8 [s, s, 3]. hole: bool [s, s]."""

    request: SceneRequest
    caption: str
    pixels: np.ndarray
    hole: np.ndarray


def make_cases(n: int, size: int, step: int) -> list[Case]:
    """Scenes of the easy world, which the shipped models know, languages in turn.

    step: the hole's sides lie on multiples of so many pixels.
    """
    rng = np.random.default_rng(26)
    cases = []
    for index in range(n):
        scene = sample_scene(rng, easy=True)
        request = request_of(scene, rng)
        caption = write_caption(request, LANGUAGES[index % 2], rng)
        item, half = scene.items[rng.integers(len(scene.items))], size // 2
        left, top = (
            step * int(rng.integers(max(0, place - half), min(half, place)) // step)
            for place in (round(size * item.x), round(size * item.y))
        )
        hole = np.zeros((size, size), bool)
        hole[top : top + half, left : left + half] = True
        cases.append(Case(request, caption, render(scene, size), hole))
    return cases


def is_right(case: Case, pixels: np.ndarray) -> bool:
    """By the oracle: all that is stated, and nothing else."""
    return satisfied(case.request, items_of(find_shapes(pixels)))


def border(pixels: np.ndarray, hole: np.ndarray) -> float:
    """Mean difference of two pixels of which one is in the hole, of 255."""
    found = []
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels.astype(float), axis=axis)).mean(-1)
        found.append(steps[np.diff(hole, axis=axis)])
    return float(np.concatenate(found).mean())


def paint(model, cases: list[Case], **settings) -> dict:
    """Figures of one way to fill the holes, and which results are right."""
    right, edges, own_edges, pixels_off, codes_off = [], [], [], 0, 0
    for seed, case in enumerate(cases):
        given = {"image": case.pixels, "mask": case.hole, "seed": seed, **settings}
        found = model.generate(case.caption, 1, **given)
        [[pixels]] = found.pixels
        right.append(is_right(case, pixels))
        edges.append(border(pixels, case.hole))
        own_edges.append(border(case.pixels, case.hole))
        far = ~grown(case.hole, 4 * max(1, len(pixels) // 64))
        pixels_off += int((pixels[far] != case.pixels[far]).any(-1).sum())
        if isinstance(model, Codec):
            keep = kept(case.hole, model.grid)
            [codes] = model.encode(as_square(case.pixels, model.image_size))
            codes_off += int((found.codes[0, 0] != codes)[keep].sum())
        print(f"\r{settings}: {len(right)} of {len(cases)}  ", end="", flush=True)
    means = {"border": np.mean(edges), "border_of_scenes": np.mean(own_edges)}
    return {
        "right": right,
        **{name: float(value) for name, value in means.items()},
        "outside_pixels_changed": pixels_off,
        "outside_codes_changed": codes_off,
    }


def grown(hole: np.ndarray, reach: int) -> np.ndarray:
    """The hole and `reach` pixels around it, corners too."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    found = np.zeros_like(hole)
    found[
        max(0, rows[0] - reach) : rows[-1] + reach + 1,
        max(0, columns[0] - reach) : columns[-1] + reach + 1,
    ] = True
    return found


def kept(hole: np.ndarray, grid: int) -> np.ndarray:
    """Codes without a pixel of the hole: bool [grid, grid]."""
    side = len(hole) // grid
    return ~hole.reshape(grid, side, grid, side).any((1, 3))


def whole(model, cases: list[Case], **settings) -> list[bool]:
    """Which scenes are right if all of an image is drawn."""
    right = []
    for seed, case in enumerate(cases):
        [[pixels]] = model.generate(case.caption, 1, seed=seed, **settings).pixels
        right.append(is_right(case, pixels))
    return right


def show(found: dict) -> None:
    """A Markdown table."""
    print()
    print("| what is drawn | right | of the whole | border (scenes) |")
    print("| --- | --- | --- | --- |")
    drawn = np.array(found["whole"])
    print(f"| the whole | {_share(drawn)} | | |")
    for name, arm in found["arms"].items():
        right = np.array(arm["right"])
        ratio, (low, high) = ratio_interval(right, drawn)
        reached = f"{100 * ratio:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
        edge = f"{arm['border']:.1f} ({arm['border_of_scenes']:.1f})"
        print(f"| {name} | {_share(right)} | {reached} | {edge} |")
        print(
            f"  outside, changed: {arm['outside_pixels_changed']} pixels, "
            f"{arm['outside_codes_changed']} codes"
        )


def _share(right: np.ndarray) -> str:
    low, high = wilson(int(right.sum()), len(right))
    return f"{100 * right.mean():.1f} % [{100 * low:.0f}, {100 * high:.0f}]"


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="shipped name or folder")
    parser.add_argument("--n", type=int, default=100, help="scenes (%(default)s)")
    parser.add_argument("--fillings", type=int, nargs="+", help="such as 1 8")
    parser.add_argument("--step", type=int, default=8, metavar="PIXELS")
    parser.add_argument("--rerank", type=int, default=0, metavar="N")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    model = cogjax.load(args.model)
    cases = make_cases(args.n, model.image_size, args.step)
    every = {"rerank": args.rerank}
    found = {name: getattr(args, name) for name in ("model", "n", "step", "rerank")}
    found["whole"] = whole(model, cases, **every)
    ways = {f"the hole, {k} fillings": {"fillings": k} for k in args.fillings or ()}
    ways = ways or {"the hole": {}}
    found["arms"] = {
        name: paint(model, cases, **way, **every) for name, way in ways.items()
    }
    show(found)
    if args.json:
        write_atomic(Path(args.json), json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
