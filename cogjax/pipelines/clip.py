"""A CLIP as one object: vectors of images and texts, and how badly a pair fits."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.data.images import stack_squares, stack_squeezed
from cogjax.data.sequences import bracketed
from cogjax.errors import UserError
from cogjax.model import Model
from cogjax.models.clip import Clip, normalized, unit
from cogjax.ops.packed import WeightFormat
from cogjax.pipelines.checks import check_text, say_unread
from cogjax.pipelines.held import HeldModel
from cogjax.pipelines.reader import Images
from cogjax.pipelines.tokenize import padded_batches


class ClipPipeline(HeldModel):
    """A model that compares images and texts (Radford et al. 2021).

    batch_size: most rows in one call of the network; may be set at any time.
    """

    def __init__(
        self, model: Model, batch_size: int = 64, weights: WeightFormat = "float32"
    ):
        """UserError for parts that do not go together, and other weights than float32.

        weights: as of `load`.
        """
        part = model["clip"]
        if model.text is None:
            raise UserError(
                "the model has no text tokenizer: import it again with the file of its "
                "merges, bpe_simple_vocab_16e6.txt.gz or merges.txt"
            )
        if part.config.vocab_size != model.text.size + 2:
            raise UserError(
                "the model's text.model does not fit its network: export it again"
            )
        if weights != "float32":
            raise UserError(
                f"a CLIP has float32 weights, not {weights}: leave that out"
            )
        self.model, self.batch_size, self.config = model, batch_size, part.config
        self._network, self._params = part.network, jax.device_put(part.params)

    @property
    def image_size(self) -> int:
        """Pixels a side that images are brought to."""
        return self.config.image_size

    @property
    def oblong(self) -> str:
        """What is seen of an image that is no square: "squeezed", all of it, or
        "middle", the middle square, as those who published an imported CLIP do it.
        """
        return "middle" if "imported_as" in self.card else "squeezed"

    def embed_images(self, images: Images) -> np.ndarray:
        """Images of any size -> float32 [n, d], of length 1.

        One that is no square is made one as `oblong` says. Ours squeeze it: what a
        prompt asks for may be at its sides, so nothing is left out (docs/clip.md).
        """
        stack = stack_squeezed if self.oblong == "squeezed" else stack_squares
        return self._run(compiled_embed_images, stack(images, self.image_size))

    def embed_texts(self, texts: str | Sequence[str]) -> np.ndarray:
        """Texts -> float32 [n, d], of length 1.

        What the model does not read of a long text is left off, with a Notice.
        UserError for an empty text, and for none.
        """
        texts = [texts] if isinstance(texts, str) else texts
        # All candidates for one prompt have the same text.
        places = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        if not places:
            raise UserError("there is no text: give at least one")
        ids = self.ids(list(places))
        return self._run(compiled_embed_texts, ids)[[places[text] for text in texts]]

    def score(self, images: Images, texts: str | Sequence[str]) -> np.ndarray:
        """How badly text i fits image i: float32 [n], 1 - cosine, 0 to 2.

        A single text is for all images. UserError for another number of texts.
        """
        vectors = self.embed_images(images)
        texts = [texts] * len(vectors) if isinstance(texts, str) else list(texts)
        if len(vectors) != len(texts):
            raise UserError(f"{len(vectors)} images but {len(texts)} texts")
        return 1 - np.sum(vectors * self.embed_texts(texts), axis=1)

    def ids(self, texts: Sequence[str]) -> np.ndarray:
        """Token ids of texts as the network reads them: int32 [n, text_len]."""
        text, most = self.model.text, self.config.text_len - 2
        pieces = [text.encode(check_text(each, "a text")) for each in texts]
        if long := [ids for ids in pieces if len(ids) > most]:
            what = f"the first of {len(long)} long texts" if long[1:] else "a text"
            say_unread(what, len(long[0]), most, text.decode(long[0][most:]))
        return bracketed(pieces, self.config.text_len, text.size)

    def _run(self, function: Callable, rows: np.ndarray) -> np.ndarray:
        done = [
            np.asarray(function(self._network, self._params, batch))
            for batch in padded_batches(rows, self.batch_size)
        ]
        return np.concatenate(done)[: len(rows)]


@functools.partial(jax.jit, static_argnums=0)
def compiled_embed_images(network: Clip, params: Any, images: Any):
    """Pixels uint8 [b, y, x, 3] -> float32 [b, d], of length 1."""
    pixels = normalized(network.config, images.astype(jnp.float32) / 255)
    return unit(network.apply({"params": params}, pixels, method="encode_image"))


@functools.partial(jax.jit, static_argnums=0)
def compiled_embed_texts(network: Clip, params: Any, ids: Any):
    """Ids int32 [b, t] -> float32 [b, d], of length 1."""
    return unit(network.apply({"params": params}, ids, method="encode_text"))
