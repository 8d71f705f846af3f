"""What a user is told: the exception that they can fix, and the warning."""


def shown(value: object) -> str:
    """A value for a message: in one line, at most 100 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:60]}... ({len(text)} characters)"


class UserError(Exception):
    """Bad input, said in one line: what is wrong, what was expected, what to do.

    The command line prints the message and exits with status 2; library callers may
    catch it. Never used for programming errors.
    """


class Notice(UserWarning):
    """Something that is done otherwise than asked, said in one line.

    The command line prints it on stderr.
    """
