"""Where a model looks: attention weights between a text and an image.

found = cogjax.load("emoji").attention(image, "a red apple, 3D")
found.of_piece(1).mean((0, 1))  # [rows, columns]: how much each code took of it
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from cogjax.errors import UserError
from cogjax.models.image_lm import ImageLM
from cogjax.pipelines.attention_sheet import attention_sheet
from cogjax.pipelines.checks import check_whole
from cogjax.pipelines.tokens_model import TokensModel
from cogjax.sampling.tokens.watch import (
    compiled_weights_of_codes,
    compiled_weights_of_tokens,
)

_MOST_BYTES = 2**31  # of what is returned
_CALL_BYTES = 2**27  # of what one pass through the network returns


@dataclass(frozen=True, eq=False)
class Attention:
    """How much of each key was taken where something was predicted.

    over_text: float32 [l, n, q, t], of l layers, n heads, q queries, t text keys.
    over_image: float32 [l, n, q, rows, columns], of all codes as keys; None of pixels.
    queries: what was predicted.
      "codes": the image from the text, in raster order. The text keys are the whole
        prompt, and what a code took of all keys sums to 1.
      "pieces": the text from the image. The text keys are the pieces alone, and
        commands have the rest of 1.
      "pixels": a noisy image's noise. n is 1, the mean over the heads, and layers of
        fewer places are repeated to the grid of the finest. The places of the image
        itself have the rest of 1.
    shape: (rows, columns) of the image. keys: text of each text key, "" for padding and
    commands. layers: what each layer is, such as "full", "row" or a name.
    """

    over_text: np.ndarray
    over_image: np.ndarray | None
    queries: Literal["codes", "pieces", "pixels"]
    shape: tuple[int, int]
    keys: tuple[str, ...]
    layers: tuple[str, ...]

    def of_piece(self, key: int) -> np.ndarray:
        """What is between a text key and each place: float32 [l, n, rows, columns].

        How much each place took of the piece; of queries that are pieces, how much the
        piece took of each code.
        """
        check_whole("key", key, 0, len(self.keys) - 1)
        if self.queries == "pieces":
            return self.over_image[:, :, key]
        taken = self.over_text[..., key]
        return taken.reshape(*taken.shape[:2], *self.shape)

    def of_code(self, code: int) -> tuple[np.ndarray, np.ndarray]:
        """What a code took of the text, [l, n, t], and of the image, [l, n, r, c].

        UserError where no codes were predicted.
        """
        if self.queries != "codes":
            raise UserError(
                "no codes were predicted here: ask for the attention of a model of "
                "codes that draws, not reads"
            )
        rows, columns = self.shape
        check_whole("code", code, 0, rows * columns - 1)
        return self.over_text[:, :, code], self.over_image[:, :, code]

    def picture(
        self,
        image: Any,
        *,
        code: int | None = None,
        layer: int | None = None,
        head: int | None = None,
    ) -> Image.Image:
        """The image under `of_piece` of each text piece, or under `of_code` of a code.

        layer, head: one of them, None is the mean over all. Each panel is as bright as
        its own highest value. Its caption says how much a place took of the piece, the
        mean over the places, or a piece of the image. UserError for a number that is
        not there.
        """
        part = functools.partial(_chosen, layer=layer, head=head)
        if code is not None:
            return self._of_code(image, code, part)
        named = [i for i, key in enumerate(self.keys) if key]
        maps = [part(self.of_piece(i)) for i in named]
        whole = np.sum if self.queries == "pieces" else np.mean
        captions = [
            f"{self.keys[i]}  {whole(found):.1%}"
            for i, found in zip(named, maps, strict=True)
        ]
        return attention_sheet(image, maps, captions)

    def _of_code(self, image: Any, code: int, part: Callable) -> Image.Image:
        over_text, over_image = map(part, self.of_code(code))
        most = np.argsort(-over_text)[:3]
        words = [f"{self.keys[i] or 'command'} {over_text[i]:.0%}" for i in most]
        caption = f"image {over_image.sum():.0%}, {', '.join(words)}"
        mark = divmod(code, self.shape[1])
        return attention_sheet(image, [over_image], [caption], mark)


def of_places(found: Mapping[str, np.ndarray], keys: tuple[str, ...]) -> Attention:
    """Attention of a network's layers over a text, each on a square grid of its own.

    found: float32 [n, places, t] by the layer's name; t may be longer than the text.
    """
    side = math.isqrt(max(weights.shape[1] for weights in found.values()))
    layers = []
    for weights in found.values():
        weights = weights[..., : len(keys)].mean(axis=0)  # [places, t]
        own = math.isqrt(len(weights))
        at = np.arange(side) * own // side
        layers.append(weights.reshape(own, own, -1)[at][:, at].reshape(side**2, -1))
    over_text = np.stack(layers)[:, None]
    return Attention(over_text, None, "pixels", (side, side), keys, tuple(found))


def _chosen(found: np.ndarray, layer: int | None, head: int | None) -> np.ndarray:
    """Of [l, n, ...] one layer and head, or the mean over them."""
    for name, index in (("layer", layer), ("head", head)):
        count = len(found)
        if index is not None:
            check_whole(name, index, 0, count - 1)
        found = found.mean(axis=0) if index is None else found[index]
    return found


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
        [(own, _, codes)] = self.by_shape([image])
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
            names = [*(decode([piece]) for piece in read), ""]
            return ("",) * (len(ids) - len(names)) + tuple(names)
        start = getattr(vocab, "text_start", vocab.num_codes)
        own = set(pieces)
        places = (int(i) - start for i in ids)
        return tuple(decode([i]) if i in own else "" for i in places)

    def _check_attention(self) -> None:
        """UserError for a model whose attention has no such form."""
        if self.images > 1 or not isinstance(self._generator, ImageLM):
            raise UserError(
                "attention is shown of models that draw one image by one decoder over "
                "text and codes, and this is another: choose such a model"
            )


class AttentiveReader(Attentive):
    """One that writes texts too; captioner: the network that does."""

    captioner: ImageLM

    def attention_of_caption(
        self, image: Any, text: str, heads: bool = True
    ) -> Attention:
        """As `attention`, where the text is predicted: what each piece is made of."""
        pieces = self.pieces(text)
        [(own, _, codes)] = self.by_shape([image])
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
            found[..., places],
            over_image.reshape(*over_image.shape[:3], *own.shape),
            "pieces",
            own.shape,
            tuple(self.model.text.decode([int(i) - start]) for i in ids[places]),
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
