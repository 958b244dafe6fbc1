"""Three challenges of transfer: does the architecture fit, does the encoder know enough, is there enough data."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pipeline.learning.training.transferability import h_score, log_me
from pipeline.stages.evidence.experiments.networks import ADAPTED, IMAGENET, Arms
from pipeline.stages.evidence.experiments.splits import Split
from pipeline.stages.evidence.learners.similarity import by_stage

COLUMNS = ["challenge", "name", "arm", "value", "words"]
Row = tuple[str, str, str, float | None, str]


def challenges(arms: Arms, folds: Sequence[Split], names: Sequence[str], final: pd.DataFrame) -> pd.DataFrame:
    """Table `COLUMNS`: what was changed for these images, and what the features of each arm are worth unadorned.

    Parameters
    ----------
    final : pandas.DataFrame
        The metrics after all training patients, of which those of probes tell how far a channel parts the classes.
    """
    rows = [*architecture(arms), *separability(final), *transferability(arms, folds, names)]
    rows += [*similarity(arms, folds[0], names), *amounts(arms, folds)]
    return pd.DataFrame(rows, columns=COLUMNS)


def architecture(arms: Arms) -> Iterator[Row]:
    """Say what was done to the encoder so that it takes these images."""
    geometry, made_of = arms.geometry, arms.made_of
    channels = geometry.windows if made_of["filter_depth"] > 1 else geometry.channels
    changed = "as it was trained" if channels == 3 else "filters of the first layer repeated, their response kept"
    yield "architecture", "input channels", "", float(channels), f"the encoder was made for 3; {changed}"
    yield (
        "architecture",
        "image size",
        "",
        float(geometry.image_size),
        "pixels a side; any size fits, as features are pooled",
    )
    if geometry.kind == "image":
        yield "architecture", "dimensions", "", 2.0, "images"
    elif made_of["filter_depth"] > 1:
        words = f"filters inflated to {made_of['filter_depth']} slices"
        yield "architecture", "dimensions", "", 3.0, words
    else:
        words = f"each volume is a bag of {geometry.slices} instances, which attention weighs"
        yield "architecture", "dimensions", "", 2.0, words


def separability(final: pd.DataFrame) -> Iterator[Row]:
    """Take the AUC of a linear probe on all labelled cases, out of fold."""
    probes = final[(final["recipe"] == "probe") & (final["scope"] == "internal") & (final["metric"] == "auc")]
    for row in probes.to_dict("records"):
        words = f"AUC of a probe out of fold, {row['lower']:.2f} to {row['upper']:.2f}"
        yield "knowledge", "linear separability", row["arm"], row["value"], words


def transferability(arms: Arms, folds: Sequence[Split], names: Sequence[str]) -> Iterator[Row]:
    """Score the features of the labelled cases, mean over the folds; nothing is trained."""
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
        yield "knowledge", "LogME", arm, float(logme), "evidence per case that features say the labels; higher is more"
        yield "knowledge", "H-score", arm, float(h), "variance between the classes; 0 is none"


def similarity(arms: Arms, split: Split, names: Sequence[str]) -> Iterator[Row]:
    """Compare the adapted encoder with ImageNet's on the labelled cases of a fold, stage by stage."""
    if ADAPTED not in names:
        return
    adapted, imagenet = (arms.features(arm, split, split.labelled) for arm in (ADAPTED, IMAGENET))
    encoder = arms.start().encoder
    for number, value in enumerate(by_stage(adapted, imagenet, encoder.widths), encoder.first_pooled + 1):
        words = f"stage {number} of {len(encoder.stages)}; 1 is the same as ImageNet's"
        yield "knowledge", f"CKA, stage {number}", ADAPTED, value, words


def amounts(arms: Arms, folds: Sequence[Split]) -> Iterator[Row]:
    """Count the labelled patients of each class in training, mean over the folds."""
    for number, name in enumerate(arms.facts["classes"]):
        counts = [
            split.labelled.loc[(arms.targets(split.labelled)[:, number] == 1).numpy(), "patient"].nunique()
            for split in folds
        ]
        yield "data", f"patients with {name}", "", float(np.mean(counts)), "to learn from, mean over the folds"
