"""split: lock the test set, assign the folds by patient, and let nobody stand on both sides."""

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
from pipeline.stages.split.leakage import findings, joined_patients, open_leaks
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
    cases = paths.read_table(paths.CASES).merge(paths.read_table(paths.INDEX), on="case")  # the prepared ones
    targets = targets_of_labels(cases, paths.read_json(paths.COHORT_FACTS))
    cases["side"] = sides(cases, targets, params.split, seed_for(params.seed, "split", "locked"))
    copies = findings(cases, read_signatures(cases["signature"].tolist()))
    if targets is not None:
        copies["labels"] = compared(copies, targets.set_axis(cases["case"]))
    paths.write_table(copies, paths.DUPLICATES)
    acknowledged = gate(cases, params.split) + check_duplicates(copies, params.split)
    patients = cases["patient"].tolist()
    cases["patient"] = joined_patients(cases, copies)  # whoever shares an image is assigned as one
    assigned = cases if targets is None else cases.join(targets.add_prefix(TARGET))
    assigns = {repetition: assign(assigned, params, repetition) for repetition in ["", *params.split.repeated]}
    further = [name for names in params.split.repeated.values() for name in names]
    for fold in [*map(str, range(params.split.n_folds)), FINAL, *params.split.left_out, *further]:
        roles = roles_of(fold, assigned, assigns, params)
        table = cases.assign(patient=patients, role=[Role(role) for role in roles])
        paths.write_table(table[COLUMNS], paths.split(fold))
    cases["patient"] = patients
    paths.write_json(
        summary(cases, params.split, acknowledged, copies) | shortcuts(cases, targets), paths.SPLIT_SUMMARY
    )


def targets_of_labels(cases: pd.DataFrame, facts: dict[str, Any]) -> pd.DataFrame | None:
    """Spread the labels of a multilabel cohort over columns; None where a case has one class."""
    if facts["task"] != "multilabel":
        return None
    targets = targets_of(cases["label"].tolist(), facts["classes"], "multilabel")
    return pd.DataFrame(targets, index=cases.index, columns=facts["classes"])


def compared(copies: pd.DataFrame, targets: pd.DataFrame) -> NDArray[np.str_]:
    """Say of each pair of copies whether any label that is known of both contradicts; `targets` by case."""
    one, other = (targets.loc[copies[end]].to_numpy() for end in ("case", "other"))
    both = ~np.isnan(one) & ~np.isnan(other)
    contradicts = (both & (one != other)).any(axis=1)
    return np.select([contradicts, both.any(axis=1)], ["contradict", "same"], "unknown")


def assign(cases: pd.DataFrame, params: Params, repetition: str) -> Numbers:
    """Assign the development cases to folds; every repetition ("r2") by a seed of its own, the first ("") unnamed."""
    development = (cases["side"] == "development").to_numpy()
    fold_of_case = np.full(len(cases), -1)
    seed = seed_for(params.seed, "split", "folds", *filter(None, [repetition]))
    try:
        fold_of_case[development] = grouped_folds(cases[development], params.split.n_folds, seed)
    except ValueError as error:
        several = has_several_labels(cases)  # there, cohort.classes refuses a case for any label that it does not name
        cure = "take the label out of the column label" if several else "leave the class out through cohort.classes"
        raise UserError(f"{error}; lower split.n_folds, or {cure}") from error
    return fold_of_case


def roles_of(fold: str, cases: pd.DataFrame, assigns: dict[str, Numbers], params: Params) -> list[str]:
    """Give each case its role in one training; blind-SITE differs from without-SITE in the unlabelled cases alone."""
    blind = fold.startswith("blind-")
    held_out = held_out_in(fold, cases, assigns)
    unseen = cases["site"].isin(cases.loc[held_out, "site"]).to_numpy() if blind else None
    twin = f"without-{fold.removeprefix('blind-')}" if blind else fold
    seed = seed_for(params.seed, "split", "inner", twin)
    return roles_in_fold(cases, held_out, params.split.validation_fraction, seed, unseen)


def held_out_in(fold: str, cases: pd.DataFrame, assigns: dict[str, Numbers]) -> Marks:
    """Mark the cases that one training holds out: a part of a partition, a site, or none."""
    if fold == FINAL:
        return np.zeros(len(cases), dtype=np.bool_)
    repetition, _, number = fold.rpartition("-")  # "r2-0", or of the first repetition "0"
    if repetition in assigns:
        return np.asarray(assigns[repetition] == int(number))
    try:
        return cases_of_site(cases, fold.partition("-")[2])
    except ValueError as error:
        raise UserError(f"split.folds names '{fold}', but {error}") from error


def sides(cases: pd.DataFrame, targets: pd.DataFrame | None, split: Split, seed: int) -> pd.Series:
    """Say of each case whether it is developed on, test away, or there without a label or with unknown ones only."""
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
            f"split.test is '{split.test}', but it locks no case; set it to 'none' to go without a test set"
        )
    return side


def gate(cases: pd.DataFrame, split: Split) -> list[str]:
    """Refuse a patient in two of development, calibration and the test set, by pseudonym."""
    labelled = cases[cases["side"] != "unlabelled"]
    try:
        return refuse_leaks(labelled, split.allow_leaks)
    except Leak as leak:
        raise UserError(
            f"split.test: {leak}:\n  {', '.join(leak.patients)}\n"
            "Lock by patient instead (split.test: patients), or correct the column split of cohort.csv; to run all "
            "the same, name them in split.allow_leaks: nothing is calibrated on them, and where they are in the test "
            "set, every metric of it is stamped with it.\n"
            "`python -m pipeline whois PATIENT` tells who it is."
        ) from leak


def check_duplicates(copies: pd.DataFrame, split: Split) -> list[str]:
    """Refuse copies that do harm across the train/test boundary or by contradicting labels, by pseudonym."""
    if len(copies):
        print(f"{len(copies)} pairs of copies found, see {paths.DUPLICATES}")
    leaks = open_leaks(copies, split.allow_leaks)
    if len(leaks):
        lines = [
            f"{row.case} ({row.side}), {row.other} ({row.other_side}): {row.check}, labels {row.labels}, {row.across}"
            for row in leaks.itertuples()
        ]
        raise UserError(
            "the same image stands under two names:\n  " + "\n  ".join(lines) + "\n"
            "Take one of each pair out of cohort.csv or correct its label; to run all the same, name one case of each "
            "pair in split.allow_leaks, and every metric of the test set is stamped with it.\n"
            "`python -m pipeline whois CASE` tells which file it is."
        )
    through = copies[copies["across"] == "train/test boundary"]
    named = {*through["case"], *through["other"], *through["patient"], *through["other_patient"]}
    return sorted(named & set(split.allow_leaks))


def shortcuts(cases: pd.DataFrame, targets: pd.DataFrame | None) -> dict[str, object]:
    """Measure what a model could learn instead of the disease: label from site, site from grey values."""
    intensities = cases[[column for column in cases if column.startswith("intensity_")]].to_numpy(dtype=float)
    by_label = {} if targets is None else site_predicts_labels(cases, targets)
    evaluated = {
        "site_predicts_label": site_predicts_label(cases) if targets is None else mean_over_labels(by_label),
        "intensity_predicts_site": intensity_predicts_site(cases, intensities),
    }
    told: dict[str, object] = {name: as_rounded(guess) for name, guess in evaluated.items()}
    each = {name: as_rounded(guess) for name, guess in by_label.items()}
    return told | ({"site_predicts_labels": each} if each else {})


def as_rounded(guess: Guess | None) -> dict[str, object] | None:
    """Give plain values, rounded to six digits; None where nothing could be measured."""
    if guess is None:
        return None
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(guess).items()}


def summary(cases: pd.DataFrame, split: Split, acknowledged: list[str], copies: pd.DataFrame) -> dict[str, object]:
    """Put down how the test set was test, whether it is external, and what was let through."""
    fitted = cases["side"].isin(["development", "calibration"])  # a map fitted at a site is development there
    test_sites = set(cases.loc[cases["side"] == "test", "site"])
    external = bool(test_sites) and not (set(cases.loc[fitted, "site"]) & test_sites)
    return {
        "test": split.test,
        "external": external,
        "test_sites": sorted(test_sites - {""}),
        "acknowledged_leaks": acknowledged,
        "duplicates_across_test_boundary": len(copies[copies["across"] == "train/test boundary"]),
        "cases": {str(side): int(count) for side, count in cases["side"].value_counts().sort_index().items()},
        "patients": {str(side): int(n) for side, n in cases.groupby("side")["patient"].nunique().sort_index().items()},
    }
