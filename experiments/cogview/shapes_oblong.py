r"""CogView on oblong scenes of shapes: 2:1 and 1:2 beside squares, by the oracle.

    cogjax data shapes --out data/easy --n 80000 --easy
    cogjax data shapes --out data/wide --n 80000 --easy --aspect 2:1
    cogjax data shapes --out data/tall --n 80000 --easy --aspect 1:2
    cogjax data shapes --out data/several --n 80000 --easy --aspect 1:1,2:1,1:2
    cogjax train --config experiments/cogview/shapes_oblong.py:several \
        --workdir runs/several
    python experiments/cogview/shapes_oblong.py runs/*

Arms `square`, `wide` and `tall` learn one shape each, `several` all three, all at the
updates of `shapes.py:transformer` and with the tokenizer of the shipped `shapes`:
squares of 8 x 8 codes, 6 x 12 and 12 x 6. The judge draws scenes of each shape of a
model after captions of its own scenes. It is right if the oracle sees all that the
caption states and nothing else; an oblong shape is to be within 5 points of the square.
`:square,nano` and so on end in a minute. A full run is about 71 minutes of 2 CPU cores
for `square` and 79 for each of the others, 5 hours in all, and 10 minutes of judging.
"""

import argparse
import json
from pathlib import Path

import ml_collections
import numpy as np

import cogjax
from cogjax.config import load
from cogjax.data.aspects import spelled
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.files import write_atomic
from cogjax.worlds.shapes.captions import write_caption
from cogjax.worlds.shapes.dataset import request_of, sample_scene, satisfied
from cogjax.worlds.shapes.oracle import find_shapes, items_of
from cogjax.worlds.words import LANGUAGES

DATA = {"square": "easy", "wide": "wide", "tall": "tall", "several": "several"}
_TRANSFORMER = str(Path(__file__).with_name("shapes.py")) + ":transformer"


def get_config(arg: str = "several") -> ml_collections.ConfigDict:
    """`arg` is an arm, optionally followed by ",nano"."""
    arm, _, size = arg.partition(",")
    if arm not in DATA or size not in ("", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected {', '.join(DATA)}, optionally followed "
            "by ,nano"
        )
    size = f",{size}" if size else ""
    config = ml_collections.ConfigDict(load(_TRANSFORMER + size))
    config.model.positions = "grid"
    config.data.update(
        {"path": f"data/{DATA[arm]}", "tokenizer": "shapes", "text": "shapes"}
    )
    return config


def judged(model, shape: tuple[int, int], n: int) -> list[bool]:
    """Which of n scenes of a shape of codes are right; languages in turn."""
    rng, unit = np.random.default_rng(26), model.image_size
    height, width = model.of(shape).size
    right = []
    for seed in range(n):
        scene = sample_scene(rng, easy=True, extent=(width / unit, height / unit))
        request = request_of(scene, rng)
        caption = write_caption(request, LANGUAGES[seed % 2], rng)
        aspect = spelled(*shape)
        [[pixels]] = model.generate(caption, 1, seed=seed, aspect=aspect).pixels
        right.append(satisfied(request, items_of(find_shapes(pixels, unit))))
        print(f"\r{aspect}: {sum(right)} of {len(right)}  ", end="", flush=True)
    return right


def main() -> None:
    """Measures, prints a Markdown table and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="work folders, or folders of models")
    parser.add_argument("--n", type=int, default=400, help="scenes (%(default)s)")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    found, lines = {}, ["| model | aspect | right |", "| --- | --- | --- |"]
    for run in args.runs:
        export = Path(run) / "export"
        model = cogjax.load(export if export.is_dir() else run)
        for shape in model.shapes:
            right = np.array(judged(model, shape, args.n))
            low, high = wilson(int(right.sum()), len(right))
            share = f"{100 * right.mean():.1f} % [{100 * low:.0f}, {100 * high:.0f}]"
            lines.append(f"| {run} | {spelled(*shape)} | {share} |")
            found.setdefault(run, {})[spelled(*shape)] = right.tolist()
    print("\n" + "\n".join(lines))
    if args.json:
        write_atomic(Path(args.json), json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
