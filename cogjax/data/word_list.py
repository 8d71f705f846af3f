"""The words of the captions that a model was trained on, so that others are named."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cogjax.errors import UserError
from cogjax.files import write_atomic

MAX_WORDS = 200_000
_MAX_LETTERS = 40
_MAX_BYTES = 4 * (_MAX_LETTERS + 1) * MAX_WORDS
# Han and kana are written without spaces: each character is a word.
_UNSPACED = re.compile("([々-〇ぁ-ヿ㐀-䶿一-鿿豈-\ufaff\U00020000-\U0003ffff])")
_APOSTROPHE = re.compile(r"['’](s\b)?")


def words_of(text: str) -> list[str]:
    """The words of a text in order, case-folded, without punctuation and symbols.

    A Chinese character or a kana is a word of its own, "cat's" is "cat". A word is cut
    to 40 characters.
    """
    text = _APOSTROPHE.sub("", unicodedata.normalize("NFKC", text).casefold())
    # Letters, marks and digits of any script; all else parts words.
    text = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    words = _UNSPACED.sub(r" \1 ", text).split()
    # What is left of an emoji may be marks alone.
    return [w[:_MAX_LETTERS] for w in words if any(map(str.isalnum, w))]


@dataclass(frozen=True)
class WordList:
    """words: as `words_of` gives them, at most 200,000."""

    words: frozenset[str]

    @classmethod
    def of(cls, texts: Iterable[str], earlier: "WordList | None" = None) -> "WordList":
        """The words of the texts, and those of an earlier list.

        The 200,000 most frequent are kept, so that the file stays within some
        megabytes: the rarest words then count as not seen.
        """
        found = Counter(earlier.words if earlier else ())
        for text in texts:
            found.update(words_of(text))
        # Ties by the alphabet: the same captions give the same file.
        order = sorted(found, key=lambda word: (-found[word], word))
        return cls(frozenset(order[:MAX_WORDS]))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "WordList":
        """Reads a file of a word a line; UserError if it is missing or no such file."""
        path = Path(path)
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise UserError(f"word list {path} is larger than {_MAX_BYTES} bytes")
            return cls(frozenset(path.read_text(encoding="utf-8").split()))
        except OSError as error:
            raise UserError(
                f"cannot read word list {path}: {error.strerror}"
            ) from error
        except UnicodeDecodeError as error:
            raise UserError(f"word list {path} is not UTF-8 text") from error

    def save(self, path: str | os.PathLike) -> Path:
        """Writes the words in the order of the alphabet, whole or not at all."""
        return write_atomic(path, "".join(f"{word}\n" for word in sorted(self.words)))

    def unseen(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The words of the texts that are not in the list, each once, in order."""
        words = dict.fromkeys(word for text in texts for word in words_of(text))
        return tuple(word for word in words if word not in self.words)
