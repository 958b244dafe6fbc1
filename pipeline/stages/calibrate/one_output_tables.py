"""Write the tables that a number and a time share; tables that need classes are written without rows."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.metrics.baseline import baselines_of
from pipeline.metrics.bootstrap import Bootstrap, estimate_of, in_blocks
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.evaluation import logits_of
from pipeline.metrics.fusion import Fusion
from pipeline.metrics.levels import halved, level_for
from pipeline.metrics.paired_tests import difference_of
from pipeline.metrics.summary import in_columns, limits_of
from pipeline.metrics.wording import BOTH, COLUMNS, IMAGE
from pipeline.paths import Role
from pipeline.schema import Params
from pipeline.stages.calibrate.fusing import read_inputs
from pipeline.stages.calibrate.increment import verdict_of
from pipeline.stages.calibrate.inputs import inputs_table
from pipeline.stages.calibrate.one_output import E, Evaluated, Row
from pipeline.stages.calibrate.predictions import (
    MASK_FEATURES,
    columns_of_cases,
    mask_features_in,
    unlabelled_images,
)
from pipeline.stages.calibrate.subject import bootstrap_for

Metric = Callable[[NDArray[Any]], NDArray[Any]]  # weights (R, n) to values (R,)

PORTFOLIO = "portfolio"
OF_LOSSES = 0.35  # coupling of the folds in gains of a loss, measured by benchmarks/output_increment.py
FEWEST = 10  # patients of a group whose metrics are told
EMPTY = {  # tables about classes and searches, by file: their columns
    paths.ROC: ["scope", "false_positive_rate", "true_positive_rate"],
    paths.PER_CLASS: ["class", "n", "scope"],
    paths.COLLAPSES: ["scope", "class", "n", "recall"],
    paths.SEARCH: ["scope", "candidate"],
    paths.VALIDATORS: ["scope", "validator"],
}


@dataclass(frozen=True)
class Told(Generic[E]):
    """What is told of evaluated cases.

    Attributes
    ----------
    summarise : callable
        From evaluated cases, predictions (n,), a bootstrap and, if not all are asked for, names to metrics.
    of_a_set, of_a_group, repeated : tuple of str
        Metrics of a left-out site, of a subgroup and of a repetition.
    """

    summarise: Callable[..., Row]
    of_a_set: tuple[str, ...]
    of_a_group: tuple[str, ...]
    repeated: tuple[str, ...]

    def metrics(self, evaluated: E, bootstrap: Bootstrap, *only: Collection[str]) -> Row:
        """Summarise the recalibrated predictions by all metrics, or by these."""
        return self.summarise(evaluated, evaluated.values, bootstrap, *only)


def write_folds(pooled: Iterable[E], told: Told[E], params: Params) -> Iterator[tuple[str, Row]]:
    """Write the metrics of each fold, and yield them by the name of their set."""
    for one in pooled:
        for fold in sorted(set(one.folds.tolist())):
            metrics = told.metrics(one.part(one.folds == fold), bootstrap_for(params, f"fold {fold}"))
            paths.write_json(metrics, paths.fold_metrics(fold))
            yield f"fold_{fold}", metrics


def subgroups(evaluated: E, told: Told[E], bootstrap: Bootstrap) -> list[Row]:
    """Compute the metrics of each group of the site and of `calibrate.subgroups`."""
    found, cases = [], evaluated.cases.filter(regex="^group_")
    for column in cases:
        groups = cases[column].to_numpy(dtype=str)
        for value in sorted(set(groups.tolist()) - {""}):
            part = evaluated.part(groups == value)
            counts = {"n": len(part.values), "patients": len(set(part.patients.tolist()))}
            row = {"column": column.removeprefix("group_"), "value": value, **counts}
            few = counts["patients"] < FEWEST
            metrics = {} if few else told.metrics(part, bootstrap, told.of_a_group)
            found.append(
                row | {"too_few": few} | in_columns({name: metrics[name] for name in told.of_a_group if metrics})
            )
    return found


def write_repetitions(repetitions: Mapping[str, E], told: Told[E], params: Params) -> None:
    """Write the pooled metrics of each repetition of the folds."""
    of_name = {"r1": paths.read_json(paths.pooled_metrics("internal_calibrated"))}
    for name, evaluated in repetitions.items():
        of_name[name] = told.metrics(evaluated, bootstrap_for(params, name), told.repeated)
    rows = [
        {"repetition": name, "n": metrics["n"], **in_columns({one: metrics[one] for one in told.repeated})}
        for name, metrics in of_name.items()
    ]
    columns = ["repetition", "n", *limits_of(*told.repeated)]
    paths.write_table(pd.DataFrame(rows, columns=columns), paths.REPEATS)


def write_left_out(left_out: Mapping[str, E], told: Told[E], params: Params) -> None:
    """Write the metrics of each left-out site, and whether adaptation had seen its unlabelled images."""
    rows = []
    for fold, evaluated in left_out.items():
        metrics = told.metrics(evaluated, bootstrap_for(params, fold))
        site, state = evaluated.cases.iloc[0][["site", "state"]]
        paths.write_json(metrics | {"state": state}, paths.fold_metrics(fold))
        known = {"site": site, "unlabelled": unlabelled_images(fold, site), "fold": fold, "state": state}
        counts = {name: metrics[name] for name in ("n", "patients")}
        rows.append(known | counts | in_columns({name: metrics[name] for name in told.of_a_set}))
    columns = ["site", "unlabelled", "fold", "n", "patients", *limits_of(*told.of_a_set), "state"]
    paths.write_table(pd.DataFrame(rows, columns=columns), paths.LEFT_OUT)


def members_of(params: Params) -> list[tuple[str, pd.DataFrame]]:
    """Give the held-out cases of the portfolio with its logits, then those of each member; none of a single network."""
    tables = [_held_out(paths.member_predictions(fold), fold) for fold in params.split.numbered]
    if any(table.empty for table in tables):
        return []
    mean = pd.concat([_held_out(paths.predictions(fold), fold) for fold in params.split.numbered])
    everyone = pd.concat(tables).groupby("member", sort=False)
    order = mean["case"]
    return [(PORTFOLIO, mean), *((str(name), table.set_index("case").loc[order]) for name, table in everyone)]


def member_rows(
    params: Params, metrics_of: Callable[[pd.DataFrame, list[NDArray[Any]], Any, float], Mapping[str, Any]]
) -> list[Row]:
    """Compute metrics of each member of a portfolio.

    Parameters
    ----------
    params : Params
    metrics_of : callable
        From the cases, the outputs (n,) of a member followed, for members, by those of the portfolio, the weights of
        the bootstrap and the level of the intervals to estimates.
    """
    members = members_of(params)
    if not members:
        return []
    mean = members[0][1]
    patients, folds = (mean[column].to_numpy(dtype=str) for column in ("patient", "fold"))
    bootstrap = bootstrap_for(params, "members")
    weights, level = bootstrap.weights(patients), bootstrap.over(patients, folds).confidence
    joint, rows = logits_of(mean)[:, 0], list[Row]()
    for name, table in members:
        outputs = [joint] if name == PORTFOLIO else [logits_of(table)[:, 0], joint]
        found = metrics_of(mean, outputs, weights, level)
        row = {"member": name, "n": len(joint)}
        rows.append(row | in_columns({key: one.as_json() for key, one in found.items()}))
    return rows


def training_and_held_out(
    evaluated: Evaluated, names: Iterable[str], without: str
) -> Iterator[tuple[NDArray[Any], pd.DataFrame, pd.DataFrame, dict[str, list[str]]]]:
    """Give for each fold the rows that it evaluates, its labelled training cases, those rows, and baselines by columns.

    Parameters
    ----------
    names : iterable of str
        Columns of `calibrate.baseline`.
    without : str
        Name of the baseline without any column.
    """
    columns = columns_of_cases()
    of_masks = mask_features_in(columns)
    asked = {without: list[str](), **baselines_of([name for name in names if f"column_{name}" in columns])}
    asked |= {MASK_FEATURES: of_masks} if of_masks else {}
    for fold in sorted(set(evaluated.folds.tolist())):
        here = evaluated.folds == fold
        cases = paths.read_table(paths.split(fold))
        train = cases[cases["role"].isin([Role.TRAIN, Role.VALIDATION])].merge(columns, on="case")
        yield here, train, evaluated.cases[here], asked


def increment_rows(
    evaluated: Any, metrics_of: Callable[[Any], Mapping[str, Metric]], falls: Sequence[str], bootstrap: Bootstrap
) -> list[Row]:
    """Evaluate predictions from columns, from the image and from both, and their gains, paired by patient.

    Parameters
    ----------
    evaluated : Evaluated
        Cases whose `parts` are predictions from columns and image alone; without any there are no rows.
    metrics_of : callable
        From evaluated cases to metrics by name, the first of which gives the verdict.
    falls : sequence of str
        Metrics that are better if lower; a gain is above 0 if the prediction is better.
    bootstrap : Bootstrap
    """
    if not evaluated.parts:
        return []
    patients = evaluated.patients
    weights, level = bootstrap.weights(patients), bootstrap.over(patients, evaluated.folds).confidence
    found = {
        name: {key: in_blocks(metric, weights) for key, metric in metrics_of(one).items()}
        for name, one in {**evaluated.parts, BOTH: evaluated}.items()
    }
    counts = {"n": len(patients), "patients": len(set(patients.tolist()))}
    of_losses = level_for(bootstrap.confidence, patients, evaluated.folds, coupling=OF_LOSSES)
    rows: list[Row] = []
    for name, drawn in found.items():
        own = {key: estimate_of(values, level).as_json() for key, values in drawn.items()}
        rows.append({"prediction": name, "over": "", **counts, **in_columns(own)})
    for name, over in ((IMAGE, COLUMNS), (BOTH, COLUMNS), (BOTH, IMAGE)):
        gains = {}
        for key, values in found[name].items():
            gain = found[over][key] - values if key in falls else values - found[over][key]
            gains[key] = difference_of(gain, of_losses if key in falls else halved(level)).as_json()
        first = next(iter(gains.values()))
        rows.append({"prediction": name, "over": over, **counts, **in_columns(gains)})
        rows[-1] |= {"minimum_detectable": first["minimum_detectable"], "verdict": verdict_of(first)}
    return rows


def write_columns(
    held_out: Any,
    fusion: Fusion | None,
    test: Any,
    increments: Mapping[str, list[Row]],
    *,
    names: Sequence[str],
    alone: tuple[str, Callable[[Any, InputColumn], float]],
) -> None:
    """Write what the columns of `cohort.inputs` are, and what the image adds to them; nothing without columns.

    Parameters
    ----------
    held_out, test : Evaluated
        Test is None if it is not shown.
    fusion : Fusion or None
        The released one.
    increments : mapping
        Rows of `increment_rows` by set.
    names : sequence of str
        Their metrics.
    alone : (str, callable)
        Name of the metric of a prediction from one column alone, and how it is computed on held-out cases.
    """
    for table in ("inputs", "increment"):
        paths.assessed(table).unlink(missing_ok=True)
    if fusion is None:
        return
    cases = None if test is None else test.cases
    metric, of_column = alone
    described = inputs_table(
        held_out.cases,
        read_inputs(),
        {},
        alone=partial(of_column, held_out),
        released=fusion,
        test=cases,
        metric=metric,
    )
    paths.write_table(described, paths.assessed("inputs"))
    columns = ["scope", "prediction", "over", "n", "patients", *limits_of(*names), "minimum_detectable", "verdict"]
    rows = [{"scope": scope, **row} for scope, some in increments.items() for row in some]
    paths.write_table(pd.DataFrame(rows, columns=columns), paths.assessed("increment"))


def write_headers() -> None:
    """Write the tables that need classes without rows, so that every declared output is there."""
    for file, columns in EMPTY.items():
        paths.write_table(pd.DataFrame(columns=columns), file)


def _held_out(file: Any, fold: str) -> pd.DataFrame:
    table = paths.read_table(file)
    return table[table["role"] == Role.HELD_OUT].assign(fold=fold)
