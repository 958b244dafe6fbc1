"""monitor: whether a released model still meets the patients it was developed on, and is still calibrated.

Takes the table that `predict --out` wrote, rows of many days one below the other, and labels as far as they are known.
It may be run as often as one likes: the alarms hold over the whole time (see `assessing/monitoring`).
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.bundle.manifest import BrokenBundle
from pipeline.bundle.monitoring_reference import losses_of
from pipeline.bundle.opening import open_bundle, reference_in
from pipeline.bundle.zipped import unpacked
from pipeline.commands.monitor.evidence_chart import FALSE_ALARMS, Chart, limit_for
from pipeline.commands.monitor.exchangeability import drift
from pipeline.commands.monitor.miscalibration import miscalibration, pooled, waiting
from pipeline.commands.monitor.page import write_monitoring
from pipeline.commands.monitor.scans import Watched, read_watched
from pipeline.commands.monitor.windows import windows
from pipeline.errors import CheckFailed, UserError
from pipeline.metrics.questions import Question
from pipeline.seeds import seed_for

Config = dict[str, Any]
Floats = NDArray[np.float64]
Bets = dict[str, tuple[Floats, pd.DataFrame]]

METRICS = ("auc", "observed_expected", "calibration_intercept", "calibration_slope")


def run(arguments: argparse.Namespace) -> None:
    """Print the charts and the windows, and write them to --out.

    Raises
    ------
    UserError
        If a table cannot be used, or an alarm sounded.
    """
    try:
        with unpacked(Path(arguments.bundle)) as folder:
            bundle, reference = open_bundle(folder), reference_in(folder)
    except BrokenBundle as error:
        raise UserError(str(error)) from error
    if arguments.window < 1:
        raise UserError(f"--window {arguments.window}: name how many labelled scans a window holds, 1 or more")
    several = bundle.calibrator["activation"] == "sigmoid"
    watched = read_watched(Path(arguments.results), arguments.labels, bundle.classes, several)
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
    if sounded := [chart.name + of_found(chart) for chart, _ in charts if chart.alarm]:
        raise CheckFailed(f"alarm: {', '.join(sounded)}; find out why before the model is used on")


def charts_of(watched: Watched, reference: Config) -> list[tuple[Chart, pd.DataFrame]]:
    """Bet against every way in which things can have changed; with each chart the scans it follows."""
    bets = bets_on_scans(watched, reference) | bets_on_losses(watched, reference)
    limit = limit_for(most_charts(watched, reference))
    charts = [(Chart(name, log, limit), scans) for name, (log, scans) in bets.items()]
    labelled = watched.labelled.drop_duplicates("patient")
    if len(labelled):
        parts = capitals_of(watched, labelled)
        by_label = parts if watched.several else {}
        charts.append((Chart("calibration", pooled(list(parts.values())), limit, by_label), labelled))
    return charts


def most_charts(watched: Watched, reference: Config) -> int:
    """Count the charts there are once all is known: the limit must not hang on which labels came in when one looked."""
    losses = reference["log_loss"] or {}
    watched_scans, calibration = len(reference["predictions"]) + 2, 1  # with distance and what cannot be read
    return watched_scans + (len(losses) if watched.several else 1) + calibration


def bets_on_scans(watched: Watched, reference: Config) -> Bets:
    """Bet that predictions, distances or the readable share of scans are other than in development."""
    everyone, read = watched.patients, watched.read
    bets: Bets = {
        f"probability of {name}": (drift_of(name, np.array(values), read[name].to_numpy(float)), read)
        for name, values in reference["predictions"].items()
    }
    if "ood_score" in watched.scans:
        known, now = np.array(reference["ood_score"]), read["ood_score"].to_numpy(float)
        bets["distance from development"] = (drift_of("ood_score", known, now, only_higher=True), read)
    unread = np.repeat([0.0, 1.0], [reference["scans"] - reference["refused"], reference["refused"]])
    now = everyone[watched.classes[0]].isna().to_numpy(float)
    bets["scans that cannot be read"] = (drift_of("refused", unread, now, only_higher=True), everyone)
    return bets


def bets_on_losses(watched: Watched, reference: Config) -> Bets:
    """Bet that predictions say less of what became known than in development; of each label by itself.

    Ranks of one label are a martingale of their own, and so these bets cannot be pooled as those on calibration are.
    """
    labelled = watched.labelled.drop_duplicates("patient")
    if labelled.empty:
        return {}
    known = reference["log_loss"] if watched.several else {"": reference["log_loss"]}
    losses = losses_of(*watched.predictions(labelled), watched.classes)
    return {
        f"loss of {name}" if name else "loss": (
            drift_of(f"loss {name}".strip(), np.array(known[name]), loss, only_higher=True),
            labelled.iloc[rows],
        )
        for name, (loss, rows) in losses.items()
        if known and name in known  # releases from before labels were watched have none
    }


def capitals_of(watched: Watched, labelled: pd.DataFrame) -> dict[str, Floats]:
    """Bet that predictions are no longer right: logarithms (n,) of the wealth after each patient, by question.

    Who bets on a label of which nothing is known yet waits with his share: it must not be assigned out anew later on.
    """
    found = {name: np.zeros(len(labelled)) for name in (watched.classes if watched.several else [])}
    for question in watched.questions(labelled):
        found[question.name] = waiting(
            miscalibration(question.prediction, question.events), question.rows, len(labelled)
        )
    return found


def drift_of(name: str, reference: Floats, values: Floats, only_higher: bool = False) -> Floats:
    """Bet that a metric changed; the lots that order equal values are the same each time one looks."""
    return drift(reference, values, seed_for(0, "monitor", name), only_higher)


def windows_of(watched: Watched, size: int) -> pd.DataFrame:
    """Evaluate the labelled scans, window by window; each label in those in which it is known."""
    scans = watched.labelled
    questions = watched.questions(scans) if len(scans) else []
    tables = [windows_on(question, scans.iloc[question.rows], watched, size) for question in questions]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def windows_on(question: Question, scans: pd.DataFrame, watched: Watched, size: int) -> pd.DataFrame:
    """Evaluate the scans of which the answer to a question is known."""
    patients = scans["patient"].to_numpy(str)
    table = windows(question.prediction, question.events, patients, size, seed_for(0, "monitor", "windows"))
    for name in ("from", "to") if watched.dated else ():
        table[f"{name}_date"] = scans["date"].dt.date.astype(str).to_numpy()[table[name] - 1]
    return table.assign(label=question.name if watched.several else "")


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
        "several": watched.several,
    }


def shown(chart: Chart, scans: pd.DataFrame) -> Config:
    """Give a chart as plain values."""
    return {
        "name": chart.name,
        "n": len(chart.log_wealth),
        "most": chart.most,
        "limit": chart.limit,
        "alarm": chart.alarm,
        "since": chart.since,
        "words": words_on(chart, scans),
        "found": chart.found,
        "log_wealth": chart.log_wealth.tolist(),
        "parts": [
            {"name": one.name, "most": one.most, "limit": one.limit, "enough": one.alarm is not None}
            for one in chart.apart
        ],
    }


def words_on(chart: Chart, scans: pd.DataFrame) -> str:
    """Say whether there was an alarm, when, and since when there seems to be something."""
    if not len(chart.log_wealth):
        return "nothing to be evaluated"
    if chart.alarm is None or chart.since is None:
        return "no alarm"
    at, began = when(scans, chart.alarm), when(scans, chart.since + 1)
    whose = of_found(chart) or (f", mostly of {chart.foremost}," if chart.foremost else "")
    return f"ALARM{whose} at patient {chart.alarm}{at}, changed since about patient {chart.since + 1}{began}"


def of_found(chart: Chart) -> str:
    """Name the labels whose evidence is enough by itself."""
    return f" of {', '.join(chart.found)}" if chart.found else ""


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
    if reference["log_loss"] is None and facts["labelled"]:
        print("this release keeps no losses of its labels, which are not watched; release it anew to have them watched")
    for chart, scans in charts:
        print(f"  {chart.name:<34} evidence {chart.most:>9.3g} at most   {words_on(chart, scans)}")
    for row in table.to_dict("records"):
        metrics = ", ".join(f"{name} {interval(row, name)}" for name in METRICS)
        of = f"{row['label']}: " if row["label"] else ""
        print(f"  {of}labelled scans {row['from']} to {row['to']}: {row['events']} events; {metrics}")


def interval(row: Any, name: str) -> str:
    """Write a metric with its interval."""
    value, lower, upper = (row[f"{name}{end}"] for end in ("", "_lower", "_upper"))
    return "-" if pd.isna(value) else f"{value:.3f} ({lower:.3f} to {upper:.3f})"
