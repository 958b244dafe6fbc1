"""What the page shows of how the predictions were evaluated: charts, tables and sentences, question by question."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.stages.report.blocks import (
    PATIENTS,
    TOP_LABEL,
    Block,
    Row,
    blocks,
    colour_of,
    is_beside,
    question_of,
    set_name,
)
from pipeline.stages.report.calibration_charts import calibration_chart
from pipeline.stages.report.decision_charts import decision_chart, risk_chart
from pipeline.stages.report.discrimination_charts import pr_chart, roc_chart
from pipeline.stages.report.forest import Whisker, forest_of
from pipeline.stages.report.increment import named, verdicts_on_images
from pipeline.stages.report.numbers import metric_of
from pipeline.stages.report.plain_words import of_a_threshold, of_hundred, of_pairs
from pipeline.stages.report.updating import when_it_pays

Tables = Mapping[str, Sequence[Row]]

CALIBRATION = {  # of the table of calibration, by the kind of metric: column, term, digits, value if perfect
    "Proper scores": [
        ("log_loss", "log-loss", 3, ""),
        ("brier", "Brier score", 3, ""),
        ("mcb", "MCB", 4, "mcb_null"),
        ("dsc", "DSC", 4, ""),
        ("unc", "UNC", 4, ""),
    ],
    "Calibration on the whole": [
        ("observed_expected", "O:E", 2, ""),
        ("calibration_intercept", "intercept", 2, ""),
        ("calibration_slope", "calibration slope", 2, ""),
    ],
    "Distance from perfect calibration": [
        ("ici", "ICI", 3, "ici_null"),
        ("ece_width", "ECE, equal width", 3, "ece_width_null"),
        ("ece_mass", "ECE, equal mass", 3, "ece_mass_null"),
        ("squared_error_debiased", "squared error, debiased", 4, ""),
    ],
    "Discrimination": [("auc", "AUC", 2, ""), ("average_precision", "average precision", 2, "")],
}
ENOUGH = {
    "neither": "enough for a rough estimate only: even intercept and slope need 100 of each",
    "slope": "enough for intercept and slope (100 of each), too few for the shape of the curve (200 of each)",
    "curve": "enough for the curve (200 of each)",
}
NARROW = 132  # pixels of a forest beside many columns
ASKED_BY = {"recalibration": "class"}  # the column that names the question, where it is not `of`


def assessed(
    tables: Tables, bins: Sequence[Row], units: Mapping[str, str], several: bool, used: Sequence[Row]
) -> dict[str, Any]:
    """Collect what assessment.html shows.

    Parameters
    ----------
    tables : mapping
        Rows of each of `assessing.assessment.TABLES`, each with its `scope`.
    bins : sequence of mapping
        Rows of the binned reliability (scope, prediction, observed, lower, upper, n), of the positive class or the top
        label, scopes with their state ("internal_calibrated").
    units : mapping
        Of each scope what is counted: "patients" or "images".
    several : bool
        Whether labels stand each by itself, so that the bins are of no single question.
    used : sequence of mapping
        Rows of `release.thresholds.thresholds_to_use`.

    Returns
    -------
    dict
        Under the name of each table its blocks, the first of which is to be read first; `charts` of the blocks of
        calibration_curve, decision_curve and risk_coverage; `words`, and what the template needs to name metrics.
    """
    tables = {**tables, "conformal": [row for row in tables["conformal"] if not is_trivial(row)]}
    parted = {name: blocks(rows, ASKED_BY.get(name, "of")) for name, rows in tables.items()}
    parted["subgroups"], forests = forests_of(parted["subgroups"], tables["calibration"])
    discrimination = [discrimination_of(block, tables, units) for block in parted["roc_band"]]
    return {
        "tables": parted,
        "calibration_charts": [
            [charts_of(block, scope, tables, [] if several else bins, units=units) for scope in block.sets]
            for block in parted["calibration"]
        ],
        "discrimination_charts": discrimination,
        "folds_drawn": [max((one.get("folds", []) for one in charts), key=len) for charts in discrimination],
        "forests": forests,
        "shares": shares,
        "decision_charts": [
            [decision_chart(scope, rows, units[scope]) for scope, rows in block.sets.items()]
            for block in parted["decision_curve"]
        ],
        "risk_charts": [
            [risk_chart(scope, rows, "answers" if several else units[scope]) for scope, rows in block.sets.items()]
            for block in parted["risk_coverage"]
        ],
        "words": in_plain_words({**tables, "operating_points": used}, units),
        "enough": ENOUGH,
        "metrics": CALIBRATION,
        "increments": verdicts_on_images(tables["increment"]),
        "named": named,
        "updates": [when_it_pays(block.rows) for block in parted["recalibration"]],
        "promises": promises,
        "accuracies": accuracies_in(tables["selective"]),
        "units": units,
    }


def without_sites(tables: Tables) -> dict[str, list[Row]]:
    """Leave out what is told site by site, for a cohort that names none."""
    by_site = {"subgroups": ("column",), "baselines": ("baseline",), "conformal": ("by", "kind")}
    return {
        name: [row for row in rows if all(row[column] != "site" for column in by_site.get(name, ()))]
        for name, rows in tables.items()
    }


def is_trivial(row: Row) -> bool:
    """Tell whether a row of conformal sets holds only empty ones, always wrong, or only full ones, always right."""
    return row["kind"] == "set size" and 1 in (row["share_empty"], row["share_full"])


def charts_of(
    block: Block, scope: str, tables: Tables, bins: Sequence[Row], units: Mapping[str, str]
) -> dict[str, Any]:
    """Draw the calibration of one question in one set of cases, with the bins where they are of this question."""
    asked = [name for name in questions_of(tables["calibration"]) if name == TOP_LABEL] or [block.question]
    own = [row for row in bins if row["scope"] == f"{scope}_calibrated"] if asked == [block.question] else []
    curve, counts = (
        [row for row in tables[name] if row["scope"] == scope and question_of(row) == block.question]
        for name in ("calibration_curve", "distribution")
    )
    return calibration_chart(scope, curve, counts, own, unit=units[scope])


def discrimination_of(block: Block, tables: Tables, units: Mapping[str, str]) -> list[dict[str, Any]]:
    """Draw the ROC and the precision-recall curve of one question in each set of cases."""
    charts = []
    for scope, rows in block.sets.items():
        folds, precisions, metrics = (
            [row for row in tables[name] if row["scope"] == scope and question_of(row) == block.question]
            for name in ("roc_of_folds", "pr_band", "calibration")
        )
        auc, precision = (
            next((metric_of(row, name) for row in metrics if row["state"] == "calibrated"), None)
            for name in ("auc", "average_precision")
        )
        charts.append(roc_chart(scope, rows, folds, auc, unit=units[scope]))
        charts.append(pr_chart(scope, precisions, precision, units[scope]))
    return charts


def forests_of(subgroups: Sequence[Block], calibration: Sequence[Row]) -> tuple[list[Block], list[Any]]:
    """Draw the AUC of each subgroup against that of its whole set.

    Returns
    -------
    list of Block
        The same rows, to which `drawn` was added.
    list of str
        The scale below each block.
    """
    whole = {(row["scope"], question_of(row)): row["auc"] for row in calibration if row["state"] == "calibrated"}
    drawn, scales = [], []
    for block in subgroups:
        known = [(row["auc"], row["auc_lower"], row["auc_upper"]) for row in block.rows]
        marks = [(whole.get((row["scope"], block.question)), colour_of(row["scope"])) for row in block.rows]
        plot = forest_of([Whisker(*metric, *mark) for metric, mark in zip(known, marks, strict=True)], NARROW)
        rows: list[Row] = [{**row, "drawn": svg} for row, svg in zip(block.rows, plot["drawn"], strict=True)]
        drawn.append(Block(block.heading, block.question, rows))
        scales.append(plot["axis"] if any(plot["drawn"]) else "")
    return drawn, scales


def shares(row: Row) -> dict[str, tuple[int, int]]:
    """Write the four shares of a threshold as how many of how many."""
    right, alarms, positives, negatives = (
        int(row[name]) for name in ("true_positives", "false_positives", "positives", "negatives")
    )
    spared = negatives - alarms
    return {
        "sensitivity": (right, positives),
        "specificity": (spared, negatives),
        "ppv": (right, right + alarms),
        "npv": (spared, spared + positives - right),
    }


def promises(block: Block) -> list[Block]:
    """Take conformal sets apart by whom the promise is made to: everyone first, then each class, each site."""
    whom = dict.fromkeys(row["by"] for row in block.rows)
    return [Block("", by, [row for row in block.rows if row["by"] == by]) for by in whom]


def accuracies_in(table: Sequence[Row]) -> list[str]:
    """Name the columns of accuracy at a coverage ("accuracy_at_0.8"), without their limits."""
    return [name for name in (table[0] if table else ()) if re.fullmatch(r"accuracy_at_[\d.]+", name)]


def questions_of(table: Sequence[Row]) -> list[str]:
    """Name the questions of a table, in their order."""
    return list(dict.fromkeys(question_of(row) for row in table))


def in_plain_words(tables: Tables, units: Mapping[str, str]) -> list[dict[str, Any]]:
    """Describe each set of cases in sentences; of the operating points, `tables` holds those to use."""
    scopes = [scope for scope in units if not is_beside({"scope": scope}, units)]
    first = next((block.question for block in blocks(tables["calibration"])), "")
    return [
        {"name": set_name(scope), "sentences": sentences_of(tables, scope, first, units[scope])} for scope in scopes
    ]


def sentences_of(tables: Tables, scope: str, question: str, unit: str) -> list[str]:
    """Tell one question in one set of cases."""

    def of(name: str) -> list[Row]:
        return [row for row in tables[name] if row["scope"] == scope and question_of(row) == question]

    curve = [row for row in of("calibration_curve") if row["state"] == "calibrated"]
    aucs = [metric_of(row, "auc") for row in of("calibration") if row["state"] == "calibrated"]
    points = [row for row in of("operating_points") if "at sensitivity" in row["rule"]]
    ranked = of_pairs(aucs[0], question, unit) if aucs else []
    return [*of_hundred(curve, question, unit), *ranked, *of_a_threshold(points, question, unit)]


def units_of(pooled: Mapping[str, Row], unit: str) -> dict[str, str]:
    """Say of each set of cases whether its rows are patients or images.

    Parameters
    ----------
    pooled : mapping
        Metrics with n and patients, by scope and state ("internal_calibrated"), patients before images.
    unit : str
        "patient", or "image" where no patients are known.
    """
    found = {}
    for name, metrics in pooled.items():
        scope, _, state = name.rpartition("_")
        alone = unit == "patient" and metrics["n"] == metrics["patients"]
        if state == "calibrated":
            found[scope] = "patients" if alone or scope.endswith(PATIENTS) else "images"
    return found
