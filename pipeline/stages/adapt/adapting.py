"""Adapt a pretrained network to unlabelled images, by any method of the catalogue.

Alignment losses are not applied here; fine-tuning adds them to its loss.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import live, runtime
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.learning.models.adabn import adabn, adabn_per_site
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.harmonise import PERCENTILES, landmarks, standard_scale
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.learning.training.frozen import Case, as_tensors, frozen_views, mean_features
from pipeline.progress import activity, progress
from pipeline.seeds import seed_for
from pipeline.stages.adapt.catalogue import HARMONISERS, OBJECTIVES, PER_SITE
from pipeline.stages.adapt.methods.combat import Combat, fit_combat
from pipeline.stages.adapt.pretraining.continued import Epoch, Settings, continue_pretraining

log = logging.getLogger(__name__)

CHANNELS_A_BATCH = 192  # when normalisation statistics are estimated
WATCHED = 5  # one patient in five is held out of pretraining, to measure its progress
FEWEST = 3  # images of a site with its own statistics; a site with fewer is treated as unknown
PAIRS = 4  # pairs of views of each held-out patient
Pair = tuple[Tensor, Tensor]
Channels = NDArray[np.uint8]


@dataclass(frozen=True)
class Images:
    """Cases without their labels, as parallel arrays.

    Attributes
    ----------
    cases, patients, sites : (n,) str
    covariates : (n, c) float64
        For example age; c may be 0.
    """

    cases: NDArray[np.str_]
    patients: NDArray[np.str_]
    sites: NDArray[np.str_]
    covariates: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.cases)

    def where(self, chosen: NDArray[np.bool_]) -> "Images":
        """Select some of the cases."""
        return Images(self.cases[chosen], self.patients[chosen], self.sites[chosen], self.covariates[chosen])


@dataclass(frozen=True)
class AdaptationPlan:
    """The inputs of an adaptation method.

    Attributes
    ----------
    method : str
        A name of the catalogue.
    strength : float
        At 0 the network is left unchanged.
    settings, batch_size : Settings, int
        Of continued pretraining.
    start : callable
        start(**around) builds the pretrained network anew; `around` are `n_classes`, `harmonise` and
        `sites` of `pretrained_network`.
    seen : Images
        All images that the method may use.
    training : Images
        Those of the training cases, which define the standard scale of grey values.
    groups : int
        Channels with a grey-value scale of their own: the colours of an image, the windows of a volume.
    views : AugmentedViews
        Reads the stored cases and draws augmented views.
    seed : int
        The project's seed.
    stage, fold : str
        Name the draws, the log lines and the live curves.
    checkpoint : Checkpoint
        Where continued pretraining saves its state; its key identifies everything that the training depends on.
    """

    method: str
    strength: float
    settings: Settings
    batch_size: int
    start: Callable[..., Classifier]
    seen: Images
    training: Images
    groups: int
    views: AugmentedViews
    seed: int
    stage: str
    fold: str
    checkpoint: Checkpoint

    def with_method(self, method: str, strength: float) -> "AdaptationPlan":
        """Replace the method and its strength."""
        settings = replace(self.settings, strength=min(strength, 1.0))
        return replace(self, method=method, strength=strength, settings=settings)

    def generator(self, *names: str) -> np.random.Generator:
        """Make the random generator of the draws with these names."""
        return np.random.default_rng(seed_for(self.seed, "adapt", *names))


def adapt(plan: AdaptationPlan) -> tuple[Classifier, dict[str, Any], list[Epoch]]:
    """Adapt the pretrained network by the method of the plan.

    Returns
    -------
    network : Classifier
    around : dict
        What the method adds to the network, plain values: `harmonise` of `InstanceCutter` or `sites` of `Classifier`.
    curve : list of Epoch
        Of continued pretraining; empty for other methods.

    Raises
    ------
    ValueError
        If the images do not allow the method, for example one site for a method that compares sites.
    """
    around = extra_arguments(plan) if plan.strength > 0 else {}
    network = plan.start(**around)
    curve: list[Epoch] = []
    if plan.method == "adabn":
        adabn(network.encoder, batches_of(network, plan.seen, plan), plan.strength)
    elif plan.method == "adabn_per_site" and around:
        normalise_each_site(network, plan)
    elif plan.method == "combat" and around:
        standardise_each_site(network, plan)
    elif plan.method in OBJECTIVES:
        curve = pretrain(network, plan)
    return network, around, curve


def extra_arguments(plan: AdaptationPlan) -> dict[str, Any]:
    """List the arguments of `pretrained_network` that the method adds."""
    if plan.method in HARMONISERS:
        return {"harmonise": harmonisation(plan)}
    if plan.method in PER_SITE:
        per_site = "features" if plan.method == "combat" else "normalisation"
        names, counts = np.unique(plan.seen.sites, return_counts=True)
        return {"sites": {"names": names[counts >= FEWEST].tolist(), "per_site": per_site}}
    return {}


def harmonisation(plan: AdaptationPlan) -> dict[str, Any]:
    """Fit the standard scale of grey values on the training cases; return the arguments of a `Harmoniser`."""
    percentiles = PERCENTILES[plan.method]
    cases = progress(plan.training.cases, f"grey values of {plan.fold}")
    marks = [landmarks(plan.views.stored(case), percentiles, plan.groups) for case in cases]
    standard = standard_scale(marks, plan.method)
    return {"percentiles": list(percentiles), "standard": standard.tolist(), "strength": plan.strength}


def batches_of(network: Classifier, images: Images, plan: AdaptationPlan) -> Iterator[Tensor]:
    """Yield a slightly moved view of each case, as instances (B * S, C, H, W), with the cases in random order."""
    order = plan.generator("order", plan.fold).permutation(sorted(images.cases))
    size = max(CHANNELS_A_BATCH // len(plan.views.stored(order[0])), 1)
    for part in progress(np.array_split(order, max(round(len(order) / size), 1)), f"adapt {plan.fold}"):
        yield instances_of(network, [plan.views.moved(case) for case in part])


def normalise_each_site(network: Classifier, plan: AdaptationPlan) -> None:
    """Re-estimate the normalisation statistics of each site, and of all images together for unknown sites."""
    batches = {
        site: partial(batches_of, network, plan.seen.where(plan.seen.sites == site), plan)
        for site in network.site_values.sites
    }
    of_sites = adabn_per_site(network.encoder, batches, plan.strength)
    of_all = adabn(network.encoder, batches_of(network, plan.seen, plan), plan.strength).state_dict()
    for site, statistics in [(None, of_all), *of_sites.items()]:
        network.site_values.remember(site, {f"encoder.{name}": value for name, value in statistics.items()})


def standardise_each_site(network: Classifier, plan: AdaptationPlan) -> None:
    """Fit ComBat on the features of the seen images, and store the location and scale of every feature for each site.

    The fit uses the covariates, so that a site with older patients is not mistaken for one with another scanner.
    Prediction does not ask for covariates; it places every case at their means.
    """
    known = plan.seen.where(np.isin(plan.seen.sites, network.site_values.sites))
    features = features_of(network, known, plan)
    combat = fit_combat(features, known.sites, known.covariates, plan.strength)
    for site in network.site_values.sites:
        network.site_values.remember(site, as_standardisation(combat, site, features.shape[1]))


def as_standardisation(combat: Combat, site: str, width: int) -> dict[str, Tensor]:
    """Express ComBat at a site, which at the means of the covariates is y* = a y + b, as (y - mean) / scale."""
    at = np.array([site])
    offset = combat.apply(np.zeros((1, width)), at)[0]
    slope = combat.apply(np.ones((1, width)), at)[0] - offset
    return {"feature_mean": torch.from_numpy(-offset / slope), "feature_scale": torch.from_numpy(1 / slope)}


def features_of(network: Classifier, images: Images, plan: AdaptationPlan) -> NDArray[np.float64]:
    """Compute the features of cases without augmentation, averaged over their instances: (n, width)."""
    if not len(images):
        return np.zeros((0, network.encoder.width))
    first = len(network.encoder.stages)
    maps, pooled = frozen_views(network, views_of(images, 0, plan), first)
    return mean_features(network, maps[0], pooled[0], first)


def views_of(images: Images, views: int, plan: AdaptationPlan) -> list[Case]:
    """Describe each case by its site and by functions that draw it and its augmented views, (V, P, H, W)."""
    return [
        Case(str(site), as_tensors(plan.views.parts(case, views)))
        for case, site in zip(images.cases, images.sites, strict=True)
    ]


def pretrain(network: Classifier, plan: AdaptationPlan) -> list[Epoch]:
    """Continue pretraining the encoder without labels; held-out patients decide when to stop."""
    seen = plan.seen
    patients = plan.generator("watched", plan.fold).permutation(sorted(set(seen.patients)))
    if len(patients) < WATCHED + 2:
        raise ValueError(f"pretraining needs at least {WATCHED + 2} patients, but there are {len(patients)}")
    watched = np.isin(seen.patients, patients[: max(len(patients) // WATCHED, 2)])
    draw = partial(pairs_of, network, plan)
    images = next(draw(seen, "shape"))[0]
    curve = continue_pretraining(
        network.encoder,
        OBJECTIVES[plan.method](network.encoder, images.shape[1], images.shape[-1]),
        pairs=runtime.prefetch_passes(lambda number: draw(seen.where(~watched), str(number))),
        held_out=[pair for number in range(PAIRS) for pair in draw(seen.where(watched), f"watched/{number}")],
        settings=plan.settings,
        accelerator=make_accelerator(runtime.device()),
        checkpoint=plan.checkpoint,
        tell=live.watched(partial(log_epoch, plan.fold), plan.stage, plan.fold),
    )
    plan.checkpoint.remove()
    return curve


def pairs_of(network: Classifier, plan: AdaptationPlan, images: Images, pass_name: str) -> Iterator[Pair]:
    """Yield two views of one instance of each patient, as encoder inputs, in batches of about equal size.

    Each patient contributes one case per pass, so that no method pushes two images of a patient apart.
    """
    order = plan.generator("pass", plan.fold, pass_name).permutation(np.argsort(images.cases))
    _, firsts = np.unique(images.patients[order], return_index=True)
    chosen = images.cases[order[np.sort(firsts)]]
    for part in np.array_split(chosen, max(round(len(chosen) / plan.batch_size), 1)):
        pairs = [plan.views.pair(case, plan.fold, pass_name) for case in part]
        yield instances_of(network, [one for one, _ in pairs]), instances_of(network, [other for _, other in pairs])


def instances_of(network: Classifier, views: Sequence[Channels]) -> Tensor:
    """Stack views (P, H, W) into encoder inputs on the network's device."""
    instances: Tensor = network.instances(torch.from_numpy(np.stack(views)).to(network.device))
    return instances


def log_epoch(fold: str, epoch: Epoch) -> None:
    """Log the losses of one epoch."""
    activity(f"training without labels, epoch {epoch.epoch}")
    losses = f"train {epoch.train_loss:.4f}, held-out {epoch.held_out_loss:.4f}, control {epoch.control_loss:.4f}"
    log.info("adapt %s epoch %2d: %s", fold, epoch.epoch, losses)
