"""The encoder of a T5, versions 1.0 and 1.1, as Hugging Face keeps it."""

import json
from typing import Any

from cogjax.interop.importer import Export, Import, Importer, leaves_of
from cogjax.interop.source import Source
from cogjax.interop.t5 import stored_config
from cogjax.interop.t5_import import convert, is_encoder
from cogjax.interop.t5_rules import TABLE, rules_of
from cogjax.models.t5 import T5Config

_LICENCE = "Apache-2.0 (google-research/text-to-text-transfer-transformer)"


def _detect(source: Source) -> bool:
    return is_encoder(source.names)


def _plan(source: Source) -> Import:
    part, path, text = convert(source, source.tensors)
    return Import("", {"text_encoder": part}, _LICENCE, text=text, others=[path])


def _export(config: T5Config, model: Any, torch: bool) -> Export:
    del torch
    rules, _ = rules_of(config, leaves_of(config), {TABLE: None})
    return Export(
        "transformers.T5EncoderModel",
        rules,
        {"": "model.safetensors"},
        {"config.json": json.dumps(stored_config(config), indent=2)},
        "spiece.model" if model.text else "",
    )


T5 = Importer(
    "the encoder of T5 in Hugging Face's names", _detect, _plan, exports={"t5": _export}
)
