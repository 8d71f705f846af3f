"""Is it the right style? A small convolutional classifier of real pictures.

    [conv 3x3 stride 2, relu] * 3 -> mean and maximum over the picture -> linear

Half of its training pictures are real ones as the model's image tokenizer gives them
back, a little soft, because all that the model draws goes through it. It never sees a
drawn picture; its accuracy on held-out real ones, straight and through the tokenizer,
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

_WIDTHS = (24, 48, 96)
_BATCH = 64


class StyleNet(nn.Module):
    """Pixels in [0, 1] [b, y, x, 3] -> logits [b, styles]."""

    num_styles: int

    @nn.compact
    def __call__(self, x):
        for level, width in enumerate(_WIDTHS):
            x = nn.relu(nn.Conv(width, (3, 3), (2, 2), name=f"conv_{level}")(x))
        pooled = jnp.concatenate([jnp.mean(x, (1, 2)), jnp.max(x, (1, 2))], axis=-1)
        return nn.Dense(self.num_styles, name="out")(pooled)


@dataclass(frozen=True)
class StyleJudge:
    """A trained classifier: `judge(images)` names the style of each picture."""

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
    *,
    epochs: int = 16,
    seed: int = 0,
) -> StyleJudge:
    """Trains on real pictures uint8 [n, y, x, 3] with their style names.

    decoded: the same pictures after the image tokenizer.
    """
    names = tuple(sorted(set(styles)))
    labels = np.array([names.index(style) for style in styles])
    both = np.stack([images, decoded])
    net = StyleNet(len(names))
    params = net.init(jax.random.key(seed), jnp.zeros((1, *images.shape[1:])))["params"]
    steps = max(epochs * len(images) // _BATCH, 1)
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    opt_state = tx.init(params)
    rng = np.random.default_rng(seed)

    @jax.jit
    def step(params, opt_state, batch, batch_labels):
        def loss(params):
            pixels = batch.astype(jnp.float32) / 255
            logits = net.apply({"params": params}, pixels)
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, batch_labels
            )
            return jnp.mean(losses)

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for _ in range(steps):
        picks = rng.integers(len(images), size=_BATCH)
        batch = both[rng.integers(2, size=_BATCH), picks]
        params, opt_state = step(params, opt_state, batch, labels[picks])
    return StyleJudge(names, params)


@functools.partial(jax.jit, static_argnums=0)
def _logits(net: StyleNet, params, images):
    return net.apply({"params": params}, images.astype(jnp.float32) / 255)
