"""`cogjax tokenizer train`: a text vocabulary from captions."""

import argparse
from collections.abc import Iterator

from cogjax.commands.arguments import add_command, number, read_lines, whole
from cogjax.errors import UserError
from cogjax.files import check_folder_for


def add_parser(commands) -> None:
    """Adds `tokenizer train`."""
    parser = commands.add_parser("tokenizer", help="Train a text tokenizer.")
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
    train.add_argument("--vocab-size", required=True, type=whole(257, 1_000_000))
    train.add_argument(
        "--character-coverage",
        type=number(0, 1, open_low=True),
        default=0.9995,
        help="share of characters that get a piece each (default: %(default)s)",
    )
    train.add_argument("--out", required=True, metavar="FILE", help="ends in .model")


def _train(args: argparse.Namespace) -> None:
    if not args.data and not args.text:
        raise UserError("there is nothing to train on: give --data DIR or --text FILE")
    if not args.out.endswith(".model"):
        raise UserError(f"--out expects a name that ends in .model, got {args.out}")
    check_folder_for(args.out)
    from cogjax.data.text import TextTokenizer

    texts = list(_captions(args))
    tokenizer = TextTokenizer.train(
        texts, args.vocab_size, character_coverage=args.character_coverage
    )
    tokenizer.save(args.out)
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
