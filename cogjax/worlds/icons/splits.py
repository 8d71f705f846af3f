"""Splits of `icons` that ask for more than memory.

train
val            concepts that are in no other split
pairs          (concept, style) held out; the concept is in train in other styles
colors         (concept, colour) held out; the concept is in train in other colours
combinations   (colour, theme) held out for all concepts

They are decided by hashes of names, the same for every system that trains on the set.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cogjax.worlds.icons.iconpark import THEMES
from cogjax.worlds.icons.palette import PALETTE
from cogjax.worlds.words import share

SPLITS = ("train", "val", "pairs", "colors", "combinations")
COMBINATIONS = {
    ("icon-outline", "orange"),
    ("icon-filled", "cyan"),
    ("icon-two-tone", "purple"),
    ("icon-multi-color", "pink"),
}
COLORS_A_DRAWING = 2
# Chosen so that the examples of the README are in `train`.
_SALT = "cogjax-icons-32"
_CONCEPTS, _PAIRS, _COLORS = 0.03, 0.06, 0.11


@dataclass(frozen=True)
class Item:
    """One image: what it shows and how. color: "" for emoji styles."""

    concept: str
    style: str
    color: str = ""

    @property
    def name(self) -> str:
        return "/".join(part for part in (self.style, self.concept, self.color) if part)


def colors_of(concept: str, theme: str) -> list[str]:
    """The colours in which a concept is drawn in a theme."""
    # Strokes are dark in the last two themes: a black fill would hide the drawing.
    names = [c for c in PALETTE if c != "black" or theme in THEMES[:2]]
    ranked = sorted(names, key=lambda color: _share(f"{concept}|{theme}|{color}|draw"))
    return ranked[:COLORS_A_DRAWING]


def split_items(items: Sequence[Item]) -> dict[Item, str]:
    """The split of every image.

    A pair or a colour is held out only while the concept keeps two images in train.
    """
    by_concept = defaultdict(list)
    for item in items:
        by_concept[item.concept].append(item)
    return {
        item: split
        for concept, group in by_concept.items()
        for item, split in _split_concept(concept, group).items()
    }


def _split_concept(concept: str, group: Sequence[Item]) -> dict[Item, str]:
    if _share(concept) < _CONCEPTS:
        return dict.fromkeys(group, "val")
    wanted = {item: _split_item(item, ("pairs", "colors")) for item in group}
    left = [item for item in group if wanted[item] == "train"]
    allowed = ["pairs"] if len({item.style for item in left}) >= 2 else []
    allowed += ["colors"] if len(left) >= 2 and any(i.color for i in left) else []
    # A rule that does not hold for the concept holds for none of its images.
    return {item: _split_item(item, allowed) for item in group}


def _split_item(item: Item, allowed: Sequence[str]) -> str:
    if (item.style, item.color) in COMBINATIONS:
        return "combinations"
    if "pairs" in allowed and _share(f"{item.concept}|{item.style}") < _PAIRS:
        return "pairs"
    color = item.color and _share(f"{item.concept}|{item.color}") < _COLORS
    return "colors" if color and "colors" in allowed else "train"


def _share(text: str) -> float:
    return share(_SALT, text)
