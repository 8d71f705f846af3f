"""What all models have as one object: a card, a folder to be saved in, known words."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cogjax import model_folder
from cogjax.model import Model
from cogjax.pipelines.display import model_html

# What a person asks of a model, in the order in which a notebook lists it.
_METHODS = ("generate", "caption", "ask", "score", "attention", "enlarge", "encode")
_METHODS += ("decode", "embed_images", "embed_texts", "save")


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

    def _repr_html_(self) -> str:
        does = (name for name in _METHODS if callable(getattr(self, name, None)))
        return model_html(type(self).__name__, self.model, list(does))

    def save(
        self,
        folder: str | os.PathLike,
        dtype: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """As `model_folder.save`: `dtype` "float16" halves the size."""
        return model_folder.save(self.model, folder, dtype, overwrite)
