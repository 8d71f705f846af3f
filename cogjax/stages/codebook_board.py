"""The codebook of a tokenizer as one image: its codes as the decoder draws them."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from cogjax.data.contact_sheet import grid
from cogjax.evaluate.report.run_files import BOARD
from cogjax.model import Component
from cogjax.pipelines.tokenize import decode
from cogjax.train.metrics import save_png

IMAGES = 128  # whose codes are counted
_MOST, _COLUMNS, _SIDE = 1024, 32, 16  # tiles, a row, pixels of one
_EVEN = 4  # side of a grid of equal codes; of a whole image it costs 20 times as much


def write_board(
    workdir: Path, step: int, tokenizer: Component, codes: np.ndarray
) -> None:
    """Writes WORKDIR/codebook.png, on the first process alone.

    codes: int [b, rows, columns] of held-out images, whose use is counted.
    """
    size = len(tokenizer.state["codebook"])
    counts = np.bincount(codes.reshape(-1), minlength=size)
    order = np.argsort(-counts, kind="stable")[:_MOST]
    tiles = _tiles(tokenizer, order)
    if jax.process_index() == 0:
        sheet = _sheet(tiles, int(np.sum(counts[order] > 0)))
        save_png(workdir / BOARD, sheet, _facts(step, counts, codes))


def _tiles(tokenizer: Component, order: np.ndarray) -> np.ndarray:
    """uint8 [n, _SIDE, _SIDE, 3]: the middle of an image of one code each."""
    even = np.broadcast_to(order[:, None, None], (len(order), _EVEN, _EVEN))
    pixels = decode(tokenizer, even.astype(np.int32), batch_size=256)
    side = pixels.shape[1] // _EVEN  # of a code's square
    first = _EVEN // 2 * side
    squares = pixels[:, first : first + side, first : first + side]
    nearest = np.arange(_SIDE) * side // _SIDE
    return squares[:, nearest][:, :, nearest]


def _sheet(tiles: np.ndarray, used: int) -> np.ndarray:
    """Those in use, an empty row, and the others."""
    parts = [
        np.asarray(grid(part, _COLUMNS, gap=1))
        for part in (tiles[:used], tiles[used:])
        if len(part)
    ]
    width = max(part.shape[1] for part in parts)
    gap = np.full((_SIDE, width, 3), 255, np.uint8)
    rows = []
    for part in parts:
        missing = width - part.shape[1]
        padded = np.pad(part, ((0, 0), (0, missing), (0, 0)), constant_values=255)
        rows += [padded, gap]
    return np.concatenate(rows[:-1])


def _facts(step: int, counts: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
    share = counts[counts > 0] / counts.sum()
    top = np.sort(counts)[::-1]
    return {
        "step": step,
        "codes": len(counts),
        "counted in held-out images": len(codes),
        "places of a code in them": codes.size,
        "used": int(np.sum(counts > 0)),
        "not used by any": int(np.sum(counts == 0)),
        "perplexity": round(float(np.exp(-np.sum(share * np.log(share)))), 2),
        "share of the ten most used": round(float(top[:10].sum() / top.sum()), 4),
        "shown": min(len(counts), _MOST),
    }
