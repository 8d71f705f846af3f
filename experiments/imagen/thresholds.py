"""Static against dynamic thresholding over guidance, on a trained cascade of shapes.

    python experiments/imagen/thresholds.py --data data/easy --out runs/thresholds \\
        --model runs/super/export

Imagen's figure 9: with much guidance estimates leave [-1, 1], and dividing by a
percentile of them keeps images natural. Drawings stand on a white or light ground,
which that division greys. So the page has, over guidance from 1 to 15 and three seeds
of noise, the share of right images, and how far the ground of an image is from the
nearest of the world, in levels of 255. Nothing is trained.
"""

import itertools

import numpy as np
from arms import (
    begin,
    curves,
    make_parser,
    page,
    parts_of,
    prompts_of,
    rows_of,
)

import cogjax
from cogjax.evaluate.judges.compositional import judge
from cogjax.files import once
from cogjax.worlds.shapes.scenes import GROUNDS

GUIDANCE = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0)
PERCENTILES = {"static": 0.0, "dynamic 99.5": 99.5, "dynamic 95": 95.0}


def ground_error(images: np.ndarray) -> np.ndarray:
    """Levels from the ground of each image to the nearest of the world: [n].

    images: uint8 [n, y, x, 3], whose corners show the ground: shapes keep away from
    edges.
    """
    corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]].astype(float)  # [n, 4, 3]
    colour = np.median(corners, axis=1)[:, None]
    return np.abs(colour - np.array(GROUNDS)).max(-1).min(-1)


def run(model, name: str, guidance: float, seed: int, args) -> dict[str, list[float]]:
    """The shares of right images of each prompt, and the error of their grounds."""

    def judged():
        prompts, found = prompts_of(args), {"right": [], "ground": []}
        for part in parts_of(prompts):
            pixels = model.generate(
                [each.caption for each in part],
                num_images=args.num_images,
                seed=seed,
                guidance=guidance,
                percentile=PERCENTILES[name],
                steps=2 if args.nano else 16,
            ).pixels
            found["right"] += judge(part, pixels).right.mean(1).tolist()
            errors = ground_error(pixels.reshape(-1, *pixels.shape[2:]))
            found["ground"] += errors.reshape(len(part), -1).mean(1).tolist()
        return found

    file = f"{name.replace(' ', '-')}-{guidance:g}-{seed}.json"
    return once(args.out / file, judged)


def main() -> None:
    """Judges what is missing and writes the page."""
    parser = make_parser(__doc__, images=0)
    parser.add_argument("--model", required=True, help="folder of the cascade")
    args = parser.parse_args()
    begin(args)
    model, found = cogjax.load(args.model), {}
    for seed in range(args.seeds):
        for name, guidance in itertools.product(PERCENTILES, GUIDANCE):
            one = run(model, name, guidance, seed, args)
            found.setdefault((name, guidance), []).append(one)
    tables, notes, lines = {}, ["![](guidance.png)"], {}
    for guidance in GUIDANCE:
        at = {name: found[name, guidance] for name in PERCENTILES}
        first = f"static, guidance {guidance:g}"
        shares = {
            f"{name}, guidance {guidance:g}": [x["right"] for x in runs]
            for name, runs in at.items()
        }
        tables[first] = rows_of(shares, first)
        errors = {n: np.mean([x["ground"] for x in runs]) for n, runs in at.items()}
        each = ", ".join(f"{name} {error:.1f}" for name, error in errors.items())
        notes.append(f"Levels off the ground at guidance {guidance:g}: {each}.")
    for name in PERCENTILES:
        y = [np.mean([x["right"] for x in found[name, g]]) for g in GUIDANCE]
        lines[name] = (GUIDANCE, y)
    curves(args.out / "guidance.png", lines, ("guidance", "exactly right"))
    page(args.out, "Thresholds", tables, notes)


if __name__ == "__main__":
    main()
