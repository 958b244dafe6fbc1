"""Recalibrate and evaluate the numbers of a regression."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.metrics.regression.evaluation import EvaluatedNumbers, Map, map_for, mapped, true_numbers
from pipeline.schema import Params
from pipeline.stages.calibrate import regression_tables as tables
from pipeline.stages.calibrate.fusing import read_inputs
from pipeline.stages.calibrate.one_output import Kind
from pipeline.stages.calibrate.outputs import Written, calibrate_outputs

WRITTEN = Written(
    told=tables.TOLD,
    metrics=tables.write_metrics,
    tables=tables.write_tables,
    members=tables.write_members,
    predictions=tables.write_predictions,
    gains=tables.gains_of_the_image,
    of_gains=tables.OF_INCREMENT,
    alone=("r2", tables.r_squared_alone),
)


def calibrate_numbers(params: Params, facts: Mapping[str, Any]) -> None:
    """Write recalibration and intervals, the predictions and the metrics."""
    calibrate_outputs(params, facts, kind_of_numbers(params), WRITTEN)


def kind_of_numbers(params: Params) -> Kind[EvaluatedNumbers]:
    """Say how the numbers of a regression are recalibrated."""
    columns = read_inputs()

    def fitted(cases: pd.DataFrame, method: str) -> Map:
        return map_for(cases, params.calibrate.set_coverage, method, columns)

    def mapped_by(cases: pd.DataFrame, maps: Mapping[str, Map]) -> EvaluatedNumbers:
        return mapped(cases, true_numbers(cases), maps)

    return Kind(fitted, mapped_by, labelled=lambda cases: cases, what="numbers")
