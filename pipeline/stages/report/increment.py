"""What the images add to columns of the cohort, in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.metrics.wording import ADDS, BOTH, COLUMNS, HARMS, VERDICTS
from pipeline.stages.report.blocks import set_name
from pipeline.stages.report.numbers import metric_of, show_interval, show_number

Row = Mapping[str, Any]


def verdicts_on_images(rows: Sequence[Row]) -> list[Markup]:
    """Say for each set of cases whether the image improves the columns' log-loss, error or Brier score."""
    gains = [row for row in rows if (row["prediction"], row["over"]) == (BOTH, COLUMNS)]
    return [Markup("{}: {}").format(set_name(row["scope"]).capitalize(), _said(row)) for row in gains]


def _said(row: Row) -> Markup:
    first = next(name for name in VERDICTS if name in row)
    gain, least = show_interval(metric_of(row, first), 3), show_number(row["minimum_detectable"], 3)
    if row["verdict"] == ADDS:
        said = "the image adds to the columns; the {metric} falls by {gain}."
    elif row["verdict"] == HARMS:
        said = "the image makes predictions worse than those from the columns alone; the gain in {metric} is {gain}."
    else:
        said = (
            "no evidence that the image adds to the columns; the {metric} falls by {gain}, and a true fall of "
            "{least} would be found in four of five such studies."
        )
    return Markup(said).format(gain=gain, least=least, metric=VERDICTS[first])


def named(row: Row) -> str:
    """Name what a row of the table evaluates: a prediction, or its gain over another one."""
    return f"gain of {row['prediction']} over {row['over']}" if row["over"] else str(row["prediction"])
