"""adapt@k: adapt the pretrained encoder to the domain, using only the images that fold k may see.

The methods are listed in `stages/adapt/catalogue.py`. Alignment losses are only recorded here; finetune@k adds them to
its loss.
"""

import math
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline import cache, paths
from pipeline.errors import UserError
from pipeline.imaging.geometry import Geometry
from pipeline.learning.models.classifier import Classifier
from pipeline.paths import Role
from pipeline.schema import Adapt, Params
from pipeline.stages.adapt.adapting import AdaptationPlan, adapt
from pipeline.stages.adapt.catalogue import HARMONISERS
from pipeline.stages.adapt.pretraining.continued import kept
from pipeline.stages.adapt.setup import make_plan, pretrained

if TYPE_CHECKING:
    from pipeline.stages.adapt.selection import Step


def run(params: Params, fold: str) -> None:
    """Write the adapted encoder of one fold and the record of how it was adapted."""
    settings = params.adapt
    geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
    cases = paths.read_table(paths.split(fold))
    start, arguments = pretrained(settings, geometry, params.finetune.pooled_stages)
    plan = make_plan(
        cases,
        start=start,
        settings=settings,
        geometry=geometry,
        seed=params.seed,
        stage="adapt",
        fold=fold,
        key=fingerprint(params, fold),
    )
    steps: list[Step] = []
    predictions = pd.DataFrame(columns=["case", "role", "candidate"])
    if settings.method == "auto":
        from pipeline.stages.adapt.method_search import choose  # not above: other methods need no probes

        steps, predictions = choose(plan, cases, settings, balanced=params.finetune.class_weights != "none")
        selected = [step for step in steps if step.kept][-1]
        plan = plan.with_method(selected.method, selected.strength)
    try:
        network, around, curve = adapt(plan)
    except (FloatingPointError, ValueError) as error:
        raise UserError(f"adapt.method {plan.method}, fold {fold}: {error}") from error
    write(network, predictions, fold)
    record = (
        arguments
        | around
        | {
            "asked": settings.method,
            "method": plan.method,
            "strength": plan.strength,
            "encoder_moved": differs(network.encoder, start().encoder),
            "kept_epoch": kept(curve).epoch if curve else None,
            **images_used(cases, plan, settings),
            "curve": [asdict(epoch) for epoch in curve],
            "search": [as_plain(step) for step in steps],
            "test_time_steps": settings.test_time_steps,
            "test_time_rate": settings.test_time_rate,
        }
    )
    paths.write_json(record, paths.adaptation(fold))
    shutil.rmtree(paths.checkpoints("adapt", fold), ignore_errors=True)


def fingerprint(params: Params, fold: str) -> str:
    """Hash everything that a training depends on: parameters, code and input files; the loop adds the weights."""
    files = (paths.split(fold), paths.CASES, paths.COHORT_FACTS, paths.GEOMETRY, paths.INDEX)
    used = (params.finetune.pooled_stages, params.finetune.class_weights)  # as in dvc.yaml
    settings = (params.seed, params.adapt, used, torch.__version__)
    return cache.fingerprint(cache.code_of("adapt"), files, *settings)


def differs(one: nn.Module, other: nn.Module) -> bool:
    """Tell whether two networks of the same architecture have different weights or statistics."""
    state = other.state_dict()
    return any(not torch.equal(value, state[name]) for name, value in one.state_dict().items())


def images_used(cases: pd.DataFrame, plan: AdaptationPlan, settings: Adapt) -> dict[str, object]:
    """Record which images adaptation used without their labels, for the stamp on every metric."""
    used = cases[cases["case"].isin(plan.seen.cases)]
    if settings.method != "auto" and (settings.method == "none" or settings.strength == 0):
        used = used.iloc[:0]
    elif settings.method in HARMONISERS:
        used = used[used["role"] == Role.TRAIN]
    return {
        "target": settings.target,
        "images_seen": len(used),
        "unlabelled_sites": sorted(set(used.loc[used["role"] == Role.UNLABELLED, "site"])),
        "evaluated_seen": bool(used["role"].isin([Role.HELD_OUT, Role.TEST]).any()),
    }


def write(network: Classifier, predictions: pd.DataFrame, fold: str) -> None:
    """Write the encoder, the values of each site, and the predictions of the candidates."""
    folder = paths.adapted_encoder(fold).parent
    folder.mkdir(parents=True, exist_ok=True)
    for module, file in (
        (network.encoder, paths.adapted_encoder(fold)),
        (network.site_values, paths.adapted_sites(fold)),
    ):
        save_file({name: value.cpu().contiguous() for name, value in module.state_dict().items()}, file)
    paths.write_table(predictions, paths.search(fold))


def as_plain(step: "Step") -> dict[str, object]:
    """Convert a step to plain values, NaN to None."""
    values = asdict(step).items()
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values}
