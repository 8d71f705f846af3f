"""A text tokenizer of byte-level BPE among the files of a source.

`tokenizer.json`, as Hugging Face's tokenizers write it, or `vocab.json` and
`merges.txt`; beside them a list of words by their frequency, one a line.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cogjax.data.byte_bpe import ByteBPE, pack
from cogjax.data.text import read_bytes
from cogjax.errors import UserError, shown
from cogjax.interop.source import Source
from cogjax.interop.texts import find_merges

# Bounds of a list of words: their number, and the longest, by which cutting a hashtag
# lasts.
_MOST_WORDS, _LONGEST = 1 << 22, 256


def find_byte_bpe(source: Source, style: str) -> tuple[list[Path], ByteBPE | None]:
    """(files that were used, the tokenizer or None); style: of `ByteBPE`.

    UserError for files that are damaged, or of another kind of tokenizer.
    """
    found = _tables(source)
    whole = {p: x for p, x in found.items() if isinstance(x.get("model"), Mapping)}
    vocab = {p: x for p, x in found.items() if x.get("<s>") is not None}
    merges = find_merges(source)
    if not (whole or (vocab and merges)):
        return [], None
    path = next(iter(whole or vocab))
    words, own = _words(source) if style == "normalized" else ([], [])
    try:
        if whole:
            pieces, lines = _whole(whole[path], path)
        else:
            pieces, lines = vocab[path], merges[1]
        packed = pack(pieces, lines, style, words)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"tokenizer {path} has no good vocabulary: {error}") from error
    used = [*whole, *vocab, *(merges[:1] if merges else ()), *own]
    return used, ByteBPE(packed, f"tokenizer {path}")


def stored_files(text: ByteBPE) -> dict[str, str]:
    """The contents of `vocab.json`, `merges.txt` and, if there is one, of the list."""
    stored = json.loads(text.serialized)
    table = {piece: i for i, piece in enumerate(stored["vocab"])}
    found = {
        "vocab.json": json.dumps(table, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *stored["merges"], ""]),
    }
    if stored["words"]:
        found["enwiki-words-frequency.txt"] = "\n".join([*stored["words"], ""])
    return found


def _tables(source: Source) -> dict[Path, Mapping[str, Any]]:
    """The JSON files of a source, also those that are too large for config files."""
    found = {path: x for path, x in source.configs.items() if path.suffix == ".json"}
    for path in source.others:
        if path.suffix != ".json":
            continue
        try:
            table = json.loads(read_bytes(path))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged: {error}") from error
        if isinstance(table, Mapping):
            found[path] = table
    return found


def _whole(table: Mapping[str, Any], path: Path) -> tuple[Mapping[str, int], list]:
    """(vocabulary, merges) of a tokenizer.json; UserError for another kind."""
    model, before = table["model"], table.get("pre_tokenizer")
    kinds = model.get("type"), before.get("type") if before else None
    if kinds != ("BPE", "ByteLevel") or table.get("normalizer"):
        raise UserError(
            f"tokenizer {path} is {shown(kinds[0])} behind {shown(kinds[1])}, "
            "expected BPE behind ByteLevel without a normalizer"
        )
    if before.get("add_prefix_space"):
        raise UserError(
            f"tokenizer {path} puts a space in front of a text, and only one that does "
            "not can be imported"
        )
    vocab = dict(model.get("vocab") or {})
    for token in table.get("added_tokens") or ():
        vocab.setdefault(token["content"], token["id"])
    return vocab, list(model.get("merges") or ())


def _words(source: Source) -> tuple[list[str], list[Path]]:
    """(words of `enwiki-words-frequency.txt`, the file), lists without such a file."""
    for path in source.others:
        if path.suffix != ".txt" or "words" not in path.name:
            continue
        lines = read_bytes(path).decode("utf-8", "replace").splitlines()
        words = [line.split()[0] for line in lines if line.strip()]
        if len(words) > _MOST_WORDS or max(map(len, words), default=0) > _LONGEST:
            raise UserError(
                f"{path} is no list of words: {_MOST_WORDS} of {_LONGEST} letters are "
                "the most"
            )
        return words, [path]
    return [], []
