"""Effect of sandwich-LN and PB-Relax on 16-bit training: CogView's Figure 3 as a toy.

    python experiments/cogview/stability.py --out runs/stability

CogView finds layer outputs of 10^4 and more in its deep model (section 2.4), and
provokes them in toys. Here 24 layers start so, by large output kernels, and learn to
draw rectangles from five words, with and without either remedy, in float32, bfloat16
and float16 under dynamic loss scaling. A seed gives the start and the data, the same
for all rows of the table. Writes stability.json and stability.png; finished runs are
not repeated. Time and results: docs/precision.md.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.errors import UserError
from cogjax.files import write_atomic
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.nn.block import Block, LayerInput
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.tasks.lm import LMTask
from cogjax.train.loop import TrainConfig, fit
from cogjax.train.optim import OptimConfig
from cogjax.train.session import Job

RECIPES = {
    "pre-LN, plain": {"sandwich": False, "alpha": 1.0, "norm_scope": "none"},
    "pre-LN, PB-Relax": {"sandwich": False},
    "sandwich-LN, plain": {"alpha": 1.0, "norm_scope": "none"},
    "sandwich-LN, PB-Relax": {},
}
DTYPES = ("float32", "bfloat16", "float16")
SIDE, NUM_CODES = 6, 16
BATCH, PROBE_EVERY, EVAL_EVERY, EVAL_BATCHES = 8, 5, 20, 16
LR, OUTPUTS = 3e-3, 2.0**17
LARGEST = float(np.finfo(np.float16).max)


def model(**recipe) -> ImageLMConfig:
    """24 layers of 64."""
    sizes = {"width": 64, "depth": 24, "heads": 2, "mlp_dim": 256, "dropout": 0.0}
    return ImageLMConfig(
        vocab_size=48, max_positions=5 + SIDE * SIDE, **sizes, **recipe
    )


def start_params(task: LMTask, seed: int):
    """Random parameters with output kernels 2^17 times as large as usual."""
    params = jax.jit(task.init)(jax.random.key(seed))[0]
    layers = dict(params["blocks"]["layers"])
    for name in ("attn_out", "mlp_out"):
        layers[name] = {**layers[name], "kernel": layers[name]["kernel"] * OUTPUTS}
    return {**params, "blocks": {"layers": layers}}


def batches(seed: int, step: int):
    """Rectangles from `step` on: 5 words (colour, edges), then 36 codes, 1 in 10 wrong.

    ids int32 [b, t]; codes are the ids below 16.
    """
    for index in itertools.count(step):
        rng = np.random.default_rng([seed, index])
        colour = rng.integers(1, NUM_CODES, BATCH)
        rows, columns = np.sort(rng.integers(0, SIDE, (2, BATCH, 2)))
        inside = _between(rows)[:, :, None] & _between(columns)[:, None, :]
        codes = np.where(inside, colour[:, None, None], 0)
        wrong = rng.random(codes.shape) < 0.1
        codes = np.where(wrong, rng.integers(0, NUM_CODES, codes.shape), codes)
        words = [16 + colour[:, None], 32 + rows, 32 + SIDE + columns]
        ids = np.concatenate([*words, codes.reshape(BATCH, -1)], 1).astype(np.int32)
        yield {"ids": ids, "weights": np.ones(ids.shape, np.float32)}


def _between(edges: np.ndarray) -> np.ndarray:
    """bool [b, side] of int [b, 2]."""
    places = np.arange(SIDE)
    return (places >= edges[:, :1]) & (places <= edges[:, 1:])


@dataclasses.dataclass
class Probe:
    """The hook that measures, in float32, the magnitudes in a forward pass.

    `peaks` has a row [step, {name: largest magnitude of each layer}] a call. Squares
    are those of a plain LayerNorm's variance.
    """

    config: ImageLMConfig
    seed: int
    peaks: list

    def __post_init__(self):
        config = self.config
        block = Block(
            heads=config.heads,
            head_dim=config.head_dim,
            mlp_dim=config.mlp_dim,
            init_depth=config.depth,
            sandwich=config.sandwich,
        )

        def layer(x, params):
            return _layer_peaks(block, params, x)

        def peaks(params, ids):
            x = params["token_embedding"][ids]
            x = x + params["position_embedding"][: ids.shape[1]]
            return jax.lax.scan(layer, x, params["blocks"]["layers"])[1]

        self._measure = jax.jit(peaks)

    def __call__(self, step, train_state, logger):
        del logger
        ids = next(batches(self.seed, step))["ids"][:, :-1]
        found = self._measure(train_state.params, ids)
        peaks = {name: np.asarray(v).tolist() for name, v in found.items()}
        self.peaks.append([step, peaks])

    def first_overflow(self) -> dict | None:
        """Step, layer (from 0) and tensor that first leave float16."""
        relaxed = self.config.norm_scope != "none"
        for step, peaks in self.peaks:
            for layer, name in itertools.product(range(self.config.depth), peaks):
                value = peaks[name][layer]
                # PB-Relax bounds the squares at 64, and divides scores by alpha.
                if relaxed and name.startswith("square"):
                    continue
                if name == "attention scores":
                    value /= self.config.alpha
                if not value <= LARGEST:
                    place = {"step": step, "layer": layer, "tensor": name}
                    return {**place, "value": value}
        return None


def _layer_peaks(block: Block, params, x):
    """(output of the layer, {name: largest magnitude})."""
    (y, _), kept = block.apply(
        {"params": params},
        x,
        LayerInput(),
        None,
        None,
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    out = {name: kept["intermediates"][name]["__call__"][0] for name in params}
    query, key = out["qkv"][:, :, 0], out["qkv"][:, :, 1]
    scores = jnp.einsum("btnh,bsnh->bnts", query, key) / query.shape[-1] ** 0.5
    peaks = {
        "squares in pre_attn_norm": _squares(x),
        "attention scores": scores,
        "attention output": out["attn_out"],
        "squares in post_attn_norm": _squares(out["attn_out"]),
        "squares in pre_mlp_norm": _squares(y - out["mlp_out"]),
        "MLP output": out["mlp_out"],
        "squares in post_mlp_norm": _squares(out["mlp_out"]),
        "main branch": y,
    }
    if block.sandwich:
        peaks["squares in pre_mlp_norm"] = _squares(y - out["post_mlp_norm"])
    else:
        peaks = {name: v for name, v in peaks.items() if "post_" not in name}
    return y, {name: jnp.max(jnp.abs(v)) for name, v in peaks.items()}


def _squares(x):
    return jnp.square(x - jnp.mean(x, axis=-1, keepdims=True))


def run(recipe: str, dtype: str, seed: int, folder: Path, steps: int) -> dict:
    """Trains one cell of the table once, or reads its earlier result."""
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    config = model(dtype=dtype, **RECIPES[recipe])
    train = TrainConfig(
        steps=steps,
        batch_size=BATCH,
        ema_decay=0.9,
        log_every=EVAL_EVERY,
        eval_every=EVAL_EVERY,
        save_every=steps,
        sample_every=0,
    )
    optim = OptimConfig(lr=LR, warmup=10)
    probe, stopped = Probe(config, seed, []), None
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    held_out = list(itertools.islice(batches(seed, 10**6), EVAL_BATCHES))
    task = LMTask(config, NUM_CODES)
    job = Job(
        task,
        functools.partial(batches, seed),
        held_out,
        hooks=((PROBE_EVERY, probe),),
        start_params=start_params(task, seed),
    )
    try:
        fit(job, train, optim, mesh, folder)
    except UserError as error:
        stopped = str(error)
    found = {
        "curve": _curve(folder / "metrics.jsonl"),
        "stopped": stopped,
        "overflow": probe.first_overflow(),
        "peaks": probe.peaks,
    }
    write_atomic(result, json.dumps(found) + "\n")
    return found


def _curve(path: Path) -> list:
    """[step, loss on held-out rectangles] of the moving average of the weights."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [[row["step"], row["eval/loss"]] for row in rows if "eval/loss" in row]


def main(argv: list[str] | None = None) -> None:
    """Trains the missing runs, prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--steps", type=int, default=200, help="of each run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row")
    args = parser.parse_args(argv)
    # The seeds of a row share their program: compiling takes as long as training.
    jax.config.update("jax_compilation_cache_dir", str(args.out / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    found = {(recipe, dtype): [] for recipe in reversed(RECIPES) for dtype in DTYPES}
    for seed, (recipe, dtype) in itertools.product(range(args.seeds), found):
        name = f"{recipe} {dtype} {seed}".replace(", ", "-").replace(" ", "-")
        result = run(recipe, dtype, seed, args.out / name, args.steps)
        found[recipe, dtype].append(result)
    _print(found)
    _draw(found, args.out / "stability.png")
    named = {" ".join(key): value for key, value in found.items()}
    write_atomic(args.out / "stability.json", json.dumps(named) + "\n")


def _print(found: dict) -> None:
    """A Markdown table: final losses of the seeds, first tensor beyond float16."""
    print("| recipe | numbers | final loss | of float32 | outside float16 first |")
    print("| --- | --- | --- | --- | --- |")
    for (recipe, dtype), results in found.items():
        exact = [_last(result) for result in found[recipe, "float32"]]
        losses = [_last(result) for result in results]
        ratios = [loss / wanted for loss, wanted in zip(losses, exact, strict=True)]
        cells = [recipe, dtype, _spread(losses), _spread(ratios), _place(results[0])]
        print("|", " | ".join(cells), "|")


def _last(result: dict) -> float:
    """The last held-out loss; infinite for a run that stopped before its end."""
    return float("inf") if result["stopped"] else result["curve"][-1][1]


def _spread(values: list[float]) -> str:
    """The mean, then each value."""
    each = ", ".join(f"{value:.3f}" for value in values)
    return f"{np.mean(values):.3f} ({each})"


def _place(result: dict) -> str:
    if not result["overflow"]:
        return "nothing"
    return "{tensor} of layer {layer}, step {step}".format(**result["overflow"])


def _draw(found: dict, path: Path) -> None:
    """Seed 0, a panel a recipe: held-out loss above, magnitudes below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 4, figsize=(14, 6), sharex=True, sharey="row")
    for (recipe, dtype), (result, *_) in found.items():
        above, below = axes[:, list(RECIPES).index(recipe)]
        above.set_title(recipe)
        above.plot(*zip(*result["curve"], strict=True), label=dtype)
        if dtype == "float16":
            steps = [step for step, _ in result["peaks"]]
            for name in ("main branch", "attention scores", "MLP output"):
                peaks = [max(of[name]) for _, of in result["peaks"]]
                below.plot(steps, peaks, label=name)
            below.axhline(LARGEST**0.5, color="grey", linestyle=":")
            below.axhline(LARGEST, color="grey")
    axes[0, 0].set(ylabel="held-out loss")
    axes[1, 0].set(ylabel="largest magnitude, float16 run", yscale="log")
    for row in axes:
        row[0].legend()
    for axis in axes[1]:
        axis.set_xlabel("step")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
