"""Apply the files of a site: limits that `predict --site-adapt` wrote, and a recalibration (`--site-recalibrate`)."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.decision import with_sets
from pipeline.bundle.manifest import MANIFEST, sha256_of
from pipeline.bundle.opening import Opened
from pipeline.bundle.plain import parsed
from pipeline.bundle.predictor import Predictor
from pipeline.commands.files import check_readable
from pipeline.commands.site_limits import limits_in
from pipeline.errors import UserError
from pipeline.metrics.calibrators.updating import Recalibration
from pipeline.metrics.conformal import Thresholds
from pipeline.metrics.questions import both_ways

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LabelChanges:
    """A recalibration of each of C labels; None leaves a label unchanged."""

    changes: tuple[Recalibration | None, ...]

    def apply(self, probabilities: Floats) -> Floats:
        """Recalibrate probabilities (n, C) column by column."""
        columns = zip(self.changes, probabilities.T, strict=True)
        return np.stack([one.apply(both_ways(column))[:, 1] if one else column for one, column in columns], axis=1)


Change = Recalibration | LabelChanges


def with_site_files(predictor: Predictor, bundle: Opened, arguments: argparse.Namespace) -> Predictor:
    """Apply --adaptation and --calibration, and say what they change.

    Raises
    ------
    UserError
        If a file is missing, damaged, or made for another release.
    """
    if arguments.adaptation:
        predictor = replace(predictor, limits=limits_in(Path(arguments.adaptation), bundle.folder))
        print("--adaptation refits the out-of-distribution limits to a site; probabilities and decisions stay")
    if arguments.calibration:
        change, sets = calibration_in(Path(arguments.calibration), bundle.folder, bundle.classes, predictor.multilabel)
        predictor = predictor.recalibrated(change)
        if sets and predictor.limits:
            limits = replace(predictor.limits, rules=with_sets(predictor.limits.rules, sets))
            predictor = replace(predictor, limits=limits)
        print(
            "--calibration changes probabilities"
            + (" and prediction sets; " if sets else "; sets, ")
            + "decisions and abstention stay those of the released ones"
        )
    return predictor


def settings_of(arguments: argparse.Namespace) -> str:
    """Hash the files of a site that change limits or probabilities; "" without any."""
    files = [Path(file) for file in (arguments.adaptation, arguments.calibration) if file]
    return "; ".join(map(sha256_of, files))


def calibration_in(
    file: Path, bundle: Path, classes: Sequence[str], several: bool
) -> tuple[Change, dict[str, Thresholds]]:
    """Read a recalibration that `recalibrate` wrote and its prediction sets by label, and check that they fit.

    Raises
    ------
    UserError
        If the file is missing, has another format, or belongs to another release.
    """
    again = f"create it with `medadapt predict {bundle} --site-recalibrate labels.csv --out {file}`"
    again += ", or with --site-prevalence"
    check_readable(file, "--calibration")
    try:
        values = parsed(file.read_bytes())
        made_for = values["bundle"]["manifest"]
        change = changes_from(values["labels"], classes) if several else change_from(values, len(classes))
        sets = {label: Thresholds.from_json(one) for label, one in values.get("sets", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--calibration: {file} is not the recalibration of a site ({error}); {again}") from error
    if made_for != sha256_of(bundle / MANIFEST):
        raise UserError(f"--calibration: {file} was fitted to another release than {bundle}; {again}")
    return change, sets


def change_from(values: Mapping[str, Any], n_classes: int) -> Recalibration:
    """Read the recalibration from the values of `SiteUpdate.as_json`.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the values have another format or another number of classes.
    """
    intercepts, slope = np.array(values["change"]["intercepts"], dtype=np.float64), float(values["change"]["slope"])
    if intercepts.shape != (n_classes,) or not np.isfinite([*intercepts, slope]).all():
        raise ValueError(f"{n_classes} finite intercepts and a slope are needed")
    return Recalibration(tuple(intercepts.tolist()), slope)


def changes_from(values: Mapping[str, Any], classes: Sequence[str]) -> LabelChanges:
    """Read the recalibrations from `SiteUpdate.as_json` by label; null means that a label stays unchanged.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the values have another format or belong to other labels.
    """
    if set(values) != set(classes):
        raise ValueError(f"it must hold an update of each of the labels {', '.join(classes)}")
    updates = [values[name] for name in classes]
    return LabelChanges(tuple(None if one is None else change_from(one, 2) for one in updates))
