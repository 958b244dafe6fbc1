"""Write the page that compares runs: one file, no script, no network."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.stages.report.blocks import Row, is_beside, set_name
from pipeline.stages.report.page import HERE, templates

METRICS = {
    "auc": "AUC",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "calibration_slope": "calibration slope",
    "ece": "ECE, equal width",
}
VERDICTS = {"better": "pass", "worse": "fail"}  # classes of the style sheet
WIDTH, HEIGHT = 170, 18


def write_comparison(
    names: Sequence[str],
    sections: Sequence[Row],
    *,
    parameters: Mapping[str, Sequence[str]],
    files: Mapping[str, Sequence[str] | None],
    confidence: float,
    simulated: bool,
) -> str:
    """Fill page.html; names, parameters and paths are escaped.

    Parameters
    ----------
    names : sequence of str
        Names of the runs; the first one is the reference.
    sections : sequence of mapping
        One for each set of cases and run: `scope`, `run`, `words` (which cases were compared), and `metrics`, rows of
        `metric`, `reference` and `run` (value, lower, upper), `better_by` (also with minimum_detectable; or None) and
        `verdict`.
    parameters : mapping
        Parameters that differ, by key: one value for each run.
    files : mapping
        By the name of each run except the reference, the files that differ from it; None if unknown.
    confidence : float
        Level of the intervals, in (0, 1).
    simulated : bool
        Whether any cases are simulated.
    """
    environment = templates(Path(__file__).parent)
    environment.globals |= {"metric_names": METRICS, "colours": VERDICTS}
    return environment.get_template("page.html").render(
        style=Markup((HERE / "page.css").read_text()),  # our own file
        names=names,
        sets=sets_of(sections),
        parameters=parameters,
        files=files,
        level=f"{confidence:.0%}",
        simulated=simulated,
        test=any(not section["scope"].startswith("internal") for section in sections),
    )


def sets_of(sections: Sequence[Row]) -> list[dict[str, Any]]:
    """Group the runs by set of cases, and add a chart of each difference."""
    scopes = {section["scope"] for section in sections}
    order = list(dict.fromkeys(section["scope"] for section in sections))
    found = []
    for scope, some in groupby(
        sorted(sections, key=lambda one: order.index(one["scope"])), key=lambda one: one["scope"]
    ):
        runs, beside = list(some), is_beside({"scope": scope}, scopes)
        heading = set_name(scope) + (", image by image" if beside else "")
        found.append({"heading": heading, "runs": [dict(one) | {"metrics": drawn(one, runs)} for one in runs]})
    return found


def drawn(section: Row, runs: Iterable[Row]) -> list[dict[str, Any]]:
    """Add a chart to each metric, on the scale that all runs of the set share."""
    everyone = [row for one in runs for row in one["metrics"]]
    return [
        dict(row) | {"svg": difference(row, reach_of(other for other in everyone if other["metric"] == row["metric"]))}
        for row in section["metrics"]
    ]


def reach_of(rows: Iterable[Row]) -> float:
    """Find the largest distance from zero among differences, limits and detectable differences."""
    limits = ("value", "lower", "upper", "minimum_detectable")
    numbers = [row["better_by"][name] for row in rows if row["better_by"] for name in limits]
    return max((abs(number) for number in numbers if number is not None), default=0.0)


def difference(row: Row, reach: float) -> Markup:
    """Draw a difference with its interval, the line of no difference and the band of undetectable differences."""
    found = row["better_by"]
    if not found or found["lower"] is None or not reach:
        return Markup("")
    value, low, high = (_x(found[name], reach) for name in ("value", "lower", "upper"))
    band, middle = _x(found["minimum_detectable"], reach), HEIGHT / 2
    words = f"{found['value']:+.3f}, from {found['lower']:+.3f} to {found['upper']:+.3f}; positive is better"
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{words}">'
        f'<rect class="area c5" x="{WIDTH - band:.1f}" width="{2 * band - WIDTH:.1f}" y="1" height="{HEIGHT - 2}"/>'
        f'<line class="diagonal" x1="{WIDTH / 2}" x2="{WIDTH / 2}" y1="0" y2="{HEIGHT}"/>'
        f'<line class="interval c1" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
        f'<circle class="dot c1" cx="{value:.1f}" cy="{middle}" r="3.2"/></svg>'
    )


def _x(number: float, reach: float) -> float:
    return WIDTH / 2 + (WIDTH / 2 - 5) * number / reach
