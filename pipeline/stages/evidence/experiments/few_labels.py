"""Evaluate the arms with a few labels, and a vision-language model with none."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline import prepared
from pipeline.errors import UserError
from pipeline.imaging.geometry import images_in
from pipeline.learning.models.state_files import BadWeights
from pipeline.metrics.discrimination import macro_auc
from pipeline.progress import progress
from pipeline.schema import Evidence
from pipeline.seeds import seed_for
from pipeline.stages.evidence.experiments.networks import Arms, NotMeasured
from pipeline.stages.evidence.experiments.predictions import Gathered, as_probabilities
from pipeline.stages.evidence.experiments.splits import Split
from pipeline.stages.evidence.learners.few_shot import Episodes, Pool, episode_scores
from pipeline.stages.evidence.learners.zero_shot import (
    NotAvailable,
    load_vision_language,
    prompts_for,
    zero_shot_logits,
)
from pipeline.stages.evidence.statistics.episodes import Shots

Floats = NDArray[np.float64]


def few_shot(arms: Arms, folds: Sequence[Split], names: Sequence[str], settings: Evidence) -> dict[Shots, Floats]:
    """Train on a few patients of each class in many episodes; give the AUC of each, averaged over the folds (E,)."""
    if arms.facts["task"] == "multilabel":
        return {}
    found: dict[Shots, list[Floats]] = {}
    for arm in names:
        for split in progress(folds, f"few shots, {arm}"):
            query, support = pool(arms, arm, split, split.evaluated), pool(arms, arm, split, split.labelled)
            seed = seed_for(arms.params.seed, "few shots", split.name)
            plan = Episodes(arms.n_classes, shots=settings.shots, count=settings.episodes, seed=seed)
            for (method, shots), scores in episode_scores(support, query, plan).items():
                aucs = np.array([one_auc(episode, query.labels) for episode in scores])
                found.setdefault(Shots(arm, method, shots), []).append(aucs)
    everywhere = {key: aucs for key, aucs in found.items() if len(aucs) == len(folds)}
    return {key: np.nanmean(np.stack(aucs), axis=0) for key, aucs in everywhere.items()}


def pool(arms: Arms, arm: str, split: Split, cases: pd.DataFrame) -> Pool:
    """Collect the features, labels and patients of cases for an arm."""
    labels = arms.targets(cases).argmax(dim=1).numpy()
    return Pool(arms.features(arm, split, cases), labels, cases["patient"].to_numpy(dtype=str))


def one_auc(scores: Floats, labels: NDArray[np.int64]) -> float:
    """Compute the AUC of one episode; NaN if a class has no evaluated case."""
    return float(macro_auc(scores, labels, np.ones((1, len(labels))))[0])


@torch.inference_mode()
def zero_shot(arms: Arms, gathered: Gathered, settings: Evidence) -> Floats:
    """Predict the evaluated cases from the names of the classes: (n, C).

    Raises
    ------
    NotMeasured
        If there is no model, its package is not installed, or cases have several labels.
    UserError
        If the model's files or the texts are invalid.
    """
    if settings.vision_language is None:
        raise NotMeasured("no vision-language model: set evidence.vision_language")
    if arms.facts["task"] == "multilabel":
        raise NotMeasured("zero-shot prediction needs one class per case, but cases have several labels")
    device = str(arms.accelerator.device)
    try:
        prompts = prompts_for(arms.facts["classes"], settings.prompts)
        model = load_vision_language(settings.vision_language, settings.vision_language_sha256, device)
        named, seen = progress(gathered.cases["case"], "zero-shot"), arms.geometry.without_mask
        cases = (images_in(np.array(prepared.read_channels(case)), arms.geometry) for case in named)
        logits = zero_shot_logits(model, cases, prompts, channels=seen.channels, colour=seen.colour)
        return as_probabilities(logits, gathered.spec)
    except NotAvailable as error:
        raise NotMeasured(str(error)) from error
    except (BadWeights, ValueError) as error:
        raise UserError(str(error)) from error
