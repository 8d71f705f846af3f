"""A T5's encoder among the files of a source: alone, or the text encoder of a model."""

import re
from collections.abc import Collection
from pathlib import Path

from cogjax.data.t5_text import T5Text
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError
from cogjax.interop.importer import Conversion, leaves_of
from cogjax.interop.source import Source, Tensors
from cogjax.interop.t5 import config_of
from cogjax.interop.t5_rules import rules_of
from cogjax.interop.texts import find_sentencepiece

_NEEDED = {
    "encoder.final_layer_norm.weight",
    "encoder.block.0.layer.0.SelfAttention.q.weight",
}
_NAMES = re.compile(
    r"(shared|lm_head|decoder|encoder\.(embed_tokens|block|final_layer_norm))\..*"
)


def is_encoder(names: Collection[str]) -> bool:
    """Whether tensors of these names are a T5's with an encoder."""
    return _NEEDED <= set(names) and is_part(names)


def is_part(names: Collection[str]) -> bool:
    """Whether tensors of these names may all be of a T5, such as one of its shards."""
    return all(map(_NAMES.match, names))


def convert(source: Source, tensors: Tensors) -> tuple[Conversion, Path, TextTokenizer]:
    """(network, path of the text tokenizer, that) of a T5's tensors.

    UserError for a config file or a tokenizer that is missing or does not fit.
    """
    stored = source.config("d_model")
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
    return Conversion(config, rules, tensors, dropped), path, text
