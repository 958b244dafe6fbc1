"""compare: two or more runs side by side, paired case by case, and what was different about them.

A run is a folder with data/ (another checkout), `workspace` for the present one, or a revision or `dvc exp` of this
repository, which is read from git and from DVC's cache; the workspace stays as it is.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.commands.compare.finished_runs import Run, read_run
from pipeline.commands.compare.page import METRICS, write_comparison
from pipeline.errors import UserError
from pipeline.metrics.bootstrap import Bootstrap, Estimate
from pipeline.metrics.comparison import Compared, Predictions, Settings, in_common, paired, unpaired
from pipeline.params import PARAMS_FILE
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.patients import PATIENTS

Pair = tuple[Predictions, Predictions]

ABSENT = "(absent)"
LEAST_PATIENTS = 2  # an interval draws them
SHOWN_FILES = 6


@dataclass(frozen=True)
class Section:
    """A run against the reference on one set of cases, with words on which cases those are."""

    scope: str
    run: str
    words: str
    metrics: list[Compared]

    def as_values(self) -> dict[str, Any]:
        """Give plain values, for the page."""
        metrics = [asdict(one) | {"verdict": one.verdict} for one in self.metrics]
        return {"scope": self.scope, "run": self.run, "words": self.words, "metrics": metrics}


def run(arguments: argparse.Namespace) -> None:
    """Print every run against the first one, and write the page to --out."""
    if len(arguments.runs) < 2 or len(set(arguments.runs)) < len(arguments.runs):
        raise UserError("compare takes two or more runs, each once; the first one is what the others are compared with")
    reference, *others = told_apart([read_run(name) for name in arguments.runs])
    settings = settings_of(reference)
    sections = [section for other in others for section in sections_of(reference, other, settings)]
    changed = differences([one.params for one in (reference, *others)])
    files = {other.name: files_that_differ(reference.inputs, other.inputs) for other in others}
    names = [one.name for one in (reference, *others)]
    tell(names, sections, changed, files)
    if arguments.out:
        simulated = any(one.simulated for one in (reference, *others))
        values = [section.as_values() for section in sections]
        page = write_comparison(names, values, changed, files, reference.params["calibrate.confidence"], simulated)
        Path(arguments.out).write_text(page)


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """Add a number to names that several runs share, as do folders that end alike."""
    names = [one.name for one in runs]
    return [
        replace(one, name=f"{one.name} ({number})") if names.count(one.name) > 1 else one
        for number, one in enumerate(runs, start=1)
    ]


def settings_of(reference: Run) -> Callable[[str], Settings]:
    """Compute metrics of a scope as the reference run did: of the same cases they are those of its report.

    Raises
    ------
    UserError
        If its parameters lack one that is needed.
    """
    known = reference.params
    try:
        bins, replicates, confidence = (known[f"calibrate.{name}"] for name in ("bins", "n_bootstrap", "confidence"))
        seed = known["seed"]
    except KeyError as error:
        raise UserError(f"{reference.name}: {PARAMS_FILE} has no {error}; name a run of this version first") from error
    return lambda scope: Settings(bins, Bootstrap(replicates, confidence, seed_for(seed, "bootstrap", scope)))


def sections_of(reference: Run, other: Run, settings: Callable[[str], Settings]) -> list[Section]:
    """Compare each set of cases that both evaluated."""
    shared = [scope for scope in reference.sets if scope in other.sets]
    if not shared:
        told = f"{reference.name} evaluated {', '.join(reference.sets)}; {other.name} evaluated {', '.join(other.sets)}"
        raise UserError(f"these runs have no set of cases to be compared on: {told}")
    return [section_of(scope, reference, other, settings(scope)) for scope in shared]


def section_of(scope: str, reference: Run, other: Run, settings: Settings) -> Section:
    """Compare the cases that both evaluated; set the runs side by side where there are none, or classes differ."""
    before, after = reference.sets[scope], other.sets[scope]
    try:
        shared = in_common(before, after) if reference.labelling == other.labelling else None
    except ValueError as error:
        raise UserError(f"{paths.PREDICTIONS} of {reference.name} or {other.name}, {scope}: {error}") from error
    words = words_on_cases(scope, reference.name, other.name, (before, after), shared)
    if shared is None or len(set(shared[0].patients)) < LEAST_PATIENTS:
        return Section(scope, other.name, words, unpaired(before, after, settings))
    return Section(scope, other.name, words, paired(*shared, settings))


def words_on_cases(scope: str, reference: str, other: str, evaluated: Pair, shared: Pair | None) -> str:
    """Say on which cases two runs are compared, or why they are not."""
    unit = "patients" if scope.endswith(PATIENTS) else "cases"
    counts = [len(one.units) for one in evaluated]
    told = f"{counts[0]} {unit} of {reference}, {counts[1]} of {other}"
    if shared is None:
        return f"not compared, since the classes are not the same: {told}"
    same, patients = len(shared[0].units), len(set(shared[0].patients))
    if patients < LEAST_PATIENTS:
        return f"not compared, since only {same} with the same label are common to both: {told}"
    of = "" if unit == "patients" else f" of {patients} patients"
    return f"{same} {unit}{of}, evaluated by both with the same label" + (
        f", out of {told}" if {*counts} != {same} else ""
    )


def differences(of_runs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Give for every parameter that is not the same in all runs what it is in each."""
    keys = dict.fromkeys(key for known in of_runs for key in known)
    values = {key: [shown(known.get(key, ABSENT)) for known in of_runs] for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def shown(value: Any) -> str:
    """Write a value; of a path that begins at this machine's root only its end, for a page may be handed on."""
    if isinstance(value, str):
        return Path(value).name if Path(value).is_absolute() else value
    return json.dumps(value)


def files_that_differ(reference: Mapping[str, str], other: Mapping[str, str]) -> list[str] | None:
    """Name code and cohort that are not the same, by dvc.lock; None where a run has none."""
    if not reference or not other:
        return None
    differ = {path for path in {*reference, *other} if reference.get(path) != other.get(path)}
    return sorted(shown(path) for path in differ)


def tell(
    names: Sequence[str],
    sections: Sequence[Section],
    changed: Mapping[str, list[str]],
    files: Mapping[str, list[str] | None],
) -> None:
    """Print what was different about the runs, then a table for each set of cases."""
    print(f"parameters that differ: {len(changed) or 'none'}")
    for row in in_columns([["", *names], *([key, *values] for key, values in changed.items())] if changed else []):
        print(f"  {row}")
    for name, differ in files.items():
        print(f"code and cohort, {name} against {names[0]}: {words_on(differ)}")
    for section in sections:
        print(f"\n{section.scope.replace('_', ', ')}, {section.run} against {names[0]}: {section.words}")
        head = ["", names[0], section.run, "better by", "detectable", ""]
        for row in in_columns([head, *map(cells_of, section.metrics)]):
            print(f"  {row}")
    if any(not section.scope.startswith("internal") for section in sections):
        print("\nA run that is chosen by its metrics on a test set has used that set up: choose by the internal ones.")


def words_on(differ: list[str] | None) -> str:
    """Say which files differ, if that is known."""
    if differ is None:
        return "not known, for lack of a dvc.lock"
    more = f" and {len(differ) - SHOWN_FILES} more" if len(differ) > SHOWN_FILES else ""
    return ", ".join(differ[:SHOWN_FILES]) + more if differ else "the same"


def cells_of(one: Compared) -> list[str]:
    """Write a metric of two runs as the cells of a row."""
    found = one.better_by
    least = f"{found.minimum_detectable:.3f}" if found and found.minimum_detectable is not None else ""
    by = interval(found, signed=True) if found else ""
    return [METRICS[one.metric], interval(one.reference), interval(one.run), by, least, one.verdict]


def interval(metric: Estimate, signed: bool = False) -> str:
    """Write a metric and, in brackets, its interval."""
    if metric.value is None:
        return "-"
    value = f"{metric.value:+.3f}" if signed else f"{metric.value:.3f}"
    return value if metric.lower is None else f"{value} ({metric.lower:.3f} to {metric.upper:.3f})"


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad the cells of rows, so that columns stand below each other."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
