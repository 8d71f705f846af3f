"""Pictures in a grid, and what a data set holds."""

import math

import numpy as np
from PIL import Image


def grid(images: np.ndarray, columns: int, gap: int = 2) -> Image.Image:
    """uint8 [n, y, x, 3] -> one picture, row by row, on white with `gap` pixels between."""
    count, height, width, _ = images.shape
    rows = math.ceil(count / columns)
    canvas = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8
    )
    for i, picture in enumerate(images):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[y : y + height, x : x + width] = picture
    return Image.fromarray(canvas)
