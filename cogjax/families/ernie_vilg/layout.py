"""Token sequences of ERNIE-ViLG, whose source sees all of itself (section 3.1).

    text to image   [PAD]... text [BOI1] | image
    image to text   image | [ROI1] text [SEP] [PAD]...
    question        image [PAD]... question [ROI1] | answer [SEP] [PAD]...

The source is left of the bar; of the last, the image does not see the question. A
command is where the first token of the target is predicted, each later one where the
token before it is. Positions of each text are counted from its first piece, 1; commands
are at 0. Codes follow the longest text. The paper states neither commands nor positions
nor where a question stands: these are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.data.sequences import Prompts, left_pad, shape_of
from cogjax.data.vocab import Vocab


@dataclass(frozen=True)
class TwoWayLayout:
    """Fixed-length sequences over a vocabulary.

    text_len: longest text in pieces, longer text is cut. image_len: codes an image.
    shapes: their (rows, columns), one, or () of squares.
    """

    vocab: Vocab
    text_len: int
    image_len: int
    shapes: tuple[tuple[int, int], ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the codes of an image."""
        return shape_of(self.shapes, self.image_len)

    @property
    def num_text(self) -> int:
        """Positions of the text and its command: codes are at those behind them."""
        return self.text_len + 1

    @property
    def length(self) -> int:
        """Tokens of the longer direction, image to text, with the end of the text."""
        return self.image_len + self.num_text + 1

    @property
    def reading_positions(self) -> np.ndarray:
        """Positions of an image-to-text sequence: int32 [length]."""
        codes = np.arange(self.image_len) + self.num_text
        # What comes after the last position is only ever a target.
        text = np.minimum(np.arange(self.num_text + 1), self.text_len)
        return np.concatenate([codes, text]).astype(np.int32)

    def prompts(self, texts: Sequence[Sequence[int]]) -> Prompts:
        """`text [BOI1]` of each text: what comes before an image."""
        rows = [[*self._text(text), self.vocab.command("[BOI1]")] for text in texts]
        pad = self.vocab.command("[PAD]")
        ids, num_padding = left_pad(rows, self.num_text, pad)
        positions = np.cumsum(ids != pad, axis=1)
        positions[:, -1] = 0
        next_position = np.full(len(ids), self.num_text)
        return Prompts(ids, num_padding, positions, next_position)

    def caption_prompts(self, codes: np.ndarray) -> Prompts:
        """`image [ROI1]` of codes int [b, image_len]: what comes before a caption."""
        start = np.full((len(codes), 1), self.vocab.command("[ROI1]"))
        ids = np.concatenate([codes, start], axis=1).astype(np.int32)
        positions = self.reading_positions[: self.image_len + 1]
        positions = np.broadcast_to(positions, ids.shape)
        zeros = np.zeros(len(ids), np.int32)
        return Prompts(ids, zeros, positions, zeros + 1)

    def text_to_image(
        self, text_ids: Sequence[int], codes: Sequence[int]
    ) -> np.ndarray:
        """int32 [num_text + image_len]; the codes are the targets."""
        prompt = self.prompts([text_ids]).ids[0]
        return np.concatenate([prompt, np.asarray(codes, np.int32)])

    def image_to_text(
        self, text_ids: Sequence[int], codes: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns (ids int32 [length], loss weights float32 [length]).

        weights[i] is that of predicting ids[i]: 1 for the text and its end.
        """
        command = self.vocab.command
        target = [*self._text(text_ids), command("[SEP]")]
        tokens = [*map(int, codes), command("[ROI1]"), *target]
        ids = np.full(self.length, command("[PAD]"), np.int32)
        ids[: len(tokens)] = tokens
        weights = np.zeros(self.length, np.float32)
        weights[len(tokens) - len(target) : len(tokens)] = 1
        return ids, weights

    def question_prompts(
        self, questions: Sequence[Sequence[int]], codes: np.ndarray
    ) -> Prompts:
        """`image question [ROI1]` of codes int [b, image_len]: before an answer."""
        rows = [[*self._text(text), self.vocab.command("[ROI1]")] for text in questions]
        pad = self.vocab.command("[PAD]")
        text, num_padding = left_pad(rows, self.num_text, pad)
        ids = np.concatenate([codes, text], axis=1).astype(np.int32)
        text_positions = np.cumsum(text != pad, axis=1)
        text_positions[:, -1] = 0
        image = np.arange(codes.shape[1]) + self.num_text
        image = np.broadcast_to(image, codes.shape)
        positions = np.concatenate([image, text_positions], axis=1)
        next_position = np.ones(len(ids), np.int32)
        return Prompts(ids, num_padding, positions.astype(np.int32), next_position)

    def answer(
        self, question_ids: Sequence[int], answer_ids: Sequence[int], answer_len: int
    ) -> np.ndarray:
        """What stands behind the image: int32 [num_text + answer_len + 1].

        A longer answer is cut; the answer and its end are the targets.
        """
        nothing = np.zeros((1, 0), np.int32)
        start = self.question_prompts([question_ids], nothing).ids[0]
        target = [*self._text(answer_ids[:answer_len]), self.vocab.command("[SEP]")]
        missing = answer_len + 1 - len(target)
        padding = [self.vocab.command("[PAD]")] * missing
        return np.array([*start, *target, *padding], np.int32)

    def _text(self, text_ids: Sequence[int]) -> list[int]:
        return [self.vocab.text_start + int(i) for i in text_ids[: self.text_len]]


_LEAST = {
    "captions": 1,
    "text_weight": 0,
    "questions": 0,
    "answer_len": 1,
    "answer_weight": 0,
}


@dataclass(frozen=True)
class TwoWayMixture:
    """How training examples are drawn from captioned code grids.

    captions: so many of each picture are written beside each other, and their losses
    averaged; the paper has one.
    caption_dropout: share of examples whose text-to-image half has an empty text, for
    classifier-free guidance; the paper has none. text_weight: of image to text's loss
    beside text to image's; the paper's is 1. questions: so many about a picture of the
    data set of questions, beside each example. answer_len: longest answer in pieces,
    longer ones are cut. answer_weight: of an answer's loss beside text to image's.
    """

    captions: int = 1
    caption_dropout: float = 0.1
    text_weight: float = 1.0
    questions: int = 0
    answer_len: int = 8
    answer_weight: float = 1.0

    def __post_init__(self):
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, at least {least}")

    def example(
        self,
        layout: TwoWayLayout,
        texts: Sequence[Sequence[int]],
        codes: np.ndarray,
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        """Draws captions: "to_image" of the first, "to_text" of all.

        Where there are fewer than `captions`, all are drawn before any comes again.
        """
        codes = np.ravel(codes)
        chosen = [texts[i] for i in _draw(len(texts), self.captions, rng)]
        dropped = rng.random() < self.caption_dropout
        to_image = layout.text_to_image(() if dropped else chosen[0], codes)
        rows = [layout.image_to_text(text, codes)[0] for text in chosen]
        more = [row[layout.image_len :] for row in rows[1:]]
        return {"to_image": to_image, "to_text": np.concatenate([rows[0], *more])}

    def answers(
        self, layout: TwoWayLayout, asked: Sequence, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Draws a picture, {"asked": int32 [image_len]}, and questions about it.

        These are {"answers": int32 [questions, t]} of `layout.answer`, each at most
        once more than the others.
        asked: pictures as ((question ids, answer ids) pairs, codes), one pair or more.
        """
        pairs, codes = asked[rng.integers(len(asked))]
        order = _draw(len(pairs), self.questions, rng)
        rows = [layout.answer(*pairs[i], self.answer_len) for i in order]
        codes = np.ravel(codes).astype(np.int32)
        return {"asked": codes, "answers": np.stack(rows)}


def _draw(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of `total` indices in random order, all before any comes again."""
    rounds = -(-count // total)
    return np.concatenate([rng.permutation(total) for _ in range(rounds)])[:count]
