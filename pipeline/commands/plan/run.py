"""Show which stages `dvc repro` would run, with resolved parameters and estimates of time and disk space."""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline import runtime
from pipeline.commands.plan.checks import check_cohort
from pipeline.commands.plan.measuring import measured, reading_seconds
from pipeline.commands.plan.times import Job, Range, cohort_of, estimated, in_lines, recorded, with_preset_for
from pipeline.commands.side_by_side import at_once
from pipeline.commands.stage_states import survey
from pipeline.costs import DECIDES
from pipeline.errors import UserError, refuse
from pipeline.imaging.geometry import REFERENCE_SIZE, Geometry
from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import Encoder, inference
from pipeline.learning.models.families import UnknownEncoder
from pipeline.learning.training.alignment.losses import ALIGNMENT_LOSSES
from pipeline.learning.training.strategies import candidates_of
from pipeline.params import load
from pipeline.schema import Params
from pipeline.stages.adapt.catalogue import PER_SITE
from pipeline.stages.cohort.simulation.recipe import is_recipe
from pipeline.stages.finetune.fold_data import recipe_of
from pipeline.stages.finetune.members import strategies_of
from pipeline.stages.finetune.presets import DISTILLED, JOINT, PORTFOLIO
from pipeline.stages.preprocess.sizing import resolve_geometry

BYTES_OF_NETWORK = 20e6
NOT_CHECKED = "table and headers: no reason to stop. Not checked yet, because that needs pixels: damage and duplicates"
BYTES_OF_SIMULATED_SCAN = 7e5


def run(arguments: argparse.Namespace) -> None:
    """Print the stages, the resolved values and the estimates with their basis."""
    start = time.process_time()  # of the imports: a stage has about the same
    os.environ.setdefault("MEDADAPT_BACKEND", "threading")  # headers are small: threads start faster than processes
    checked = check_cohort(load())
    for line in checked.findings:
        print(line)
    refuse(checked.problems)
    print(NOT_CHECKED)
    params, headers = checked.params, checked.headers
    geometry = resolve_geometry(headers, params.budget, params.preprocess)
    changed, following = stages_to_run()
    jobs = [job for stage in DECIDES for job in (*changed, *following) if job[0] == stage]
    print(f"stages to run: {', '.join(map(name_of, changed)) or 'none; all are up to date'}")
    if following:
        print(f"  then, if their inputs change: {', '.join(map(name_of, following))}")
    print(f"cases: {len(headers)} {geometry.kind}s")
    for name in ("image_size", "slices", "channels", "spacing", "fit", "intensity", "crop"):
        given = getattr(params.preprocess, name)
        print(f"preprocess.{name}: {getattr(geometry, name)}{' (auto)' if given == 'auto' else ''}")
    network, chosen = network_of(params, geometry), with_preset_for(params, cohort_of(len(headers), params))
    print(f"finetune.strategy: {describe_recipes(recipes_of(chosen, len(network.encoder.stages)), chosen)}")
    known = times_of(jobs, params, geometry, cases=len(headers), network=network, start=start)
    print("\n".join(in_lines(known, at_once(len(runtime.cuda_devices())))))
    if arguments.minutes:
        rate = rate_of(params.adapt.encoder)
        budget = round(arguments.minutes * 60 * rate, -3)
        print(f"evidence.budget: {budget:.0f} takes about {arguments.minutes:g} min here")
    print(f"disk, about: {disk_of(params, geometry, len(headers)) / 1e6:.0f} MB in data/, and the same in DVC's cache")


def stages_to_run() -> tuple[list[Job], list[Job]]:
    """Ask DVC which stages have changed, and which later stages may have to run because of them."""
    lines = [((line.stage, line.folds[0]), line.state) for line in survey()]
    changed = [job for job, state in lines if state not in ("done", "behind")]
    return changed, [job for job, state in lines if state == "behind"]


def name_of(job: Job) -> str:
    """Name a stage as DVC does.

    >>> name_of(("adapt", "0")), name_of(("split", ""))
    ('adapt@0', 'split')
    """
    return "@".join(filter(None, job))


def times_of(
    jobs: Sequence[Job], params: Params, geometry: Geometry, *, cases: int, network: Classifier, start: float
) -> dict[Job, Range]:
    """Estimate the time of each stage; nothing is measured if all records of earlier runs still apply."""
    found = {job: recorded(job, params, geometry, cases=cases, start=start) for job in jobs}
    times = {job: known for job, known in found.items() if known is not None}
    new = [job for job in jobs if job not in times]
    if new:
        cohort, reading = cohort_of(cases, params), reading_seconds(params, geometry)
        chosen = with_preset_for(params, cohort)
        units = measured(network, chosen, geometry, start=start, cases=cases)
        times |= {job: estimated(job, units, chosen, cohort, reading=reading) for job in new}
    return {job: times[job] for job in jobs}


def recipes_of(params: Params, n_stages: int) -> list[str]:
    """List the strategies that `finetune` may use: one, or the candidates of `auto`."""
    asked, method = params.finetune.strategy, params.adapt.method
    frozen = method in PER_SITE and params.adapt.strength > 0
    if asked in ("auto", *JOINT) and method in ALIGNMENT_LOSSES and params.adapt.strength:
        return ["lp_ft"]
    if asked != "auto":
        return strategies_of(params.finetune, frozen)
    return candidates_of(recipe_of(params.finetune), n_stages, frozen)


def describe_recipes(recipes: list[str], params: Params) -> str:
    """Describe the strategy and, for `auto`, its candidates and its budget."""
    if params.finetune.strategy == PORTFOLIO and len(recipes) > 1:
        return f"portfolio of {' and '.join(recipes)}, preset {params.finetune.preset}"
    if params.finetune.strategy == DISTILLED and len(recipes) > 1:
        return f"one network that learns a portfolio of {' and '.join(recipes)}, preset {params.finetune.preset}"
    if params.finetune.strategy not in ("auto", *JOINT):
        return recipes[0]
    if len(recipes) == 1:
        return f"{recipes[0]} ({params.finetune.strategy}, because adapt.method is {params.adapt.method})"
    candidates = params.adapt.candidates if params.adapt.method == "auto" else ()
    losses = [name for name in candidates if name in ALIGNMENT_LOSSES]
    unless = f" (but lp_ft if adapt.method: auto chooses {' or '.join(losses)})" if losses else ""
    budget = f"finetune.budget: {params.finetune.budget} passes in each fold"
    return f"auto, one of {', '.join(recipes)}, within {budget}{unless}"


def network_of(params: Params, geometry: Geometry) -> Classifier:
    """Build the network with random weights, which do not change its time or its stages."""
    encoder = {
        "name": params.adapt.encoder,
        "pooled_stages": params.finetune.pooled_stages,
        "filter_depth": params.adapt.filter_depth,
    }
    try:
        network = Classifier(encoder, {"channels": geometry.channels}, {"n_classes": 2})
    except UnknownEncoder as error:
        raise UserError(f"adapt.encoder: {error}") from error
    inference(network)
    return network


def rate_of(encoder: str) -> float:
    """Measure the images of the reference size per second, in which budgets are counted."""
    try:
        return measured_rate(build_encoder(encoder, 3))
    except UnknownEncoder as error:
        raise UserError(
            f"adapt.encoder: {error}; budgets are counted in images, so --minutes needs one of them"
        ) from error


def measured_rate(encoder: Encoder) -> float:
    """Measure the images of the reference size that the encoder processes per second on this machine."""
    inference(encoder)
    batch = torch.zeros(16, 3, REFERENCE_SIZE, REFERENCE_SIZE).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        encoder(batch)
        start = time.perf_counter()
        for _ in range(3):
            encoder(batch)
    return 48 / (time.perf_counter() - start)


def disk_of(params: Params, geometry: Geometry, cases: int) -> float:
    """Estimate the bytes below data/: prepared images, and the encoder and model of each fold."""
    channels = cases * geometry.stored_channels * geometry.image_size**2
    simulated = BYTES_OF_SIMULATED_SCAN * cases if is_recipe(Path(params.cohort.path)) else 0
    return channels + 2 * BYTES_OF_NETWORK * len(params.split.folds) + simulated
