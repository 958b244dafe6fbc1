"""Measure a candidate method by models that are trained on parts of the labelled source and predict the rest.

Methods that change the features are measured by linear probes, alignment losses by a short training of the last stages.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from pipeline.learning.models.classifier import Activations, Classifier
from pipeline.learning.models.probe import Probe, fit_probe
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.alignment.loss_term import Target
from pipeline.learning.training.alignment.losses import build_alignment
from pipeline.learning.training.cases import FrozenCases, in_order
from pipeline.learning.training.frozen import mean_features
from pipeline.learning.training.loop import fit
from pipeline.learning.training.recipe import Recipe
from pipeline.learning.training.validators import deep_embedded_validation, log_losses

PARTS = 3
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """The labelled source cases.

    Attributes
    ----------
    labels : (n,) int64
        Every class is present.
    patients : (n,) str
    n_classes : int
    balanced : bool
        Whether all classes have the same weight in training.
    seed : int
        Of the parts and of every training.
    """

    labels: Ints
    patients: NDArray[np.str_]
    n_classes: int
    balanced: bool
    seed: int

    def parts(self) -> list[tuple[Ints, Ints]]:
        """Split the cases by patient into training and evaluated rows, `PARTS` times.

        Raises
        ------
        ValueError
            If a class has fewer than two patients.
        """
        fewest = min(len(set(self.patients[self.labels == label])) for label in np.unique(self.labels))
        if fewest < 2:
            raise ValueError("a class has fewer than two patients, so that no probe can be evaluated")
        splitter = StratifiedGroupKFold(min(PARTS, fewest), shuffle=True, random_state=self.seed)
        return list(splitter.split(self.labels, self.labels, self.patients))

    def some(self, rows: Ints) -> "Source":
        """Select some of the cases."""
        return replace(self, labels=self.labels[rows], patients=self.patients[rows])


@dataclass(frozen=True)
class Measured:
    """Predictions of a candidate's models, one model for each part of the source.

    Attributes
    ----------
    logits : (n, k)
        Of the source cases, each by the model that was not trained on it.
    target, evaluated : (m, k), (j, k)
        Mean logits over the models. The evaluated cases take no part in the choice of a method; they are predicted
        for a later comparison with their labels.
    risk : float
        Deep embedded validation, averaged over the models; NaN without target cases.
    """

    logits: Floats
    target: Floats
    evaluated: Floats
    risk: float


@dataclass(frozen=True)
class TopTraining:
    """A short training of the network's last stages with an alignment loss.

    Attributes
    ----------
    method, weight : str, float
        The alignment loss of the catalogue, and its weight.
    recipe : Recipe
    labelled, target, evaluated : FrozenCases
        The source, target and evaluated cases at the freeze boundary; the targets of the latter two are not used.
    domains, target_domains : (n,), (m,) int64
        Site of each source and target case.
    """

    method: str
    weight: float
    recipe: Recipe
    labelled: FrozenCases
    target: FrozenCases
    evaluated: FrozenCases
    domains: Tensor
    target_domains: Tensor


def measure_probes(features: Floats, target: Floats, evaluated: Floats, source: Source) -> Measured:
    """Fit a probe on each part of the source features (n, w); predict the rest, the target (m, w) and others (j, w)."""
    logits = np.zeros((len(features), source.n_classes))
    of_target, of_evaluated, risks = [], [], []
    for train, held_out in source.parts():
        probe = probe_of(features[train], source.some(train))
        logits[held_out] = probe_logits(probe, features[held_out])
        of_target.append(probe_logits(probe, target))
        of_evaluated.append(probe_logits(probe, evaluated))
        losses = log_losses(logits[held_out], source.labels[held_out])
        risks.append(_risk(features[train], features[held_out], target, losses=losses, seed=source.seed))
    return Measured(logits, np.mean(of_target, axis=0), np.mean(of_evaluated, axis=0), float(np.mean(risks)))


def measure_training(network: Classifier, training: TopTraining, source: Source) -> Measured:
    """Train the last stages of a copy of the network on each part of the source, and predict all other cases."""
    labelled, unlabelled = training.labelled, training.target
    target = Target(unlabelled.maps, unlabelled.pooled, training.target_domains)
    accelerator = make_accelerator(str(network.device))
    logits = np.zeros((len(source.labels), source.n_classes))
    of_target, of_evaluated, risks = [], [], []
    for train, held_out in source.parts():
        some, tuned = source.some(train), copy.deepcopy(network)
        features = mean_features(tuned, labelled.maps[0, train], labelled.pooled[0, train], labelled.first)
        tuned.start_from(probe_of(features, some))
        fitted, validation = (train[rows] for rows in some.parts()[0])  # one part of the patients stops the training
        loss = build_alignment(
            training.method,
            tuned,
            weight=training.weight,
            target=target,
            domains=training.domains[fitted],
            recipe=training.recipe,
            seed=source.seed,
        )
        fit(
            tuned,
            labelled.some(fitted),
            labelled.some(validation),
            training.recipe,
            accelerator=accelerator,
            seed=source.seed,
            alignment=loss,
        )
        train_features, _ = _predict(tuned, labelled.some(train))
        held_out_features, logits[held_out] = _predict(tuned, labelled.some(held_out))
        target_features, target_logits = _predict(tuned, unlabelled)
        of_target.append(target_logits)
        of_evaluated.append(_predict(tuned, training.evaluated)[1])
        losses = log_losses(logits[held_out], source.labels[held_out])
        risks.append(_risk(train_features, held_out_features, target_features, losses=losses, seed=source.seed))
    return Measured(logits, np.mean(of_target, axis=0), np.mean(of_evaluated, axis=0), float(np.mean(risks)))


def probe_of(features: Floats, source: Source) -> Probe:
    """Fit a linear probe on the features (n, w) of source cases."""
    targets = np.eye(source.n_classes)[source.labels]
    return fit_probe(features, targets, source.patients, balanced=source.balanced, seed=source.seed)


def probe_logits(probe: Probe, features: Floats) -> Floats:
    """Predict the logits (n, k) of features (n, w)."""
    return np.asarray((features - probe.mean) / probe.scale @ probe.weight.T + probe.bias)


@torch.inference_mode()
def _predict(network: Classifier, cases: FrozenCases) -> tuple[Floats, Floats]:
    """Compute the features (n, w) and logits (n, k) of the cases without augmentation (view 0)."""
    device = network.device
    features, logits = [], []
    for _, (maps, pooled) in in_order(cases, 16):
        found, _ = network.attention(
            network.features(Activations(maps.to(device).float(), pooled.to(device).float()), cases.first)
        )
        features.append(found)
        logits.append(network.head(found))
    if not features:
        return np.zeros((0, network.encoder.width)), np.zeros((0, network.n_classes))
    return torch.cat(features).double().cpu().numpy(), torch.cat(logits).double().cpu().numpy()


def _risk(train: Floats, held_out: Floats, target: Floats, *, losses: NDArray[np.floating], seed: int) -> float:
    """Estimate the risk at the target from features and the held-out losses; NaN with fewer than two target cases."""
    return deep_embedded_validation(train, held_out, target, losses, seed=seed) if len(target) > 1 else float("nan")
