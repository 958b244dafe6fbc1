"""The metrics of a question that need no threshold, with the intervals that the files of metrics give them."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import discrimination, multilabel
from pipeline.metrics.bootstrap import Estimate, estimate_of, in_blocks, loss_estimate
from pipeline.metrics.questions import Question
from pipeline.metrics.shares import auc_estimate

METRICS = {
    "auc": discrimination.roc_auc,
    "average_precision": discrimination.average_precision,
    "log_loss": multilabel.log_loss,
    "brier": multilabel.brier,
}


def threshold_free(
    question: Question, patients: NDArray[np.str_], weights: NDArray[np.float64], confidence: float
) -> dict[str, Estimate]:
    """Estimate each of `METRICS`.

    Parameters
    ----------
    question : Question
    patients : (m,)
        Of its cases.
    weights : (1 + R, m)
    confidence : float
    """
    values = {
        name: in_blocks(partial(metric, question.prediction, question.events), weights)
        for name, metric in METRICS.items()
    }
    return {
        "auc": auc_estimate(values["auc"], question.events, patients, confidence),
        "average_precision": estimate_of(values["average_precision"], confidence),
        **{name: loss_estimate(values[name], confidence) for name in ("log_loss", "brier")},
    }
