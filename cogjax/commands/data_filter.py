"""`cogjax data filter`: what rules of the papers leave of a data set."""

import argparse

from cogjax.commands.arguments import add_command, load_as, number, whole
from cogjax.commands.data_output import add_out, names
from cogjax.commands.progress import Progress
from cogjax.errors import UserError

_WORDS = "of a caption; a Chinese character is one. DALL-E drops short captions"
_MOST_WORDS = "of a caption; ERNIE-ViLG has a criterion of 15 words"
_LANGUAGE = "keep captions whose words are mostly of its script; DALL-E: en (by cld3)"
_BOILERPLATE = 'drop captions that are mostly "photographed on <date>" (DALL-E)'
_SPECIAL = "drop captions with special characters (ERNIE-ViLG)"
_ASPECT = "width / height of the image as it was imported; DALL-E: 0.5 2"
_BAN = "drop images of these sources: their meta source, else style"
_SCORE = "most nats a token of `cogjax score`; ERNIE-ViLG: by another network's measure"
_EPILOG = (
    "Captions are judged one by one; an image goes when none of its captions is left. "
    "What breaks several rules counts for the first. Splits stay as they are."
)


def add_parser(actions) -> None:
    """Adds `filter`."""
    summary = "Keep the captions and images of a data set that rules let pass."
    parser = add_command(actions, "filter", _filter, summary, epilog=_EPILOG)
    add = parser.add_argument
    add("source", metavar="DIR", help="data set folder")
    add_out(add)
    add("--min-words", type=whole(1), metavar="N", help=_WORDS)
    add("--max-words", type=whole(1), metavar="N", help=_MOST_WORDS)
    add("--min-characters", type=whole(1), metavar="N", help="of a caption")
    add("--max-characters", type=whole(1), metavar="N", help="of a caption")
    add("--language", choices=("en", "zh"), default="", help=_LANGUAGE)
    add("--no-boilerplate", action="store_true", help=_BOILERPLATE)
    add("--no-special", action="store_true", help=_SPECIAL)
    ratio, limits = number(0, 1000, open_low=True), ("LEAST", "MOST")
    add("--aspect", type=ratio, nargs=2, metavar=limits, help=_ASPECT)
    add("--ban-source", metavar="A,B", help=_BAN)
    text = "drop captions that fit their image badly, by this model; with --max-score"
    add("--model", metavar="MODEL", help=text)
    add("--max-score", type=number(0, 1000), metavar="S", help=_SCORE)


def _filter(args: argparse.Namespace) -> None:
    from cogjax.data.filter_rules import Rules
    from cogjax.data.filtering import Similarity, filter_dataset

    rules = Rules(
        words=(args.min_words, args.max_words),
        characters=(args.min_characters, args.max_characters),
        language=args.language,
        boilerplate=not args.no_boilerplate,
        special=not args.no_special,
        aspect=tuple(args.aspect or (None, None)),
        banned=names(args.ban_source) or (),
    )
    if (args.model is None) != (args.max_score is None):
        raise UserError("--model MODEL and --max-score S go together: give both")
    if rules == Rules() and args.model is None:
        raise UserError("there is no rule: give at least one, such as --min-words 3")
    similarity = None
    if args.model is not None:
        similarity = Similarity(load_as("Scorer", args.model).score, args.max_score)
    with Progress() as progress:
        found = filter_dataset(
            args.source,
            args.out,
            rules,
            similarity=similarity,
            overwrite=args.overwrite,
            progress=progress,
        )
    _report(args.out, found)


def _report(out: str, found) -> None:
    for what, dropped in (("captions", found.captions), ("images", found.images)):
        for reason, count in dropped.items():
            print(f"dropped {count} {what}: {reason}")
    counts = [f"{split} {count}" for split, count in found.manifest.counts.items()]
    print(f"{out}: {', '.join(counts)}")
