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
