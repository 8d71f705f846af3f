"""How likely the codes of an image are after a prompt."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from cogjax.pipelines.tokenize import padded_batches
from cogjax.pipelines.tokens_model import TokensModel
from cogjax.sampling.tokens.rerank import compiled_code_losses


class CodeLosses(TokensModel):
    """A model whose codes each have a loss after those before them."""

    _losses_of_codes = staticmethod(compiled_code_losses)

    def _code_losses(
        self, codes: np.ndarray, pieces: Sequence[Sequence[int]]
    ) -> np.ndarray:
        """Losses of codes [n, image_len] given text i: float32 [n, image_len], nats."""
        losses = []
        # A batch at a time: the prompts of some models are vectors, large for many.
        for rows in padded_batches(np.arange(len(codes)), self.batch_size):
            prompts, _ = self.prompts([pieces[i] for i in rows])
            found = self._losses_of_codes(
                self._generator, self._code_params, prompts, codes[rows]
            )
            losses.append(np.asarray(found))
        return np.concatenate(losses)[: len(codes)]


class ImageScores(CodeLosses):
    """A model of codes whose loss of an image may be asked for."""

    def image_losses(self, codes: np.ndarray, texts: str | Sequence[str]) -> np.ndarray:
        """Loss of code grids [n, rows, columns] as images of text i: float32 [n].

        In nats a code, lower is better: the other direction of `score_codes`.
        """
        own, flat = self._flat(codes)
        texts = self.one_for_each(flat, texts)
        return own._image_losses(flat, [self.pieces(text) for text in texts])

    def _flat(self, codes: np.ndarray) -> tuple[Self, np.ndarray]:
        """Checked grids int [n, rows, columns] -> (model of that shape, [n, m])."""
        codes = self.check_codes(codes)
        return self.of(codes.shape[1:]), codes.reshape(len(codes), -1)

    def _image_losses(
        self, codes: np.ndarray, pieces: Sequence[Sequence[int]]
    ) -> np.ndarray:
        """Loss of codes [n, image_len] given text i: float32 [n], nats a code."""
        return self._code_losses(codes, pieces).mean(axis=1)
