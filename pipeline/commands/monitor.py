"""monitor: whether a released model still meets the patients it was developed on, and is still calibrated.

Takes the table that `predict --out` wrote, rows of many days one below the other, and labels as far as they are known.
It may be run as often as one likes: the alarms hold over the whole time (see `assessing/monitoring`).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.assessing.figures.calibration import judged_confidence
from pipeline.assessing.monitoring.charts import FALSE_ALARMS, Chart, limit_for
from pipeline.assessing.monitoring.exchangeability import drift
from pipeline.assessing.monitoring.miscalibration import miscalibration
from pipeline.assessing.monitoring.reference import log_loss
from pipeline.assessing.monitoring.windows import windows
from pipeline.refusal import Refusal
from pipeline.releasing.manifest import BrokenBundle
from pipeline.releasing.opening import open_bundle, reference_in
from pipeline.releasing.zipped import unpacked
from pipeline.reporting.monitoring import write_monitoring
from pipeline.seeds import seed_for

Config = dict[str, Any]
Floats = NDArray[np.float64]

FIGURES = ("auc", "observed_expected", "calibration_intercept", "calibration_slope")


@dataclass(frozen=True)
class Watched:
    """What is known of the scans of a model in use.

    Attributes
    ----------
    scans : pandas.DataFrame
        In the order of time: scan, patient, a column for each class (NaN of what could not be read), label (or NaN),
        `date` where it is known.
    classes : list of str
    dated : bool
        Whether the order is that of dates.
    """

    scans: pd.DataFrame
    classes: list[str]
    dated: bool

    @property
    def patients(self) -> pd.DataFrame:
        """Keep the first scan of each patient: several of one are alike, and would look like evidence."""
        return self.scans.drop_duplicates("patient")

    @property
    def read(self) -> pd.DataFrame:
        """Keep the first scan of each patient that could be read."""
        return self.scans[self.scans[self.classes[0]].notna()].drop_duplicates("patient")

    @property
    def labelled(self) -> pd.DataFrame:
        """Keep the scans that were read and have a label."""
        return self.scans[self.scans[self.classes[0]].notna() & self.scans["label"].notna()]


def run(arguments: argparse.Namespace) -> None:
    """Print the charts and the windows, and write them to --out.

    Raises
    ------
    Refusal
        If a table cannot be used, or an alarm sounded.
    """
    try:
        with unpacked(Path(arguments.bundle)) as folder:
            bundle, reference = open_bundle(folder), reference_in(folder)
    except BrokenBundle as error:
        raise Refusal(str(error)) from error
    if arguments.window < 1:
        raise Refusal(f"--window {arguments.window}: name how many labelled scans a window holds, 1 or more")
    watched = read_watched(Path(arguments.results), arguments.labels, bundle.classes, reference)
    charts = charts_of(watched, reference)
    table = windows_of(watched, arguments.window)
    tell(watched, charts, table, reference)
    if arguments.out:
        page = write_monitoring(
            [shown(chart, of) for chart, of in charts],
            table.astype(object).where(table.notna(), None).to_dict("records"),
            facts_of(watched, reference),
        )
        Path(arguments.out).write_text(page)
    if sounded := [chart.name for chart, _ in charts if chart.alarm]:
        raise Refusal(f"alarm: {', '.join(sounded)}; find out why before the model is used on")


def read_watched(results: Path, labels: str | None, classes: list[str], reference: Config) -> Watched:
    """Read both tables and put them together in the order of time.

    Raises
    ------
    Refusal
        If a column is missing, a scan stands in `labels` twice or in the results not at all, or a label is no class.
    """
    scans = table_of(results, ["scan", *classes])
    if "patient" not in scans:
        scans["patient"] = scans["scan"]
    for name in classes:
        scans[name] = probabilities_in(scans[name], results)
    if "ood_score" in scans:
        scans["ood_score"] = pd.to_numeric(scans["ood_score"], errors="coerce")
    scans = scans.drop(columns=["label"], errors="ignore")
    scans = scans.assign(label=None) if labels is None else with_labels(scans, Path(labels), classes, reference)
    dated = "date" in scans
    if dated:
        scans["date"] = dates_of(scans["date"], results)
        scans = scans.sort_values("date", kind="stable")
    return Watched(scans.reset_index(drop=True), classes, dated)


def table_of(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table as text, and make sure of its columns."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise Refusal(f"{file}: this is not a readable csv file ({error})") from error
    if missing := [name for name in columns if name not in table]:
        raise Refusal(f"{file}: there is no column '{missing[0]}'; predict --out writes {', '.join(columns)}")
    return table.replace("", np.nan)


def probabilities_in(column: "pd.Series[Any]", file: Path) -> "pd.Series[Any]":
    """Read probabilities; empty is NaN, for a scan that could not be read."""
    values = pd.to_numeric(column, errors="coerce")
    if (values.isna() & column.notna()).any() or not values.dropna().between(0, 1).all():
        raise Refusal(f"{file}: the column '{column.name}' holds something other than probabilities")
    return values


def dates_of(column: "pd.Series[Any]", file: Path) -> "pd.Series[Any]":
    """Read dates, each of which must be there: an order with gaps is none."""
    values = pd.to_datetime(column, errors="coerce", format="ISO8601")
    if values.isna().any():
        raise Refusal(f"{file}: the column 'date' must hold a date such as 2026-03-31 in every row, or be left out")
    return values


def with_labels(scans: pd.DataFrame, file: Path, classes: list[str], reference: Config) -> pd.DataFrame:
    """Add what became known of the scans."""
    labels = table_of(file, ["scan", "label"])[["scan", "label"]].dropna()
    if reference["log_loss"] is None:
        raise Refusal(f"{file}: labels that stand each by itself are not watched yet; leave the file out")
    for table, of in ((labels, file), (scans, "the results")):
        if (twice := table["scan"][table["scan"].duplicated()]).any():
            raise Refusal(f"{of}: '{twice.iloc[0]}' stands there twice, so that its label cannot be told")
    if strange := sorted(set(labels["label"]) - set(classes)):
        raise Refusal(f"{file}: '{strange[0]}' is no class of this model; it knows {', '.join(classes)}")
    if unknown := sorted(set(labels["scan"]) - set(scans["scan"])):
        raise Refusal(f"{file}: the scan '{unknown[0]}' does not stand in the results")
    return scans.merge(labels, on="scan", how="left", validate="one_to_one")


def charts_of(watched: Watched, reference: Config) -> list[tuple[Chart, pd.DataFrame]]:
    """Bet against every way in which things can have changed; with each chart the scans it follows."""
    everyone, read, labelled = watched.patients, watched.read, watched.labelled.drop_duplicates("patient")
    bets: dict[str, tuple[Floats, pd.DataFrame]] = {
        f"probability of {name}": (drift_of(name, np.array(values), read[name].to_numpy(float)), read)
        for name, values in reference["forecasts"].items()
    }
    if "ood_score" in watched.scans:
        known, now = np.array(reference["ood_score"]), read["ood_score"].to_numpy(float)
        bets["distance from development"] = (drift_of("ood_score", known, now, only_higher=True), read)
    unread = np.repeat([0.0, 1.0], [reference["scans"] - reference["refused"], reference["refused"]])
    now = everyone[watched.classes[0]].isna().to_numpy(float)
    bets["scans that cannot be read"] = (drift_of("refused", unread, now, only_higher=True), everyone)
    if len(labelled):
        probabilities, truth = forecasts_of(labelled, watched.classes)
        loss = log_loss(probabilities[np.arange(len(truth)), truth])
        known = np.array(reference["log_loss"])
        bets["loss"] = (drift_of("loss", known, loss, only_higher=True), labelled)
        bets["calibration"] = (miscalibration(*judged_confidence(probabilities, truth)), labelled)
    return [(Chart(name, log, limit_for(len(bets))), scans) for name, (log, scans) in bets.items()]


def drift_of(name: str, reference: Floats, values: Floats, only_higher: bool = False) -> Floats:
    """Bet that a figure changed; the lots that order equal values are the same each time one looks."""
    return drift(reference, values, seed_for(0, "monitor", name), only_higher)


def forecasts_of(scans: pd.DataFrame, classes: list[str]) -> tuple[Floats, NDArray[np.int64]]:
    """Give the probabilities (n, K) and the true classes (n,)."""
    return scans[classes].to_numpy(float), scans["label"].map(classes.index).to_numpy(np.int64)


def windows_of(watched: Watched, size: int) -> pd.DataFrame:
    """Judge the labelled scans, window by window."""
    scans = watched.labelled
    if scans.empty:
        return pd.DataFrame()
    confidence, events = judged_confidence(*forecasts_of(scans, watched.classes))
    table = windows(confidence, events, scans["patient"].to_numpy(str), size, seed_for(0, "monitor", "windows"))
    for name in ("from", "to") if watched.dated else ():
        table[f"{name}_date"] = scans["date"].dt.date.astype(str).to_numpy()[table[name] - 1]
    return table


def facts_of(watched: Watched, reference: Config) -> Config:
    """Count what was looked at."""
    order = "of their dates" if watched.dated else "of the table, which is taken for that of time"
    return {
        "scans": len(watched.scans),
        "patients": len(watched.patients),
        "unread": int(watched.scans[watched.classes[0]].isna().sum()),
        "labelled": len(watched.labelled),
        "developed_on": reference["patients"],
        "order": order,
        "false_alarms": FALSE_ALARMS,
        "classes": watched.classes,
    }


def shown(chart: Chart, scans: pd.DataFrame) -> Config:
    """Give a chart as plain values."""
    return {
        "name": chart.name,
        "n": len(chart.log_capital),
        "most": chart.most,
        "limit": chart.limit,
        "alarm": chart.alarm,
        "since": chart.since,
        "words": words_on(chart, scans),
        "log_capital": chart.log_capital.tolist(),
    }


def words_on(chart: Chart, scans: pd.DataFrame) -> str:
    """Say whether there was an alarm, when, and since when there seems to be something."""
    if not len(chart.log_capital):
        return "nothing to be judged"
    if chart.alarm is None or chart.since is None:
        return "no alarm"
    at, began = when(scans, chart.alarm), when(scans, chart.since + 1)
    return f"ALARM at patient {chart.alarm}{at}, changed since about patient {chart.since + 1}{began}"


def when(scans: pd.DataFrame, number: int) -> str:
    """Give the date of a patient, where it is known."""
    return f" ({scans['date'].iloc[number - 1].date()})" if "date" in scans else ""


def tell(watched: Watched, charts: list[tuple[Chart, pd.DataFrame]], table: pd.DataFrame, reference: Config) -> None:
    """Print what was found."""
    facts = facts_of(watched, reference)
    print(
        f"{facts['scans']} scans of {facts['patients']} patients, {facts['unread']} could not be read, "
        f"{facts['labelled']} have labels; the order is that {facts['order']}"
    )
    limit = charts[0][0].limit
    print(
        f"against {reference['patients']} patients of development; alarm at {limit:.0f}, a false one in at most "
        f"{FALSE_ALARMS:.0%} of all models in use, however long and often one looks"
    )
    for chart, scans in charts:
        print(f"  {chart.name:<34} evidence {chart.most:>9.3g} at most   {words_on(chart, scans)}")
    for row in table.to_dict("records"):
        figures = ", ".join(f"{name} {interval(row, name)}" for name in FIGURES)
        print(f"  labelled scans {row['from']} to {row['to']}: {row['events']} events; {figures}")


def interval(row: Any, name: str) -> str:
    """Write a figure with its interval."""
    value, lower, upper = (row[f"{name}{end}"] for end in ("", "_lower", "_upper"))
    return "-" if pd.isna(value) else f"{value:.3f} ({lower:.3f} to {upper:.3f})"
