"""HTML of results and models, as a notebook shows it; all text is escaped."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from cogjax.data.images import encode_png

MOST = 64  # images of a result
_FIGURE = "display:inline-block;margin:4px;max-width:12em;vertical-align:top"


def images_html(images: Iterable[np.ndarray], captions: Sequence[str]) -> str:
    """uint8 [y, x, 3] each, beside each other, with a caption below each."""
    shown = [
        f'<figure style="{_FIGURE}"><img alt="{html.escape(caption)}" '
        f'style="min-width:96px;image-rendering:pixelated" src="{_data(pixels)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for pixels, caption in zip(images, captions[:MOST], strict=False)
    ]
    more = len(captions) - len(shown)
    rest = f"<p>{more} more in <code>.images</code></p>" if more > 0 else ""
    return f"<div>{''.join(shown)}{rest}</div>"


def model_html(kind: str, model: Any, does: Sequence[str]) -> str:
    """A table of what a `Model` is; does: names of the methods that it has."""
    card = model.card
    rows = [("name", card.get("name")), ("what", card.get("what"))]
    rows += [("family", model.family), ("licence", card.get("licence"))]
    rows += [
        (name, f"{part.kind}, {_count(part.params):,} parameters")
        for name, part in model.components.items()
    ]
    rows.append(("methods", ", ".join(does)))
    lines = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in rows
        if value
    )
    return f"<table><caption>{html.escape(kind)}</caption>{lines}</table>"


def _data(pixels: np.ndarray) -> str:
    inside = base64.b64encode(encode_png(pixels)).decode("ascii")
    return f"data:image/png;base64,{inside}"


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
