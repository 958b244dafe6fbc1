"""Estimate the time of each stage that would run: from its record if that still applies, else from measured steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline import costs, paths, runtime
from pipeline.commands.plan.measuring import Units
from pipeline.imaging.geometry import Geometry
from pipeline.learning.training.alignment.losses import ALIGNMENT_LOSSES
from pipeline.learning.training.finetuning import PARTS
from pipeline.learning.training.strategies import STRATEGIES
from pipeline.params import AUTO
from pipeline.paths import Role
from pipeline.schema import FINAL, Params
from pipeline.stages.adapt.catalogue import OBJECTIVES
from pipeline.stages.finetune.members import stops_early
from pipeline.stages.finetune.presets import DISTILLED, FULL, augmentations_of, full_of, views_of, with_preset
from pipeline.stages.finetune.scored import scored_roles

DVC_SECONDS = 1.5  # of `dvc repro` for each stage: hashes and locks
RECORDED = (0.8, 1.25)  # range around a recorded time
MEASURED = (0.7, 1.4)  # range around a time from measured steps
TEST_SHARE = 0.25  # of the cases, if the table decides and was not split yet
SETS = 3  # of cases that are evaluated, about: internal, test, by patient or by image
TABLES = 10.0  # what all tables of a set take, in summaries
SITES_LEFT_OUT = 2  # splits of evidence besides the folds and the test set
EPISODE = 0.0015  # seconds of a few-shot episode
LABELLED = 0.75  # of the cases, in a split of evidence
EXPORT = 2.5  # seconds to write an export and to load what writes it
CORRUPTIONS, CORRUPTED = 12, 30  # kinds of corruption, and scans of each, in the tests of the operating limits
GRADCAM, OCCLUSION = 4.0, 60.0  # cost of a saliency map, in passes of a case

LIGHT = ("cohort", "split", "calibrate", "report")  # they do not import torch
START, LIGHT_START = 0.75, 0.3  # shares of the start of `plan`, which imports more than any stage
READING = ("cohort", "preprocess")  # work scan by scan, in several processes

Job = tuple[str, str]


@dataclass(frozen=True)
class Range:
    """A time from `low` to `high`, in seconds, and whether it comes from a record of an earlier run."""

    low: float
    high: float
    recorded: bool = False

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.high + other.high, self.recorded and other.recorded)

    def __mul__(self, share: float) -> "Range":
        return Range(self.low * share, self.high * share, self.recorded)


@dataclass(frozen=True)
class Cohort:
    """How many cases there are, and what they do in a fold.

    Attributes
    ----------
    cases : int
    of_fold : callable
        From a fold to the number of training, validation and scored cases.
    """

    cases: int
    of_fold: Callable[[str], tuple[float, float, float]]


def cohort_of(cases: int, params: Params) -> Cohort:
    """Count the cases of each role: from data/split if it was made from as many cases, else by the parameters."""
    test = {"none": 0.0, "patients": params.split.test_fraction}.get(params.split.test, TEST_SHARE) * cases
    development, held = cases - test, 1 / params.split.n_folds
    share = params.split.validation_fraction

    def of_fold(fold: str) -> tuple[float, float, float]:
        if paths.split(fold).exists():
            counts = paths.read_table(paths.split(fold))["role"].value_counts()
            if abs(counts.sum() - cases) <= cases / 10:
                scored = sum(counts.get(role, 0) for role in scored_roles(fold, counts.index))
                return float(counts.get(Role.TRAIN, 0)), float(counts.get(Role.VALIDATION, 0)), float(scored)
        here = development if fold == FINAL else development * (1 - held)
        return here * (1 - share), here * share, test if fold == FINAL else development - here

    return Cohort(cases, of_fold)


def with_preset_for(params: Params, cohort: Cohort) -> Params:
    """Replace `finetune.preset: auto` as `finetune` does, by the number of development cases."""
    train, validation, _ = cohort.of_fold(FINAL)
    return params.model_copy(update={"finetune": with_preset(params.finetune, round(train + validation))})


def recorded(job: Job, params: Params, geometry: Geometry, *, cases: int, start: float) -> Range | None:
    """Read the time of an earlier run of a stage, if its settings and the size of the cases are still the same.

    A different number of cases changes the time in proportion. The start of the process, which no record holds, takes
    as long as that of this one did.
    """
    record = costs.last_run(*job)
    same = record.get("settings") == costs.workload(job[0], params)
    size = [geometry.image_size, geometry.slices]
    if not same or not record.get("cases") or (job[0] not in ("cohort", "split") and record.get("size") != size):
        return None
    took = record["seconds"] * cases / record["cases"] + start_of(job[0], start) + DVC_SECONDS
    return Range(RECORDED[0] * took, RECORDED[1] * took, recorded=True)


def estimated(job: Job, units: Units, params: Params, cohort: Cohort, *, reading: tuple[float, float]) -> Range:
    """Estimate the time of a stage from measured steps.

    Parameters
    ----------
    reading : pair of float
        Seconds that `cohort` and `preprocess` take for a scan.
    """
    stage, fold = job
    low, high = ESTIMATES[stage](fold, units, params, cohort) if stage in ESTIMATES else (0.0, 0.0)
    start = start_of(stage, units.start)
    around = start + DVC_SECONDS
    if stage in READING:
        processes = min(runtime.workers(), cohort.cases)
        low = high = cohort.cases * reading[READING.index(stage)] / processes
        around += start if processes > 1 else 0
    return Range(around + MEASURED[0] * low, around + MEASURED[1] * high)


def start_of(stage: str, start: float) -> float:
    """Estimate the seconds that the process of a stage needs to begin, from those of this one."""
    return start * (LIGHT_START if stage in LIGHT else START)


Estimate = Callable[[str, Units, Params, Cohort], tuple[float, float]]


def adapt(fold: str, units: Units, params: Params, cohort: Cohort) -> tuple[float, float]:
    """Estimate the adaptation by the method, or by each candidate of `auto`, which also probes the features of each."""
    settings, (train, _, _) = params.adapt, cohort.of_fold(fold)

    def by(method: str, searching: bool) -> tuple[float, float]:
        if method in OBJECTIVES:
            epoch = train * units.case * 6  # two views, forward and backward
            return (settings.patience + 1) * epoch, settings.epochs * epoch
        if method in ALIGNMENT_LOSSES:
            epoch = train * 2 * units.epoch.get("lp_ft", 3 * units.case)
            frozen = cohort.cases * units.view * 3
            return (frozen + (settings.patience + 1) * epoch, frozen + settings.epochs * epoch) if searching else (0, 0)
        return (0, 0) if method == "none" else (train * units.case, train * units.case)

    if settings.method != AUTO:
        return by(settings.method, searching=False)
    probed = cohort.cases * units.case + 4 * units.probe * train / 1000
    tried = [by(method, searching=True) for method in ("none", *settings.candidates)]
    total = probed * len(tried)
    return total + sum(low for low, _ in tried), total + sum(high for _, high in tried)


def finetune(fold: str, units: Units, params: Params, cohort: Cohort) -> tuple[float, float]:
    """Estimate frozen stages, probe, training, and the scores of the other cases; for `auto` also the choice."""
    settings, (train, validation, scored) = params.finetune, cohort.of_fold(fold)
    views = 1 + views_of(settings) + ("mirror" in augmentations_of(settings))
    probe = units.probe * train * views / 1000
    always = (train * views + validation) * units.view + scored * units.case + probe
    least, most = settings.patience + 1, min(settings.epochs, 3 * settings.patience)

    def epochs(name: str) -> float:
        return train * units.epoch[name]

    if not stops_early(settings):
        full, everyone = full_of(settings), train + validation
        networks = int(full.seeds) if FULL in (settings.strategy, *settings.members) else 0
        networks += settings.strategy == DISTILLED
        took = networks * (int(full.epochs) + 0.5) * everyone * units.epoch.get(FULL, 0) + 2 * scored * units.case
        took += (views * everyone + 2 * scored) * units.second + (probe if units.second else 0)
        return always + took, always + took
    if settings.strategy != AUTO:
        name = settings.strategy
        trained = epochs(name) if STRATEGIES[name].trains else 0
        return always + min(least, most) * trained, always + most * trained
    always += PARTS * probe
    searches = [search(units, train, float(settings.budget), settings.patience, by=count) for count in (least, most)]
    shortest, longest = (always + limit(sum(took for _, took in one) for one in searches) for limit in (min, max))
    longest += max((most * epochs(name) for name, _ in searches[0]), default=0.0)
    return shortest, longest


def search(units: Units, train: float, budget: float, patience: int, *, by: int) -> list[tuple[str, float]]:
    """List the trained candidates of `auto` that fit the budget, with their seconds, if each takes `by` epochs."""
    found = []
    for name, seconds in units.epoch.items():
        passes = (PARTS - 1) * train * units.passes[name] * units.scale
        if passes * patience > budget:
            continue
        budget -= passes * by
        found.append((name, (PARTS - 1) * train * seconds * by))
    return found


def calibrate(fold: str, units: Units, params: Params, cohort: Cohort) -> tuple[float, float]:
    """Estimate the metrics of every set and fold with their intervals."""
    total = units.summary * (SETS * TABLES + len(params.split.folds))
    return total, total


def evidence(fold: str, units: Units, params: Params, cohort: Cohort) -> tuple[float, float]:
    """Estimate the features of each arm, probes, few-shot episodes, intervals, and trainings within the budget."""
    settings, folds = params.evidence, len(params.split.numbered)
    arms = 1 + (params.adapt.method != "none")
    splits = folds + SITES_LEFT_OUT + 1
    labelled = LABELLED * cohort.cases
    features = cohort.cases * units.case + (arms - 1) * splits * labelled * units.case
    fits = arms * (splits + folds * sum(settings.fractions) * settings.draws)
    probes = fits * units.probe * labelled / 1000
    episodes = arms * folds * len(settings.shots) * settings.episodes * 3 * EPISODE
    runs = arms * (1 + settings.draws * len(settings.fractions))
    total = features + probes + episodes + runs * units.summary
    return total, total + settings.budget * units.case / units.scale


def explain(fold: str, units: Units, params: Params, cohort: Cohort) -> tuple[float, float]:
    """Estimate the saliency maps of the most confident errors."""
    maps = params.explain.errors * SETS * units.case * (GRADCAM if params.explain.method == "gradcam" else OCCLUSION)
    return maps / 2, maps


def release(fold: str, units: Units, params: Params, cohort: Cohort) -> tuple[float, float]:
    """Estimate exports and their comparison, features of training cases, and the tests of the operating limits."""
    exports = len(params.release.exports)
    scored = len(params.split.folds) * cohort.cases + CORRUPTIONS * min(CORRUPTED, cohort.cases)
    total = exports * (EXPORT + 3 * cohort.cases * units.case) + scored * units.case + EXPORT
    return total, total


ESTIMATES: Mapping[str, Estimate] = {
    "adapt": adapt,
    "finetune": finetune,
    "calibrate": calibrate,
    "evidence": evidence,
    "explain": explain,
    "release": release,
}


def in_lines(found: Mapping[Job, Range], at_once: int = 1) -> list[str]:
    """Write a line for each stage, its folds together, and the total.

    Parameters
    ----------
    at_once : int
        Number of folds that `medadapt run` trains at a time.
    """
    if not found:
        return ["time: nothing would run"]
    stages: dict[str, list[Range]] = {}
    for (stage, _), one in found.items():
        stages.setdefault(stage, []).append(one)
    rows = [f"  {stage:<10}  {in_words(total(some))}{_basis(some)}" for stage, some in stages.items()]
    alone = "" if all(one.recorded for one in found.values()) else " if nothing else runs on this machine"
    whole = f"time, about: {in_words(total(list(found.values())))}{alone}"
    most = max(map(len, stages.values()))
    if at_once == 1 or most == 1:
        return [whole, *rows]
    shorter = [total(some) * (math.ceil(len(some) / at_once) / len(some)) for some in stages.values()]
    return [f"{whole}; {in_words(total(shorter))} with `medadapt run`, which trains {at_once} folds at a time", *rows]


def total(some: Sequence[Range]) -> Range:
    """Add times."""
    return sum(some[1:], some[0])


def in_words(time: Range) -> str:
    """Write a range in seconds below two minutes, else in minutes.

    >>> in_words(Range(100, 400))
    '2 to 7 min'
    """
    unit, name = (1, "s") if time.high < 120 else (60, "min")
    low, high = max(round(time.low / unit), 1), max(round(time.high / unit), 1)
    return f"{low} {name}" if low == high else f"{low} to {high} {name}"


def _basis(some: Sequence[Range]) -> str:
    folds = f", {len(some)} folds" if len(some) > 1 else ""
    known = sum(one.recorded for one in some)
    return f"{folds} (measured)" if not known else f"{folds} (as in the last run)" if known == len(some) else folds
