"""The page that sets runs side by side: one file, no script, no network."""

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
VERDICTS = {"better": "pass", "worse": "fail"}  # how the style sheet colours them
WIDTH, HEIGHT = 170, 18


def write_comparison(
    names: Sequence[str],
    sections: Sequence[Row],
    parameters: Mapping[str, Sequence[str]],
    files: Mapping[str, Sequence[str] | None],
    confidence: float,
    simulated: bool,
) -> str:
    """Fill page.html; names, parameters and paths are escaped.

    Parameters
    ----------
    names : sequence of str
        Of the runs; the first is the one that the others are compared with.
    sections : sequence of mapping
        One for each set of cases and run: `scope`, `run`, `words` on which cases these are, and `metrics`, rows of
        `metric`, `reference` and `run` (value, lower, upper), `better_by` (also with minimum_detectable; or None) and
        `verdict`.
    parameters : mapping
        The values of each run, by the key of a parameter that is not the same in all.
    files : mapping
        By the name of each run but the first, the code that differs from the first one's; None where not known.
    confidence : float
        Level of the intervals.
    simulated : bool
        Whether any of the cases were drawn by a program.
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
    """Put the runs that were compared on one set of cases together, with a drawing of every difference."""
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
    """Add to each metric the drawing of its difference, on the scale that all runs of the set share."""
    everyone = [row for one in runs for row in one["metrics"]]
    return [
        dict(row) | {"svg": difference(row, reach_of(other for other in everyone if other["metric"] == row["metric"]))}
        for row in section["metrics"]
    ]


def reach_of(rows: Iterable[Row]) -> float:
    """Find how far the differences of a metric, and what could be detected, lie from zero."""
    limits = ("value", "lower", "upper", "minimum_detectable")
    numbers = [row["better_by"][name] for row in rows if row["better_by"] for name in limits]
    return max((abs(number) for number in numbers if number is not None), default=0.0)


def difference(row: Row, reach: float) -> Markup:
    """Draw a difference with its interval about the line of no difference, over the band of what goes undetected."""
    found = row["better_by"]
    if not found or found["lower"] is None or not reach:
        return Markup("")
    value, low, high = (_x(found[name], reach) for name in ("value", "lower", "upper"))
    band, middle = _x(found["minimum_detectable"], reach), HEIGHT / 2
    words = f"{found['value']:+.3f}, from {found['lower']:+.3f} to {found['upper']:+.3f}; right is better"
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{words}">'
        f'<rect class="area c5" x="{WIDTH - band:.1f}" width="{2 * band - WIDTH:.1f}" y="1" height="{HEIGHT - 2}"/>'
        f'<line class="diagonal" x1="{WIDTH / 2}" x2="{WIDTH / 2}" y1="0" y2="{HEIGHT}"/>'
        f'<line class="interval c1" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
        f'<circle class="dot c1" cx="{value:.1f}" cy="{middle}" r="3.2"/></svg>'
    )


def _x(number: float, reach: float) -> float:
    return WIDTH / 2 + (WIDTH / 2 - 5) * number / reach
