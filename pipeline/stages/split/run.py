"""split: reserve the test set, assign patients to folds, refuse patients that appear in both."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.errors import refuse
from pipeline.imaging.preparation.fingerprint import read_signatures
from pipeline.paths import Role
from pipeline.schema import FINAL, Params, Split
from pipeline.seeds import seed_for
from pipeline.stages.split.checks import (
    acknowledged_duplicates,
    acknowledged_patients,
    groups_of,
    problems_of_split,
    settled,
    sides,
    targets_of_labels,
)
from pipeline.stages.split.counts import (
    counted_roles,
    problems_of_roles,
    problems_of_training,
    remark_on_validation,
)
from pipeline.stages.split.former_folds import remove_former_outputs
from pipeline.stages.split.leakage import BOUNDARY, findings
from pipeline.stages.split.partition import Marks, Numbers, cases_of_site, grouped_folds, roles_in_fold
from pipeline.stages.split.quantiles import EVENT, NUMBER
from pipeline.stages.split.shortcuts import (
    Guess,
    intensity_predicts_site,
    mean_over_labels,
    site_predicts_label,
    site_predicts_labels,
    site_predicts_number,
    site_predicts_time,
)

COLUMNS = ["case", "patient", "site", "label", "role"]


def run(params: Params) -> None:
    """Write data/split/<k>.csv for every fold, the final model, every site left out and every repeated fold."""
    split = params.split
    cases = paths.read_table(paths.CASES).merge(paths.read_table(paths.INDEX), on="case")  # the prepared cases
    cohort = paths.read_json(paths.COHORT_FACTS)
    targets = targets_of_labels(cases, cohort["task"], cohort["classes"])
    cases["side"] = sides(cases, targets, params)
    found = findings(cases, read_signatures(cases["signature"].tolist()))
    drawn = cases["side"]
    cases, duplicates = settled(cases, found, targets, split)
    paths.write_table(duplicates, paths.DUPLICATES)
    if len(duplicates):
        print(f"{len(duplicates)} pairs of duplicate images found, see {paths.DUPLICATES}")
    if joined := cases.loc[cases["side"] != drawn, "patient"].nunique():
        print(f"{joined} patient(s) share an image with a test patient, and belong to the test set, too")
    grouped = groups_of(cases, targets, duplicates, cohort["task"])
    refuse(problems_of_split(cases, grouped, duplicates, split, classes=cohort["classes"]))
    acknowledged = acknowledged_patients(cases, split) + acknowledged_duplicates(duplicates, split)
    partitions = {repetition: assign(grouped, params, repetition) for repetition in ["", *split.repeated]}
    repeated = [name for names in split.repeated.values() for name in names]
    assigned = [*map(str, range(split.n_folds)), FINAL, *split.left_out, *repeated]
    roles = roles_of_all(assigned, grouped, partitions, params)
    for fold in assigned:
        paths.write_table(cases.assign(role=[Role(role) for role in roles[fold]])[COLUMNS], paths.split(fold))
    paths.write_table(counted_roles(grouped, roles), paths.COUNTS)
    known = cases.assign(**{name: grouped[name] for name in grouped if name in (NUMBER, EVENT)})
    facts = summary(cases, split, acknowledged, duplicates) | shortcuts(known, targets)
    paths.write_json(facts, paths.SPLIT_SUMMARY)
    if former := remove_former_outputs(split.folds, assigned):
        print(
            f"removed outputs of folds that split.folds no longer names: {', '.join(former)}; "
            "DVC's cache keeps what `dvc repro` trained"
        )


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
    fold_of_case[development] = grouped_folds(cases[development], params.split.n_folds, seed)
    return fold_of_case


def roles_of_all(
    folds: list[str], cases: pd.DataFrame, partitions: dict[str, Numbers], params: Params
) -> dict[str, list[str]]:
    """Give each case its role in each fold; refuse folds that leave too few patients of a class to learn from.

    Raises
    ------
    UserError
        The message counts the patients by fold and class.
    """
    held_out = {fold: held_out_in(fold, cases, partitions) for fold in folds}
    refuse([problem for fold in folds for problem in problems_of_training(fold, cases, held_out[fold])])
    roles = {fold: roles_of(fold, cases, partitions, params) for fold in folds}
    refuse([problem for fold in folds for problem in problems_of_roles(fold, cases, roles[fold])])
    fraction = params.split.validation_fraction
    for remark in filter(None, (remark_on_validation(fold, cases, roles[fold], fraction) for fold in folds)):
        print(remark)
    return roles


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
    return cases_of_site(cases, fold.partition("-")[2])


def shortcuts(cases: pd.DataFrame, targets: pd.DataFrame | None) -> dict[str, object]:
    """Measure possible confounders: how well the site predicts the label, and intensities predict the site."""
    intensities = cases[[column for column in cases if column.startswith("intensity_")]].to_numpy(dtype=float)
    by_label = {} if targets is None else site_predicts_labels(cases, targets)
    guess = site_predicts_number if NUMBER in cases else site_predicts_label
    guess = site_predicts_time if EVENT in cases else guess
    evaluated = {
        "site_predicts_label": guess(cases) if targets is None else mean_over_labels(by_label),
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
