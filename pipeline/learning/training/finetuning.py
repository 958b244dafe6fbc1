"""Train a network by one strategy, starting from a linear probe; for a fold, and for the search within a fold."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
from pipeline.learning.training.alignment.loss_term import Alignment
from pipeline.learning.training.batch_statistics import estimate_statistics
from pipeline.learning.training.cases import FrozenCases, WholeCases, in_order
from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.learning.training.evaluation import EVALUATED_AT_ONCE
from pipeline.learning.training.frozen import mean_features
from pipeline.learning.training.labelled import Labelled
from pipeline.learning.training.loop import fit
from pipeline.learning.training.recipe import Epoch, Recipe, first_trained_stage
from pipeline.learning.training.strategies import Strategy

Floats = NDArray[np.float64]

PARTS = 3  # number of parts of the training patients when recipes are compared
AT_RISK = 32  # cases of a batch of survival, at least, if there are four times as many


@dataclass(frozen=True)
class Setting:
    """How models are trained, independent of the strategy."""

    task: Name
    recipe: Recipe
    accelerator: Accelerator
    seed: int
    prefetch: Callable[[Iterable[Any]], Iterator[Any]] = iter

    @property
    def asked(self) -> Task:
        """The task, by its name."""
        return task_of(self.task)


@dataclass
class Trained:
    """The results of a training, besides the network.

    Attributes
    ----------
    head : dict
        The argument `head` of `Classifier` that rebuilds the head.
    curve : list of Epoch
    chosen : dict
        The chosen hyperparameter of the start: the probe's C, or the number of neighbours.
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
    """Train a network in place by one strategy; its logits then reflect the prevalence of the training cases.

    Parameters
    ----------
    network : Classifier
        The adapted encoder with an untrained head, which is replaced.
    alignment : callable
        From the recipe to the alignment of the training, or None; called after the probe was fitted.
    checkpoint : Checkpoint, optional
        Checkpoint of this training; see `loop.fit`.
    """
    if setting.task == "regression":
        return _regression(network, strategy, cases, setting, alignment=alignment, tell=tell, checkpoint=checkpoint)
    if setting.task == "survival":
        return _survival(network, strategy, cases, setting, alignment=alignment, tell=tell, checkpoint=checkpoint)
    return _trained(network, strategy, cases, setting, alignment=alignment, tell=tell, checkpoint=checkpoint)


def _regression(network: Classifier, strategy: Strategy, cases: Labelled, setting: Setting, **others: Any) -> Trained:
    """Train on the numbers standardised by the training cases, then let the network give them in their unit."""
    if strategy.neighbours:
        raise ValueError("neighbours vote for classes, and a regression has none; choose probe or full")
    known = cases.train.targets.double()
    mean, scale = float(known.mean()), float(known.std(correction=0)) or 1.0
    found = _trained(network, strategy, cases.standardised(mean, scale), setting, **others)
    network.head.rescale(mean, scale)
    return found


def _survival(network: Classifier, strategy: Strategy, cases: Labelled, setting: Setting, **others: Any) -> Trained:
    """Train by the partial likelihood, in batches that hold enough cases at risk, and standardise the log hazard.

    It has mean 0 and standard deviation 1 over the training cases, because its origin has no meaning, and so that
    members of a portfolio count the same.
    """
    if strategy.neighbours:
        raise ValueError("neighbours vote for classes, and a time has none; choose probe or full")
    size = max(setting.recipe.batch_size, min(AT_RISK, len(cases.patients) // 4))
    found = _trained(
        network, strategy, cases, replace(setting, recipe=replace(setting.recipe, batch_size=size)), **others
    )
    recipe = strategy.recipe(setting.recipe, len(network.encoder.stages))
    evaluated = cases.whole()[0] if _trains_below(network, recipe, cases) else cases.train
    if isinstance(evaluated, WholeCases) and strategy.whole:
        evaluated = replace(evaluated, side=network.instances.side)
    logits = predict_logits(network, evaluated).double()
    scale = float(logits.std(correction=0)) or 1.0
    network.head.rescale(-float(logits.mean()) / scale, 1 / scale)
    return found


def _trained(
    network: Classifier,
    strategy: Strategy,
    cases: Labelled,
    setting: Setting,
    *,
    alignment: Callable[[Recipe], Alignment | None],
    tell: Callable[[Epoch], None],
    checkpoint: Checkpoint | None,
) -> Trained:
    recipe = strategy.recipe(setting.recipe, len(network.encoder.stages))
    if strategy.neighbours:
        return _neighbours(network, cases, setting)
    kind: Kind = "ordinal" if setting.task == "ordinal" else "linear"
    head = _new_head(network, kind, setting)
    training, validation = cases.whole() if _trains_below(network, recipe, cases) else (cases.train, cases.validation)
    if strategy.whole and isinstance(training, WholeCases):
        training = _first_size(network, training, recipe)
        estimate_statistics(network, training, setting.seed)
        views = [_features_of(network, training)]
    else:
        views = _features_of_views(network, cases.train)
    chosen = {"C": _start_from_probe(network, views, cases, setting)}
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
    if strategy.whole and isinstance(training, WholeCases):
        last = replace(training, side=network.instances.side)
        estimate_statistics(network, last, setting.seed, of_views=recipe.statistics_of_views)
    network.head.lower(setting.asked.prior(cases.train.targets, setting.recipe.class_weights))
    return Trained(head, curve, chosen)


def out_of_fold_losses(
    network: Classifier,
    strategy: Strategy,
    cases: Labelled,
    setting: Setting,
    *,
    checkpoint: Checkpoint | None = None,
    tell: Callable[[int, Epoch], None] = lambda part, epoch: None,
) -> tuple[NDArray[np.float64], int]:
    """Cross-validate a strategy on the training cases by patient.

    Each training stops on the validation cases, whose loss is not reported.

    Parameters
    ----------
    tell : callable
        Called after each epoch with the number of the part, from 1 to `PARTS`, and the epoch.

    Returns
    -------
    losses : (n,) float64
        Log-loss of each training case, in nats, by the model that was not trained on its patient.
    epochs : int
        Epochs of all trainings together.

    Raises
    ------
    ValueError
        If a class has fewer than two patients.
    """
    targets = cases.train.targets
    assigned = parts(targets.numpy(), cases.patients, most=PARTS, seed=setting.seed, task=setting.task)
    if not assigned:
        raise ValueError("a class has fewer than two patients, so that strategies cannot be cross-validated")
    recipe = strategy.recipe(setting.recipe, len(network.encoder.stages))
    # Stages below the freeze boundary change if they are trained, so that their stored activations no longer hold.
    evaluated = cases.whole()[0] if _trains_below(network, recipe, cases) else cases.train
    losses, epochs = np.zeros(len(targets)), 0
    for number, (rest, held) in enumerate(assigned):
        copied = copy.deepcopy(network)
        part = checkpoint.of(str(number)) if checkpoint else None
        trained = train(copied, strategy, cases.only(rest), setting, checkpoint=part, tell=partial(tell, number + 1))
        epochs += len(trained.curve) - 1
        logits = predict_logits(copied, evaluated.some(held))
        losses[held] = setting.asked.case_losses(logits, targets[held]).double().numpy()
    return losses, epochs


@torch.inference_mode()
def predict_logits(network: Classifier, cases: FrozenCases | WholeCases) -> Tensor:
    """Predict the logits (n, n_classes) of the cases without augmentation, in float32 on the CPU."""
    top, device = TrainableTop(network, cases.first), network.device
    batches = (batch for _, batch in in_order(cases, EVALUATED_AT_ONCE))
    return torch.cat([top(*(part.to(device).float() for part in batch)) for batch in batches]).float().cpu()


def _trains_below(network: Classifier, recipe: Recipe, cases: Labelled) -> bool:
    """Tell whether stages before the freeze boundary are trained, which requires the images themselves."""
    return recipe.epochs > 0 and first_trained_stage(network, recipe) < cases.train.first


def _features_of_views(network: Classifier, cases: FrozenCases) -> list[Floats]:
    """Compute the mean features (n, width) of every stored view."""
    views = zip(cases.maps, cases.pooled, strict=True)
    return [mean_features(network, maps, pooled, cases.first) for maps, pooled in views]


def _features_of(network: Classifier, cases: WholeCases) -> Floats:
    """Compute the mean features (n, width) of images without augmentation."""
    batches = (batch for _, batch in in_order(cases, EVALUATED_AT_ONCE))
    return np.concatenate([mean_features(network, maps, pooled, cases.first) for maps, pooled in batches])


def _first_size(network: Classifier, cases: WholeCases, recipe: Recipe) -> WholeCases:
    """Let the network predict at the last size of a training, and give the cases the first one."""
    if not recipe.sides:
        return cases
    network.instances.side = recipe.sides[-1]
    return replace(cases, side=recipe.sides[0])  # `prepare` belongs to a network without a size of its own


def _start_from_probe(network: Classifier, views: Sequence[Floats], cases: Labelled, setting: Setting) -> float:
    """Fit the linear probe on the mean features (n, width) of every view, and return its C."""
    count = len(views)
    probe = fit_probe(
        np.concatenate(views),
        np.tile(cases.train.targets.numpy(), (count, 1)),
        np.tile(cases.patients, count),
        balanced=setting.recipe.class_weights != "none",
        seed=setting.seed,
        task=setting.task,
    )
    network.start_from(probe)
    return probe.c


def _neighbours(network: Classifier, cases: Labelled, setting: Setting) -> Trained:
    """Fit a nearest-neighbour head on the training cases without augmentation."""
    head = _new_head(network, "neighbours", setting, len(cases.train.targets))
    frozen = cases.train
    maps, pooled = frozen.maps[0], frozen.pooled[0]
    mean, scale = standardisation(mean_features(network, maps, pooled, frozen.first))
    network.compose_standardisation(mean, scale)
    features = torch.from_numpy(mean_features(network, maps, pooled, frozen.first)).float()
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
