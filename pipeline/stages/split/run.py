"""split: reserve the test set, assign patients to folds, refuse patients that appear in both."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.errors import UserError
from pipeline.imaging.labels import targets_of
from pipeline.imaging.preparation.fingerprint import read_signatures
from pipeline.paths import Role
from pipeline.schema import FINAL, Params, Split
from pipeline.seeds import seed_for
from pipeline.stages.split.former_folds import remove_former_outputs
from pipeline.stages.split.leakage import BOUNDARY, findings, joined_patients, open_leaks
from pipeline.stages.split.partition import (
    TARGET,
    Leak,
    Marks,
    Numbers,
    cases_of_site,
    grouped_folds,
    has_several_labels,
    refuse_leaks,
    reserved_by_hash,
    roles_in_fold,
)
from pipeline.stages.split.shortcuts import (
    Guess,
    intensity_predicts_site,
    mean_over_labels,
    site_predicts_label,
    site_predicts_labels,
)

COLUMNS = ["case", "patient", "site", "label", "role"]


def run(params: Params) -> None:
    """Write data/split/<k>.csv for every fold, the final model, every site left out and every repeated fold."""
    split = params.split
    cases = paths.read_table(paths.CASES).merge(paths.read_table(paths.INDEX), on="case")  # the prepared cases
    targets = targets_of_labels(cases, paths.read_json(paths.COHORT_FACTS))
    cases["side"] = sides(cases, targets, split, seed_for(params.seed, "split", "locked"))
    duplicates = findings(cases, read_signatures(cases["signature"].tolist()))
    if targets is not None:
        duplicates["labels"] = compare_labels(duplicates, targets.set_axis(cases["case"]))
    paths.write_table(duplicates, paths.DUPLICATES)
    acknowledged = check_patients(cases, split) + check_duplicates(duplicates, split)
    grouped = cases.assign(patient=joined_patients(cases, duplicates))  # patients with a duplicate are one group
    if targets is not None:
        grouped = grouped.join(targets.add_prefix(TARGET))
    partitions = {repetition: assign(grouped, params, repetition) for repetition in ["", *split.repeated]}
    repeated = [name for names in split.repeated.values() for name in names]
    assigned = [*map(str, range(split.n_folds)), FINAL, *split.left_out, *repeated]
    for fold in assigned:
        roles = [Role(role) for role in roles_of(fold, grouped, partitions, params)]
        paths.write_table(cases.assign(role=roles)[COLUMNS], paths.split(fold))
    facts = summary(cases, split, acknowledged, duplicates) | shortcuts(cases, targets)
    paths.write_json(facts, paths.SPLIT_SUMMARY)
    if former := remove_former_outputs(split.folds, assigned):
        print(f"removed outputs of folds that split.folds no longer names: {', '.join(former)}; DVC's cache keeps them")


def targets_of_labels(cases: pd.DataFrame, facts: dict[str, Any]) -> pd.DataFrame | None:
    """Give the labels of a multilabel cohort one column each; None where a case has one class."""
    if facts["task"] != "multilabel":
        return None
    targets = targets_of(cases["label"].tolist(), facts["classes"], "multilabel")
    return pd.DataFrame(targets, index=cases.index, columns=facts["classes"])


def compare_labels(duplicates: pd.DataFrame, targets: pd.DataFrame) -> NDArray[np.str_]:
    """Compare the labels of each duplicate pair, over the labels known for both.

    Parameters
    ----------
    duplicates : pandas.DataFrame
        From `findings`.
    targets : pandas.DataFrame
        One column per label, indexed by case.

    Returns
    -------
    (n,) array of str
        "contradict", "same", or "unknown" where no label is known for both.
    """
    one, other = (targets.loc[duplicates[end]].to_numpy() for end in ("case", "other"))
    both = ~np.isnan(one) & ~np.isnan(other)
    contradicts = (both & (one != other)).any(axis=1)
    return np.select([contradicts, both.any(axis=1)], ["contradict", "same"], "unknown")


def assign(cases: pd.DataFrame, params: Params, repetition: str) -> Numbers:
    """Assign the development cases to folds, with its own seed for each repetition ("r2", ...; "" is the first).

    Returns
    -------
    (n,) int array
        The fold that holds out each case; -1 for cases that are not in development.
    """
    development = (cases["side"] == "development").to_numpy()
    fold_of_case = np.full(len(cases), -1)
    seed = seed_for(params.seed, "split", "folds", *filter(None, [repetition]))
    try:
        fold_of_case[development] = grouped_folds(cases[development], params.split.n_folds, seed)
    except ValueError as error:
        several = has_several_labels(cases)  # cohort.classes would refuse every multilabel case with an unlisted label
        cure = "remove the label from the column label" if several else "leave the class out of cohort.classes"
        raise UserError(f"{error}; lower split.n_folds, or {cure}") from error
    return fold_of_case


def roles_of(fold: str, cases: pd.DataFrame, partitions: dict[str, Numbers], params: Params) -> list[str]:
    """Give each case its role in one fold.

    blind-SITE has the same validation cases as without-SITE; it also excludes the unlabelled cases of that site.
    """
    fraction = params.split.validation_fraction
    held_out = held_out_in(fold, cases, partitions)
    if not fold.startswith("blind-"):
        return roles_in_fold(cases, held_out, fraction, seed_for(params.seed, "split", "inner", fold))
    seed = seed_for(params.seed, "split", "inner", f"without-{fold.removeprefix('blind-')}")
    unseen = cases["site"].isin(cases.loc[held_out, "site"]).to_numpy()
    return roles_in_fold(cases, held_out, fraction, seed, unseen=unseen)


def held_out_in(fold: str, cases: pd.DataFrame, partitions: dict[str, Numbers]) -> Marks:
    """Mark the cases that one fold holds out: a part of a partition, a site, or none."""
    if fold == FINAL:
        return np.zeros(len(cases), dtype=np.bool_)
    repetition, _, number = fold.rpartition("-")  # "r2-0"; "0" in the first repetition
    if repetition in partitions:
        return np.asarray(partitions[repetition] == int(number))
    try:
        return cases_of_site(cases, fold.partition("-")[2])
    except ValueError as error:
        raise UserError(f"split.folds names '{fold}', but {error}") from error


def sides(cases: pd.DataFrame, targets: pd.DataFrame | None, split: Split, seed: int) -> pd.Series:
    """Put each case on a side: development, test, calibration, or unlabelled (no label, or only unknown ones).

    Raises
    ------
    UserError
        If the test set would be empty, or a named test site does not exist.
    """
    side = pd.Series("development", index=cases.index)
    test = {
        "none": pd.Series(False, index=cases.index),
        "given": cases["split"] == "test",
        "sites": cases["site"].isin(split.test_sites),
        "patients": pd.Series(
            reserved_by_hash(cases["patient"].tolist(), split.test_fraction, seed), index=cases.index
        ),
    }[split.test]
    unknown = [site for site in split.test_sites if site not in set(cases["site"])]
    if split.test == "sites" and unknown:
        raise UserError(
            f"split.test_sites names '{unknown[0]}', but the cohort's sites are {', '.join(sorted(set(cases['site'])))}"
        )
    side[test] = "test"
    nothing_known = cases["label"] == "" if targets is None else targets.isna().all(axis=1)
    without_label = nothing_known | (cases["split"] == "unlabelled")
    side[cases["split"] == "calibration"] = "calibration"
    side[without_label] = "unlabelled"
    if split.test != "none" and not (side == "test").any():
        raise UserError(
            f"params.yaml: split.test is '{split.test}', but no case belongs to the test set; set split.test to 'none'"
        )
    return side


def check_patients(cases: pd.DataFrame, split: Split) -> list[str]:
    """Refuse patients in two of development, calibration and the test set; messages name pseudonyms only."""
    labelled = cases[cases["side"] != "unlabelled"]
    try:
        return refuse_leaks(labelled, split.allow_leaks)
    except Leak as leak:
        raise UserError(
            f"split.test: {leak}:\n  {', '.join(leak.patients)}\n"
            "Reserve test patients instead of cases (split.test: patients), or correct the column split of cohort.csv. "
            "To continue anyway, name these patients in split.allow_leaks: the calibrator is then not fitted on them, "
            "and every metric of a test set that contains them is stamped.\n"
            "`medadapt whois PATIENT` shows who a patient is."
        ) from leak


def check_duplicates(duplicates: pd.DataFrame, split: Split) -> list[str]:
    """Refuse duplicates across the train/test boundary or with contradicting labels; messages name pseudonyms only.

    Returns
    -------
    list of str
        The acknowledged cases and patients of duplicates across the train/test boundary.
    """
    if len(duplicates):
        print(f"{len(duplicates)} pairs of duplicate images found, see {paths.DUPLICATES}")
    leaks = open_leaks(duplicates, split.allow_leaks)
    if len(leaks):
        lines = [
            f"{row.check}: {row.case} ({row.side}) and {row.other} ({row.other_side}); "
            f"labels {row.labels}, {row.across}"
            for row in leaks.itertuples()
        ]
        raise UserError(
            "\n  ".join(lines) + "\nRemove one case of each pair from cohort.csv, or correct its label. To continue "
            "anyway, name one case of each pair in split.allow_leaks: every metric of the test set is then stamped.\n"
            "`medadapt whois CASE` shows which file a case is."
        )
    crossing = duplicates[duplicates["across"] == BOUNDARY]
    named = {*crossing["case"], *crossing["other"], *crossing["patient"], *crossing["other_patient"]}
    return sorted(named & set(split.allow_leaks))


def shortcuts(cases: pd.DataFrame, targets: pd.DataFrame | None) -> dict[str, object]:
    """Measure possible confounders: how well the site predicts the label, and intensities predict the site."""
    intensities = cases[[column for column in cases if column.startswith("intensity_")]].to_numpy(dtype=float)
    by_label = {} if targets is None else site_predicts_labels(cases, targets)
    evaluated = {
        "site_predicts_label": site_predicts_label(cases) if targets is None else mean_over_labels(by_label),
        "intensity_predicts_site": intensity_predicts_site(cases, intensities),
    }
    found: dict[str, object] = {name: as_rounded(guess) for name, guess in evaluated.items()}
    each = {name: as_rounded(guess) for name, guess in by_label.items()}
    return found | ({"site_predicts_labels": each} if each else {})


def as_rounded(guess: Guess | None) -> dict[str, object] | None:
    """Convert a guess to plain values rounded to six digits; None where nothing could be measured."""
    if guess is None:
        return None
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(guess).items()}


def summary(cases: pd.DataFrame, split: Split, acknowledged: list[str], duplicates: pd.DataFrame) -> dict[str, object]:
    """Record how the test set was chosen, whether it is external, and which leaks were acknowledged."""
    fitted = cases["side"].isin(["development", "calibration"])  # a calibrator fitted at a site has seen that site
    test_sites = set(cases.loc[cases["side"] == "test", "site"])
    external = bool(test_sites) and not (set(cases.loc[fitted, "site"]) & test_sites)
    return {
        "test": split.test,
        "external": external,
        "test_sites": sorted(test_sites - {""}),
        "acknowledged_leaks": acknowledged,
        "duplicates_across_test_boundary": int((duplicates["across"] == BOUNDARY).sum()),
        "cases": {str(side): int(count) for side, count in cases["side"].value_counts().sort_index().items()},
        "patients": {str(side): int(n) for side, n in cases.groupby("side")["patient"].nunique().sort_index().items()},
    }
