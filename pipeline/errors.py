"""The one error that a user is meant to read."""


class UserError(Exception):
    """Input that the pipeline does not take.

    The message names the file or the parameter, what is wrong with it, and the cure.
    The command line prints it without a traceback; every other exception is a defect of ours.
    """

    exit_code = 1


class CheckFailed(UserError):
    """A check that ran to its end and found something, as `verify` and `monitor` do."""

    exit_code = 3
