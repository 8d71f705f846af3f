"""Holes of images: what of an image is drawn anew, and what of it is shown again.

    mask     white where an image is drawn anew
    canvas   an image that is extended on some sides, and the hole that it leaves

A model draws whole codes, or pixels of a small image, so all parts that a hole touches
are drawn; then the image itself is laid over what is outside of the hole. Nothing heavy
is imported: the command line checks masks before JAX is there.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from cogjax.data.aspects import Shape
from cogjax.data.images import as_image, fitted, on_white, upright_size
from cogjax.errors import UserError, did_you_mean, shown
from cogjax.pipelines.checks import check_whole

SIDES = ("left", "top", "right", "bottom")
TRANSPARENT = (
    "the mask is transparent in places: save it without, white where the image is "
    "drawn anew and black elsewhere"
)


class Canvas(NamedTuple):
    """image: RGB, of any size. hole: bool [y, x] of that size, True: drawn anew."""

    image: Image.Image
    hole: np.ndarray

    def keep(self, shape: Shape) -> np.ndarray:
        """Parts of the image's middle that the hole does not touch: bool [y, x]."""
        return ~_touched(self.hole, shape)

    def laid_over(self, pixels: np.ndarray) -> np.ndarray:
        """The image over what was drawn, uint8 [..., y, x, 3], outside of the hole.

        The hole is as drawn. From there to a sixteenth of a side outside of it what was
        drawn fades, so that no edge shows; beyond, the pixels are the image's own.
        """
        shape = pixels.shape[-3:-1]
        own = fitted(self.image, shape)
        reach = max(1, math.isqrt(math.prod(shape)) // 32)
        weight = _faded(_touched(self.hole, shape), reach)[..., None]
        mixed = np.round(weight * pixels + (1 - weight) * own.astype(np.float32))
        return mixed.astype(np.uint8)


def check_mask(mask: Any, image: Image.Image) -> np.ndarray:
    """The hole of an image, bool [y, x]: where a mask is white, or True.

    mask: an image, or bool [y, x]. UserError for one of another size, with colours or
    transparency, and for one without white.
    """
    is_array = isinstance(mask, np.ndarray) and mask.dtype == np.bool_
    hole = mask if is_array and mask.ndim == 2 else _white(as_image(mask))
    width, height = upright_size(image)
    if hole.shape != (height, width):
        raise UserError(
            f"the mask is {hole.shape[1]} x {hole.shape[0]} pixels and the image "
            f"{width} x {height}: make them of one size"
        )
    if not hole.any():
        raise UserError("the mask has no white: white is what is drawn anew")
    return hole


def check_extend(extend: Any, image: Image.Image) -> dict[str, int]:
    """Pixels by side; UserError for other sides, none, or more than there may be."""
    if not isinstance(extend, Mapping):
        raise UserError(
            f"extend is {shown(extend)}, expected pixels by side, such as left=16"
        )
    size = upright_size(image)
    most = max(size)
    found = {}
    for side, pixels in extend.items():
        if side not in SIDES:
            hint = did_you_mean(str(side), list(SIDES))
            raise UserError(f"extend has no side {shown(side)}{hint}")
        found[side] = check_whole(f"{side} of extend", pixels, -most, most)
    if not any(pixels > 0 for pixels in found.values()):
        raise UserError("extend adds no pixels to any side: give one, such as left=16")
    given = tuple(found.get(side, 0) for side in SIDES)
    if min(_rest(size[0], *given[::2]), _rest(size[1], *given[1::2])) < 1:
        raise UserError("extend takes away all of the image: take less of a side")
    return found


def extended(
    image: Image.Image, extend: Mapping[str, int], shape: Shape = (1, 1)
) -> Canvas:
    """An image with more pixels at some sides, or fewer where they are below 0.

    The canvas has the aspect of a shape, a square's by default: of the direction that
    is too short for it more is drawn, on the side that is extended, or on both alike.
    Nothing is cropped but what was asked.
    """
    pixels = np.asarray(on_white(image))
    left, top, right, bottom = (extend.get(side, 0) for side in SIDES)
    # Taken away first: what is drawn for a square must not bring it back.
    pixels = pixels[_part(pixels.shape[0], top, bottom)]
    pixels = pixels[:, _part(pixels.shape[1], left, right)]
    left, top, right, bottom = (max(0, x) for x in (left, top, right, bottom))
    height, width = pixels.shape[0] + top + bottom, pixels.shape[1] + left + right
    rows, columns = shape
    left, right = _filled(left, right, max(0, -(-height * columns // rows) - width))
    top, bottom = _filled(top, bottom, max(0, -(-width * rows // columns) - height))
    border = (top, bottom), (left, right)
    hole = np.pad(np.zeros(pixels.shape[:2], bool), border, constant_values=True)
    # Its edge goes on: a tokenizer sees a little of what is beside the codes it keeps.
    pixels = np.pad(pixels, (*border, (0, 0)), mode="edge")
    return Canvas(Image.fromarray(pixels), hole)


def _white(mask: Image.Image) -> np.ndarray:
    """bool [y, x]; UserError for colours and transparency."""
    if mask.mode in ("RGBA", "LA", "PA") or "transparency" in mask.info:
        if mask.convert("RGBA").getextrema()[3][0] < 255:
            raise UserError(TRANSPARENT)
    values = np.asarray(on_white(mask))
    if np.ptp(values.astype(int), axis=-1).max() > 16:
        raise UserError(
            "the mask has colours: white is what is drawn anew, black stays"
        )
    return values[..., 0] > 127


def _touched(hole: np.ndarray, shape: Shape) -> np.ndarray:
    """Which of the parts of the middle, of a shape, have some of the hole."""
    share = Image.fromarray(hole.astype(np.float32))
    share = ImageOps.fit(share, shape[::-1], method=Image.Resampling.BOX)
    return np.asarray(share) > 0


def _faded(hole: np.ndarray, reach: int) -> np.ndarray:
    """float32 [y, x]: 1 in the hole, falling to 0 within 2 `reach` pixels outside."""
    image = Image.fromarray(np.where(hole, 255, 0).astype(np.uint8))
    image = image.filter(ImageFilter.MaxFilter(2 * reach + 1))
    return np.asarray(image.filter(ImageFilter.BoxBlur(reach)), np.float32) / 255


def _rest(length: int, before: int, after: int) -> int:
    """Pixels of an image that are left of `length`."""
    return length + min(0, before) + min(0, after)


def _part(length: int, before: int, after: int) -> slice:
    """Those of them that stay."""
    return slice(max(0, -before), length - max(0, -after))


def _filled(before: int, after: int, missing: int) -> tuple[int, int]:
    """Two sides of which `missing` pixels more are drawn."""
    if before and not after:
        return before + missing, after
    if after and not before:
        return before, after + missing
    return before + missing // 2, after + missing - missing // 2
