"""ERNIE-ViLG's sparse layers against full attention, learnt from the start.

    cogjax data shapes --out data/large --n 12000 --easy --size 256
    python experiments/ernie_vilg/sparse_learning.py --data data/large \
        --out runs/sparse_learning

The paper (section 3.1) finds that both converge alike. Here the same network has rows,
columns and a window, or full attention in all layers, on scenes of 16 x 16 and 32 x 32
codes: the same start, data and order for both forms of a seed. The codes are of the
shipped `shapes`, which reads larger images too.

Rates stay after the warm-up and the averaged weights are judged, so that each point of
a run is a result of its own. The table has the held-out losses after equal updates, and
after equal core-seconds by what an update of each form takes, measured in turns;
differences are of the same images.

Writes learning.json and learning.png and prints the tables; what is there is not
trained again. The same command goes on after a stop, also with more seeds.
`--nano` ends in a minute and shows that all parts work.
"""

import argparse
import dataclasses
import functools
import hashlib
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cogjax.experiments.ernie_vilg.sparse_dense import in_turns

from cogjax import config as configs
from cogjax import model_folder
from cogjax.bench import compiled_update
from cogjax.data import records
from cogjax.errors import UserError
from cogjax.evaluate.metrics.intervals import seeds_interval
from cogjax.files import once, write_atomic
from cogjax.model import Model
from cogjax.stages import run as launch
from cogjax.stages.sections import RunConfig
from cogjax.train.checkpoint import restore_params
from cogjax.train.session import Job

FORMS = {"sparse": "transformer", "full": "full"}  # arguments of shapes.py
SHAPES = Path(__file__).with_name("shapes.py")
CODE = 8  # pixels a side that a code of `shapes` stands for
# The trained network, and its batches of held-out images; the rest is shapes.py.
TRAINED = {"model.width": 96, "eval.batches": 32}


def tokenizer(grid: int, args: argparse.Namespace) -> Path:
    """A folder of the shipped tokenizer for images of grid x grid codes."""
    folder = args.out / f"tokenizer-{grid}"
    if not folder.exists():
        own = model_folder.load("shapes")["tokenizer"]
        # Convolutions know no size of an image.
        config = dataclasses.replace(own.config, image_size=CODE * grid)
        part = dataclasses.replace(own, config=config)
        model_folder.save(Model("", {"tokenizer": part}), folder)
    return folder


def settings(form: str, grid: int, seed: int, args: argparse.Namespace) -> dict:
    """The config of a run, but for its number of steps."""
    size = ",nano" if args.nano else ""
    values = {
        "data.path": args.data,
        "data.tokenizer": tokenizer(grid, args),
        "data.text": "shapes",
        "optim.schedule": "constant",
        # The loss is a sum over codes; shapes.py has 76 for 8 x 8 of them.
        "optim.clip": 76.0 * (grid / 8) ** 2,
        "train.products": "bfloat16",
        "train.seed": seed,
        "train.sample_every": 0,
        "train.eval_every": 0,
    }
    values |= {} if args.nano else TRAINED
    words = [f"--config.{key}={value}" for key, value in values.items()]
    return configs.load(f"{SHAPES}:{FORMS[form]}{size}", words)


def job_of(config: dict[str, Any], folder: Path, args: argparse.Namespace) -> Job:
    """The job of a run in its folder; all runs share the codes of the images."""
    codes = args.out / "codes"
    codes.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "codes").exists():
        (folder / "codes").symlink_to(codes.resolve())
    return launch.find_stage(config).job(RunConfig.of(config), folder)


def cost(grid: int, args: argparse.Namespace) -> dict[str, Any]:
    """`in_turns` of an update of the runs of a grid."""

    def made(form: str) -> tuple[Callable, int]:
        config = settings(form, grid, 0, args)
        job = job_of(config, args.out / f"cost-{form}-{grid}", args)
        run, batch = RunConfig.of(config), job.eval_batches[0]
        compiled, update, _ = compiled_update(
            job.task, run.optim, batch, run.train.precision
        )
        return update, compiled.memory_analysis().temp_size_in_bytes

    return in_turns(made, args.rounds)


def train(form: str, grid: int, seed: int, args: argparse.Namespace) -> list[dict]:
    """The points of a run; goes on behind the last one that is there."""
    folder = args.out / f"run-{form}-{grid}-{seed}"
    config, points = settings(form, grid, seed, args), []
    for index in range(args.points):
        end = args.updates * (index + 1) // args.points
        make = functools.partial(point, folder, config, end, args)
        points.append(once(folder / f"point-{end}.json", make))
    return points


def point(folder: Path, config: dict, end: int, args: argparse.Namespace) -> dict:
    """Trains to an update; {"updates", "losses": of each held-out image, in nats}."""
    ending = {**config["train"], "steps": end, "save_every": end}
    config = {**config, "train": ending}
    job = job_of(config, folder / "run", args)
    launch.train(config, folder / "run")
    return {"updates": end, "losses": held_out(job, folder / "run")}


def held_out(job: Job, folder: Path) -> list[float]:
    """Loss of both directions of each held-out image, by the averaged weights."""
    task = job.task
    params, *_ = restore_params(folder, "ema")

    @jax.jit
    def losses(params, batch):
        image = task.image_losses(params, batch["to_image"])
        text, weights = task.text_losses(params, batch["to_text"])
        return jnp.sum(image, 1) + jnp.sum(text * weights, (1, 2))

    found = [losses(params, batch) for batch in job.eval_batches]
    return np.concatenate(found).tolist()


def after(points: Sequence[Mapping], updates: float) -> np.ndarray:
    """Losses of the held-out images after so many updates, not before the first."""
    ends = np.array([each["updates"] for each in points])
    values = np.array([each["losses"] for each in points])  # [points, images]
    last = min(int(np.searchsorted(ends, updates)), len(ends) - 1)
    if last == 0:
        return values[0]
    share = (updates - ends[last - 1]) / (ends[last] - ends[last - 1])
    return values[last - 1] + share * (values[last] - values[last - 1])


def comparison(runs: Mapping[str, Sequence[Sequence[Mapping]]], costs) -> list[dict]:
    """Rows of the table of a grid: after equal updates, and equal core-seconds.

    runs: of each form, by seed, the points. The form whose updates are cheaper has done
    all of them when the core-seconds are spent, the other a part.
    """
    total = runs["full"][0][-1]["updates"]
    done = {"updates": dict.fromkeys(FORMS, total)}
    done["core-seconds"] = updates_in_time(total, costs)
    rows = []
    for equal, updates in done.items():
        losses = {
            form: np.stack([after(points, updates[form]) for points in runs[form]])
            for form in FORMS
        }
        row = {"equal": equal, "updates": updates}
        row["loss"] = {form: float(values.mean()) for form, values in losses.items()}
        row["seeds"] = (losses["sparse"] - losses["full"]).mean(1).tolist()
        row["difference"] = seeds_interval(losses["sparse"] - losses["full"])
        rows.append(row)
    return rows


def updates_in_time(total: int, costs: Mapping[str, Mapping]) -> dict[str, float]:
    """Updates of each form when the cheaper one has done `total`."""
    seconds = {form: statistics.median(costs[form]["processor"]) for form in FORMS}
    least = min(seconds.values())
    return {form: total * least / own for form, own in seconds.items()}


def check_points(costs: Mapping[str, Mapping], args: argparse.Namespace) -> None:
    """UserError if equal core-seconds end before the first point of a form."""
    first = args.updates // args.points
    for form, updates in updates_in_time(args.updates, costs).items():
        if updates < first:
            raise UserError(
                f"{form} attention does {updates:.0f} updates in the core-seconds of "
                f"all, before the first point at {first}: choose another --out, with "
                "more --points"
            )


def main(argv: list[str] | None = None) -> None:
    """Trains what is missing, prints the tables and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", required=True, type=Path, help="folder of runs and results")
    add("--data", required=True, help="data set of shapes, of 256 px for 32 x 32 codes")
    add("--grids", type=int, nargs="+", default=[16, 32], help="codes a side (16 32)")
    add("--updates", type=int, default=1200, help="of each run (%(default)s)")
    add("--points", type=int, default=6, help="judged points of a run (%(default)s)")
    add("--seeds", type=int, default=3, help="runs of each form (%(default)s)")
    add("--rounds", type=int, default=5, help="timed updates of a form (%(default)s)")
    add("--nano", action="store_true", help="networks that learn nothing, 8 x 8 codes")
    args = parser.parse_args(argv)
    if args.nano:
        args.grids, args.updates, args.points, args.rounds = [8], 4, 2, 3
    check(args, parser)
    jax.config.update("jax_compilation_cache_dir", str(args.out / "compiled"))
    try:
        found = {grid: learning(grid, args) for grid in args.grids}
    except UserError as error:
        parser.error(str(error))
    for grid, each in found.items():
        show(grid, each["rows"])
    draw(found, args.out / "learning.png")
    write_atomic(args.out / "learning.json", json.dumps(found) + "\n")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses images that are too small, and a folder of other runs."""
    size, wanted = records.read_manifest(args.data).image_size, CODE * max(args.grids)
    if size < wanted:
        parser.error(
            f"{args.data} has images of {size} px, expected {wanted}: make them by "
            f"`cogjax data shapes --size {wanted}`"
        )
    same = "data", "updates", "points", "rounds", "nano"
    asked = {name: getattr(args, name) for name in same}
    if (had := once(args.out / "settings.json", lambda: asked)) != asked:
        parser.error(f"{args.out} has runs of {had}: choose another --out")
    for grid in args.grids:
        make = functools.partial(configs_digest, grid, args)
        if once(args.out / f"config-{grid}.json", make) != make():
            parser.error(
                f"{args.out} has runs of another config for {grid} x {grid} codes: "
                "choose another --out"
            )


def configs_digest(grid: int, args: argparse.Namespace) -> str:
    """sha256 of the configs of both forms, wherever data and results lie."""
    found = [settings(form, grid, 0, args) for form in FORMS]
    for config in found:
        config["data"] = {
            key: value
            for key, value in config["data"].items()
            if key not in ("path", "tokenizer")
        }
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def learning(grid: int, args: argparse.Namespace) -> dict[str, Any]:
    """{"cost", "runs": points by form and seed, "rows"} of a grid."""
    costs = once(args.out / f"cost-{grid}.json", lambda: cost(grid, args))
    check_points(costs, args)
    runs: dict[str, list] = {form: [] for form in FORMS}
    # A seed of both forms before the next: what is stopped is still a comparison.
    for seed in range(args.seeds):
        for form in FORMS:
            runs[form].append(train(form, grid, seed, args))
    return {"cost": costs, "runs": runs, "rows": comparison(runs, costs)}


def show(grid: int, rows: Sequence[Mapping]) -> None:
    """A Markdown table of held-out losses, nats an image."""
    print(f"\n| {grid} x {grid} codes | sparse | full | sparse less full | by seed |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        cells = [
            f"{row['loss'][form]:.2f} ({row['updates'][form]:.0f} updates)"
            for form in FORMS
        ]
        mean, low, high = row["difference"]
        seeds = ", ".join(f"{each:+.2f}" for each in row["seeds"])
        cells += [f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]", seeds]
        print("|", " | ".join([f"equal {row['equal']}", *cells]), "|")


def draw(learnt: Mapping[int, Mapping], path: Path) -> None:
    """Held-out loss of all seeds against updates, and against core-seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    count = len(learnt)
    figure, axes = pyplot.subplots(count, 2, figsize=(9, 3.5 * count), squeeze=False)
    for row, (grid, found) in zip(axes, learnt.items(), strict=True):
        for index, (form, runs) in enumerate(found["runs"].items()):
            seconds = statistics.median(found["cost"][form]["processor"])
            for seed, points in enumerate(runs):
                updates = np.array([each["updates"] for each in points])
                losses = [np.mean(each["losses"]) for each in points]
                label = form if seed == 0 else None
                for axis, scale in zip(row, (1, seconds), strict=True):
                    places = updates * scale
                    axis.plot(places, losses, color=f"C{index}", label=label)
        row[0].set(xlabel="updates", ylabel="held-out loss, nats an image")
        row[1].set(xlabel="core-seconds of updates")
        row[0].set(title=f"{grid} x {grid} codes")
        row[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
