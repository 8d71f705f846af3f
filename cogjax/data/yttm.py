"""Text tokenizers of YouTokenToMe, ru-dalle's: byte-pair merges of characters.

A file of text: "n_characters n_rules", lines "character id", lines "left right new" of
ids in the order of merging, and the ids of the unknown, padding, start and end. Words
begin with U+2581; a run of characters without a piece is one unknown. Text is folded to
lower case, as ru-dalle's is.
"""

import functools
import re

from cogjax.data.text import TextTokenizer, clean
from cogjax.errors import UserError

_SPACE = "\u2581"
# Characters of all pieces: 1,024 for each of ru-dalle's 16,384.
_MAX_SPELLED = 1 << 24
_START = re.compile(rb"\d{1,7} \d{1,7}\r?\n\d{1,7} \d{1,7}\r?\n")


class YttmBPE(TextTokenizer):
    """Characters and merges; picklable, equal for equal bytes."""

    def __init__(self, serialized: bytes, name: str = "tokenizer"):
        """Reads a model file; UserError for another or a damaged one."""
        try:
            rows = [[int(x) for x in line.split()] for line in serialized.splitlines()]
            count, num_rules = rows[0]
            characters, rules = rows[1 : count + 1], rows[count + 1 :][:num_rules]
            [special] = rows[count + 1 + num_rules :]
            unknown, padding, self.start, self.end = special
            if any(0xD800 <= code < 0xE000 for code, _ in characters):
                raise ValueError("half of a surrogate pair")
            pieces = {i: chr(code) for code, i in characters}
            pieces |= dict.fromkeys(special, "")
            self._rules, self._never, total = {}, (len(rules), -1), 0
            for rank, (left, right, new) in enumerate(rules):
                self._rules.setdefault((left, right), (rank, new))
                pieces[new] = pieces[left] + pieces[right]
                total += len(pieces[new])
                if total > _MAX_SPELLED:
                    raise ValueError("pieces without end")
        except (ValueError, LookupError, TypeError, OverflowError) as error:
            raise UserError(f"{name} is no model of YouTokenToMe: damaged?") from error
        if sorted(pieces) != list(range(len(pieces))) or padding != 0:
            raise UserError(f"{name} has ids that are not 0 to {len(pieces) - 1}")
        self.serialized, self._spelled, self._unknown = serialized, pieces, unknown
        self._ids = {chr(code): i for code, i in characters}
        self._cut = functools.lru_cache(maxsize=1 << 16)(self._merge)

    @property
    def size(self) -> int:
        """Number of ids, those of unknown, padding, start and end among them."""
        return len(self._spelled)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`, without start and end."""
        words = clean(text).lower().split()
        return [i for word in words for i in self._cut(_SPACE + word)]

    def _text(self, ids: list[int]) -> str:
        """Returns the text of `ids`; controls and the unknown are nothing."""
        text = "".join(self._spelled[i] for i in ids)
        return text.replace(_SPACE, " ").strip()

    def merges(self) -> None:
        """None: pieces of one spelling may have several ids."""

    def _merge(self, word: str) -> tuple[int, ...]:
        """Ids of a word."""
        ids: list[int] = []
        for character in word:
            found = self._ids.get(character, self._unknown)
            if found != self._unknown or ids[-1:] != [found]:
                ids.append(found)
        return tuple(self._joined(ids))

    def _joined(self, ids: list[int]) -> list[int]:
        """The rule that was learnt first goes first, the leftmost of its pairs."""
        while True:
            pairs = zip(ids[:-1], ids[1:], strict=True)
            ranks = [self._rules.get(pair, self._never) for pair in pairs]
            rank, new = min(ranks, default=self._never)
            if (rank, new) == self._never:
                return ids
            at = ranks.index((rank, new))
            ids = [*ids[:at], new, *ids[at + 2 :]]


def is_yttm(data: bytes) -> bool:
    """Whether a file starts as a model of YouTokenToMe does."""
    return bool(_START.match(data))
