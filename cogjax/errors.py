"""What a user is told: the exception that they can fix, and the warning."""


class UserError(Exception):
    """Bad input, said in one line: what is wrong, what was expected, what to do.

    The command line prints the message and exits with status 2; library callers may
    catch it. Never used for programming errors.
    """


class Notice(UserWarning):
    """Something that is done otherwise than asked, said in one line.

    The command line prints it on stderr.
    """
