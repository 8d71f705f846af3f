"""CogView's Figure 9 on `icons`: quality against N, by caption loss and by CLIP.

    python experiments/clip/rerank_icons.py runs/lm/export --data data/icons \\
        --out runs/rerank-icons --n 500

The model generates 16 images of each prompt of a split. They are chosen by its own
caption loss, as CogView does, and by the shipped `clip-icons`, as DALL-E does. Both
choose among the same images. Judged are alignment, as the share whose concept two
networks find among the five nearest, the style, and the Frechet distance (FD) of
EfficientNet's features to the real images of the prompts. Prints a table, and writes
rerank.json and rerank.png. Generated images are kept in --out, which another model may
not use.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import cogjax
from cogjax.data.records import Example
from cogjax.errors import UserError
from cogjax.evaluate.judges import labelled
from cogjax.evaluate.judges.icons import IconJudges
from cogjax.evaluate.metrics.frechet import Moments, frechet_distance
from cogjax.evaluate.suites.cache import CachedModel, model_digest, open_folder
from cogjax.evaluate.suites.icons import make_judges, prompt
from cogjax.evaluate.suites.run import decoded, generate_codes, score_captions
from cogjax.evaluate.suites.shapes import clip_losses
from cogjax.files import write_atomic
from cogjax.model_folder import find
from cogjax.worlds.icons.splits import SPLITS

FIGURES = ("concept_top5_both", "style")


def progress(done: int, total: int, label: str) -> None:
    """One line that is written over."""
    print(f"\r{label}: {done} of {total}  ", end="", flush=True)


def parted(values: np.ndarray, k: int) -> np.ndarray:
    """[p, g, ...] -> [p, g // k, k, ...]: groups that an image is chosen of."""
    groups = values.shape[1] // k
    return values[:, : groups * k].reshape(-1, groups, k, *values.shape[2:])


def best_of(values: np.ndarray, losses: np.ndarray, k: int) -> np.ndarray:
    """The value [p, g, ...] of the lowest loss of each group: [p, g // k, ...]."""
    best = parted(losses, k).argmin(-1)
    rows, groups = np.indices(best.shape)
    return parted(values, k)[rows, groups, best]


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, 95 % interval) of [p, g], a bootstrap over prompts; NaN is left out."""
    means = np.nanmean(values[~np.isnan(values).all(1)], axis=1)
    rng = np.random.default_rng(0)
    draws = means[rng.integers(len(means), size=(4000, len(means)))].mean(1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(means.mean()), float(low), float(high)


def distance(features: np.ndarray, real: Moments) -> float:
    """Mean FD of groups of images [p, g, d], all of p images, so biased alike."""
    each = [Moments.of(features[:, i]) for i in range(features.shape[1])]
    own = real.mean, real.covariance
    return float(np.mean([frechet_distance(x.mean, x.covariance, *own) for x in each]))


def curve(found: Mapping, losses: np.ndarray, real: Moments) -> list[dict]:
    """Figures of the best of 1, 2, 4 and so on by losses [p, g]."""
    rows, k = [], 1
    while k <= losses.shape[1]:
        row = {"best_of": k}
        for name in FIGURES:
            row[name] = interval(best_of(found[name], losses, k))
        row["fd"] = distance(best_of(found["features"], losses, k), real)
        rows.append(row)
        k *= 2
    return rows


def judged(
    judges: IconJudges, images: np.ndarray, examples: Sequence[Example]
) -> dict[str, np.ndarray]:
    """Hits [p, g] and features [p, g, d] of images uint8 [p, g, y, x, 3]."""
    hits: dict[str, list] = {name: [] for name in (*FIGURES, "features")}
    extract = judges.features["efflite0"]
    for i, (row, example) in enumerate(zip(images, examples, strict=True)):
        progress(i, len(images), "judging")
        own = judges.hits(row, [example] * len(row))
        for name in FIGURES:
            hits[name].append(own[name])
        hits["features"].append(extract(row))
    return {name: np.stack(values) for name, values in hits.items()}


def measure(model, clip, args: argparse.Namespace) -> dict:
    """Curves by both rerankers on the same images."""
    splits = labelled.load(args.data, SPLITS)
    judges = make_judges([e for split in splits.values() for e in split], progress)
    rng = np.random.default_rng(0)
    examples = labelled.pick(splits[args.split], args.n, rng)
    pairs = zip(examples, labelled.alternate(examples), strict=True)
    texts = [prompt(example, language, rng) for example, language in pairs]
    held = CachedModel(model, args.out / "images")
    codes = generate_codes(held, texts, args.best_of, 0, progress=progress)
    losses = {"caption loss": score_captions(held, texts, codes, progress=progress)}
    losses["CLIP"] = clip_losses(clip, held, texts, codes, progress)
    images = decoded(held, codes)
    found = judged(judges, images, examples)
    shown = labelled.pixels_of(examples, images.shape[-2])
    real = Moments.of(judges.features["efflite0"](shown))
    best = [each.argmin(1) for each in losses.values()]
    return {
        "prompts": len(texts),
        "split": args.split,
        "curves": {name: curve(found, x, real) for name, x in losses.items()},
        "same_image": float(np.mean(best[0] == best[1])),
    }


def show(found: Mapping) -> None:
    """A Markdown table."""
    print("\n| best of | by | concept, top 5 | style | FD |")
    print("| --- | --- | --- | --- | --- |")
    for rows in zip(*found["curves"].values(), strict=True):
        for by, row in zip(found["curves"], rows, strict=True):
            cells = [
                f"{100 * mean:.1f} % [{100 * low:.0f}, {100 * high:.0f}]"
                for mean, low, high in (row[name] for name in FIGURES)
            ]
            print(f"| {row['best_of']} | {by} |", " | ".join(cells), end=" | ")
            print(f"{row['fd']:.3f} |")
    print(f"same image {found['same_image']:.1%}, {found['prompts']} prompts")


def draw(found: Mapping, path: Path) -> None:
    """Alignment and FD against N."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6))
    for name, rows in found["curves"].items():
        sizes = [row["best_of"] for row in rows]
        mean, low, high = zip(*(row[FIGURES[0]] for row in rows), strict=True)
        axes[0].plot(sizes, mean, marker="o", label=name)
        axes[0].fill_between(sizes, low, high, alpha=0.2)
        axes[1].plot(sizes, [row["fd"] for row in rows], marker="o", label=name)
    for axis, label in zip(axes, ("concept found, top 5", "FD"), strict=True):
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.set(xlabel="images to choose from, N", ylabel=label)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Generates, judges, prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("model", help="shipped name or folder of a model that draws icons")
    add("--data", required=True, help="a set of `cogjax data icons`")
    add("--out", type=Path, required=True, help="folder of the results")
    add("--n", type=int, default=500, help="prompts (%(default)s)")
    add("--best-of", type=int, default=16, help="images a prompt (%(default)s)")
    add("--split", default="pairs", choices=SPLITS, help="of prompts (%(default)s)")
    args = parser.parse_args()
    try:
        open_folder(args.out, {"model_digest": model_digest(find(args.model))})
        (args.out / "images").mkdir(exist_ok=True)
        found = measure(cogjax.load(args.model), cogjax.load("clip-icons"), args)
    except UserError as error:
        parser.error(str(error))
    write_atomic(args.out / "rerank.json", json.dumps(found, indent=1) + "\n")
    show(found)
    draw(found, args.out / "rerank.png")


if __name__ == "__main__":
    main()
