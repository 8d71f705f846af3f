"""`cogjax data icons`: builds the set from packages alone."""

import hashlib
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cogjax.data.output import Output
from cogjax.data.records import Example, Manifest
from cogjax.worlds import npm
from cogjax.worlds.drawings import forget_rendered, render
from cogjax.worlds.emoji import captions as emoji_captions
from cogjax.worlds.emoji import sources as emoji_sources
from cogjax.worlds.emoji.captions import Concept
from cogjax.worlds.emoji.dataset import LICENSES as EMOJI_LICENSES
from cogjax.worlds.icons import captions, iconpark
from cogjax.worlds.icons import concepts as joined
from cogjax.worlds.icons.duplicates import near_train, same_pixels
from cogjax.worlds.icons.splits import SPLITS, Item, colors_of, split_items

EMOJI_STYLES = ("noto", "noto-v1", "twemoji", "fluent-3d", "fluent-flat")
EMOJI_STYLES += ("fluent-mono", "fluent-color", "emojione", "fxemoji")
# Only when asked for: weights trained on them would have to be shared alike.
SHARE_ALIKE = ("openmoji", "openmoji-line")
_ICONPARK = "IconPark, ByteDance, Apache-2.0"
_LABELS = "Unicode CLDR, Unicode-3.0; titles of IconPark, Apache-2.0"
# Digest of the splits that the shipped models are trained on. Frozen: figures of two
# models can be compared only while both were asked the same questions.
SPLITS_DIGEST = "9630c4a39587b4a8de23278ad68367b6efcab62f6099f960e7d42270726ec29d"
_GROUPS = ("component", "flags")  # left out
_SHARDS = {"train": 4, "val": 1, "pairs": 1, "colors": 1, "combinations": 1}


@dataclass(frozen=True)
class IconsReport:
    """A built set: images by style, and what was left out by reason."""

    manifest: Manifest
    styles: dict[str, int]
    left_out: dict[str, int]
    failed: list[str]


def build_icons(
    output: Output,
    *,
    npm_dir: str | os.PathLike | None = None,
    share_alike: bool = False,
    workers: int = 2,
) -> IconsReport:
    """Renders IconPark's icons in named colours and the emoji styles.

    A build that was stopped goes on with what it had rendered.

    Args:
      npm_dir: folder of npm archives (.tgz) to use instead of calling npm.
      share_alike: take the CC BY-SA styles of OpenMoji too.

    Raises:
      UserError: a missing package or archive, a source without images, or a folder that
        is in the way.
    """
    builder = output.builder("icons", _SHARDS)
    styles = EMOJI_STYLES + (SHARE_ALIKE if share_alike else ())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(npm_dir if npm_dir is not None else scratch)
        if npm_dir is None:
            archives = [*emoji_sources.archives_of(styles), iconpark.PACKAGE]
            npm.fetch(folder, archives)
        concepts, drawings, left_out = _collect(folder, styles)
    images, failed = _render(drawings, output, workers)
    splits = split_items(list(images))
    left_out["could not be rendered"] = len(failed)
    _drop(same_pixels(images), images, left_out, "same image as another")
    near = [item for item, _, _ in near_train(images, splits)]
    _drop(near, images, left_out, "held out, but nearly the same in train")
    with builder:
        manifest = _write(builder, images, concepts, splits, left_out)
    forget_rendered(output)
    counts = Counter(item.style for item in images)
    return IconsReport(manifest, dict(sorted(counts.items())), left_out, failed)


def _collect(folder: Path, styles: Sequence[str]):
    """Concepts by key, SVG or WebP bytes by item, and counts of what is left out."""
    emoji, emoji_images = emoji_sources.collect("npm", styles, folder)
    wanted = [c for c in emoji.values() if c.group not in _GROUPS]
    icons, left_out = iconpark.read_icons(folder)
    concepts, keys = joined.join(joined.emoji_concepts(wanted), icons)
    drawings = {
        Item(image.key, image.style): image.data
        for image in emoji_images
        if image.key in concepts
    }
    left_out["flag or part of an emoji"] = len(emoji_images) - len(drawings)
    for icon in icons:
        for theme in iconpark.themes_of(icon):
            for color in colors_of(keys[icon.name], theme):
                item = Item(keys[icon.name], theme, color)
                drawings[item] = iconpark.draw(icon, theme, color)
    return concepts, drawings, left_out


def _render(drawings: Mapping[Item, bytes], output: Output, workers: int):
    names = {item.name: item for item in drawings}
    ordered = sorted(names)
    pngs, failed = render({n: drawings[names[n]] for n in ordered}, output, workers)
    return {names[name]: png for name, png in pngs.items()}, failed


def _drop(items, images: dict, left_out: dict[str, int], reason: str) -> None:
    for item in items:
        del images[item]
    left_out[reason] = len(items)


def _write(builder, images, concepts, splits, left_out) -> Manifest:
    licenses = {s: EMOJI_LICENSES.get(s, _ICONPARK) for s in _styles(images)}
    for item, png in images.items():
        builder.write(splits[item], _example(item, concepts[item.concept], png))
    lines = [f"- {name}: {text}" for name, text in licenses.items()]
    text = "\n".join(
        ["# Where the images come from", "", *lines, f"- labels: {_LABELS}"]
    )
    builder.write_text("LICENSES.md", text + "\n")
    return builder.finish(
        {
            "licenses": licenses,
            "labels": _LABELS,
            "counts": _counts(images, concepts, splits),
            "left_out": left_out,
            "splits_digest": splits_digest(images, splits),
        }
    )


def _styles(images: Mapping[Item, bytes]) -> list[str]:
    return sorted({item.style for item in images})


def splits_digest(images: Mapping[Item, bytes], splits: Mapping[Item, str]) -> str:
    """sha256 over names and splits: two sets that agree ask the same questions."""
    rows = sorted(f"{splits[item]} {item.name}" for item in images)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _counts(images, concepts, splits) -> dict:
    """Images, concepts and captions: in all, and by split, style and language."""
    by_split, by_style, texts = defaultdict(set), Counter(), Counter()
    for item in images:
        by_split[splits[item]].add(item.concept)
        by_style[item.style] += 1
        for language, _ in _captions(item, concepts[item.concept]):
            texts[language] += 1
    return {
        "images": len(images),
        "concepts": len({item.concept for item in images}),
        "concepts_by_split": {split: len(by_split[split]) for split in SPLITS},
        "images_by_style": dict(sorted(by_style.items())),
        "captions": dict(sorted(texts.items())),
    }


def _captions(item: Item, concept: Concept) -> tuple[tuple[str, str], ...]:
    if item.color:
        return captions.captions(concept, item.style, item.color)
    return emoji_captions.captions(concept, item.style)


def _example(item: Item, concept: Concept, png: bytes) -> Example:
    source = "iconpark" if item.color else item.style
    meta = {
        "concept": item.concept,
        "style": item.style,
        "label_en": concept.label_en,
        "label_zh": concept.label_zh,
        "group": concept.group,
        "source": source,
        "license": EMOJI_LICENSES.get(source, _ICONPARK),
        "color": item.color,
    }
    name = re.sub(r"[^0-9a-z-]", "-", item.name)
    return Example(name, png, _captions(item, concept), meta)
