"""Attention weights that a model was asked for, and their picture."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from cogjax.data.images import encode_png
from cogjax.errors import UserError
from cogjax.pipelines.attention_sheet import attention_sheet
from cogjax.pipelines.checks import check_whole


@dataclass(frozen=True, eq=False)
class Attention:
    """How much of each key was taken where something was predicted.

    image: that was asked about. over_text: float32 [l, n, q, t], of l layers, n heads,
    q queries, t text keys.
    over_image: float32 [l, n, q, rows, columns], of all codes as keys; None of pixels.
    queries: what was predicted, "codes", "pieces" or "pixels".
    shape: (rows, columns) of the image. keys: text of each text key, "_" for a space
    alone, "" for padding and commands. layers: what each layer is, such as "full",
    "row" or a name.

    "codes" are the image from the text, in raster order: the text keys are the whole
    prompt, and what a code took of all keys sums to 1. "pieces" are the text from the
    image: the text keys are the pieces alone, and commands have the rest of 1. "pixels"
    are a noisy image's noise: n is 1, the mean over the heads, and layers of fewer
    places are repeated to the grid of the finest; the places of the image itself have
    the rest of 1.
    """

    image: Image.Image
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
            return self._of_code(code, part)
        named = [i for i, key in enumerate(self.keys) if key]
        maps = [part(self.of_piece(i)) for i in named]
        whole = np.sum if self.queries == "pieces" else np.mean
        captions = [
            f"{self.keys[i]}  {whole(found):.1%}"
            for i, found in zip(named, maps, strict=True)
        ]
        return attention_sheet(self.image, maps, captions)

    def _repr_png_(self) -> bytes:
        return encode_png(np.asarray(self.picture()))

    def _of_code(self, code: int, part: Callable) -> Image.Image:
        over_text, over_image = map(part, self.of_code(code))
        most = np.argsort(-over_text)[:3]
        words = [f"{self.keys[i] or 'command'} {over_text[i]:.0%}" for i in most]
        caption = f"image {over_image.sum():.0%}, {', '.join(words)}"
        mark = divmod(code, self.shape[1])
        return attention_sheet(self.image, [over_image], [caption], mark)


def of_places(
    image: Image.Image, found: Mapping[str, np.ndarray], keys: tuple[str, ...]
) -> Attention:
    """Attention of a network's layers over a text, each on a square grid of its own.

    image: that was asked about. found: float32 [n, places, t] by the layer's name; t
    may be longer than the text.
    """
    side = math.isqrt(max(weights.shape[1] for weights in found.values()))
    layers = []
    for weights in found.values():
        weights = weights[..., : len(keys)].mean(axis=0)  # [places, t]
        own = math.isqrt(len(weights))
        at = np.arange(side) * own // side
        layers.append(weights.reshape(own, own, -1)[at][:, at].reshape(side**2, -1))
    over_text = np.stack(layers)[:, None]
    return Attention(image, over_text, None, "pixels", (side, side), keys, tuple(found))


def _chosen(found: np.ndarray, layer: int | None, head: int | None) -> np.ndarray:
    """One layer and head of [l, n, ...], or the mean over them."""
    for name, index in (("layer", layer), ("head", head)):
        count = len(found)
        if index is not None:
            check_whole(name, index, 0, count - 1)
        found = found.mean(axis=0) if index is None else found[index]
    return found
