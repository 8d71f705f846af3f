"""DALL-E's Figure 9c on the world of shapes: quality against N, by two rerankers.

    python experiments/clip/rerank.py --out runs/rerank

The shipped `shapes` generates 16 images of each prompt. They are chosen by its own
caption loss, as CogView does, and by the shipped `clip-shapes`, as DALL-E does. Both
choose among the same images, and the exact oracle judges. Prints best of N by each,
whether any image of the N is right, the paired gain over best of 1 (bootstrap over the
prompts), and how often both choose the same image, or one of the same verdict. Writes
rerank.json and rerank.png. Generated images are kept in --out.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import cogjax
from cogjax.evaluate.judges.compositional import Judged, make_prompts
from cogjax.evaluate.suites.cache import CachedModel
from cogjax.evaluate.suites.run import generate_codes, score_captions
from cogjax.evaluate.suites.shapes import clip_losses, judge_codes, rerank_curve

BEST_OF = 16


def progress(done: int, total: int, label: str) -> None:
    """One line that is written over."""
    print(f"\r{label}: {done} of {total}  ", end="", flush=True)


def candidates(n: int, out: Path) -> tuple[Judged, dict[str, np.ndarray]]:
    """Verdicts of [p, 16] images; what each reranker chooses by, lower is better."""
    prompts = make_prompts(n, seed=0, unseen=False)
    captions = [prompt.caption for prompt in prompts]
    (out / "images").mkdir(parents=True, exist_ok=True)
    model = CachedModel(cogjax.load("shapes"), out / "images")
    codes = generate_codes(model, captions, BEST_OF, 0, progress=progress)
    judged = judge_codes(model, prompts, codes, "judging", progress)
    own = score_captions(model, captions, codes, progress=progress)
    clip = cogjax.load("clip-shapes")
    others = clip_losses(clip, model, captions, codes, progress)
    return judged, {"caption loss": own, "CLIP": others}


def gain(right: np.ndarray, losses: np.ndarray) -> tuple[float, float, float]:
    """Best of 16 less best of 1 in points: (mean, 95 % interval over prompts)."""
    chosen = np.take_along_axis(right, losses.argmin(1)[:, None], 1)[:, 0]
    difference = 100 * (chosen - right.mean(1))  # [p]
    rng = np.random.default_rng(0)
    draws = rng.integers(len(difference), size=(4000, len(difference)))
    low, high = np.quantile(difference[draws].mean(1), (0.025, 0.975))
    return float(difference.mean()), float(low), float(high)


def summary(judged: Judged, losses: Mapping[str, np.ndarray]) -> dict:
    """Curves, gains and agreement."""
    best = [each.argmin(1) for each in losses.values()]
    verdicts = [judged.right[np.arange(len(each)), each] for each in best]
    return {
        "prompts": len(judged.prompts),
        "curves": {k: rerank_curve(judged, v, BEST_OF) for k, v in losses.items()},
        "gain": {k: gain(judged.right, v) for k, v in losses.items()},
        "same_image": float(np.mean(best[0] == best[1])),
        "same_verdict": float(np.mean(verdicts[0] == verdicts[1])),
    }


def show(found: Mapping) -> None:
    """A Markdown table."""
    print()
    names, curves = list(found["curves"]), list(found["curves"].values())
    print("| best of |", " | ".join(names), "| any right |")
    print("| --- " * (len(names) + 2) + "|")
    for rows in zip(*curves, strict=True):
        cells = [
            f"{100 * row['overall']:.1f} % [{100 * row['interval'][0]:.0f}, "
            f"{100 * row['interval'][1]:.0f}]"
            for row in rows
        ]
        print(f"| {rows[0]['best_of']} |", " | ".join(cells), end=" | ")
        print(f"{100 * rows[0]['any']:.1f} % |")
    for name, (mean, low, high) in found["gain"].items():
        print(
            f"{name}: best of {BEST_OF} gains {mean:.1f} points [{low:.1f}, {high:.1f}]"
        )
    print(f"same image {found['same_image']:.1%}, same verdict", end=" ")
    print(f"{found['same_verdict']:.1%}, {found['prompts']} prompts")


def draw(found: Mapping, path: Path) -> None:
    """Right images against N."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5, 3.6))
    for name, rows in found["curves"].items():
        sizes = [row["best_of"] for row in rows]
        axis.plot(sizes, [row["overall"] for row in rows], marker="o", label=name)
        low, high = zip(*(row["interval"] for row in rows), strict=True)
        axis.fill_between(sizes, low, high, alpha=0.2)
    axis.plot(sizes, [row["any"] for row in rows], "k--", label="any of N is right")
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set(xlabel="images to choose from, N", ylabel="exactly right")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Generates, judges, prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--n", type=int, default=1000, help="prompts (%(default)s)")
    args = parser.parse_args()
    found = summary(*candidates(args.n, args.out))
    show(found)
    draw(found, args.out / "rerank.png")
    (args.out / "rerank.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
