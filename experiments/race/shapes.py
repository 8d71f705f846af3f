"""The papers against each other on the world of shapes: the same images and codes.

    cogjax data shapes --out data/easy --n 80000 --easy
    cogjax encode --data data/easy --tokenizer shapes --out data/easy-codes
    python experiments/race/shapes.py --data data/easy-codes --out runs/race

CogView, DALL-E and ERNIE-ViLG at one width and depth, a run a seed. All read the codes
and the pieces of the shipped `shapes`, learn by the same optimiser (Muon, as no paper
does; DALL-E learns far slower by its own AdamW) and draw by the same sampler: what
differs is the sequence, the attention and the objective of each. ERNIE-ViLG has full
attention; experiments/ernie_vilg/sparse_learning.py compares its sparse layers.

Learning rates stay after the warm-up and the averaged weights are judged, so that each
point of a run is a result of its own. After every part of the images the oracle judges
the same prompts. The table has the end of all runs (equal images) and the moment at
which the fastest system ended (equal core-hours, between the points around it), each
with its difference to CogView on the same prompts. Core-hours are of training, its
compilation included; processor seconds hardly grow by other work on the machine. The
codes are made once, for all: a data set of images works too, but each run encodes it.

Writes race.json and race.png and prints the table; what is there is not trained again.
The same command goes on after a stop, also with more seeds.
`--nano` ends in a few minutes and shows that all parts work.
"""

import argparse
import contextlib
import functools
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import cogjax
from cogjax import config as configs
from cogjax.evaluate.metrics.intervals import seeds_interval
from cogjax.evaluate.suites.run import run
from cogjax.evaluate.suites.shapes import ShapesSuite
from cogjax.files import once, write_atomic
from cogjax.stages import run as launch

HERE = Path(__file__).parents[1]
SYSTEMS = {
    "CogView": "cogview/shapes.py:transformer",
    "DALL-E": "dalle/shapes.py:transformer",
    "ERNIE-ViLG": "ernie_vilg/shapes.py:full",
}
REFERENCE = "CogView"
SIZES = {"width": 192, "depth": 6, "heads": 3, "unroll": 6}
SAMPLER = {"temperature": 0.65, "top_p": 0.95, "guidance": 2.5}
SPLITS = {"seen": "seen", "unseen": "held-out combinations"}


def settings(system: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """The config of a run, but for its number of steps."""
    argument = SYSTEMS[system].replace(":full", ":transformer") if args.nano else ""
    file = HERE / (f"{argument},nano" if args.nano else SYSTEMS[system])
    values = {
        "data.path": args.data,
        "data.tokenizer": "shapes",
        "data.text": "shapes",
        "optim.schedule": "constant",
        # On CPUs in half the time, for all alike (docs/precision.md).
        "train.products": "bfloat16",
        "train.seed": seed,
        "train.sample_every": 0,
        "train.eval_every": 0,
    }
    if not args.nano:
        values |= {f"model.{name}": size for name, size in SIZES.items()}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    found = configs.load(str(file), words)
    found["sample"] = {**found["sample"], "sampler": SAMPLER}
    return found


def train(system: str, seed: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The points of a run, as `point` gives them; goes on behind the last one there."""
    folder, points = args.out / f"{system}-{seed}", []
    config = settings(system, seed, args)
    batch = config["train"]["batch_size"]
    ends = [args.images * i // (args.points * batch) for i in range(args.points + 1)]
    for steps in itertools.pairwise(ends):
        make = functools.partial(point, folder, config, steps, args)
        points.append(once(folder / f"point-{steps[1]}.json", make))
    return points


def point(
    folder: Path, config: dict, steps: tuple[int, int], args: argparse.Namespace
) -> dict:
    """Trains from one step to another and asks the oracle.

    Returns images seen, core-seconds an image, and for both splits the share of right
    images of each prompt.
    """
    start, end = steps
    batch = config["train"]["batch_size"]
    train_section = {**config["train"], "steps": end, "save_every": max(1, end)}
    with clock(folder / f"spent-{end}.json"):
        workdir = folder / "run"
        model_folder = launch.train({**config, "train": train_section}, workdir)
    spent = json.loads((folder / f"spent-{end}.json").read_text())
    model = cogjax.load(model_folder)
    suite = ShapesSuite(n=args.n, num_images=args.num_images)
    found = run(suite, model, out=None, identity={}, about={})
    right = {
        split: [float(np.mean(each["right"])) for each in found[split]["prompts"]]
        for split in SPLITS
    }
    seconds = spent / (max(1, end - start) * batch)
    return {"images": end * batch, "core_seconds": seconds, "right": right}


@contextlib.contextmanager
def clock(path: Path) -> Iterator[None]:
    """Adds the core-seconds of the block to those in a file, also if it is stopped.

    A part that was stopped by a signal goes on later; what is killed begins it again.
    """
    before, began = once(path, lambda: 0.0), time.process_time()
    try:
        yield
    finally:
        write_atomic(path, json.dumps(before + time.process_time() - began))


def core_hours(points: Sequence[Mapping]) -> np.ndarray:
    """Core-hours of a run at each of its points."""
    images = np.diff([0, *(each["images"] for each in points)])
    return np.cumsum(images * [each["core_seconds"] for each in points]) / 3600


def rights(points: Sequence[Mapping], split: str, hours: float | None) -> np.ndarray:
    """Share of right images of each prompt: at the end, or after so many core-hours."""
    values = np.array([each["right"][split] for each in points])  # [points, prompts]
    if hours is None:
        return values[-1]
    times = core_hours(points)
    after = min(int(np.searchsorted(times, hours)), len(times) - 1)
    if after == 0:
        return values[0] * min(1.0, hours / times[0])
    share = np.clip(
        (hours - times[after - 1]) / (times[after] - times[after - 1]), 0, 1
    )
    return values[after - 1] + share * (values[after] - values[after - 1])


def summary(found: Mapping[str, list[list[dict]]]) -> list[dict[str, Any]]:
    """Rows of the table: a system, a split, equal images or equal core-hours."""
    ends = {
        name: float(np.mean([core_hours(points)[-1] for points in runs]))
        for name, runs in found.items()
    }
    rows = []
    for split in SPLITS:
        for hours in (None, min(ends.values())):
            shares = {
                name: np.stack([rights(points, split, hours) for points in runs])
                for name, runs in found.items()
            }
            for name, values in shares.items():
                row = {
                    "system": name,
                    "split": split,
                    "core_hours": hours or ends[name],
                    "equal": "core-hours" if hours else "images",
                    "right": seeds_interval(values),
                    "seeds": values.mean(1).tolist(),
                }
                if name != REFERENCE and REFERENCE in shares:
                    row["difference"] = seeds_interval(values - shares[REFERENCE])
                rows.append(row)
    return rows


def show(rows: Sequence[Mapping]) -> None:
    """A Markdown table."""
    print("| prompts | at equal | system | core-hours | exactly right | less CogView |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        difference = "" if "difference" not in row else _points(row["difference"], "+")
        cells = [SPLITS[row["split"]], row["equal"], row["system"]]
        cells += [f"{row['core_hours']:.2f}", _points(row["right"]), difference]
        print("|", " | ".join(cells), "|")


def _points(found: Sequence[float], sign: str = "") -> str:
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in found)
    return f"{mean} % [{low}, {high}]"


def draw(found: Mapping[str, list[list[dict]]], path: Path) -> None:
    """Right images against images seen, and against core-hours: mean and all seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    for index, (name, runs) in enumerate(found.items()):
        colour = f"C{index}"
        curves = np.array(
            [[np.mean(each["right"]["seen"]) for each in points] for points in runs]
        )
        images = [each["images"] for each in runs[0]]
        hours = np.mean([core_hours(points) for points in runs], axis=0)
        for axis, places in zip(axes, (images, hours), strict=True):
            axis.plot(places, curves.mean(0), color=colour, marker="o", label=name)
            axis.fill_between(
                places, curves.min(0), curves.max(0), color=colour, alpha=0.2
            )
    axes[0].set(xlabel="images seen", ylabel="exactly right, seen combinations")
    axes[1].set(xlabel="core-hours of training")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> None:
    """Trains what is missing, prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", required=True, type=Path, help="folder of runs and results")
    add("--data", required=True, help="data set of shapes")
    add("--images", type=int, default=96_000, help="that each run sees (%(default)s)")
    add("--points", type=int, default=4, help="judged points of a run (%(default)s)")
    add("--seeds", type=int, default=3, help="runs of each system (%(default)s)")
    add("--n", type=int, default=500, help="prompts a point (%(default)s)")
    add("--num-images", type=int, default=2, help="of each prompt (%(default)s)")
    add("--nano", action="store_true", help="networks that learn nothing")
    args = parser.parse_args(argv)
    asked = {k: v for k, v in vars(args).items() if k not in ("out", "seeds")}
    if (had := once(args.out / "settings.json", lambda: asked)) != asked:
        parser.error(f"{args.out} has a race of {had}: choose another --out")
    jax.config.update("jax_compilation_cache_dir", str(args.out / "compiled"))
    found: dict[str, list] = {name: [] for name in SYSTEMS}
    # A seed of all systems before the next: a race that is stopped is still one.
    for seed in range(args.seeds):
        for name in SYSTEMS:
            found[name].append(train(name, seed, args))
    rows = summary(found)
    show(rows)
    draw(found, args.out / "race.png")
    write_atomic(args.out / "race.json", json.dumps({"rows": rows, "runs": found}))


if __name__ == "__main__":
    sys.exit(main())
