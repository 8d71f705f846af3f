"""Text tokenizers of any kind, by what their files hold."""

import os

from cogjax.data.byte_bpe import ByteBPE, is_byte_bpe
from cogjax.data.char_bpe import CharBPE, is_char_bpe
from cogjax.data.class_names import ClassNames, is_classes
from cogjax.data.clip_bpe import ClipText, is_merges
from cogjax.data.text import TextTokenizer, read_bytes
from cogjax.data.wordpiece import UNKNOWN, WordPieceTokenizer
from cogjax.data.yttm import YttmBPE, is_yttm


def load_text(path: str | os.PathLike) -> TextTokenizer:
    """Reads a text tokenizer of any kind; UserError as of `TextTokenizer.load`."""
    serialized = read_bytes(path)
    lines = {line.rstrip(b"\r") for line in serialized.split(b"\n")}
    kind = WordPieceTokenizer if UNKNOWN.encode() in lines else TextTokenizer
    kind = ClipText if is_merges(serialized) else kind
    kind = ClassNames if is_classes(serialized) else kind
    kind = CharBPE if is_char_bpe(serialized) else kind
    kind = ByteBPE if is_byte_bpe(serialized) else kind
    kind = YttmBPE if is_yttm(serialized) else kind
    return kind(serialized, f"tokenizer {path}")
