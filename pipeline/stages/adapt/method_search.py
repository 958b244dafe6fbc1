"""Choose the adaptation method of a fold by measuring every candidate (`adapt.method: auto`)."""

import logging
import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline import paths
from pipeline.errors import UserError
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.training.alignment.losses import ALIGNMENT_LOSSES
from pipeline.learning.training.cases import FrozenCases
from pipeline.learning.training.frozen import frozen_views
from pipeline.learning.training.recipe import Recipe, first_trained_stage
from pipeline.paths import Role
from pipeline.progress import activity
from pipeline.schema import Adapt
from pipeline.seeds import seed_for
from pipeline.stages.adapt.adapting import AdaptationPlan, Images, adapt, features_of, views_of
from pipeline.stages.adapt.candidates import Measured, Source, TopTraining, measure_probes, measure_training
from pipeline.stages.adapt.selection import Step, search
from pipeline.stages.adapt.setup import images_of

log = logging.getLogger(__name__)

NO_ROWS = torch.zeros(0, dtype=torch.long)
# How the search trains an alignment loss: its weight, and the augmented views of each case.
LOSS_WEIGHT, LOSS_VIEWS = 1.0, 2
LOSS_RECIPE = {  # constant, so that a changed default of finetune does not change the adapted encoder
    "batch_size": 16,
    "learning_rate": 1e-4,
    "rate_decay": 0.5,
    "weight_decay": 0.01,
    "label_smoothing": 0.0,
    "mix": "none",
    "mix_alpha": 0.2,
    "average": "none",
    "rank": 0,
}


@dataclass(frozen=True)
class Sets:
    """The images on which candidates are measured.

    Attributes
    ----------
    training : Images
        The labelled source.
    target : Images
        The other images that adaptation may see.
    evaluated : Images
        Held-out and test cases, predicted for a later comparison.
    """

    training: Images
    target: Images
    evaluated: Images


def choose(
    plan: AdaptationPlan, cases: pd.DataFrame, settings: Adapt, balanced: bool
) -> tuple[list[Step], pd.DataFrame]:
    """Choose the adaptation method from this fold's training cases and the unlabelled target images.

    Returns
    -------
    steps : list of Step
        The candidates in order; the last one kept is selected.
    predictions : pandas.DataFrame
        The logits of every candidate for the held-out and test cases, which take no part in the choice.
    """
    facts = paths.read_json(paths.COHORT_FACTS)
    if facts["task"] == "multilabel":
        raise UserError("params.yaml: adapt.method is auto, which needs one class per case; name a method instead")
    classes = facts["classes"]
    training = cases[cases["role"] == Role.TRAIN]
    evaluated = cases[cases["role"].isin([Role.HELD_OUT, Role.TEST])]
    source = Source(
        labels=np.array([classes.index(label) for label in training["label"]]),
        patients=plan.training.patients,
        n_classes=len(classes),
        balanced=balanced,
        seed=seed_for(plan.seed, "ladder", plan.fold),
    )
    images = Sets(
        training=plan.training,
        target=plan.seen.where(~np.isin(plan.seen.cases, training["case"])),
        evaluated=images_of(evaluated),
    )

    def measure(method: str, strength: float) -> Measured:
        activity(f"candidate {method} ({tried.index(method) + 1} of {len(tried)})")
        candidate = plan.with_method(method, strength)
        if method in ALIGNMENT_LOSSES:
            return measure_loss(candidate, images, source, settings)
        network, _, _ = adapt(candidate)
        return measure_probes(
            features_of(network, images.training, candidate),
            features_of(network, images.target, candidate),
            features_of(network, images.evaluated, candidate),
            source,
        )

    candidates = [
        (method, LOSS_WEIGHT if method in ALIGNMENT_LOSSES else settings.strength) for method in settings.candidates
    ]
    tried: list[str] = ["none", *settings.candidates]
    steps, measured = search([("none", 0.0), *candidates], measure, source, partial(log_step, plan.fold))
    if not steps[0].kept:
        raise UserError(
            f"params.yaml: adapt.method is auto, which compares methods with no adaptation, but in fold {plan.fold} "
            f"no adaptation was {steps[0].why}; name a method instead"
        )
    tables = [predictions_of(evaluated, method, found) for method, found in measured.items()]
    return steps, pd.concat(tables, ignore_index=True)


def measure_loss(plan: AdaptationPlan, images: Sets, source: Source, settings: Adapt) -> Measured:
    """Measure an alignment loss by training the last stages of the pretrained network with it.

    Raises
    ------
    ValueError
        If there are no target images, or fewer than two sites.
    """
    sites = sorted({*images.training.sites, *images.target.sites})
    if not len(images.target) or len(sites) < 2:
        raise ValueError(
            f"an alignment loss needs unlabelled cases and two sites; there are {len(images.target)} and {len(sites)}"
        )
    network = plan.start(n_classes=source.n_classes)
    recipe = Recipe(
        trainable_stages=settings.trainable_stages,
        epochs=settings.epochs,
        patience=settings.patience,
        class_weights="balanced" if source.balanced else "none",
        **LOSS_RECIPE,  # type: ignore[arg-type]
    )
    first = first_trained_stage(network, recipe)
    targets = torch.eye(source.n_classes)[torch.from_numpy(source.labels)]
    labelled = frozen_cases(network, images.training, plan, first=first, views=LOSS_VIEWS, targets=targets)
    target = frozen_cases(network, images.target, plan, first=first, views=LOSS_VIEWS)
    evaluated = labelled.some(NO_ROWS)
    if len(images.evaluated):
        evaluated = frozen_cases(network, images.evaluated, plan, first=first, views=0)
    training = TopTraining(
        method=plan.method,
        weight=plan.strength,
        recipe=recipe,
        labelled=labelled,
        target=target,
        evaluated=evaluated,
        domains=torch.tensor([sites.index(site) for site in images.training.sites]),
        target_domains=torch.tensor([sites.index(site) for site in images.target.sites]),
    )
    return measure_training(network, training, source)


def frozen_cases(
    network: Classifier,
    images: Images,
    plan: AdaptationPlan,
    *,
    first: int,
    views: int,
    targets: Tensor | None = None,
) -> FrozenCases:
    """Run the stages before `first` on the cases with their views; targets default to zeros, as they are not used."""
    maps, pooled = frozen_views(network, views_of(images, views, plan), first)
    return FrozenCases(maps, pooled, torch.zeros(len(images), network.n_classes) if targets is None else targets, first)


def predictions_of(evaluated: pd.DataFrame, method: str, found: Measured) -> pd.DataFrame:
    """Tabulate a candidate's logits of the evaluated cases, for a later comparison with their labels."""
    table = evaluated[["case", "role"]].reset_index(drop=True).assign(candidate=method)
    logits = pd.DataFrame(found.evaluated, columns=[f"logit_{number}" for number in range(found.evaluated.shape[1])])
    return pd.concat([table, logits], axis=1)


def log_step(fold: str, step: Step) -> None:
    """Log one candidate."""
    if math.isnan(step.source_loss):
        log.info("adapt %s, candidate %s: %s", fold, step.method, step.why)
        return
    loss, outcome = f"source loss {step.source_loss:.4f} ({step.why})", "kept" if step.kept else "not kept"
    log.info("adapt %s, candidate %s: %s, %s", fold, step.method, loss, outcome)
