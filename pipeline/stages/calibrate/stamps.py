"""Check the settings of the stage, and collect the facts that are printed beside every metric."""

from typing import Any

from pipeline import paths
from pipeline.errors import UserError
from pipeline.schema import FINAL, Params
from pipeline.stages.calibrate.patients import Rule
from pipeline.stages.calibrate.predictions import name_of_test_set


def refuse_settings(params: Params, patients_known: bool) -> None:
    """Check that calibrators can be cross-fitted, and that patients are known if they are to be evaluated."""
    repeated = {f"folds of {name}": folds for name, folds in params.split.repeated.items()}
    for what, folds in {"numbered folds": params.split.numbered, **repeated}.items():
        if len(folds) < 2:
            raise UserError(
                f"split.folds: name at least two {what}, so that no case is evaluated by a calibrator fitted on it"
            )
    if params.calibrate.per_patient in ("mean", "max") and not patients_known:
        raise UserError(
            "calibrate.per_patient: cohort.csv has no column patient_id; add it, or set per_patient to none"
        )


def stamps(params: Params, shown: bool, rule: Rule | None) -> dict[str, Any]:
    """Collect the facts that the report prints beside every metric."""
    facts, split = paths.read_json(paths.COHORT_FACTS), paths.read_json(paths.SPLIT_SUMMARY)
    trained = [FINAL] * (FINAL in params.split.folds) + list(params.split.numbered)
    adaptations = [paths.read_json(paths.adaptation(fold)) for fold in trained]
    test_seen = sorted(set(split["test_sites"]) & set(adaptations[0]["unlabelled_sites"]))
    return {
        "simulated": facts["simulated"],
        "unit_of_intervals": "patient" if facts["patients_known"] else "image",
        "per_patient": rule or "none",
        "test_set": {"scope": name_of_test_set(), "shown": shown, "acknowledged_leaks": split["acknowledged_leaks"]},
        "sites_seen_unlabelled": test_seen,
        "evaluated_images_seen": any(record["evaluated_seen"] for record in adaptations),
    }
