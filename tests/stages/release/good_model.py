"""What earlier stages would measure of a good model, and gates that it passes."""

import pandas as pd

from pipeline.stages.release.measured import Measured

LIMITS = {
    "min_auc_lower": 0.7,
    "slope": (0.5, 2.0),
    "max_external_drop": 0.1,
    "min_events": 100,
    "min_subgroup_auc": 0.6,
    "min_baseline_gain": 0.0,
    "max_coverage_shortfall": 0.0,
    "min_answered": 0.5,
    "recipe_evaluated": True,
    "patients_known": True,
    "card": ("intended_use", "ethics"),
}
COUNTS = {"n": 270, "patients": 270, "events": 120}
PROBE = {"training": "probe", "adaptation": "adabn", "encoder": "tiny"}


def interval(name, value, lower, upper):
    """Write a metric as a table does, in three columns."""
    return {name: value, f"{name}_lower": lower, f"{name}_upper": upper}


def metrics(**changes):
    """Write the metrics of a set, with changes as (value, lower, upper)."""
    known = {
        "auc": {"value": 0.9, "lower": 0.8, "upper": 0.95},
        "calibration_slope": {"value": 1.1, "lower": 0.8, "upper": 1.4},
    }
    known |= {name: dict(zip(("value", "lower", "upper"), one, strict=True)) for name, one in changes.items()}
    return known | COUNTS


def groups(*rows):
    """Write the table of subgroups."""
    columns = ["column", "value", "auc", "auc_lower", "auc_upper", "too_few", "of", "scope"]
    return pd.DataFrame(rows, columns=columns)


def baseline(name, difference, auc=0.6, scope="external_patients", over="all cases together"):
    """Write a row of the table of baselines; the AUC of the baseline has an interval of 0.1 to both sides."""
    known = {"baseline": name, "scope": scope, "over": over, **COUNTS, **interval("auc", auc, auc - 0.1, auc + 0.1)}
    return known | {"model_auc": 0.9} | interval("difference", *difference)


def covered(value, lower, upper, scope="external_patients"):
    """Write a row of the table of conformal coverage, of which 0.9 is promised."""
    return {"promised": 0.9, "scope": scope, **COUNTS, **interval("coverage_of_patients", value, lower, upper)}


def decision(threshold, gain, scope="external_patients"):
    """Write a row of the decision curve."""
    return {"threshold": threshold, "scope": scope, **COUNTS, **interval("gain", *gain)}


def difference(scope, metric, value, upper, lower=-0.5):
    """Write a row of the comparison of adaptation with the pretrained encoder."""
    known = {"recipe": "probe", "scope": scope, "comparison": "adaptation", "metric": metric}
    return known | {"value": value, "lower": lower, "upper": upper, "n": 29, "patients": 24}


NORTH = ("site", "north", 0.85, 0.75, 0.92, False, "ill", "internal_patients")
GOOD = Measured(
    scopes=("internal_patients", "external_patients"),
    internal=metrics(),
    test=metrics(auc=(0.85, 0.7, 0.95)),
    test_cases=270,
    binary=True,
    patients_known=True,
    stamps={"simulated": False, "evaluated_images_seen": False},
    leaks=0,
    duplicates=0,
    classes=pd.DataFrame({"class": ["well", "ill"], "n": [150, 120]}),
    subgroups=groups(NORTH, ("sex", "F", None, None, None, True, "ill", "internal_patients")),
    baselines=[baseline("site", (0.4, 0.3, 0.5)), baseline("age, sex", (0.2, 0.1, 0.3))],
    decisions=[decision(0.05, (0.0, -0.1, 0.1)), decision(0.5, (0.2, 0.1, 0.3))],
    coverage=[covered(0.9, 0.86, 0.93), covered(0.91, 0.87, 0.94, "internal_patients")],
    differences=[difference("external", "auc", 0.05, 0.1, -0.01)],
    answered={
        **{"scans": 300, "answered": 280, "patients": 270, "patients_answered": 260},
        **{"lower": 0.93, "upper": 0.98},
    },
    recipes=dict.fromkeys(("0", "1", "2", "final"), PROBE),
    members=["final"],
    statements={"intended_use": "on adults", "ethics": "number 5", "contact": ""},
    neighbours=0,
    features_agreed=False,
    licences={"Apache-2.0": False},
    non_commercial=False,
)
