"""Image tokenizers beside each other: how near an image comes back, and from what.

PSNR says how near pixel by pixel, and prefers blur; SSIM how near in local structure;
LPIPS how near for people; rFD how far the set of reconstructions is from the set of
images, whichever belongs to which. A judge says how many still show what they showed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cogjax.data import records
from cogjax.data.contact_sheet import grid
from cogjax.errors import UserError
from cogjax.evaluate.judges.features import FeatureExtractor
from cogjax.evaluate.metrics.frechet import Moments, frechet_distance
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.evaluate.metrics.psnr_ssim import psnr, ssim
from cogjax.evaluate.report.columns import columns
from cogjax.interop.tree import flatten
from cogjax.model import Component
from cogjax.model_folder import load_component
from cogjax.pipelines.tokenize import decode, encode

_SHOWN = 8  # images of the sheet, a row of originals and a row a tokenizer
_COLUMNS = ("tokenizer", "kind", "weights", "codes", "used", "perplexity")
_COLUMNS += ("PSNR", "SSIM", "LPIPS", "rFD")


@dataclass(frozen=True)
class Measures:
    """What images [n, y, x, 3] are compared by.

    distance: LPIPS of pairs, as `load_lpips`. extractor: for rFD. judge: hits [n] of
    the first n images of the split or what became of them, NaN where none can be.
    """

    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
    extractor: FeatureExtractor
    judge: Callable[[np.ndarray], np.ndarray] | None = None

    def recognised(self, images: np.ndarray) -> tuple[float, float, float] | None:
        """Share of images that the judge finds right, with its 95 % interval.

        None without a judge; UserError if it can judge none of the images.
        """
        if self.judge is None:
            return None
        hits = self.judge(images)
        hits = hits[~np.isnan(hits)]
        if not len(hits):
            raise UserError(
                f"none of the {len(images)} images can be judged, as the set has no "
                "other drawing of what they show: take more with --n"
            )
        return float(hits.mean()), *wilson(float(hits.sum()), len(hits))


@dataclass(frozen=True)
class Row:
    """The metrics of one tokenizer on a set of images.

    weights: without the codebook. grid: codes a side. used: share of the codebook that
    the set uses at all; perplexity: exp of the entropy of its codes. psnr, ssim:
    means over images, PSNR in dB. lpips: mean, of all five levels. rfd: Frechet
    distance of features. recognised: share that a judge finds right, and its interval.
    """

    name: str
    kind: str
    weights: int
    grid: int
    used: float
    perplexity: float
    psnr: float
    ssim: float
    lpips: float
    rfd: float
    recognised: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """n: images. extractor: id of rFD's. sheet: originals and reconstructions.

    recognised: of the originals, at the size of the tokenizers.
    """

    n: int
    data: str
    split: str
    extractor: str
    rows: tuple[Row, ...]
    sheet: Image.Image
    recognised: tuple[float, float, float] | None = None

    def table(self) -> str:
        """The metrics, in columns, a line a tokenizer."""
        judged = self.recognised is not None
        lines = [(*_COLUMNS, "recognised") if judged else _COLUMNS]
        for row in self.rows:
            lines.append(
                (
                    row.name,
                    row.kind,
                    f"{row.weights:,}",
                    f"{row.grid} x {row.grid}",
                    f"{100 * row.used:.1f} %",
                    f"{row.perplexity:.0f}",
                    f"{row.psnr:.2f}",
                    f"{row.ssim:.4f}",
                    f"{row.lpips:.4f}",
                    f"{row.rfd:.3f}",
                    *([interval(row.recognised)] if judged else []),
                )
            )
        return columns(lines)


def interval(share: tuple[float, float, float]) -> str:
    """A share and its interval in per cent."""
    mean, low, high = (100 * value for value in share)
    return f"{mean:.1f} % [{low:.0f}, {high:.0f}]"


def compare(
    folders: Sequence[str],
    data: str,
    split: str,
    n: int,
    measures: Measures,
    progress: Callable[[int, int, str], None] | None = None,
) -> Comparison:
    """Encodes and decodes the first n images of a split with each tokenizer.

    Args:
      folders: tokenizer or model folders, or names of shipped models.
      progress: called as progress(tokenizers done, of so many, label).

    Raises:
      UserError: tokenizers of different sizes, no tokenizer, or too few images, or none
        that can be judged.
    """
    tokenizers = {name: load_component(name, "tokenizer") for name in folders}
    sizes = {name: found.config.image_size for name, found in tokenizers.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name} has {size} px" for name, size in sizes.items())
        raise UserError(f"tokenizers of one size can be compared: {said}")
    images = _images(data, split, n, next(iter(sizes.values())))
    wanted = Moments.of(measures.extractor(images))
    rows, shown = [], [images[:_SHOWN]]
    progress = progress or (lambda done, total, label: None)
    for done, (name, tokenizer) in enumerate(tokenizers.items()):
        progress(done, len(tokenizers), f"comparing {name}")
        codes = encode(tokenizer, images)
        decoded = decode(tokenizer, codes)
        got = Moments.of(measures.extractor(decoded))
        metrics = {
            "psnr": float(psnr(images, decoded).mean()),
            "ssim": float(ssim(images, decoded).mean()),
            "lpips": float(measures.distance(images, decoded).mean()),
            "rfd": frechet_distance(
                wanted.mean, wanted.covariance, got.mean, got.covariance
            ),
            "recognised": measures.recognised(decoded),
        }
        rows.append(_row(name, tokenizer, codes, metrics))
        shown.append(decoded[:_SHOWN])
    progress(len(tokenizers), len(tokenizers), "compared")
    sheet = grid(np.concatenate(shown), len(shown[0]))
    return Comparison(
        len(images),
        data,
        split,
        measures.extractor.id,
        tuple(rows),
        sheet,
        measures.recognised(images),
    )


def _images(data: str, split: str, n: int, size: int) -> np.ndarray:
    source = records.open_split(data, split)
    if len(source) < 2:
        raise UserError(f"split '{split}' of {data} has fewer than 2 images")
    count = min(n, len(source))
    found = [records.decode_image(source[i].image, size) for i in range(count)]
    return np.stack(found)


def _row(name: str, tokenizer: Component, codes: np.ndarray, metrics) -> Row:
    config = tokenizer.config
    counts = np.bincount(codes.reshape(-1), minlength=config.codebook_size)
    shares = counts[counts > 0] / counts.sum()
    return Row(
        # `runs/vq/export` and `runs/vqgan/export` are called vq and vqgan.
        name=next(
            (part for part in reversed(Path(name).parts) if part != "export"), name
        ),
        kind=tokenizer.kind,
        weights=sum(leaf.size for leaf in flatten(tokenizer.params).values()),
        grid=config.grid,
        used=float(np.mean(counts > 0)),
        perplexity=float(np.exp(-np.sum(shares * np.log(shares)))),
        **metrics,
    )
