"""Is it the right style? A small convolutional classifier of real images.

    [conv 3x3 stride 2, relu] * 4 -> mean, maximum, deviation of each level -> linear

Half of its training images are real ones after the model's image tokenizer, a little
soft, because every generated image is decoded by it. The classifier never sees a
generated image; its accuracy on held-out real ones, straight and through the tokenizer,
is reported beside every score, as the ceiling.
"""

import functools
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cogjax.nn.conv import Conv
from cogjax.ops.image import signed

_WIDTHS = (32, 64, 128, 128)
_BATCH, _EPOCHS = 64, 12


class StyleNet(nn.Module):
    """Pixels in [-1, 1] [b, y, x, 3] -> logits [b, styles]."""

    num_styles: int

    @nn.compact
    def __call__(self, x):
        levels = []
        for level, width in enumerate(_WIDTHS):
            x = nn.relu(Conv(width, (3, 3), (2, 2), name=f"conv_{level}")(x))
            levels += [pool(x, axis=(1, 2)) for pool in (jnp.mean, jnp.max, _deviation)]
        pooled = jnp.concatenate(levels, axis=-1)
        return nn.Dense(self.num_styles, name="out")(pooled)


@dataclass(frozen=True)
class StyleJudge:
    """A trained classifier: `judge(images)` names the style of each image."""

    styles: tuple[str, ...]
    params: Any

    def __call__(self, images: np.ndarray) -> list[str]:
        """uint8 [n, y, x, 3] of the training size -> style names."""
        net = StyleNet(len(self.styles))
        logits = [
            np.asarray(_logits(net, self.params, images[i : i + 256]))
            for i in range(0, len(images), 256)
        ]
        picked = np.argmax(np.concatenate(logits), axis=-1)
        return [self.styles[i] for i in picked]


def train_judge(
    images: np.ndarray,
    decoded: np.ndarray,
    styles: list[str],
) -> StyleJudge:
    """Trains on real images uint8 [n, y, x, 3] with their style names.

    decoded: the same images after the image tokenizer.
    """
    names = tuple(sorted(set(styles)))
    labels = np.array([names.index(style) for style in styles])
    both = np.stack([images, decoded])
    net = StyleNet(len(names))
    params = net.init(jax.random.key(0), jnp.zeros((1, *images.shape[1:])))["params"]
    steps = max(_EPOCHS * len(images) // _BATCH, 1)
    tx = optax.adamw(optax.cosine_decay_schedule(2e-3, steps))
    opt_state = jax.jit(tx.init)(params)
    rng = np.random.default_rng(0)

    @jax.jit
    def step(params, opt_state, batch, batch_labels):
        def loss(params):
            logits = net.apply({"params": params}, signed(batch))
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, batch_labels
            )
            return jnp.mean(losses)

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for _ in range(steps):
        picks = rng.integers(len(images), size=_BATCH)
        batch = both[rng.integers(2, size=_BATCH), picks]
        mirrored = rng.random(_BATCH) < 0.5
        batch[mirrored] = batch[mirrored][:, :, ::-1]
        params, opt_state = step(params, opt_state, batch, labels[picks])
    return StyleJudge(names, params)


@functools.partial(jax.jit, static_argnums=0)
def _logits(net: StyleNet, params, images):
    return net.apply({"params": params}, signed(images))


def _deviation(x, axis):
    # Without 1e-6 a constant channel would have the root of 0, which has no gradient.
    return jnp.sqrt(jnp.var(x, axis=axis) + 1e-6)
