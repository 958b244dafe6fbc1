"""Write the evaluation of a task without classes: the same tables of a number and of a time."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.columns import InputColumn
from pipeline.progress import progress
from pipeline.schema import Params
from pipeline.stages.calibrate.one_output import E, Kind, Row, by_patient, evaluate, scopes_of, write_outcome
from pipeline.stages.calibrate.one_output_tables import (
    Told,
    write_columns,
    write_headers,
    write_left_out,
    write_repetitions,
)
from pipeline.stages.calibrate.subject import bootstrap_for


@dataclass(frozen=True)
class Written(Generic[E]):
    """What is written of evaluated cases; each function is one of `regression_tables` or of `survival_tables`.

    Attributes
    ----------
    told : Told
    metrics, tables, members, predictions : callable
        Write the files of this name.
    gains : callable
        From evaluated cases to rows of `increment_rows`.
    of_gains : tuple of str
        Metrics of these rows.
    alone : (str, callable)
        Metric of a prediction from one column alone.
    """

    told: Told[E]
    metrics: Callable[[Iterable[tuple[str, E]], Mapping[str, E], Params], None]
    tables: Callable[[Mapping[str, E], Params], None]
    members: Callable[[Params], None]
    predictions: Callable[[Mapping[str, E]], None]
    gains: Callable[[E, Bootstrap], list[Row]]
    of_gains: tuple[str, ...]
    alone: tuple[str, Callable[[E, InputColumn], float]]


def calibrate_outputs(params: Params, facts: Mapping[str, Any], kind: Kind[E], written: Written[E]) -> None:
    """Evaluate a number or a time, and write recalibration, predictions and metrics."""
    found = evaluate(params, kind)
    shown = found.test if params.calibrate.test == "open" else None
    scopes = scopes_of(found, shown, by_patient(found, facts["patients_known"], params, kind))
    written.metrics(progress(scopes.items(), "metrics"), found.repetitions, params)
    written.tables(scopes, params)
    increments = {scope: written.gains(one, bootstrap_for(params, scope)) for scope, one in scopes.items()}
    fusion = found.released.fusion
    write_columns(found.held_out, fusion, shown, increments, names=written.of_gains, alone=written.alone)
    write_repetitions(found.repetitions, written.told, params)
    write_left_out(found.left_out, written.told, params)
    written.members(params)
    write_headers()
    written.predictions(scopes)
    write_outcome(found, scopes, shown, params)
