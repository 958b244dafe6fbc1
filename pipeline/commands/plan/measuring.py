"""Measure on this machine what the steps of the stages cost, with random images of the size of the cohort's."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from pipeline import runtime
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.geometry import REFERENCE_SIZE, Geometry
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.reading.scan import Policy, Unreadable
from pipeline.imaging.tables.cohort_table import read_cohort_table
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.probe import fit_probe
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.cases import FrozenCases
from pipeline.learning.training.costs import passes_of_epoch, shares_of
from pipeline.learning.training.frozen import Case, as_tensors, frozen_views
from pipeline.learning.training.loop import fit
from pipeline.learning.training.recipe import Epoch, first_trained_stage
from pipeline.learning.training.strategies import STRATEGIES
from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.summary import summarise
from pipeline.params import AUTO
from pipeline.schema import Params
from pipeline.seeds import seed_for
from pipeline.stages.cohort.simulation.recipe import is_recipe, read_recipe
from pipeline.stages.cohort.simulation.scan import plan_scans, write_scan
from pipeline.stages.finetune.fold_data import boundary_of, recipe_of
from pipeline.stages.finetune.presets import DISTILLED, FULL, PORTFOLIO, full_of
from pipeline.stages.finetune.second_encoder import load_second

SAMPLE = 2  # cases that are run, one of each class
CASES = 16  # cases of a training, a batch or two


@dataclass(frozen=True)
class Units:
    """Seconds of single steps.

    Attributes
    ----------
    start : float
        Start of the process of a stage, with its imports.
    case : float
        One case through the whole encoder.
    second : float
        One case through the second encoder; 0 without one.
    view : float
        One augmented view of a case through the frozen stages, with the augmentation.
    epoch : mapping
        An epoch for each training case, by strategy.
    passes : mapping
        Image passes of an epoch for each training case, by strategy, as `finetune.budget` counts them.
    probe : float
        The fit of a linear probe, for each thousand rows.
    summary : float
        The metrics of a set of cases with their bootstrap.
    scale : float
        Pixels of an image, relative to the reference image in which budgets are counted.
    """

    start: float
    case: float
    second: float
    view: float
    epoch: Mapping[str, float]
    passes: Mapping[str, float]
    probe: float
    summary: float
    scale: float


def measured(network: Classifier, params: Params, geometry: Geometry, *, start: float, cases: int) -> Units:
    """Run every step once or twice; this takes a few seconds.

    Parameters
    ----------
    network : Classifier
        With random weights, which do not change the time.
    start : float
        What the imports took in this process, which imports what a stage imports.
    cases : int
        Number of cases, for the metrics.
    """
    settings, shape = params.finetune, (geometry.stored_channels, geometry.image_size, geometry.image_size)
    drawn = np.random.default_rng(0).integers(0, 256, (SAMPLE, *shape), dtype=np.uint8)
    names = [str(number) for number in range(SAMPLE)]
    views = AugmentedViews(
        lambda name: drawn[int(name)], partial(seed_for, 0), geometry, whole=network.encoder.volumetric
    )
    n_stages, first = len(network.encoder.stages), boundary_of(network, settings)

    def run(count: int, upto: int) -> FrozenCases:
        todo = [Case("", as_tensors(views.parts(name, count))) for name in names]
        maps, pooled = frozen_views(network, todo, upto)
        return FrozenCases(maps, pooled, torch.eye(2)[torch.arange(SAMPLE) % 2], upto)

    case = seconds(lambda: run(0, n_stages)) / SAMPLE
    view = seconds(lambda: run(1, first)) / SAMPLE / 2
    frozen = run(0, first).some(torch.arange(CASES) % SAMPLE)
    shares = shares_of(network.encoder, geometry.channels)
    passes = {name: passes_of(shares, name, params) * geometry.slices for name in trained_strategies(params)}
    return Units(
        start=start,
        case=case,
        second=second_seconds(params, geometry),
        view=view,
        epoch={
            name: epoch_seconds(network, frozen, params, name)
            if trains_above(network, params, name, first)
            else case * passes[name] / geometry.slices * share_of_full(params, geometry)
            for name in passes
        },
        passes=passes,
        probe=probe_seconds(network.encoder.width),
        summary=summary_seconds(cases, params),
        scale=(geometry.image_size / REFERENCE_SIZE) ** 2,
    )


def second_seconds(params: Params, geometry: Geometry) -> float:
    """Run the second encoder with random weights; return the seconds of a case."""
    if not params.finetune.second_encoder.encoder:
        return 0.0
    untrained = params.finetune.second_encoder.model_copy(update={"weights": "none", "weights_sha256": None})
    settings = params.finetune.model_copy(update={"second_encoder": untrained})
    network, _, _ = load_second(settings, geometry, n_classes=2, filter_depth=params.adapt.filter_depth)
    channels = torch.zeros(1, geometry.stored_channels, geometry.image_size, geometry.image_size)
    with torch.inference_mode():
        return seconds(lambda: network(channels))


def trained_strategies(params: Params) -> list[str]:
    """Name the strategies that `finetune` may train by gradients."""
    members, strategy = params.finetune.members, params.finetune.strategy
    several: dict[str, tuple[str, ...]] = {AUTO: ("last_stage",), PORTFOLIO: members, DISTILLED: (*members, FULL)}
    names = (*several.get(strategy, (strategy,)), "lp_ft")
    return [name for name in dict.fromkeys(names) if STRATEGIES[name].trains]


def share_of_full(params: Params, geometry: Geometry) -> float:
    """Compute the share of a case's pixels that an epoch of `full` sees: smaller sides, and some instances only."""
    full = full_of(params.finetune)
    sides = full.sides or (geometry.image_size,)
    shrunk = [min(int(side) / geometry.image_size, 1) ** 2 for side in sides]
    return sum(shrunk) / len(shrunk) * min(int(full.instances) / geometry.slices, 1)


def trains_above(network: Classifier, params: Params, name: str, first: int) -> bool:
    """Tell whether a strategy trains stages behind the freeze boundary only."""
    recipe = STRATEGIES[name].recipe(recipe_of(params.finetune), len(network.encoder.stages))
    return first_trained_stage(network, recipe) >= first


def passes_of(shares: list[float], name: str, params: Params) -> float:
    """Count the passes of one image in an epoch of a strategy."""
    recipe = STRATEGIES[name].recipe(recipe_of(params.finetune), len(shares))
    trained = recipe.trainable_stages
    return passes_of_epoch(shares, first=len(shares) - trained, trained=trained, train=1, validation=0)


def epoch_seconds(network: Classifier, cases: FrozenCases, params: Params, name: str) -> float:
    """Train one epoch; return the seconds of each case."""
    once = recipe_of(params.finetune.model_copy(update={"epochs": 1}))
    recipe = STRATEGIES[name].recipe(once, len(network.encoder.stages))
    watch, ends = Stopwatch(), list[float]()

    def tell(epoch: Epoch) -> None:
        ends.append(watch.seconds())

    accelerator = make_accelerator(runtime.device())
    fit(network, cases, cases.some(torch.arange(2)), recipe, accelerator=accelerator, seed=0, tell=tell)
    return (ends[-1] - ends[0]) / len(cases.targets)


def probe_seconds(width: int, rows: int = 200) -> float:
    """Fit a probe to random features; return the seconds of a thousand rows."""
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % 2
    features = rng.normal(size=(rows, width)) + labels[:, None] * 0.2
    patients = np.arange(rows).astype(str)
    return seconds(lambda: fit_probe(features, np.eye(2)[labels], patients, balanced=True, seed=0)) * 1000 / rows


def summary_seconds(cases: int, params: Params) -> float:
    """Compute the metrics of random predictions of so many cases with the bootstrap of `calibrate`."""
    rng = np.random.default_rng(0)
    event, labels = rng.uniform(0.01, 0.99, max(cases, 4)), np.arange(max(cases, 4)) % 2
    bootstrap = Bootstrap(params.calibrate.n_bootstrap, params.calibrate.confidence, 0)
    table = np.column_stack([1 - event, event])
    patients = np.arange(len(labels)).astype(str)
    return seconds(lambda: summarise(table, labels, patients, bins=params.calibrate.bins, bootstrap=bootstrap))


def reading_seconds(params: Params, geometry: Geometry) -> tuple[float, float]:
    """Time on one or two scans what `cohort` (simulate or read) and `preprocess` do with each."""
    folder, policy = Path(params.cohort.path), Policy(**params.cohort.reading.model_dump())
    steps = Preprocessor(geometry, policy, params.preprocess.deface)
    with TemporaryDirectory() as name:
        watch = Stopwatch()
        if is_recipe(folder):
            jobs = plan_scans(read_recipe(folder))[:1]
            for job in jobs:
                write_scan(job, Path(name))
            files = [Path(name) / job.file for job in jobs]
        else:
            table = read_cohort_table(folder)["image"]
            files = [folder / image for image in (table.iloc[0], table.iloc[-1])]
        simulated = watch.seconds()
        times = [_prepared(steps, file) for file in files]
    read, both = (min(pair[which] for pair in times) for which in (0, 1))
    return (simulated if is_recipe(folder) else 0) + read, both


def _prepared(steps: Preprocessor, file: Path) -> tuple[float, float]:
    """Read and prepare a scan; return the seconds of reading and of both. One that cannot be read costs nothing."""
    watch = Stopwatch()
    try:
        scan = steps.read(file)
        read = watch.seconds()
        steps.prepare(scan)
    except Unreadable:
        return 0.0, 0.0
    return read, watch.seconds()


def seconds(step: Callable[[], object]) -> float:
    """Time a step: the faster of two runs."""
    times = []
    for _ in range(2):
        watch = Stopwatch()
        step()
        times.append(watch.seconds())
    return min(times)


class Stopwatch:
    """Measure time as if no other program used the processors: no more than the processor time of this process."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return min(time.perf_counter() - self.start[0], time.process_time() - self.start[1])
