"""split: lock the test set, deal the folds by patient, and let nobody stand on both sides."""

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.assessing.partition import Leak, grouped_folds, locked_by_hash, refuse_leaks, roles_in_fold
from pipeline.params import FINAL, Params, Split, seed_for
from pipeline.paths import Role
from pipeline.refusal import Refusal

COLUMNS = ["case", "patient", "site", "label", "role"]


def run(params: Params) -> None:
    """Write data/split/<k>.csv for every fold of the partition and for the final model."""
    cases = paths.read_table(paths.CASES)
    cases["side"] = sides(cases, params.split, seed_for(params.seed, "split", "locked"))
    acknowledged = gate(cases, params.split)
    development = (cases["side"] == "development").to_numpy()
    fold_of_case = np.full(len(cases), -1)
    try:
        fold_of_case[development] = grouped_folds(
            cases[development], params.split.n_folds, seed_for(params.seed, "split", "folds")
        )
    except ValueError as error:
        raise Refusal(f"{error}; lower split.n_folds, or leave the class out through cohort.classes") from error
    for fold in [*map(str, range(params.split.n_folds)), FINAL]:
        roles = roles_in_fold(
            cases,
            fold_of_case,
            None if fold == FINAL else int(fold),
            params.split.inner_fraction,
            seed_for(params.seed, "split", "inner", fold),
        )
        paths.write_table(cases.assign(role=[Role(role) for role in roles])[COLUMNS], paths.split(fold))
    paths.write_json(summary(cases, params.split, acknowledged), paths.SPLIT_SUMMARY)


def sides(cases: pd.DataFrame, split: Split, seed: int) -> pd.Series:
    """Say of each case whether it is developed on, locked away, or there without a label."""
    side = pd.Series("development", index=cases.index)
    locked = {
        "none": pd.Series(False, index=cases.index),
        "given": cases["split"] == "test",
        "sites": cases["site"].isin(split.test_sites),
        "patients": pd.Series(locked_by_hash(cases["patient"].tolist(), split.test_fraction, seed), index=cases.index),
    }[split.test]
    unknown = [site for site in split.test_sites if site not in set(cases["site"])]
    if split.test == "sites" and unknown:
        raise Refusal(
            f"split.test_sites names '{unknown[0]}', but the cohort's sites are {', '.join(sorted(set(cases['site'])))}"
        )
    side[locked] = "locked"
    without_label = (cases["label"] == "") | (cases["split"] == "unlabelled")
    side[cases["split"] == "calibration"] = "calibration"
    side[without_label] = "unlabelled"
    if split.test != "none" and not (side == "locked").any():
        raise Refusal(f"split.test is '{split.test}', but it locks no case; set it to 'none' to go without a test set")
    return side


def gate(cases: pd.DataFrame, split: Split) -> list[str]:
    """Refuse a patient on both sides of the locked door, by pseudonym."""
    labelled = cases[cases["side"] != "unlabelled"]
    try:
        return refuse_leaks(labelled, (labelled["side"] == "locked").tolist(), split.allow_leaks)
    except Leak as leak:
        raise Refusal(
            f"split.test: {leak}:\n  {', '.join(leak.patients)}\n"
            "Lock by patient instead (split.test: patients), or correct the column split of cohort.csv; to run all "
            "the same, name them in split.allow_leaks, and every figure of the test set is stamped with it.\n"
            "`python -m pipeline whois PATIENT` tells who it is."
        ) from leak


def summary(cases: pd.DataFrame, split: Split, acknowledged: list[str]) -> dict[str, object]:
    """Put down how the test set was locked, whether it is external, and what was let through."""
    development_sites = set(cases.loc[cases["side"] == "development", "site"])
    locked_sites = set(cases.loc[cases["side"] == "locked", "site"])
    external = bool(locked_sites) and not (development_sites & locked_sites)
    return {
        "test": split.test,
        "external": external,
        "locked_sites": sorted(locked_sites - {""}),
        "acknowledged_leaks": acknowledged,
        "cases": {str(side): int(count) for side, count in cases["side"].value_counts().sort_index().items()},
        "patients": {str(side): int(n) for side, n in cases.groupby("side")["patient"].nunique().sort_index().items()},
    }
