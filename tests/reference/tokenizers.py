"""CogView's VQ-VAE and VQGAN in float64 numpy, from the papers and the releases.

CogView (Ding et al. 2021), section 2.2; VQGAN (Esser et al. 2021), table 7 and
taming-transformers. Parameters are nested dicts under cogjax's names.
"""

import numpy as np

from tests.reference.dvae import conv
from tests.reference.numeric import Array
from tests.reference.unet import double, group_norm, swish


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def strided(x: Array, p: dict, stride: int) -> Array:
    """torch's Conv2d(kernel 2s, stride s), padded by s // 2 below, the rest above."""
    kernel, low = p["kernel"], stride // 2
    pad = (low, stride - low)
    x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    size, side = (x.shape[1] - stride) // stride, 2 * stride
    out = np.zeros((len(x), size, size, kernel.shape[-1]))
    for i in range(size):
        for j in range(size):
            y, z = i * stride, j * stride
            part = x[:, y : y + side, z : z + side]
            out[:, i, j] = np.einsum("byxc,yxcd->bd", part, kernel)
    return out + p["bias"]


def transposed(x: Array, p: dict, stride: int) -> Array:
    """Every pixel adds its own copy of the kernel to the output."""
    kernel, low, size = p["kernel"], stride // 2, x.shape[1]
    side = (size + 1) * stride
    out = np.zeros((len(x), side, side, kernel.shape[-1]))
    for i in range(size):
        for j in range(size):
            y, z = i * stride, j * stride
            part = np.einsum("bc,yxcd->byxd", x[:, i, j], kernel)
            out[:, y : y + 2 * stride, z : z + 2 * stride] += part
    high = stride - low
    return out[:, low : side - high, low : side - high] + p["bias"]


def resized(x: Array, p: dict, stride: int) -> Array:
    """Copies of each pixel, then a convolution with kernel stride + 1."""
    x = x.repeat(stride, 1).repeat(stride, 2)
    before = stride - stride // 2
    pad = (before, stride - before)
    x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    size, side = x.shape[1] - stride, stride + 1
    out = np.zeros((len(x), size, size, p["kernel"].shape[-1]))
    for i in range(size):
        for j in range(size):
            part = x[:, i : i + side, j : j + side]
            out[:, i, j] = np.einsum("byxc,yxcd->bd", part, p["kernel"])
    return out + p["bias"]


def residual(x: Array, p: dict) -> Array:
    return x + conv(relu(conv(relu(x), p["conv3"])), p["conv1"])


def vqvae_encode(config, p: dict, images: Array) -> Array:
    """Pixels in [0, 1] -> vectors."""
    x = (images - np.array(config.pixel_mean)) / np.array(config.pixel_std)
    for level, stride in enumerate(config.strides):
        x = relu(strided(x, p[f"down_{level}"], stride))
    for i in range(config.res_blocks):
        x = residual(x, p[f"res_{i}"])
    return conv(x, p["out"])


def vqvae_decode(config, p: dict, z: Array) -> Array:
    """Vectors -> pixels."""
    x = conv(z, p["in"]) if config.res_blocks else z
    for i in range(config.res_blocks):
        x = residual(x, p[f"res_{i}"])
    up = resized if config.resize else transposed
    for level in reversed(range(len(config.strides))):
        x = relu(up(x, p[f"up_{level}"], config.strides[level]))
    x = conv(x, p["out"])
    return x * np.array(config.pixel_std) + np.array(config.pixel_mean)


def halved(x: Array, p: dict) -> Array:
    """VQGAN's: one row and column of zeros behind, then 3x3 with stride 2."""
    x = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    rows, cols = ((side - 1) // 2 for side in x.shape[1:3])
    out = np.zeros((len(x), rows, cols, p["kernel"].shape[-1]))
    for i in range(rows):
        for j in range(cols):
            part = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            out[:, i, j] = np.einsum("byxc,yxcd->bd", part, p["kernel"])
    return out + p["bias"]


def block(x: Array, p: dict, groups: int) -> Array:
    h = conv(swish(group_norm(x, p["norm1"], groups)), p["conv1"])
    h = conv(swish(group_norm(h, p["norm2"], groups)), p["conv2"])
    return h + (conv(x, p["nin_shortcut"]) if "nin_shortcut" in p else x)


def attention(x: Array, p: dict, groups: int) -> Array:
    """One head over all places of an image."""
    h, width = group_norm(x, p["norm"], groups), x.shape[-1]
    q, k, v = (conv(h, p[name]).reshape(len(x), -1, width) for name in "qkv")
    found = np.empty_like(q)
    for b in range(len(x)):
        scores = q[b] @ k[b].T / np.sqrt(width)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        found[b] = weights / weights.sum(-1, keepdims=True) @ v[b]
    return x + conv(found.reshape(x.shape), p["proj_out"])


def middle(x: Array, p: dict, groups: int) -> Array:
    x = block(x, p["mid.block_1"], groups)
    x = attention(x, p["mid.attn_1"], groups)
    return block(x, p["mid.block_2"], groups)


def vqgan_encode(config, p: dict, images: Array) -> Array:
    """Pixels in [0, 1] -> vectors, through `quant_conv`."""
    g, e, last = config.groups, p["encoder"], len(config.multipliers) - 1
    x = conv(2 * images - 1, e["conv_in"])
    for level in range(last + 1):
        for i in range(config.res_blocks):
            x = block(x, e[f"down.{level}.block.{i}"], g)
            if f"down.{level}.attn.{i}" in e:
                x = attention(x, e[f"down.{level}.attn.{i}"], g)
        if level < last:
            x = halved(x, e[f"down.{level}.downsample.conv"])
    x = swish(group_norm(middle(x, e, g), e["norm_out"], g))
    return conv(conv(x, e["conv_out"]), p["quant_conv"])


def vqgan_decode(config, p: dict, z: Array) -> Array:
    """Vectors -> pixels in about [0, 1]."""
    g, d, last = config.groups, p["decoder"], len(config.multipliers) - 1
    x = middle(conv(conv(z, p["post_quant_conv"]), d["conv_in"]), d, g)
    for level in range(last, -1, -1):
        for i in range(config.res_blocks + 1):
            x = block(x, d[f"up.{level}.block.{i}"], g)
            if f"up.{level}.attn.{i}" in d:
                x = attention(x, d[f"up.{level}.attn.{i}"], g)
        if level:
            x = conv(double(x), d[f"up.{level}.upsample.conv"])
    x = conv(swish(group_norm(x, d["norm_out"], g)), d["conv_out"])
    return (x + 1) / 2
