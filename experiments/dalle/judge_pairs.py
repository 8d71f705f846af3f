"""Is it the same, in the style asked for? A model of pairs on held-out concepts.

    python experiments/dalle/judge_pairs.py --model runs/pairs/export \
        --pairs data/icons-pairs --icons data/icons --out runs/pairs_judged

Pairs of the split `val` are drawn at random. A model gets the real source and words for
the target's style, English and Chinese in turn, with its colour where it has one. The
judges of icons say whether the style is reached, and whether the concept is among the
five nearest by both kinds of features (`evaluate/judges/icons.py`). The styles of both
images are left out of the gallery: else strokes that were copied would prove the
concept. Beside it stand, for the same pairs,

    real       the targets through the model's image tokenizer, the ceiling
    unchanged  the sources through it, the control

Prints a table with Wilson 95 % intervals. Writes judged.json, and judged.png: source,
generated and real, some pairs a row.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import cogjax
from cogjax.commands.progress import Progress
from cogjax.data.codes import CodedExample
from cogjax.data.contact_sheet import grid
from cogjax.data.records import Example, open_split
from cogjax.evaluate.judges import labelled
from cogjax.evaluate.judges.gallery import make_gallery
from cogjax.evaluate.judges.icons import IconJudges
from cogjax.evaluate.suites.icons import make_judges
from cogjax.pipelines.pairs import PairsPipeline
from cogjax.worlds.icons.splits import SPLITS
from cogjax.worlds.pairs import caption
from cogjax.worlds.words import LANGUAGES

FIGURES = ("style", "color", "concept_top5_both", "style_and_concept")
FIGURES += ("concept_top5_efflite0", "concept_top5_icon_net")
_SHOWN = 24
_CHUNK = 64


@dataclass(frozen=True)
class Pair:
    """What is asked: a style of the source image, judged by the target's meta."""

    source: Example
    target: Example
    style: str


def draw(
    pairs: Sequence[CodedExample],
    examples: Mapping[str, Example],
    styles: Sequence[str],
    n: int,
    seed: int,
) -> list[Pair]:
    """n of the pairs at random. examples: of the set `icons`, by id.

    Pairs are left out whose style is none of `styles`: those of a colour and a theme
    that are held out together.
    """
    words = {caption(style): style for style in styles}
    found = []
    for place in np.random.default_rng(seed).permutation(len(pairs)):
        pair, language = pairs[int(place)], _languages(len(found) + 1)[-1]
        # The last caption of a language names the colour, if there is one.
        text = [text for lang, text in pair.captions if lang == language][-1]
        if text in words and len(found) < n:
            source = pair.meta["source_id"]
            target = examples[pair.id.removeprefix(f"{source}--")]
            found.append(Pair(examples[source], target, words[text]))
    return found


def without(judges: IconJudges, style: str) -> IconJudges:
    """The judges with a gallery that has no drawings in a style."""
    gallery = judges.gallery
    (kept,) = np.nonzero(gallery.styles != style)
    items = [gallery.items[i] for i in kept]
    known = {name: features[kept] for name, features in judges.known.items()}
    smaller = make_gallery(items, gallery.thumbnails[kept])
    return IconJudges(smaller, judges.features, known)


def judge(
    judges: IconJudges, pairs: Sequence[Pair], columns: Mapping[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """Hits [n] by column and figure; columns: images uint8 [n, y, x, 3] of pairs."""
    hits = {name: {x: np.full(len(pairs), np.nan) for x in FIGURES} for name in columns}
    own = np.array([pair.source.meta["style"] for pair in pairs])
    for style in sorted(set(own)):
        (rows,) = np.nonzero(own == style)
        some = without(judges, style)
        targets = [pairs[i].target for i in rows]
        for name, images in columns.items():
            found = some.hits(images[rows], targets)
            # Unchanged strokes keep the concept, and noise may have the style.
            found["style_and_concept"] = found["style"] * found["concept_top5_both"]
            for figure in FIGURES:
                hits[name][figure][rows] = found[figure]
    return hits


def generate(model: PairsPipeline, pairs: Sequence[Pair], progress) -> np.ndarray:
    """Image 0 of seed 0 of each pair: uint8 [n, y, x, 3]."""
    pixels = []
    for start in range(0, len(pairs), _CHUNK):
        progress(start, len(pairs), "generating")
        some = pairs[start : start + _CHUNK]
        sources = labelled.pixels_of([pair.source for pair in some])
        styles = tuple(pair.style for pair in some)
        found = model.generate(image=[*sources], style=styles, num_images=1)
        pixels.append(found.pixels[:, 0])
    return np.concatenate(pixels)


def main() -> None:
    """Generates, judges, prints the table and draws the sheet."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    model = cogjax.load(args.model)
    parts = labelled.load(args.icons, SPLITS).values()
    examples = [example for part in parts for example in part]
    named = {example.id: example for example in examples}
    held_out = open_split(args.pairs, "val", CodedExample)
    pairs = draw(held_out, named, model.styles, args.n, args.seed)
    sources, real = (
        labelled.pixels_of([getattr(pair, name) for pair in pairs], model.image_size)
        for name in ("source", "target")
    )
    with Progress() as progress:
        judges = make_judges(examples, progress)
        columns = {
            "generated": generate(model, pairs, progress),
            "real": labelled.through(model, real),
            "unchanged": labelled.through(model, sources),
        }
    report = _report(judge(judges, pairs, columns))
    (args.out / "judged.json").write_text(json.dumps(report, indent=1) + "\n")
    show(report)
    rows = np.stack([sources, columns["generated"], real], axis=1)[:_SHOWN]
    sheet = grid(rows.reshape(-1, *rows.shape[2:]), 12)
    Image.fromarray(np.asarray(sheet)).save(args.out / "judged.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", required=True, help="folder of a model of pairs")
    add("--pairs", required=True, help="data set of `cogjax data pairs`")
    add("--icons", required=True, help="the set `icons` that it was made of")
    add("--out", type=Path, required=True, help="folder of the results")
    add("--n", type=int, default=1000, help="pairs (%(default)s)")
    add("--seed", type=int, default=0, help="of the draw of pairs (%(default)s)")
    return parser.parse_args()


def _report(hits: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict]:
    """Shares with their intervals, over all and by language."""
    return {
        name: {
            figure: labelled.by_language(values, _languages(len(values)))
            for figure, values in found.items()
        }
        for name, found in hits.items()
    }


def _languages(count: int) -> list[str]:
    """The language of each pair's words, in turn."""
    return [LANGUAGES[i % len(LANGUAGES)] for i in range(count)]


def show(report: Mapping[str, Mapping]) -> None:
    """Prints the shares of both languages together."""
    print("|", " | ".join(["", *report]), "|")
    print("| --- " * (len(report) + 1) + "|")
    for figure in FIGURES:
        cells = []
        for found in report.values():
            entry = found[figure]["all"]
            low, high = (100 * x for x in entry["interval"])
            share = 100 * entry["share"]
            cells.append(f"{share:.1f} % [{low:.1f}, {high:.1f}] of {entry['n']}")
        print("|", " | ".join([figure.replace("_", " "), *cells]), "|")


if __name__ == "__main__":
    main()
