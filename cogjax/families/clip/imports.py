"""CLIP with vision transformers, under OpenAI's names and those of Hugging Face."""

import json
import math
from collections.abc import Mapping
from typing import Any

from cogjax.data.clip_bpe import ClipText, is_merges
from cogjax.data.text import read_bytes
from cogjax.errors import UserError, shown
from cogjax.interop.clip import DROPPED, is_hugging_face, rules_of
from cogjax.interop.containers import head_of
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
from cogjax.interop.source import Source
from cogjax.models.clip import OPENAI_MEAN, OPENAI_STD, ClipConfig

_LICENCE = "MIT (openai/CLIP); as of the release for weights of others"
# Names in each layout: patches, places of an image, output, places of a text, table,
# blocks of an image, blocks of a text.
_OPENAI = (
    "visual.conv1.weight",
    "visual.positional_embedding",
    "visual.proj",
    "positional_embedding",
    "token_embedding.weight",
    r"visual\.transformer\.resblocks\.(\d+)\.ln_1\.weight",
    r"transformer\.resblocks\.(\d+)\.ln_1\.weight",
)
_HUGGING_FACE = (
    "vision_model.embeddings.patch_embedding.weight",
    "vision_model.embeddings.position_embedding.weight",
    "visual_projection.weight",
    "text_model.embeddings.position_embedding.weight",
    "text_model.embeddings.token_embedding.weight",
    r"vision_model\.encoder\.layers\.(\d+)\.layer_norm1\.weight",
    r"text_model\.encoder\.layers\.(\d+)\.layer_norm1\.weight",
)


def _detect(source: Source) -> bool:
    names = source.names
    return any({layout[0], layout[3]} <= names for layout in (_OPENAI, _HUGGING_FACE))


def _plan(source: Source) -> Import:
    tensors = source.tensors
    if "visual.attnpool.positional_embedding" in tensors:
        raise UserError(
            "the images' half of this CLIP is a ResNet: take one with a vision "
            "transformer, such as ViT-B-32.pt"
        )
    config = _config(source)
    _check_settings(config, source)
    rules = rules_of(config, leaves_of(config), tensors)
    part = Conversion(config, rules, tensors, DROPPED)
    found = [path for path in source.others if is_merges(head_of(path))]
    text, notes = None, []
    if found:
        text = ClipText(read_bytes(found[0]), str(found[0]))
        _check_text(text, config, source)
    else:
        notes.append(
            "no text tokenizer, which texts need: give bpe_simple_vocab_16e6.txt.gz "
            "or merges.txt too"
        )
    return Import(
        "clip", {"clip": part}, _LICENCE, text=text, notes=notes, others=found[:1]
    )


def _config(source: Source) -> ClipConfig:
    tensors = source.tensors
    hugging_face = is_hugging_face(tensors)
    names = _HUGGING_FACE if hugging_face else _OPENAI
    width, _, patch, _ = shape_of(tensors, names[0], 4)
    places = shape_of(tensors, names[1], 2)[0]
    side = math.isqrt(max(places - 1, 0))
    if side < 1 or side**2 + 1 != places:
        raise UserError(f"{names[1]} has {places} places, expected a square and one")
    text_len, text_width = shape_of(tensors, names[3], 2)
    with making("CLIP"):
        return ClipConfig(
            image_size=side * patch,
            patch=patch,
            width=width,
            depth=count(tensors, names[5]),
            embed_dim=shape_of(tensors, names[2], 2)[0 if hugging_face else 1],
            text_width=text_width,
            text_depth=count(tensors, names[6]),
            vocab_size=shape_of(tensors, names[4], 2)[0],
            text_len=text_len,
            pixel_mean=_colors(source, "image_mean", OPENAI_MEAN),
            pixel_std=_colors(source, "image_std", OPENAI_STD),
        )


def _colors(source: Source, key: str, usual: tuple[float, ...]) -> tuple[float, ...]:
    """Three numbers of a config file; UserError for others."""
    found = source.config(key).get(key, list(usual))
    if not isinstance(found, list) or [type(x) for x in found] != [float] * 3:
        raise UserError(
            f"the config file says {key} {shown(found)}, expected three numbers"
        )
    return tuple(found)


def _check_settings(config: ClipConfig, source: Source) -> None:
    """UserError for a config file of Hugging Face that says what is not here."""
    _check_open_clip(source)
    widths = {"vision_config": config.width, "text_config": config.text_width}
    for key, width in widths.items():
        settings = source.config(key).get(key)
        if not isinstance(settings, Mapping):
            continue
        for name, value in _said(width).items():
            if settings.get(name, value) != value:
                raise UserError(
                    f"the config file says {key}.{name} {shown(settings[name])}, "
                    f"and only {value!r} can be imported"
                )


def _said(width: int) -> dict[str, Any]:
    """What a config file of Hugging Face says of a tower that is as OpenAI's."""
    return {
        "hidden_act": "quick_gelu",
        "num_attention_heads": width // 64,
        "layer_norm_eps": 1e-5,
    }


def _check_open_clip(source: Source) -> None:
    """UserError for open_clip's config file of networks that are not OpenAI's."""
    settings = source.config("model_cfg").get("model_cfg", {"quick_gelu": True})
    settings = settings if isinstance(settings, Mapping) else {}
    vision = settings.get("vision_cfg")
    heads = vision.get("head_width", 64) if isinstance(vision, Mapping) else 64
    gelu = settings.get("quick_gelu", False)
    if gelu is not True or heads != 64:
        raise UserError(
            f"the config file of open_clip says quick_gelu {shown(gelu)} and "
            f"head_width {shown(heads)}, and only True and 64 can be imported"
        )


def _check_text(text: ClipText, config: ClipConfig, source: Source) -> None:
    """UserError if the merges are not those of the table, or of a vocab.json."""
    if text.size + 2 != config.vocab_size:
        raise UserError(
            f"the merges make {text.size + 2} ids, the weights have "
            f"{config.vocab_size}: give the file that belongs to them"
        )
    table: dict[str, Any] = source.config("<|startoftext|>")
    wrong = [x for i, x in enumerate(text.vocabulary) if table and table.get(x) != i]
    if wrong:
        raise UserError(
            f"vocab.json has another id for {wrong[0]!r} than the merges: give the "
            "files of one model"
        )


def _export(config: ClipConfig, model: Any, torch: bool) -> Export | None:
    """OpenAI's names for PyTorch, else a folder of Hugging Face; neither has a stem."""
    if config.stem:
        return None
    names = {} if torch else {_HUGGING_FACE[0]: None}
    rules = rules_of(config, leaves_of(config), names)
    text = model.text
    merges = isinstance(text, ClipText)
    others = {}
    if not torch:
        found = {"config.json": _hugging_face_config(config)}
        found["preprocessor_config.json"] = {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": config.image_size},
            "crop_size": {"height": config.image_size, "width": config.image_size},
            "image_mean": config.pixel_mean,
            "image_std": config.pixel_std,
        }
        if merges:
            found["vocab.json"] = {x: i for i, x in enumerate(text.vocabulary)}
        others = {name: json.dumps(each, indent=1) for name, each in found.items()}
    return Export(
        "openai/CLIP, clip.model.CLIP" if torch else "transformers.CLIPModel",
        rules,
        {"": "model.safetensors"},
        others,
        "merges.txt" if merges else "",
    )


def _hugging_face_config(config: ClipConfig) -> dict[str, Any]:
    vision = {"image_size": config.image_size, "patch_size": config.patch}
    text = {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.text_len,
        "bos_token_id": config.vocab_size - 2,
        "eos_token_id": config.vocab_size - 1,
    }
    for own, width, depth in (
        (vision, config.width, config.depth),
        (text, config.text_width, config.text_depth),
    ):
        own |= {"hidden_size": width, "num_hidden_layers": depth} | _said(width)
        own |= {"intermediate_size": 4 * width, "projection_dim": config.embed_dim}
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": config.embed_dim,
        "vision_config": vision,
        "text_config": text,
    }


CLIP = Importer(
    "CLIP with vision transformers", _detect, _plan, exports={"clip": _export}
)
