"""`cogjax caption` and `cogjax score`: the model reads pictures."""

import argparse
import json
import sys

from cogjax.commands.arguments import add_command, check_text, read_image
from cogjax.files import check_folder_for, write_atomic


def add_parser(commands) -> None:
    """Adds `caption` and `score`."""
    summary = "Write what each picture shows."
    parser = add_command(commands, "caption", _caption, summary)
    parser.set_defaults(words="images")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="picture file")
    parser.add_argument("--language", choices=("en", "zh"), help="default: the model's")
    parser.add_argument("--json", metavar="FILE", help="also write a JSON file")
    _add_model(parser)

    summary = "Rate how well a text fits a picture, in nats a token; lower is better."
    parser = add_command(commands, "score", _score, summary)
    parser.add_argument("image", metavar="IMAGE", help="picture file")
    parser.add_argument("text", metavar="TEXT", help="caption in Chinese or English")
    _add_model(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="emoji", help="shipped name or folder (default: %(default)s)"
    )


def _caption(args: argparse.Namespace) -> None:
    if args.json:
        check_folder_for(args.json)
    images = [read_image(path) for path in args.images]
    import cogjax

    captions = cogjax.load(args.model).caption(images, language=args.language)
    rows = list(zip(args.images, captions, strict=True))
    for path, caption in rows:
        print(f"{path}: {caption}" if len(rows) > 1 else caption)
    if args.json:
        found = [{"file": path, "caption": caption} for path, caption in rows]
        write_atomic(args.json, json.dumps(found, ensure_ascii=False, indent=2) + "\n")
        print(f"wrote {args.json}", file=sys.stderr)


def _score(args: argparse.Namespace) -> None:
    text = check_text(args.text, "the text")
    image = read_image(args.image)
    import cogjax

    [score] = cogjax.load(args.model).score([image], [text])
    print(f"{float(score):.4f}")
