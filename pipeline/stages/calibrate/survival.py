"""Recalibrate and evaluate the log hazards of a survival cohort."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.imaging.labels import times_of
from pipeline.metrics.survival.evaluation import EvaluatedTimes, mapped, recalibration_for, times_in
from pipeline.metrics.survival.recalibration import Recalibration, quartiles_of_events
from pipeline.paths import Role
from pipeline.schema import Params
from pipeline.stages.calibrate import survival_tables as tables
from pipeline.stages.calibrate.fusing import read_inputs
from pipeline.stages.calibrate.one_output import Kind
from pipeline.stages.calibrate.outputs import Written, calibrate_outputs
from pipeline.stages.calibrate.predictions import scored

WRITTEN = Written(
    told=tables.TOLD,
    metrics=tables.write_metrics,
    tables=tables.write_tables,
    members=tables.write_members,
    predictions=tables.write_predictions,
    gains=tables.gains_of_the_image,
    of_gains=tables.OF_INCREMENT,
    alone=("c", tables.concordance_alone),
)


def calibrate_times(params: Params, facts: Mapping[str, Any]) -> None:
    """Write recalibration and risks, the predictions and the metrics."""
    calibrate_outputs(params, facts, kind_of_times(params), WRITTEN)


def kind_of_times(params: Params) -> Kind[EvaluatedTimes]:
    """Say how log hazards are recalibrated: for the times of `calibrate.times`, which are the same in every fold."""
    development = with_times(pd.concat([scored(fold, Role.HELD_OUT) for fold in params.split.numbered]))
    at = np.array(times_for(development, params.calibrate.times))

    columns = read_inputs()

    def fitted(cases: pd.DataFrame, method: str) -> Recalibration:
        if not cases["event"].any():
            raise UserError(
                "split.folds: no patient on whom the recalibration of a fold or of a left-out site is fitted has the "
                "event; leave the fold of this site out of split.folds"
            )
        return recalibration_for(cases, at, method, columns)

    return Kind(fitted, mapped, labelled=with_times, what="times")


def times_for(development: pd.DataFrame, asked: tuple[float, ...]) -> tuple[float, ...]:
    """Choose the times for which risks are told; refuse those beyond what was observed.

    If none are asked for, they are the rounded quartiles of the events, without one that rounding moved before the
    first event or beyond the last observation.

    Raises
    ------
    UserError
        The message tells the last time at which it is known who is without an event.
    """
    times, events = times_in(development)
    first, last = float(times[events].min()), float(times.max())
    if not asked:
        found = quartiles_of_events(times, events, development["patient"].to_numpy(dtype=str))
        return tuple(time for time in found if first <= time < last) or found
    if asked[0] < first or asked[-1] >= last:
        raise UserError(
            f"params.yaml: calibrate.times is {list(asked)}, but the first event of development patients is at "
            f"{first:g} and the last of them is observed until {last:g}; choose times between, or [] for the quartiles"
        )
    return asked


def with_times(cases: pd.DataFrame) -> pd.DataFrame:
    """Add the columns `time` and `event`, read from the labels."""
    times, events = times_of(cases["label"].tolist())
    return cases.assign(time=times, event=events)
