"""The gates of a regression: those of a classifier that need no class, and four about a number."""

from pipeline.stages.release.gates import GATES, NEVER_OPENED, Check, Gate, at_least, ends_of, gate_of, show
from pipeline.stages.release.measured import PATIENTS, Measured, Row, hardest_baseline


def _better_than_mean(shown: Measured, floor: float) -> Gate:
    return lowest_of_sets(shown, "better than the mean", floor, ("r2", "R²", "0 is predicting the mean"))


def lowest_of_sets(shown: Measured, name: str, floor: float, words: tuple[str, str, str]) -> Gate:
    """Require a minimum of the lower limit on the folds and, if it is open, on the test set.

    Parameters
    ----------
    shown : Measured
    name : str
        Of the gate.
    floor : float
    words : tuple of str
        The metric, how it is called, and what it means where nothing is learned.
    """
    metric, called, meaning = words
    found = shown.internal[metric]
    detail = f"internal {called} {show(found)}; {meaning}"
    if shown.test is None or found["lower"] is None:
        return at_least(name, found["lower"], floor, ("lower limit", detail))
    test = shown.test[metric]
    detail += f"; {show(test)} on the test set"
    lowest = None if test["lower"] is None else min(found["lower"], test["lower"])
    return at_least(name, lowest, floor, ("lower limit", detail))


def _patients(shown: Measured, least: int) -> Gate:
    count = int(shown.internal["patients"])
    return gate_of("patients", least - count, f"{count} patients, {least} required", "in the internal evaluation")


def _baseline(shown: Measured, least: float) -> Gate:
    name = "better than without images"
    if shown.test is None:
        return gate_of(name, None, "", NEVER_OPENED)
    row = nearest_baseline(shown, shown.scopes[1])
    if row is None:
        return gate_of(name, None, "", "no error of a prediction without images could be computed")
    gain = {end: row[column] for end, column in ends_of("difference").items()}
    detail = f"mean absolute error {row['model_mae']:.4g} against {row['mae']:.4g} of {row['baseline']} alone: it is "
    detail += f"lower by {show(gain)}, paired"
    return at_least(name, row["difference_lower"], least, ("lower limit of the gain", detail))


def _coverage(shown: Measured, most: float) -> Gate:
    name, promised = "prediction intervals", shown.promised
    sets = [one for one in (shown.test, shown.internal) if one is not None]
    known = [one["coverage_of_patients"] for one in sets if one["coverage_of_patients"]["upper"] is not None]
    if len(known) < len(sets) or promised is None:
        return gate_of(name, None, "", "too few patients for the promise")
    worst = min(known, key=lambda one: one["upper"])
    detail = f"all images of a patient lie in their intervals for a share of {show(worst)} (the lowest of all sets)"
    said = f"upper limit {worst['upper']:.2f}, promised {promised:.2f}"
    return gate_of(name, promised - worst["upper"] - most, said, detail)


def nearest_baseline(shown: Measured, scope: str) -> Row | None:
    """Find the prediction without images that the model beats by the least; its rows are about images."""
    return hardest_baseline(shown.baselines, scope.removesuffix(PATIENTS))


NUMBER_GATES: dict[str, Check] = {
    "min_r2_lower": _better_than_mean,
    "slope": GATES["slope"],
    "min_events": _patients,
    "min_baseline_gain": _baseline,
    "max_coverage_shortfall": _coverage,
    **{name: GATES[name] for name in ("min_answered", "recipe_evaluated", "patients_known", "card")},
}
