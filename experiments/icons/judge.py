"""Trains the networks that judge icons, on the split `train` of the set `icons`.

    python experiments/icons/judge.py --data DATA --out judge.safetensors

Two drawings of a concept, if it can be in two styles, find each other among those of
other concepts. Their colours are mixed to grey at random, they are moved, zoomed and
made soft and noisy. Further images are blurred until nothing can be seen; these must be
as near to one drawing as to all others. A run that was stopped goes on.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cogjax.data.records import decode_image, open_split
from cogjax.evaluate.judges.icon_net import (
    CONCEPT_NET,
    LUMA,
    STYLE_NET,
    STYLES,
    shrink,
    stretch,
)
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.models.icon_net import SIDE

PAIRS, BLURRED = 56, 16  # of drawings, and images that show nothing
BATCH = 2 * PAIRS + BLURRED
LR, WEIGHT_DECAY = 3e-3, 0.02
SCALE = 12.0  # of cosines in the loss over concepts
SAVE_EVERY = 250
_PAD = 48  # pixels around an image that a blur may reach


def read_set(folder: str):
    """Pixels uint8 [n, 64, 64, 3], number of each one's concept and of its style."""
    split = open_split(folder, "train")
    pixels = np.zeros((len(split), SIDE, SIDE, 3), np.uint8)
    concepts, styles = [], []
    for i in range(len(split)):
        example = split[i]
        pixels[i] = shrink(decode_image(example.image)[None])[0]
        concepts.append(example.meta["concept"])
        styles.append(STYLES.index(example.meta["style"]))
    return pixels, np.unique(concepts, return_inverse=True)[1], np.array(styles)


def resample(key, dark_byxc, sigma, move=1.0):
    """Zooms, moves and blurs by `sigma` [b] pixels, with separable Gaussians.

    dark_byxc: 0 is white, as is everything outside. move: how far, 1 is up to a fifth.
    """
    keys = jax.random.split(key, 3)
    num = len(dark_byxc)
    zoom = jax.random.uniform(keys[0], (num, 1), minval=-0.17, maxval=0.18)
    zoom += jax.random.uniform(keys[1], (num, 2), minval=-0.05, maxval=0.05)
    zoom = jnp.exp(move * zoom)
    shift = move * jax.random.uniform(keys[2], (num, 2), minval=-5, maxval=5)
    to = jnp.arange(SIDE) + 0.5 - SIDE / 2
    centres = to * zoom[..., None] + SIDE / 2 + shift[..., None]  # [b, 2, 64]
    places = jnp.arange(-_PAD, SIDE + _PAD) + 0.5
    distance = (places - centres[..., None]) / sigma[:, None, None, None]
    weights = jax.nn.softmax(-(distance**2) / 2)[..., _PAD:-_PAD]  # [b, 2, 64, 64]
    rows = jnp.einsum("bij,bjxc->bixc", weights[:, 0], dark_byxc)
    return jnp.einsum("bij,byjc->byic", weights[:, 1], rows)


def softness(key, num):
    """Sigmas of images that are still sharp, in pixels of 64."""
    return jax.random.uniform(key, (num,), minval=0.35, maxval=0.9)


def greys(key, dark_byxc):
    """Darkness [b, y, x] of the channels mixed at random."""
    keys = jax.random.split(key)
    mix = jax.random.dirichlet(keys[0], jnp.ones(3), (len(dark_byxc),))
    own = jax.random.uniform(keys[1], (len(mix), 1))
    return jnp.einsum(
        "byxc,bc->byx", dark_byxc, own * jnp.array(LUMA) + (1 - own) * mix
    )


def vary(key, dark_byx):
    """Stretches darkness, bends it by a power, and adds noise."""
    keys = jax.random.split(key, 3)
    shape = (len(dark_byx), 1, 1)
    power = jnp.exp(jax.random.uniform(keys[0], shape, minval=-0.4, maxval=0.4))
    dark = jnp.clip(stretch(dark_byx), 1e-6, 1) ** power
    noise = jax.random.uniform(keys[1], shape, maxval=0.06)
    return dark + noise * jax.random.normal(keys[2], dark.shape)


def concept_loss(params, dark, labels, key):
    """Cross-entropy of cosines over the other drawings of the batch, without labels.

    Rows are pairs (0, 1), (2, 3), ..., then images to be blurred.
    """
    keys = jax.random.split(key, 5)
    sigma = softness(keys[0], BATCH)
    blurred = jnp.arange(BATCH) >= 2 * PAIRS
    least, most = jnp.log(2.5), jnp.log(14.0)
    far = jnp.exp(jax.random.uniform(keys[1], (BATCH,), minval=least, maxval=most))
    grey = greys(keys[2], dark)[..., None]
    grey = resample(keys[3], grey, jnp.where(blurred, far, sigma))[..., 0]
    found = CONCEPT_NET.apply({"params": params}, vary(keys[4], grey))
    itself = jnp.eye(BATCH)[:, : 2 * PAIRS]
    logits = SCALE * found @ found[: 2 * PAIRS].T - 1e9 * itself
    partner = jax.nn.one_hot(jnp.arange(BATCH) ^ 1, 2 * PAIRS)
    wanted = jnp.where(blurred[:, None], 1 / (2 * PAIRS), partner)
    return -jnp.mean(jnp.sum(wanted * jax.nn.log_softmax(logits), -1))


def swap_channels(key, dark_byxc):
    """Half of the images with red, green and blue in any order.

    A style that lacks a colour in `train` must not be known by that.
    """
    keys = jax.random.split(key)
    orders = jnp.array(list(itertools.permutations(range(3))))
    picks = jax.random.randint(keys[0], (len(dark_byxc),), 0, len(orders))
    picks *= jax.random.bernoulli(keys[1], 0.5, picks.shape)
    return jnp.take_along_axis(dark_byxc, orders[picks][:, None, None], axis=-1)


def style_loss(params, dark, labels, key):
    """Cross-entropy over styles; margins stay nearly as they are."""
    keys = jax.random.split(key, 3)
    dark = swap_channels(keys[2], dark)
    dark = resample(keys[1], dark, softness(keys[0], len(dark)), move=0.3)
    logits = STYLE_NET.apply({"params": params}, 1 - 2 * dark)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(losses)


def pick_pairs(rng, concepts, styles):
    """Indices int [BATCH]: pairs of one concept, in two styles if there are two."""
    by_concept = np.split(np.argsort(concepts), np.cumsum(np.bincount(concepts))[:-1])
    picks = []
    for number in rng.choice(len(by_concept), PAIRS, replace=False):
        first = rng.choice(by_concept[number])
        others = by_concept[number][styles[by_concept[number]] != styles[first]]
        picks += [first, rng.choice(others) if len(others) else first]
    return np.append(picks, rng.integers(len(concepts), size=BLURRED))


def pick_styles(rng, styles):
    """Indices int [b], all styles alike."""
    by_style = np.split(np.argsort(styles), np.cumsum(np.bincount(styles))[:-1])
    return np.array(
        [rng.choice(by_style[i]) for i in rng.integers(len(by_style), size=BATCH // 2)]
    )


def train(name, loss, params, data, steps, out):
    """Parameters after `steps` batches; goes on from the state beside `out`."""
    pixels, labels, pick = data
    rate = optax.warmup_cosine_decay_schedule(0, LR, steps // 16, steps)
    tx = optax.adamw(rate, weight_decay=WEIGHT_DECAY)
    state = (params, tx.init(params))
    path = out.with_name(f"{out.stem}-{name}-state.safetensors")
    leaves, structure = jax.tree.flatten(state)
    done = 0
    if path.exists():
        saved = load_tree(path)
        done = int(saved.pop("step"))
        state = structure.unflatten([saved[f"leaf_{i}"] for i in range(len(leaves))])

    @jax.jit
    def step(state, images, labels, key):
        params, opt_state = state
        dark = 1 - images.astype(jnp.float32) / 255
        value, gradients = jax.value_and_grad(loss)(params, dark, labels, key)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    start = time.monotonic()
    for index in range(done + 1, steps + 1):
        picks = pick(np.random.default_rng(index))
        key = jax.random.key(index)
        state, value = step(state, pixels[picks], labels[picks], key)
        if index % 50 == 0:
            seconds = time.monotonic() - start
            print(f"{name} {index} loss {value:.4f} {seconds:.0f} s", flush=True)
        if index % SAVE_EVERY == 0 or index == steps:
            leaves = map(np.asarray, jax.tree.leaves(state))
            tree = {f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}
            save_tree(path, {**tree, "step": np.array(index)}, None)
    return state[0]


def main(argv: list[str] | None = None) -> None:
    """Trains both networks and writes their weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of `cogjax data icons`")
    parser.add_argument("--out", required=True, type=Path, help="safetensors to write")
    parser.add_argument("--steps", type=int, default=1400, help="of 128 images")
    parser.add_argument("--style-steps", type=int, default=4000, help="of 64 images")
    args = parser.parse_args(argv)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pixels, concepts, styles = read_set(args.data)
    keys = jax.random.split(jax.random.key(0))
    params = jax.jit(CONCEPT_NET.init)(keys[0], jnp.zeros((1, SIDE, SIDE)))["params"]
    data = pixels, concepts, lambda rng: pick_pairs(rng, concepts, styles)
    concept = train("concept", concept_loss, params, data, args.steps, args.out)
    params = jax.jit(STYLE_NET.init)(keys[1], jnp.zeros((1, SIDE, SIDE, 3)))["params"]
    data = pixels, styles, lambda rng: pick_styles(rng, styles)
    style = train("style", style_loss, params, data, args.style_steps, args.out)
    both = jax.tree.map(np.asarray, {"concept": concept, "style": style})
    save_tree(args.out, both, "float16")


if __name__ == "__main__":
    sys.exit(main())
