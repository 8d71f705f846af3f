"""The judges of icons together: what is shown, by two kinds of features, style, colour.

`efflite0` was trained on photographs, `icon_net` on icons. Both see images in grey, and
both must be convinced for a figure that ends in `both`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from cogjax.data.records import Example
from cogjax.evaluate.judges import icon_net
from cogjax.evaluate.judges.features import NetworkExtractor
from cogjax.evaluate.judges.gallery import Gallery
from cogjax.evaluate.judges.icon_color import colors
from cogjax.worlds.icons.splits import Item

Features = Callable[[np.ndarray], np.ndarray]
TOP = (1, 5)


@dataclass(frozen=True)
class IconJudges:
    """features: of images by judge. known: features of the gallery by judge."""

    gallery: Gallery
    features: dict[str, Features]
    known: dict[str, np.ndarray]

    def hits(
        self, images: np.ndarray, examples: Sequence[Example]
    ) -> dict[str, np.ndarray]:
        """As `labelled.Judges`; the colour only of examples that have one."""
        items = [item_of(example) for example in examples]
        ranks = {
            name: self.gallery.ranks(self.known[name], extract(images), items)
            for name, extract in self.features.items()
        }
        ranks["both"] = np.maximum.reduce(list(ranks.values()))
        hits = {
            f"concept_top{top}_{name}": np.where(np.isnan(x), np.nan, x < top)
            for name, x in ranks.items()
            for top in TOP
        }
        wanted = np.array([item.style for item in items])
        hits["style"] = (icon_net.styles(images) == wanted).astype(float)
        wanted = np.array([item.color for item in items])
        right = np.array(colors(images)) == wanted
        hits["color"] = np.where(wanted == "", np.nan, right)
        return hits


def item_of(example: Example) -> Item:
    """What an example shows, and how."""
    return Item(*(example.meta[name] for name in ("concept", "style", "color")))


def photograph_features(extractor: NetworkExtractor) -> Features:
    """EfficientNet-Lite0's, of grey images; the root tames the few large ones."""

    def extract(images: np.ndarray) -> np.ndarray:
        return np.sqrt(extractor(icon_net.without_color(images)))

    return extract


def controls(images: np.ndarray) -> dict[str, np.ndarray]:
    """Images uint8 [n, y, x, 3] that show nothing, which no judge may accept.

    blurred: by a Gaussian of a sixteenth of the side, which keeps the places of
    colours. mean_color: one colour each.
    """
    blur = ImageFilter.GaussianBlur(images.shape[1] / 16)
    blurred = [np.asarray(Image.fromarray(image).filter(blur)) for image in images]
    mean = images.mean((1, 2), keepdims=True).round().astype(np.uint8)
    return {
        "blurred": np.stack(blurred),
        "mean_color": np.broadcast_to(mean, images.shape).copy(),
    }
