"""PatchGAN's discriminator (Isola et al. 2017, arXiv 1611.07004, appendix 6.1.2).

    4x4 stride 2, leaky relu; [4x4 stride 2, norm, leaky relu] * (layers - 1);
    4x4, norm, leaky relu; 4x4 -> 1 logit a patch

Batch normalisation always has the statistics of the batch that it sees, as in VQGAN's
training: under `jax.jit` with a sharded batch that is the batch of all devices, where
the release takes each device's own. There are no running averages.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.nn.conv import Conv, Down
from cogjax.nn.layers import weight

_MOST = 8
_START = nn.initializers.normal(0.02)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """layers: that halve the image. width: channels of the first; they double up to
    8 times it.
    """

    layers: int = 3
    width: int = 64

    def patches(self, image_size: int) -> int:
        """Logits a side for an image's side; below 1 it is too small."""
        return image_size // 2**self.layers - 2


class BatchNorm(nn.Module):
    """[b, y, x, c] with mean 0 and variance 1 a channel, then scaled and shifted."""

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        size = (x_byxc.shape[-1],)
        scale = weight(self, "scale", _near_one, size)
        bias = weight(self, "bias", nn.initializers.zeros, size)
        x = x_byxc - jnp.mean(x_byxc, axis=(0, 1, 2))
        variance = jnp.mean(jnp.square(x), axis=(0, 1, 2))
        return x * jax.lax.rsqrt(variance + 1e-5) * scale + bias


class Discriminator(nn.Module):
    """Pixels in [-1, 1] [b, y, x, 3] -> logits [b, patches, patches, 1], high if real.

    Weights start as N(0, 0.02), scales as N(1, 0.02).
    """

    config: DiscriminatorConfig

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        cfg = self.config
        x = Down(cfg.width, kernel_init=_START, name="conv_0")(x_byxc)
        x = nn.leaky_relu(x, 0.2)
        for i in range(1, cfg.layers + 1):
            width, name = cfg.width * min(2**i, _MOST), f"conv_{i}"
            if i < cfg.layers:
                x = Down(width, use_bias=False, kernel_init=_START, name=name)(x)
            else:
                x = _conv(width, name, use_bias=False)(x)
            x = nn.leaky_relu(BatchNorm(name=f"norm_{i}")(x), 0.2)
        return _conv(1, "out", use_bias=True)(x)


def _conv(width: int, name: str, *, use_bias: bool) -> Conv:
    pad = ((1, 1), (1, 1))
    return Conv(width, (4, 4), 1, pad, use_bias=use_bias, kernel_init=_START, name=name)


def _near_one(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)
