"""The `cogjax` command: parses, dispatches, and turns bad input into one line.

Exit status: 0 done, 1 the reader of a pipe has left, 2 bad input or a limit of the
machine (memory, disk, no accelerator), 17 training saved and stopped by a signal, 18
training hung (docs/durability.md), 130 interrupted. Nothing heavy is imported before a
handler runs, so that every --help is instant.
"""

import argparse
import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import NoReturn

from cogjax import __version__
from cogjax.commands import (
    attention_map,
    bench,
    config,
    data,
    describe,
    encode,
    evaluate,
    evaluate_human,
    export,
    finetune,
    generate,
    imports,
    metrics,
    models,
    parity,
    plan,
    report,
    serve,
    tokenizer,
    train,
    verify,
)
from cogjax.commands.examples import EXAMPLES
from cogjax.errors import Notice, UserError, did_you_mean, printable

_PROGRAM = "cogjax"
_OVERRIDE = "--config."


class _Parser(argparse.ArgumentParser):
    """Raises UserError instead of printing usage; accepts no abbreviated flags.

    The help ends with examples of the command.
    """

    def __init__(self, **kwargs):
        kwargs["allow_abbrev"] = False
        super().__init__(**kwargs)

    def format_help(self) -> str:
        lines = EXAMPLES.get(self.prog.removeprefix(_PROGRAM).strip(), ())
        shown = "".join(f"  {line}\n" for line in "\n".join(lines).splitlines())
        return super().format_help() + (f"\nexamples:\n{shown}" if lines else "")

    def error(self, message: str) -> NoReturn:
        if found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            choices = re.findall(r"[\w-]+", found[2])
            what = message.partition(":")[0].removeprefix("argument ").lower()
            message = f"unknown {what} '{found[1]}'{_hint(found[1], choices)}"
        raise UserError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (default: the process's own); returns the exit status."""
    _print_anything()
    try:
        args = _parse(list(sys.argv[1:] if argv is None else argv))
        # Before a handler imports JAX.
        from cogjax import compilation_cache

        compilation_cache.enable()
        with _notices():
            args.handler(args)
        sys.stdout.flush()  # A full disk is said here or nowhere.
        return 0
    except UserError as error:
        message = " ".join(str(error).split())
    except BrokenPipeError:
        # The reader of a pipe has left (`| head`).
        _print_nothing_more()
        return 1
    except KeyboardInterrupt:
        print("cogjax: interrupted", file=sys.stderr)
        return 130
    except (OSError, MemoryError, RuntimeError, ValueError, AssertionError) as error:
        message = _of_the_machine(error)
        if message is None:
            raise
    message = message if len(message) <= 2000 else f"{message[:2000]}..."
    # Names in files of others may hold commands to a terminal.
    print(f"cogjax: error: {printable(message)}", file=sys.stderr)
    return 2


def _of_the_machine(error: BaseException) -> str | None:
    """A limit of the machine in one line; None for an error of the program.

    Libraries raise plain types, whose words tell the limits apart.
    """
    words = str(error)
    full = re.search(
        "No space left|File too large|Disk quota|Input/output error", words
    )
    if full and not getattr(error, "filename", None):
        if isinstance(error, OSError):
            _print_nothing_more()  # It may have been stdout.
        return f"cannot write: {full[0].lower()}, free some space or write elsewhere"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in words:
        return (
            "out of memory: lower the batch size, or num_images, or use --weights int8 "
            f"({_first_line(words)})"
        )
    if _no_backend():
        return (
            f"JAX finds no {os.environ['JAX_PLATFORMS']!r} here, which JAX_PLATFORMS "
            "asks for: unset it, or install jax for it"
        )
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return None


def _no_backend() -> bool:
    """Whether JAX was asked for devices that are not here; its error has no words."""
    if not os.environ.get("JAX_PLATFORMS") or "jax" not in sys.modules:
        return False
    try:
        return not sys.modules["jax"].devices()
    except Exception:
        return True


def _first_line(words: str) -> str:
    return (words.strip().splitlines() or ["no reason given"])[0][:200]


def _print_anything() -> None:
    """File names may hold any bytes, and a terminal may know ASCII alone."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _print_nothing_more() -> None:
    """Keeps Python from printing what is left when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _notices() -> Iterator[None]:
    """Prints each `Notice`, and what JAX says of its cache, as one line."""
    from cogjax.compilation_cache import in_words

    def show(message, category, *rest) -> None:
        own = message if issubclass(category, Notice) else in_words(str(message))
        if own:
            print(f"cogjax: {own}", file=sys.stderr)
        else:
            usual(message, category, *rest)

    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        usual, warnings.showwarning = warnings.showwarning, show
        yield


def _parse(argv: list[str]) -> argparse.Namespace:
    words, overrides = _split_overrides(argv)
    if words[:2] == ["evaluate", "human"]:
        words[:2] = ["evaluate human"]  # A command of two words.
    args, unknown = _build_parser().parse_known_args(words)
    if not hasattr(args, "overrides"):
        unknown += overrides
    elif not unknown:
        args.overrides = overrides
    if hasattr(args, "words") and not any(word.startswith("-") for word in unknown):
        # argparse ends a list at the first flag, but `a --out DIR b` is one list.
        getattr(args, args.words).extend(unknown)
    elif unknown:
        flags = re.findall(r"--[\w-]+", args.parser.format_help())
        name = unknown[0].partition("=")[0]
        hint = _hint(name, sorted(set(flags))) if name.startswith("-") else ""
        hint = hint if "did you mean" in hint else ""
        args.parser.error(f"unexpected argument '{unknown[0]}'{hint}")
    return args


def _split_overrides(argv: list[str]) -> tuple[list[str], list[str]]:
    """Parts `--config.a=v` and `--config.a v` from the words that argparse knows."""
    words, overrides, rest = [], [], list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith(_OVERRIDE):
            words.append(word)
            continue
        overrides.append(word)
        if "=" not in word and rest and not rest[0].startswith("--"):
            overrides.append(rest.pop(0))
    return words, overrides


def _hint(word: str, choices: list[str]) -> str:
    return did_you_mean(word, choices)


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_PROGRAM,
        description="Images from Chinese or English text, and how to train them.",
        epilog="Each command has its own --help.",
    )
    parser.add_argument("--version", action="version", version=f"cogjax {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    modules = (generate, describe, models, data, tokenizer, encode, train, report)
    modules += export, config, verify, finetune, evaluate, evaluate_human, metrics
    modules += imports, parity, plan, bench, attention_map, serve
    for module in modules:
        module.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
