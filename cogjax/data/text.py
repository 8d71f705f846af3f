"""Text to token ids and back, on SentencePiece.

Tokenizers trained here merge pairs (BPE) over NFKC text, and spell a character without
a piece in bytes, so every text has ids. They hold no control pieces at all: the
vocabulary of a model adds its commands outside, where no user text can reach them.
CogView's own model (50,000 pieces) loads as well.
"""

import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from cogjax.errors import UserError
from cogjax.files import write_atomic

_MAX_BYTES = 64 << 20
_PROBE = "a cat, 一只猫 😀"


class TextTokenizer:
    """A SentencePiece model; picklable, equal for equal bytes."""

    def __init__(self, serialized: bytes, name: str = "tokenizer"):
        """Reads a serialized model; `name` stands for it in error messages."""
        self.serialized = serialized
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(serialized)
            # A damaged model may load and fail at the first use: use it now.
            self._text(self.encode(_PROBE))
        except (RuntimeError, ValueError, IndexError) as error:
            start = f"it starts {serialized[:12]!r}" if serialized else "it is empty"
            raise UserError(f"{name} is not a SentencePiece model: {start}") from error

    @classmethod
    def from_bytes(cls, serialized: bytes) -> "TextTokenizer":
        """Reads what `serialized` holds; UserError if it is no SentencePiece model."""
        return cls(serialized)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "TextTokenizer":
        """Reads a .model file; UserError if it is missing, damaged or too large."""
        return cls(read_bytes(path), f"tokenizer {path}")

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        character_coverage: float = 0.9995,
        lower_case: bool = False,
    ) -> "TextTokenizer":
        """Learns `vocab_size` pieces from captions; the same texts give the same bytes.

        256 pieces spell bytes and one stands for the unknown. character_coverage in
        (0, 1] is the share of the characters that get a piece each. lower_case: the
        model folds the case of every text that it reads. UserError if there is no text,
        or too little or too much of it for that many pieces.
        """
        lines = [line for line in map(clean, texts) if line]
        if not lines:
            raise UserError("there is no text to train a tokenizer on")
        out = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=out,
                # Unigram training seeds itself with strings that recur in *distinct*
                # words: "drawing", in every caption of a style, would get no piece.
                model_type="bpe",
                vocab_size=vocab_size,
                character_coverage=character_coverage,
                byte_fallback=True,
                normalization_rule_name="nfkc_cf" if lower_case else "nfkc",
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                # With several threads the sums would depend on their number.
                num_threads=1,
                # Longer lines would be left out without a word.
                max_sentence_length=max(4192, *(len(x.encode()) for x in lines)),
                minloglevel=9,
            )
        except RuntimeError as error:
            raise UserError(_training_error(str(error), vocab_size)) from error
        return cls(out.getvalue())

    @property
    def size(self) -> int:
        """Number of pieces; ids are in [0, size)."""
        return self._pieces.vocab_size()

    @property
    def controls(self) -> tuple[int, int, int]:
        """Ids of padding, of the end and of the unknown piece; -1 for none."""
        return self._pieces.pad_id(), self._pieces.eos_id(), self._pieces.unk_id()

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`; runs of white space count as one space.

        Never a control id, whatever the text. Half of a surrogate pair becomes "?".
        """
        return self._pieces.encode(clean(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of `ids`; bytes that are not UTF-8 become U+FFFD.

        UserError for an id outside of [0, size).
        """
        found = [int(i) for i in ids]
        if odd := [i for i in found if not 0 <= i < self.size]:
            raise UserError(
                f"{odd[0]} is no id of this tokenizer: it has {self.size}, from 0 on"
            )
        return self._text(found)

    def _text(self, ids: list[int]) -> str:
        """As `decode`, of ids in [0, size)."""
        return self._pieces.decode(ids)

    def merges(self) -> list[str] | None:
        """The pieces in the order in which pairs are merged to them, by id.

        None for a model that does not merge pairs, as T5's does not: its scores are
        logarithms, those of a model that merges count the merges.
        """
        pieces = self._pieces
        whole = [pieces.get_score(i).is_integer() for i in range(self.size)]
        return pieces.id_to_piece(list(range(self.size))) if all(whole) else None

    @property
    def apart(self) -> frozenset[int]:
        """Ids of bytes, of controls and of the unknown: their names are no text."""
        kinds = self._pieces.is_byte, self._pieces.is_control, self._pieces.is_unknown
        return frozenset(i for i in range(self.size) if any(kind(i) for kind in kinds))

    def pieces_in(self, language: str | None) -> list[bool]:
        """Whether each piece may stand in "en" or "zh" text; None allows all."""
        if language not in (None, "en", "zh"):
            raise UserError(f"language is {language!r}, expected 'en' or 'zh'")
        foreign = {"en": "[\u3400-\u9fff]", "zh": "[a-z]", None: "(?!)"}[language]
        return [not re.search(foreign, self.decode([i])) for i in range(self.size)]

    def save(self, path: str | os.PathLike) -> Path:
        """Writes the model file, whole or not at all."""
        return write_atomic(path, self.serialized)

    def __reduce__(self):
        return type(self), (self.serialized,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextTokenizer) and self.serialized == other.serialized

    def __hash__(self) -> int:
        return hash(self.serialized)


def read_bytes(path: str | os.PathLike) -> bytes:
    """A tokenizer's file; UserError if it is missing or too large."""
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"tokenizer {path} is larger than {_MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read tokenizer {path}: {error.strerror}") from error


def clean(text: str) -> str:
    """White space as single spaces; half of a surrogate pair becomes "?"."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def _training_error(message: str, vocab_size: int) -> str:
    """Puts SentencePiece's two size complaints into words a user can act on."""
    if found := re.search(r"value <= (\d+)", message):
        return (
            f"vocab_size {vocab_size} is too large for this text: "
            f"the largest possible is {found[1]}"
        )
    if found := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return (
            f"vocab_size {vocab_size} is too small for the characters of this text: "
            f"the smallest possible is {found[1]}"
        )
    return f"the tokenizer cannot be trained: {message.removeprefix('INTERNAL: ')}"
