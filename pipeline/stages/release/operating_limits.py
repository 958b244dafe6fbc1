"""Set the operating limits of a release on development cases, by models not trained on them, and test the limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths, prepared
from pipeline.bundle.decision import fit_rules
from pipeline.bundle.limits import OperatingLimits, mean_distances
from pipeline.bundle.monitoring_reference import reference_of, reference_of_numbers, reference_of_times
from pipeline.bundle.numbers import NumberLimits, limits_of_numbers
from pipeline.bundle.times import TimeLimits
from pipeline.imaging.appearance import appearance
from pipeline.imaging.labels import LOG_HAZARD, VALUE, times_of
from pipeline.learning.models.ensemble import mean_of
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.evaluation import TaskSpec, logits_of
from pipeline.metrics.ood import (
    SCORES,
    OODDetector,
    false_alarms,
    fit_ood_detector,
    highest_scores,
    quantiles_of,
)
from pipeline.metrics.regression.evaluation import true_numbers
from pipeline.metrics.shares import wilson
from pipeline.paths import Role
from pipeline.progress import progress
from pipeline.schema import Params
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.predictions import labels_of, mean_of_members
from pipeline.stages.release.corruptions import CORRUPTED
from pipeline.stages.release.model import ENSEMBLE, ReleasedModel
from pipeline.stages.release.parts import (
    MemberGaussians,
    Part,
    appearances_of,
    features_of,
    gaussians_of,
    output_of_case,
    part_of,
)

Floats = NDArray[np.float64]
Config = dict[str, Any]
Counts = dict[str, tuple[int, int]]  # by what was tested: flagged, of how many

TESTED = 30  # patients whose scans are corrupted, one scan of each


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
    patients, probabilities = cases["patient"].to_numpy(dtype=str), model.probabilities(cases)
    scores = np.concatenate([part.scores(several) for part in parts])
    detector = fit_ood_detector(scores, patients, params.release.ood_rate)
    gaussians = gaussians_of(model.members, task)
    shares = {"coverage": params.calibrate.set_coverage, "answered": params.release.answered}
    numbers = numbers_of(params, model, probabilities, gaussians)
    labels = None if numbers else labels_of(cases, task)
    limits = OperatingLimits(
        rules=[] if labels is None else fit_rules(probabilities, labels, patients, task.classes, **shares),
        gaussians=gaussians.classes,
        sites=gaussians.sites,
        appearances=gaussians.appearances,
        detector=detector,
        usual_site=usual_site(parts) if gaussians.sites else (),
        several=several,
        numbers=numbers,
    )
    corrupted = {} if detector.threshold is None else scores_when_corrupted(parts, several)
    limits = replace(limits, foreign=nearest_corruption(detector, corrupted))
    known = cases[["patient"]].assign(ood_score=detector.ood_score(scores))
    known[[f"probability_{number}" for number in range(probabilities.shape[1])]] = probabilities
    counts = {
        "development patients, flagged by a detector that was set on the others": false_alarms(
            scores, patients, detector.rate
        )
    }
    tested = test_set_of(model, gaussians, several)
    counts |= flagged_in_test_set(limits, tested) | flagged_when_corrupted(detector, corrupted)
    received = {"scans": facts["cases_in"], "refused": facts["cases_refused"]}
    return {
        "limits": limits.as_json(),
        "tested": [counted(what, pair) for what, pair in counts.items()],
        "answered": answered_in_test_set(limits, tested, model, task.classes),
        "reference": reference_for(known, cases, labels, task, numbers=numbers, received=received),
    }


def reference_for(
    known: pd.DataFrame,
    cases: pd.DataFrame,
    labels: Labels | None,
    task: TaskSpec,
    *,
    numbers: NumberLimits | TimeLimits | None,
    received: Mapping[str, int],
) -> Config:
    """Collect the reference of monitoring from predictions of development cases; `received` counts scans."""
    if labels is not None:
        return reference_of(known, labels, task.classes, **received)
    values = known["probability_0"].to_numpy()
    if isinstance(numbers, NumberLimits):
        limits = numbers.intervals.of(values)
        return reference_of_numbers(known.assign(**{VALUE: values}), true_numbers(cases), limits, **received)
    times, events = times_of(cases["label"].tolist())
    return reference_of_times(known.assign(**{LOG_HAZARD: values}), times, events, **received)


def numbers_of(
    params: Params, model: ReleasedModel, values: Floats, gaussians: MemberGaussians
) -> NumberLimits | TimeLimits | None:
    """Set the limits of a number or a log hazard by its released values (n, 1); None for classes."""
    if model.risks is not None:
        return TimeLimits(params.cohort.unit, model.risks, gaussians.middle or 0.0)
    if model.intervals is None or gaussians.middle is None:
        return None
    known = {"middle": gaussians.middle, "answered": params.release.answered}
    return limits_of_numbers(values[:, 0], model.intervals, unit=params.cohort.unit, **known)


def development_of(params: Params, model: ReleasedModel, task: TaskSpec) -> list[Part]:
    """List the cases on which limits are set, with models that were not trained on them."""
    if model.form == ENSEMBLE:
        return [part_of(model.members, Role.CALIBRATION, task)]
    return [part_of([fold], Role.HELD_OUT, task) for fold in params.split.numbered]


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
    limits: OperatingLimits, tested: ScoredTestSet | None, model: ReleasedModel, classes: Sequence[str]
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
    unsure = [bool(limits.unsure(one, classes)[1]) for one in model.probabilities(tested.cases)]
    answered = ~(withheld | np.array(unsure))
    patients = tested.cases["patient"]
    counts = (patients[answered].nunique(), patients.nunique())
    lower, upper = wilson(*counts)
    of_scans = {"scans": len(answered), "answered": int(answered.sum())}
    return of_scans | {"patients": counts[1], "patients_answered": counts[0], "lower": lower, "upper": upper}


def scores_when_corrupted(parts: Sequence[Part], several: bool) -> dict[str, Floats]:
    """Score one corrupted scan each of `TESTED` patients, (n, 3), by models not trained on them; by corruption."""
    one_each = [(part, row) for part in parts for row in part.cases.drop_duplicates("patient").to_dict("records")]
    chosen = sorted(one_each, key=lambda pair: str(pair[1]["patient"]))[:TESTED]
    return {
        kind: np.concatenate([score_corrupted(part, row, kind, several) for part, row in chosen])
        for kind in progress(CORRUPTED, "corrupted scans")
    }


def flagged_when_corrupted(detector: OODDetector, corrupted: Mapping[str, Floats]) -> Counts:
    """Count the corrupted scans that are flagged."""
    flags = {kind: detector.is_ood(detector.ood_score(scores)) for kind, scores in corrupted.items()}
    return {
        f"corrupted scans of development patients: {kind}": (int(found.sum()), len(found))
        for kind, found in flags.items()
    }


def nearest_corruption(detector: OODDetector, corrupted: Mapping[str, Floats]) -> float | None:
    """Find the median scaled appearance score of the corruption that changes the appearance least."""
    appearance = SCORES.index("appearance")
    medians = [float(np.median(detector.scaled(scores)[:, appearance])) for scores in corrupted.values()]
    return min(medians, default=None)


def score_corrupted(part: Part, case: Mapping[Any, Any], kind: str, several: bool) -> Floats:
    """Corrupt the channels of a case and compute its three scores (1, 3)."""
    rng = np.random.default_rng(seed_for(0, "spoilt", kind, case["case"]))
    channels = CORRUPTED[kind](np.array(prepared.read_channels(case["case"])), rng)
    outputs = [output_of_case(model, channels, case["site"]) for model in part.models]
    logits = mean_of([one for one, _ in outputs]).double().numpy()
    features = [one[None] for _, one in outputs]
    return part.gaussians.scores(logits, features, appearance(channels)[None], several)


def counted(what: str, counts: tuple[int, int]) -> Config:
    """Write a share of patients or scans with Wilson's 95 % interval."""
    flagged, n = counts
    lower, upper = wilson(flagged, n) if n else (None, None)
    return {"what": what, "flagged": flagged, "n": n, "lower": lower, "upper": upper}
