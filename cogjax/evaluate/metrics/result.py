"""The value of a metric and its source, which always appear together."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cogjax.errors import UserError

# Starts of the ids of the extractors that metrics were published with.
INCEPTION = "inception-2015"
TORCHVISION = "inception-torchvision"
CLIP = "clip-vit-l-14-336"


@dataclass(frozen=True)
class Source:
    """The source of a feature matrix.

    extractor: id of the network, its weights and its layer, "name" or "name:hash".
    resize: rule that brought the images to the network's size (`metrics/resize.py`).
    blur: mode and rule of the blur before that (`metrics/blur.py`), or "none".
    """

    extractor: str
    resize: str
    blur: str = "none"

    def __post_init__(self):
        if not (self.extractor and self.resize and self.blur):
            raise UserError(f"a metric needs extractor, resize and blur, got {self}")

    def label(self, name: str, official: str, generic: str | None = None) -> str:
        """The metric's published name, with the published extractor only.

        official: how the id of that extractor starts. With any other the answer is
        "generic-extractor", such as "FD-efflite0": its values are not comparable.
        """
        short = self.extractor.split(":")[0]
        return name if short.startswith(official) else f"{generic or name}-{short}"


@dataclass(frozen=True)
class MetricValue:
    """The value of a metric, with everything that it depends on.

    n: judged images (or pairs); reference: images that they are compared with, None
    without any. spread: standard deviation over splits or subsets.
    """

    name: str
    value: float
    source: Source
    n: int
    reference: int | None = None
    spread: float | None = None
    note: str = ""

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" +- {self.spread:.4g}"
        against = "" if self.reference is None else f" against {self.reference}"
        source, note = self.source, f"; {self.note}" if self.note else ""
        return (
            f"{self.name} {self.value:.5g}{spread} ({source.extractor}, n {self.n}"
            f"{against}, resize {source.resize}, blur {source.blur}{note})"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON: all fields, those of the source beside the others."""
        fields = asdict(self)
        return fields | fields.pop("source")


def check_features(*matrices: np.ndarray, least: int = 1) -> list[np.ndarray]:
    """Returns feature matrices [n, d] as float64.

    Raises UserError where one is no matrix, has fewer rows than `least` or values that
    are not finite, or where the widths differ.
    """
    for x in matrices:
        if np.ndim(x) != 2:
            raise UserError(f"features must be [n, d], got shape {np.shape(x)}")
        if len(x) < least:
            raise UserError(f"{least} images a side are needed at least, got {len(x)}")
        if np.shape(x)[1] != np.shape(matrices[0])[1]:
            shapes = " and ".join(str(np.shape(m)) for m in matrices)
            raise UserError(f"features of two extractors cannot be compared: {shapes}")
    checked = [np.asarray(x, np.float64) for x in matrices]
    if not all(np.isfinite(x).all() for x in checked):
        raise UserError("features hold NaN or infinity: check the extractor's weights")
    return checked
