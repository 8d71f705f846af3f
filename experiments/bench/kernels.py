"""Each implementation of attention on this machine: speed, and difference from "xla".

    python experiments/bench/kernels.py [--batch 4] [--dtype bfloat16]

Forward and backward of one layer of DALL-E 12B (62 heads of 64, 256 text and 32 x 32
image tokens), medians of 10 runs. Implementations that do not run here are left out.
The table behind `implementation="auto"` is in docs/performance.md.
"""

import argparse
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.ops.attention import causal_attention
from cogjax.ops.fused_attention import IMPLEMENTATIONS, choose, splash_masked
from cogjax.ops.masks import LayerKind
from cogjax.ops.sequence import Sequence
from cogjax.ops.sparse_attention import sparse_attention

TEXT, GRID = 256, 32


def form(kind: str, implementation: str):
    """Function of (query, key, value) for a layer kind."""
    if kind == "causal":
        return partial(causal_attention, implementation=implementation)
    attend = splash_masked if implementation == "splash" else sparse_attention
    sequence = Sequence.text_to_image(TEXT, (GRID, GRID))
    return partial(attend, sequence=sequence, kind=LayerKind(kind))


def run(function, arrays, weights, runs: int):
    """(median seconds, gradients as float32) of a form."""

    def loss(arrays):
        return jnp.vdot(function(*arrays), weights).astype(jnp.float32)

    step = jax.jit(jax.grad(loss))
    grads = jax.block_until_ready(step(arrays))
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        jax.block_until_ready(step(arrays))
        times.append(time.perf_counter() - start)
    return statistics.median(times), [np.asarray(x, np.float32) for x in grads]


def main() -> None:
    """Prints a line for each kind and implementation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--heads", type=int, default=62)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (args.batch, TEXT + GRID**2, args.heads, 64)
    *arrays, weights = (
        jnp.asarray(rng.normal(size=shape), args.dtype) for _ in range(4)
    )
    print(f"{jax.devices()[0].device_kind}, {args.dtype}, {shape}")
    for kind in ("causal", "row", "column", "conv"):
        causal = kind == "causal"
        auto = choose("auto", args.dtype, causal=causal)
        base = None
        for name in IMPLEMENTATIONS[1:]:
            try:
                choose(name, args.dtype, causal=causal)
            except ValueError:
                continue
            seconds, grads = run(form(kind, name), arrays, weights, args.runs)
            base = base or (seconds, grads)
            largest = max(np.abs(g).max() for g in base[1])
            pairs = zip(grads, base[1], strict=True)
            far = max(np.abs(a - b).max() for a, b in pairs) / largest
            mark = " <- auto" if name == auto else ""
            print(
                f"  {kind} {name}: {seconds * 1e3:.2f} ms, {base[0] / seconds:.2f} x "
                f"xla, gradients differ by {far:.1e} of the largest{mark}",
                flush=True,
            )


if __name__ == "__main__":
    main()
