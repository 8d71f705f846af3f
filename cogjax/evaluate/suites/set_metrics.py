"""Metrics of a set of images, alone and against another, as far as they can be had.

What cannot be computed is named with its reason: a network that is not here, too few
images, no captions, no pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cogjax.data.output import Progress
from cogjax.evaluate.metrics.blur import RADII
from cogjax.evaluate.metrics.psnr_ssim import psnr, ssim
from cogjax.evaluate.metrics.result import MetricValue, Source
from cogjax.evaluate.suites.feature_metrics import (
    ClipExtractor,
    Counted,
    Extractor,
    Sides,
    clip_metrics,
    distances,
    inception_scores,
    too_few,
)
from cogjax.evaluate.suites.image_sets import ImageSet

_BY_FEATURES = f"FID-k (k {', '.join(map(str, RADII))}), KID"
_PAIRED = "PSNR, SSIM, LPIPS"
# Pixels a side that SSIM's window and VGG16 need.
_LEAST_SIDE = {"SSIM": 11, "LPIPS": 16}
_PIXELS = Source("pixels", "none")
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Networks:
    """What metrics are made with; a text instead says why one is not here.

    distance: LPIPS, with an `id`. blur: mode and rule of FID-k.
    """

    extractor: Extractor | str
    clip: ClipExtractor | str
    distance: Any | str
    blur: tuple[str, str] = ("both", "pil")


@dataclass
class Found:
    """Values, those of the second set apart, and {metric: reason} of the others."""

    values: list[MetricValue] = field(default_factory=list)
    of_reference: list[MetricValue] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def measure(
    images: ImageSet,
    reference: ImageSet | None,
    networks: Networks,
    progress: Progress,
) -> Found:
    """All metrics of images, and against a reference where there is one.

    UserError for a file that is no image, before any network runs.
    """
    found = Found()
    shapes = [dict(zip(s.names, s.shapes(progress), strict=True))
              for s in (images, reference) if s is not None]  # fmt: skip
    _by_features(found, images, reference, networks, progress)
    _by_clip(found, images, reference, networks, progress)
    if reference is None:
        found.missing[_PAIRED] = "they are of pairs: give a second set"
    else:
        _of_pairs(found, (images, reference), shapes, networks.distance, progress)
    return found


def _by_features(found, images, reference, networks: Networks, progress) -> None:
    extractor = networks.extractor
    all_of_them = f"{_BY_FEATURES}, FID-inf, precision, recall"
    if isinstance(extractor, str):
        found.missing[f"{all_of_them}, IS"] = extractor
        return
    counts = [len(s) for s in (images, reference) if s is not None]
    few = too_few(counts)
    reasons = {name: f"needs {n} images a side" for name, n in few.items()}
    if reference is None:
        found.missing[all_of_them] = "they are of two sets: give a second one"
        reasons = {name: why for name, why in reasons.items() if name == "IS"}
    elif min(counts) < 2:
        found.missing[_BY_FEATURES] = "needs 2 images a side"
    else:
        sides = Sides(images, reference, (len(images), len(reference)))
        found.values += distances(sides, extractor, networks.blur, progress)
    if (reference is None or min(counts) < 2) and "IS" not in few:
        found.values += inception_scores(images, len(images), extractor, progress)
    if "IS" not in few and not any(v.name.startswith("IS") for v in found.values):
        reasons["IS"] = f"{extractor.id.split(':')[0]} has no classes"
    found.missing |= reasons


def _by_clip(found, images, reference, networks: Networks, progress) -> None:
    if isinstance(networks.clip, str):
        found.missing["CMMD, clip_cosine, clipscore_2.5"] = networks.clip
        return
    sides = {"images": images} | ({"reference": reference} if reference else {})
    if reference is None or min(len(images), len(reference)) < 2:
        found.missing["CMMD"] = "it is of two sets, of 2 images a side at least"
        sides = {"images": images}
    captions = {n: s.captions for n, s in sides.items() if all(s.captions)}
    for name in sides.keys() - captions.keys():
        lost = sum(not text for text in sides[name].captions)
        reason = f"{lost} of {len(sides[name])} images have no caption"
        found.missing[f"clip_cosine, clipscore_2.5 of {sides[name].path}"] = reason
    counted = Counted(sum(map(len, sides.values())), progress)
    values = clip_metrics(sides, captions, networks.clip, 0, counted)
    found.values += values["images"]
    found.of_reference += values.get("reference", [])


def _of_pairs(
    found: Found,
    sides: tuple[ImageSet, ImageSet],
    shapes: Sequence[dict[str, tuple[int, int]]],
    distance: Any | str,
    progress: Progress,
) -> None:
    """PSNR, SSIM and LPIPS of images of one name."""
    common = [name for name in sides[0].names if name in shapes[1]]
    if not common:
        found.missing[_PAIRED] = (
            f"no image of {sides[0].path} has the name of one of {sides[1].path}"
        )
        return
    differ = [name for name in common if shapes[0][name] != shapes[1][name]]
    if differ:
        found.missing[_PAIRED] = (
            f"{len(differ)} of {len(common)} pairs are of two sizes, such as "
            f"{differ[0]}: give --size N"
        )
        return
    smallest = min(min(shapes[0][name]) for name in common)
    functions: dict[str, Distance] = {"PSNR": psnr, "SSIM": ssim, "LPIPS": distance}
    for name, side in _LEAST_SIDE.items():
        if smallest < side:
            del functions[name]
            found.missing[name] = f"needs {side} pixels a side"
    if isinstance(functions.get("LPIPS"), str):
        found.missing["LPIPS"] = str(functions.pop("LPIPS"))
    found.values += _paired_values(sides, common, functions, progress)


def _paired_values(
    sides: tuple[ImageSet, ImageSet],
    names: Sequence[str],
    functions: dict[str, Distance],
    progress: Progress,
) -> list[MetricValue]:
    found: dict[str, list[np.ndarray]] = {name: [] for name in functions}
    done = 0
    for pair in zip(*(each.picked(names) for each in sides), strict=True):
        progress(done, len(names), "pairs")
        for name, function in functions.items():
            found[name].append(function(*pair))
        done += len(pair[0])
    progress(done, len(names), "pairs")
    return [
        _mean(name, functions[name], np.concatenate(x)) for name, x in found.items()
    ]


def _mean(name: str, function: Distance, values: np.ndarray) -> MetricValue:
    source, note = _PIXELS, "mean of pairs of one name"
    if name == "LPIPS":
        source = Source(function.id, "none")
    note += ", dB" if name == "PSNR" else ""
    mean, spread = float(np.mean(values)), float(np.std(values))
    return MetricValue(name, mean, source, len(values), len(values), spread, note)
