"""`cogjax data`: builds a data set, or shows one."""

import argparse
import sys

from cogjax.commands import overlap
from cogjax.commands.arguments import SEED, add_command, add_file, number, whole
from cogjax.commands.progress import Progress
from cogjax.errors import UserError

_SIZES = whole(8, 1024)
_EASY = "plain grounds, centres on eighths: for models that train on a CPU"
_QUESTIONS = "also questions with exact answers, one of each kind and language"
_FROM = 'one {"image": "a.jpg", "question": "...", "answer": "..."} a line'
_NUM = "images to train on; a twentieth as many of each test split (%(default)s)"
_TIER = "auto takes the npm archives where npm is installed (%(default)s)"
_BUDGET = "of broken files to skip before stopping (%(default)s)"
_FIELD = "field of tables and .json with the captions; default: text, caption, ..."
_SHARE_ALIKE = "also OpenMoji, CC BY-SA: weights trained on it are to be shared alike"
_OVERWRITE = "replace the data set in --out; files that are not its own stay"
_VAL = "of images to hold out as split val (%(default)s)"


def add_parser(commands) -> None:
    """Adds `data` with an action for each set, `show` and `overlap`."""
    parser = commands.add_parser("data", help="Build a data set, or look at one.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    summary = "Render the bilingual emoji styles: one concept in up to seven styles."
    emoji = add_command(actions, "emoji", _emoji, summary)
    add = emoji.add_argument
    _add_out(add)
    add("--size", type=_SIZES, default=64, help="pixels a side (%(default)s)")
    add("--tier", choices=("auto", "pip", "npm"), default="auto", help=_TIER)
    add("--styles", metavar="A,B", help="default: all of the tier")
    add("--npm-dir", metavar="DIR", help="archives fetched earlier by npm pack")
    add("--groups", metavar="A,B", help="of Unicode, such as food-drink; default: all")
    add("--no-flags", action="store_true", help="leave out the flags of countries")

    summary = "Render some 4,000 things in 13 styles, icons in named colours."
    icons = add_command(actions, "icons", _icons, summary)
    add = icons.add_argument
    _add_out(add)
    add("--size", type=_SIZES, default=128, help="pixels a side (%(default)s)")
    add("--npm-dir", metavar="DIR", help="archives fetched earlier by npm pack")
    add("--share-alike", action="store_true", help=_SHARE_ALIKE)

    summary = "Render scenes of shapes with captions that are exactly true."
    shapes = add_command(actions, "shapes", _shapes, summary)
    add = shapes.add_argument
    _add_out(add)
    add("--n", type=whole(20, 10_000_000), default=20_000, help=_NUM)
    add("--size", type=whole(32, 256), default=64, help="pixels a side (%(default)s)")
    add("--seed", type=SEED, default=0, help="of the scenes (%(default)s)")
    add("--easy", action="store_true", help=_EASY)
    add("--questions", action="store_true", help=_QUESTIONS)

    summary = "Import images with captions: .txt files, metadata.jsonl, CSV or .tar."
    folder = add_command(actions, "folder", _folder, summary)
    add = folder.add_argument
    add("source", metavar="SRC", help="folder, CSV, metadata.jsonl or .tar")
    _add_out(add)
    add("--size", type=_SIZES, default=256, help="pixels a side (%(default)s)")
    share = number(0, 1)
    add("--budget", type=share, default=0.05, metavar="SHARE", help=_BUDGET)
    add("--val", type=share, default=0.02, metavar="SHARE", help=_VAL)
    add("--caption-field", metavar="NAME", help=_FIELD)

    summary = "Import questions about your images, for `cogjax ask`."
    questions = add_command(actions, "questions", _import_questions, summary)
    add = questions.add_argument
    add("--from", dest="source", required=True, metavar="FILE.jsonl", help=_FROM)
    _add_out(add)
    add("--size", type=_SIZES, default=256, help="pixels a side (%(default)s)")
    add("--val", type=share, default=0.02, metavar="SHARE", help=_VAL)

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


def _add_out(add) -> None:
    add("--out", required=True, metavar="DIR", help="a new or empty folder")
    add("--overwrite", action="store_true", help=_OVERWRITE)


def _emoji(args: argparse.Namespace) -> None:
    from cogjax.worlds.emoji.dataset import build_emoji

    with Progress() as progress:
        report = build_emoji(
            _output(args, progress),
            tier=args.tier,
            styles=_names(args.styles),
            groups=_names(args.groups),
            npm_dir=args.npm_dir,
            flags=not args.no_flags,
        )
    _report(args.out, report.manifest, report.failed)
    print(", ".join(f"{style} {count}" for style, count in report.styles.items()))


def _icons(args: argparse.Namespace) -> None:
    from cogjax.worlds.icons.dataset import SPLITS_DIGEST, build_icons

    with Progress() as progress:
        report = build_icons(
            _output(args, progress),
            npm_dir=args.npm_dir,
            share_alike=args.share_alike,
        )
    _report(args.out, report.manifest, report.failed)
    print(", ".join(f"{style} {count}" for style, count in report.styles.items()))
    counts = report.manifest.info["counts"]
    texts = ", ".join(
        f"{n} captions in {lang}" for lang, n in counts["captions"].items()
    )
    print(f"{counts['images']} images of {counts['concepts']} concepts, {texts}")
    print("left out: " + ", ".join(f"{n} {why}" for why, n in report.left_out.items()))
    digest = report.manifest.info["splits_digest"]
    same = "those" if digest == SPLITS_DIGEST else "not those"
    print(f"splits {digest[:12]}: {same} of the shipped models")


def _shapes(args: argparse.Namespace) -> None:
    from cogjax.worlds.shapes.dataset import build_shapes

    with Progress() as progress:
        manifest = build_shapes(
            _output(args, progress),
            num=args.n,
            seed=args.seed,
            easy=args.easy,
            questions=args.questions,
        )
    _report(args.out, manifest, [])


def _output(args: argparse.Namespace, progress: Progress):
    from cogjax.data.output import Output

    return Output(args.out, args.size, args.overwrite, progress)


def _names(text: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in text.split(",")) if text else None


def _folder(args: argparse.Namespace) -> None:
    from cogjax.data.folder import import_folder

    with Progress() as progress:
        report = import_folder(
            args.source,
            _output(args, progress),
            budget=args.budget,
            val_fraction=args.val,
            caption_field=args.caption_field,
        )
    skipped = [f"{name}: {reason}" for name, reason in report.skipped]
    _report(args.out, report.manifest, skipped)


def _import_questions(args: argparse.Namespace) -> None:
    from cogjax.data.question_file import import_questions

    with Progress() as progress:
        manifest = import_questions(
            args.source,
            _output(args, progress),
            val_fraction=args.val,
        )
    _report(args.out, manifest, [])
    print(f"questions {manifest.info['num_questions']}")


def _report(out: str, manifest, skipped: list[str]) -> None:
    """Prints counts on stdout and skipped entries on stderr."""
    for line in skipped[:20]:
        print(f"skipped {line}", file=sys.stderr)
    for reason, count in manifest.info.get("changed", {}).items():
        print(f"{count} {reason}", file=sys.stderr)
    counts = [f"{split} {count}" for split, count in manifest.counts.items()]
    print(f"{out}: {', '.join(counts)}, skipped {len(skipped)}")


def _show(args: argparse.Namespace) -> None:
    if not args.out.lower().endswith((".png", ".jpg", ".webp")):
        raise UserError(f"--out expects a .png, .jpg or .webp file, got {args.out}")
    from cogjax.data.contact_sheet import show

    names = ("split", "n", "out", "overwrite")
    show(args.folder, **{name: getattr(args, name) for name in names})
