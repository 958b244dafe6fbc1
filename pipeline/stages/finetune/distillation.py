"""Distil a portfolio: one network learns the probabilities that the portfolio gives its training cases."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from pipeline import prepared
from pipeline.learning.training.cases import WholeCases
from pipeline.progress import progress
from pipeline.schema import Finetune
from pipeline.stages.finetune.fold_data import training_cases
from pipeline.stages.finetune.members import Member, Start, train_member
from pipeline.stages.finetune.presets import DISTILLED, FULL


def distilled(start: Start, members: Sequence[Member], settings: Finetune, cases: pd.DataFrame) -> Member:
    """Train a network as `full` does, with the probabilities of a portfolio as its targets.

    The targets are soft (Hinton, Vinyals, Dean 2015, "Distilling the knowledge in a neural network", section 2, at
    temperature 1), so that labels are not smoothed again. Its head starts from a probe on the labels.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns case, site, role, of the fold.
    """
    taught = probabilities_of(members, training_cases(cases, stops_early=False), start.setting.task)

    def whole() -> tuple[WholeCases, None]:
        training, _ = start.cases.whole()
        return replace(training, targets=taught), None

    student = replace(start, cases=replace(start.cases, whole=whole))
    full = settings.full.model_copy(update={"label_smoothing": 0.0})
    return train_member(student, FULL, DISTILLED, settings.model_copy(update={"full": full}))


@torch.no_grad()
def probabilities_of(members: Sequence[Member], cases: pd.DataFrame, task: str) -> Tensor:
    """Compute the mean probabilities (n, n_classes) of the members for cases, one case per forward pass on the CPU."""
    networks, found = [member.network.eval() for member in members], []
    for case, site in zip(progress(cases["case"], "teach"), cases["site"], strict=True):
        channels = torch.from_numpy(prepared.read_channels(case).copy())[None]
        logits = torch.cat([network(channels, site) for network in networks])
        found.append((logits.sigmoid() if task == "multilabel" else logits.softmax(dim=1)).mean(dim=0))
    return torch.stack(found)
