"""Fuse the model with the columns in `cohort.inputs`: the fused probability is then the one evaluated and released."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.evaluation import EvaluatedCases, evaluated_by, other_folds
from pipeline.metrics.fusion import Fusion, fit_fusion
from pipeline.metrics.wording import COLUMNS, IMAGE

Columns = Sequence[InputColumn]
Floats = NDArray[np.float64]


def read_inputs() -> list[InputColumn]:
    """Read the types of the columns that the model takes besides the image; none by default."""
    return [InputColumn.from_json(one) for one in paths.read_json(paths.INPUTS)]


def fused_across(image: EvaluatedCases, columns: Columns) -> EvaluatedCases:
    """Fuse the predictions of the folds, each by a fusion fitted on the other folds; without columns, change nothing.

    Parameters
    ----------
    image : EvaluatedCases
        Out-of-fold predictions from the image, each fold calibrated on the others.
    columns : sequence of InputColumn
    """
    if not columns:
        return image
    others = other_folds(image)
    parts = [fused_on(image.part(image.folds == fold), there, columns) for fold, there in others.items()]
    order = np.argsort(np.concatenate([np.flatnonzero(image.folds == fold) for fold in others]))

    def joined(predictions: Sequence[Floats]) -> Floats:
        return np.asarray(np.concatenate(predictions)[order])

    return EvaluatedCases(
        pd.concat([one.cases for one in parts]).iloc[order],
        image.labels,
        joined([one.uncalibrated for one in parts]),
        joined([one.calibrated for one in parts]),
        calibrators={digest: one for part in parts for digest, one in part.calibrators.items()},
        baselines=image.baselines,
        parts={name: joined([one.parts[name] for one in parts]) for name in (COLUMNS, IMAGE)},
    )


def fused_on(image: EvaluatedCases, others: EvaluatedCases, columns: Columns) -> EvaluatedCases:
    """Predict cases from their image and columns, and from the columns alone, by fusions fitted on other patients."""
    return fused_by(fitted_on(others, columns), fitted_on(others, columns, with_image=False), image)


def fitted_on(others: EvaluatedCases, columns: Columns, with_image: bool = True) -> Fusion:
    """Fit a fusion on cases whose logits come from models that did not see them."""
    return fit_fusion(others.cases, others.labels, columns, with_image)


def fused_by(fusion: Fusion, alone: Fusion, image: EvaluatedCases) -> EvaluatedCases:
    """Apply a fusion, and one of the columns alone, to cases that neither was fitted on."""
    fused = evaluated_by(fusion, image.cases, image.labels)
    from_columns = evaluated_by(alone, image.cases, image.labels).calibrated
    parts = {COLUMNS: from_columns, IMAGE: image.calibrated}
    return replace(fused, baselines=image.baselines, parts=parts)
