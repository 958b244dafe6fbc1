"""The one error that a user is meant to read."""

from collections.abc import Sequence


class UserError(Exception):
    """Input that the pipeline does not take.

    The message names the file or the parameter, what is wrong with it, and the cure.
    The command line prints it without a traceback; every other exception is a defect of ours.
    """

    exit_code = 1


class CheckFailed(UserError):
    """A check that ran to its end and found something, as `verify` and `monitor` do."""

    exit_code = 3


def refuse(problems: Sequence[str]) -> None:
    """Raise one `UserError` that lists all problems; do nothing if there is none."""
    if len(problems) > 1:
        raise UserError("\n- ".join([f"{len(problems)} problems:", *problems]))
    if problems:
        raise UserError(problems[0])
