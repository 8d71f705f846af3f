"""The one exception that means "the user can fix this"."""


class UserError(Exception):
    """Bad input, said in one line: what is wrong, what was expected, what to do.

    The command line prints the message and exits with status 2; library callers may
    catch it. Never used for programming errors.
    """
