"""A report as one HTML file without scripts or links; text is always escaped.

    page("Title", section("Score", table(head, rows)), section("Best", gallery(...)))

Every function takes text, which it escapes, or `Markup`, which it does not.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.data.images import encode_png

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; --good: #2a8a3e;
  --bad: #c8372d; --heat: 52, 101, 204; }
@media (prefers-color-scheme: dark) { :root { --good: #63c77a; --bad: #ff8378;
  --heat: 110, 160, 255; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; overflow-wrap: break-word; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin: 1rem 0; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); }
th, td { text-align: right; }
th:first-child, td:first-child { text-align: left; }
thead th { background: var(--soft); }
caption, .note { text-align: left; opacity: .75; font-size: .9em; }
.gallery { display: flex; flex-wrap: wrap; gap: 1rem; }
.plots { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.shares { display: flex; height: 1.2rem; } .shares span { min-width: 1px; }
.wholes { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); }
.wholes figure { width: auto; }
figure { margin: 0; width: 9rem; font-size: .85em; line-height: 1.3; }
figure img { width: 100%; image-rendering: pixelated; border: 1px solid var(--line); }
figure.double { width: 18.2rem; }
figure.double img { width: 49%; }
.good { color: var(--good); } .bad { color: var(--bad); }
svg { max-width: 100%; height: auto; } img.sheet { max-width: 100%; }
"""
# A browser asks nobody for anything, even if a page were to.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Markup(str):
    """HTML that is not escaped."""


@dataclass(frozen=True)
class GalleryImage:
    """An image of a gallery.

    pixels: uint8 [y, x, 3]. verdict: a line under the caption; right: its colour, None
    for neither. beside: another one to its right, such as the real one.
    """

    pixels: np.ndarray
    caption: str
    verdict: str
    right: bool | None = None
    beside: np.ndarray | None = None


def markup(content: object) -> Markup:
    """Text escaped, Markup as it is."""
    if isinstance(content, Markup):
        return content
    return Markup(html.escape(str(content)))


def page(title: str, *parts: Markup) -> str:
    """A whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{markup(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{markup(title)}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def section(title: str, *parts: Markup) -> Markup:
    """Parts under a heading."""
    return Markup(f"<section>\n<h2>{markup(title)}</h2>\n" + "\n".join(parts)) + (
        "\n</section>"
    )


def note(text: str) -> Markup:
    """A paragraph in small print."""
    return Markup(f'<p class="note">{markup(text)}</p>')


def table(
    head: Sequence[object], rows: Sequence[Sequence[object]], caption: str = ""
) -> Markup:
    """Rows of cells under a head; the first column is of names."""
    top = "".join(f'<th scope="col">{markup(cell)}</th>' for cell in head)
    body = "\n".join(_row(row) for row in rows)
    shown = f"<caption>{markup(caption)}</caption>" if caption else ""
    return Markup(
        f'<div class="wide"><table>{shown}<thead><tr>{top}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def share_cell(entry: Mapping) -> str:
    """ "0.812 [0.770, 0.848]" of {"share" or "overall", "interval"}."""
    value = entry["share"] if "share" in entry else entry["overall"]
    low, high = entry["interval"]
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def confusion_table(counts: Mapping[str, Mapping[str, int]], caption: str) -> Markup:
    """Asked (rows) against generated (columns), shaded by the share of its row."""
    columns = list(
        dict.fromkeys([*counts, *sorted({d for r in counts.values() for d in r})])
    )
    rows = []
    for asked, generated in counts.items():
        total = max(sum(generated.values()), 1)
        rows.append([asked, *(_heat(generated.get(c, 0), total) for c in columns)])
    return table(["asked / generated", *columns], rows, caption)


def gallery(images: Sequence[GalleryImage]) -> Markup:
    """Images with captions and verdicts, side by side."""
    if not images:
        return note("none")
    shown = "\n".join(map(_figure, images))
    return Markup(f'<div class="gallery">\n{shown}\n</div>')


def image(data: bytes, text: str, css_class: str = "") -> Markup:
    """A PNG or JPEG file inside the document.

    `text` stands for it where it is not shown.
    """
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    inside = base64.b64encode(data).decode("ascii")
    return Markup(
        f'<img class="{css_class}" alt="{markup(text)}" '
        f'src="data:image/{kind};base64,{inside}">'
    )


def _row(cells: Sequence[object]) -> str:
    first, *rest = cells
    made = [f'<th scope="row">{markup(first)}</th>']
    for cell in rest:
        is_cell = isinstance(cell, Markup) and cell.startswith("<td")
        made.append(cell if is_cell else f"<td>{markup(cell)}</td>")
    return f"<tr>{''.join(made)}</tr>"


def _heat(count: int, total: int) -> Markup:
    part = count / total
    shade = f' style="background: rgba(var(--heat), {0.6 * part:.2f})"' if count else ""
    return Markup(f"<td{shade}>{count or ''}</td>")


def _figure(shown: GalleryImage) -> str:
    tags = image(encode_png(shown.pixels), shown.caption)
    double = shown.beside is not None
    if double:
        tags += " " + image(encode_png(shown.beside), "the real one")
    colour = {True: "good", False: "bad", None: "note"}[shown.right]
    return (
        f'<figure class="{"double" if double else "single"}">{tags}'
        f"<figcaption>{markup(shown.caption)}<br>"
        f'<span class="{colour}">{markup(shown.verdict)}</span></figcaption></figure>'
    )
