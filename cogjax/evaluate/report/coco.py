"""The page of the coco suite: metrics with their sources, FID-k, images."""

import re
from collections.abc import Callable, Mapping

import numpy as np

from cogjax.evaluate.report.html import (
    GalleryImage,
    Markup,
    gallery,
    note,
    section,
    table,
)
from cogjax.evaluate.report.metrics import HEAD, metric_row
from cogjax.evaluate.report.plots import line_plot

_SHOWN = 12


def coco_page(
    report: Mapping,
    beside: Callable[[int], tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> list[Markup]:
    """Parts of the page. beside: (generated, photograph) of a caption by index."""
    rows = [
        metric_row(metric, what)
        for what in ("generated", "photographs")
        for metric in report[what]
    ]
    parts = [section("Metrics", table(HEAD, rows), _warning(report))]
    points = _by_radius(report["generated"])
    if points:
        label = "Frechet distance behind a Gaussian filter"
        plot = line_plot({label: points}, "radius k", "distance")
        parts.append(section("Distance against blur", plot))
    losses = np.array([entry["caption_loss"] for entry in report["images"]])
    order = np.argsort(losses, kind="stable")
    some = np.random.default_rng(seed).permutation(len(losses))[:_SHOWN]
    chosen = {"Best": order[:_SHOWN], "Worst": order[::-1][:_SHOWN], "Random": some}
    for name, picks in chosen.items():
        shown = [_image(report["images"][i], *beside(int(i))) for i in picks]
        title = f"{name} images by caption loss, the photograph beside"
        parts.append(section(title, gallery(shown)))
    return parts


def _warning(report: Mapping) -> Markup:
    return note(
        f"{len(report['images'])} captions. Caption losses are the model's own and "
        f"compare only with others of the same model; Frechet distances only with "
        f"others of the same network, number of images, blur and reference set."
    )


def _by_radius(metrics) -> list[tuple[float, float, float, float]]:
    found = [(re.search(r"-(\d+)\[", f["name"]), f["value"]) for f in metrics]
    return [(float(name[1]), *[value] * 3) for name, value in found if name]


def _image(
    entry: Mapping, generated: np.ndarray, photograph: np.ndarray
) -> GalleryImage:
    verdict = f"caption loss {entry['caption_loss']:.3f}"
    return GalleryImage(generated, entry["caption"], verdict, beside=photograph)
