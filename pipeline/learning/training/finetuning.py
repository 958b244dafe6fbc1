"""One model: a strategy and its cases in, a network trained from the probe out; the same for a fold and within one."""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.heads import Kind, build_head
from pipeline.learning.models.neighbours import fit_neighbours
from pipeline.learning.models.probe import fit_probe, parts, standardisation
from pipeline.learning.models.tasks import Name, Task, task_of
from pipeline.learning.models.trainable_top import TrainableTop
from pipeline.learning.training.alignment.base import Alignment
from pipeline.learning.training.cases import FrozenCases, WholeCases, in_order
from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.learning.training.frozen import mean_features
from pipeline.learning.training.loop import EVALUATED_AT_ONCE, fit
from pipeline.learning.training.recipe import Epoch, Recipe, first_trained_stage
from pipeline.learning.training.strategies import Strategy

PARTS = 3  # of the training patients, where recipes are compared


@dataclass(frozen=True)
class Labelled:
    """The cases of a training, by what is known of them.

    Attributes
    ----------
    train, validation : FrozenCases
        At one freeze boundary; no patient in both.
    patients : (n,) str
        Of the training cases.
    whole : callable
        Gives training and validation cases as images, for a strategy that trains every stage.
    """

    train: FrozenCases
    validation: FrozenCases
    patients: NDArray[np.str_]
    whole: Callable[[], tuple[WholeCases, WholeCases]]

    def without(self, rows: NDArray[np.int64]) -> "Labelled":
        """Leave only these training cases."""

        def fewer() -> tuple[WholeCases, WholeCases]:
            train, validation = self.whole()
            return train.some(rows), validation

        return Labelled(self.train.some(rows), self.validation, self.patients[rows], fewer)


@dataclass(frozen=True)
class Setting:
    """How models are trained, whatever the strategy."""

    task: Name
    recipe: Recipe
    accelerator: Accelerator
    seed: int
    prefetch: Callable[[Iterable[Any]], Iterator[Any]] = iter

    @property
    def asked(self) -> Task:
        """The task itself."""
        return task_of(self.task)


@dataclass
class Trained:
    """What a training left behind, beside the network.

    Attributes
    ----------
    head : dict
        The argument `head` of `Classifier` that rebuilds the head.
    curve : list of Epoch
    chosen : dict
        The hyper-parameter of the start: the probe's C, or the number of neighbours.
    """

    head: dict[str, Any]
    curve: list[Epoch]
    chosen: dict[str, float] = field(default_factory=dict)


def train(
    network: Classifier,
    strategy: Strategy,
    cases: Labelled,
    setting: Setting,
    *,
    alignment: Callable[[Recipe], Alignment | None] = lambda recipe: None,
    tell: Callable[[Epoch], None] = lambda epoch: None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train a network in place by one strategy; its logits then speak of the training cases' own prevalence.

    Parameters
    ----------
    network : Classifier
        The adapted encoder with an untrained head, which may be replaced.
    alignment : callable
        From the recipe to the term that draws sites together, if there is one. Set up once the probe is in place.
    checkpoint : Checkpoint, optional
        Of this training; see `loop.fit`.
    """
    recipe = strategy.recipe(setting.recipe, len(network.encoder.stages))
    if strategy.neighbours:
        return _neighbours(network, cases, setting)
    kind: Kind = "ordinal" if setting.task == "ordinal" else "linear"
    head = _new_head(network, kind, setting)
    c = _start_from_probe(network, cases, setting)
    training, validation = cases.whole() if _trains_below(network, recipe, cases) else (cases.train, cases.validation)
    curve = fit(
        network,
        training,
        validation,
        recipe,
        accelerator=setting.accelerator,
        seed=setting.seed,
        tell=tell,
        alignment=alignment(recipe) if recipe.epochs else None,
        task=setting.asked,
        checkpoint=checkpoint,
        prefetch=setting.prefetch,
    )
    network.head.lower(setting.asked.prior(cases.train.targets, setting.recipe.class_weights))
    return Trained(head, curve, {"C": c})


def out_of_fold_losses(
    network: Classifier, strategy: Strategy, cases: Labelled, setting: Setting, checkpoint: Checkpoint | None = None
) -> tuple[NDArray[np.float64], int]:
    """Train by one strategy without each part of the patients in turn; give every training case's log-loss (n,).

    Each training stops on the validation cases, which are never evaluated here. The second value counts the epochs of
    all.

    Raises
    ------
    ValueError
        If a class has a single patient, so that no part can be left out.
    """
    targets = cases.train.targets
    assigned = parts(targets.numpy(), cases.patients, most=PARTS, seed=setting.seed, task=setting.task)
    if not assigned:
        raise ValueError("a class has fewer than two patients, so that no part of them can be left out")
    recipe = strategy.recipe(setting.recipe, len(network.encoder.stages))
    evaluated = (
        cases.whole()[0] if _trains_below(network, recipe, cases) else cases.train
    )  # what was frozen no longer is
    losses, epochs = np.zeros(len(targets)), 0
    for number, (rest, held) in enumerate(assigned):
        copied = copy.deepcopy(network)
        part = checkpoint.of(str(number)) if checkpoint else None
        trained = train(copied, strategy, cases.without(rest), setting, checkpoint=part)
        epochs += len(trained.curve) - 1
        logits = prediction(copied, evaluated.some(held))
        losses[held] = setting.asked.case_losses(logits, targets[held]).double().numpy()
    return losses, epochs


@torch.inference_mode()
def prediction(network: Classifier, cases: FrozenCases | WholeCases) -> Tensor:
    """Give the logits (n, n_classes) of the cases as they are, in float32 on the processor."""
    top, device = TrainableTop(network, cases.first), network.device
    batches = (batch for _, batch in in_order(cases, EVALUATED_AT_ONCE))
    return torch.cat([top(*(part.to(device).float() for part in batch)) for batch in batches]).float().cpu()


def _trains_below(network: Classifier, recipe: Recipe, cases: Labelled) -> bool:
    """Tell whether stages before the freeze boundary are trained, so that only the images themselves will do."""
    return recipe.epochs > 0 and first_trained_stage(network, recipe) < cases.train.first


def _start_from_probe(network: Classifier, cases: Labelled, setting: Setting) -> float:
    """Fit the linear probe on the mean features of every view."""
    frozen = cases.train
    views = zip(frozen.maps, frozen.pooled, strict=True)
    features = np.concatenate([mean_features(network, maps, pooled, frozen.first) for maps, pooled in views])
    count = len(frozen.maps)
    probe = fit_probe(
        features,
        np.tile(frozen.targets.numpy(), (count, 1)),
        np.tile(cases.patients, count),
        balanced=setting.recipe.class_weights != "none",
        seed=setting.seed,
        task=setting.task,
    )
    network.start_from(probe)
    return probe.c


def _neighbours(network: Classifier, cases: Labelled, setting: Setting) -> Trained:
    """Let the training cases as they are vote."""
    head = _new_head(network, "neighbours", setting, len(cases.train.targets))
    frozen = cases.train
    network.compose_standardisation(
        *standardisation(mean_features(network, frozen.maps[0], frozen.pooled[0], frozen.first))
    )
    features = torch.from_numpy(mean_features(network, frozen.maps[0], frozen.pooled[0], frozen.first)).float()
    votes = fit_neighbours(network.head, features, frozen.targets, cases.patients, task=setting.task, seed=setting.seed)
    recipe = replace(setting.recipe, epochs=0, trainable_stages=0, rank=0)
    curve = fit(
        network,
        frozen,
        cases.validation,
        recipe,
        accelerator=setting.accelerator,
        seed=setting.seed,
        task=setting.asked,
    )
    return Trained(head, curve, {"neighbours": votes})


def _new_head(network: Classifier, kind: Kind, setting: Setting, n_cases: int = 0) -> dict[str, Any]:
    """Put an empty head of a kind into the network; return the arguments `head` of `Classifier` that rebuild it."""
    arguments: dict[str, Any] = {"n_classes": network.n_classes, "kind": kind, "n_cases": n_cases}
    arguments |= {"findings": setting.task == "multilabel"}
    network.head = build_head(network.encoder.width, **arguments).to(network.device)
    return arguments
