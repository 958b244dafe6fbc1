"""What the page shows of a survival cohort: metrics of risks, Kaplan-Meier curves of risk groups, and calibration."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from pipeline.metrics.wording import RISK
from pipeline.stages.report.blocks import PATIENTS, Row, colour_of, set_name
from pipeline.stages.report.plots import Area, Axes, Line, chart

COLUMNS = {
    "c": "Harrell's C-index",
    "uno_c": "Uno's C-index",
    "integrated_brier": "Integrated Brier score",
    "null_brier": "Without a model",
    "ipa": "Gain in Brier score",
    "calibration_slope": "Slope",
    "observed_expected": "Observed by expected",
}
NAMES = COLUMNS | {
    **{
        "c_gain": "Gain",
        "model_c": "Of the model",
        "difference": "Higher by",
        "model_brier": "Brier score of the model",
    },
    **{"auc": "AUC", "brier": "Brier score"},
}
SHOWN_OF = {  # metrics of the tables besides that of the folds
    "repetitions": ("c", "ipa"),
    "sites": ("c", "ipa", "calibration_slope", "observed_expected"),
    "members": ("c", "c_gain"),
    "baselines": ("c", "model_c", "difference", "integrated_brier", "model_brier"),
    "increment": ("integrated_brier", "c"),
    "groups": ("c", "observed_expected", "integrated_brier"),
    "times": ("auc", "brier", "null_brier", "ipa", "observed_expected"),
}
COLOURS = {"low": 1, "intermediate": 3, "high": 2}
CHAPTERS = (
    (
        "discrimination",
        "Risk groups",
        "Kaplan-Meier curves of the risk groups, with pointwise limits (Greenwood, log-log). The groups are tertiles "
        "of the log hazards of development patients; those of each fold were set on the other folds.",
    ),
    (
        "times",
        "Risks until chosen times",
        "AUC of patients with the event until a time against those without, Brier score beside that of the "
        "Kaplan-Meier curve of the other patients, and observed by expected events; censored patients are represented "
        "by weights (inverse probability of censoring).",
    ),
    (
        "calibration",
        "Calibration",
        "Observed (Kaplan-Meier) risk at each mean predicted risk, in bins of equally many cases, for each time.",
    ),
    (
        "censoring",
        "Censoring",
        "How many patients were censored, and how long patients were observed: the median of the time until censoring "
        "(reverse Kaplan-Meier).",
    ),
)


def time_values(
    facts: Row, stamps: Row, pooled: Mapping[str, Row], folds: Mapping[str, Row], tables: Mapping[str, Sequence[Row]]
) -> dict[str, Any]:
    """Collect what time_page.html shows.

    Parameters
    ----------
    facts, stamps : mapping
        data/cohort/cohort.json and data/calibrated/stamps.json.
    pooled : mapping
        Recalibrated metrics of each evaluated set by its scope, patients first.
    folds : mapping
        Metrics of each fold.
    tables : mapping
        Rows of the tables of `calibrate.survival_tables`, and of predictions and reliability.
    """
    scope, unit = stamps["test_set"]["scope"], facts["unit"]
    level = "" if stamps["per_patient"] == "none" else PATIENTS
    shown = {one for one in pooled if one.endswith(level)}
    of_level = {name: [row for row in tables[name] if row["scope"] in shown] for name in ("by_time", "risk_groups")}
    risks = [str(name) for name in tables["predictions"][0] if str(name).startswith(RISK)]
    return {
        **{"unit_in_words": unit, "of_unit": f" {unit}", "digits": 2, "raised": "the hazard"},
        "last_time": risks[-1].removeprefix(RISK),
        "digits_of": {key: 3 if "brier" in key else 2 for key in NAMES},
        **{"columns": COLUMNS, "names": NAMES, "shown_of": SHOWN_OF, "chapters": CHAPTERS},
        "places_of_chapters": [(place, name) for place, name, _ in CHAPTERS],
        "pooled": {set_name(one): metrics for one, metrics in pooled.items()},
        "folds": folds,
        "internal": pooled[f"internal{level}"],
        "test": pooled.get(f"{scope}{level}"),
        "test_scope": scope,
        **{"counted_of": counted_of, "error_in_words": error_in_words},
        "charts": charts_of(tables, unit, shown),
        "by_time": of_level["by_time"],
        "risk_groups": [list(rows) for _, rows in groupby(of_level["risk_groups"], lambda row: row["scope"])],
        "follow_up": [row for row in tables["follow_up"] if row["scope"] in shown],
        "baselines": tables["baselines"],
        "groups": tables["subgroups"],
        "members": tables["members"],
        "repetitions": tables["repeats"],
        "left_out_sites": tables["left_out"],
    }


def counted_of(metrics: Row) -> str:
    """Count the cases of a set, their patients, and those with the event."""
    return f"{metrics['n']} cases of {metrics['patients']} patients, {metrics['events']} of them with the event"


def charts_of(tables: Mapping[str, Sequence[Row]], unit: str, shown: set[str]) -> dict[str, list[dict[str, Any]]]:
    """Draw the charts of each chapter for every evaluated set."""
    found: dict[str, list[dict[str, Any]]] = {place: [] for place, _, _ in CHAPTERS}
    for scope, rows in groupby(tables["kaplan_meier"], lambda row: str(row["scope"])):
        if scope in shown:
            found["discrimination"].append(curves(scope, list(rows), unit))
    for scope, rows in groupby(tables["reliability"], lambda row: str(row["scope"]).removesuffix("_calibrated")):
        if scope in shown:
            found["calibration"].append(calibration_chart(scope, list(rows), unit))
    return found


def curves(scope: str, rows: Sequence[Row], unit: str) -> dict[str, Any]:
    """Draw the Kaplan-Meier curve of each risk group with its limits."""
    groups = {name: [row for row in rows if row["group"] == name] for name in COLOURS}
    lines = [Line(name, stairs(of_group), COLOURS[name]) for name, of_group in groups.items() if of_group]
    areas = [Area(band(of_group), COLOURS[name]) for name, of_group in groups.items() if len(band(of_group)) > 1]
    last = max(float(row["time"]) for row in rows)
    axes = Axes(f"{unit} since the scan", "without the event", (0.0, last), (0.0, 1.0))
    title = f"Kaplan-Meier curves of the risk groups, {set_name(scope)}"
    counts = ", ".join(f"{name} {of_group[0]['at_risk']}" for name, of_group in groups.items() if of_group)
    return {"svg": chart(title, axes, lines, areas=areas), "caption": f"{title}, n: {counts}"}


def stairs(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Turn the steps of a curve into the points of its line."""
    points: list[tuple[float, float]] = []
    for row in rows:
        points += [(float(row["time"]), points[-1][1])] if points else []
        points.append((float(row["time"]), float(row["survival"])))
    return points


def band(rows: Sequence[Row]) -> list[tuple[float, float, float]]:
    """Turn the limits of a curve into the points of a band, as far as there are limits."""
    points: list[tuple[float, float, float]] = []
    for row in rows:
        if row["lower"] is None or row["upper"] is None:
            break
        limits = (float(row["lower"]), float(row["upper"]))
        points += [(float(row["time"]), *points[-1][1:])] if points else []
        points.append((float(row["time"]), *limits))
    return points


def calibration_chart(scope: str, rows: Sequence[Row], unit: str) -> dict[str, Any]:
    """Draw the observed risk at each mean predicted risk, a line for each time."""
    lines = []
    for number, (time, some) in enumerate(groupby(rows, lambda row: float(row["time"]))):
        points = [(float(row["prediction"]), float(row["observed"])) for row in some]
        colour = colour_of(scope) if number == 0 else 2 + number
        lines.append(Line(f"{time:g}", points, min(colour, 6), marks=True))
    axes = Axes("predicted risk", "observed risk", diagonal=True)
    title = f"Calibration until times in {unit}, {set_name(scope)}"
    count = sum(row["n"] for row in rows) / max(len(lines), 1)
    return {"svg": chart(title, axes, lines), "caption": f"{title}, n = {count:.0f}"}


def error_in_words(label: str, prediction: float, unit: str, last: str) -> str:
    """Say what happened to a case and what was predicted.

    >>> error_in_words("12.5+", 0.8, "months", "24")
    'no event until 12.5 months; predicted risk until 24 months: 80 %'
    """
    what = f"no event until {label[:-1]} {unit}" if label.endswith("+") else f"event at {label} {unit}"
    return f"{what}; predicted risk until {last} {unit}: {prediction * 100:.0f} %"
