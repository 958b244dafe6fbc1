"""What the arms can do with a handful of labels, and a vision-language model with none."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline import runtime
from pipeline.errors import UserError
from pipeline.learning.models.weights import BadWeights
from pipeline.metrics.discrimination import macro_auc
from pipeline.schema import Evidence
from pipeline.seeds import seed_for
from pipeline.stages.evidence.experiments.networks import Arms, NotMeasured
from pipeline.stages.evidence.experiments.predictions import Gathered, as_probabilities
from pipeline.stages.evidence.experiments.splits import Split
from pipeline.stages.evidence.learners.few_shot import Pool, episodes
from pipeline.stages.evidence.learners.zero_shot import (
    NotAvailable,
    load_vision_language,
    prompts_for,
    zero_shot_logits,
)
from pipeline.stages.evidence.statistics.episodes import Shots
from pipeline.stages.finetune.fold_data import stored

Floats = NDArray[np.float64]


def few_shot(arms: Arms, folds: Sequence[Split], names: Sequence[str], settings: Evidence) -> dict[Shots, Floats]:
    """Learn from a few patients of each class, in many episodes; give the AUC of each, mean over the folds (E,)."""
    if arms.facts["task"] == "multilabel":
        return {}
    found: dict[Shots, list[Floats]] = {}
    for arm in names:
        for split in runtime.progress(folds, f"few shots, {arm}"):
            query = pool(arms, arm, split, split.evaluated)
            metric = partial(one_auc, labels=query.labels)
            seed = seed_for(arms.params.seed, "few shots", split.name)
            support = pool(arms, arm, split, split.labelled)
            how = (arms.n_classes, settings.shots, settings.episodes, seed, metric)
            for (method, shots), aucs in episodes(support, query, *how).items():
                found.setdefault(Shots(arm, method, shots), []).append(aucs)
    everywhere = {key: aucs for key, aucs in found.items() if len(aucs) == len(folds)}
    return {key: np.nanmean(np.stack(aucs), axis=0) for key, aucs in everywhere.items()}


def pool(arms: Arms, arm: str, split: Split, cases: pd.DataFrame) -> Pool:
    """Give cases as an arm sees them."""
    labels = arms.targets(cases).argmax(dim=1).numpy()
    return Pool(arms.features(arm, split, cases), labels, cases["patient"].to_numpy(dtype=str))


def one_auc(scores: Floats, labels: NDArray[np.int64]) -> float:
    """Compute the AUC of one episode; NaN where a class is not among the evaluated cases."""
    return float(macro_auc(scores, labels, np.ones((1, len(labels))))[0])


@torch.inference_mode()
def zero_shot(arms: Arms, gathered: Gathered, settings: Evidence) -> Floats:
    """Predict the cases that are evaluated from the names of the classes: (n, C).

    Raises
    ------
    NotMeasured
        If there is no model, its package is not installed, or cases have several labels.
    UserError
        If the model's files or the texts are not what they should be.
    """
    if settings.vision_language is None:
        raise NotMeasured("no vision-language model: set evidence.vision_language")
    if arms.facts["task"] == "multilabel":
        raise NotMeasured("not measured where a case has several labels")
    device = str(arms.accelerator.device)
    try:
        prompts = prompts_for(arms.facts["classes"], settings.prompts)
        model = load_vision_language(settings.vision_language, settings.vision_language_sha256, device)
        cases = (np.array(stored(case)) for case in runtime.progress(gathered.cases["case"], "zero-shot"))
        geometry = arms.geometry
        colour = geometry.kind == "image" and geometry.channels == 3
        return as_probabilities(zero_shot_logits(model, cases, prompts, geometry.channels, colour), gathered.labelling)
    except NotAvailable as error:
        raise NotMeasured(str(error)) from error
    except (BadWeights, ValueError) as error:
        raise UserError(str(error)) from error
