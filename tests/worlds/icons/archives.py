"""npm archives with three icons and two emoji, as the real ones are laid out."""

import io
import json
import tarfile

from PIL import Image

from cogjax.worlds.emoji import sources
from cogjax.worlds.icons import iconpark
from cogjax.worlds.npm import archive_path

EMOJI = {"1F408": ("cat", "猫"), "1F34E": ("red apple", "红苹果")}
ICONS = [
    ("cat", "猫咪", ["宠物"], "Animals"),
    ("cake-two", "蛋糕", ["甜点", "蛋糕"], "Foods"),
    ("cake", "蛋糕", [], "Foods"),
    ("figma", "figma", [], "Brand"),
]
_FILLED = (
    '\'<circle cx="24" cy="24" r="16" fill="\' + props.colors[1] + \'" stroke="\''
    " + props.colors[0] + '\" stroke-width=\"' + props.strokeWidth + '\"/>' + "
)
_INNER = "'<path d=\"M20 24H28\" stroke=\"' + props.colors[2] + '\"/>' + "
_STROKES = "'<path d=\"M8 24H40\" stroke=\"' + props.colors[0] + '\"/>' + "
# A filled shape, one with a line inside, and strokes alone.
BODIES = {"cat": _FILLED + _INNER, "cake-two": _FILLED, "cake": _STROKES}
BODIES["figma"] = _FILLED


def script(name: str) -> str:
    """The JavaScript of an icon."""
    return (
        f"import {{ IconWrapper }} from '../runtime';\nexport default IconWrapper("
        f"'{name}', function (props) {{\n  return '<?xml version=\"1.0\" "
        "encoding=\"UTF-8\"?>' + '<svg width=\"' + props.size + '\" height=\"' + "
        'props.size + \'" viewBox="0 0 48 48" fill="none" '
        'xmlns="http://www.w3.org/2000/svg">\' + ' + BODIES[name] + "'</svg>';\n});"
    )


def pack(folder, package: str, files: dict) -> None:
    """Writes the archive of a package; values are bytes, text or JSON."""
    with tarfile.open(archive_path(folder, package), "w:gz") as tar:
        for path, data in files.items():
            if not isinstance(data, bytes):
                text = data if isinstance(data, str) else json.dumps(data)
                data = text.encode()
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def make(folder) -> None:
    """All archives that `build_icons` reads when no PyPI package has drawings."""
    rows = [
        {"name": name, "title": title, "tag": tags, "category": category}
        for name, title, tags, category in ICONS
    ]
    scripts = {f"es/icons/{name}.js": script(name) for name in BODIES}
    pack(folder, iconpark.PACKAGE, {"icons.json": rows} | scripts)
    pack(folder, sources._ARCHIVES["labels"], _labels())
    for i, style in enumerate(("noto", "fluent-flat", "fluent-mono")):
        chars = {key.lower(): en.replace(" ", "-") for key, (en, _) in EMOJI.items()}
        pack(folder, sources._ARCHIVES[style], _icons(chars, i))
    for i, style in enumerate(sources._BY_NAME):
        # Names alone; one of the four writes them without hyphens.
        pack(folder, sources._ARCHIVES[style], _icons({}, 4 + i, style != "fxemoji"))
    render = io.BytesIO()
    Image.new("RGBA", (64, 64), (0, 0, 255, 255)).save(render, "WEBP")
    webp = {f"assets/{key.lower()}.webp": render.getvalue() for key in EMOJI}
    pack(folder, sources._ARCHIVES["fluent-3d"], webp)


def _labels() -> dict:
    en = [
        {"hexcode": key, "label": label, "tags": ["t"], "group": 3, "subgroup": 0}
        for key, (label, _) in EMOJI.items()
    ]
    zh = [{"hexcode": key, "label": label} for key, (_, label) in EMOJI.items()]
    groups = [{"order": i, "key": key} for i, key in enumerate(sources.GROUPS)]
    messages = {"groups": groups, "subgroups": [{"order": 0, "key": "x"}]}
    return {"en/data.json": en, "zh/data.json": zh, "en/messages.json": messages}


def _icons(chars: dict, number: int, hyphens: bool = True) -> dict:
    """Two drawings that no other style has."""
    shapes = {"cat": "circle", "red-apple": "rect"}
    join = "-" if hyphens else ""
    icons = {
        name.replace("-", join): {"body": _shape(shape, number)}
        for name, shape in shapes.items()
    }
    icons["unheard-of"] = {"body": _shape("circle", 20)}
    return {"chars.json": chars, "icons.json": {"width": 32, "icons": icons}}


def _shape(kind: str, number: int) -> str:
    place = 'x="4" y="4" width="20" height="14"' if kind == "rect" else 'r="12"'
    color = f"#{10 * number:02x}{200 - 9 * number:02x}40"
    return f'<{kind} {place} cx="{8 + number}" cy="14" fill="{color}"/>'
