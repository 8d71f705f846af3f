"""minDALL-E's release: `stage1_last.ckpt`, a VQGAN, and `stage2_last.ckpt`, a GPT.

The GPT has tables, positions and heads of text and of codes: here they are one each,
those of codes first but for the positions, of which the text's come first.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cogjax.data.char_bpe import CharBPE
from cogjax.errors import UserError, shown
from cogjax.families.mindalle.layout import Layout, Vocab
from cogjax.families.mindalle.presets import make_network
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
from cogjax.interop.rules import Rule, copy, joined, sources_of, stacked_modules
from cogjax.interop.source import Source, Tensors
from cogjax.interop.texts import find_merges
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.vqgan import VQGANConfig
from cogjax.sampling.tokens.autoregressive import Sampler

_TABLES = "tok_emb_img.weight", "tok_emb_txt.weight"
_PLACES = "pos_emb_txt.weight", "pos_emb_img.weight"
_HEADS = "head_img.weight", "head_txt.weight"
_LAYERS = r"blocks\.(\d+)\.ln1\.weight"
_NAMES = {
    "pre_attn_norm": "ln1",
    "pre_mlp_norm": "ln2",
    "attn_out": "attn.proj",
    "mlp_in": "mlp.0",
    "mlp_out": "mlp.2",
}
_HEAD_DIM = 64
_SETTINGS = {"mlp_bias": True, "attn_bias": True, "gelu_use_approx": False}
_LICENCE = "CC-BY-NC-SA-4.0, no commercial use (kakaobrain/minDALL-E)"


def _detect(source: Source) -> bool:
    return any(_TABLES[1] in tensors for tensors in source.weights.values())


def _plan(source: Source) -> Import:
    parts = list(source.weights.values())
    stage1 = [tensors for tensors in parts if vqgan.is_tokenizer(tensors)]
    stage2 = [tensors for tensors in parts if _TABLES[1] in tensors]
    if len(stage1) != 1 or len(stage2) != 1 or len(parts) != 2:
        raise UserError(
            f"{', '.join(map(str, source.weights))}: minDALL-E is one stage1_last.ckpt "
            "and one stage2_last.ckpt: give both, and no other weights"
        )
    tokenizer = _tokenizer(source, stage1[0])
    rules = list(vqgan.rules_of(tokenizer))
    components = {"tokenizer": Conversion(tokenizer, rules, stage1[0], vqgan.DROPPED)}
    config = _config(stage2[0], tokenizer.grid, source)
    num_codes = shape_of(stage2[0], _TABLES[0], 2)[0]
    rules = list(_rules(config, num_codes))
    components["transformer"] = Conversion(config, rules, stage2[0])
    found = find_merges(source)
    table = source.config(CharBPE.UNKNOWN)
    if found is None or not table:
        raise UserError(
            "the text tokenizer is missing: give the folder with bpe-16k-vocab.json "
            "and bpe-16k-merges.txt too"
        )
    path, merges = found
    text = CharBPE.of(table, merges, f"the tokenizer of {path}")
    if num_codes != tokenizer.codebook_size:
        raise UserError(
            f"the GPT has {num_codes} codes, the VQGAN {tokenizer.codebook_size}: give "
            "the files of one model"
        )
    return Import(
        "mindalle",
        components,
        _LICENCE,
        layout=_layout(config, num_codes, text),
        text=text,
        sampler=Sampler(top_k=256),
        others=[path],
    )


def _stage(source: Source, name: str) -> dict[str, Any]:
    """Settings of a stage in config.yaml, which may name only some; {} without one."""
    stage = source.config(name).get(name)
    stage = stage if isinstance(stage, Mapping) else {}
    inner = stage.get("hparams")
    return {**stage, **(inner if isinstance(inner, Mapping) else {})}


def _tokenizer(source: Source, tensors: Tensors):
    settings = _stage(source, "stage1")
    size = settings.get("resolution", vqgan.RESOLUTION)
    config = vqgan.config_of(tensors, size)
    vqgan.check_settings(config, settings)
    return config


def _config(tensors: Tensors, grid: int, source: Source) -> ImageLMConfig:
    settings = _stage(source, "stage2")
    for name, value in _SETTINGS.items():
        if settings.get(name, value) != value:
            raise UserError(
                f"the config file says {name} {shown(settings[name])}, and only "
                f"{value} can be imported"
            )
    width = shape_of(tensors, _TABLES[0], 2)[1]
    ids = sum(shape_of(tensors, name, 2)[0] for name in _TABLES)
    num_text, num_image = (shape_of(tensors, name, 2)[0] for name in _PLACES)
    if num_image != grid**2:
        raise UserError(
            f"the GPT has {num_image} positions of codes, the VQGAN's images "
            f"{grid**2}: give the files of one model"
        )
    heads = settings.get("n_heads", max(width // _HEAD_DIM, 1))
    if type(heads) is not int or heads < 1:
        raise UserError(f"the config file says n_heads {shown(heads)}")
    with making("minDALL-E"):
        return make_network(
            ids,
            num_text,
            grid,
            width=width,
            depth=count(tensors, _LAYERS),
            heads=heads,
            mlp_dim=shape_of(tensors, "blocks.0.mlp.0.weight", 2)[0],
        )


def _rules(config: ImageLMConfig, num_codes: int) -> Iterator[Rule]:
    """num_codes: rows of the table of codes."""
    wanted: Mapping[str, Any] = leaves_of(config)
    ids = num_codes, config.vocab_size - num_codes
    places = [segment.length for segment in config.sequence.segments]
    yield _behind("token_embedding", _TABLES, ids, config.width)
    yield _behind("head", _HEADS, ids, config.width)
    yield _behind("position_embedding", _PLACES, places, config.width)
    yield copy("final_norm/scale", "ln_f.weight", wanted)
    yield copy("final_norm/bias", "ln_f.bias", wanted)
    for path in wanted:
        *_, module, leaf = f"/{path}".split("/")
        if module == "qkv":
            end = "bias" if leaf == "bias" else "weight"
            names = [f"blocks.{{}}.attn.{x}.{end}" for x in ("query", "key", "value")]
            yield joined(wanted, path, names, config.depth)
    yield from stacked_modules(wanted, _NAMES, "blocks.{}.", config.depth)


def _behind(leaf: str, names, rows, width: int) -> Rule:
    """Tables one behind the other."""
    sources = {name: (count, width) for name, count in zip(names, rows, strict=True)}
    return Rule(leaf, sources, tuple((name,) for name in names), lambda x: x)


def _layout(config: ImageLMConfig, num_codes: int, text: CharBPE) -> Layout:
    """UserError for a tokenizer of another table."""
    num_text, image = config.sequence.segments
    rows = config.vocab_size - num_codes
    if max(text.size, text.pad + 1) > rows:
        raise UserError(
            f"the tokenizer has {text.size} pieces and padding {text.pad}, the weights "
            f"{rows} rows: give the files of one model"
        )
    vocab = Vocab(num_codes, text.size, text.pad, rows)
    return Layout(vocab, num_text.length, image.length)


def _export(config: ImageLMConfig, model: Any, torch: bool) -> Export | None:
    """None for a network of another family, or changed to what the release has not."""
    del torch
    if model.family != "mindalle":
        return None
    vocab, grid = model.layout.vocab, config.sequence.segments[1].grid[0]
    rules = list(_rules(config, vocab.num_codes))
    stages = _stages(config, model["tokenizer"].config, vocab.num_rows)
    source = Source({}, {Path("config.yaml"): stages})
    if config != _config(sources_of(rules), grid, source):
        return None
    # The merges, the table, and the config file of both stages.
    text = json.loads(model.text.serialized)
    merges = "\n".join(["#version: 0.2", *map(" ".join, text["merges"]), ""])
    table = {piece: i for i, piece in enumerate(text["pieces"])}
    return Export(
        "kakaobrain/minDALL-E, dalle.models.stage2.transformer.Transformer1d",
        rules,
        {"": "stage2.safetensors"},
        {
            "config.yaml": yaml.safe_dump(stages),
            "bpe-16k-vocab.json": json.dumps(table, ensure_ascii=False),
            "bpe-16k-merges.txt": merges,
        },
        "bpe-16k-vocab.json",
    )


def _stages(config: ImageLMConfig, tokenizer: VQGANConfig, num_rows: int) -> dict:
    """config.yaml of the release."""
    sizes = vqgan.said(tokenizer) | {"resolution": tokenizer.image_size}
    sizes.pop("resamp_with_conv")
    stage1 = {key: sizes.pop(key) for key in ("embed_dim", "n_embed")}
    num_text, num_image = (segment.length for segment in config.sequence.segments)
    hparams = {
        "embed_dim": config.width,
        "n_layers": config.depth,
        "n_heads": config.heads,
        "ctx_len_txt": num_text,
        "ctx_len_img": num_image,
        **_SETTINGS,
    }
    stage2 = {"vocab_size_txt": num_rows, "vocab_size_img": stage1["n_embed"]}
    return {
        "stage1": stage1 | {"hparams": sizes},
        "stage2": stage2 | {"hparams": hparams},
    }


MINDALLE = Importer("minDALL-E", _detect, _plan, exports={"image_lm": _export})
