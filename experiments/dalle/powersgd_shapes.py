"""PowerSGD beside exact sums: DALL-E on the world of shapes, four virtual devices.

    cogjax data shapes --out data/easy --n 80000 --easy
    XLA_FLAGS=--xla_force_host_platform_device_count=4 JAX_PLATFORMS=cpu \\
        python experiments/dalle/powersgd_shapes.py --data data/easy --out runs/powersgd

The transformer of `dalle/shapes.py`, with the codes and pieces of the shipped `shapes`
and the paper's optimiser. The paper sums 14 % of the bytes (appendix E). Rank 46 in 16
bits sums 16 % of those of the kernels, 88 % of this small network.
All runs of a seed see the same batches. Prints the held-out loss of each run and the
relative difference to exact sums of the same seed, with the interval of the mean over
seeds (Student's t). What is there is not trained again.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from cogjax.experiments.dalle.powersgd import folder_of, held_out_loss
from cogjax.experiments.dalle.small_dalle import PAPER_OPTIM

from cogjax import config as configs
from cogjax.stages import run as launch

CONFIG = Path(__file__).parent / "shapes.py"
RUNS = {
    "exact sums": {},
    "rank 46, 16 bits": {"rank": 46, "bits": 16},
    "rank 46, 16 bits, no errors kept": {"rank": 46, "bits": 16, "feedback": False},
}
T_95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}  # by the number of seeds


def loss_of(name: str, seed: int, args: argparse.Namespace) -> float:
    """The held-out loss at the end of a run, nats; trains it unless it is there."""
    workdir = args.out / f"{folder_of(name)}-{seed}"
    values = {
        "data.path": args.data,
        "data.tokenizer": "shapes",
        "data.text": "shapes",
        "model.depth": 6,
        "model.unroll": 6,
        "mesh.data": 4,
        "train.seed": seed,
        "train.steps": args.steps,
        "train.eval_every": args.steps,
        "train.sample_every": 0,
        "eval.batches": 32,
    }
    values |= {f"optim.{key}": value for key, value in PAPER_OPTIM.items()}
    values |= {f"optim.powersgd.{key}": value for key, value in RUNS[name].items()}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    launch.train(configs.load(f"{CONFIG}:transformer", words), workdir)
    return held_out_loss(workdir)


def main() -> None:
    """Trains what is missing and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--data", required=True, help="data set of shapes")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3, choices=T_95)
    args = parser.parse_args()
    losses: dict[str, list[float]] = {name: [] for name in RUNS}
    for seed in range(args.seeds):
        for name, found in losses.items():
            found.append(loss_of(name, seed, args))
            print(f"seed {seed}, {name}: {found[-1]:.4f}", flush=True)
    print("| run | held-out loss, by seed | above exact sums |\n| --- | --- | --- |")
    exact = np.array(losses["exact sums"])
    for name, found in losses.items():
        above = 100 * (np.array(found) / exact - 1)
        half = T_95[args.seeds] * above.std(ddof=1) / math.sqrt(args.seeds)
        mean, low, high = (above.mean() + x for x in (0, -half, half))
        row = f"{', '.join(f'{x:.4f}' for x in found)} | {mean:+.2f} % "
        print(f"| {name} | {row}[{low:.2f}, {high:.2f}] |")


if __name__ == "__main__":
    main()
