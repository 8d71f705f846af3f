"""Inputs and outputs of networks under documented names, for `cogjax parity`.

    image tokenizers  pixels, codes -> features, codes, pixels
    image_lm          ids, positions, mask -> logits, greedy
    clip              pixels, ids -> image_features, text_features, logits
    t5                ids, mask -> features
    encoder_decoder   ids, mask, codes -> features, logits, greedy

docs/importing.md has their shapes. A row of the table of networks names its `Case`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from cogjax.models.clip import ClipConfig, normalized
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.t5 import T5Config
from cogjax.models.tokenizers import TokenizerConfig

Arrays = Mapping[str, np.ndarray]
_GREEDY = 16


class Weights(NamedTuple):
    """A network with its arrays. call: a method by name, compiled."""

    network: nn.Module
    params: Any
    state: Any

    def call(self, method: str, *arrays: Any) -> Any:
        """Calls a method of the network."""
        return _apply(self.network, method, self.params, *arrays)


class Output(NamedTuple):
    """needs: names of inputs. make: (weights, inputs) -> array."""

    needs: tuple[str, ...]
    make: Callable[[Weights, Arrays], Any]


class Case(NamedTuple):
    """inputs: (config, generator) -> arrays of a new case. outputs: by name.

    limits: settings of the config that whole numbers of an input are below.
    """

    inputs: Callable[[Any, np.random.Generator], Arrays]
    outputs: Mapping[str, Output]
    limits: Mapping[str, str]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(network: nn.Module, method: str, params: Any, *arrays: Any) -> Any:
    return network.apply({"params": params}, *arrays, method=method)


def _tokenizer_inputs(config: TokenizerConfig, rng: np.random.Generator) -> Arrays:
    size, grid = config.image_size, config.grid
    pixels = rng.uniform(size=(1, size, 2 * size, 3)).astype(np.float32)
    codes = rng.integers(config.codebook_size, size=(1, grid, 2 * grid))
    return {"pixels": pixels, "codes": codes.astype(np.int32)}


def _features(weights: Weights, inputs: Arrays) -> Any:
    return weights.call("encode", inputs["pixels"])


def _codes(weights: Weights, inputs: Arrays) -> Any:
    codebook, z = weights.state["codebook"], _features(weights, inputs)
    logits = np.asarray(weights.call("code_logits", z, codebook))
    return logits.argmax(axis=-1).astype(np.int32)


def _pixels(weights: Weights, inputs: Arrays) -> Any:
    z = np.asarray(weights.state["codebook"])[inputs["codes"]]
    return weights.call("decode", z)


TOKENIZER = Case(
    _tokenizer_inputs,
    {
        "features": Output(("pixels",), _features),
        "codes": Output(("pixels",), _codes),
        "pixels": Output(("codes",), _pixels),
    },
    {"codes": "codebook_size"},
)


def _lm_inputs(config: ImageLMConfig, rng: np.random.Generator) -> Arrays:
    length = min(32, config.max_positions - _GREEDY)
    vectors = {}
    if config.caption_dim:
        num_text = config.table_positions
        shape = 2, num_text, config.caption_dim
        vectors = {"vectors": rng.normal(size=shape).astype(np.float32)}
        length = num_text + max(length - num_text, 1)
    mask = np.ones((2, length), bool)
    mask[1, : length // 4] = False
    positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0).astype(np.int32)
    num_ids = length - config.table_positions if vectors else length
    ids = rng.integers(config.vocab_size, size=(2, num_ids)).astype(np.int32)
    return vectors | {"ids": ids, "positions": positions, "mask": mask}


def _lm_logits(weights: Weights, inputs: Arrays) -> Any:
    ids = inputs["ids"]
    ids = (inputs["vectors"], ids) if "vectors" in inputs else ids
    arrays = (ids, inputs["positions"], inputs.get("mask"))
    return weights.call("__call__", *arrays)[0]


def _greedy(weights: Weights, inputs: Arrays) -> Any:
    """The most likely tokens that follow, each from a pass over all before it."""
    config, length = weights.network.config, inputs["positions"].shape[1]
    arrays = {key: np.asarray(value) for key, value in inputs.items()}
    # Where no position changes those before it, one length is one program.
    alone = config.sequence.is_causal and config.norm_scope in ("token", "none")
    ends = [length + _GREEDY - 1] * _GREEDY if alone else length + np.arange(_GREEDY)
    found = np.zeros((len(arrays["ids"]), _GREEDY), arrays["ids"].dtype)
    for i, end in enumerate(ends):
        logits = _lm_logits(weights, _continued(arrays, found[:, : end - length]))
        found[:, i] = np.asarray(logits)[:, length - 1 + i].argmax(-1)
    return found


def _continued(arrays: Arrays, tokens: np.ndarray) -> Arrays:
    """The inputs of a longer sequence: `tokens` [b, n] follow, none of them padding."""
    after = arrays["positions"][:, -1:] + 1 + np.arange(tokens.shape[1], dtype=np.int32)
    more = {"ids": tokens, "positions": after, "mask": np.ones(tokens.shape, bool)}
    more = {key: more[key] for key in more.keys() & arrays.keys()}
    both = {key: np.concatenate([arrays[key], x], axis=1) for key, x in more.items()}
    return {**arrays, **both}


IMAGE_LM = Case(
    _lm_inputs,
    {
        "logits": Output(("ids", "positions"), _lm_logits),
        "greedy": Output(("ids", "positions"), _greedy),
    },
    {"ids": "vocab_size", "positions": "max_positions"},
)


def _clip_inputs(config: ClipConfig, rng: np.random.Generator) -> Arrays:
    size = config.image_size
    pixels = rng.uniform(size=(2, size, size, 3)).astype(np.float32)
    ids = rng.integers(config.vocab_size - 1, size=(3, config.text_len))
    for row, end in zip(
        ids, (2, config.text_len // 2, config.text_len - 1), strict=True
    ):
        row[end] = config.vocab_size - 1
    return {"pixels": pixels, "ids": ids.astype(np.int32)}


def _image_features(weights: Weights, inputs: Arrays) -> Any:
    pixels = normalized(weights.network.config, inputs["pixels"])
    return weights.call("encode_image", pixels)


def _clip_logits(weights: Weights, inputs: Arrays) -> Any:
    pixels = normalized(weights.network.config, inputs["pixels"])
    return weights.call("__call__", pixels, inputs["ids"])


CLIP = Case(
    _clip_inputs,
    {
        "image_features": Output(("pixels",), _image_features),
        "text_features": Output(
            ("ids",), lambda weights, x: weights.call("encode_text", x["ids"])
        ),
        "logits": Output(("pixels", "ids"), _clip_logits),
    },
    {"ids": "vocab_size"},
)


def _t5_inputs(config: T5Config, rng: np.random.Generator) -> Arrays:
    ids = rng.integers(config.vocab_size, size=(2, min(24, config.text_len)))
    mask = np.ones(ids.shape, bool)
    mask[1, ids.shape[1] // 2 :] = False
    return {"ids": ids.astype(np.int32), "mask": mask}


def _t5_features(weights: Weights, inputs: Arrays) -> Any:
    tokens = np.asarray(weights.call("__call__", inputs["ids"], inputs["mask"]))
    return np.where(inputs["mask"][..., None], tokens, 0)


T5 = Case(
    _t5_inputs,
    {"features": Output(("ids", "mask"), _t5_features)},
    {"ids": "vocab_size"},
)


def _pair_inputs(config: EncoderDecoderConfig, rng: np.random.Generator) -> Arrays:
    ids = rng.integers(config.text_vocab_size, size=(2, config.text_len))
    mask = np.ones(ids.shape, bool)
    mask[1, config.text_len // 2 :] = False
    codes = rng.integers(config.vocab_size, size=(2, min(31, config.image_len - 1)))
    return {"ids": ids.astype(np.int32), "mask": mask, "codes": codes.astype(np.int32)}


def _text_states(weights: Weights, inputs: Arrays) -> Any:
    states = np.asarray(weights.call("encode", inputs["ids"], inputs["mask"]))
    return np.where(inputs["mask"][..., None], states, 0)


def _pair_logits(weights: Weights, inputs: Arrays) -> Any:
    return weights.call("score", inputs["ids"], inputs["mask"], inputs["codes"])


def _pair_greedy(weights: Weights, inputs: Arrays) -> Any:
    """The most likely first codes, special ids among them."""
    count = min(_GREEDY, weights.network.config.image_len)
    codes = np.zeros((len(inputs["ids"]), count), np.int32)
    for i in range(count):
        # No position sees those behind it: one length is one program.
        logits = _pair_logits(weights, {**inputs, "codes": codes[:, : count - 1]})
        codes[:, i] = np.asarray(logits)[:, i].argmax(-1)
    return codes


ENCODER_DECODER = Case(
    _pair_inputs,
    {
        "features": Output(("ids", "mask"), _text_states),
        "logits": Output(("ids", "mask", "codes"), _pair_logits),
        "greedy": Output(("ids", "mask"), _pair_greedy),
    },
    {"ids": "text_vocab_size", "codes": "vocab_size"},
)
