"""`cogjax attention-map`: which keys a query sees, by layer kind, or takes, of a model.

Without a model it draws the rule of each kind of layer; with --weights what a model has
learnt to take, of an image and its text.
"""

import argparse

from cogjax.commands.arguments import (
    SEED,
    add_command,
    add_file,
    load_as,
    number,
    read_image,
    whole,
)
from cogjax.errors import UserError
from cogjax.files import check_file, write_file

_KINDS = ("full", "row", "column", "conv", "three-region")
_QUERY = (
    "image position in raster order, from 0; default: the middle, or with --weights a "
    "panel for each text piece"
)
# Flags that change nothing for what is drawn otherwise, as names of `args`.
_OF_CASCADE = ("stage", "time")
_OF_WEIGHTS = ("model", "layer", "head", "reading", *_OF_CASCADE)
_OF_PIVOTS = ("window", "times", "pivots")
_OF_RULES = ("kinds", "grid", "num_text", "matrix", "direction")
_OF_KIND = {
    "conv": ("kernel", "edge"),
    "row": ("row_extent",),
    "three-region": (*_OF_PIVOTS, "seed"),
}
_MATRIX = "draw all queries (down) by all keys (right) instead of one query"


def add_parser(commands) -> None:
    """Adds `attention-map`."""
    summary = (
        "Draw which keys a query sees, for each kind of attention layer; with "
        "--weights how much of a text, and of itself, a model takes to draw an image."
    )
    parser = add_command(commands, "attention-map", _attention_map, summary)
    add = parser.add_argument
    add("image", nargs="?", metavar="IMAGE", help="image file, with --weights")
    add("text", nargs="?", metavar="TEXT", help="what it shows, with --weights")
    _add_weights(parser)
    add_file(parser, "--out", default="attention.png", help="default: %(default)s")
    add("--kinds", default="row,column,conv", help=f"of {', '.join(_KINDS)}")
    add("--grid", default="32x32", metavar="RxC", help="image (%(default)s)")
    text = "text tokens (%(default)s)"
    add("--text", dest="num_text", type=whole(0, 4096), default=64, help=text)
    add("--query", type=whole(0), metavar="N", help=_QUERY)
    add("--matrix", action="store_true", help=_MATRIX)
    add("--direction", choices=("text-to-image", "image-to-text"), help="which first")
    add("--kernel", type=whole(1, 101), default=11, help="of conv (%(default)s)")
    add("--edge", choices=("raster", "clip", "torus"), help="of conv")
    add("--row-extent", choices=("raster", "own"), help="of row")
    add("--window", type=whole(1), default=64, help="of three-region (%(default)s)")
    add("--times", type=whole(1), default=4, help="windows seen (%(default)s)")
    add("--pivots", type=whole(1), default=256, help="picked at random (%(default)s)")
    add("--seed", type=SEED, default=0, help="of pivots, or of noise (%(default)s)")
    parser.set_defaults(direction="text-to-image", edge="raster", row_extent="raster")
    parser.set_defaults(default_of=parser.get_default)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    """What is asked of a model."""
    add = parser.add_argument
    add("--weights", action="store_true", help="of a model, for IMAGE and TEXT")
    text = "shipped name or folder, with --weights (%(default)s)"
    add("--model", default="emoji", help=text)
    add("--layer", type=whole(0), metavar="N", help="from 0; default: mean of all")
    add("--head", type=whole(0), metavar="N", help="from 0; default: mean of all")
    text = "where the model writes the text: what each piece takes of the image"
    add("--reading", action="store_true", help=text)
    text = "of a cascade, 0 is the base (%(default)s)"
    add("--stage", type=whole(0), default=0, metavar="N", help=text)
    text = "of a cascade: 0 adds no noise to the image, 1 nothing else (%(default)s)"
    add("--time", type=number(0, 1), default=0.5, metavar="T", help=text)


def _attention_map(args: argparse.Namespace) -> None:
    if args.weights:
        _draw_weights(args)
        return
    if args.image is not None:
        raise UserError(
            f"an image, {args.image}, goes with --weights: give both or neither"
        )
    _refuse(args, _OF_WEIGHTS, "goes with --weights")
    path = _png(args)
    rows, cols = _grid(args.grid)
    query = _query(args.query, rows, cols)
    kinds = _kinds(args.kinds)
    for kind, names in _OF_KIND.items():
        if kind not in kinds:
            _refuse(args, names, f"goes with --kinds {kind}")
    import numpy as np

    from cogjax.data.contact_sheet import grid

    start = args.num_text if args.direction == "text-to-image" else 0
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
    _write(path, grid(np.stack(panels), len(panels), captions, gap=12), args)


def _refuse(args: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    """UserError for a flag that is set and would change nothing."""
    for name in names:
        if getattr(args, name) != args.default_of(name):
            flag = "--text" if name == "num_text" else f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} {why}: leave it out")


def _png(args: argparse.Namespace):
    """Path of --out; UserError for one that cannot be written or is no PNG."""
    path = check_file(args.out, args.overwrite)
    if not args.out.lower().endswith(".png"):
        raise UserError(f"--out expects a .png file, got {args.out}")
    return path


def _write(path, image, args: argparse.Namespace) -> None:
    import numpy as np

    from cogjax.data.images import encode_png

    write_file(path, encode_png(np.asarray(image)), args.overwrite)
    print(f"wrote {path}")


def _draw_weights(args: argparse.Namespace) -> None:
    if args.text is None:
        raise UserError(
            "--weights needs an image and its text: cogjax attention-map IMAGE TEXT "
            "--weights"
        )
    for names in (_OF_RULES, _OF_KIND["conv"], _OF_KIND["row"], _OF_PIVOTS):
        _refuse(args, names, "does not go with --weights")
    if args.reading:
        _refuse(args, (*_OF_CASCADE, "seed"), "does not go with --reading")
    path = _png(args)
    image = read_image(args.image)
    if args.reading and args.query is not None:
        raise UserError("--query is a code, and --reading predicts none: leave one out")
    model = load_as("Attending", args.model)
    found = _found(model, image, args)
    settings = {"code": args.query, "layer": args.layer, "head": args.head}
    _write(path, found.picture(**settings), args)


def _found(model, image, args: argparse.Namespace):
    """The attention that is asked for."""
    from cogjax.pipelines.contracts import Codec

    if not args.reading:
        own = {"stage": args.stage, "time": args.time, "seed": args.seed}
        if isinstance(model, Codec):
            _refuse(args, tuple(own), f"is of a cascade, which {args.model} is not")
            return model.attention(image, args.text)
        return model.attention(image, args.text, **own)
    if not hasattr(model, "attention_of_caption"):
        raise UserError(f"{args.model} writes no texts: leave out --reading")
    return model.attention_of_caption(image, args.text)


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
            length = args.num_text + rows * cols
            rng = np.random.default_rng(args.seed)
            pivots = masks.sample_pivots(rng, args.num_text, length, args.pivots)
            return masks.three_region_mask(length, args.window, args.times, pivots)[0]
        layer = masks.LayerKind(kind, args.kernel, args.edge, args.row_extent)
    except ValueError as error:
        raise UserError(str(error)) from error
    grid = rows, cols
    if args.direction == "image-to-text":
        return Sequence.image_to_text(grid, args.num_text).mask(layer)
    if not args.num_text:
        return masks.image_mask(layer, grid)
    return Sequence.text_to_image(args.num_text, grid).mask(layer)


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
