"""Describe three challenges of transfer: the fit of the architecture, the encoder's features, the amount of data."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pipeline.learning.models.encoder_catalogue import architecture_of, channels_of
from pipeline.learning.models.volume_backbones import VOLUMES
from pipeline.learning.training.transferability import h_score, log_me
from pipeline.stages.evidence.arms import ADAPTED, IMAGENET
from pipeline.stages.evidence.experiments.networks import Arms
from pipeline.stages.evidence.experiments.splits import Split
from pipeline.stages.evidence.learners.similarity import by_stage

COLUMNS = ["challenge", "name", "arm", "value", "words"]
Row = tuple[str, str, str, float | None, str]


def challenges(arms: Arms, folds: Sequence[Split], names: Sequence[str], final: pd.DataFrame) -> pd.DataFrame:
    """Tabulate what was changed for these images, and how useful the frozen features of each arm are; `COLUMNS`.

    Parameters
    ----------
    final : pandas.DataFrame
        The metrics of arms trained on all patients; those of the probes measure linear separability.
    """
    rows = [*architecture(arms), *separability(final), *transferability(arms, folds, names)]
    rows += [*similarity(arms, folds[0], names), *amounts(arms, folds)]
    return pd.DataFrame(rows, columns=COLUMNS)


def architecture(arms: Arms) -> Iterator[Row]:
    """Describe how the encoder was changed for these images."""
    geometry, depth = arms.geometry, arms.made_of["filter_depth"]
    channels = geometry.windows if depth > 1 else geometry.channels
    name = arms.params.adapt.encoder
    trained = channels_of(name)
    changed = "unchanged" if channels == trained else "filters of the first layer repeated, with the same response"
    yield "architecture", "input channels", "", float(channels), f"the encoder was trained with {trained}; {changed}"
    words = "pixels per side; any size fits, because features are pooled"
    yield "architecture", "image size", "", float(geometry.image_size), words
    if geometry.kind == "image":
        yield "architecture", "dimensions", "", 2.0, "images"
    elif depth > 1:
        words = "pretrained on volumes" if architecture_of(name) in VOLUMES else f"filters inflated to {depth} slices"
        yield "architecture", "dimensions", "", 3.0, words
    else:
        words = f"each volume is a bag of {geometry.slices} instances, weighted by attention"
        yield "architecture", "dimensions", "", 2.0, words


def separability(final: pd.DataFrame) -> Iterator[Row]:
    """Read the out-of-fold AUC of a linear probe on all labelled cases."""
    probes = final[(final["recipe"] == "probe") & (final["scope"] == "internal") & (final["metric"] == "auc")]
    for row in probes.to_dict("records"):
        words = f"out-of-fold AUC of a linear probe, {row['lower']:.2f} to {row['upper']:.2f}"
        yield "knowledge", "linear separability", row["arm"], row["value"], words


def transferability(arms: Arms, folds: Sequence[Split], names: Sequence[str]) -> Iterator[Row]:
    """Score the features of the labelled cases without training, averaged over the folds."""
    if arms.facts["task"] == "multilabel":
        return
    for arm in names:
        scores = []
        for split in folds:
            features = arms.features(arm, split, split.labelled)
            labels = arms.targets(split.labelled).argmax(dim=1).numpy()
            centred = features - features.mean(axis=0)
            scores.append((log_me(centred, labels), h_score(features, labels)))
        logme, h = np.mean(scores, axis=0)
        words = "evidence per case that the features predict the labels; higher is better"
        yield "knowledge", "LogME", arm, float(logme), words
        yield "knowledge", "H-score", arm, float(h), "variance between the classes; 0 is none"


def similarity(arms: Arms, split: Split, names: Sequence[str]) -> Iterator[Row]:
    """Compare the adapted encoder with ImageNet's on the labelled cases of a fold, stage by stage."""
    if ADAPTED not in names:
        return
    adapted, imagenet = (arms.features(arm, split, split.labelled) for arm in (ADAPTED, IMAGENET))
    encoder = arms.start().encoder
    for number, value in enumerate(by_stage(adapted, imagenet, encoder.widths), encoder.first_pooled + 1):
        words = f"stage {number} of {len(encoder.stages)}; 1 means the same as ImageNet's"
        yield "knowledge", f"CKA, stage {number}", ADAPTED, value, words


def amounts(arms: Arms, folds: Sequence[Split]) -> Iterator[Row]:
    """Count the labelled training patients of each class, averaged over the folds."""
    for number, name in enumerate(arms.facts["classes"]):
        counts = [
            split.labelled.loc[(arms.targets(split.labelled)[:, number] == 1).numpy(), "patient"].nunique()
            for split in folds
        ]
        yield "data", f"patients with {name}", "", float(np.mean(counts)), "for training, mean over the folds"
