"""Images in a grid, and the contents of a data set."""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cogjax.data.images import decode_image
from cogjax.data.records import Example, open_split, read_manifest
from cogjax.errors import UserError
from cogjax.files import check_file, write_file

# Where Linux, macOS and Windows keep fonts with Chinese characters.
_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "C:/Windows/Fonts/msyh.ttc",
)
_SPACE = 28


def grid(
    images: np.ndarray,
    columns: int,
    captions: Sequence[str] | None = None,
    gap: int = 2,
) -> Image.Image:
    """uint8 [n, y, x, 3] -> one image, row by row, `gap` white pixels between.

    captions: one text under each image, in two lines at most.
    """
    count, height, width, _ = images.shape
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    step_y = height + gap + (_SPACE if captions else 0)
    step_x = width + gap
    canvas = np.full((rows * step_y - gap, columns * step_x - gap, 3), 255, np.uint8)
    corners = [(i // columns * step_y, i % columns * step_x) for i in range(count)]
    for image, (y, x) in zip(images, corners, strict=True):
        canvas[y : y + height, x : x + width] = image
    image = Image.fromarray(canvas)
    for text, (y, x) in zip(captions or (), corners, strict=bool(captions)):
        _write(image, text, x, y + height, width)
    return image


def show(
    folder: str | os.PathLike,
    *,
    split: str = "train",
    n: int = 48,
    out: str,
    overwrite: bool = False,
) -> Path:
    """Saves a grid of examples spread over a split, and prints counts and captions.

    Raises UserError if the folder is no data set, if the split is missing or empty, or
    if `out` is there already, unless `overwrite`.
    """
    path = check_file(out, overwrite)
    manifest, source = read_manifest(folder), open_split(folder, split)
    if not len(source):
        raise UserError(f"split '{split}' of {folder} is empty: choose another --split")
    count = min(n, len(source))
    picks = [source[i * len(source) // count] for i in range(count)]
    size = np.max(manifest.shapes or [2 * (manifest.image_size,)], axis=0).tolist()
    images = [decode_image(e.image, tuple(size), pad=True) for e in picks]
    captions = [_caption(example) for example in picks]
    columns = math.ceil(math.sqrt(2 * count))
    shown = captions if manifest.image_size >= 64 else None
    _save(grid(np.stack(images), columns, shown), path, overwrite)
    print(f"{folder}: {manifest.kind}, {manifest.image_size} px")
    for name, size in manifest.counts.items():
        print(f"  {name:8} {size}")
        for field, counts in manifest.contents.get(name, {}).items():
            _print_counts(field, counts)
    for example in picks[:10]:
        texts = [text for _, text in example.captions[:6]]
        print(f"  {example.id}: " + " | ".join(texts + _questions(example)[:6]))
    print(f"{count} images of {split} in {path}")
    return path


def _caption(example: Example) -> str:
    """A caption or question that the fonts here can draw, else the file name."""
    texts = [*(text for _, text in example.captions), *_questions(example)]
    ascii_texts = [text for text in texts if text.isascii()]
    return ((texts if _font() else ascii_texts) or [example.id])[0]


def _questions(example: Example) -> list[str]:
    return [f"{question} {answer}" for _, question, answer in example.questions]


def _print_counts(field: str, counts: Mapping[str, int]) -> None:
    if counts:
        parts = ", ".join(f"{key or '?'} {count}" for key, count in counts.items())
        print(f"    {field}: {parts}")


def _save(image: Image.Image, path: Path, overwrite: bool) -> None:
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions().get(path.suffix.lower(), "PNG"))
    write_file(path, buffer.getvalue(), overwrite)


def _font() -> str | None:
    """A font with Chinese characters, if the system has a common one."""
    return next((font for font in _FONTS if Path(font).exists()), None)


def _write(image: Image.Image, text: str, x: int, y: int, width: int) -> None:
    path = _font()
    try:
        font = ImageFont.truetype(path, 11) if path else ImageFont.load_default(11)
    except OSError:  # A broken font file.
        path, font = None, ImageFont.load_default(11)
    draw = ImageDraw.Draw(image)
    lines, line = [], ""
    for char in text if path or text.isascii() else "?":
        if draw.textlength(line + char, font=font) > width:
            head, _, tail = line.rpartition(" ")
            lines.append(head or line)
            line = tail if head else ""
        line += char
    for row, content in enumerate([*lines, line][:2]):
        draw.text((x, y + 1 + 13 * row), content, fill="black", font=font)
