"""Recalibrate and evaluate the numbers of a regression."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.metrics.regression.evaluation import EvaluatedNumbers, Map, map_for, mapped, true_numbers
from pipeline.progress import progress
from pipeline.schema import Params
from pipeline.stages.calibrate.fusing import read_inputs
from pipeline.stages.calibrate.one_output import Kind, by_patient, evaluate, scopes_of, write_outcome
from pipeline.stages.calibrate.one_output_tables import (
    write_columns,
    write_headers,
    write_left_out,
    write_repetitions,
)
from pipeline.stages.calibrate.regression_tables import (
    OF_INCREMENT,
    TOLD,
    gains_of_the_image,
    r_squared_alone,
    write_members,
    write_metrics,
    write_predictions,
    write_tables,
)
from pipeline.stages.calibrate.subject import bootstrap_for


def calibrate_numbers(params: Params, facts: Mapping[str, Any]) -> None:
    """Write recalibration and intervals, the predictions and the metrics."""
    kind = kind_of_numbers(params)
    found = evaluate(params, kind)
    shown = found.test if params.calibrate.test == "open" else None
    scopes = scopes_of(found, shown, by_patient(found, facts["patients_known"], params, kind))
    write_metrics(progress(scopes.items(), "metrics"), found.repetitions, params)
    write_tables(scopes, params)
    increments = {scope: gains_of_the_image(one, bootstrap_for(params, scope)) for scope, one in scopes.items()}
    write_columns(
        found.held_out, found.released.fusion, shown, increments, names=OF_INCREMENT, alone=("r2", r_squared_alone)
    )
    write_repetitions(found.repetitions, TOLD, params)
    write_left_out(found.left_out, TOLD, params)
    write_members(params)
    write_headers()
    write_predictions(scopes)
    write_outcome(found, scopes, shown, params)


def kind_of_numbers(params: Params) -> Kind[EvaluatedNumbers]:
    """Say how the numbers of a regression are recalibrated."""
    columns = read_inputs()

    def fitted(cases: pd.DataFrame, method: str) -> Map:
        return map_for(cases, params.calibrate.set_coverage, method, columns)

    def mapped_by(cases: pd.DataFrame, maps: Mapping[str, Map]) -> EvaluatedNumbers:
        return mapped(cases, true_numbers(cases), maps)

    return Kind(fitted, mapped_by, labelled=lambda cases: cases, what="numbers")
