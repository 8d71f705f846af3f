"""Where a model looks: attention weights between a text and an image.

found = cogjax.load("emoji").attention(image, "a red apple, 3D")
found.of_piece(1).mean((0, 1))  # [rows, columns]: how much each code took of it
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cogjax.data.images import as_image
from cogjax.errors import UserError
from cogjax.models.image_lm import ImageLM
from cogjax.pipelines.attention_found import Attention
from cogjax.pipelines.tokens_model import TokensModel
from cogjax.sampling.tokens.watch import (
    compiled_weights_of_codes,
    compiled_weights_of_tokens,
)

_MOST_BYTES = 2**31  # of what is returned
_CALL_BYTES = 2**27  # of what one pass through the network returns


class Attentive(TokensModel):
    """A model of codes whose attention can be looked at."""

    def attention(self, image: Any, text: str, heads: bool = True) -> Attention:
        """How much of the text, and of the codes before it, each code was made of.

        image: as of `Reader.score`, one. heads: False is the mean over the heads of a
        layer, n = 1, which needs less memory. UserError for a model whose transformer
        is of another kind, and for more than 2 GiB.
        """
        self._check_attention()
        pieces = self.pieces(text)
        image = as_image(image)
        [(own, _, codes)] = self.by_shape(image)
        prompts, _ = own.prompts([pieces])
        flat = codes.reshape(1, -1)
        config, length = self._generator.config, prompts.ids.shape[1]

        def look(which: np.ndarray) -> np.ndarray:
            network = self._generator, self._params
            return compiled_weights_of_codes(*network, prompts, flat, which)

        sizes = config.depth, config.heads, flat.shape[1], length + flat.shape[1]
        found = _in_parts(look, sizes, heads)
        over_image = found[..., length:]
        return Attention(
            image,
            found[..., :length],
            over_image.reshape(*over_image.shape[:3], *own.shape),
            "codes",
            own.shape,
            own.names_of(prompts.ids[0], pieces),
            tuple(kind.name for kind in config.layer_kinds),
        )

    def names_of(self, ids: np.ndarray, pieces: Sequence[int]) -> tuple[str, ...]:
        """What each token of a prompt is: a piece's text, "" for anything else.

        ids: int [t], or of a model that reads vectors float [t, f]; these stand at the
        end, and behind them the end of the text.
        """
        decode, vocab = self.model.text.decode, self.layout.vocab
        if ids.ndim == 2:
            read = pieces[: self.layout.text_len]
            names = [*(decode([piece]) or "_" for piece in read), ""]
            return ("",) * (len(ids) - len(names)) + tuple(names)
        start = getattr(vocab, "text_start", vocab.num_codes)
        own = set(pieces)
        places = (int(i) - start for i in ids)
        return tuple((decode([i]) or "_") if i in own else "" for i in places)

    def _check_attention(self) -> None:
        """UserError for a model whose attention has no such form."""
        if self.images > 1 or not isinstance(self._generator, ImageLM):
            raise UserError(
                "attention is shown of models that draw one image by one decoder over "
                "text and codes, and this is another: choose such a model"
            )
        if self._generator.config.window:
            raise UserError(
                "this model attends to a window and pivots, whose weights are not "
                "shown: choose a model without model.window"
            )


class AttentiveReader(Attentive):
    """One that writes texts too; captioner: the network that does."""

    captioner: ImageLM

    def attention_of_caption(
        self, image: Any, text: str, heads: bool = True
    ) -> Attention:
        """As `attention`, where the text is predicted: what each piece is made of."""
        self._check_attention()
        pieces = self.pieces(text)
        image = as_image(image)
        [(own, _, codes)] = self.by_shape(image)
        layout, config = own.layout, self.captioner.config
        ids = layout.image_to_text(pieces, codes.ravel())[0]
        start = layout.vocab.text_start
        is_piece = (ids >= start) & (ids < start + layout.vocab.num_text)
        [places], [of_image] = (
            is_piece.nonzero(),
            (ids < layout.vocab.num_codes).nonzero(),
        )
        end = places[-1] + 1
        positions = layout.reading_positions
        positions = np.arange(len(ids)) if positions is None else positions

        def look(which: np.ndarray) -> np.ndarray:
            network = self.captioner, self._params
            rows = ids[None, :end], positions[None, :end]
            return compiled_weights_of_tokens(*network, *rows, places[which] - 1)

        sizes = config.depth, config.heads, len(places), int(end)
        found = _in_parts(look, sizes, heads)
        over_image = found[..., of_image]
        return Attention(
            image,
            found[..., places],
            over_image.reshape(*over_image.shape[:3], *own.shape),
            "pieces",
            own.shape,
            own.names_of(ids[places], pieces),
            tuple(kind.name for kind in config.layer_kinds),
        )


def _in_parts(
    look: Callable[[np.ndarray], Any], sizes: tuple[int, ...], heads: bool
) -> np.ndarray:
    """`look` of all queries: float32 [l, n or 1, q, s].

    look: weights [l, n, w, s] of queries int [w]. sizes: l, n, q, s.
    """
    depth, num_heads, count, keys = sizes
    each = 4 * depth * num_heads * keys
    kept = each * count // (1 if heads else num_heads)
    if kept > _MOST_BYTES:
        raise UserError(
            f"these weights would take {kept / 2**30:.1f} GiB, the most are 2: set "
            "heads to False, or take a smaller model"
        )
    size = min(count, max(1, _CALL_BYTES // each))
    parts = []
    for start in range(0, count, size):
        # The last part is as large as the others: one program.
        which = np.minimum(np.arange(start, start + size), count - 1)
        found = np.asarray(look(which.astype(np.int32)))[:, :, : count - start]
        parts.append(found if heads else found.mean(axis=1, keepdims=True))
    return np.concatenate(parts, axis=2)
