"""The operating point of a release: its thresholds, and their metrics on patients on whom they were not chosen."""

from typing import Any

from pipeline import paths
from pipeline.bundle.operating_point import MOST_PROBABLE
from pipeline.metrics.evaluation import TaskSpec
from pipeline.metrics.operating import rule
from pipeline.schema import Params
from pipeline.stages.release.metric_tables import metric_in, read_metrics

Config = dict[str, Any]
METRICS = ("sensitivity", "specificity", "ppv", "npv")
COUNTS = ("n", "patients", "events")


def operating_point(params: Params, task: TaskSpec) -> Config:
    """Collect the operating point `release.operating_point`, as the metadata of a bundle hold it.

    Returns
    -------
    dict
        `rule`; `kind` and `level` of what is fixed; and `points`, one for each class and unit (scan, patient): its
        `threshold` on released probabilities, and by scope what was measured on patients it was not chosen on. With
        more than two exclusive classes, the rule is the most probable class, without points.
    """
    if task.task != "multilabel" and (len(task.classes) > 2 or task.task == "ordinal"):
        return {"rule": MOST_PROBABLE, "points": []}
    kind = params.release.operating_point
    name = rule(kind, getattr(params.calibrate, kind))
    points = [
        {"class": label, "unit": unit, "threshold": threshold, "evaluated": evaluated(name, label, unit)}
        for unit, by_kind in paths.read_json(paths.THRESHOLDS).items()
        for label, threshold in by_kind[kind].items()
        if threshold is not None
    ]
    return {"rule": name, "kind": kind, "level": getattr(params.calibrate, kind), "points": points}


def evaluated(name: str, label: str, unit: str) -> dict[str, Config]:
    """Read by scope how an operating point did, with intervals; its thresholds were chosen on other patients."""
    table = read_metrics(paths.assessed("operating_points"))
    of_unit = table["scope"].str.endswith("_patients") == (unit == "patient")
    rows = table[(table["rule"] == name) & (table["of"] == label) & of_unit].to_dict("records")
    return {
        str(row["scope"]): {count: int(row[count]) for count in COUNTS} | {one: metric_in(row, one) for one in METRICS}
        for row in rows
    }
