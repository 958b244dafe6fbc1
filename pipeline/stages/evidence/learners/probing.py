"""Fit a linear probe on frozen features and predict other cases."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.learning.models.heads import Kind, build_head
from pipeline.learning.models.probe import Floats, fit_probe
from pipeline.learning.models.tasks import Balance, Name, task_of


def probe_predictions(
    features: Floats,
    targets: Tensor,
    patients: NDArray[Any],
    *,
    evaluated: Floats,
    balance: Balance,
    seed: int,
    task: Name,
) -> Floats:
    """Fit a probe on the features (n, w) of labelled cases, and predict others (t, w).

    Parameters
    ----------
    targets : (n, C) float32
        As described in `tasks`; every class is present.
    patients : (n,)
        Of the labelled cases; the unit of the cross-validation that selects C.
    balance : str
        As in training; the logits always refer to the prevalence of the labelled cases.

    Returns
    -------
    (t, C) float64
        Logits.
    """
    probe = fit_probe(features, targets.numpy(), patients, balanced=balance != "none", seed=seed, task=task)
    kind: Kind = "ordinal" if task == "ordinal" else "linear"
    head: Any = build_head(features.shape[1], targets.shape[1], kind=kind).double()
    head.take(probe)
    head.lower(task_of(task).prior(targets, balance))
    with torch.inference_mode():
        logits: Floats = head(torch.from_numpy((evaluated - probe.mean) / probe.scale)).numpy()
    return logits
