"""The encoder of a T5, versions 1.0 and 1.1, as Hugging Face keeps it."""

import json
from typing import Any

from cogjax.data.t5_text import T5Text
from cogjax.errors import UserError
from cogjax.interop.importer import Conversion, Export, Import, Importer, leaves_of
from cogjax.interop.source import Source
from cogjax.interop.t5 import config_of, stored_config
from cogjax.interop.t5_rules import TABLE, rules_of
from cogjax.interop.texts import find_sentencepiece
from cogjax.models.t5 import T5Config

_NORM = "encoder.final_layer_norm.weight"
_FIRST = "encoder.block.0.layer.0.SelfAttention.q.weight"
_LICENCE = "Apache-2.0 (google-research/text-to-text-transfer-transformer)"


def _detect(source: Source) -> bool:
    return {_NORM, _FIRST} <= source.names


def _plan(source: Source) -> Import:
    tensors, stored = source.tensors, source.config("d_model")
    if not stored:
        raise UserError(
            "the config.json of the T5 is missing: give the folder, or that file too"
        )
    found = find_sentencepiece(source)
    if found is None:
        raise UserError(
            "the T5's text tokenizer is missing: give spiece.model too, a model of "
            "SentencePiece"
        )
    path, text = found
    config = config_of(stored, "the config.json")
    if T5Text(text).vocab_size > config.vocab_size:
        raise UserError(
            f"{path} has pieces for {T5Text(text).vocab_size} ids, the weights have "
            f"{config.vocab_size}: give the file that belongs to them"
        )
    rules, dropped = rules_of(config, leaves_of(config), tensors)
    part = Conversion(config, rules, tensors, dropped)
    return Import("", {"text_encoder": part}, _LICENCE, text=text, others=[path])


def _export(config: T5Config, text: Any, torch: bool) -> Export:
    del torch
    rules, _ = rules_of(config, leaves_of(config), {TABLE: None})
    return Export(
        "transformers.T5EncoderModel",
        rules,
        {"": "model.safetensors"},
        {"config.json": json.dumps(stored_config(config), indent=2)},
        "spiece.model" if text else "",
    )


T5 = Importer(
    "the encoder of T5 in Hugging Face's names", _detect, _plan, exports={"t5": _export}
)
