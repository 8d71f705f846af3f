"""Ways to train the codebook, compared as in CogView's Figure 2, and FSQ.

    cogjax data emoji --out data/emoji32 --size 32 --no-flags
    python experiments/cogview/tokenizer_methods.py --data data/emoji32 --out runs/vq4

Writes figure.png (reconstruction L2 on held-out concepts against steps, one curve a
method) and figure.json with the final values. Hardware, time and the values reached are
in experiments/README.md. One method alone:

    cogjax train --config experiments/cogview/tokenizer_methods.py:gumbel ...
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import ml_collections

from cogjax.families.cogview.presets import TOKENIZERS
from cogjax.tasks.codebook import METHODS

MODEL = dataclasses.replace(
    TOKENIZERS["px64"],
    image_size=32,
    widths=(24, 96),
    code_dim=16,
    codebook_size=512,
    res_width=48,
)


def get_config(arg: str = "ema") -> ml_collections.ConfigDict:
    """`arg` is a codebook method: ema, straight_through, gumbel, fixed or fsq."""
    if arg not in METHODS:
        raise ValueError(f"the method is {arg!r}, expected one of {METHODS}")
    config = ml_collections.ConfigDict()
    config.task = {"name": "vq", "method": arg, "anneal_steps": 1500}
    config.model = dataclasses.asdict(MODEL)
    if arg == "fsq":
        config.task["levels"] = (8, 8, 8)
        config.model["code_dim"] = 3
    config.data = {"path": "data/emoji32"}
    config.optim = {"lr": 2e-3, "warmup": 100, "weight_decay": 0.0, "b2": 0.99}
    config.mesh = {}
    config.train = {
        "steps": 2000,
        "batch_size": 32,
        "ema_decay": 0.99,
        "log_every": 50,
        "save_every": 500,
        "eval_every": 50,
        "sample_every": 1000,
    }
    config.eval = {"batches": 8}
    return config


def main(argv: list[str] | None = None) -> None:
    """Trains the missing methods and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="data set folder, 32 px")
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--steps", type=int, default=2000, help="of each method")
    args = parser.parse_args(argv)
    from cogjax.stages import run as launch

    curves = {}
    for method in METHODS:
        config = get_config(method).to_dict()
        config["data"]["path"] = args.data
        config["train"]["steps"] = args.steps
        config["task"]["anneal_steps"] = args.steps * 3 // 4
        launch.train(config, args.out / method)
        curves[method] = _curve(args.out / method / "metrics.jsonl")
    _draw(curves, args.out / "figure.png")
    final = {method: points[-1][1] for method, points in curves.items()}
    (args.out / "figure.json").write_text(json.dumps(final, indent=2) + "\n")
    best = min(final.values())
    for method, value in final.items():
        print(f"{method:18} final L2 {value:.5f}  {value / best:.2f} x the best")


def _curve(path: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["step"], row["eval/l2"]) for row in rows if "eval/l2" in row]


def _draw(curves: dict[str, list[tuple[int, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for method, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=method.replace("_", " "))
    axes.set(xlabel="step", ylabel="reconstruction L2, held-out concepts", yscale="log")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
