"""LlamaGen's release: the VQ of images, and a GPT of classes or of captions.

The weights do not tell how large an image is (`image_size` of a JSON file beside them,
256 without one), nor their heads, which have 64 channels but for the 3B and 7B
(`n_head` of such a file).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cogjax.data.class_names import ClassNames
from cogjax.errors import UserError, shown
from cogjax.families.llamagen import vq as vqs
from cogjax.families.llamagen.layout import Layout, Vocab
from cogjax.families.llamagen.presets import make_network
from cogjax.interop import t5_import
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
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.sampling.tokens.autoregressive import Sampler

_TABLE, _HEAD = "tok_embeddings.weight", "output.weight"
_CLASSES = "cls_embedding.embedding_table.weight"
_NO_CAPTION = "cls_embedding.uncond_embedding"
_PROJECT = "cls_embedding.cap_proj.{}.weight"
_LAYERS = r"layers\.(\d+)\.attention_norm\.weight"
_NAMES = {
    "pre_attn_norm": "attention_norm",
    "pre_mlp_norm": "ffn_norm",
    "qkv": "attention.wqkv",
    "attn_out": "attention.wo",
    "mlp_gate": "feed_forward.w1",
    "mlp_in": "feed_forward.w3",
    "mlp_out": "feed_forward.w2",
}
_HEAD_DIM, _WIDE_HEADS = 64, {3200: 32, 4096: 32}
# Tables and caches that a module may have kept, other weights of a training run.
_DROPPED = r"freqs_cis|causal_mask|.*\.kv_cache\.[kv]_cache|ema\..*"
_IMAGE_SIZE = 256
_LICENCE = "MIT (FoundationVision/LlamaGen)"
# Samplers of the release's scripts.
_CLASS_SAMPLER = Sampler(top_k=2000, guidance=4.0)
_CAPTION_SAMPLER = Sampler(top_k=1000, guidance=7.5)


def _detect(source: Source) -> bool:
    parts = [_inside(tensors) for tensors in source.weights.values()]
    return any(vqs.is_vq(part) or _TABLE in part for part in parts)


def _plan(source: Source) -> Import:
    parts = [_inside(tensors) for tensors in source.weights.values()]
    vq, gpt = _only(parts, vqs.is_vq, "VQs"), _only(parts, _is_gpt, "GPTs")
    _check_others(source, takes_t5=gpt is not None and _NO_CAPTION in gpt)
    if vq is None:
        raise UserError("the VQ of images is missing: give the file vq_ds16 or vq_ds8")
    image_size, notes = _image_size(source)
    tokenizer = vqs.config_of(vq, image_size)
    rules = list(vqs.rules_of(tokenizer))
    components = {"tokenizer": Conversion(tokenizer, rules, vq, vqs.DROPPED)}
    if gpt is None:
        return Import("", components, _LICENCE, notes=notes)
    config = _config(gpt, tokenizer.grid, source)
    if config.outputs != tokenizer.codebook_size:
        raise UserError(
            f"the GPT has {config.outputs} codes, the VQ {tokenizer.codebook_size}: "
            "give the files of one model"
        )
    rules = list(_rules(config))
    components["transformer"] = Conversion(config, rules, gpt, _DROPPED)
    if config.caption_dim:
        return _with_captions(source, components, notes)
    return _with_classes(source, components, notes)


def _inside(tensors: Tensors) -> Tensors:
    """Without the name of what is around the weights, where others are beside them."""
    return {name.removeprefix("model."): x for name, x in tensors.items()}


def _is_gpt(tensors: Tensors) -> bool:
    return _TABLE in tensors


def _check_others(source: Source, takes_t5: bool) -> None:
    """UserError for a file of weights that is no part of the model."""
    for path, tensors in source.weights.items():
        part = _inside(tensors)
        is_t5 = takes_t5 and t5_import.is_part(part)
        if not (vqs.is_vq(part) or _is_gpt(part) or is_t5):
            raise UserError(
                f"{path} has {shown(min(part))}, which is not of a GPT or a VQ: leave "
                "it out"
            )


def _only(parts: list[Tensors], is_kind, what: str) -> Tensors | None:
    found = [part for part in parts if is_kind(part)]
    if len(found) > 1:
        raise UserError(f"{len(found)} of the files are {what}: give one")
    return found[0] if found else None


def _setting(source: Source, name: str) -> int | None:
    """A whole number of a config file, None if there is none."""
    found = source.config(name).get(name)
    if found is not None and (type(found) is not int or not 0 < found <= 2**14):
        raise UserError(f"the config file says {name} {shown(found)}, expected a size")
    return found


def _image_size(source: Source) -> tuple[int, list[str]]:
    """(pixels a side, a note if nothing says it)."""
    found = _setting(source, "image_size")
    if found:
        return found, []
    note = (
        f"images are taken to be of {_IMAGE_SIZE} px, which no weights tell: for "
        'another size add a file such as args.json with {"image_size": 384}'
    )
    return _IMAGE_SIZE, [note]


def _config(tensors: Tensors, grid: int, source: Source) -> ImageLMConfig:
    num_codes, width = shape_of(tensors, _TABLE, 2)
    prompt_len, caption_dim, ids = 1, 0, num_codes
    if _NO_CAPTION in tensors:
        prompt_len, caption_dim = shape_of(tensors, _NO_CAPTION, 2)
    else:
        ids += shape_of(tensors, _CLASSES, 2)[0]
    heads = _setting(source, "n_head") or _WIDE_HEADS.get(width, width // _HEAD_DIM)
    with making("LlamaGen"):
        return make_network(
            prompt_len,
            grid,
            shape_of(tensors, _HEAD, 2)[0],
            caption_dim,
            width=width,
            depth=count(tensors, _LAYERS),
            heads=heads,
            mlp_dim=shape_of(tensors, "layers.0.feed_forward.w1.weight", 2)[0],
            vocab_size=ids,
        )


def _rules(config: ImageLMConfig) -> Iterator[Rule]:
    wanted: Mapping[str, Any] = leaves_of(config)
    shape = config.outputs, config.width
    sources = {_TABLE: shape}
    if not config.caption_dim:
        sources[_CLASSES] = config.vocab_size - config.outputs, config.width
    parts = tuple((name,) for name in sources)
    yield Rule("token_embedding", sources, parts, lambda x: x)
    yield copy("head", _HEAD, wanted)
    yield copy("final_norm/scale", "norm.weight", wanted)
    if config.caption_dim:
        yield copy("null_caption", _NO_CAPTION, wanted)
        for path, name in (("caption_in/kernel", "fc1"), ("caption_out/kernel", "fc2")):
            shape = wanted[path].shape[::-1]
            yield of_one(path, _PROJECT.format(name), shape, lambda x: x.T)
    yield from stacked_modules(wanted, _NAMES, "layers.{}.", config.depth)


def _with_classes(source: Source, components, notes: list[str]) -> Import:
    config = components["transformer"].config
    num_classes = config.vocab_size - config.outputs - 1
    text = ClassNames.of(_class_names(source, num_classes))
    vocab = Vocab(config.outputs, num_classes, captions=False)
    if not any(text.decode([i]) != str(i) for i in range(num_classes)):
        notes.append(
            "prompts are numbers of classes: for names give a JSON file of them too, "
            "such as imagenet_class_index.json"
        )
    layout = Layout(vocab, 1, config.grid**2)
    more = {"layout": layout, "text": text, "sampler": _CLASS_SAMPLER, "notes": notes}
    return Import("llamagen", components, _LICENCE, **more)


def _class_names(source: Source, num_classes: int) -> list[str]:
    """Names by `id2label`, or by a table {"0": [..., name]}; "" where none are."""
    found = source.config("id2label").get("id2label") or source.config("0")
    names = []
    for i in range(num_classes):
        name = found.get(str(i), "") if isinstance(found, Mapping) else ""
        names.append(name[-1] if isinstance(name, list) and name else name)
    if any(not isinstance(name, str) for name in names):
        raise UserError("the JSON file of classes has names that are no texts")
    if found and not all(names):
        raise UserError(
            f"the JSON file of classes names {sum(map(bool, names))} of {num_classes}: "
            "give that of this model"
        )
    return [name.replace("_", " ") for name in names]


def _with_captions(source: Source, components, notes: list[str]) -> Import:
    config = components["transformer"].config
    shards = [x for x in source.weights.values() if t5_import.is_part(x)]
    tensors = {name: tensor for shard in shards for name, tensor in shard.items()}
    if not t5_import.is_encoder(tensors):
        raise UserError(
            "this GPT reads captions: give the folder of its T5, flan-t5-xl, too"
        )
    part, path, text = t5_import.convert(source, tensors)
    if part.config.width != config.caption_dim:
        raise UserError(
            f"the T5 gives vectors of {part.config.width} channels, the GPT reads "
            f"{config.caption_dim}: give the T5 that belongs to it, flan-t5-xl"
        )
    prompt_len = config.table_positions
    components["text_encoder"] = replace(
        part, config=replace(part.config, text_len=prompt_len)
    )
    vocab = Vocab(config.outputs, text.size, captions=True)
    layout = Layout(vocab, prompt_len, config.grid**2)
    more = {"layout": layout, "text": text, "sampler": _CAPTION_SAMPLER}
    more |= {"notes": notes, "others": [path]}
    return Import("llamagen", components, _LICENCE, **more)


def _export(config: ImageLMConfig, model: Any, torch: bool) -> Export | None:
    """None for a network of another family, or changed to what the release has not."""
    del torch
    if model.family != "llamagen":
        return None
    rules = list(_rules(config))
    said = {"n_head": config.heads}
    source = Source({}, {Path("gpt.json"): said})
    if config != _config(sources_of(rules), config.grid, source):
        return None
    others, text = {"gpt.json": json.dumps(said)}, ""
    if isinstance(model.text, ClassNames):
        text = "classes.json"
        names = {i: model.text.decode([i]) for i in range(model.text.size)}
        # All or none: a class may be called as its number among others with names.
        is_named = any(name != str(i) for i, name in names.items())
        stored = {"id2label": names if is_named else {}}
        others[text] = json.dumps(stored, ensure_ascii=False)
    return Export(
        "FoundationVision/LlamaGen, autoregressive.models.gpt.Transformer",
        rules,
        {"": "gpt.safetensors"},
        others,
        text,
    )


LLAMAGEN = Importer(
    "LlamaGen", _detect, _plan, exports={"vqgan": vqs.export, "image_lm": _export}
)
