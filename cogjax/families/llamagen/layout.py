"""Sequences of LlamaGen (section 3.2): a class or a caption, and an image.

class                    | code ... code      a token
- ... - vector ... vector | code ... code     captions end where the image begins
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.config import check_ranges
from cogjax.data.caption_cleaning import clean_caption
from cogjax.data.sequences import Prompts


@dataclass(frozen=True)
class Vocab:
    """Ids: codes 0.., and of a model of classes these and that of no class.

    num_codes: of the image tokenizer. num_text: classes, or pieces of the text
    tokenizer, which are no ids here: `captions` says that texts are vectors.
    """

    num_codes: int
    num_text: int
    captions: bool

    @property
    def padded_size(self) -> int:
        """Rows of the token table."""
        return self.num_codes + (0 if self.captions else self.num_text + 1)


@dataclass(frozen=True)
class Layout:
    """prompt_len: positions before an image. image_len: codes of one."""

    vocab: Vocab
    prompt_len: int
    image_len: int

    def __post_init__(self):
        check_ranges(self, prompt_len=(1, 2**16), image_len=(1, 2**20))
        if self.prompt_len > 1 and not self.vocab.captions:
            raise ValueError(f"prompt_len is {self.prompt_len}, a class has 1")

    @property
    def text_len(self) -> int:
        """Pieces of a text that are read; a caption has its end behind them."""
        return self.prompt_len - self.vocab.captions

    def clean(self, text: str) -> str:
        """A caption as those of training were cleaned."""
        return clean_caption(text)

    def prompts(self, texts: Sequence[Sequence[int]]) -> Prompts:
        """A class each, () for none."""
        classes = [text[0] if len(text) else self.vocab.num_text for text in texts]
        ids = self.vocab.num_codes + np.array(classes, np.int32)[:, None]
        return self.captions(ids, np.ones(len(ids), np.int32))

    def captions(self, vectors: np.ndarray, counts: np.ndarray) -> Prompts:
        """Prompts of captions [q, prompt_len, f].

        counts: [q], how many vectors at the end are the caption's own.
        """
        shape = len(vectors), self.prompt_len
        places = np.arange(self.prompt_len, dtype=np.int32)
        next_position = np.full(len(vectors), self.prompt_len, np.int32)
        padding = (self.prompt_len - counts).astype(np.int32)
        return Prompts(vectors, padding, np.broadcast_to(places, shape), next_position)
