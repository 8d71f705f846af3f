"""What the comparisons of Imagen's choices share: arms, seeds, the judge, the page.

An arm is a config that differs in one thing. Every arm has a run a seed, all of the
same images; the oracle judges the same prompts. What is there is not trained or judged
again: the same command goes on after a stop, also with more seeds.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cogjax import config as configs
from cogjax.data.images import decode_image, encode_png
from cogjax.evaluate.judges.compositional import Prompt, judge, make_prompts
from cogjax.evaluate.metrics.intervals import seeds_interval
from cogjax.files import once, write_atomic
from cogjax.stages import run as launch
from cogjax.worlds.shapes.dataset import sample_scene_for
from cogjax.worlds.shapes.scenes import render

HERE = Path(__file__).parent
LEAST_CEILING = 0.95
# A U-Net and an Efficient U-Net of --nano, of 32 and 64 px.
_EMBED = {"model.embed": 16, "model.groups": 4}
NANO_BASE = _EMBED | {"model.width": 8, "model.multipliers": "1,1,2"}
NANO_BASE |= {"model.head_dim": 8, "model.res_blocks": 1, "model.attention": "16,"}
NANO_SUPER = _EMBED | {"model.widths": "8,16", "model.blocks": "1,1", "model.heads": 2}
_JUDGED = 32  # prompts whose images are in memory at once


def make_parser(about: str, images: int) -> argparse.ArgumentParser:
    """The arguments of all comparisons; images: that a run of an arm sees."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    add = parser.add_argument
    add("--out", required=True, type=Path, help="folder of runs and results")
    add("--data", required=True, help="data set of shapes")
    add("--images", type=int, default=images, help="that each run sees (%(default)s)")
    add("--seeds", type=int, default=3, help="runs of each arm (%(default)s)")
    add("--n", type=int, default=400, help="prompts (%(default)s)")
    add("--num-images", type=int, default=2, help="of each prompt (%(default)s)")
    add("--nano", action="store_true", help="networks that learn nothing")
    return parser


def begin(args: argparse.Namespace) -> None:
    """Refuses a folder of a comparison with other settings."""
    asked = {k: str(v) for k, v in vars(args).items() if k not in ("out", "seeds")}
    if (had := once(args.out / "settings.json", lambda: asked)) != asked:
        raise SystemExit(f"{args.out} is of {had}: choose another --out")
    jax.config.update("jax_compilation_cache_dir", str(args.out / "compiled"))


def train(spec: str, values: Mapping[str, Any], workdir: Path) -> Path:
    """Trains a config of this folder, or goes on with it; gives the model's folder."""
    words = [f"--config.{key}={value}" for key, value in values.items()]
    return launch.train(configs.load(f"{HERE}/{spec}", words), workdir)


def prompts_of(args: argparse.Namespace, language: str = "") -> list[Prompt]:
    """The prompts that are judged, of one language or all."""
    found = make_prompts(args.n * (2 if language else 1))
    return [each for each in found if language in ("", each.language)]


def parts_of(prompts: Sequence[Prompt]) -> list[Sequence[Prompt]]:
    """The prompts of which all images are in memory at once."""
    starts = range(0, len(prompts), _JUDGED)
    return [prompts[start : start + _JUDGED] for start in starts]


def right(model, prompts: Sequence[Prompt], num_images: int, **settings) -> list[float]:
    """Share of right images of each prompt."""
    found: list[float] = []
    for part in parts_of(prompts):
        captions = [each.caption for each in part]
        pixels = model.generate(captions, num_images=num_images, **settings).pixels
        found += judge(part, pixels).right.mean(1).tolist()
    return found


def ceiling(prompts: Sequence[Prompt], size: int) -> float:
    """Share of renders of the requests that are right at `size` pixels, made smaller as
    a run makes them."""
    images = []
    for index, prompt in enumerate(prompts):
        scene = sample_scene_for(prompt.request, np.random.default_rng([1, index]))
        images.append(decode_image(encode_png(render(scene, 64)), size))
    return float(judge(prompts, np.stack(images)[:, None]).right.mean())


def check_ceiling(args: argparse.Namespace, size: int) -> float:
    """Prints the ceiling and ends where the judge could not tell arms apart."""
    found = once(
        args.out / f"ceiling-{size}.json", lambda: ceiling(prompts_of(args), size)
    )
    print(f"renders at {size} px: {found:.1%} right", flush=True)
    if found < LEAST_CEILING:
        raise SystemExit(f"that is below {LEAST_CEILING:.0%}: take larger images")
    return found


def rows_of(
    found: Mapping[str, Sequence[Sequence[float]]], reference: str
) -> list[dict[str, Any]]:
    """Rows of the table; found: of each arm, by seed, the shares of the prompts.

    shows_from: the difference that would be found with a power of 80 %: 2.8 standard
    errors of the difference to the reference, both of seeds and of prompts.
    """
    rows, first = [], np.array(found[reference])
    for name, values in found.items():
        shares = np.array(values)  # [seeds, prompts]
        row = {"arm": name, "right": seeds_interval(shares)}
        row["seeds"] = shares.mean(1).tolist()
        if name != reference:
            row["difference"] = seeds_interval(shares - first)
            _, low, high = row["difference"]
            row["shows_from"] = 2.8 * (high - low) / (2 * 1.96)
        rows.append(row)
    return rows


def show(rows: Sequence[Mapping[str, Any]], reference: str) -> str:
    """A Markdown table of `rows_of`."""
    lines = [
        f"| arm | exactly right | by seed | less {reference} | shows from |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        seeds = ", ".join(f"{100 * x:.1f}" for x in row["seeds"])
        cells = [row["arm"], points(row["right"]), seeds, "", ""]
        if "difference" in row:
            cells[3:] = points(row["difference"], "+"), f"{100 * row['shows_from']:.1f}"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def points(found: Sequence[float], sign: str = "") -> str:
    """A mean and its interval, in per cent."""
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in found)
    return f"{mean} [{low}, {high}]"


def page(out: Path, title: str, parts: Mapping[str, Any], notes: Sequence[str]) -> None:
    """Writes results.json and the page of the comparison, and prints it.

    parts: rows by the name of a table's reference.
    """
    tables = [show(rows, reference) for reference, rows in parts.items()]
    text = "\n\n".join([f"# {title}", *notes, *tables]) + "\n"
    write_atomic(out / "results.json", json.dumps(parts, indent=2) + "\n")
    write_atomic(out / "page.md", text)
    print(text)


def curves(path: Path, lines: Mapping[str, Sequence[Sequence[float]]], labels) -> None:
    """Draws lines {name: (x, y)}; labels: of the axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4))
    for name, (x, y) in lines.items():
        axis.plot(x, y, marker="o", label=name)
    axis.set(xlabel=labels[0], ylabel=labels[1])
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def bars(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws the shares of the arms with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 0.5 * len(rows) + 1.2))
    means, low, high = np.array([row["right"] for row in rows]).T
    places = np.arange(len(rows))
    axis.barh(places, means, xerr=np.abs([means - low, high - means]), capsize=3)
    axis.set_yticks(places, [row["arm"] for row in rows])
    axis.invert_yaxis()
    axis.set(xlabel="exactly right", xlim=(0, 1))
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def steps_of(args: argparse.Namespace, batch: int = 16) -> int:
    """Steps in which a run sees the images."""
    return 4 if args.nano else math.ceil(args.images / batch)
