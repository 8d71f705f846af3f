"""CogView's three-region attention against dense and causal attention, 4096 tokens.

    python experiments/bench/three_region.py

Forward and backward of one layer, 768 pivots and a window of 6 x 128 as in the paper,
which states 2.5 times the speed and 40 % less memory than dense attention. Medians of
alternating runs; memory is the compiler's scratch memory.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.ops.attention import attention, causal_attention
from cogjax.ops.pivot_attention import draw_pivots, three_region_attention


def dense(query, key, value, pivots):
    """All scores, masked."""
    del pivots
    mask = np.tri(query.shape[1], dtype=bool)[None]
    return attention(query, key, value, jnp.asarray(mask))


def causal(query, key, value, pivots):
    """The implementation that "auto" chooses here."""
    del pivots
    return causal_attention(query, key, value)


def three_region(query, key, value, pivots):
    """The window and the pivots of the paper."""
    return three_region_attention(query, key, value, pivots, window=128, times=6)


def main() -> None:
    """Prints one line a form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (1, args.length, args.heads, 64)
    arrays = [jnp.asarray(rng.normal(size=shape), args.dtype) for _ in range(3)]
    is_text = jnp.arange(args.length)[None] < 64
    pivots = draw_pivots(jax.random.key(0), is_text, 768)
    steps, times = {}, {}
    for form in (dense, causal, three_region):

        def loss(arrays, form=form):
            return jnp.sum(jnp.square(form(*arrays, pivots).astype(jnp.float32)))

        steps[form.__name__] = jax.jit(jax.grad(loss)).lower(arrays).compile()
    for _ in range(args.runs):
        for name, step in steps.items():
            start = time.perf_counter()
            jax.block_until_ready(step(arrays))
            times.setdefault(name, []).append(time.perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in times.items()}
    memory = {
        name: step.memory_analysis().temp_size_in_bytes for name, step in steps.items()
    }
    for name in steps:
        speed = medians["dense"] / medians[name]
        less = memory[name] / memory["dense"]
        print(
            f"{name}: {medians[name] * 1e3:.0f} ms, {speed:.2f} x dense; scratch "
            f"{memory[name] / 1e6:.0f} MB, {less:.2f} of dense"
        )


if __name__ == "__main__":
    main()
