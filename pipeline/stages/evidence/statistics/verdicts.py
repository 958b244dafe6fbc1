"""Give a verdict on each of five promises of pretraining and of adaptation."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from pipeline.metrics.wording import interval_in_words
from pipeline.stages.evidence.arms import ADAPTED, IMAGENET, SCRATCH
from pipeline.stages.evidence.statistics.differences import EXTERNAL, INTERNAL, LEFT_OUT
from pipeline.stages.evidence.statistics.runs import COMPARISONS, PROBE, TRAINED

VERDICTS = [
    *("promise", "name", "comparison", "recipe", "scope", "metric", "value", "lower", "upper", "minimum_detectable"),
    *("n", "patients", "verdict", "why"),
]
HELPED, NO_EVIDENCE, HURT, NOT_MEASURED = "helped", "no evidence", "hurt", "not measured"
TEST = "test"  # set of test cases whose sites are those of development
SPOKEN = {ADAPTED: "adapted", IMAGENET: "ImageNet", SCRATCH: "scratch"}
NUMBERS = ("value", "lower", "upper", "minimum_detectable", "n", "patients")
RATIOS = ("ratio of passes",)  # metrics that are 1, not 0, without a difference
UNTRAINED = "no trainings of both arms to compare: set evidence.budget above 0"

METRICS = ("auc", "log_loss")  # of the last two promises, each with a verdict of its own

Tables = Mapping[str, pd.DataFrame]
Row = dict[str, Any]
Find = Callable[["Tables", str, str], list[Row] | str]


def verdicts(tables: Tables) -> pd.DataFrame:
    """Tabulate the verdict on each promise of each comparison.

    Parameters
    ----------
    tables : mapping
        `curve_differences`, `label_efficiency`, `differences`, `time_to_quality` and `overfitting`, from the functions
        of these names; a missing table was not measured.

    Returns
    -------
    pandas.DataFrame
        Columns `VERDICTS`, a row for each promise and comparison; new domains and the better result have a row for
        each set and each of `METRICS`, the external set first. "helped": the whole interval is above 0, or above 1 for
        a ratio; "hurt": the whole interval is below; "no evidence": neither, and `minimum_detectable` is the difference
        that could have been detected. `why` gives the basis, or why nothing was measured. There is no correction for
        multiple testing.
    """
    rows = [
        {"promise": number, "name": name, "comparison": comparison, **row}
        for number, (name, find) in enumerate(PROMISES.items(), start=1)
        for comparison in COMPARISONS
        for row in evaluated(tables, comparison, find)
    ]
    return pd.DataFrame(rows, columns=VERDICTS, dtype=object)  # counts stay whole where others are empty


def evaluated(tables: Tables, comparison: str, find: Find) -> list[Row]:
    """Evaluate a promise by the first recipe that measures it.

    Frozen features of a randomly initialised network are not a fair reference, so transfer is evaluated by training
    only. Adaptation is evaluated by the probe where possible, because a probe has no random training.
    """
    why = UNTRAINED
    for recipe in (PROBE, TRAINED) if comparison == "adaptation" else (TRAINED,):
        found = find(tables, comparison, recipe)
        if not isinstance(found, str):
            return [with_verdict({"recipe": recipe, **row}) for row in found]
        why = found
    return [unmeasured(why)]


def with_verdict(row: Row) -> Row:
    """Add the verdict to a measured difference or ratio."""
    word = word_of(row["lower"], row["upper"], 1 if row["metric"] in RATIOS else 0)
    return {**row, "verdict": word} if word != NOT_MEASURED else unmeasured(row["why"])


def unmeasured(why: str) -> Row:
    """Make the row of a promise that was not measured."""
    return {"verdict": NOT_MEASURED, "why": why}


def word_of(lower: float | None, upper: float | None, nothing: float) -> str:
    """Compare an interval, which may be open on one side, with the value of no difference."""
    if lower is None and upper is None:
        return NOT_MEASURED
    if lower is not None and lower > nothing:
        return HELPED
    return HURT if upper is not None and upper < nothing else NO_EVIDENCE


def fewer_labels(tables: Tables, comparison: str, recipe: str) -> list[Row] | str:
    """Read the mean difference of AUCs at fractions below 1 of the training patients."""
    row = row_of(tables, "curve_differences", recipe=recipe, comparison=comparison)
    if row is None:
        cure = "; set evidence.fractions and evidence.budget" if recipe == TRAINED else ""
        return f"no predictions of both arms trained on a part of the patients{cure}"
    arm, reference = COMPARISONS[comparison]
    ratio = row_of(tables, "label_efficiency", recipe=recipe, arm=arm, reference=reference)
    words = f"; {ratio['words']}{ratio_in_words(ratio)}" if ratio else ""
    count = row["fractions"]
    why = f"mean over {count} {'fraction' if count == 1 else 'fractions'} below 1, {row['folds']} folds{words}"
    return [taken(row, "auc", why)]


def shorter_training(tables: Tables, comparison: str, recipe: str) -> list[Row] | str:
    """Read the ratio of the passes that both arms need to be equally good."""
    arm, reference = COMPARISONS[comparison]
    row = row_of(tables, "time_to_quality", arm=arm, reference=reference, unit="passes")
    if row is None or recipe != TRAINED:
        return UNTRAINED
    why = f"{SPOKEN[arm]} is as good as {SPOKEN[reference]} in {row['reached']} of {row['folds']} folds"
    return [taken({**row, "value": row["ratio"]}, "ratio of passes", with_words(why, row))]


def less_overfitting(tables: Tables, comparison: str, recipe: str) -> list[Row] | str:
    """Read the difference of the gaps between test and training loss."""
    arm, reference = COMPARISONS[comparison]
    row = row_of(tables, "overfitting", arm=arm, reference=reference)
    if row is None or recipe != TRAINED:
        return UNTRAINED
    if row["difference"] is None:
        return str(row.get("words") or "the arms never have an equal training loss")
    why = f"gaps {row['arm_gap']:.3g} and {row['reference_gap']:.3g} at a training loss of {row['train_loss']:.3g}"
    return [taken({**row, "value": row["difference"]}, "difference of gaps", with_words(why, row))]


def new_domains(tables: Tables, comparison: str, recipe: str) -> list[Row] | str:
    """Read the differences on the external cases, then their means over the left-out sites."""
    on = {EXTERNAL: "external cases", LEFT_OUT: "mean over {folds} sites, each left out of training"}
    found = differences_on(tables, comparison, recipe, on)
    return found or "no predictions of both arms on a left-out site or on external cases"


def better_result(tables: Tables, comparison: str, recipe: str) -> list[Row] | str:
    """Read the differences on a test set of the same sites, then those out of fold, of arms with all patients."""
    on = {TEST: "test set", INTERNAL: "all training patients, {folds} folds"}
    found = differences_on(tables, comparison, recipe, on)
    return found or (UNTRAINED if recipe == TRAINED else "no out-of-fold predictions of both arms")


def differences_on(tables: Tables, comparison: str, recipe: str, on: Mapping[str, str]) -> list[Row]:
    """Read the difference of each of `METRICS` on each set; `on` gives the sets with the basis of their verdict."""
    found = []
    for scope, why in on.items():
        for metric in METRICS:
            wanted = {"recipe": recipe, "comparison": comparison, "metric": metric, "scope": scope}
            row = row_of(tables, "differences", **wanted)
            if row is not None and row["value"] is not None:
                found.append({**taken(row, metric, why.format(folds=row["folds"])), "scope": scope})
    return found


PROMISES: dict[str, Find] = {
    "fewer labels": fewer_labels,
    "shorter training": shorter_training,
    "less overfitting": less_overfitting,
    "new domains": new_domains,
    "better result": better_result,
}


def taken(row: Row, metric: str, why: str) -> Row:
    """Copy the numbers of a verdict from a row of another table."""
    if row["value"] is not None and row["lower"] is None and row["upper"] is None:
        why += "; too few data for an interval"
    return {"metric": metric, **{name: row.get(name) for name in NUMBERS}, "why": why}


def with_words(why: str, row: Row) -> str:
    """Append the remark of a table's row, if there is one."""
    return f"{why}; {row['words']}" if row.get("words") else why


def ratio_in_words(row: Row) -> str:
    """Format a ratio with its interval, of which an end may be open."""
    limits = interval_in_words(row["lower"], row["upper"], style=".2f")
    return f" (ratio {row['ratio']:.2f}, {limits})" if row["ratio"] is not None and limits else ""


def row_of(tables: Tables, name: str, **wanted: str) -> Row | None:
    """Find a row of a table by the values of its columns, with None for empty cells; None if there is no such row."""
    table = tables.get(name)
    if table is None or table.empty:
        return None
    mask = (table[list(wanted)] == pd.Series(wanted)).all(axis=1)
    rows = table[mask].astype(object)
    return None if rows.empty else {key: None if pd.isna(cell) else cell for key, cell in rows.iloc[0].items()}
