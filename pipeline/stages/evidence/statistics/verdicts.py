"""Give a verdict on each of five promises of pretraining and of adaptation."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from pipeline.stages.evidence.arms import ADAPTED, IMAGENET, SCRATCH
from pipeline.stages.evidence.statistics.differences import EXTERNAL, INTERNAL, LEFT_OUT
from pipeline.stages.evidence.statistics.runs import COMPARISONS, PROBE, TRAINED

VERDICTS = [
    *("promise", "name", "comparison", "recipe", "metric", "value", "lower", "upper", "minimum_detectable"),
    *("n", "patients", "verdict", "why"),
]
HELPED, NO_EVIDENCE, HURT, NOT_MEASURED = "helped", "no evidence", "hurt", "not measured"
SPOKEN = {ADAPTED: "adapted", IMAGENET: "ImageNet", SCRATCH: "scratch"}
NUMBERS = ("value", "lower", "upper", "minimum_detectable", "n", "patients")
RATIOS = ("ratio of passes",)  # metrics that are 1, not 0, without a difference
UNTRAINED = "no trainings of both arms to compare: set evidence.budget above 0"

Tables = Mapping[str, pd.DataFrame]
Row = dict[str, Any]


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
        Columns `VERDICTS`, ten rows. "helped": the whole interval is above 0, or above 1 for a ratio; "hurt": the
        whole interval is below; "no evidence": neither, and `minimum_detectable` is the difference that could have
        been detected. `why` gives the basis, or why nothing was measured. There is no correction for multiple testing.
    """
    rows = [
        {"promise": number, "name": name, "comparison": comparison, **evaluated(tables, comparison, find)}
        for number, (name, find) in enumerate(PROMISES.items(), start=1)
        for comparison in COMPARISONS
    ]
    return pd.DataFrame(rows, columns=VERDICTS, dtype=object)  # counts stay whole where others are empty


def evaluated(tables: Tables, comparison: str, find: Callable[[Tables, str, str], Row | str]) -> Row:
    """Evaluate a promise by the first recipe that measures it.

    Frozen features of a randomly initialised network are not a fair reference, so transfer is evaluated by training
    only. Adaptation is evaluated by the probe where possible, because a probe has no random training.
    """
    why = UNTRAINED
    for recipe in (PROBE, TRAINED) if comparison == "adaptation" else (TRAINED,):
        found = find(tables, comparison, recipe)
        if isinstance(found, str):
            why = found
            continue
        word = word_of(found["lower"], found["upper"], 1 if found["metric"] in RATIOS else 0)
        return {"recipe": recipe, **found, "verdict": word} if word != NOT_MEASURED else unmeasured(found["why"])
    return unmeasured(why)


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


def fewer_labels(tables: Tables, comparison: str, recipe: str) -> Row | str:
    """Read the mean difference of AUCs at fractions below 1 of the training patients."""
    row = row_of(tables, "curve_differences", recipe=recipe, comparison=comparison)
    if row is None:
        cure = "; set evidence.fractions and evidence.budget" if recipe == TRAINED else ""
        return f"no predictions of both arms trained on a part of the patients{cure}"
    arm, reference = COMPARISONS[comparison]
    ratio = row_of(tables, "label_efficiency", recipe=recipe, arm=arm, reference=reference)
    words = f"; {ratio['words']}" if ratio else ""
    count = row["fractions"]
    why = f"mean over {count} {'fraction' if count == 1 else 'fractions'} below 1, {row['folds']} folds{words}"
    return taken(row, "auc", why)


def shorter_training(tables: Tables, comparison: str, recipe: str) -> Row | str:
    """Read the ratio of the passes that both arms need to be equally good."""
    arm, reference = COMPARISONS[comparison]
    row = row_of(tables, "time_to_quality", arm=arm, reference=reference, unit="passes")
    if row is None or recipe != TRAINED:
        return UNTRAINED
    why = f"{SPOKEN[arm]} is as good as {SPOKEN[reference]} in {row['reached']} of {row['folds']} folds"
    return taken({**row, "value": row["ratio"]}, "ratio of passes", with_words(why, row))


def less_overfitting(tables: Tables, comparison: str, recipe: str) -> Row | str:
    """Read the difference of the gaps between test and training loss."""
    arm, reference = COMPARISONS[comparison]
    row = row_of(tables, "overfitting", arm=arm, reference=reference)
    if row is None or recipe != TRAINED:
        return UNTRAINED
    if row["difference"] is None:
        return str(row.get("words") or "the arms never have an equal training loss")
    why = f"gaps {row['arm_gap']:.3g} and {row['reference_gap']:.3g} at a training loss of {row['train_loss']:.3g}"
    return taken({**row, "value": row["difference"]}, "difference of gaps", with_words(why, row))


def new_domains(tables: Tables, comparison: str, recipe: str) -> Row | str:
    """Read the mean difference of AUCs over the left-out sites, or that on the external cases."""
    wanted = {"recipe": recipe, "comparison": comparison, "metric": "auc"}
    left_out, external = (row_of(tables, "differences", scope=scope, **wanted) for scope in (LEFT_OUT, EXTERNAL))
    if left_out is not None and left_out["value"] is not None:
        why = f"mean over {left_out['folds']} sites, each left out of training"
        if external is not None and external["value"] is not None:
            why += f"; external cases: {in_words(external)}"
        return taken(left_out, "auc", why)
    if external is not None and external["value"] is not None:
        return taken(external, "auc", "external cases, because no site could be left out")
    return "no predictions of both arms on a left-out site or on external cases"


def better_result(tables: Tables, comparison: str, recipe: str) -> Row | str:
    """Read the difference of out-of-fold AUCs of arms trained on all patients."""
    wanted = {"recipe": recipe, "comparison": comparison, "metric": "auc"}
    row = row_of(tables, "differences", scope=INTERNAL, **wanted)
    if row is None:
        return UNTRAINED if recipe == TRAINED else "no out-of-fold predictions of both arms"
    return taken(row, "auc", f"all training patients, {row['folds']} folds")


PROMISES: dict[str, Callable[[Tables, str, str], Row | str]] = {
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


def in_words(row: Row) -> str:
    """Format a difference with its interval."""
    if row["lower"] is None:
        return f"{row['value']:+.3f}"
    return f"{row['value']:+.3f} ({row['lower']:+.3f} to {row['upper']:+.3f})"


def row_of(tables: Tables, name: str, **wanted: str) -> Row | None:
    """Find a row of a table by the values of its columns, with None for empty cells; None if there is no such row."""
    table = tables.get(name)
    if table is None or table.empty:
        return None
    mask = (table[list(wanted)] == pd.Series(wanted)).all(axis=1)
    rows = table[mask].astype(object)
    return None if rows.empty else {key: None if pd.isna(cell) else cell for key, cell in rows.iloc[0].items()}
