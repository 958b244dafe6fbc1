"""Compare runs case by case, and print a table or write a page."""

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
from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.comparison import Compared, Predictions, Settings, in_common, paired, unpaired
from pipeline.metrics.wording import ALIKE, metric_in_words
from pipeline.params import PARAMS_FILE
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.patients import PATIENTS
from pipeline.stages.report.run_summary import padded

Pair = tuple[Predictions, Predictions]

ABSENT = "(absent)"
LEAST_PATIENTS = 2  # the bootstrap resamples patients
SHOWN_FILES = 6


@dataclass(frozen=True)
class Section:
    """The comparison of a run with the reference on one set of cases; `words` says which cases these are."""

    scope: str
    run: str
    words: str
    metrics: list[Compared]

    def as_values(self) -> dict[str, Any]:
        """Return plain values, for the page."""
        metrics = [asdict(one) | {"verdict": one.verdict} for one in self.metrics]
        return {"scope": self.scope, "run": self.run, "words": self.words, "metrics": metrics}


def run(arguments: argparse.Namespace) -> None:
    """Compare each run with the first one; print tables, and write the page to --out."""
    if len(arguments.runs) < 2 or len(set(arguments.runs)) < len(arguments.runs):
        raise UserError("name two or more different runs; the first one is the reference")
    reference, *others = with_unique_names([read_run(name) for name in arguments.runs])
    settings = settings_of(reference)
    sections = [section for other in others for section in sections_of(reference, other, settings)]
    changed = differences([one.params for one in (reference, *others)])
    files = {other.name: files_that_differ(reference.inputs, other.inputs) for other in others}
    names = [one.name for one in (reference, *others)]
    print_comparison(names, sections, changed, files)
    if arguments.out:
        simulated = any(one.simulated for one in (reference, *others))
        values = [section.as_values() for section in sections]
        page = write_comparison(
            names,
            values,
            parameters=changed,
            files=files,
            confidence=reference.params["calibrate.confidence"],
            simulated=simulated,
        )
        Path(arguments.out).write_text(page)


def with_unique_names(runs: Sequence[Run]) -> list[Run]:
    """Append a number to names that several runs share, such as two folders that end in the same word."""
    names = [one.name for one in runs]
    return [
        replace(one, name=f"{one.name} ({number})") if names.count(one.name) > 1 else one
        for number, one in enumerate(runs, start=1)
    ]


def settings_of(reference: Run) -> Callable[[str], Settings]:
    """Return the bootstrap settings of each scope, as the reference run used them in its report.

    Raises
    ------
    UserError
        If the reference run lacks a parameter that is needed.
    """
    known = reference.params
    try:
        bins, replicates, confidence = (known[f"calibrate.{name}"] for name in ("bins", "n_bootstrap", "confidence"))
        seed = known["seed"]
    except KeyError as error:
        raise UserError(f"{reference.name}: {PARAMS_FILE} has no {error}; choose a newer run as reference") from error
    return lambda scope: Settings(bins, Bootstrap(replicates, confidence, seed_for(seed, "bootstrap", scope)))


def sections_of(reference: Run, other: Run, settings: Callable[[str], Settings]) -> list[Section]:
    """Compare the two runs on each set of cases that both evaluated."""
    shared = [scope for scope in reference.sets if scope in other.sets]
    if not shared:
        evaluated = "; ".join(f"{one.name} evaluated {', '.join(one.sets)}" for one in (reference, other))
        raise UserError(f"these runs have no set of cases in common ({evaluated}); compare runs of the same cohort")
    return [section_of(scope, reference, other, settings(scope)) for scope in shared]


def section_of(scope: str, reference: Run, other: Run, settings: Settings) -> Section:
    """Compare two runs on the cases that both evaluated; without such cases, or if classes differ, unpaired."""
    before, after = reference.sets[scope], other.sets[scope]
    try:
        shared = in_common(before, after) if reference.task_spec == other.task_spec else None
    except ValueError as error:
        raise UserError(f"{paths.PREDICTIONS} of {reference.name} or {other.name}, {scope}: {error}") from error
    names = reference.name, other.name
    words = describe_cases(scope, names, (before, after), shared)
    if shared is None or len(set(shared[0].patients)) < LEAST_PATIENTS:
        return Section(scope, other.name, words, unpaired(before, after, settings))
    return Section(scope, other.name, words, paired(shared[0], shared[1], settings))


def describe_cases(scope: str, names: tuple[str, str], evaluated: Pair, shared: Pair | None) -> str:
    """Say on which cases two runs are compared, or why they are not compared."""
    unit = "patients" if scope.endswith(PATIENTS) else "cases"
    counts = [len(one.units) for one in evaluated]
    each = f"{counts[0]} {unit} in {names[0]}, {counts[1]} in {names[1]}"
    if shared is None:
        return f"not compared, because the classes differ ({each})"
    same, patients = len(shared[0].units), len(set(shared[0].patients))
    if patients < LEAST_PATIENTS:
        return f"not compared, because only {same} {unit} have the same label in both runs ({each})"
    of = "" if unit == "patients" else f" of {patients} patients"
    return f"{same} {unit}{of} with the same label in both runs" + (f" ({each})" if {*counts} != {same} else "")


def differences(of_runs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Collect the parameters that differ between runs, with the value in each run."""
    keys = dict.fromkeys(key for known in of_runs for key in known)
    values = {key: [format_value(known.get(key, ABSENT)) for known in of_runs] for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def format_value(value: Any) -> str:
    """Format a value; shorten an absolute path to its last part, because pages are passed on to others."""
    if isinstance(value, str):
        return Path(value).name if Path(value).is_absolute() else value
    return json.dumps(value)


def files_that_differ(reference: Mapping[str, str], other: Mapping[str, str]) -> list[str] | None:
    """List code and cohort files whose hashes in dvc.lock differ; None if a run has no dvc.lock."""
    if not reference or not other:
        return None
    differ = {path for path in {*reference, *other} if reference.get(path) != other.get(path)}
    return sorted(format_value(path) for path in differ)


def print_comparison(
    names: Sequence[str],
    sections: Sequence[Section],
    changed: Mapping[str, list[str]],
    files: Mapping[str, list[str] | None],
) -> None:
    """Print the parameters and files that differ, then a table for each set of cases."""
    print(f"parameters that differ: {len(changed) or 'none'}")
    for row in padded([["", *names], *([key, *values] for key, values in changed.items())] if changed else []):
        print(f"  {row}")
    for name, differ in files.items():
        print(f"code and cohort, {name} against {names[0]}: {describe_files(differ)}")
    for section in sections:
        print(f"\n{section.scope.replace('_', ', ')}, {section.run} against {names[0]}: {section.words}")
        head = ["", names[0], section.run, "improvement", "detectable", ""]
        for row in padded([head, *map(cells_of, section.metrics)]):
            print(f"  {row}")
    if any(not section.scope.startswith("internal") for section in sections):
        print("\nChoose between runs by internal metrics: choosing by a test set makes its metrics too optimistic.")


def describe_files(differ: list[str] | None) -> str:
    """Name the first files that differ."""
    if differ is None:
        return "unknown, because a run has no dvc.lock"
    more = f" and {len(differ) - SHOWN_FILES} more" if len(differ) > SHOWN_FILES else ""
    return ", ".join(differ[:SHOWN_FILES]) + more if differ else "the same"


def cells_of(one: Compared) -> list[str]:
    """Format a metric of two runs as the cells of a row."""
    found = one.better_by
    least = f"{found.minimum_detectable:.3f}" if found and found.minimum_detectable is not None else ""
    by = metric_in_words(asdict(found), style="+.3f", same=ALIKE) if found else ""
    reference, run = (metric_in_words(asdict(metric)) for metric in (one.reference, one.run))
    return [METRICS[one.metric], reference, run, by, least, one.verdict]
