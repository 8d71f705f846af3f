"""Text tokenizers among the files of a source."""

from pathlib import Path

from cogjax.data.text import TextTokenizer, read_bytes
from cogjax.errors import UserError
from cogjax.interop.containers import head_of
from cogjax.interop.source import Source

# The tag of the first piece, with which SentencePiece's models start.
_START = b"\n"


def find_sentencepiece(source: Source) -> tuple[Path, TextTokenizer] | None:
    """The first file that is a model of SentencePiece; None if there is none."""
    for path in source.others:
        if not head_of(path).startswith(_START):
            continue
        try:
            return path, TextTokenizer(read_bytes(path), f"tokenizer {path}")
        except UserError:
            if path in source.given:
                raise
    return None
