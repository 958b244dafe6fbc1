"""Show which stages `dvc repro` would run, with resolved parameters and estimates of time and disk space."""

import argparse
import json
import re
import time
from pathlib import Path

import torch

from pipeline import runtime
from pipeline.commands.plan.checks import check_cohort
from pipeline.errors import UserError, refuse
from pipeline.imaging.geometry import REFERENCE_SIZE, Geometry
from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.encoder import Encoder, inference
from pipeline.learning.models.families import UnknownEncoder
from pipeline.learning.training.alignment.losses import ALIGNMENT_LOSSES
from pipeline.learning.training.strategies import STRATEGIES, candidates_of
from pipeline.params import load
from pipeline.schema import Params
from pipeline.stages.adapt.catalogue import PER_SITE
from pipeline.stages.cohort.simulate import is_recipe
from pipeline.stages.finetune.fold_data import recipe_of
from pipeline.stages.preprocess.sizing import resolve_geometry

BYTES_OF_NETWORK = 20e6
NOT_CHECKED = "table and headers: no reason to stop. Not checked yet, because that needs pixels: damage and duplicates"
BYTES_OF_SIMULATED_SCAN = 7e5


def run(arguments: argparse.Namespace) -> None:
    """Print the stages, the resolved values and the estimates with their basis."""
    checked = check_cohort(load())
    for line in checked.findings:
        print(line)
    refuse(checked.problems)
    print(NOT_CHECKED)
    params, headers = checked.params, checked.headers
    geometry = resolve_geometry(headers, params.budget, params.preprocess)
    changed, following = stages_to_run()
    print(f"stages to run: {', '.join(changed) or 'none; all are up to date'}")
    if following:
        print(f"  then, if their inputs change: {', '.join(following)}")
    print(f"cases: {len(headers)} {geometry.kind}s")
    for name in ("image_size", "slices", "channels", "spacing", "fit", "intensity", "crop"):
        given = getattr(params.preprocess, name)
        print(f"preprocess.{name}: {getattr(geometry, name)}{' (auto)' if given == 'auto' else ''}")
    encoder = encoder_of(params.adapt.encoder)
    recipes = recipes_of(params, len(encoder.stages))
    print(f"finetune.strategy: {describe_recipes(recipes, params)}")
    passes, rate = passes_of(params, geometry, len(headers), recipes), measured_rate(encoder)
    print(f"time, about: {passes / rate / 60:.0f} min for all stages, not counting training steps")
    print(f"  ({passes:.0f} passes of a {REFERENCE_SIZE} x {REFERENCE_SIZE} image at {rate:.0f}/s, measured just now)")
    if arguments.minutes:
        budget = round(arguments.minutes * 60 * rate, -3)
        print(f"evidence.budget: {budget:.0f} takes about {arguments.minutes:g} min here")
    print(f"disk, about: {disk_of(params, geometry, len(headers)) / 1e6:.0f} MB in data/, and the same in DVC's cache")


def stages_to_run() -> tuple[list[str], list[str]]:
    """Ask DVC which stages have changed, and which later stages may have to run because of them."""
    changed = set(json.loads(runtime.dvc("status", "--json")))
    follows = set(changed)
    edges = re.findall(r'"(.+)" -> "(.+)"', runtime.dvc("dag", "--dot"))
    while more := {later for earlier, later in edges if earlier in follows} - follows:
        follows |= more
    order = runtime.dvc("stage", "list", "--name-only").split()
    return [name for name in order if name in changed], [name for name in order if name in follows - changed]


def recipes_of(params: Params, n_stages: int) -> list[str]:
    """List the strategies that `finetune` may use: one, or the candidates of `auto`."""
    asked, method = params.finetune.strategy, params.adapt.method
    frozen = method in PER_SITE and params.adapt.strength > 0
    if asked != "auto":
        return ["probe" if frozen and STRATEGIES[asked].trains else asked]
    if method in ALIGNMENT_LOSSES and params.adapt.strength:
        return ["lp_ft"]
    return candidates_of(recipe_of(params.finetune), n_stages, frozen)


def describe_recipes(recipes: list[str], params: Params) -> str:
    """Describe the strategy and, for `auto`, its candidates and its budget."""
    if params.finetune.strategy != "auto":
        return recipes[0]
    if len(recipes) == 1:
        return f"{recipes[0]} (auto, because adapt.method is {params.adapt.method})"
    candidates = params.adapt.candidates if params.adapt.method == "auto" else ()
    losses = [name for name in candidates if name in ALIGNMENT_LOSSES]
    unless = f" (but lp_ft if adapt.method: auto chooses {' or '.join(losses)})" if losses else ""
    budget = f"finetune.budget: {params.finetune.budget} passes in each fold"
    return f"auto, one of {', '.join(recipes)}, within {budget}{unless}"


def passes_of(params: Params, geometry: Geometry, cases: int, recipes: list[str]) -> float:
    """Estimate the maximum number of image passes, in images of the reference size."""
    searched = (
        any(STRATEGIES[name].trains for name in recipes) and len(recipes) > 1
    )  # the other strategies cost `auto` nothing
    choice = params.finetune.budget * len(params.split.folds) if searched else 0
    probed = 1 + (params.adapt.method != "none") * len(params.split.folds)  # by evidence
    per_case = (1 + params.finetune.views + (params.adapt.method != "none") + 0.5) * len(params.split.folds) + probed
    scale = (geometry.image_size / REFERENCE_SIZE) ** 2
    return cases * geometry.slices * scale * per_case + choice + params.evidence.budget


def encoder_of(name: str) -> Encoder:
    """Build the encoder with random weights, which do not change its time or its stages."""
    try:
        encoder = build_encoder(name, 3)
    except UnknownEncoder as error:
        raise UserError(f"adapt.encoder: {error}") from error
    inference(encoder)
    return encoder


def measured_rate(encoder: Encoder) -> float:
    """Measure the images of the reference size that the encoder processes per second on this machine."""
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
