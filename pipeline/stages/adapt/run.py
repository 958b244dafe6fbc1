"""adapt@k: the ImageNet encoder becomes the encoder of this domain, on the images that fold k may see.

The methods are those of `stages/adapt/catalogue.py`; alignment losses, which finetune@k adds to its loss, are only
written down here.
"""

import logging
import math
import shutil
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline import cache, paths, runtime
from pipeline.errors import UserError
from pipeline.imaging.geometry import Geometry
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.tasks import Balance
from pipeline.learning.training.alignment.losses import TERMS
from pipeline.learning.training.cases import FrozenCases
from pipeline.learning.training.frozen import frozen_views
from pipeline.learning.training.recipe import Recipe, first_trained_stage
from pipeline.paths import Role
from pipeline.schema import Adapt, Params
from pipeline.stages.adapt.adapting import Adapting, Images, adapt, features_of, views_of
from pipeline.stages.adapt.candidates import Measured, Source, measure_probes, measure_term
from pipeline.stages.adapt.catalogue import HARMONISERS
from pipeline.stages.adapt.pretraining.continued import kept
from pipeline.stages.adapt.selection import Step, search
from pipeline.stages.adapt.setup import images_of, plan_of, pretrained

log = logging.getLogger(__name__)

OF_A_TERM = 1.0  # its weight on the search
NOBODY = torch.zeros(0, dtype=torch.long)
VIEWS_OF_A_TERM = 2  # augmented ones of each case there
RATES_OF_A_TERM = {"learning_rate": 1e-4, "rate_decay": 0.5, "weight_decay": 0.01}  # the defaults of finetune


def run(params: Params, fold: str) -> None:
    """Write the adapted encoder of one fold and the record of what it saw."""
    settings = params.adapt
    with runtime.metered(paths.cost("adapt", fold)):
        geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
        cases = paths.read_table(paths.split(fold))
        start, made_of = pretrained(settings, geometry, params.finetune.pooled_stages)
        plan = plan_of(cases, start, settings, geometry, params.seed, fold, fingerprint(params, fold))
        steps: list[Step] = []
        predictions = pd.DataFrame(columns=["case", "role", "candidate"])
        if settings.method == "auto":
            balanced = params.finetune.class_weights != "none"
            steps, predictions = choose(plan, cases, settings, balanced)
            plan = plan.by(*[(step.method, step.strength) for step in steps if step.kept][-1])
        try:
            network, around, curve = adapt(plan)
        except (FloatingPointError, ValueError) as error:
            raise UserError(f"adapt.method {plan.method}, fold {fold}: {error}") from error
        before = start().encoder.state_dict()
        moved = any(not torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())
        write(network, predictions, fold)
        how = {"asked": settings.method, "method": plan.method, "strength": plan.strength, "encoder_moved": moved}
        how |= {"kept_epoch": kept(curve).epoch if curve else None}
        told = {"curve": [asdict(epoch) for epoch in curve], "search": [as_plain(step) for step in steps]}
        test_time = {"test_time_steps": settings.test_time_steps, "test_time_rate": settings.test_time_rate}
        record = made_of | around | how | what_was_seen(cases, plan, settings) | told | test_time
        paths.write_json(record, paths.adaptation(fold))
        shutil.rmtree(paths.checkpoints("adapt", fold), ignore_errors=True)


def fingerprint(params: Params, fold: str) -> str:
    """Hash all that a training depends on: parameters, code, and the files it reads; weights are added by the loop."""
    files = (paths.split(fold), paths.CASES, paths.COHORT_FACTS, paths.GEOMETRY, paths.INDEX)
    settings = (params.seed, params.adapt, params.finetune, torch.__version__)
    return cache.fingerprint(cache.code_of("adapt"), files, *settings)


def choose(plan: Adapting, cases: pd.DataFrame, settings: Adapt, balanced: bool) -> tuple[list[Step], pd.DataFrame]:
    """Search the search, on the training cases of this fold and what it may see of the target."""
    facts = paths.read_json(paths.COHORT_FACTS)
    if facts["task"] == "multilabel":
        raise UserError(
            "adapt.method: auto compares methods by one class a case, and these have several; name a method"
        )
    classes = facts["classes"]
    training = cases[cases["role"] == Role.TRAIN]
    others = plan.seen.where(~np.isin(plan.seen.cases, training["case"]))
    evaluated = cases[cases["role"].isin([Role.HELD_OUT, Role.TEST])]
    labels = np.array([classes.index(label) for label in training["label"]])
    source = Source(labels, plan.training.patients, len(classes), balanced, plan.seed_of("ladder", plan.fold))
    sets = (plan.training, others, images_of(evaluated))

    def measure(method: str, strength: float) -> Measured:
        candidate = plan.by(method, strength)
        if method in TERMS:
            return measure_on_tail(candidate, sets, source, settings)
        network, _, _ = adapt(candidate)
        labelled, target, unseen = (features_of(network, images, candidate) for images in sets)
        return measure_probes(labelled, target, unseen, source)

    candidates = [(method, OF_A_TERM if method in TERMS else settings.strength) for method in settings.candidates]
    steps, measured = search([("none", 0.0), *candidates], measure, source, partial(tell_step, plan.fold))
    if not steps[0].kept:
        raise UserError(
            f"adapt.method: auto has nothing to start from in fold {plan.fold}; no adaptation was {steps[0].why}"
        )
    tables = [predictions_of(evaluated, method, found) for method, found in measured.items()]
    return steps, pd.concat(tables, ignore_index=True)


def measure_on_tail(plan: Adapting, sets: tuple[Images, Images, Images], source: Source, settings: Adapt) -> Measured:
    """Measure a term by training the last stages with it, from the encoder as it came."""
    training, others, evaluated = sets
    sites = sorted({*training.sites, *others.sites})
    if not len(others) or len(sites) < 2:
        raise ValueError(f"it needs unlabelled cases and two sites; there are {len(others)} and {len(sites)}")
    network = plan.start(n_classes=source.n_classes)
    balance: Balance = "balanced" if source.balanced else "none"
    how: dict[str, Any] = {"batch_size": 16, "class_weights": balance, **RATES_OF_A_TERM}
    recipe = Recipe(settings.trainable_stages, settings.epochs, settings.patience, **how)
    first = first_trained_stage(network, recipe)

    def looked_at(images: Images, labels: Tensor, views: int) -> FrozenCases:
        return FrozenCases(*frozen_views(network, views_of(images, views, plan), first), labels, first)

    targets = torch.eye(source.n_classes)[torch.from_numpy(source.labels)]
    labelled = looked_at(training, targets, VIEWS_OF_A_TERM)
    target = looked_at(others, torch.zeros(len(others), source.n_classes), VIEWS_OF_A_TERM)
    none = torch.zeros(len(evaluated), source.n_classes)
    unseen = looked_at(evaluated, none, 0) if len(evaluated) else labelled.some(NOBODY)
    domains, of_target = (torch.tensor([sites.index(site) for site in images.sites]) for images in (training, others))
    cases, places = (labelled, target, unseen), (domains, of_target)
    return measure_term(network, plan.method, plan.strength, cases, places, recipe, source)


def predictions_of(evaluated: pd.DataFrame, method: str, found: Measured) -> pd.DataFrame:
    """Tabulate the logits of the evaluated cases, for a later comparison with the truth."""
    table = evaluated[["case", "role"]].reset_index(drop=True).assign(candidate=method)
    logits = pd.DataFrame(found.evaluated, columns=[f"logit_{number}" for number in range(found.evaluated.shape[1])])
    return pd.concat([table, logits], axis=1)


def what_was_seen(cases: pd.DataFrame, plan: Adapting, settings: Adapt) -> dict[str, object]:
    """Put down which images adaptation saw without their labels, for the stamp on every metric."""
    looked = cases[cases["case"].isin(plan.seen.cases)]
    if settings.method != "auto" and (settings.method == "none" or settings.strength == 0):
        looked = looked.iloc[:0]
    elif settings.method in HARMONISERS:
        looked = looked[looked["role"] == Role.TRAIN]
    return {
        "target": settings.target,
        "images_seen": len(looked),
        "unlabelled_sites": sorted(set(looked.loc[looked["role"] == Role.UNLABELLED, "site"])),
        "evaluated_seen": bool(looked["role"].isin([Role.HELD_OUT, Role.TEST]).any()),
    }


def write(network: Classifier, predictions: pd.DataFrame, fold: str) -> None:
    """Write the encoder, what differs between sites, and what the candidates of the search prediction."""
    folder = paths.adapted_encoder(fold).parent
    folder.mkdir(parents=True, exist_ok=True)
    for module, file in ((network.encoder, paths.adapted_encoder(fold)), (network.of_site, paths.adapted_sites(fold))):
        save_file({name: value.cpu().contiguous() for name, value in module.state_dict().items()}, file)
    paths.write_table(predictions, paths.search(fold))


def tell_step(fold: str, step: Step) -> None:
    """Write one log line."""
    kept = " *" if step.kept else ""
    log.info("adapt %s, candidate %s: source loss %.4f; %s%s", fold, step.method, step.source_loss, step.why, kept)


def as_plain(step: Step) -> dict[str, object]:
    """Give a step as plain values; None where there is no number."""
    values = asdict(step).items()
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values}
