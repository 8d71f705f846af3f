"""Texts as BERT reads them: [CLS], the pieces of a vocab.txt, [SEP]; padding is 0."""

from collections.abc import Sequence
from dataclasses import dataclass

from cogjax.data.text import TextTokenizer
from cogjax.data.wordpiece import UNKNOWN, WordPieceTokenizer
from cogjax.errors import UserError, shown

_MARKS = "[CLS]", "[SEP]"
# A text of which more is unknown has no meaning left.
_MOST_UNKNOWN = 0.5


@dataclass(frozen=True)
class BertText:
    """Ids of a text tokenizer's texts; UserError for one that is not BERT's."""

    tokenizer: TextTokenizer

    def __post_init__(self):
        known = isinstance(self.tokenizer, WordPieceTokenizer)
        places = self.tokenizer.places(("[PAD]", *_MARKS)) if known else {}
        if places.get("[PAD]") != 0 or len(places) < 3:
            raise UserError(
                "the text tokenizer is no vocab.txt of BERT, which has [PAD] first, "
                "[CLS] and [SEP]"
            )

    @property
    def vocab_size(self) -> int:
        """Rows of a table for all ids."""
        return self.tokenizer.size

    def ended(self, pieces: Sequence[int], length: int) -> list[int]:
        """At most `length` ids of a text, its marks among them."""
        first, last = self.tokenizer.places(_MARKS).values()
        return [first, *pieces[: length - 2], last]

    def num_ids(self, text: str) -> int:
        """Ids of all of a text, its marks among them."""
        return len(self.tokenizer.encode(text)) + 2

    def unread(self, text: str, length: int) -> str:
        """What is cut off a text, as its pieces spell it; "" for nothing."""
        return self.tokenizer.decode(self.tokenizer.encode(text)[length - 2 :])

    def unknown(self, text: str) -> str:
        """Why a text cannot be read, "" if it can: most of its pieces are unknown."""
        pieces = self.tokenizer.encode(text)
        [mark] = self.tokenizer.places((UNKNOWN,)).values()
        count = pieces.count(mark)
        if count <= _MOST_UNKNOWN * len(pieces):
            return ""
        return (
            f"{shown(text)} has {count} unknown pieces of {len(pieces)}: the text "
            "encoder of this model reads English alone"
        )
