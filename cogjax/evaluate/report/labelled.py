"""Sections of pages about labelled images: shares by language, captions, images."""

from collections.abc import Mapping, Sequence

import numpy as np

from cogjax.data.contact_sheet import grid
from cogjax.data.images import encode_png
from cogjax.evaluate.report.html import Markup, image, note, section, share_cell, table
from cogjax.files import write_atomic

_PROMPTS_A_ROW = 3  # of the sheet


def generation_section(title: str, found: Mapping) -> Markup:
    """A row a figure and language, a column each kind of images."""
    columns = [key for key in found if key != "prompts"]
    rows = [
        [f"{figure.replace('_', ' ')}, {which}"]
        + [share_cell(found[key][figure][which]) for key in columns]
        for figure in found[columns[0]]
        for which in found[columns[0]][figure]
    ]
    head = ["share [95 %]", *(key.replace("_", " ") for key in columns)]
    return section(title, table(head, rows, f"{found['prompts']} prompts"))


def captions_section(metrics: Mapping, splits: Sequence[str]) -> Markup:
    """A row a split, from `captions_<split>` of the metrics."""
    found = {split: metrics[f"captions_{split}"]["right_of_20"] for split in splits}
    rows = [[split, *map(share_cell, x.values())] for split, x in found.items()]
    head = ["split", *found[splits[0]]]
    return section("Own label has the lowest loss of 20", table(head, rows))


def images_section(shown: Sequence[np.ndarray], path: str | None) -> Markup:
    """The images of prompts, uint8 [real and generated, y, x, 3] each.

    path: PNG file that gets them too, if any.
    """
    sheet = grid(np.concatenate(shown), _PROMPTS_A_ROW * len(shown[0]))
    png = encode_png(np.asarray(sheet))
    if path:
        write_atomic(path, png)
    text = "A row holds three prompts; of each: real, best of N, three others."
    return section("Images", note(text), image(png, "images", "sheet"))
