"""The one error that a user is meant to read."""


class Refusal(Exception):
    """Input that the pipeline will not take.

    The message names the file or the parameter, what is wrong with it, and the cure.
    The front door prints it without a traceback; every other exception is a defect of ours.
    """
