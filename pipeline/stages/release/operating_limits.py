"""The limits of use that go with a release, set on development cases that the evaluating model never saw, and tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from pipeline import paths, runtime
from pipeline.bundle.decision import fit_rules
from pipeline.bundle.limits import Limits, mean_distances
from pipeline.bundle.monitoring_reference import reference_of
from pipeline.imaging.appearance import appearance
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import mean_of
from pipeline.metrics.calibrators.calibrator import calibrator_from
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
from pipeline.schema import Params
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.predictions import labels_of, mean_of_members, scored
from pipeline.stages.release.corruptions import CORRUPTED

Floats = NDArray[np.float64]
Config = dict[str, Any]

TRIED = 30  # patients whose scans are corrupted, one image of each
ALL = "all"


@dataclass(frozen=True)
class MemberGaussians:
    """Where the training cases of each member lie: their features by class and by site, and what they look like."""

    classes: list[ClassGaussians]
    sites: list[ClassGaussians]
    appearances: list[ClassGaussians]

    def scores(self, logits: Floats, features: Sequence[Floats], appearances: Floats, several: bool) -> Floats:
        """Give the scores (n, 3) of cases that none of the members was trained on."""
        apart = mean_distances(self.classes, features).min(axis=1)
        odd = mean_distances(self.appearances, [appearances] * len(self.appearances)).min(axis=1)
        return scores_of(energy(logits, several), apart, odd)


@dataclass(frozen=True)
class Part:
    """Cases (n) with the models that evaluated them, none of which was trained on them."""

    models: list[Classifier]
    gaussians: MemberGaussians
    cases: pd.DataFrame
    features: list[Floats]

    def scores(self, several: bool) -> Floats:
        """Give the scores (n, 3) of the cases."""
        appearances = appearances_of(self.cases["case"].tolist())
        return self.gaussians.scores(logits_of(self.cases), self.features, appearances, several)


def limits_of(params: Params, calibrated: Config) -> Config:
    """Set the limits of what is released: `limits`, how they do, `tried`, and what scans in use are held against.

    Of one refitted model, thresholds are set as its calibrator was: each fold's model, with the gaussian of its own
    training cases, evaluates what it held out, and all are pooled. An ensemble evaluates the cases set aside for its
    map. The gaussian that goes along is that of the released model, of the cases that it was trained on.
    """
    facts = paths.read_json(paths.COHORT_FACTS)
    labelling = TaskSpec(facts["classes"], facts["task"])
    several = labelling.task == "multilabel"
    parts = development_of(params, calibrated, labelling)
    cases = pd.concat([part.cases for part in parts], ignore_index=True)
    patients, probabilities = cases["patient"].to_numpy(dtype=str), calibrator_from(calibrated).apply(logits_of(cases))
    labels = labels_of(cases, labelling)
    scores = np.concatenate([part.scores(several) for part in parts])
    detector = fit_ood_detector(scores, patients, params.release.ood_rate)
    gaussians = gaussians_of(calibrated["members"], labelling)
    limits = Limits(
        fit_rules(
            probabilities,
            labels,
            patients,
            labelling.classes,
            params.calibrate.set_coverage,
            params.release.answered,
        ),
        gaussians.classes,
        gaussians.sites,
        gaussians.appearances,
        detector,
        usual_site(parts) if gaussians.sites else (),
        several,
    )
    known = cases[["patient"]].assign(ood_score=detector.ood_score(scores))
    known[[f"probability_{number}" for number in range(probabilities.shape[1])]] = probabilities
    candidate = {"patients of development, by an alarm set on others": false_alarms(scores, patients, detector.rate)}
    candidate |= test(limits, gaussians, calibrated, labelling) | corrupted(parts, limits)
    return {
        "limits": limits.as_json(),
        "tried": [counted(what, *pair) for what, pair in candidate.items()],
        "reference": reference_of(known, labels, labelling.classes, facts["cases_in"], facts["cases_refused"]),
    }


def development_of(params: Params, calibrated: Config, labelling: TaskSpec) -> list[Part]:
    """Give the cases on which limits are set, each with the models that never saw it."""
    if calibrated["form"] == "ensemble":
        return [part_of(calibrated["members"], Role.CALIBRATION, labelling)]
    return [part_of([fold], Role.HELD_OUT, labelling) for fold in params.split.numbered]


def part_of(members: Sequence[str], role: Role, labelling: TaskSpec) -> Part:
    """Read what the members made of the cases of a role."""
    cases = scored(members[0], role) if len(members) == 1 else mean_of_members(members, role)
    features = [features_of(member, cases["case"].tolist()) for member in members]
    return Part([trained(member) for member in members], gaussians_of(members, labelling), cases, features)


def features_of(member: str, cases: Sequence[str]) -> Floats:
    """Read the features (n, p) that a member's head saw of cases that it was not trained on."""
    stored = np.load(paths.features(member))
    place = {case: row for row, case in enumerate(stored["case"].tolist())}
    return np.asarray(stored["features"][[place[case] for case in cases]], dtype=np.float64)


def trained(fold: str) -> Classifier:
    """Rebuild the network that a fold trained, ready to score."""
    network = Classifier(**paths.read_json(paths.network(fold)))
    network.load_state_dict(load_file(paths.model(fold)))
    inference(network)
    return network


def gaussians_of(members: Sequence[str], labelling: TaskSpec) -> MemberGaussians:
    """Fit the gaussians of the cases that each member was trained on.

    Of labels that stand each by itself there is one mean for all cases; sites have gaussians where there are several.
    """
    classes, sites, appearances = [], [], []
    for member in members:
        assigned = paths.read_table(paths.split(member))
        cases = assigned[assigned["role"] == Role.TRAIN]
        features = trained_features(member, cases)
        labels, places = (cases[column].to_numpy(dtype=str) for column in ("label", "site"))
        classes.append(fit_gaussians(features, np.full(len(labels), ALL) if labelling.task == "multilabel" else labels))
        known = places != ""
        if len(set(places[known])) > 1:
            sites.append(fit_gaussians(features[known], places[known]))
        appearances.append(fit_gaussians(appearances_of(cases["case"].tolist()), np.full(len(cases), ALL)))
    return MemberGaussians(classes, sites if len(sites) == len(classes) else [], appearances)


def appearances_of(cases: Sequence[str]) -> Floats:
    """Describe what prepared cases look like, (n, 28)."""
    return np.array([appearance(np.load(paths.prepared_case(case))) for case in cases])


def trained_features(member: str, cases: pd.DataFrame) -> Floats:
    """Compute the features (n, p) of cases that a member was trained on; of the others they are stored."""
    network, rows = trained(member), list(zip(cases["case"], cases["site"], strict=True))
    features = [
        look(network, np.load(paths.prepared_case(case)), site)[1]
        for case, site in runtime.progress(rows, f"features {member}")
    ]
    return np.array(features)


@torch.inference_mode()
def look(network: Classifier, channels: NDArray[np.uint8], site: str | None) -> tuple[torch.Tensor, Floats]:
    """Evaluate one case: logits (1, K) and features (p,)."""
    network.at(site)
    found = network.look(torch.from_numpy(channels)[None])
    return found.logits, found.features[0].double().numpy()


def usual_site(parts: Sequence[Part]) -> tuple[float, ...]:
    """Tell how far left-out cases lie from the site that they are nearest to; nothing where no fold knew two sites."""
    with_sites = [part for part in parts if part.gaussians.sites]
    if not with_sites:
        return ()
    nearest = [mean_distances(part.gaussians.sites, part.features).min(axis=1) for part in with_sites]
    patients = np.concatenate([part.cases["patient"].to_numpy(dtype=str) for part in with_sites])
    return quantiles_of(highest_scores(np.concatenate(nearest), patients))


def test(
    limits: Limits, gaussians: MemberGaussians, calibrated: Config, labelling: TaskSpec
) -> dict[str, tuple[int, int]]:
    """Count the test patients whom the released model calls unlike development; nothing while they are closed."""
    shown = paths.read_json(paths.STAMPS)["test_set"]
    if not shown["shown"] or limits.detector.threshold is None:
        return {}
    cases = mean_of_members(calibrated["members"], Role.TEST)
    features = [features_of(member, cases["case"].tolist()) for member in calibrated["members"]]
    scores = gaussians.scores(logits_of(cases), features, appearances_of(cases["case"].tolist()), limits.several)
    candidate = set(cases["patient"][limits.detector.is_ood(limits.detector.ood_score(scores))])
    return {f"patients of the test set ({shown['scope']})": (len(candidate), cases["patient"].nunique())}


def corrupted(parts: Sequence[Part], limits: Limits) -> dict[str, tuple[int, int]]:
    """Count how many corrupted scans the detector flags, each evaluated by a model that never saw the patient."""
    if limits.detector.threshold is None:
        return {}
    one_each = [(part, row) for part in parts for row in part.cases.drop_duplicates("patient").to_dict("records")]
    chosen = sorted(one_each, key=lambda pair: str(pair[1]["patient"]))[:TRIED]
    found: dict[str, tuple[int, int]] = {}
    for kind in runtime.progress(CORRUPTED, "corrupted scans"):
        scores = np.array([score_corrupted(part, row, kind, limits) for part, row in chosen])
        found[f"their scans, {kind}"] = (int(limits.detector.is_ood(scores).sum()), len(chosen))
    return found


def score_corrupted(part: Part, case: Mapping[Any, Any], kind: str, limits: Limits) -> float:
    """Corrupt the channels of a case and score what comes of it."""
    rng = np.random.default_rng(seed_for(0, "spoilt", kind, case["case"]))
    channels = CORRUPTED[kind](np.load(paths.prepared_case(case["case"])), rng)
    seen = [look(model, channels, case["site"]) for model in part.models]
    logits = mean_of([one for one, _ in seen]).double().numpy()
    features = [one[None] for _, one in seen]
    scores = part.gaussians.scores(logits, features, appearance(channels)[None], limits.several)
    return float(limits.detector.ood_score(scores)[0])


def counted(what: str, candidate: int, evaluated: int) -> Config:
    """Write a share of patients with Wilson's interval."""
    lower, upper = wilson(candidate, evaluated) if evaluated else (None, None)
    return {"what": what, "candidate": candidate, "n": evaluated, "lower": lower, "upper": upper}
