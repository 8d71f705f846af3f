"""Argument types and shared checks; everything here runs before JAX is imported."""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from cogjax.commands.table import sized
from cogjax.errors import UserError, shown
from cogjax.pipelines.checks import MAX_SEED

CONFIG = "shipped (cogview/icons:transformer), .py[:ARG], .yaml, or a run's .json"
_LARGE = 500_000_000  # bytes, a few seconds of reading
_MAX_NAMED = 20  # words in one line


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Adds --weights: how a model's weights are kept in memory."""
    formats = ("float32", "bfloat16", "int8")
    text = "how the weights are kept in memory; int8 takes a quarter (%(default)s)"
    parser.add_argument("--weights", choices=formats, default="float32", help=text)


def add_adapters(parser: argparse.ArgumentParser) -> None:
    """Adds --adapter, which may be repeated: pairs of a folder and a weight."""
    text = "add what LoRA has learnt, so much of it (1); may be repeated"
    settings = {"type": _adapter, "action": _Adapters, "default": (), "help": text}
    parser.add_argument(
        "--adapter", dest="adapters", metavar="DIR[:WEIGHT]", **settings
    )


class _Adapters(argparse.Action):
    """One more pair; a folder that is given twice is refused."""

    def __call__(self, parser, namespace, values, option_string=None):
        folder, _ = values
        had = getattr(namespace, self.dest)
        if any(Path(folder).resolve() == Path(name).resolve() for name, _ in had):
            raise argparse.ArgumentError(
                self, f"{folder} is given twice: give it once, with one weight"
            )
        setattr(namespace, self.dest, (*had, values))


def _adapter(text: str) -> tuple[str, float]:
    """A folder and its weight, which is behind the last colon if that is a number."""
    folder, _, weight = text.rpartition(":")
    try:
        return (folder, float(weight)) if folder else (text, 1.0)
    except ValueError:
        return text, 1.0


def add_distributed(parser: argparse.ArgumentParser) -> None:
    """Adds --distributed; `join` obeys it."""
    text = "join the other processes of the TPU pod, SLURM job or environment"
    parser.add_argument("--distributed", action="store_true", help=text)


def add_file(parser: argparse.ArgumentParser, *flags: str, **settings) -> None:
    """Adds flags that name a file to write, and --overwrite; see `files.check_file`."""
    for flag in flags:
        parser.add_argument(flag, metavar="FILE", **settings)
    text = "replace a file that is there already"
    parser.add_argument("--overwrite", action="store_true", help=text)


def join(args: argparse.Namespace, patience: int = 300) -> None:
    """Joins the other processes if --distributed is given; before any JAX work.

    patience: seconds that a finished process waits for the others.
    """
    if args.distributed:
        from cogjax.parallel.distributed import initialize

        initialize(patience)


def add_command(commands, name: str, handler: Callable, summary: str, **kwargs):
    """Adds a sub-command described by `summary` and returns its parser."""
    parser = commands.add_parser(name, help=summary, description=summary, **kwargs)
    parser.set_defaults(handler=handler, parser=parser)
    return parser


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Type of a whole number in [low, high]."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < low or (high is not None and value > high):
            limits = (
                f"from {low} to {high}" if high is not None else f"of {low} or more"
            )
            raise argparse.ArgumentTypeError(
                f"expects a whole number {limits}, got '{text}'"
            )
        return value

    return parse


def number(low: float, high: float, open_low: bool = False) -> Callable[[str], float]:
    """Type of a finite number in [low, high], or (low, high] with `open_low`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        above = value > low if open_low else value >= low
        if not (above and value <= high):
            start = f"above {low:g}, up" if open_low else f"from {low:g}"
            raise argparse.ArgumentTypeError(
                f"expects a number {start} to {high:g}, got '{text}'"
            )
        return value

    return parse


def per_stage(parse: Callable[[str], float]) -> Callable[[str], float | tuple]:
    """Type of a value, or of several with commas between, one a stage."""

    def parse_all(text: str) -> float | tuple:
        values = tuple(parse(part) for part in text.split(","))
        return values if len(values) > 1 else values[0]

    return parse_all


SEED = whole(0, MAX_SEED)


def add_judge(add, flag: str, help_text: str) -> None:
    """Adds a flag that chooses caption loss or CLIP, and --clip."""
    add(flag, choices=("captions", "clip"), help=help_text)
    add(
        "--clip",
        metavar="MODEL",
        help="CLIP to compare by: clip-icons, clip-shapes or a folder",
    )


def check_judge(flag: str, by: str | None, clip: str | None) -> None:
    """UserError unless --clip is given with the choice of it, and only then."""
    if by == "clip" and not clip:
        raise UserError(
            f"{flag} clip needs --clip MODEL: clip-icons, clip-shapes or a folder"
        )
    if clip and by != "clip":
        raise UserError(f"--clip MODEL is for {flag} clip: give both or neither")


def load_as(kind: str, source: str, **settings):
    """`cogjax.load`; UserError unless the model is of a kind of `contracts.py`.

    A model that takes long to read is named first.
    """
    import cogjax
    from cogjax import model_folder
    from cogjax.pipelines import contracts

    size = sum(path.stat().st_size for path in model_folder.weights_of(source))
    if size > _LARGE:
        print(f"reading {source}, {sized(size)}", file=sys.stderr, flush=True)
    return contracts.expect(cogjax.load(source, **settings), getattr(contracts, kind))


def say_unseen(words: Sequence[str]) -> None:
    """One line on stderr with the words that a model was not trained on, if any."""
    if words:
        more = f" and {len(words) - _MAX_NAMED} more" if len(words) > _MAX_NAMED else ""
        named = ", ".join(words[:_MAX_NAMED])
        print(f"the model has not seen: {named}{more}", file=sys.stderr)


def read_lines(path: str, what: str) -> list[str]:
    """Returns the lines that are not blank; UserError naming a file that is no text."""
    from cogjax.data.captions import decode_text, lines_of

    try:
        text = decode_text(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {error.strerror}") from error
    except UserError as error:
        raise UserError(f"{what} {path} is {error}") from error
    lines = [line.strip() for line in lines_of(text) if line.strip()]
    if not lines:
        raise UserError(f"{what} {path} holds no text")
    return lines


def read_image(path: str, notes: Counter | None = None):
    """Returns the image as uint8 [y, x, 3]; UserError naming the file.

    notes: as of `decode_image`. A grid that `cogjax generate` wrote is none.
    """
    from cogjax.data.images import decode_image, recipe_of

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read image {path}: {error.strerror}") from error
    try:
        image = decode_image(data, notes=notes)
    except UserError as error:
        raise UserError(f"image {path}: {error}") from error
    names = recipe_of(data).get("grid")
    if isinstance(names, list) and names:
        raise UserError(
            f"image {path} is a grid of {len(names)} images, which lie beside it: give "
            f"one of them, such as {shown(names[0])}"
        )
    return image
