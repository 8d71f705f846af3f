"""Causal attention, forward and backward, beside PyTorch's fused one on the CPU.

The shape of the reference model: batch 2, 1,088 positions, 8 heads of 64, f32. In the
environment of `llama_decode.py`; runs alternate, medians, useful FLOPs (the causal half
of the scores, 2 products forward and 5 backward) are the same on both sides.

    peer/bin/python experiments/bench/sdpa.py --cogjax PYTHON_WITH_COGJAX
"""

import argparse
import statistics
import subprocess
import sys
import time

SHAPE = (2, 1088, 8, 64)


def peer() -> float:
    """Median seconds of torch's scaled_dot_product_attention and its gradients."""
    import torch

    torch.manual_seed(0)
    batch, length, heads, head_dim = SHAPE
    arrays = [
        torch.randn(batch, heads, length, head_dim, requires_grad=True)
        for _ in range(3)
    ]
    grad = torch.randn(batch, heads, length, head_dim)

    def run():
        out = torch.nn.functional.scaled_dot_product_attention(*arrays, is_causal=True)
        return torch.autograd.grad(out, arrays, grad)

    return median(run)


def ours() -> float:
    """Median seconds of `causal_attention` and its gradients."""
    import jax
    import jax.numpy as jnp

    from cogjax.ops.attention import causal_attention

    *arrays, grad = (jax.random.normal(jax.random.key(i), SHAPE) for i in range(4))
    grads = jax.jit(
        jax.grad(lambda *x: jnp.vdot(causal_attention(*x), grad), (0, 1, 2))
    )
    return median(lambda: jax.block_until_ready(grads(*arrays)))


def median(run) -> float:
    """Seconds a call, of 15 after 2."""
    found = []
    for _ in range(17):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return statistics.median(found[2:])


def main() -> None:
    """Alternates the two and prints both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cogjax", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=("peer", "ours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print({"peer": peer, "ours": ours}[args.only]())
        return
    found = {"peer": [], "ours": []}
    for _ in range(args.runs):
        for name, python in (("peer", sys.executable), ("ours", args.cogjax)):
            words = [python, __file__, "--only", name]
            run = subprocess.run(words, check=True, capture_output=True, text=True)
            found[name].append(float(run.stdout.split()[-1]))
    theirs, mine = (statistics.median(found[name]) for name in ("peer", "ours"))
    print(
        f"torch {1e3 * theirs:.1f} ms, cogjax {1e3 * mine:.1f} ms: "
        f"{theirs / mine:.2f} times as fast"
    )


if __name__ == "__main__":
    main()
