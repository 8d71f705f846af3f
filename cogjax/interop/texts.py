"""Text tokenizers among the files of a source."""

from pathlib import Path

from cogjax.data.text import TextTokenizer, read_bytes
from cogjax.data.yttm import YttmBPE, is_yttm
from cogjax.errors import UserError
from cogjax.interop.containers import head_of
from cogjax.interop.source import Source

# The tag of the first piece, with which SentencePiece's models start.
_START = b"\n"
# The first line of merges, as Hugging Face writes them.
_VERSION = b"#version"


def find_yttm(source: Source) -> tuple[Path, YttmBPE] | None:
    """The first file that is a model of YouTokenToMe; None if there is none."""
    for path in source.others:
        if is_yttm(head_of(path)):
            return path, YttmBPE(read_bytes(path), f"tokenizer {path}")
    return None


def find_merges(source: Source) -> tuple[Path, list[tuple[str, str]]] | None:
    """The first file of merges, two pieces a line; None if there is none."""
    for path in source.others:
        if not head_of(path).startswith(_VERSION):
            continue
        lines = read_bytes(path).decode("utf-8", "replace").rstrip().split("\n")[1:]
        merges = [tuple(line.split()) for line in lines]
        if any(len(merge) != 2 for merge in merges):
            raise UserError(f"{path} has no merges: two pieces a line are expected")
        return path, merges
    return None


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
