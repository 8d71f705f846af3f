"""What all models have as one object: a card, a folder to be saved in, known words."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cogjax import model_folder
from cogjax.model import Model


class HeldModel:
    """A loaded `Model`, which a pipeline works with."""

    model: Model

    @property
    def card(self) -> dict[str, Any]:
        """Model card: name, version, data, licences, training, figures."""
        return self.model.card

    def unseen(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Words of the texts that no text of the training had, each once, in order.

        Empty for a model without a list of words.
        """
        words = self.model.words
        return words.unseen(texts) if words else ()

    def save(
        self,
        folder: str | os.PathLike,
        dtype: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """As `model_folder.save`: `dtype` "float16" halves the size."""
        return model_folder.save(self.model, folder, dtype, overwrite)
