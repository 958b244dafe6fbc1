"""The released model: members whose logits are averaged, and the calibrator fitted on cases that no member saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import pandas as pd

from pipeline.metrics.calibrators.calibrator import Calibrator, digest_of
from pipeline.metrics.calibrators.fitting import fit
from pipeline.metrics.calibrators.selection import AUTO, choose
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.evaluation import ENSEMBLE, EvaluatedCases, TaskSpec, evaluated_by, logits_of
from pipeline.metrics.fusion import Fusion, fit_fusion
from pipeline.metrics.operating import Kind, threshold_for
from pipeline.metrics.questions import TOP_LABEL, questions_of


@dataclass(frozen=True)
class Released:
    """The model that is evaluated on the test set and released.

    Attributes
    ----------
    members : list of str
        Folds of the models whose logits are averaged.
    calibrator : Calibrator
        Of the image alone.
    development : EvaluatedCases
        The cases on which calibrator and fusion were fitted, with the predictions of the released model.
    choice : list of dict
        Rows of `calibrators.selection.Choice.table`; empty if the method was given.
    fusion, columns_alone : Fusion or None
        Of the image with columns, which gives the released probability, and of the columns alone; None without columns.
    """

    members: list[str]
    calibrator: Calibrator
    development: EvaluatedCases
    choice: list[dict[str, Any]]
    fusion: Fusion | None = None
    columns_alone: Fusion | None = None

    @property
    def name(self) -> str:
        """Give the name of the fold that evaluates the test set: of the only member, or `ENSEMBLE`."""
        return self.members[0] if len(self.members) == 1 else ENSEMBLE

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        development = self.development
        return {
            **self.calibrator.as_json(),
            "sha256": digest_of(self.calibrator),
            "members": self.members,
            "fitted_on": {
                "cases": len(development.labels),
                "patients": len(set(development.patients)),
                "folds": sorted(set(development.folds.tolist())),
            },
            "choice": self.choice,
            **({"fusion": self.fusion.as_json()} if self.fusion else {}),
        }


def to_release(
    method: str, members: list[str], cases: pd.DataFrame, labels: Labels, *, columns: Sequence[InputColumn] = ()
) -> Released:
    """Fit the calibrator on cases (n) that no member was trained on; "auto" chooses the method on the same cases.

    With columns, the fusion is fitted on them as well.

    Raises
    ------
    Unsuitable
        If the method does not suit the task or the number of cases.
    """
    patients, choice = cases["patient"].to_numpy(dtype=str), list[dict[str, Any]]()
    if method == AUTO:
        chosen = choose(logits_of(cases), labels, patients, patients)
        method, table = chosen.method, chosen.table.astype(object)
        choice = table.where(table.notna(), None).to_dict("records")
    calibrator = fit(method, logits_of(cases), labels)
    if not columns:
        return Released(members, calibrator, evaluated_by(calibrator, cases, labels), choice)
    fusion, alone = (fit_fusion(cases, labels, columns, with_image) for with_image in (True, False))
    development = evaluated_by(fusion, cases, labels)
    return Released(members, calibrator, development, choice, fusion=fusion, columns_alone=alone)


def thresholds_of(
    development: EvaluatedCases, spec: TaskSpec, levels: Sequence[tuple[Kind, float]]
) -> dict[str, dict[str, float | None]]:
    """Choose the thresholds of the released model on its development cases, as for the test set.

    Returns
    -------
    dict
        By what is fixed ("sensitivity", "specificity"), by class; None if the cases do not determine a threshold.
    """
    questions = questions_of(development.calibrated, development.labels, spec.classes)
    found: dict[str, dict[str, float | None]] = {}
    for kind, level in levels:
        chosen = {
            one.name: threshold_for(one.prediction, one.events, kind, level)
            for one in questions
            if one.name != TOP_LABEL
        }
        found[kind] = {name: None if isnan(value) else value for name, value in chosen.items()}
    return found
