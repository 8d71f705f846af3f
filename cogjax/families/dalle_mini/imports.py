"""DALL-E mini and mega: files of Flax, and min-dalle's `encoder.pt` and `decoder.pt`.

Tensors of both get the names of min-dalle, each half with its own in front: Flax's
`model.encoder.layers.FlaxBartEncoderLayers.GLU_0.Dense_0.kernel`, of all layers, is
`encoder.layers.0.glu.fc0.weight` and so on. Image tokenizer and text tokenizer come
from files beside them.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cogjax.data.byte_bpe import BEGIN, END, PAD, STYLES, ByteBPE
from cogjax.errors import UserError, shown
from cogjax.families.dalle_mini.layout import Layout, PairVocab
from cogjax.families.dalle_mini.names import halves, rules_of
from cogjax.interop.byte_bpe import find_byte_bpe, stored_files
from cogjax.interop.importer import (
    Conversion,
    Export,
    Import,
    Importer,
    count,
    making,
    part_of,
    shape_of,
)
from cogjax.interop.rules import sources_of
from cogjax.interop.source import Source, Tensors
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.sampling.tokens.autoregressive import Sampler

_LICENCE = "Apache-2.0 (borisdayma/dalle-mini); min-dalle's copies are of these"
_LAYERS = r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.weight"
_HEAD_DIM = 64
# min-dalle begins with the last code of 2^14, dalle-mini with the id behind them.
_MIN_DALLE_START = 2**14 - 1
# Beside min-dalle's names, of which an own config.json alone says heads and the start.
_OWN = "cogjax_texts"
# What the public configs may say, and what is here of it.
_ONLY = {
    "activation_function": "gelu",
    "use_bias": False,
    "ln_type": "layernorm",
    "ln_positions": "normformer",
    "use_head_scale": False,
    "use_cosine_attention": False,
    "use_absolute_position_embeddings": True,
    "use_swin_position_embeddings": False,
    "use_deepnet_scaling": False,
    "use_glu": True,
    "use_alibi": False,
    "sinkhorn_iters": 1,
    "use_final_ln_encoder": True,
    "use_final_ln_decoder": True,
    "scale_embedding": False,
    "tie_word_embeddings": False,
}


def _detect(source: Source) -> bool:
    return any(map(halves, source.weights.values()))


def _plan(source: Source) -> Import:
    own = {path: x for path, x in source.weights.items() if halves(x)}
    tensors, is_flax = _joined(own)
    settings = source.config("d_model")
    style = _style(settings, is_flax)
    config = _config(tensors, settings, is_flax)
    part = Conversion(config, list(rules_of(config)), tensors)
    parts, notes = {"transformer": part}, []
    images = _images(source, own)
    if images:
        parts |= images.components
        notes += images.notes
    files, text = find_byte_bpe(source, style)
    if style == "normalized" and text and not text.cuts_hashtags:
        notes.append(
            "hashtags are not cut into words: give enwiki-words-frequency.txt for that"
        )
    if missing := _missing(images, text):
        notes.append(f"a part of a model: {missing} for one that generates")
        return Import("", parts, _LICENCE, notes=notes, others=files)
    layout = _layout(config, parts["tokenizer"].config, text)
    top_k, guidance = (256, 16.0) if style == "words" else (0, 10.0)
    return Import(
        "dalle_mini",
        parts,
        _LICENCE,
        layout=layout,
        text=text,
        # As the notebook of dalle-mini, and as min-dalle, sample.
        sampler=Sampler(top_k=top_k, guidance=guidance),
        notes=notes,
        others=files,
    )


def _style(settings: Mapping[str, Any], is_flax: bool) -> str:
    """How texts are read, of `ByteBPE`: as said by our own files, else by the kind."""
    style = settings.get(_OWN, "plain" if is_flax else "words")
    if style not in STYLES:
        raise UserError(f"config.json says {_OWN} {shown(style)}: {', '.join(STYLES)}")
    return "normalized" if settings.get("normalize_text") else style


def _joined(files: Mapping[Path, Tensors]) -> tuple[Tensors, bool]:
    """(tensors of both halves under min-dalle's names, whether they are Flax's)."""
    found: dict[str, Any] = {}
    for path, tensors in files.items():
        named = halves(tensors)
        if twice := named.keys() & found.keys():
            raise UserError(
                f"{path} and another file both have {shown(min(twice))}: give the "
                "files of one model"
            )
        found |= named
    for half in ("encoder", "decoder"):
        if not any(name.startswith(half) for name in found):
            raise UserError(
                f"the {half} is missing: give {half}.pt, or all files of "
                "flax_model.msgpack"
            )
    names = (name for tensors in files.values() for name in tensors)
    return found, any(name.startswith("model.") for name in names)


def _config(
    tensors: Tensors, settings: Mapping[str, Any], is_flax: bool
) -> EncoderDecoderConfig:
    """Sizes of the tensors; heads and the start are those of config.json, if it is."""
    if is_flax and not settings:
        raise UserError(
            "config.json is missing, which says the heads: give the one beside "
            "flax_model.msgpack"
        )
    _check_settings(settings)
    text_vocab_size, width = shape_of(tensors, "encoder.embed_tokens.weight", 2)
    vocab_size = shape_of(tensors, "decoder.embed_tokens.weight", 2)[0]
    heads = settings.get("encoder_attention_heads", 16)
    start = settings.get("decoder_start_token_id")
    start = settings.get("image_vocab_size", 16384) if start is None else start
    if not is_flax and _OWN not in settings:
        heads, start = width // _HEAD_DIM, min(_MIN_DALLE_START, vocab_size - 2)
    if not type(heads) is type(start) is int or heads < 1:
        raise UserError(
            f"config.json says encoder_attention_heads {shown(heads)} and "
            f"decoder_start_token_id {shown(start)}: whole numbers are expected"
        )
    with making("DALL-E mini"):
        return EncoderDecoderConfig(
            width=width,
            depth=count(tensors, _LAYERS),
            heads=heads,
            mlp_dim=shape_of(tensors, "encoder.layers.0.glu.fc0.weight", 2)[0],
            text_vocab_size=text_vocab_size,
            text_len=shape_of(tensors, "encoder.embed_positions.weight", 2)[0],
            vocab_size=vocab_size,
            image_len=shape_of(tensors, "decoder.embed_positions.weight", 2)[0],
            start=start,
            all_scales="encoder.final_ln.weight" in tensors,
        )


def _check_settings(settings: Mapping[str, Any]) -> None:
    """UserError for a config.json that says what is not here."""
    for name, value in _ONLY.items():
        if settings.get(name, value) != value:
            raise UserError(
                f"config.json says {name} {shown(settings[name])}, and only {value!r} "
                "can be imported"
            )
    for name in ("attention_heads", "layers", "ffn_dim"):
        both = [settings.get(f"{half}_{name}") for half in ("encoder", "decoder")]
        if both[0] != both[1]:
            raise UserError(
                f"config.json says encoder_{name} {shown(both[0])} and decoder_{name} "
                f"{shown(both[1])}, and only equal ones can be imported"
            )


def _images(source: Source, own: Mapping[Path, Tensors]) -> Import | None:
    """The image tokenizer that the other files of weights are, None without any."""
    rest = {path: x for path, x in source.weights.items() if path not in own}
    if not rest:
        return None
    configs = {
        path: x
        for path, x in source.configs.items()
        if "ch_mult" in x or isinstance(x.get("model"), Mapping)
    }
    return part_of("vqgan", replace(source, weights=rest, configs=configs))


def _missing(images: Import | None, text: ByteBPE | None) -> str:
    """What to give besides, "" if nothing is missing."""
    parts = {
        "the image tokenizer (detoker.pt, or the msgpack of "
        "vqgan_imagenet_f16_16384)": images,
        "the text tokenizer (tokenizer.json, or vocab.json and merges.txt)": text,
    }
    missing = " and ".join(what for what, found in parts.items() if found is None)
    return f"give {missing}" if missing else ""


def _layout(config: EncoderDecoderConfig, tokenizer: Any, text: ByteBPE) -> Layout:
    """UserError for parts that do not belong together."""
    special = text.special
    if missing := {BEGIN, PAD, END} - special.keys():
        raise UserError(
            f"the text tokenizer has no {min(missing)}: give the one of this model"
        )
    problems = (
        (text.size > config.text_vocab_size, f"{text.size} pieces of text for a table"),
        (tokenizer.codebook_size > config.vocab_size, "more codes than it has ids"),
        (tokenizer.grid**2 != config.image_len, f"{tokenizer.grid}^2 codes an image"),
        (config.text_len < 3, "no room for a text"),
    )
    for wrong, what in problems:
        if wrong:
            raise UserError(
                f"the transformer reads {config.text_vocab_size} pieces of text, "
                f"{config.vocab_size} ids of codes and {config.image_len} codes an "
                f"image, and there are {what}: give the files of one model"
            )
    vocab = PairVocab(
        num_codes=tokenizer.codebook_size,
        padded_size=config.vocab_size,
        num_text=text.size,
        begin=special[BEGIN],
        end=special[END],
        pad=special[PAD],
    )
    return Layout(vocab, config.text_len, config.image_len)


def _export(config: EncoderDecoderConfig, model: Any, torch: bool) -> Export | None:
    """min-dalle's names; None for a network whose sizes are not all in its tensors."""
    del torch
    rules = list(rules_of(config))
    text = model.text if isinstance(model.text, ByteBPE) else None
    said = {
        "d_model": config.width,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "decoder_start_token_id": config.start,
        _OWN: text.style if text else "words",
    }
    if config != _config(sources_of(rules), said, is_flax=False):
        return None
    others = {"config.json": json.dumps(said, indent=2)}
    if text:
        others |= stored_files(text)
    files = {f"{half}.": f"{half}.safetensors" for half in ("encoder", "decoder")}
    return Export(
        "kuprel/min-dalle, DalleBartEncoder and DalleBartDecoder",
        rules,
        files,
        others,
        "vocab.json" if text else "",
        notes=_differences(config, text),
    )


def _differences(config: EncoderDecoderConfig, text: ByteBPE | None) -> list[str]:
    """What min-dalle does otherwise."""
    notes = []
    if config.start != _MIN_DALLE_START:
        notes.append(
            f"codes start behind the id {config.start}, min-dalle's behind "
            f"{_MIN_DALLE_START}: its images differ"
        )
    if config.heads * _HEAD_DIM != config.width:
        notes.append(f"there are {config.heads} heads, and the files do not say so")
    if text and text.style != "words":
        notes.append(f"texts are read as {text.style}, min-dalle reads words alone")
    return notes


DALLE_MINI = Importer(
    "DALL-E mini or mega", _detect, _plan, exports={"encoder_decoder": _export}
)
