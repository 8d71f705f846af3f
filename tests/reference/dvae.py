"""DALL-E's discrete VAE: networks, likelihood and bound (Ramesh et al. 2021).

Appendix A.1 and the release: convolutions with zeros around, (k - 1) / 2 of them.
Parameters are nested dicts under cogjax's names: `in`, `down_LEVEL_BLOCK` or
`up_LEVEL_BLOCK` with `id` and `conv_0` to `conv_3`, and `out`; level 0 is full size.
Kernels are [rows, columns, in, out]. The first layer of the decoder is apart: a one-hot
code times the codebook, plus `bias`.
"""

import numpy as np

from tests.reference.numeric import Array, log_softmax


def conv(x: Array, params: dict) -> Array:
    """[b, y, x, c] -> [b, y, x, d], place by place."""
    kernel = params["kernel"]
    side, edge = len(kernel), len(kernel) // 2
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    out = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for row in range(side):
        for column in range(side):
            seen = padded[:, row : row + height, column : column + width]
            out += seen @ kernel[row, column]
    return out + params["bias"]


def block(x: Array, params: dict, layers: int) -> Array:
    """id(x) + res(x) / layers^2, with `layers` blocks in the whole network."""
    h = x
    for i in range(4):
        h = conv(np.maximum(h, 0), params[f"conv_{i}"])
    same = conv(x, params["id"]) if "id" in params else x
    return same + h / layers**2


def encode(params: dict, images: Array, levels: int, blocks: int) -> Array:
    """Pixels in [0, 1] [b, y, x, 3] -> logits [b, grid, grid, k]."""
    x = conv(0.8 * images + 0.1, params["in"])
    for level in range(levels):
        if level:
            quads = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
            x = np.max(quads, axis=0)
        for i in range(blocks):
            x = block(x, params[f"down_{level}_{i}"], levels * blocks)
    return conv(np.maximum(x, 0), params["out"])


def decode(params: dict, weights: Array, codebook: Array, levels: int, blocks: int):
    """Weights of codes [b, grid, grid, k] -> maps [b, y, x, 6]: mean, ln scale."""
    x = weights @ codebook + params["bias"]
    for level in range(levels - 1, -1, -1):
        for i in range(blocks):
            x = block(x, params[f"up_{level}_{i}"], levels * blocks)
        if level:
            x = x.repeat(2, axis=1).repeat(2, axis=2)
    return conv(np.maximum(x, 0), params["out"])


def pixels(maps: Array) -> Array:
    """The image that is shown, of values in [0, 1]."""
    logistic = 1 / (1 + np.exp(-maps[..., :3]))
    return np.clip((logistic - 0.1) / 0.8, 0, 1)


def nll(images: Array, mean: Array, scale: Array) -> float:
    """-ln of the logit-Laplace density, a value: f(x) = e^(-|logit x - m| / b) /

    (2 b x (1 - x)) of x in (0.1, 0.9).
    """
    x = 0.8 * images + 0.1
    density = np.exp(-np.abs(np.log(x / (1 - x)) - mean) / scale)
    density /= 2 * scale * x * (1 - x)
    return float(-np.log(density).mean())


def kl(logits: Array) -> float:
    """To the even prior, of an image: sums over grid and codes, mean over images."""
    log_q = log_softmax(logits)
    each = np.exp(log_q) * (log_q + np.log(logits.shape[-1]))
    return float(each.sum((1, 2, 3)).mean())


def bound(images: Array, maps: Array, logits: Array, beta: float, least: float):
    """The bound of an image, divided by its values; ln b is at least `least`."""
    wanted = maps[..., 3:]
    scale = np.exp(least) * (1 + np.exp(wanted - least))
    values = np.prod(images.shape[1:])
    return nll(images, maps[..., :3], scale) + beta * kl(logits) / values
