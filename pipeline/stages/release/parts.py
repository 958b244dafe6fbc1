"""Score cases by models that were not trained on them, and describe the cases that each model was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline import paths, prepared
from pipeline.bundle.limits import mean_distances
from pipeline.bundle.numbers import unusual
from pipeline.imaging.appearance import appearance
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.labels import OUTPUTS, REGRESSION, SURVIVAL
from pipeline.learning.models.classifier import Activations, Classifier
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import Portfolio, classifiers_in
from pipeline.metrics.evaluation import TaskSpec, logits_of
from pipeline.metrics.ood import ClassGaussians, energy, fit_gaussians, scores_of
from pipeline.paths import Role
from pipeline.progress import progress
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.predictions import mean_of_members, scored
from pipeline.stages.explain.models import trained
from pipeline.stages.finetune.fold_data import frozen_stages
from pipeline.stages.finetune.presets import WHOLE

Floats = NDArray[np.float64]

ALL = "all"
ONE_GROUP = ("multilabel", *OUTPUTS)  # tasks without exclusive classes
AT_ONCE = 16  # cases


@dataclass(frozen=True)
class MemberGaussians:
    """Distributions of each member's training cases: features by class, features by site, and appearance.

    `middle` is the median number of a regression; None for classes.
    """

    classes: list[ClassGaussians]
    sites: list[ClassGaussians]
    appearances: list[ClassGaussians]
    middle: float | None = None

    def scores(self, logits: Floats, features: Sequence[Floats], appearances: Floats, several: bool) -> Floats:
        """Compute the scores (n, 3) of cases that none of the members was trained on."""
        distances = mean_distances(self.classes, features).min(axis=1)
        appearance = mean_distances(self.appearances, [appearances] * len(self.appearances)).min(axis=1)
        logits = logits if self.middle is None else unusual(logits, self.middle)
        return scores_of(energy(logits, several), distances, appearance)


@dataclass(frozen=True)
class Part:
    """Cases (n), and the models that predicted them without having been trained on them."""

    models: list[Classifier | Portfolio]
    gaussians: MemberGaussians
    cases: pd.DataFrame
    features: list[Floats]

    def scores(self, several: bool) -> Floats:
        """Compute the scores (n, 3) of the cases."""
        appearances = appearances_of(self.cases["case"].tolist())
        return self.gaussians.scores(logits_of(self.cases), self.features, appearances, several)


def part_of(members: Sequence[str], role: Role, task: TaskSpec) -> Part:
    """Read the members' logits and features of the cases of a role."""
    cases = scored(members[0], role) if len(members) == 1 else mean_of_members(members, role)
    features = [features_of(member, cases["case"].tolist()) for member in members]
    return Part([ready(member) for member in members], gaussians_of(members, task), cases, features)


def features_of(member: str, cases: Sequence[str]) -> Floats:
    """Read the features (n, p) of cases that a member was not trained on."""
    stored = np.load(paths.features(member))
    place = {case: row for row, case in enumerate(stored["case"].tolist())}
    return np.asarray(stored["features"][[place[case] for case in cases]], dtype=np.float64)


def ready(member: str) -> Classifier | Portfolio:
    """Load a member for scoring."""
    network = trained(member)
    inference(network)
    return network


def gaussians_of(members: Sequence[str], task: TaskSpec) -> MemberGaussians:
    """Fit the distributions of each member's training cases.

    Tasks without exclusive classes have one mean for all cases. Distributions of sites need several of them.
    """
    classes, sites, appearances = [], [], []
    numbers: list[float] = []
    for member in members:
        assigned = paths.read_table(paths.split(member))
        cases = assigned[assigned["role"].isin(roles_of_training(member))]
        features = trained_features(member, cases)
        labels, places = (cases[column].to_numpy(dtype=str) for column in ("label", "site"))
        numbers += [float(label) for label in labels] if task.task == REGRESSION else []
        classes.append(fit_gaussians(features, np.full(len(labels), ALL) if task.task in ONE_GROUP else labels))
        known = places != ""
        if len(set(places[known])) > 1:
            sites.append(fit_gaussians(features[known], places[known]))
        appearances.append(fit_gaussians(appearances_of(cases["case"].tolist()), np.full(len(cases), ALL)))
    middle = float(np.median(numbers)) if numbers else None
    middle = 0.0 if task.task == SURVIVAL else middle  # log hazards are standardised by the training cases
    return MemberGaussians(classes, sites if len(sites) == len(classes) else [], appearances, middle)


def appearances_of(cases: Sequence[str]) -> Floats:
    """Compute the appearance (n, 28) of prepared cases."""
    return np.array([appearance(np.array(prepared.read_channels(case))) for case in cases])


def trained_features(member: str, cases: pd.DataFrame) -> Floats:
    """Give the features (n, p) of cases that a member was trained on; of the others they are stored.

    Of frozen stages they are in the activation cache, in half precision, which `finetune` filled.
    """
    network = classifiers_in(ready(member))[0]
    if network.test_time.tent_steps:  # the network that sees a case is adapted to it
        rows = progress(list(zip(cases["case"], cases["site"], strict=True)), f"features {member}")
        return np.array(
            [output_of_case(network, np.array(prepared.read_channels(case)), site)[1] for case, site in rows]
        )
    geometry, first = Geometry.from_json(paths.read_json(paths.GEOMETRY)), len(network.encoder.stages)
    views = AugmentedViews(prepared.read_channels, seed_for, geometry)
    maps, pooled = frozen_stages(network, cases, views, first=first, count=0, label=member)
    return attended(network, maps[0], pooled[0], first)


@torch.inference_mode()
def attended(network: Classifier, maps: torch.Tensor, pooled: torch.Tensor, first: int) -> Floats:
    """Weight the features of a case's instances by their attention: (n, S, C, h, w) and (n, S, w) to (n, p)."""
    found = [
        network.attention(network.features(Activations(some.float(), few.float()), first))[0]
        for some, few in zip(maps.split(AT_ONCE), pooled.split(AT_ONCE), strict=True)
    ]
    return torch.cat(found).double().numpy()


@torch.inference_mode()
def output_of_case(
    network: Classifier | Portfolio, channels: NDArray[np.uint8], site: str | None
) -> tuple[torch.Tensor, Floats]:
    """Compute logits (1, K) and features (p,) of one case."""
    found = network.outputs(torch.from_numpy(channels)[None], site)
    return found.logits, found.features[0].double().numpy()


def roles_of_training(member: str) -> list[Role]:
    """List the roles of the cases that a model was trained on; without early stopping, those for validation as well."""
    early = paths.read_json(paths.recipe(member))["strategy"] not in WHOLE
    return [Role.TRAIN] if early else [Role.TRAIN, Role.VALIDATION]
