"""The encoder of a T5, versions 1.0 and 1.1, as Hugging Face keeps it."""

from cogjax.interop.importer import Import, Importer
from cogjax.interop.source import Source
from cogjax.interop.t5_import import convert, is_encoder

_LICENCE = "Apache-2.0 (google-research/text-to-text-transfer-transformer)"


def _detect(source: Source) -> bool:
    return is_encoder(source.names)


def _plan(source: Source) -> Import:
    part, path, text = convert(source, source.tensors)
    return Import("", {"text_encoder": part}, _LICENCE, text=text, others=[path])


T5 = Importer("the encoder of T5 in Hugging Face's names", _detect, _plan)
