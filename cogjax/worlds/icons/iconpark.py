"""IconPark's drawings: 2,658 icons in four themes, with free colours.

The npm archive holds one JavaScript file an icon, which joins pieces of SVG and the
properties of a theme. It is read as text; nothing of it is run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cogjax.errors import UserError
from cogjax.worlds import npm
from cogjax.worlds.icons.palette import hex_color, tint

PACKAGE = "@icon-park/svg@1.4.2"
THEMES = ("icon-outline", "icon-filled", "icon-two-tone", "icon-multi-color")
# Logos of companies: the licence of the drawings does not cover trade marks.
_LEFT_OUT = ("Brand",)
_DARK = "#333333"
_PIECE = re.compile(r"'((?:[^'\\]|\\.)*)'|props\.(\w+)(?:\[(\d)\])?")


@dataclass(frozen=True)
class Icon:
    """One icon. pieces: SVG text, and ("colors", 0) for what a theme fills in."""

    name: str
    title: str
    tags: tuple[str, ...]
    category: str
    pieces: tuple


def read_icons(folder: Path) -> tuple[list[Icon], dict[str, int]]:
    """The icons of the archive in `folder`, and how many were left out, by reason.

    Raises:
      UserError: the archive cannot be read or holds no icon.
    """
    (rows,) = npm.json_members(folder, PACKAGE, ("/icons.json",))
    scripts = _scripts(npm.members(folder, PACKAGE, (".js",)))
    icons, left_out = [], {"company logo": 0, "no drawing": 0}
    for row in rows:
        if row["category"] in _LEFT_OUT:
            left_out["company logo"] += 1
        elif row["name"] not in scripts:
            left_out["no drawing"] += 1
        else:
            icons.append(_icon(row, scripts[row["name"]]))
    if not icons:
        raise UserError(f"the archive of {PACKAGE} gave 0 icons: fetch it again")
    return icons, left_out


def _scripts(members: Mapping[str, bytes]) -> dict[str, str]:
    """Text of each icon's script, by the icon's name."""
    found = {}
    for path, data in members.items():
        text = data.decode("utf-8", "replace")
        name = re.search(r"IconWrapper\('([a-z0-9-]+)'", text)
        if path.startswith("package/es/icons/") and name:
            found[name.group(1)] = text
    return found


def _icon(row: Mapping, script: str) -> Icon:
    body = script[script.index("return '") : script.rindex("</svg>") + len("</svg>'")]
    pieces = []
    for text, prop, index in _PIECE.findall(body):
        pieces.append((prop, int(index or 0)) if prop else text.replace("\\'", "'"))
    tags = tuple(tag.strip() for tag in row["tag"] if tag.strip())
    return Icon(row["name"], row["title"].strip(), tags, row["category"], tuple(pieces))


def draw(icon: Icon, theme: str, color: str) -> bytes:
    """SVG of an icon in a theme and a colour of the palette."""
    named = _colors(theme, color)
    values = {
        "size": ("48",),
        "strokeWidth": ("4",),
        "strokeLinecap": ("round",),
        "strokeLinejoin": ("round",),
        "colors": named,
        "id": ("i",),
    }
    return "".join(
        piece if isinstance(piece, str) else values[piece[0]][piece[1]]
        for piece in icon.pieces
    ).encode()


def _colors(theme: str, color: str) -> tuple[str, str, str, str]:
    """Outer stroke, outer fill, inner stroke and inner fill, as IconPark mixes them."""
    own = hex_color(color)
    return {
        "icon-outline": (own, "none", own, "none"),
        "icon-filled": (own, own, "#ffffff", "#ffffff"),
        "icon-two-tone": (_DARK, own, _DARK, own),
        "icon-multi-color": (_DARK, own, "#ffffff", tint(color)),
    }[theme]


def themes_of(icon: Icon) -> tuple[str, ...]:
    """Themes in which the icon shows its colour and looks like no earlier theme."""
    fills = {piece[1] for piece in icon.pieces if piece[0] == "colors"} & {1, 3}
    drawings = {}
    for theme in THEMES:
        # Dark strokes alone would show no colour.
        if theme in THEMES[:2] or fills:
            drawings.setdefault(draw(icon, theme, "red"), theme)
    return tuple(drawings.values())
