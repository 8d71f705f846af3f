"""The page of the coco suite: figures with their sources, FID-k, pictures."""

import re
from collections.abc import Callable, Mapping

import numpy as np

from cogjax.evaluate.report.html import Markup, Picture, gallery, note, section, table
from cogjax.evaluate.report.plots import line_plot

_SHOWN = 12


def coco_page(
    report: Mapping,
    beside: Callable[[int], tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> list[Markup]:
    """Parts of the page. beside: (drawn, photograph) of a caption by index."""
    head = ["figure", "value", "spread", "pictures", "reference"]
    head += ["network", "resize", "blur", "note"]
    rows = [
        [f"{figure['name']} of {what}", *_cells(figure)]
        for what in ("drawn", "photographs")
        for figure in report[what]
    ]
    parts = [section("Figures", table(head, rows), _warning(report))]
    points = _by_radius(report["drawn"])
    if points:
        label = "Frechet distance behind a Gaussian filter"
        plot = line_plot({label: points}, "radius k", "distance")
        parts.append(section("Distance against blur", plot))
    losses = np.array([entry["caption_loss"] for entry in report["pictures"]])
    order = np.argsort(losses, kind="stable")
    some = np.random.default_rng(seed).permutation(len(losses))[:_SHOWN]
    chosen = {"Best": order[:_SHOWN], "Worst": order[::-1][:_SHOWN], "Random": some}
    for name, picks in chosen.items():
        shown = [_picture(report["pictures"][i], *beside(int(i))) for i in picks]
        title = f"{name} pictures by caption loss, the photograph beside"
        parts.append(section(title, gallery(shown)))
    return parts


def _cells(figure: Mapping) -> list[str]:
    spread, reference = figure["spread"], figure["reference"]
    return [
        f"{figure['value']:.5g}",
        "" if spread is None else f"{spread:.4g}",
        str(figure["n"]),
        "" if reference is None else str(reference),
        figure["extractor"],
        figure["resize"],
        figure["blur"],
        figure["note"],
    ]


def _warning(report: Mapping) -> Markup:
    return note(
        f"{len(report['pictures'])} captions. Caption losses are the model's own and "
        f"compare only with others of the same model; Frechet distances only with "
        f"others of the same network, number of pictures, blur and reference set."
    )


def _by_radius(figures) -> list[tuple[float, float, float, float]]:
    found = [(re.search(r"-(\d+)\[", f["name"]), f["value"]) for f in figures]
    return [(float(name[1]), *[value] * 3) for name, value in found if name]


def _picture(entry: Mapping, drawn: np.ndarray, photograph: np.ndarray) -> Picture:
    verdict = f"caption loss {entry['caption_loss']:.3f}"
    return Picture(drawn, entry["caption"], verdict, beside=photograph)
