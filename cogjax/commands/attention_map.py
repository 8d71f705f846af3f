"""`cogjax attention-map`: an image of the keys that a query sees, per layer kind."""

import argparse

from cogjax.commands.arguments import SEED, add_command, add_file, whole
from cogjax.errors import UserError
from cogjax.files import check_file, write_file

_KINDS = ("full", "row", "column", "conv", "three-region")
_QUERY = "image position in raster order, from 0; default: the middle"
_MATRIX = "draw all queries (down) by all keys (right) instead of one query"


def add_parser(commands) -> None:
    """Adds `attention-map`."""
    summary = "Draw which keys a query sees, for each kind of attention layer."
    parser = add_command(commands, "attention-map", _attention_map, summary)
    add = parser.add_argument
    add_file(parser, "--out", default="attention.png", help="default: %(default)s")
    add("--kinds", default="row,column,conv", help=f"of {', '.join(_KINDS)}")
    add("--grid", default="32x32", metavar="RxC", help="image (%(default)s)")
    add("--text", type=whole(0, 4096), default=64, help="text tokens (%(default)s)")
    add("--query", type=whole(0), metavar="N", help=_QUERY)
    add("--matrix", action="store_true", help=_MATRIX)
    add("--direction", choices=("text-to-image", "image-to-text"), help="which first")
    add("--kernel", type=whole(1, 101), default=11, help="of conv (%(default)s)")
    add("--edge", choices=("raster", "clip", "torus"), help="of conv")
    add("--row-extent", choices=("raster", "own"), help="of row")
    add("--window", type=whole(1), default=64, help="of three-region (%(default)s)")
    add("--times", type=whole(1), default=4, help="windows seen (%(default)s)")
    add("--pivots", type=whole(1), default=256, help="picked at random (%(default)s)")
    add("--seed", type=SEED, default=0, help="of the pivots (%(default)s)")
    parser.set_defaults(direction="text-to-image", edge="raster", row_extent="raster")


def _attention_map(args: argparse.Namespace) -> None:
    path = check_file(args.out, args.overwrite)
    if not args.out.lower().endswith(".png"):
        raise UserError(f"--out expects a .png file, got {args.out}")
    rows, cols = _grid(args.grid)
    query = _query(args.query, rows, cols)
    kinds = _kinds(args.kinds)
    import numpy as np

    from cogjax.data.contact_sheet import grid
    from cogjax.data.images import encode_png

    start = args.text if args.direction == "text-to-image" else 0
    panels, captions = [], []
    for kind in kinds:
        mask = _mask(args, kind, rows, cols)
        places = np.arange(len(mask))
        of_image = (places >= start) & (places < start + rows * cols)
        seen = mask[start + query]
        image, text = int(seen[of_image].sum()), int(seen[~of_image].sum())
        captions.append(f"{kind}: {image} image + {text} text keys")
        print(captions[-1])
        if args.matrix:
            panels.append(_matrix(mask))
        else:
            panels.append(_panel(seen, of_image, start + query, cols))
    image = grid(np.stack(panels), len(panels), captions, gap=12)
    write_file(path, encode_png(np.asarray(image)), args.overwrite)
    print(f"wrote {path}")


def _query(given: int | None, rows: int, cols: int) -> int:
    if given is None:
        return rows // 2 * cols + cols // 2
    if given >= rows * cols:
        raise UserError(f"--query is {given}, the image has {rows * cols} positions")
    return given


def _kinds(text: str) -> list[str]:
    kinds = [kind.strip() for kind in text.split(",")]
    for kind in kinds:
        if kind not in _KINDS:
            raise UserError(f"unknown kind '{kind}', expected {', '.join(_KINDS)}")
    return kinds


def _grid(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdecimal() and 0 < int(p) <= 64 for p in parts):
        raise UserError(f"--grid expects rows x columns up to 64x64, got '{text}'")
    return int(parts[0]), int(parts[1])


def _mask(args: argparse.Namespace, kind: str, rows: int, cols: int):
    """bool [s, s] of the whole sequence."""
    import numpy as np

    from cogjax.ops import masks
    from cogjax.ops.sequence import Sequence

    try:
        if kind == "three-region":
            length = args.text + rows * cols
            rng = np.random.default_rng(args.seed)
            pivots = masks.sample_pivots(rng, args.text, length, args.pivots)
            return masks.three_region_mask(length, args.window, args.times, pivots)[0]
        layer = masks.LayerKind(kind, args.kernel, args.edge, args.row_extent)
    except ValueError as error:
        raise UserError(str(error)) from error
    grid = rows, cols
    if args.direction == "image-to-text":
        return Sequence.image_to_text(grid, args.text).mask(layer)
    if not args.text:
        return masks.image_mask(layer, grid)
    return Sequence.text_to_image(args.text, grid).mask(layer)


_HIDDEN, _SEEN, _QUERY_CELL = (232, 232, 236), (52, 101, 204), (214, 48, 49)


def _matrix(mask):
    """uint8 [y, x, 3] of a whole mask, at least 256 pixels a side."""
    import numpy as np

    scale = max(1, 256 // len(mask))
    colours = np.where(mask[..., None], _SEEN, _HIDDEN).astype(np.uint8)
    return colours.repeat(scale, 0).repeat(scale, 1)


def _panel(seen, of_image, query: int, cols: int):
    """uint8 [y, x, 3]: the text as rows of cells, a gap, and the image's grid."""
    import numpy as np

    colours = np.where(seen[:, None], _SEEN, _HIDDEN)
    colours[query] = _QUERY_CELL
    text, image = colours[~of_image], colours[of_image]
    blank = np.full((-len(text) % cols + cols * bool(len(text)), 3), 255)
    cells = np.concatenate([text, blank, image]).reshape(-1, cols, 3)
    size = max(3, 256 // cols)
    tiles = np.full((len(cells), size, cols, size, 3), 255, np.uint8)
    tiles[:, : size - 1, :, : size - 1] = cells[:, None, :, None]
    return tiles.reshape(len(cells) * size, cols * size, 3)
