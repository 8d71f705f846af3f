"""CogView's release: the VQ-VAE, the transformer and the SentencePiece model.

The transformer's norms are scaled by the largest value of a whole batch, which the
model keeps (`norm_scope` "tensor"): its logits depend on what is computed beside them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cogjax.data.vocab import Vocab
from cogjax.errors import UserError, shown
from cogjax.families.cogview.layout import Layout
from cogjax.interop.importer import (
    Conversion,
    Export,
    Import,
    Importer,
    count,
    leaves_of,
    lost_size,
    making,
    shape_of,
)
from cogjax.interop.rules import Rule, copy, layer, of_one, stacked_modules
from cogjax.interop.source import Source, Tensors
from cogjax.interop.texts import find_sentencepiece
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.ops.masks import FULL
from cogjax.ops.sequence import Sequence
from cogjax.sampling.tokens.autoregressive import Sampler

_TABLE, _CODES = "word_embeddings.weight", "quantize_t.embed"
_HEAD_DIM = 64
_LAYERS = r"transformer\.layers\.(\d+)\.input_layernorm\.weight"
_NAMES = {
    "pre_attn_norm": "input_layernorm",
    "post_attn_norm": "third_layernorm",
    "pre_mlp_norm": "post_attention_layernorm",
    "post_mlp_norm": "fourth_layernorm",
    "qkv": "attention.query_key_value",
    "attn_out": "attention.dense",
    "mlp_in": "mlp.dense_h_to_4h",
    "mlp_out": "mlp.dense_4h_to_h",
}
# All that may differ from the release's VQ-VAE.
_SIZES = ("image_size", "widths", "code_dim", "codebook_size")
_LICENCE = "Apache-2.0 (THUDM/CogView)"
# The release's flag, in a JSON file beside the weights, and its values.
_SAYS, _CAPTIONS, _ENLARGES = "generation_task", "image2text", "super-resolution"
_TASKS = "text2image", _CAPTIONS, _ENLARGES
_CAPTION_LEN = 20
_BATCH = (
    "logits depend on the batch, as in the release: set norm_scope of the transformer "
    "to 'token' in config.json for images that do not depend on their neighbours"
)


def _detect(source: Source) -> bool:
    is_ours = (_is_vqvae(x) or _is_transformer(x) for x in source.weights.values())
    return all(is_ours)


def _is_vqvae(tensors: Tensors) -> bool:
    return {_CODES, "enc_b.blocks.0.weight"} <= tensors.keys()


def _is_transformer(tensors: Tensors) -> bool:
    names = _TABLE, f"transformer.{_TABLE}"
    position = "transformer.position_embeddings.weight"
    return position in tensors and any(name in tensors for name in names)


def _plan(source: Source) -> Import:
    tokenizer = _only(source, _is_vqvae, "VQ-VAEs")
    transformer = _only(source, _is_transformer, "transformers, or parts of one")
    parts, notes = {}, []
    if tokenizer:
        parts["tokenizer"] = _vqvae(tokenizer)
    if transformer:
        parts["transformer"] = _transformer(transformer)
        notes.append(_BATCH)
    text = find_sentencepiece(source)
    if not (tokenizer and transformer and text):
        if transformer:
            notes.append(
                "a part of a model: give the VQ-VAE, the transformer and "
                "cog-pretrain.model together for one that generates"
            )
        return Import("", parts, _LICENCE, notes=notes)
    layout = _layout(parts["tokenizer"].config, parts["transformer"].config, text[1])
    task, sampler = _task(source), Sampler(top_k=200)
    if task == _CAPTIONS:
        layout = replace(layout, caption_len=min(_CAPTION_LEN, layout.text_len))
    if task == _ENLARGES:
        layout, sampler = _enlarging(parts, layout), Sampler(1.02, top_k=200)
    return Import(
        "cogview",
        parts,
        _LICENCE,
        layout=layout,
        text=text[1],
        sampler=sampler,
        notes=notes,
        others=[text[0]],
    )


def _task(source: Source) -> str:
    """What the weights were trained to do last, which none of them tells."""
    task = source.config(_SAYS).get(_SAYS, _TASKS[0])
    if task not in _TASKS:
        raise UserError(
            f"the config file says {_SAYS} {shown(task)}: {', '.join(_TASKS)}"
        )
    return task


def _enlarging(parts: dict[str, Conversion], layout: Layout) -> Layout:
    """Its sequences are longer than the table of positions, which begin anew.

    Parity: the release takes 1,345 tokens at most, so 57 pieces of a text.
    tests/importing/test_cogview.py
    """
    layout = replace(layout, enlarges=True, text_len=max(layout.text_len - 4, 1))
    length = layout.enlarging_len + layout.image_len
    part = parts["transformer"]
    config = replace(part.config, sequence=Sequence.causal(length))
    parts["transformer"] = replace(part, config=config)
    return layout


def _only(source: Source, is_kind, what: str) -> Tensors | None:
    found = {path: x for path, x in source.weights.items() if is_kind(x)}
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise UserError(f"{names} are {len(found)} {what}: give one whole one")
    return next(iter(found.values()), None)


def _vqvae(tensors: Tensors) -> Conversion:
    code_dim, codebook_size = shape_of(tensors, _CODES, 2)
    widths = tuple(
        shape_of(tensors, f"enc_b.blocks.{2 * i}.weight", 4)[0] for i in range(3)
    )
    with making("VQ-VAE"):
        config = VQVAEConfig(
            widths=widths, code_dim=code_dim, codebook_size=codebook_size
        )
    dropped = r"quantize_t\.(cluster_size|embed_avg)"
    return Conversion(config, list(_vqvae_rules(config)), tensors, dropped)


def _vqvae_rules(config: VQVAEConfig) -> Iterator[Rule]:
    """Blocks are numbered with their activations; the decoder's from the coarsest."""
    wanted, depth = leaves_of(config), len(config.widths)
    yield of_one("codebook", _CODES, wanted["codebook"].shape[::-1], lambda x: x.T)
    for half, module in (("encoder", "enc_b"), ("decoder", "dec")):
        name = f"{module}.blocks.{2 * depth}"
        yield from layer(wanted, f"{half}/out", f"{name}.weight", f"{name}.bias")
    for i in range(depth):
        name = f"enc_b.blocks.{2 * i}"
        path = f"encoder/down_{i}"
        yield from layer(wanted, path, f"{name}.weight", f"{name}.bias")
        name = f"dec.blocks.{2 * (depth - 1 - i)}"
        path = f"decoder/up_{i}"
        y, x, inputs, outputs = wanted[f"{path}/kernel"].shape
        shape = inputs, outputs, y, x
        yield of_one(
            f"{path}/kernel", f"{name}.weight", shape, lambda x: x.transpose(2, 3, 0, 1)
        )
        yield copy(f"{path}/bias", f"{name}.bias", wanted)


def _transformer(tensors: Tensors) -> Conversion:
    # SwissArmyTransformer has the table in the transformer.
    tensors = {
        _TABLE if name == f"transformer.{_TABLE}" else name: x
        for name, x in tensors.items()
    }
    vocab_size, width = shape_of(tensors, _TABLE, 2)
    positions = shape_of(tensors, "transformer.position_embeddings.weight", 2)[0]
    wide = shape_of(tensors, "transformer.layers.0.mlp.dense_h_to_4h.weight", 2)[0]
    if width % _HEAD_DIM:
        raise UserError(f"the width {width} is no multiple of {_HEAD_DIM}, a head's")
    with making("CogView"):
        config = ImageLMConfig(
            width=width,
            depth=count(tensors, _LAYERS),
            heads=width // _HEAD_DIM,
            mlp_dim=wide,
            vocab_size=vocab_size,
            max_positions=positions,
            sequence=Sequence.causal(positions),
            norm_scope="tensor",
        )
    return Conversion(config, list(_transformer_rules(config)), tensors)


def _transformer_rules(config: ImageLMConfig) -> Iterator[Rule]:
    wanted: Mapping[str, Any] = leaves_of(config)
    yield from stacked_modules(wanted, _NAMES, "transformer.layers.{}.", config.depth)
    for leaf, end in (("scale", "weight"), ("bias", "bias")):
        yield copy(f"final_norm/{leaf}", f"transformer.final_layernorm.{end}", wanted)
    yield copy("token_embedding", _TABLE, wanted)
    yield copy("position_embedding", "transformer.position_embeddings.weight", wanted)


def _layout(tokenizer: VQVAEConfig, transformer: ImageLMConfig, text: Any) -> Layout:
    """UserError for parts that do not belong together."""
    vocab = Vocab(tokenizer.codebook_size, text.size)
    if vocab.padded_size != transformer.vocab_size:
        raise UserError(
            f"{tokenizer.codebook_size} codes and {text.size} pieces of text make "
            f"{vocab.padded_size} ids, the transformer has {transformer.vocab_size}: "
            "give the files of one model"
        )
    image_len = tokenizer.grid**2
    text_len = transformer.max_positions - image_len - 4
    if text_len < 1:
        raise UserError(
            f"the transformer has {transformer.max_positions} positions, an image of "
            f"{image_len} codes and a text need more"
        )
    return Layout(vocab, text_len, image_len)


def _export_vqvae(config: VQVAEConfig, model: Any, torch: bool) -> Export | None:
    """None for blocks, steps or colours that the release has not."""
    del model, torch
    usual = VQVAEConfig()
    own = {name: getattr(config, name) for name in _SIZES}
    if len(config.widths) != len(usual.widths) or config != replace(usual, **own):
        return None
    rules = list(_vqvae_rules(config))
    public = "THUDM/CogView, vqvae.vqvae_zc.VQVAE"
    notes = lost_size(config.image_size, usual.image_size)
    return Export(public, rules, {"": "vqvae.safetensors"}, notes=notes)


def _export_transformer(
    config: ImageLMConfig, model: Any, torch: bool
) -> Export | None:
    """None for other masks, positions, heads or widths than the release has."""
    del torch
    plain = config.sandwich and config.mlp_dim == 4 * config.width
    plain &= config.head_dim == _HEAD_DIM and not (config.grid or config.outputs)
    if not plain or not config.sequence.is_causal or {*config.layer_kinds} != {FULL}:
        return None
    notes, layout = [], model.layout
    if config.norm_scope != "tensor":
        notes.append(
            f"the transformer has norm_scope {config.norm_scope!r}, the public code "
            "computes 'tensor': its logits differ"
        )
    if getattr(layout, "fixed", False):
        notes.append(
            "codes have positions of their own, and the public code counts all tokens "
            "as they come: its logits differ"
        )
    tasks = {_CAPTIONS: "caption_len", _ENLARGES: "enlarges"}
    said = [task for task, name in tasks.items() if getattr(layout, name, 0)]
    return Export(
        "THUDM/CogView, model.gpt2_modeling.GPT2Model",
        list(_transformer_rules(config)),
        {"": "transformer.safetensors"},
        {"args.json": json.dumps({_SAYS: said[0]})} if said else {},
        text="cog-pretrain.model" if model.text else "",
        notes=notes,
    )


COGVIEW = Importer(
    "CogView",
    _detect,
    _plan,
    exports={"vqvae": _export_vqvae, "image_lm": _export_transformer},
)
