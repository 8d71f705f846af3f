"""Gradients that float16 loses, and scales that keep them (DALL-E, section 2.4).

    python experiments/cogview/underflow.py [--out runs/underflow.json]

Counts the gradients of each layer that are zero in float16 and not in float32: without
a scale, with the largest global scale that overflows nowhere, and with DALL-E's scale
of each residual branch. The network has 24 pre-LN layers of which each adds 1.8 times
as much as the one before, after embeddings of a hundredth, so that gradients shrink
over the layers; its loss is divided by 64, as if the batch were so many times as large.
Time and results: docs/precision.md.
"""

import argparse
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.files import write_atomic
from cogjax.models.image_lm import finite_branches
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops.gradient_scale import LARGEST, REPLICA_TOKENS, SMALLEST
from cogjax.tasks.lm import LMTask

DEPTH, GROWTH, BATCH, LENGTH, DIVISOR = 24, 1.8, 16, 32, 64
KEY = jax.random.key(0)


def task(**numerics) -> LMTask:
    """24 layers of 64."""
    config = ImageLMConfig(
        vocab_size=64,
        width=64,
        depth=DEPTH,
        heads=2,
        mlp_dim=256,
        max_positions=LENGTH,
        dropout=0.0,
        sandwich=False,
        **numerics,
    )
    return LMTask(config, num_codes=64)


def growing_params():
    """Output kernels of layer l are 1.8^l times the initial ones."""
    params = jax.jit(task().init)(KEY)[0]
    layers = dict(params["blocks"]["layers"])
    for name in ("attn_out", "mlp_out"):
        kernel = layers[name]["kernel"]
        growth = GROWTH ** jnp.arange(float(DEPTH))
        growth = growth.reshape(-1, *(1,) * (kernel.ndim - 1))
        layers[name] = {**layers[name], "kernel": kernel * growth}
    tables = {
        name: params[name] * 0.01 for name in ("token_embedding", "position_embedding")
    }
    return {**params, **tables, "blocks": {"layers": layers}}


def gradient(objective: LMTask):
    """Jitted (params, state, scale of the loss) -> gradients, without that scale."""
    ids = np.random.default_rng(0).integers(0, 64, (BATCH, LENGTH))
    batch = {"ids": jnp.asarray(ids), "weights": jnp.ones(ids.shape)}

    def loss(params, state, scale):
        return objective.loss(params, state, batch, KEY)[0] * (scale / DIVISOR)

    def unscaled(params, state, scale):
        grads = jax.grad(loss)(params, state, scale)
        return jax.tree.map(lambda leaf: leaf / scale, grads)

    return jax.jit(unscaled)


def global_gradients(params):
    """Float16 gradients at the largest power of two that overflows nowhere."""
    grads_of = gradient(task(dtype="float16"))
    scale = 2.0**40
    while not _all_finite(grads := grads_of(params, {}, scale)):
        scale /= 2
    return grads, scale


def branch_gradients(params):
    """Float16 gradients after each branch's scale has settled below its overflow.

    DALL-E's rule takes thousands of updates for that: here a scale halves at once.
    """
    grads_of = gradient(task(dtype="float16", gradient_scale="resblock"))
    # The batch is as if it had DIVISOR times the tokens: so is M.
    replicas = DIVISOR * BATCH * LENGTH / REPLICA_TOKENS
    scale = jnp.full((DEPTH, 2), LARGEST)
    while True:
        grads = grads_of(params, {"scale": scale * DIVISOR}, 1.0)
        finite = finite_branches(grads)
        if finite.all() or bool((scale <= SMALLEST).any()):
            return grads, np.asarray(scale) * replicas
        scale = jnp.where(finite, scale, scale / 2)


def _all_finite(grads) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads))


def zeros(grads, exact) -> list[float]:
    """The share of each layer's gradients that only float32 has."""
    lost, total = 0, 0
    leaves = [jax.tree.leaves(tree["blocks"]["layers"]) for tree in (grads, exact)]
    for leaf, wanted in zip(*leaves, strict=True):
        leaf, wanted = (np.asarray(x).reshape(DEPTH, -1) for x in (leaf, wanted))
        lost = lost + np.sum((leaf == 0) & (wanted != 0), axis=1)
        total = total + np.sum(wanted != 0, axis=1)
    return (lost / total).tolist()


def error(grads, exact) -> list[float]:
    """The error of all of each layer's gradients relative to their norm."""
    leaves = [jax.tree.leaves(tree["blocks"]["layers"]) for tree in (grads, exact)]
    off, size = 0, 0
    for leaf, wanted in zip(*leaves, strict=True):
        axes = tuple(range(1, leaf.ndim))
        off = off + jnp.sum(jnp.square(leaf - wanted), axes)
        size = size + jnp.sum(jnp.square(wanted), axes)
    return np.sqrt(np.asarray(off / size)).tolist()


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file of the numbers")
    args = parser.parse_args(argv)
    params = growing_params()
    exact = gradient(task())(params, {}, 1.0)
    scaled, scale = global_gradients(params)
    by_branch, scales = branch_gradients(params)
    kinds = {
        "float16": gradient(task(dtype="float16"))(params, {}, 1.0),
        "float16, global scale": scaled,
        "float16, scale of each branch": by_branch,
    }
    found = {
        name: {"zeros": zeros(grads, exact), "error": error(grads, exact)}
        for name, grads in kinds.items()
    }
    print(f"global scale 2^{np.log2(scale):.0f}, of branches", end=" ")
    print(f"2^{np.log2(scales.min()):.0f} to 2^{np.log2(scales.max()):.0f}")
    for name, of in found.items():
        print(name)
        for what, values in of.items():
            print(f"  {what:6}", *(f"{v:.3f}" for v in values[:: DEPTH // 6]), end=" ")
            print(f"last {values[-1]:.3f}")
    if args.out:
        write_atomic(args.out, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
