"""Five promises of pretraining and of adaptation, each with a word on whether it held on these patients."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from pipeline.stages.evidence.statistics.differences import EXTERNAL, INTERNAL, LEFT_OUT
from pipeline.stages.evidence.statistics.runs import ADAPTED, COMPARISONS, IMAGENET, PROBE, SCRATCH, TRAINED

VERDICTS = [
    *("promise", "name", "comparison", "recipe", "metric", "value", "lower", "upper", "minimum_detectable"),
    *("n", "patients", "verdict", "why"),
]
HELPED, NO_EVIDENCE, HURT, NOT_MEASURED = "helped", "no evidence", "hurt", "not measured"
SPOKEN = {ADAPTED: "adapted", IMAGENET: "ImageNet", SCRATCH: "scratch"}
NUMBERS = ("value", "lower", "upper", "minimum_detectable", "n", "patients")
RATIOS = ("ratio of passes",)  # metrics that are 1, not 0, where nothing differs
UNTRAINED = "no two trainings of these arms to compare: evidence.budget above 0 makes them"

Tables = Mapping[str, pd.DataFrame]
Row = dict[str, Any]


def verdicts(tables: Tables) -> pd.DataFrame:
    """Give the word on each promise of each comparison.

    Parameters
    ----------
    tables : mapping
        `curve_differences`, `label_efficiency`, `differences`, `time_to_quality` and `overfitting`, as the functions
        of these names give them; one that is not there was not measured.

    Returns
    -------
    pandas.DataFrame
        Columns `VERDICTS`, ten rows. "helped": the whole interval is above 0, or above 1 for a ratio; "hurt": the
        whole of it is below; "no evidence": neither, and `minimum_detectable` tells what could have been shown. `why`
        says on what it rests, or why nothing was measured. No allowance is made for there being ten of them.
    """
    rows = [
        {"promise": number, "name": name, "comparison": comparison, **evaluated(tables, comparison, find)}
        for number, (name, find) in enumerate(PROMISES.items(), start=1)
        for comparison in COMPARISONS
    ]
    return pd.DataFrame(rows, columns=VERDICTS, dtype=object)  # counts stay whole where others are empty


def evaluated(tables: Tables, comparison: str, find: Callable[[Tables, str, str], Row | str]) -> Row:
    """Look for the metric of a promise by each recipe that may tell of it, the first choice first.

    Frozen features of a network that begins with random weights are no fair reference, so that transfer is evaluated by
    training; adaptation by the probe, which depends on no chance of training, where it can be.
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
    """Say why there is no verdict."""
    return {"verdict": NOT_MEASURED, "why": why}


def word_of(lower: float | None, upper: float | None, nothing: float) -> str:
    """Compare an interval with where nothing differs; one that is open on a side tells by the other."""
    if lower is None and upper is None:
        return NOT_MEASURED
    if lower is not None and lower > nothing:
        return HELPED
    return HURT if upper is not None and upper < nothing else NO_EVIDENCE


def fewer_labels(tables: Tables, comparison: str, recipe: str) -> Row | str:
    """Find the mean difference of AUCs on less than all training patients."""
    row = row_of(tables, "curve_differences", recipe=recipe, comparison=comparison)
    if row is None:
        cure = "; evidence.fractions and evidence.budget make them" if recipe == TRAINED else ""
        return f"no predictions of both arms after less than all training patients{cure}"
    arm, reference = COMPARISONS[comparison]
    ratio = row_of(tables, "label_efficiency", recipe=recipe, arm=arm, reference=reference)
    words = f"; {ratio['words']}" if ratio else ""
    count = row["fractions"]
    why = f"mean over {count} {'fraction' if count == 1 else 'fractions'} below 1, {row['folds']} folds{words}"
    return taken(row, "auc", why)


def shorter_training(tables: Tables, comparison: str, recipe: str) -> Row | str:
    """Find the ratio of the passes that both arms take to be equally good."""
    arm, reference = COMPARISONS[comparison]
    row = row_of(tables, "time_to_quality", arm=arm, reference=reference, unit="passes")
    if row is None or recipe != TRAINED:
        return UNTRAINED
    why = f"{SPOKEN[arm]} is as good as {SPOKEN[reference]} in {row['reached']} of {row['folds']} folds"
    return taken({**row, "value": row["ratio"]}, "ratio of passes", with_words(why, row))


def less_overfitting(tables: Tables, comparison: str, recipe: str) -> Row | str:
    """Find the difference of the gaps between test and training loss."""
    arm, reference = COMPARISONS[comparison]
    row = row_of(tables, "overfitting", arm=arm, reference=reference)
    if row is None or recipe != TRAINED:
        return UNTRAINED
    if row["difference"] is None:
        return str(row.get("words") or "the arms never have an equal training loss")
    why = f"gaps {row['arm_gap']:.3g} and {row['reference_gap']:.3g} at a training loss of {row['train_loss']:.3g}"
    return taken({**row, "value": row["difference"]}, "difference of gaps", with_words(why, row))


def new_domains(tables: Tables, comparison: str, recipe: str) -> Row | str:
    """Find the mean difference of AUCs over the sites left out, or that on the external cases."""
    wanted = {"recipe": recipe, "comparison": comparison, "metric": "auc"}
    left_out, external = (row_of(tables, "differences", scope=scope, **wanted) for scope in (LEFT_OUT, EXTERNAL))
    if left_out is not None and left_out["value"] is not None:
        why = f"mean over {left_out['folds']} sites, each left out of training"
        if external is not None and external["value"] is not None:
            why += f"; external cases: {in_words(external)}"
        return taken(left_out, "auc", why)
    if external is not None and external["value"] is not None:
        return taken(external, "auc", "no site could be left out: the external cases")
    return "no predictions of both arms on a site that was left out of training, nor on external cases"


def better_result(tables: Tables, comparison: str, recipe: str) -> Row | str:
    """Find the difference of AUCs out of fold after all training patients."""
    wanted = {"recipe": recipe, "comparison": comparison, "metric": "auc"}
    row = row_of(tables, "differences", scope=INTERNAL, **wanted)
    if row is None:
        return UNTRAINED if recipe == TRAINED else "no predictions of both arms out of fold"
    return taken(row, "auc", f"all training patients, {row['folds']} folds")


PROMISES: dict[str, Callable[[Tables, str, str], Row | str]] = {
    "fewer labels": fewer_labels,
    "shorter training": shorter_training,
    "less overfitting": less_overfitting,
    "new domains": new_domains,
    "better result": better_result,
}


def taken(row: Row, metric: str, why: str) -> Row:
    """Take the numbers of a verdict from a row of another table."""
    if row["value"] is not None and row["lower"] is None and row["upper"] is None:
        why += "; too little for an interval"
    return {"metric": metric, **{name: row.get(name) for name in NUMBERS}, "why": why}


def with_words(why: str, row: Row) -> str:
    """Add what another table says of its row, if anything."""
    return f"{why}; {row['words']}" if row.get("words") else why


def in_words(row: Row) -> str:
    """Print a difference with its interval."""
    if row["lower"] is None:
        return f"{row['value']:+.3f}"
    return f"{row['value']:+.3f} ({row['lower']:+.3f} to {row['upper']:+.3f})"


def row_of(tables: Tables, name: str, **wanted: str) -> Row | None:
    """Find the row of a table by what stands in its columns, None for an empty cell; None where there is none."""
    table = tables.get(name)
    if table is None or table.empty:
        return None
    mask = (table[list(wanted)] == pd.Series(wanted)).all(axis=1)
    rows = table[mask].astype(object)
    return None if rows.empty else {key: None if pd.isna(cell) else cell for key, cell in rows.iloc[0].items()}
