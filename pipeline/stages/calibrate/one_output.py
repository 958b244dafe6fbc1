"""Evaluate a task without classes: its folds, their repetitions, the test set and left-out sites.

The network has one output, a number or a log hazard. How it is recalibrated, and what is told of it, is a `Kind`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.errors import UserError
from pipeline.metrics.guards import LeakageError, refuse_leakage, refuse_missing_cases
from pipeline.params import cohort_name
from pipeline.paths import Role
from pipeline.schema import FINAL, Params
from pipeline.stages.calibrate.openings import count_opening
from pipeline.stages.calibrate.patients import PATIENTS, Rule
from pipeline.stages.calibrate.predictions import hash_of_model, name_of_test_set, scored
from pipeline.stages.calibrate.stamps import stamps


class Map(Protocol):
    """From the outputs of a network to what is released."""

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""


class Evaluated(Protocol):
    """Labelled cases (n) with their predictions; see `EvaluatedNumbers` and `EvaluatedTimes`."""

    @property
    def cases(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def outputs(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def values(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def patients(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def folds(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def maps(self) -> Mapping[str, Map]: ...  # noqa: D102
    def part(self, mask: NDArray[Any]) -> Any: ...  # noqa: D102
    def of_patients(self) -> Any: ...  # noqa: D102


E = TypeVar("E", bound=Evaluated)
Row = dict[str, Any]


@dataclass(frozen=True)
class Kind(Generic[E]):
    """What differs between a number and a time.

    Attributes
    ----------
    fitted : callable
        From labelled cases that the network was not trained on, and whether to recalibrate, to a map.
    mapped : callable
        From labelled cases and the maps of their folds to evaluated cases.
    labelled : callable
        Adds to a table of cases what is read from their labels.
    what : str
        What images of one patient may differ in, for messages.
    """

    fitted: Callable[[pd.DataFrame, str], Any]
    mapped: Callable[[pd.DataFrame, Mapping[str, Any]], E]
    labelled: Callable[[pd.DataFrame], pd.DataFrame]
    what: str


@dataclass(frozen=True)
class Evaluations(Generic[E]):
    """Every set of cases that is evaluated.

    Attributes
    ----------
    held_out : Evaluated
        The pooled held-out cases of the numbered folds, each fold mapped by a fit on the others.
    repetitions, left_out : mapping
        The same of each repetition of the folds, and the cases of each fold that leaves out a site.
    test : Evaluated or None
        The test set by the released model, whether or not it is shown.
    released : Map
        Fitted on all held-out cases.
    """

    held_out: E
    repetitions: Mapping[str, E]
    left_out: Mapping[str, E]
    test: E | None
    released: Any


def evaluate(params: Params, kind: Kind[E]) -> Evaluations[E]:
    """Evaluate the folds, their repetitions, the test set and the left-out sites."""
    try:
        held_out = evaluate_folds(list(params.split.numbered), params, kind)
        released = kind.fitted(held_out.cases, params.calibrate.method)
        repeated = params.split.repeated.items()
        return Evaluations(
            held_out=held_out,
            repetitions={name: evaluate_folds(list(some), params, kind) for name, some in repeated},
            left_out={fold: evaluate_left_out(fold, held_out, params, kind) for fold in params.split.left_out},
            test=evaluate_test_set(released, held_out, params, kind),
            released=released,
        )
    except LeakageError as error:
        raise UserError(f"{paths.FOLDS}: {error}; run split, adapt and finetune again") from error


def evaluate_folds(folds: list[str], params: Params, kind: Kind[E]) -> E:
    """Pool the held-out cases of the folds, each fold with a map that was fitted on the other folds."""
    cases = kind.labelled(pd.concat([scored(fold, Role.HELD_OUT) for fold in folds], ignore_index=True))
    refuse_missing_cases(set(cases["case"]), cases["case"])
    maps = {fold: kind.fitted(cases[cases["fold"] != fold], params.calibrate.method) for fold in sorted(folds)}
    others = {fold: set(cases.loc[cases["fold"] != fold, "patient"]) for fold in folds}
    refuse_leakage(cases, others)
    return kind.mapped(cases, maps)


def evaluate_test_set(released: Any, held_out: E, params: Params, kind: Kind[E]) -> E | None:
    """Evaluate the test set by the released model; None if it was not trained or there are no test cases."""
    if FINAL not in params.split.folds:
        return None
    cases = scored(FINAL, Role.TEST)
    if cases.empty:
        return None
    allowed = paths.read_json(paths.SPLIT_SUMMARY)["acknowledged_leaks"]
    refuse_leakage(cases, {FINAL: set(held_out.patients.tolist())}, allowed)
    return kind.mapped(kind.labelled(cases), {FINAL: released})


def evaluate_left_out(fold: str, pooled: E, params: Params, kind: Kind[E]) -> E:
    """Evaluate the site that a fold left out, with a map fitted on held-out patients who have no case there."""
    cases = scored(fold, Role.HELD_OUT)
    others = pooled.cases[~pooled.cases["patient"].isin(set(cases["patient"]))]
    refuse_leakage(cases, {fold: set(others["patient"])})
    method = params.calibrate.method if others["patient"].nunique() > 1 else "none"
    if others.empty:
        raise UserError(f"split.folds names '{fold}', but no patient has cases at other sites only")
    state = "calibrated" if method != "none" else "uncalibrated"
    return kind.mapped(kind.labelled(cases).assign(state=state), {fold: kind.fitted(others, method)})


def scopes_of(found: Evaluations[E], shown: E | None, joined: bool) -> dict[str, E]:
    """Name the evaluated sets, patients before images where patients are joined."""
    images = {"internal": found.held_out} | ({name_of_test_set(): shown} if shown else {})
    scopes: dict[str, E] = {}
    for scope, one in images.items():
        scopes |= ({f"{scope}{PATIENTS}": one.of_patients()} if joined else {}) | {scope: one}
    return scopes


def by_patient(found: Evaluations[E], patients_known: bool, params: Params, kind: Kind[E]) -> bool:
    """Tell whether each patient gets one output: the mean over the images, if `calibrate.per_patient` is mean.

    With auto, it does if a patient has several images, and all images of a patient have the same label.
    """
    rule = params.calibrate.per_patient
    if rule == "none" or not patients_known:
        return False
    evaluated = [found.held_out, *([found.test] if found.test else [])]
    agree = all((one.cases.groupby("patient")["label"].nunique() == 1).all() for one in evaluated)
    if rule == "mean" and not agree:
        raise UserError(
            f"calibrate.per_patient is mean, but images of one patient have different {kind.what}; set it to none to "
            "evaluate images alone, or give them one in cohort.csv"
        )
    first = found.held_out.patients
    return agree and (rule == "mean" or len(set(first.tolist())) < len(first))


def write_outcome(found: Evaluations[E], scopes: Mapping[str, E], shown: E | None, params: Params) -> None:
    """Write the released map and those of the folds, count the opening of the test set, and stamp the metrics."""
    if shown:
        model = str(shown.cases["model_sha256"].iloc[0])
        count_opening(paths.OPENINGS, cohort_name(params.cohort.path), model, shown.values[:, None])
    write_map(found, params)
    rule: Rule | None = "mean" if any(scope.endswith(PATIENTS) for scope in scopes) else None
    paths.write_json({"scopes": list(scopes)} | stamps(params, shown is not None, rule), paths.STAMPS)


def write_map(found: Evaluations[E], params: Params) -> None:
    """Write the released map, and the maps by which the folds were evaluated."""
    cross_fitted = {fold: one.as_json() for fold, one in sorted(found.held_out.maps.items())}
    held_out = found.held_out
    fitted_on = {
        "cases": len(held_out.values),
        "patients": len(set(held_out.patients.tolist())),
        "folds": sorted(set(held_out.folds.tolist())),
    }
    members = {"members": [FINAL], "fitted_on": fitted_on, "choice": [], "form": params.calibrate.form}
    hashes = {FINAL: hash_of_model(FINAL)} if FINAL in params.split.folds else {}
    values = found.released.as_json() | members | {"cross_fitted": cross_fitted, "model_sha256": hashes}
    paths.write_json(values, paths.CALIBRATOR)
    paths.write_json({}, paths.THRESHOLDS)
