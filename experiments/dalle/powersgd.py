"""PowerSGD beside exact sums: a small transformer on four virtual devices.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 JAX_PLATFORMS=cpu \\
        python experiments/dalle/powersgd.py --out runs/powersgd

Ids follow from the two before by a random rule, with noise. All runs see the
same batches.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np

from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.parallel.powersgd import PowerSGD, count_bytes
from cogjax.tasks.lm import LMTask
from cogjax.train.compression import compressed_matrices
from cogjax.train.loop import TrainConfig, fit
from cogjax.train.optim import OptimConfig
from cogjax.train.session import Job

IDS, LENGTH, BATCH = 64, 17, 32
NETWORK = ImageLMConfig(
    vocab_size=IDS,
    width=64,
    depth=2,
    heads=2,
    mlp_dim=256,
    max_positions=LENGTH - 1,
    dropout=0.0,
    unroll=2,
)
RUNS = {
    "exact sums": PowerSGD(),
    "warm, rank 16, 16 bits": PowerSGD(rank=16, bits=16),
    "fixed, rank 16, 16 bits": PowerSGD(rank=16, basis="fixed", bits=16),
    "warm, rank 4": PowerSGD(rank=4),
    "fixed, rank 4": PowerSGD(rank=4, basis="fixed"),
    "warm, rank 4, no errors kept": PowerSGD(rank=4, feedback=False),
    "fixed, rank 4, no errors kept": PowerSGD(rank=4, basis="fixed", feedback=False),
}
# By the id two places before, modulo 8, and the last one: what follows in 9 of 10.
RULE = np.random.default_rng(0).integers(0, IDS, (8, IDS))


def make_batch(seed: int) -> dict[str, np.ndarray]:
    """Ids and weights [b, t]."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, IDS, (BATCH, LENGTH))
    follows = rng.uniform(size=ids.shape) < 0.9
    for i in range(2, LENGTH):
        ruled = RULE[ids[:, i - 2] % 8, ids[:, i - 1]]
        ids[:, i] = np.where(follows[:, i], ruled, ids[:, i])
    return {"ids": ids.astype(np.int32), "weights": np.ones(ids.shape, np.float32)}


def batches(start: int):
    """Batches from a step on."""
    while True:
        yield make_batch(start)
        start += 1


def folder_of(name: str) -> str:
    """Name of the folder of one of the runs."""
    return name.replace(", ", "-").replace(" ", "_")


def held_out_loss(workdir: Path) -> float:
    """The last one that a run has written, nats."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [row["eval/loss"] for row in rows if "eval/loss" in row][-1]


def main() -> None:
    """Trains each of RUNS and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    task, mesh = LMTask(NETWORK, IDS), make_mesh(MeshConfig())
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    held_out = [make_batch(10**6 + i) for i in range(4)]
    job = Job(task, batches, eval_batches=held_out)
    train = TrainConfig(args.steps, BATCH, eval_every=args.steps, ema_decay=0.9)
    print("| run | bytes summed | held-out loss |\n| --- | --- | --- |")
    for name, config in RUNS.items():
        workdir = args.out / folder_of(name)
        optim = OptimConfig(lr=3e-3, powersgd=config)
        fit(job, train, optim, mesh, workdir)
        matrices = compressed_matrices(config, task) if config.rank else {}
        sent = count_bytes(config, matrices, params)
        share = sent.compressed / sent.exact
        print(f"| {name} | {share:.0%} | {held_out_loss(workdir):.3f} |", flush=True)


if __name__ == "__main__":
    main()
