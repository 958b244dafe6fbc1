"""How a candidate of the search is measured: by models of parts of the labelled source, which prediction all the rest.

Methods that give features are measured by linear probes, terms by a short training of the network's last stages.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from pipeline.learning.models.classifier import Activations, Classifier
from pipeline.learning.models.probe import Probe, fit_probe
from pipeline.learning.training.alignment.base import Target
from pipeline.learning.training.alignment.losses import alignment
from pipeline.learning.training.cases import FrozenCases, in_order
from pipeline.learning.training.frozen import mean_features
from pipeline.learning.training.loop import fit, make_accelerator
from pipeline.learning.training.recipe import Recipe
from pipeline.learning.training.validators import deep_embedded_validation, log_losses

PARTS = 3
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Labelled cases in the order of all else here.

    Attributes
    ----------
    labels : (n,) int64
        Every class present.
    patients : (n,) str
    n_classes : int
    balanced : bool
        Whether classes weigh the same in training.
    seed : int
    """

    labels: Ints
    patients: NDArray[np.str_]
    n_classes: int
    balanced: bool
    seed: int

    def parts(self) -> list[tuple[Ints, Ints]]:
        """Assign the cases by patient: what is trained on and what is evaluated, `PARTS` times."""
        fewest = min(len(set(self.patients[self.labels == label])) for label in np.unique(self.labels))
        if fewest < 2:
            raise ValueError("a class has fewer than two patients, so that no probe can be evaluated")
        splitter = StratifiedGroupKFold(min(PARTS, fewest), shuffle=True, random_state=self.seed)
        return list(splitter.split(self.labels, self.labels, self.patients))

    def some(self, rows: Ints) -> "Source":
        """Take some of the cases."""
        return Source(self.labels[rows], self.patients[rows], self.n_classes, self.balanced, self.seed)


@dataclass(frozen=True)
class Measured:
    """What the models of a candidate, one for each part of the source, prediction.

    Attributes
    ----------
    logits : (n, k)
        Of the source cases, each by the model that did not see it.
    target, evaluated : (m, k), (j, k)
        Mean over the models; evaluated cases are predicted for a later comparison and take no part in the choice.
    risk : float
        Deep embedded validation, mean over the models; NaN without target cases.
    """

    logits: Floats
    target: Floats
    evaluated: Floats
    risk: float


def measure_probes(features: Floats, target: Floats, evaluated: Floats, source: Source) -> Measured:
    """Fit a probe for each part of the source features (n, w), and let it prediction the rest, (m, w) and (j, w)."""
    logits = np.zeros((len(features), source.n_classes))
    predictions, risks = [], []
    for train, held in source.parts():
        some = source.some(train)
        probe = probe_of(features[train], some)
        logits[held], of_target, of_evaluated = (
            (rows - probe.centre) / probe.spread @ probe.weight.T + probe.bias
            for rows in (features[held], target, evaluated)
        )
        predictions.append((of_target, of_evaluated))
        risks.append(_risk(features[train], features[held], target, logits[held], source, held))
    return _pooled(logits, predictions, risks)


def measure_term(
    network: Classifier,
    method: str,
    weight: float,
    cases: tuple[FrozenCases, FrozenCases, FrozenCases],
    domains: tuple[Tensor, Tensor],
    recipe: Recipe,
    source: Source,
) -> Measured:
    """Train the last stages with a term that aligns sites, for each part of the source, and let it prediction the rest.

    Parameters
    ----------
    network : Classifier
        Pretrained; copied for each part.
    method, weight : str, float
        A term of the catalogue, and how much it weighs in the loss.
    cases : three FrozenCases
        Source, target and evaluated ones at the freeze boundary; the labels of the latter two are not looked at.
    domains : two (n,), (m,) int64 Tensors
        Site of each source and target case.
    """
    labelled, unlabelled, evaluated = cases
    target = Target(unlabelled.maps, unlabelled.pooled, domains[1])
    accelerator = make_accelerator(str(network.device))
    logits = np.zeros((len(source.labels), source.n_classes))
    predictions, risks = [], []
    for train, held in source.parts():
        some, tuned = source.some(train), copy.deepcopy(network)
        features = mean_features(tuned, labelled.maps[0, train], labelled.pooled[0, train], labelled.first)
        tuned.start_from(probe_of(features, some))
        rest, validation = (train[rows] for rows in some.parts()[0])  # one part of the patients ends the training
        term = alignment(method, tuned, weight, target, domains[0][rest], recipe, source.seed)
        fit(tuned, labelled.some(rest), labelled.some(validation), recipe, accelerator, source.seed, alignment=term)
        seen, unseen, of_target, of_evaluated = (
            _prediction(tuned, part) for part in (labelled.some(train), labelled.some(held), unlabelled, evaluated)
        )
        logits[held] = unseen[1]
        predictions.append((of_target[1], of_evaluated[1]))
        risks.append(_risk(seen[0], unseen[0], of_target[0], logits[held], source, held))
    return _pooled(logits, predictions, risks)


def probe_of(features: Floats, source: Source) -> Probe:
    """Fit a linear probe on the features (n, w) of source cases."""
    return fit_probe(features, np.eye(source.n_classes)[source.labels], source.patients, source.balanced, source.seed)


@torch.inference_mode()
def _prediction(network: Classifier, cases: FrozenCases) -> tuple[Floats, Floats]:
    """Give features (n, w) and logits (n, k) of the cases as they are (view 0)."""
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


def _risk(train: Floats, held: Floats, target: Floats, logits: Floats, source: Source, rows: Ints) -> float:
    if len(target) < 2:
        return float("nan")
    return deep_embedded_validation(train, held, target, log_losses(logits, source.labels[rows]), source.seed)


def _pooled(logits: Floats, predictions: list[tuple[Floats, Floats]], risks: list[float]) -> Measured:
    target, evaluated = (np.mean(side, axis=0) for side in zip(*predictions, strict=True))
    return Measured(logits, target, evaluated, float(np.mean(risks)))
