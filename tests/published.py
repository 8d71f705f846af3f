"""For tests of networks that others published: random weights, and differences."""

import numpy as np

from cogjax.interop import networks


def random_tensors(rng, tensors):
    """Weights that keep the scale of activations, statistics that are no identity."""
    found = {}
    for name, shape in tensors.items():
        kind = name.split(".")[-1]
        if kind in ("running_var", "weight") and len(shape) == 1:
            found[name] = rng.uniform(0.5, 1.5, shape)
        else:
            std = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
            found[name] = rng.normal(0, std, shape)
    return {k: v.astype(np.float32) for k, v in found.items()}


def relative_difference(ours, theirs) -> float:
    """Largest difference over the largest value of the reference; printed with -s."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    print(f"relative difference {difference:.1e}")
    return difference


def expected_tensors(network):
    """Shapes of the tensors that `load_weights` wants, by PyTorch's names."""
    rules, _ = networks._rules(network, networks.parameter_shapes(network), {})
    return {name: shape for rule in rules for name, shape in rule.sources.items()}
