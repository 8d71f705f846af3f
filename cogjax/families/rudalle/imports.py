"""ru-dalle's release: a transformer, the gumbel VQGAN of f8, and the text tokenizer.

The two versions of the transformer, v2 (Emojich) and v3, have the same tensors. They
are told apart by the mask of the last layer, if the file has it, or by `hf_version` of
a JSON file beside them. Heads are told by nothing: 128 channels at the width of 2048,
else 64, or as many heads as `num_attention_heads` of such a file says.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.data.yttm import YttmBPE
from cogjax.errors import UserError, shown
from cogjax.families.rudalle.layout import Layout, Vocab
from cogjax.families.rudalle.presets import EDGES, convolution, make_network
from cogjax.interop import vqgan
from cogjax.interop.importer import (
    Conversion,
    Export,
    Import,
    Importer,
    count,
    leaves_of,
    making,
    shape_of,
)
from cogjax.interop.rules import Rule, copy, of_one, sources_of, stacked_modules
from cogjax.interop.source import Source, Tensors
from cogjax.interop.texts import find_yttm
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops.masks import image_mask
from cogjax.sampling.tokens.autoregressive import Sampler

_TABLES = "image_embeddings.weight", "text_embeddings.weight"
_PLACES = {
    "position_embedding": "text_pos_embeddings.weight",
    "row_embedding": "image_row_embeddings.weight",
    "column_embedding": "image_col_embeddings.weight",
}
_WIDE = "transformer.layers.0.mlp.dense_h_to_4h.weight"
_CONV = "transformer.conv_mask"
_LAYERS = r"transformer\.layers\.(\d+)\.input_layernorm\.weight"
_DROPPED = r"transformer\.(row|col|conv)_mask"
_NAMES = {
    "pre_attn_norm": "input_layernorm",
    "post_attn_norm": "before_first_addition_layernorm",
    "pre_mlp_norm": "post_attention_layernorm",
    "post_mlp_norm": "before_second_addition_layernorm",
    "qkv": "attention.query_key_value",
    "attn_out": "attention.dense",
    "mlp_in": "mlp.dense_h_to_4h",
    "mlp_out": "mlp.dense_4h_to_h",
}
_NORMS = {"final_norm": "transformer.final_layernorm", "head_norm": "to_logits.0"}
_LICENCE = "Apache-2.0 (ai-forever/ru-dalle)"


def _detect(source: Source) -> bool:
    return any(set(_TABLES) <= tensors.keys() for tensors in source.weights.values())


def _plan(source: Source) -> Import:
    parts = list(source.weights.values())
    vae = [tensors for tensors in parts if vqgan.is_tokenizer(tensors)]
    gpt = [tensors for tensors in parts if _TABLES[0] in tensors]
    if len(vae) != 1 or len(gpt) != 1 or len(parts) != 2:
        raise UserError(
            f"{', '.join(map(str, source.weights))}: ru-dalle is one transformer and "
            "one vqgan.gumbelf8-sber.model.ckpt: give both, and no other weights"
        )
    settings = source.config("resolution")
    tokenizer = vqgan.config_of(vae[0], settings.get("resolution", vqgan.RESOLUTION))
    rules = list(vqgan.rules_of(tokenizer))
    components = {"tokenizer": Conversion(tokenizer, rules, vae[0], vqgan.DROPPED)}
    config = _config(gpt[0], source)
    num_codes = shape_of(gpt[0], _TABLES[0], 2)[0]
    if (num_codes, config.grid) != (tokenizer.codebook_size, tokenizer.grid):
        raise UserError(
            f"the transformer has {num_codes} codes, {config.grid} a side, the VQGAN "
            f"{tokenizer.codebook_size} and {tokenizer.grid}: give the files of one "
            "model"
        )
    rules = list(_rules(config, num_codes))
    components["transformer"] = Conversion(config, rules, gpt[0], _DROPPED)
    found = find_yttm(source)
    if found is None:
        raise UserError("the text tokenizer is missing: give bpe.model too")
    path, text = found
    return Import(
        "rudalle",
        components,
        _LICENCE,
        layout=_layout(config, num_codes, text),
        text=text,
        sampler=Sampler(top_k=2048, top_p=0.995),
        notes=["codes of an image are the best ones: the public code may add noise"],
        others=[path],
    )


def _config(tensors: Tensors, source: Source) -> ImageLMConfig:
    num_codes, width = shape_of(tensors, _TABLES[0], 2)
    ids = num_codes + shape_of(tensors, _TABLES[1], 2)[0]
    num_places, grid = (
        shape_of(tensors, name, 2)[0] for name in list(_PLACES.values())[:2]
    )
    with making("ru-dalle"):
        return make_network(
            _version(tensors, grid, source),
            num_places - 1,
            grid,
            width=width,
            depth=count(tensors, _LAYERS),
            heads=_heads(width, source),
            mlp_dim=shape_of(tensors, _WIDE, 2)[0],
            vocab_size=ids,
        )


def _heads(width: int, source: Source) -> int:
    said = source.config("num_attention_heads").get("num_attention_heads")
    if said is None:
        return max(width // (128 if width == 2048 else 64), 1)
    if type(said) is not int or said < 1:
        raise UserError(f"the config file says num_attention_heads {shown(said)}")
    return said


def _version(tensors: Tensors, grid: int, source: Source) -> str:
    """ "v2" or "v3": as said, or as the mask of convolutions is."""
    said = source.config("hf_version").get("hf_version")
    if said is not None:
        if said not in list(EDGES):  # Which may be of any type.
            raise UserError(f"the config file says hf_version {shown(said)}: v2 or v3")
        return said
    stored = tensors.get(_CONV)
    side = max(stored.shape, default=0) if stored is not None else 0
    # Before anything of that size is made: the tables may say any grid.
    if side and stored.shape == (side, side) and grid**2 <= side <= 2**12:
        mask = np.asarray(stored.read())[-(grid**2) :, -(grid**2) :] != 0
        for version, edge in EDGES.items():
            if np.array_equal(mask, image_mask(convolution(edge), (grid, grid))):
                return version
    raise UserError(
        "nothing says whether these weights are v2 (Emojich, the first Malevich) or "
        'v3: add a file such as args.json with {"hf_version": "v3"}'
    )


def _rules(config: ImageLMConfig, num_codes: int) -> Iterator[Rule]:
    """num_codes: rows of the table of codes, which come first here and last there."""
    wanted: Mapping[str, Any] = leaves_of(config)
    num_rows = config.vocab_size - num_codes
    sources = {
        _TABLES[0]: (num_codes, config.width),
        _TABLES[1]: (num_rows, config.width),
    }
    yield Rule("token_embedding", sources, tuple((x,) for x in _TABLES), lambda x: x)
    for leaf, name in (("head", "weight"), ("head_bias", "bias")):
        shape = wanted[leaf].shape
        yield of_one(
            leaf, f"to_logits.1.{name}", shape, lambda x: np.roll(x, -num_rows, axis=0)
        )
    for leaf, name in _PLACES.items():
        yield copy(leaf, name, wanted)
    for module, name in _NORMS.items():
        yield copy(f"{module}/scale", f"{name}.weight", wanted)
        yield copy(f"{module}/bias", f"{name}.bias", wanted)
    yield from stacked_modules(wanted, _NAMES, "transformer.layers.{}.", config.depth)


def _layout(config: ImageLMConfig, num_codes: int, text: YttmBPE) -> Layout:
    """UserError for a tokenizer of another table."""
    full_len = config.sequence.segments[0].length
    rows = config.vocab_size - num_codes
    if text.size + full_len > rows:
        raise UserError(
            f"the tokenizer has {text.size} ids and a text {full_len} paddings, the "
            f"weights {rows} rows: give the files of one model"
        )
    vocab = Vocab(num_codes, text.size, rows, text.start, text.end)
    shifted = any(kind.edge == EDGES["v2"] for kind in config.kinds)
    return Layout(vocab, full_len, config.grid**2, shifted)


def _export(config: ImageLMConfig, model: Any, torch: bool) -> Export | None:
    """None for a network of another family, or changed to what the release has not."""
    del torch
    if model.family != "rudalle":
        return None
    rules = list(_rules(config, model.layout.vocab.num_codes))
    said = {
        "hf_version": "v2" if model.layout.shifted else "v3",
        "num_attention_heads": config.heads,
        "resolution": model["tokenizer"].config.image_size,
    }
    source = Source({}, {Path("args.json"): said})
    if config != _config(sources_of(rules), source):
        return None
    return Export(
        "ai-forever/ru-dalle, rudalle.dalle.model.DalleModel",
        rules,
        {"": "transformer.safetensors"},
        {"args.json": json.dumps(said)},
        "bpe.model",
    )


RUDALLE = Importer("ru-dalle", _detect, _plan, exports={"image_lm": _export})
