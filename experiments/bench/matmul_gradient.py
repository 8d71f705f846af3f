"""Weight gradient of a dense layer: `ops/packed.py` against autodiff, on this machine.

    python experiments/bench/matmul_gradient.py

Prints GFLOP/s of both and their ratio for the layers of a 512-wide transformer at 2,176
tokens; medians of 15 alternating runs.
"""

import statistics

import jax
import jax.numpy as jnp

from cogjax.bench import seconds
from cogjax.ops.packed import dense

TOKENS = (2, 1088)
SHAPES = ((512, 1536), (512, 512), (512, 2048), (2048, 512))


def weight_gradient(product):
    """Jitted (x, kernel, grad) -> gradient of the kernel."""
    return jax.jit(lambda x, kernel, grad: jax.vjp(product, x, kernel)[1](grad)[1])


def main() -> None:
    """Prints one line a shape."""
    keys = jax.random.split(jax.random.key(0), 3)
    ours, autodiff = weight_gradient(dense), weight_gradient(jnp.matmul)
    for inputs, outputs in SHAPES:
        x = jax.random.normal(keys[0], (*TOKENS, inputs))
        kernel = jax.random.normal(keys[1], (inputs, outputs))
        args = x, kernel, jax.random.normal(keys[2], (*TOKENS, outputs))
        times = [(seconds(ours, *args), seconds(autodiff, *args)) for _ in range(16)]
        mine, theirs = map(statistics.median, zip(*times[1:], strict=True))
        flops = 2 * TOKENS[0] * TOKENS[1] * inputs * outputs / 1e9
        print(
            f"{inputs:5} -> {outputs:5}: {flops / mine:5.0f} GFLOP/s, "
            f"autodiff {flops / theirs:5.0f}, ratio {theirs / mine:.2f}"
        )


if __name__ == "__main__":
    main()
