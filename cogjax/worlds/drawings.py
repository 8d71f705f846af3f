"""Renders drawings (SVG, WebP or PNG bytes) to square images, in parallel.

A build that is stopped goes on where it was: what is rendered is kept in a folder
beside the data set, `OUT.rendered`, until the set is complete.
"""

import hashlib
import io
import multiprocessing
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgpack
import numpy as np
from PIL import Image

from cogjax.data.images import encode_png, to_square
from cogjax.data.output import Output
from cogjax.errors import UserError
from cogjax.files import write_atomic

_BATCH = 256  # drawings a file of the kept ones
_MAX_FAILED = 0.05


def render(
    drawings: Mapping[str, bytes], output: Output, workers: int
) -> tuple[dict[str, bytes], list[str]]:
    """PNG bytes by name, and one line for each drawing that could not be rendered.

    Raises:
      UserError: more than 5 % of the drawings failed.
    """
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    items = list(drawings.items())
    batches = [items[i : i + _BATCH] for i in range(0, len(items), _BATCH)]
    kept = kept_folder(output)
    rendered, failed, done = {}, [], 0
    output.progress(0, len(items), "rendering")
    # Spawned: the parent may hold threads that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        tasks = ((batch, output.size, kept) for batch in batches)
        for batch in pool.map(_render_batch, tasks):
            rendered |= {name: png for name, png, _ in batch if png is not None}
            failed += [f"{name}: {reason}" for name, png, reason in batch if not png]
            done += len(batch)
            output.progress(done, len(items), "rendering")
    if len(failed) > _MAX_FAILED * len(items):
        forget_rendered(output)
        raise UserError(f"{len(failed)} of {len(items)} images failed: {failed[0]}")
    return rendered, failed


def kept_folder(output: Output) -> Path:
    """Where rendered drawings wait for the rest."""
    return Path(f"{Path(output.folder)}.rendered")


def forget_rendered(output: Output) -> None:
    """Removes what `render` kept, once the data set is complete."""
    shutil.rmtree(kept_folder(output), ignore_errors=True)


def _render_batch(task) -> list[tuple[str, bytes | None, str]]:
    """[(name, png, reason)], read from the kept file if it is there."""
    batch, size, kept = task
    digest = hashlib.sha256(f"{size}".encode())
    for name, data in batch:
        digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    path = kept / f"{digest.hexdigest()}.msgpack"
    try:
        return [tuple(row) for row in msgpack.unpackb(path.read_bytes())]
    except (OSError, ValueError, msgpack.UnpackException):
        pass  # Not rendered yet, or cut short.
    rows = [(name, *_render_one(data, size)) for name, data in batch]
    kept.mkdir(parents=True, exist_ok=True)
    write_atomic(path, msgpack.packb(rows))
    return rows


def _render_one(data: bytes, size: int) -> tuple[bytes | None, str]:
    try:
        return encode_png(to_pixels(data, size)), ""
    except Exception as error:  # One bad image must not end the build.
        return None, str(error)[:120] or type(error).__name__


def to_pixels(data: bytes, size: int) -> np.ndarray:
    """SVG, WebP or PNG bytes -> uint8 [size, size, 3] on white, rendered at 2x."""
    if b"<svg" in data[:400]:
        import pyvips

        # Looked at before rendering: only the scale can make an image large.
        image = pyvips.Image.svgload_buffer(data)
        scale = 2 * size / max(image.width, image.height)
        image = pyvips.Image.svgload_buffer(data, scale=scale)
        pixels = np.ndarray(
            (image.height, image.width, image.bands),
            np.uint8,
            image.write_to_memory(),
        )
        image = Image.fromarray(pixels)
    else:
        image = Image.open(io.BytesIO(data)).convert("RGBA")
    side = max(image.size)
    square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    corner = ((side - image.width) // 2, (side - image.height) // 2)
    square.paste(image, corner)
    return to_square(square, size)
