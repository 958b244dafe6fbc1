"""Put each case on a side of the train/test boundary, and list the reasons to refuse the partition.

Nothing here needs pixels, so that `plan` lists the same reasons before any stage runs.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pipeline.imaging.labels import REGRESSION, SURVIVAL, Task, targets_of, times_of
from pipeline.schema import FINAL, Params, Split
from pipeline.seeds import seed_for
from pipeline.stages.split.counts import LEAST
from pipeline.stages.split.leakage import BOUNDARY, EXACT, described, joined_patients, open_leaks
from pipeline.stages.split.partition import (
    TARGET,
    Leak,
    answers,
    cases_of_site,
    has_several_labels,
    patients_with,
    rare_classes,
    refuse_leaks,
    reserved_by_hash,
)
from pipeline.stages.split.quantiles import EVENT, NUMBER


def targets_of_labels(cases: pd.DataFrame, task: Task, classes: Sequence[str]) -> pd.DataFrame | None:
    """Give the labels of a multilabel cohort one column each; None where a case has one class."""
    if task != "multilabel":
        return None
    targets = targets_of(cases["label"].tolist(), classes, "multilabel")
    return pd.DataFrame(targets, index=cases.index, columns=list(classes))


def settled(
    cases: pd.DataFrame, duplicates: pd.DataFrame, targets: pd.DataFrame | None, split: Split
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put patients who share an image on one side where possible; return cases and duplicates with their final sides.

    Parameters
    ----------
    cases : pandas.DataFrame
        With the column `side`, from `sides`.
    duplicates : pandas.DataFrame
        From `findings`, or `described`.
    targets : pandas.DataFrame or None
        From `targets_of_labels`.
    """
    cases = cases.assign(side=reserved_with_duplicates(cases, duplicates, split))
    return cases, compared(described(duplicates, cases), cases, targets)


def compared(duplicates: pd.DataFrame, cases: pd.DataFrame, targets: pd.DataFrame | None) -> pd.DataFrame:
    """Compare the labels of each pair of a multilabel cohort over the labels known for both.

    Parameters
    ----------
    duplicates : pandas.DataFrame
        From `findings`.
    cases : pandas.DataFrame
        Column `case`.
    targets : pandas.DataFrame or None
        From `targets_of_labels`; with None, nothing changes.

    Returns
    -------
    pandas.DataFrame
        The duplicates with `labels` "contradict", "same", or "unknown" where no label is known for both.
    """
    if targets is None:
        return duplicates
    of_case = targets.set_axis(cases["case"])
    one, other = (of_case.loc[duplicates[end]].to_numpy() for end in ("case", "other"))
    both = ~np.isnan(one) & ~np.isnan(other)
    contradicts = (both & (one != other)).any(axis=1)
    return duplicates.assign(labels=np.select([contradicts, both.any(axis=1)], ["contradict", "same"], "unknown"))


def groups_of(
    cases: pd.DataFrame, targets: pd.DataFrame | None, duplicates: pd.DataFrame, task: Task = "multiclass"
) -> pd.DataFrame:
    """Join the patients who share a duplicate to one, and add labels of a multilabel cohort, numbers or times."""
    grouped = cases.assign(patient=joined_patients(cases, duplicates))
    if task == REGRESSION:
        return grouped.assign(**{NUMBER: pd.to_numeric(grouped["label"])})
    if task == SURVIVAL:
        time, event = times_of(grouped["label"].tolist())
        return grouped.assign(**{NUMBER: time, EVENT: event})
    return grouped if targets is None else grouped.join(targets.add_prefix(TARGET))


def sides(cases: pd.DataFrame, targets: pd.DataFrame | None, params: Params) -> pd.Series:
    """Put each case on a side: development, test, calibration, or unlabelled (no label, or only unknown ones)."""
    split, seed = params.split, seed_for(params.seed, "split", "locked")
    side = pd.Series("development", index=cases.index)
    test = {
        "none": pd.Series(False, index=cases.index),
        "given": cases["split"] == "test",
        "sites": cases["site"].isin(split.test_sites),
        "patients": pd.Series(
            reserved_by_hash(cases["patient"].tolist(), split.test_fraction, seed), index=cases.index
        ),
    }[split.test]
    side[test] = "test"
    nothing_known = cases["label"] == "" if targets is None else targets.isna().all(axis=1)
    side[cases["split"] == "calibration"] = "calibration"
    side[nothing_known | (cases["split"] == "unlabelled")] = "unlabelled"
    return side


def reserved_with_duplicates(cases: pd.DataFrame, duplicates: pd.DataFrame, split: Split) -> pd.Series:
    """Move development patients who share an image with a test patient to the test set, if patients are reserved.

    Only exact duplicates count, and none that `split.allow_leaks` acknowledges. Nobody leaves the test set, so that it
    stays when the cohort grows.

    Returns
    -------
    pandas.Series
        The side of each case.
    """
    if split.test != "patients":
        return cases["side"]
    known = duplicates[["case", "patient", "other", "other_patient"]].isin(list(split.allow_leaks)).any(axis=1)
    group = pd.Series(joined_patients(cases, duplicates[(duplicates["check"] == EXACT) & ~known]), index=cases.index)
    reserved = group.isin(group[cases["side"] == "test"])
    return cases["side"].mask(reserved & (cases["side"] == "development"), "test")


def problems_of_split(
    cases: pd.DataFrame, groups: pd.DataFrame, duplicates: pd.DataFrame, split: Split, classes: Sequence[str]
) -> list[str]:
    """List everything that refuses a partition; messages name pseudonyms only.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `site`, `side`.
    groups : pandas.DataFrame
        The same cases with `patient` from `joined_patients`, and the columns of `grouped_folds`.
    duplicates : pandas.DataFrame
        From `leakage.findings`, or `leakage.described`.
    split : Split
    classes : sequence of str
        Classes of the cohort.
    """
    of_cases = [*problems_of_test_set(cases, split), *problems_of_patients(cases, split)]
    return [*of_cases, *problems_of_duplicates(duplicates, split), *problems_of_folds(groups, split, classes)]


def problems_of_test_set(cases: pd.DataFrame, split: Split) -> Iterator[str]:
    """Yield the test sites that the cohort lacks, or else the fact that the test set is empty."""
    known = sorted(set(cases["site"]) - {""})
    unknown = [site for site in split.test_sites if site not in known] if split.test == "sites" else []
    if unknown:
        names, sites = ", ".join(f"'{site}'" for site in unknown), ", ".join(known)
        cure = f"but the cohort's sites are {sites}" if known else "but the column site of the cohort is empty"
        yield f"split.test_sites names {names}, {cure}; correct it, or choose another split.test"
    elif split.test != "none" and not (cases["side"] == "test").any():
        yield f"split.test is '{split.test}', but no case belongs to the test set; set split.test to 'none'"


def problems_of_patients(cases: pd.DataFrame, split: Split) -> Iterator[str]:
    """Yield the patients in two of development, calibration and the test set."""
    try:
        acknowledged_patients(cases, split)
    except Leak as leak:
        yield (
            f"split.test: {leak}:\n  {', '.join(leak.patients)}\n"
            "Reserve test patients instead of cases (split.test: patients), or correct the column split of cohort.csv. "
            "To continue anyway, name these patients in split.allow_leaks: the calibrator is then not fitted on them, "
            "and every metric of a test set that contains them is stamped.\n"
            "`medadapt whois PATIENT` shows who a patient is."
        )


def acknowledged_patients(cases: pd.DataFrame, split: Split) -> list[str]:
    """List the acknowledged patients on both sides of the train/test boundary; raise `Leak` for any other one."""
    return refuse_leaks(cases[cases["side"] != "unlabelled"], split.allow_leaks)


def problems_of_folds(cases: pd.DataFrame, split: Split, classes: Sequence[str]) -> Iterator[str]:
    """Yield the classes with too few patients for the folds, and the sites that cannot be held out."""
    development = cases[cases["side"] == "development"]
    if development.empty:
        counts = ", ".join(f"{count} {side}" for side, count in cases["side"].value_counts().items())
        yield f"no case is left to develop on (of all: {counts}); correct the columns split and label, or split.test"
        return
    rare = rare_classes(development, split.n_folds, [] if NUMBER in cases else classes)
    possible = min((count for count in rare.values() if count > 1), default=0)
    folds = ", ".join([*map(str, range(possible)), FINAL])
    cures = []
    if has_several_labels(cases):  # cohort.classes would exclude every case with an unlisted label
        cures.append("remove the label from the column label")
    elif NUMBER in cases:
        cures.append("add labelled patients")
    elif len(classes) != 2:
        cures.append("leave the class out of cohort.classes")
    if split.test != "none":
        cures.append("change split.test, because patients of the test set do not count")
    for name, count in rare.items():
        lower = [f"lower split.n_folds to {possible} (split.folds: [{folds}])"] if count > 1 else []
        cure = ", or ".join([*lower, *cures]) or "add patients of this class"
        yield f"{name} has {count} patient(s), fewer than split.n_folds = {split.n_folds}; {cure}"
    for name, count in patients_with(development, answers(development)).items():
        if name not in rare and 0 < (left := count - -(-count // split.n_folds)) < LEAST:
            yield (
                f"{name} has {count} patients, of which a fold leaves {left} for training and validation, which need "
                f"{LEAST} or more; " + (", or ".join(cures) or "add patients of this class")
            )
    for fold in split.left_out:
        try:
            cases_of_site(cases, fold.partition("-")[2])
        except ValueError as error:
            yield f"split.folds names '{fold}', but {error}"


def problems_of_duplicates(duplicates: pd.DataFrame, split: Split) -> Iterator[str]:
    """Yield the duplicates across the train/test boundary or with contradicting labels, all in one message."""
    leaks = open_leaks(duplicates, split.allow_leaks)
    if len(leaks):
        lines = [
            f"{row.check}: {row.case} ({row.side}) and {row.other} ({row.other_side}); "
            f"labels {row.labels}, {row.across}"
            for row in leaks.itertuples()
        ]
        yield (
            "\n  ".join(lines) + "\nRemove one case of each pair from cohort.csv, or correct its label. To continue "
            "anyway, name one case of each pair in split.allow_leaks: every metric of the test set is then stamped.\n"
            "`medadapt whois CASE` shows which file a case is."
        )


def acknowledged_duplicates(duplicates: pd.DataFrame, split: Split) -> list[str]:
    """List the acknowledged cases and patients of duplicates across the train/test boundary."""
    crossing = duplicates[duplicates["across"] == BOUNDARY]
    named = {*crossing["case"], *crossing["other"], *crossing["patient"], *crossing["other_patient"]}
    return sorted(named & set(split.allow_leaks))
