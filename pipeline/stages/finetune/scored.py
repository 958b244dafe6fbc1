"""Which cases a fold scores: those whose scores a later stage reads."""

from collections.abc import Collection

from pipeline.paths import Role
from pipeline.schema import FINAL


def scored_roles(fold: str, present: Collection[str]) -> tuple[Role, ...]:
    """Name the roles of the cases that one fold scores.

    `final` scores the test set. Numbered folds score it, too, if the cohort marks calibration cases, without which
    `calibrate.form: ensemble` is refused; so a change of `calibrate.form` trains nothing again. All other folds
    score their held-out cases alone.

    Parameters
    ----------
    fold : str
        As in `split.folds`.
    present : collection of str
        The roles that cases of this fold have.
    """
    if fold == FINAL:
        return (Role.TEST,)
    if fold.isdigit() and Role.CALIBRATION in present:
        return (Role.HELD_OUT, Role.TEST, Role.CALIBRATION)
    return (Role.HELD_OUT,)
