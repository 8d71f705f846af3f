"""What a user is told: the exception that they can fix, and the warning."""

from collections.abc import Iterable

_NAMED = 40  # choices in a message


def shown(value: object) -> str:
    """A value for a message: in one line, at most 100 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:60]}... ({len(text)} characters)"


def printable(text: str) -> str:
    """A text of others for a terminal, in one line.

    Spaces of all kinds and line ends are " ", and what may be a command to a terminal,
    such as ESC, is "?".
    """
    spaced = (" " if each.isspace() else each for each in text)
    return "".join(each if each.isprintable() else "?" for each in spaced)


def did_you_mean(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """Returns ": did you mean 'x'?" for a near match, else ": known are a, b, c".

    It names the first 40 of many choices.
    """
    import difflib

    choices = list(choices)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if near:
        return f": did you mean '{prefix}{near[0]}'?"
    named = choices[:_NAMED] + ["..."] * (len(choices) > _NAMED)
    return f": known are {', '.join(named)}" if choices else ""


class UserError(Exception):
    """Bad input, said in one line: what is wrong, what was expected, what to do.

    The command line prints the message and exits with status 2; library callers may
    catch it. Never used for programming errors.
    """


class Notice(UserWarning):
    """Something that is done otherwise than asked, said in one line.

    The command line prints it on stderr.
    """
