"""What every network is made of, and the slope of a function, in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray


def layer_norm(x: Array, scale: Array, bias: Array, epsilon: float | Array) -> Array:
    """Over the last axis: x [..., d], scale and bias [d]."""
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * scale + bias


def gelu(x: Array) -> Array:
    """The form by tanh, GPT-2's and CogView's."""
    return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))


def log_softmax(x: Array) -> Array:
    """Over the last axis; -inf stays so."""
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def double(tree: Any) -> Any:
    """Nested dicts of arrays, in float64."""
    if isinstance(tree, dict):
        return {name: double(part) for name, part in tree.items()}
    return np.asarray(tree, np.float64)


def with_leaf(tree: dict, path: tuple[str, ...], leaf: Array) -> dict:
    """The same nested dicts, with another leaf at `path`."""
    name, *rest = path
    return {**tree, name: with_leaf(tree[name], tuple(rest), leaf) if rest else leaf}


def slope(function: Callable[[Array], float], at: Array, direction: Array) -> float:
    """Derivative of `function` along `direction`, by a central difference."""
    step = 1e-5
    ahead, behind = function(at + step * direction), function(at - step * direction)
    return (ahead - behind) / (2 * step)


def attention(query: Array, key: Array, value: Array, mask: Array, bonus=0.0) -> Array:
    """Softmax over all pairs: [b, t, n, h] of [b, t, n, h] and keys [b, s, n, h].

    mask: bool and bonus: added to the scores, both broadcastable to [b, n, t, s].
    """
    probs = attention_probs(double(query), double(key), mask, bonus)
    return np.einsum("bnts,bsnh->btnh", probs, double(value))


def attention_probs(query: Array, key: Array, mask: Array, bonus=0.0) -> Array:
    """[b, n, t, s]: 1 over a row."""
    scores = np.einsum("btnh,bsnh->bnts", query, key) / query.shape[-1] ** 0.5
    return np.exp(log_softmax(np.where(mask, scores + bonus, -np.inf)))


def attention_gradients(arrays, grad: Array, mask: Array, bonus=0.0) -> list[Array]:
    """What `grad` [b, t, n, h] on the output is on (query, key, value)."""
    query, key, value = (double(x) for x in arrays)
    probs, grad = attention_probs(query, key, mask, bonus), double(grad)
    on_probs = np.einsum("btnh,bsnh->bnts", grad, value)
    inner = (on_probs * probs).sum(-1, keepdims=True)
    on_scores = probs * (on_probs - inner) / query.shape[-1] ** 0.5
    return [
        np.einsum("bnts,bsnh->btnh", on_scores, key),
        np.einsum("bnts,btnh->bsnh", on_scores, query),
        np.einsum("bnts,btnh->bsnh", probs, grad),
    ]
