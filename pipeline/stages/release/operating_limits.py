"""Set the operating limits of a release on development cases, by models not trained on them, and test the limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline import paths
from pipeline.bundle.decision import decide, fit_rules
from pipeline.bundle.limits import OperatingLimits, mean_distances
from pipeline.bundle.monitoring_reference import reference_of
from pipeline.imaging.appearance import appearance
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import Portfolio, classifiers_in, mean_of
from pipeline.metrics.calibrators.calibrator import Calibrator
from pipeline.metrics.evaluation import TaskSpec, logits_of
from pipeline.metrics.ood import (
    ClassGaussians,
    energy,
    false_alarms,
    fit_gaussians,
    fit_ood_detector,
    highest_scores,
    quantiles_of,
    scores_of,
)
from pipeline.metrics.summary import wilson
from pipeline.paths import Role
from pipeline.progress import progress
from pipeline.schema import Params
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.predictions import labels_of, mean_of_members, scored
from pipeline.stages.explain.models import trained
from pipeline.stages.release.corruptions import CORRUPTED
from pipeline.stages.release.model import ENSEMBLE, ReleasedModel

Floats = NDArray[np.float64]
Config = dict[str, Any]
Counts = dict[str, tuple[int, int]]  # by what was tested: flagged, of how many

TESTED = 30  # patients whose scans are corrupted, one scan of each
ALL = "all"


@dataclass(frozen=True)
class MemberGaussians:
    """Distributions of each member's training cases: features by class, features by site, and appearance."""

    classes: list[ClassGaussians]
    sites: list[ClassGaussians]
    appearances: list[ClassGaussians]

    def scores(self, logits: Floats, features: Sequence[Floats], appearances: Floats, several: bool) -> Floats:
        """Compute the scores (n, 3) of cases that none of the members was trained on."""
        distances = mean_distances(self.classes, features).min(axis=1)
        appearance = mean_distances(self.appearances, [appearances] * len(self.appearances)).min(axis=1)
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


@dataclass(frozen=True)
class ScoredTestSet:
    """Cases (n) of the test set with their out-of-distribution scores (n, 3) by the released model."""

    scope: str
    cases: pd.DataFrame
    scores: Floats


def limits_of(params: Params, model: ReleasedModel) -> Config:
    """Set the limits of a release.

    For a refit, thresholds are set as its calibrator was: the model of each fold, with the distributions of its own
    training cases, predicts the held-out cases, and all folds are pooled. For an ensemble, all members predict the
    calibration cases. The distributions that are released are those of the released model's training cases.

    Returns
    -------
    dict
        `limits`; `tested`, how often they flag; `answered`, see `answered_in_test_set`; and the `reference` of
        monitoring.
    """
    facts = paths.read_json(paths.COHORT_FACTS)
    task = TaskSpec(facts["classes"], facts["task"])
    several = task.task == "multilabel"
    parts = development_of(params, model, task)
    cases = pd.concat([part.cases for part in parts], ignore_index=True)
    patients, probabilities = cases["patient"].to_numpy(dtype=str), model.calibrator.apply(logits_of(cases))
    labels = labels_of(cases, task)
    scores = np.concatenate([part.scores(several) for part in parts])
    detector = fit_ood_detector(scores, patients, params.release.ood_rate)
    gaussians = gaussians_of(model.members, task)
    shares = {"coverage": params.calibrate.set_coverage, "answered": params.release.answered}
    limits = OperatingLimits(
        rules=fit_rules(probabilities, labels, patients, task.classes, **shares),
        gaussians=gaussians.classes,
        sites=gaussians.sites,
        appearances=gaussians.appearances,
        detector=detector,
        usual_site=usual_site(parts) if gaussians.sites else (),
        several=several,
    )
    known = cases[["patient"]].assign(ood_score=detector.ood_score(scores))
    known[[f"probability_{number}" for number in range(probabilities.shape[1])]] = probabilities
    counts = {
        "development patients, flagged by a detector that was set on the others": false_alarms(
            scores, patients, detector.rate
        )
    }
    tested = test_set_of(model, gaussians, several)
    counts |= flagged_in_test_set(limits, tested) | flagged_when_corrupted(parts, limits)
    reference = reference_of(known, labels, task.classes, scans=facts["cases_in"], refused=facts["cases_refused"])
    return {
        "limits": limits.as_json(),
        "tested": [counted(what, pair) for what, pair in counts.items()],
        "answered": answered_in_test_set(limits, tested, model.calibrator, task.classes),
        "reference": reference,
    }


def development_of(params: Params, model: ReleasedModel, task: TaskSpec) -> list[Part]:
    """List the cases on which limits are set, with models that were not trained on them."""
    if model.form == ENSEMBLE:
        return [part_of(model.members, Role.CALIBRATION, task)]
    return [part_of([fold], Role.HELD_OUT, task) for fold in params.split.numbered]


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

    A multilabel task has one mean for all cases. Distributions of sites need several of them.
    """
    classes, sites, appearances = [], [], []
    for member in members:
        assigned = paths.read_table(paths.split(member))
        cases = assigned[assigned["role"] == Role.TRAIN]
        features = trained_features(member, cases)
        labels, places = (cases[column].to_numpy(dtype=str) for column in ("label", "site"))
        classes.append(fit_gaussians(features, np.full(len(labels), ALL) if task.task == "multilabel" else labels))
        known = places != ""
        if len(set(places[known])) > 1:
            sites.append(fit_gaussians(features[known], places[known]))
        appearances.append(fit_gaussians(appearances_of(cases["case"].tolist()), np.full(len(cases), ALL)))
    return MemberGaussians(classes, sites if len(sites) == len(classes) else [], appearances)


def appearances_of(cases: Sequence[str]) -> Floats:
    """Compute the appearance (n, 28) of prepared cases."""
    return np.array([appearance(np.load(paths.prepared_case(case))) for case in cases])


def trained_features(member: str, cases: pd.DataFrame) -> Floats:
    """Compute the features (n, p) of cases that a member was trained on; of the others they are stored."""
    network, rows = classifiers_in(ready(member))[0], list(zip(cases["case"], cases["site"], strict=True))
    features = [
        output_of_case(network, np.load(paths.prepared_case(case)), site)[1]
        for case, site in progress(rows, f"features {member}")
    ]
    return np.array(features)


@torch.inference_mode()
def output_of_case(
    network: Classifier | Portfolio, channels: NDArray[np.uint8], site: str | None
) -> tuple[torch.Tensor, Floats]:
    """Compute logits (1, K) and features (p,) of one case."""
    found = network.outputs(torch.from_numpy(channels)[None], site)
    return found.logits, found.features[0].double().numpy()


def usual_site(parts: Sequence[Part]) -> tuple[float, ...]:
    """Compute quantiles of the distance from held-out cases to their nearest site; none if no fold had two sites."""
    with_sites = [part for part in parts if part.gaussians.sites]
    if not with_sites:
        return ()
    nearest = [mean_distances(part.gaussians.sites, part.features).min(axis=1) for part in with_sites]
    patients = np.concatenate([part.cases["patient"].to_numpy(dtype=str) for part in with_sites])
    return quantiles_of(highest_scores(np.concatenate(nearest), patients))


def test_set_of(model: ReleasedModel, gaussians: MemberGaussians, several: bool) -> ScoredTestSet | None:
    """Score the test set by the released model; None while it is closed."""
    shown = paths.read_json(paths.STAMPS)["test_set"]
    if not shown["shown"]:
        return None
    cases = mean_of_members(model.members, Role.TEST)
    features = [features_of(member, cases["case"].tolist()) for member in model.members]
    appearances = appearances_of(cases["case"].tolist())
    return ScoredTestSet(shown["scope"], cases, gaussians.scores(logits_of(cases), features, appearances, several))


def flagged_in_test_set(limits: OperatingLimits, tested: ScoredTestSet | None) -> Counts:
    """Count the test patients whom the released model flags; none while the test set is closed."""
    if tested is None or limits.detector.threshold is None:
        return {}
    flagged = set(tested.cases["patient"][limits.detector.is_ood(limits.detector.ood_score(tested.scores))])
    return {f"patients of the test set ({tested.scope})": (len(flagged), tested.cases["patient"].nunique())}


def answered_in_test_set(
    limits: OperatingLimits, tested: ScoredTestSet | None, calibrator: Calibrator, classes: Sequence[str]
) -> Config | None:
    """Count the scans of the test set that the released model answers: in distribution and confident enough.

    Returns
    -------
    dict or None
        `scans` and how many are `answered`; `patients` and those with an answer (`patients_answered`), with the
        `lower` and `upper` Wilson limit of their share. None while the test set is closed.
    """
    if tested is None:
        return None
    withheld = limits.detector.is_ood(limits.detector.ood_score(tested.scores))
    unsure = [bool(decide(limits.rules, one, classes)[1]) for one in calibrator.apply(logits_of(tested.cases))]
    answered = ~(withheld | np.array(unsure))
    patients = tested.cases["patient"]
    counts = (patients[answered].nunique(), patients.nunique())
    lower, upper = wilson(*counts)
    of_scans = {"scans": len(answered), "answered": int(answered.sum())}
    return of_scans | {"patients": counts[1], "patients_answered": counts[0], "lower": lower, "upper": upper}


def flagged_when_corrupted(parts: Sequence[Part], limits: OperatingLimits) -> Counts:
    """Count the corrupted scans that are flagged, each by a model that was not trained on the patient."""
    if limits.detector.threshold is None:
        return {}
    one_each = [(part, row) for part in parts for row in part.cases.drop_duplicates("patient").to_dict("records")]
    chosen = sorted(one_each, key=lambda pair: str(pair[1]["patient"]))[:TESTED]
    found: Counts = {}
    for kind in progress(CORRUPTED, "corrupted scans"):
        scores = np.array([score_corrupted(part, row, kind, limits) for part, row in chosen])
        found[f"corrupted scans of development patients: {kind}"] = (
            int(limits.detector.is_ood(scores).sum()),
            len(chosen),
        )
    return found


def score_corrupted(part: Part, case: Mapping[Any, Any], kind: str, limits: OperatingLimits) -> float:
    """Corrupt the channels of a case and compute its out-of-distribution score."""
    rng = np.random.default_rng(seed_for(0, "spoilt", kind, case["case"]))
    channels = CORRUPTED[kind](np.load(paths.prepared_case(case["case"])), rng)
    outputs = [output_of_case(model, channels, case["site"]) for model in part.models]
    logits = mean_of([one for one, _ in outputs]).double().numpy()
    features = [one[None] for _, one in outputs]
    scores = part.gaussians.scores(logits, features, appearance(channels)[None], limits.several)
    return float(limits.detector.ood_score(scores)[0])


def counted(what: str, counts: tuple[int, int]) -> Config:
    """Write a share of patients or scans with Wilson's 95 % interval."""
    flagged, n = counts
    lower, upper = wilson(flagged, n) if n else (None, None)
    return {"what": what, "flagged": flagged, "n": n, "lower": lower, "upper": upper}
