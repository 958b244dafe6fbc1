"""Build the networks of the experimental arms: an encoder from random weights, from ImageNet, or adapted."""

from collections.abc import Iterator
from functools import cached_property, partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import cache, paths, prepared, runtime
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.labels import targets_of
from pipeline.learning.models.adabn import adabn
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.alignment.losses import ALIGNMENT_LOSSES
from pipeline.learning.training.frozen import mean_features
from pipeline.paths import Role
from pipeline.schema import FINAL, Params
from pipeline.seeds import seed_for
from pipeline.stages.adapt.adapting import adapt
from pipeline.stages.adapt.catalogue import OBJECTIVES
from pipeline.stages.adapt.setup import make_plan, pretrained
from pipeline.stages.evidence.arms import ADAPTED, IMAGENET
from pipeline.stages.evidence.experiments.splits import Split
from pipeline.stages.evidence.learners.probing import probe_predictions
from pipeline.stages.finetune.fold_data import frozen_stages, load_adapted

Floats = NDArray[np.float64]
STATISTICS = (  # a change in them retrains nothing (decision 10)
    "pipeline/metrics",
    "pipeline/stages/calibrate",
    "pipeline/stages/evidence/statistics",
)
CASES_A_BATCH = 16  # for the initial normalisation statistics of a network with random weights


class NotMeasured(ValueError):
    """An experiment is not possible here; the message gives the reason."""


def training_code() -> str:
    """Hash the code that trainings of arms depend on: that of `evidence` without metrics and statistics."""
    return cache.code_of("evidence", without=STATISTICS)


class Arms:
    """The networks of each arm, and the features and probes computed with them.

    Parameters
    ----------
    params : Params
        Uses the sections seed, adapt and finetune.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        self.geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
        self.facts = paths.read_json(paths.COHORT_FACTS)
        self.accelerator = make_accelerator(runtime.device())
        self.start, self.made_of = pretrained(params.adapt, self.geometry, params.finetune.pooled_stages)
        self.features_kept: dict[tuple[str, str], dict[str, Floats]] = {}

    @property
    def n_classes(self) -> int:
        """Number of classes, or of labels in a multilabel task."""
        return len(self.facts["classes"])

    @cached_property
    def method(self) -> tuple[str, float]:
        """The method by which the encoder was adapted, and its strength."""
        fold = FINAL if paths.adaptation(FINAL).exists() else self.params.split.numbered[0]
        record = paths.read_json(paths.adaptation(fold))
        return record["method"], record["strength"]

    def same_features(self) -> bool:
        """Tell whether adaptation leaves the frozen features unchanged, as alignment losses and no method do."""
        method, strength = self.method
        return method == "none" or strength == 0 or method in ALIGNMENT_LOSSES

    @cached_property
    def views(self) -> AugmentedViews:
        """Reads cases and draws augmented views of them."""
        seed_of = partial(seed_for, self.params.seed)
        return AugmentedViews(prepared.read_channels, seed_of, self.geometry, self.params.adapt.filter_depth > 1)

    def targets(self, cases: pd.DataFrame) -> torch.Tensor:
        """Encode the labels as training targets (n, C)."""
        return torch.from_numpy(targets_of(cases["label"], self.facts["classes"], self.facts["task"]))

    def network(self, arm: str, split: Split) -> Classifier:
        """Build the network of an arm, with an untrained head."""
        if arm == ADAPTED:
            there = paths.adapted_encoder(split.name).exists()
            network = load_adapted(split.name, self.geometry, self.n_classes)[0] if there else self.adapt_anew(split)
        elif arm == IMAGENET:
            network = self.start(n_classes=self.n_classes)
        else:
            network = self.from_random_weights(split)
        return network.to(self.accelerator.device).eval()

    def adapt_anew(self, split: Split) -> Classifier:
        """Adapt the encoder without a site, by the method that was used on all development cases."""
        method, strength = self.method
        if method in OBJECTIVES and not self.params.evidence.budget:
            raise NotMeasured(f"{method} must be retrained without each site; set evidence.budget above 0")
        seen = split.cases[split.cases["role"] != Role.HELD_OUT]
        settings, seed = self.params.adapt, self.params.seed
        files = (paths.CASES, paths.COHORT_FACTS, paths.GEOMETRY, paths.INDEX)
        key = cache.fingerprint(training_code(), files, seed, settings, self.made_of, torch.__version__, seen.to_csv())
        plan = make_plan(
            seen,
            start=self.start,
            settings=settings,
            geometry=self.geometry,
            seed=seed,
            stage="evidence",
            fold=split.name,
            key=key,
        )
        try:
            network, _, _ = adapt(plan.with_method(method, strength))
        except ValueError as error:
            raise NotMeasured(f"{method} without {split.name.removeprefix('without-')}: {error}") from error
        return network

    def from_random_weights(self, split: Split) -> Classifier:
        """Initialise random weights, and estimate the normalisation statistics from the training images."""
        random = self.params.adapt.model_copy(update={"weights": "none", "weights_sha256": None})
        start, _ = pretrained(random, self.geometry, self.params.finetune.pooled_stages)
        torch.manual_seed(seed_for(self.params.seed, "scratch", split.name))
        network = start(n_classes=self.n_classes)

        def batches() -> Iterator[Tensor]:
            names = split.labelled["case"].to_numpy()
            for some in np.array_split(names, max(len(names) // CASES_A_BATCH, 1)):
                channels = np.stack([prepared.read_channels(case) for case in some])
                yield network.instances(torch.from_numpy(channels).to(network.device))

        adabn(network.encoder, batches())
        return network

    def features(self, arm: str, split: Split, cases: pd.DataFrame) -> Floats:
        """Compute the frozen features (n, w) of cases, averaged over their instances."""
        kept = self.features_kept.setdefault((arm, "" if arm == IMAGENET else split.name), {})
        new = cases[~cases["case"].isin(kept)]
        if len(new):
            network = self.network(arm, split)
            first = len(network.encoder.stages)
            maps, pooled = frozen_stages(network, new, self.views, first=first, count=0, label=f"{arm}, {split.name}")
            found = mean_features(network, maps[0], pooled[0], first)
            kept |= dict(zip(new["case"], found, strict=True))
        return np.stack([kept[case] for case in cases["case"]])

    def probed(self, arm: str, split: Split, rows: NDArray[np.int64] | slice, seed: int) -> Floats:
        """Fit a probe on some of the labelled cases, and predict the logits (t, C) of the evaluated ones."""
        some = split.labelled.iloc[rows]
        return probe_predictions(
            self.features(arm, split, some),
            self.targets(some),
            some["patient"].to_numpy(dtype=str),
            evaluated=self.features(arm, split, split.evaluated),
            balance=self.params.finetune.class_weights,
            seed=seed,
            task=self.facts["task"],
        )
