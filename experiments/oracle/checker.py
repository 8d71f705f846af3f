"""Trains the second judge of images of shapes, on renders that are never stored.

    python experiments/oracle/checker.py --out cogjax/assets/oracle/checker.safetensors

Renders are blurred and made noisy at random, since a tokenizer's images are soft.
Scenes show all combinations, held-out ones too. 20 minutes on a third of a CPU core;
exact on 2,000 of 2,000 new renders.
"""

import argparse
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import ndimage

from cogjax.evaluate.judges.checker import (
    NET,
    SIDE,
    logits,
    read_logits,
    split_logits,
    targets,
)
from cogjax.interop.safetensors import save_tree
from cogjax.worlds.shapes.dataset import sample_scene
from cogjax.worlds.shapes.scenes import render

BATCH, LR, POOL = 64, 4e-3, 24_000


def scenes_and_images(num: int, seed: int, soften: bool = True):
    """(scenes, uint8 [num, 64, 64, 3]); an eighth of them unseen."""
    scenes, images = [], np.zeros((num, SIDE, SIDE, 3), np.uint8)
    for index in range(num):
        rng = np.random.default_rng([seed, index])
        scenes.append(sample_scene(rng, index % 8 == 0))
        image = render(scenes[-1], SIDE).astype(np.float32)
        if soften and index % 2:
            image = ndimage.gaussian_filter(image, (*[rng.uniform(0, 1)] * 2, 0))
            image += rng.normal(0, rng.uniform(0, 8), image.shape)
        images[index] = np.clip(np.round(image), 0, 255)
    return scenes, images


def loss(params, images, wanted):
    """Cross-entropies of "is there" over all cells and of the classes where it is."""
    parts = split_logits(logits(params, images))
    there = optax.sigmoid_binary_cross_entropy(parts["there"], wanted["there"])
    total, count = there.sum(), wanted["there"].sum()
    for name in ("shape", "colour", "size"):
        labels = jnp.maximum(wanted[name], 0)
        each = optax.softmax_cross_entropy_with_integer_labels(parts[name], labels)
        total += (each * wanted["there"]).sum()
    return total / count


def train(steps: int):
    """Parameters after `steps` batches from a pool of renders."""
    scenes, images = scenes_and_images(POOL, 1)
    wanted = targets(scenes)
    tx = optax.adamw(optax.cosine_onecycle_schedule(steps, LR))
    params = jax.jit(NET.init)(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))
    state = (params["params"], tx.init(params["params"]))

    @jax.jit
    def step(state, images, wanted):
        params, opt_state = state
        value, gradients = jax.value_and_grad(loss)(params, images, wanted)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    rng, start = np.random.default_rng(0), time.monotonic()
    for index in range(1, steps + 1):
        picks = rng.integers(POOL, size=BATCH)
        state, value = step(
            state, images[picks], {name: v[picks] for name, v in wanted.items()}
        )
        if index % 100 == 0:
            seconds = time.monotonic() - start
            print(f"step {index} loss {value:.4f} {seconds:.0f} s", flush=True)
    return state[0]


def accuracy(params) -> float:
    """Share of clean renders of other seeds whose items are all found, places too."""
    scenes, images = scenes_and_images(2000, 2, soften=False)
    found = []
    for start in range(0, len(scenes), BATCH):
        chunk = jnp.asarray(images[start : start + BATCH])
        found += read_logits(np.asarray(logits(params, chunk)))
    pairs = zip(scenes, found, strict=True)
    return float(np.mean([set(scene.items) == set(items) for scene, items in pairs]))


def main(argv: list[str] | None = None) -> None:
    """Trains, prints the accuracy on new renders, and writes the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="safetensors to write")
    parser.add_argument("--steps", type=int, default=2500, help="of 64 renders")
    args = parser.parse_args(argv)
    params = train(args.steps)
    print(f"exact on new renders: {accuracy(params):.4f}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_tree(args.out, jax.tree.map(np.asarray, params), "float16")


if __name__ == "__main__":
    sys.exit(main())
