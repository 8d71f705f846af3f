"""Image files to pixels, on guard against damaged and malicious files."""

import contextlib
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from cogjax.data.aspects import Shape
from cogjax.errors import UserError

MAX_PIXELS = 89_478_485
# Pillow hands some other formats to outside programs, such as EPS to Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_HUGE = 1 << 24
_ORIENTATION = 0x0112  # of EXIF
# Rows of few bytes each are slow to decode, and no camera makes them.
MAX_SIDE = 1 << 16

# What the counts of an import say of images that are not taken as they are.
ALPHA = "images with transparency, laid on white"
DEEP = "images of more than 8 bits a sample, scaled to 8"
ANIMATED = "images of several frames, the first taken"
TURNED = "images turned as their EXIF says"
CMYK = "images in CMYK, converted to RGB"
CROPPED = "images of which the crop leaves less than half"
PADDED = "images padded with white to the data set's shape"
ENLARGED = "images smaller than the data set's size, enlarged"


def decode_image(
    data: bytes,
    size: int | Shape | None = None,
    notes: Counter | None = None,
    most: int = MAX_PIXELS,
    pad: bool = False,
) -> np.ndarray:
    """Encoded image -> uint8 [y, x, 3], of `size`, (y, x) or of a square, if given.

    The first frame, turned as its EXIF says, transparency on white. The pixel count is
    read from the header before anything is decoded. notes: counts what is lost, by its
    reason. most: pixels that an image may have. pad: as of `fitted`. UserError with the
    reason if the image is broken, empty, too large, or of samples whose range is
    unknown.
    """
    notes = Counter() if notes is None else notes
    with _damage_named(data):
        image = _opened(data, notes, most)
        if size:
            shape = (size, size) if isinstance(size, int) else size
            return fitted(_shrunk(image, min(shape)), shape, notes, pad)
        return np.asarray(on_white(image, notes))


def open_image(path: str | os.PathLike) -> Image.Image:
    """The image in a file as it is, its transparency with it; UserError naming it."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read image {path}: {reason}") from error
    try:
        with _damage_named(data):
            return _opened(data, Counter(), MAX_PIXELS)
    except UserError as error:
        raise UserError(f"image {path}: {error}") from error


def _opened(data: bytes, notes: Counter, most: int) -> Image.Image:
    """The first frame, whose header is looked at before anything is decoded."""
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    if image.width * image.height > most:
        raise UserError(f"{image.width} x {image.height} pixels, at most {most}")
    if max(image.size) > MAX_SIDE:
        raise UserError(
            f"{image.width} x {image.height} pixels, at most {MAX_SIDE} a side"
        )
    # Pillow keeps the upper bytes of 16-bit colours, and says so here alone.
    notes[DEEP] += ";16" in str(image.tile)
    notes[ANIMATED] += getattr(image, "is_animated", False)
    image.load()
    return image


@contextlib.contextmanager
def _damage_named(data: bytes) -> Iterator[None]:
    """Within, whatever is wrong with an image file is a UserError with the reason."""
    if not data:
        raise UserError("the file is empty")
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, which is harmless, and of many pixels.
        warnings.simplefilter("ignore")
        try:
            yield
        except Image.DecompressionBombError as error:
            raise UserError(f"too many pixels, at most {MAX_PIXELS}") from error
        except UserError:
            raise
        except Exception as error:  # Pillow's plugins raise nearly every type.
            raise UserError(_unreadable(data, error)) from error


def dimensions(data: bytes) -> tuple[int, int]:
    """(width, height) of what `decode_image` reads, turned as its EXIF says.

    UserError with the reason if the header is broken.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            sideways = image.getexif().get(ExifTags.Base.Orientation, 1) > 4
        except Exception as error:  # Pillow's plugins raise nearly every type.
            raise UserError(_unreadable(data, error)) from error
    return image.size[::-1] if sideways else image.size


def _unreadable(data: bytes, error: Exception) -> str:
    return f"not a readable image: {_reason(data, error)}"[:200]


def _reason(data: bytes, error: Exception) -> str:
    head = data[:256].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "it is an HTML page"
    if b"<svg" in head:
        return "it is an SVG drawing, save it as PNG"
    if isinstance(error, UnidentifiedImageError):
        return f"of no known format, which are {', '.join(_FORMATS)}"
    return str(error) or "cannot be decoded"


def _shrunk(image: Image.Image, size: int) -> Image.Image:
    """A huge image nearer to its final size: every copy costs 4 bytes a pixel."""
    factor = min(image.size) // (4 * size)
    averages = image.mode in ("L", "LA", "RGB", "RGBA", "CMYK")
    if image.width * image.height < _HUGE or factor < 2 or not averages:
        return image
    return image.reduce(factor)


def _check_samples(image: Image.Image) -> None:
    # Pillow reads 16-bit grey PNG as mode I too.
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        kind = "floats" if image.mode == "F" else "32 bits"
        raise UserError(f"its samples are {kind}: save it with 8 or 16 bits a sample")


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of `on_white(image)`, by its header alone; the same errors."""
    _check_samples(image)
    turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size


def on_white(image: Image.Image, notes: Counter | None = None) -> Image.Image:
    """RGB copy of an image in any mode, turned as its EXIF says, alpha on white.

    UserError for samples whose range is unknown: floats, and 32 bits.
    """
    notes = Counter() if notes is None else notes
    _check_samples(image)
    turned = ImageOps.exif_transpose(image)
    notes[TURNED] += image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    image = turned
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would clip 16-bit grey at 255 instead of scaling it.
        grey = np.asarray(image) // 257
        return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")
    notes[CMYK] += image.mode == "CMYK"
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    notes[ALPHA] += image.getextrema()[3][0] < 255
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image)
    return white.convert("RGB")


def fitted(
    image: Image.Image,
    shape: Shape,
    notes: Counter | None = None,
    pad: bool = False,
) -> np.ndarray:
    """An image scaled to a shape (y, x), its ends cropped: uint8 [y, x, 3].

    pad: nothing is cropped, and the rest of the shape is white. notes: counts both.
    """
    image = on_white(image, notes)
    target, method = shape[::-1], Image.Resampling.LANCZOS
    if notes is not None:
        scale = [
            after / before for before, after in zip(image.size, target, strict=True)
        ]
        notes[CROPPED] += not pad and 2 * min(scale) < max(scale)
        # Half a pixel is a matter of rounding.
        notes[PADDED] += pad and 1 + 0.5 / min(shape) < max(scale) / min(scale)
        notes[ENLARGED] += (min if pad else max)(scale) > 1
    if pad:
        return np.asarray(ImageOps.pad(image, target, method=method, color="white"))
    return np.asarray(ImageOps.fit(image, target, method=method))


def to_square(image: Image.Image, size: int) -> np.ndarray:
    """Shorter side to `size`, centre crop: uint8 [size, size, 3]."""
    return fitted(image, (size, size))


def as_square(image: Image.Image | np.ndarray, size: int) -> np.ndarray:
    """As `to_square`, of whatever `as_image` takes."""
    return to_square(as_image(image), size)


def as_image(image: Image.Image | np.ndarray | str | os.PathLike) -> Image.Image:
    """An image, a file's path, or pixels uint8 [y, x] or [y, x, 3 or 4] -> the image.

    UserError for anything else, and for a file that cannot be read.
    """
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, str | os.PathLike):
        return open_image(image)
    pixels = np.asarray(image)
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not is_image or not pixels.size:
        raise UserError(
            f"an image is {type(image).__name__} {pixels.dtype} {list(pixels.shape)}, "
            "expected a PIL image, a path, or pixels uint8 [y, x, 3]"
        )
    return Image.fromarray(pixels)


def stack_squares(images: Any, size: int) -> np.ndarray:
    """Images as of `as_images` -> uint8 [n, size, size, 3]."""
    return np.stack([to_square(image, size) for image in as_images(images)])


def stack_squeezed(images: Any, size: int) -> np.ndarray:
    """As `stack_squares`, of all of each image: its sides are scaled apart."""
    target, method = (size, size), Image.Resampling.LANCZOS
    whole = [on_white(image).resize(target, method) for image in as_images(images)]
    return np.stack([np.asarray(image) for image in whole])


def as_images(
    images: Image.Image | str | os.PathLike | Iterable[Any] | np.ndarray,
) -> list[Image.Image]:
    """One or more of what `as_image` takes, or pixels uint8 [n, y, x, 3].

    UserError for none.
    """
    one = isinstance(images, Image.Image | str | os.PathLike)
    if one or getattr(images, "ndim", 4) < 4:
        images = [images]
    if not isinstance(images, Iterable):
        raise UserError(
            f"images is {images!r}, expected PIL images, paths or pixels uint8 "
            "[n, y, x, 3]"
        )
    images = list(images)
    if not images:
        raise UserError("there is no image: give at least one")
    return [as_image(image) for image in images]


def png_shape(data: bytes) -> Shape | None:
    """(height, width) that a PNG's header says, None for anything else."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    return height, width


def recipe_of(data: bytes) -> dict[str, Any]:
    """What `encode_png` has put into a PNG file; empty for others, and damaged ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                found = json.loads(image.info.get("cogjax", "{}"))
        except Exception:  # As of `decode_image`; and a recipe of any depth.
            return {}
    return found if isinstance(found, dict) else {}


def encode_png(pixels: np.ndarray, recipe: Mapping[str, Any] | None = None) -> bytes:
    """uint8 [y, x, 3] -> PNG bytes.

    recipe: JSON-able, how the image came about; it is the file's text "cogjax".
    """
    chunks = PngImagePlugin.PngInfo()
    if recipe is not None:
        chunks.add_itxt("cogjax", json.dumps(recipe, ensure_ascii=False))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=False, pnginfo=chunks)
    return buffer.getvalue()
