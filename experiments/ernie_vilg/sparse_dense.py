"""ERNIE-ViLG's sparse layers against full attention: speed and memory.

    python experiments/ernie_vilg/sparse_dense.py --out runs/sparse_dense

The paper (section 3.1) finds its rows, columns and windows 25 % faster to train, in
half the memory, and of the same convergence, which sparse_learning.py compares.
Measured here, the same network both ways:

1. An update, a forward pass and the sampling of codes, 6 layers of 512 over 32 x 32
   codes, in turns in one process; processor seconds too, which other work on the
   machine does not lengthen. Scratch memory is what XLA plans for the same programs.
2. A chip's memory for the paper's 10B step, compiled for a TPU pod (needs libtpu).

Writes sparse_dense.json, sparse_dense.png and prints a table. Finished measurements are
not repeated. Time and results: docs/ernie_vilg.md.
"""

import argparse
import dataclasses
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cogjax import config as configs
from cogjax.bench import compiled_update
from cogjax.data.sequences import Prompts
from cogjax.data.vocab import Vocab
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.families.ernie_vilg.bidirectional import TwoWayTask
from cogjax.families.ernie_vilg.layout import TwoWayLayout
from cogjax.files import once, write_atomic
from cogjax.models.image_lm import ImageLM
from cogjax.models.inference import for_inference, scoring
from cogjax.plan import training as planning
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    Sampler,
    advance,
    compiler_options,
    image_keys,
    prefill,
)
from cogjax.train.optim import OptimConfig

FORMS = ("sparse", "full")
HERE = Path(__file__).parent
LAYOUT = TwoWayLayout(Vocab(8192, 8000), text_len=63, image_len=1024)
SAMPLED, IMAGES = 64, 4
STEP_TIMES = {
    "step_seconds": "time of the 10B step, if all overlaps",
    "step_seconds_serial": "the same if nothing does",
}
PARTS = {"update": "an update", "forward": "a forward pass", "sample": "sampling codes"}


def network(form: str, **sizes: Any):
    """The timed network: the paper's kinds of layers, or full attention in all."""
    sizes = {"width": 512, "depth": 6, "heads": 8, "unroll": 6} | sizes
    config = ernie_vilg.TransformerConfig(
        **sizes, dropout=0.0, text_len=LAYOUT.text_len, attention=form
    )
    return ernie_vilg.make_transformer(config, LAYOUT)


def batch(size: int) -> dict[str, jax.Array]:
    """Random pairs: int32 ids of both directions."""
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(0, LAYOUT.vocab.num_text, 63), rng.integers(0, 8192, 1024))
        for _ in range(size)
    ]
    rows = {
        "to_image": [LAYOUT.text_to_image(*pair) for pair in pairs],
        "to_text": [LAYOUT.image_to_text(*pair)[0] for pair in pairs],
    }
    return {name: jnp.asarray(np.stack(row)) for name, row in rows.items()}


def update(form: str, **sizes: Any) -> tuple[Callable, int]:
    """(function that does an update of one pair by AdamW, bytes of scratch memory)."""
    task = TwoWayTask(network(form, **sizes), LAYOUT.vocab)
    compiled, run, _ = compiled_update(task, OptimConfig(), batch(1))
    return run, compiled.memory_analysis().temp_size_in_bytes


def forward(form: str, **sizes: Any) -> tuple[Callable, int]:
    """The same of both directions' losses alone."""
    task = TwoWayTask(network(form, **sizes), LAYOUT.vocab)
    args = jax.jit(task.init)(jax.random.key(0))[0], {}, batch(1), jax.random.key(0)
    compiled = jax.jit(task.eval_metrics).lower(*args).compile()
    run = functools.partial(compiled, *args)
    return run, compiled.memory_analysis().temp_size_in_bytes


def sample(form: str, **sizes: Any) -> tuple[Callable, int]:
    """The same of sampling the first codes of images of a text each.

    A code costs as much wherever it is: the caches are there from the start.
    """
    model, num_codes = ImageLM(network(form, **sizes)), LAYOUT.vocab.num_codes
    task = TwoWayTask(model.config, LAYOUT.vocab)
    params = for_inference(jax.jit(task.init)(jax.random.key(0))[0])
    params = scoring(params, (0, num_codes))
    prompt = batch(IMAGES)["to_image"][:, : LAYOUT.num_text]
    forced = jnp.full((IMAGES, LAYOUT.image_len), -1)
    prompts = Prompts(prompt, jnp.zeros(IMAGES, jnp.int32))
    start = jax.jit(functools.partial(prefill, model))
    state = start(params, prompts, image_keys(0, 0, IMAGES), forced)
    ids, sampler = OutputIds(jnp.ones(num_codes, bool)), Sampler().numbers()
    step = functools.partial(advance, model, ids=ids, sampler=sampler)
    jitted = jax.jit(step, compiler_options=compiler_options())
    compiled = jitted.lower(params, state, jnp.int32(SAMPLED)).compile()
    run = functools.partial(compiled, params, state, jnp.int32(SAMPLED))
    return run, compiled.memory_analysis().temp_size_in_bytes


MAKERS = {"update": update, "forward": forward, "sample": sample}


def in_turns(
    make: Callable[[str], tuple[Callable, int]], rounds: int
) -> dict[str, Any]:
    """Both forms in turns: seconds of each run by clock and by processor, memory.

    make: of a form, giving the function that is timed and its bytes of scratch memory.
    """
    works = {form: make(form) for form in FORMS}
    found = {
        form: {"wall": [], "processor": [], "temp_bytes": temp}
        for form, (_, temp) in works.items()
    }
    for _ in range(rounds + 1):
        for form, (run, _) in works.items():
            wall, processor = time.perf_counter(), time.process_time()
            jax.block_until_ready(run())
            found[form]["wall"].append(time.perf_counter() - wall)
            found[form]["processor"].append(time.process_time() - processor)
    for form in FORMS:
        # The first run of each warms caches up.
        del found[form]["wall"][0], found[form]["processor"][0]
    return found


def pod(form: str, topology: str) -> dict[str, Any]:
    """The plan of the paper's step."""
    words = [f"--config.model.attention={form}"]
    config = configs.load(str(HERE / "paper.py"), words)
    return dataclasses.asdict(planning.plan(config, topology))


def ratios(found: dict[str, Any]) -> list[float]:
    """Full over sparse, of each round."""
    pairs = zip(found["full"]["processor"], found["sparse"]["processor"], strict=True)
    return [full / sparse for full, sparse in pairs]


def main(argv: list[str] | None = None) -> None:
    """Makes the missing measurements, prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", required=True, type=Path, help="folder of results and runs")
    add("--topology", default="v5p:4x4x8", help="pod that the paper's step is for")
    add("--rounds", type=int, default=5, help="timed runs of each part and form")
    args = parser.parse_args(argv)
    jax.config.update("jax_compilation_cache_dir", str(args.out / "compiled"))
    out = args.out
    speed = {
        part: once(out / f"{part}.json", functools.partial(in_turns, make, args.rounds))
        for part, make in MAKERS.items()
    }
    pods = {
        form: once(
            out / f"pod-{form}.json", functools.partial(pod, form, args.topology)
        )
        for form in FORMS
    }
    _print(speed, pods)
    _draw(speed, pods, out / "sparse_dense.png")
    found = {"speed": speed, "pod": pods}
    write_atomic(out / "sparse_dense.json", json.dumps(found) + "\n")


def _print(speed: dict, pods: dict) -> None:
    """A Markdown table."""
    print("| | sparse | full | full / sparse |")
    print("| --- | --- | --- | --- |")
    for part, name in PARTS.items():
        found = speed[part]
        cells = [f"{statistics.median(found[f]['processor']):.2f} s" for f in FORMS]
        print("|", " | ".join([name, *cells, _spread(ratios(found))]), "|")
    for part in ("update", "forward"):
        sizes = [speed[part][form]["temp_bytes"] for form in FORMS]
        _row(f"scratch memory of {PARTS[part]}", sizes, 1e6, "MB")
    _row(
        "a chip's memory for the 10B step",
        [pods[f]["hbm_bytes"] for f in FORMS],
        1e9,
        "GB",
    )
    busy = [pods[f]["hbm_bytes"] - pods[f]["state_bytes"] for f in FORMS]
    _row("the same without the state", busy, 1e9, "GB")
    for name, label in STEP_TIMES.items():
        _row(label, [pods[f][name] for f in FORMS], 1, "s")


def _row(name: str, sizes: list[float], unit: float, label: str) -> None:
    cells = [f"{size / unit:.3g} {label}" for size in sizes]
    print("|", " | ".join([name, *cells, f"{sizes[1] / sizes[0]:.2f}"]), "|")


def _spread(values: list[float]) -> str:
    """The median, least and largest."""
    middle = statistics.median(values)
    return f"{middle:.2f} ({min(values):.2f} to {max(values):.2f})"


def _draw(speed: dict, pods: dict, path: Path) -> None:
    """Speed and memory beside one another."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 4))
    gains = [ratios(speed[part]) for part in PARTS]
    centres = [statistics.median(values) for values in gains]
    around = [
        [centre - min(values), max(values) - centre]
        for centre, values in zip(centres, gains, strict=True)
    ]
    left.bar(list(PARTS.values()), centres, yerr=np.transpose(around), capsize=4)
    left.axhline(1, color="grey")
    left.set(title="speed", ylabel="full / sparse, processor time")
    shares = {
        "update, CPU": [speed["update"][form]["temp_bytes"] for form in FORMS],
        "forward, CPU": [speed["forward"][form]["temp_bytes"] for form in FORMS],
        "10B, TPU": [pods[f]["hbm_bytes"] - pods[f]["state_bytes"] for f in FORMS],
    }
    right.bar(list(shares), [sparse / full for sparse, full in shares.values()])
    right.axhline(1, color="grey")
    right.set(title="memory beside the state", ylabel="sparse / full")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
