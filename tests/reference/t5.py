"""T5's encoder and decoder (Raffel et al. 2020, section 2.1, and its version 1.1).

    A(x) = sum over heads of softmax(q k^T + bias) v o        no division by sqrt(h)
    N(x) = x / sqrt(mean(x^2) + 1e-6) * w                     no mean, no bias
    x = x + A(N(x));  x = x + M(N(x))      a layer;      out = N(x)
    M(x) = relu(x wi) wo, or (gelu(x wi_0) * (x wi_1)) wo

Tensors are those of the release in PyTorch, under its names: matrices [out, in].
"""

import math

import numpy as np

from tests.reference.numeric import Array, gelu, log_softmax


def bucket(relative: int, both_ways: bool, num: int = 32, farthest: int = 128) -> int:
    """Bucket of a key `relative` behind its query, by counting thresholds."""
    if not both_ways:
        return _bucket(max(-relative, 0), num, farthest)
    half = num // 2
    return _bucket(abs(relative), half, farthest) + (half if relative > 0 else 0)


def _bucket(distance: int, num: int, farthest: int) -> int:
    exact = num // 2
    if distance < exact:
        return distance
    steps = num - exact
    starts = [exact * (farthest / exact) ** (i / steps) for i in range(steps)]
    return exact - 1 + sum(start <= distance * (1 + 1e-9) for start in starts)


def norm(x: Array, weight: Array) -> Array:
    """x [..., d]."""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight


def attention(
    tensors: dict, name: str, x: Array, source: Array, bias: Array, sees: Array
) -> Array:
    """x [t, d], source [s, d]; bias [heads, t, s] and sees, bool [t, s] or [s]."""
    q, k, v, o = (tensors[f"{name}.{part}.weight"] for part in "qkvo")
    out, size = np.zeros_like(x), len(q) // len(bias)
    for head, own in enumerate(bias):
        at = slice(head * size, (head + 1) * size)
        scores = (x @ q[at].T) @ (source @ k[at].T).T + own
        probs = np.exp(log_softmax(np.where(sees, scores, -np.inf)))
        out += probs @ (source @ v[at].T) @ o[:, at].T
    return out


def mlp(tensors: dict, name: str, x: Array) -> Array:
    """x [t, d]."""
    weight = {part: tensors.get(f"{name}.{part}.weight") for part in _PARTS}
    if weight["wi"] is not None:
        return np.maximum(x @ weight["wi"].T, 0) @ weight["wo"].T
    return (gelu(x @ weight["wi_0"].T) * (x @ weight["wi_1"].T)) @ weight["wo"].T


_PARTS = "wi", "wi_0", "wi_1", "wo"


def relative_bias(tensors: dict, stack: str, length: int) -> Array:
    """[heads, length, length], of the first layer's table."""
    name = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    both = stack == "encoder"
    table, places = tensors[name], range(length)
    buckets = [[bucket(key - query, both) for key in places] for query in places]
    return np.moveaxis(table[np.array(buckets)], -1, 0)


def encoder(tensors: dict, ids: Array, mask: Array, depth: int) -> Array:
    """One text: int [n], bool [n] False for padding -> [n, d]."""
    x, bias = tensors["shared.weight"][ids], relative_bias(tensors, "encoder", len(ids))
    for i in range(depth):
        name = f"encoder.block.{i}.layer."
        h = norm(x, tensors[f"{name}0.layer_norm.weight"])
        x = x + attention(tensors, f"{name}0.SelfAttention", h, h, bias, mask)
        h = norm(x, tensors[f"{name}1.layer_norm.weight"])
        x = x + mlp(tensors, f"{name}1.DenseReluDense", h)
    return norm(x, tensors["encoder.final_layer_norm.weight"])


def decoder(tensors: dict, x: Array, tokens: Array, mask: Array, depth: int) -> Array:
    """One target, embedded: x [m, d], tokens [n, d] of its text, bool [n] -> [m, d]."""
    before, bias = np.tri(len(x), dtype=bool), relative_bias(tensors, "decoder", len(x))
    none = np.zeros((len(bias), 1, 1))
    for i in range(depth):
        name = f"decoder.block.{i}.layer."
        h = norm(x, tensors[f"{name}0.layer_norm.weight"])
        x = x + attention(tensors, f"{name}0.SelfAttention", h, h, bias, before)
        h = norm(x, tensors[f"{name}1.layer_norm.weight"])
        x = x + attention(tensors, f"{name}1.EncDecAttention", h, tokens, none, mask)
        h = norm(x, tensors[f"{name}2.layer_norm.weight"])
        x = x + mlp(tensors, f"{name}2.DenseReluDense", h)
    return norm(x, tensors["decoder.final_layer_norm.weight"])


def head(states: Array, table: Array) -> Array:
    """Logits [m, v] of the tied head, version 1.0: states over sqrt(d)."""
    return states / math.sqrt(states.shape[-1]) @ table.T
