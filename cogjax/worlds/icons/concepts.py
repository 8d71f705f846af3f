"""What the drawings show: concepts of the emoji and of IconPark under one list.

An icon whose English name is an emoji's label is the same concept. Every concept has a
label of its own in each language, so that a caption tells which one is meant.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cogjax.worlds.emoji.captions import Concept
from cogjax.worlds.icons.iconpark import Icon
from cogjax.worlds.words import slug

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_CHINESE_NUMBERS = "一二三四五六七八九"


def emoji_concepts(concepts: Iterable[Concept]) -> dict[str, Concept]:
    """The concepts by key, labels that two share told apart by the first tag."""
    taken, found = set(), {}
    for concept in concepts:
        label = concept.label_zh
        if label in taken:
            label = f"{label}（{concept.label_en}）"
        taken.add(label)
        found[concept.key] = replace(concept, label_zh=label)
    return found


def join(
    emoji: Mapping[str, Concept], icons: Sequence[Icon]
) -> tuple[dict[str, Concept], dict[str, str]]:
    """All concepts by key, and the key of each icon by its name."""
    by_label = {slug(c.label_en): key for key, c in emoji.items()}
    concepts = dict(emoji)
    taken = {c.label_zh for c in emoji.values()}
    keys = {}
    for icon in icons:
        key = by_label.get(icon.name)
        if key is None:
            key = f"icon-{icon.name}"
            concepts[key] = _concept(key, icon, taken)
            taken.add(concepts[key].label_zh)
        keys[icon.name] = key
    return concepts, keys


def _concept(key: str, icon: Icon, taken: set[str]) -> Concept:
    label_en = icon.name.replace("-", " ")
    label_zh = _own_label(icon, taken)
    tags = tuple(tag for tag in icon.tags if tag != icon.title)
    return Concept(key, label_en, label_zh, (), tags, icon.category)


def _own_label(icon: Icon, taken: set[str]) -> str:
    """The Chinese title; one that is taken gets the name's number or the next free."""
    if icon.title not in taken:
        return icon.title
    last = re.search(rf"-({'|'.join(_NUMBERS)})$", icon.name)
    numbers = list(_CHINESE_NUMBERS[1:]) + [str(n) for n in range(10, 100)]
    if last:
        numbers.insert(0, _CHINESE_NUMBERS[_NUMBERS.index(last.group(1))])
    return next(label for n in numbers if (label := f"{icon.title}{n}") not in taken)
