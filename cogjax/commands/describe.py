"""`cogjax caption`, `ask` and `score`: the model reads images."""

import argparse
import json
import sys

from cogjax.commands.arguments import (
    SEED,
    add_adapters,
    add_command,
    add_file,
    add_judge,
    check_judge,
    load_as,
    number,
    read_image,
    say_unseen,
    whole,
)
from cogjax.commands.table import print_table
from cogjax.errors import UserError
from cogjax.files import check_file, write_file
from cogjax.pipelines import checks
from cogjax.pipelines.checks import check_text


def add_parser(commands) -> None:
    """Adds `caption`, `ask` and `score`."""
    summary = "Write what each image shows."
    parser = add_command(commands, "caption", _caption, summary)
    parser.set_defaults(words="images")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image file")
    parser.add_argument("--language", choices=("en", "zh"), help="default: the model's")
    _add_search(parser)
    text = (
        "of the beams' texts the one that the model would likeliest generate this from"
    )
    parser.add_argument("--rerank", action="store_true", help=text)
    _add_model(parser)

    summary = "Answer a question about an image, with a model that has learnt to."
    parser = add_command(commands, "ask", _ask, summary)
    parser.add_argument("image", metavar="IMAGE", help="image file")
    parser.add_argument("question", metavar="QUESTION", help="in Chinese or English")
    _add_search(parser)
    _add_model(parser)

    summary = (
        "Rate how well texts fit an image, the best first, lower is better: by caption "
        "loss in nats a text token, or by a CLIP, 1 - cosine."
    )
    parser = add_command(commands, "score", _score, summary)
    parser.set_defaults(words="texts")
    parser.add_argument("image", metavar="IMAGE", help="image file")
    text = "caption in Chinese or English, one or more"
    parser.add_argument("texts", nargs="+", metavar="TEXT", help=text)
    add_judge(
        parser.add_argument, "--by", "caption loss of --model (default) or a CLIP"
    )
    add_file(parser, "--json", help="also write a JSON file")
    _add_model(parser)


def _add_search(parser: argparse.ArgumentParser) -> None:
    """How the text is chosen and where it goes."""
    add = parser.add_argument
    text = "search with so many, 1 takes the most probable piece (%(default)s)"
    add("--beams", type=whole(1, checks.MAX_BEAMS), default=1, metavar="N", help=text)
    text = "of beams: 0 favours short texts, 1 compares means (%(default)s)"
    penalty = number(0, checks.MAX_LENGTH_PENALTY)
    add("--length-penalty", type=penalty, default=1.0, metavar="A", help=text)
    text = "sample pieces instead, with this temperature (off)"
    temperature = number(0, checks.MAX_TEMPERATURE)
    add("--temperature", type=temperature, default=0.0, metavar="T", help=text)
    add("--seed", type=SEED, default=0, metavar="N", help="of sampling (%(default)s)")
    add_file(parser, "--json", help="also write a JSON file")


def _search(args: argparse.Namespace) -> dict:
    """Settings of `Reader.caption` and `ask`."""
    names = ("beams", "length_penalty", "temperature", "seed")
    return {name: getattr(args, name) for name in names}


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="emoji", help="shipped name or folder (default: %(default)s)"
    )
    add_adapters(parser)


def _caption(args: argparse.Namespace) -> None:
    if args.json:
        check_file(args.json, args.overwrite)
    if args.rerank and args.beams == 1:
        raise UserError("--rerank chooses among beams: give --beams 2 or more, say 8")
    images = [read_image(path) for path in args.images]
    model = load_as("Reader", args.model, adapters=dict(args.adapters))
    captions = model.caption(
        images, language=args.language, rerank=args.rerank, **_search(args)
    )
    rows = list(zip(args.images, captions, strict=True))
    for path, caption in rows:
        print(f"{path}: {caption}" if len(rows) > 1 else caption)
    if args.json:
        found = [{"file": path, "caption": caption} for path, caption in rows]
        _write(args, found)


def _ask(args: argparse.Namespace) -> None:
    if args.json:
        check_file(args.json, args.overwrite)
    question = check_text(args.question, "the question")
    image = read_image(args.image)
    model = load_as("Reader", args.model, adapters=dict(args.adapters))
    [answer] = model.ask([image], question, **_search(args))
    say_unseen(model.unseen([question]))
    print(answer)
    if args.json:
        found = {"file": args.image, "question": question, "answer": answer}
        _write(args, found)


def _write(args: argparse.Namespace, found) -> None:
    text = json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    write_file(args.json, text, args.overwrite)
    print(f"wrote {args.json}", file=sys.stderr)


def _score(args: argparse.Namespace) -> None:
    check_judge("--by", args.by, args.clip)
    if args.json:
        check_file(args.json, args.overwrite)
    alone = len(args.texts) == 1
    texts = [
        check_text(text, "the text" if alone else f"text {i}")
        for i, text in enumerate(args.texts, 1)
    ]
    image = read_image(args.image)
    if args.clip and args.adapters:
        raise UserError(
            "--adapter changes --model, which --by clip does not ask: leave one out"
        )
    judge = ("Embedder", args.clip) if args.clip else ("Scorer", args.model)
    model = load_as(*judge, adapters=dict(args.adapters))
    scores = [float(score) for score in model.score([image] * len(texts), texts)]
    if not args.clip:
        say_unseen(model.unseen(texts))
    unit, ranked = _unit(model), sorted(zip(scores, texts, strict=True))
    if len(ranked) == 1:
        print(f"{scores[0]:.4f} {unit}")
    else:
        rows = [[i, f"{score:.4f}", text] for i, (score, text) in enumerate(ranked, 1)]
        print_table(["rank", unit, "text"], rows)
    if args.json:
        found = [{"text": text, "score": score} for score, text in ranked]
        _write(args, {"file": args.image, "unit": unit, "scores": found})


def _unit(model) -> str:
    """What the scores of a model are in."""
    from cogjax.pipelines.contracts import Embedder, Reader

    if isinstance(model, Embedder):
        return "1 - cosine"
    return "nats a text token" if isinstance(model, Reader) else "nats a code"
