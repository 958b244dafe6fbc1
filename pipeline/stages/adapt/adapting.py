"""A pretrained network and images without labels in, the adapted network out, by any method of the catalogue.

Terms are not applied here: fine-tuning adds them to its loss.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.harmonise import PERCENTILES, landmarks, standard_scale
from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.learning.training.frozen import Case, frozen_views, mean_features
from pipeline.learning.training.loop import make_accelerator
from pipeline.stages.adapt.catalogue import HARMONISERS, OBJECTIVES, PER_SITE
from pipeline.stages.adapt.methods.adabn import adabn, adabn_per_site
from pipeline.stages.adapt.methods.combat import Combat, fit_combat
from pipeline.stages.adapt.pretraining.continued import Epoch, Settings, continue_pretraining

CHANNELS_A_BATCH = 192  # of statistics
WATCHED = 5  # one patient in so many is set aside to evaluate the progress of learning without labels
FEWEST = 3  # images of a site that has values of its own; with fewer it counts as unknown
PAIRS = 4  # pairs of views of each case set aside
Pair = tuple[Tensor, Tensor]
Passes = Callable[[int], Iterable[Pair]]
Channels = NDArray[np.uint8]


class Views(Protocol):
    """What draws the views of a case; `imaging.augmentation.augmented_views.AugmentedViews` does."""

    def stored(self, case: str) -> Channels:
        """Give the case as it is (P, H, W)."""

    def moved(self, case: str) -> Channels:
        """Give a slightly moved view (P, H, W)."""

    def augmented(self, case: str, views: int) -> Channels:
        """Give the case as it is and views for training (1 + views, P, H, W)."""

    def pair(self, case: str, *draw: object) -> tuple[Channels, Channels]:
        """Give two strong views of an instance."""


@dataclass(frozen=True)
class Images:
    """Cases without their labels, side by side.

    Attributes
    ----------
    cases, patients, sites : (n,) str
    covariates : (n, c) float64
        Such as age; c may be 0.
    """

    cases: NDArray[np.str_]
    patients: NDArray[np.str_]
    sites: NDArray[np.str_]
    covariates: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.cases)

    def where(self, chosen: NDArray[np.bool_]) -> "Images":
        """Take some of them."""
        return Images(self.cases[chosen], self.patients[chosen], self.sites[chosen], self.covariates[chosen])


@dataclass(frozen=True)
class Adapting:
    """What a method works with.

    Attributes
    ----------
    method, strength : str, float
        Of the catalogue; at strength 0 nothing is done.
    settings, batch_size : Settings, int
        Of learning without labels.
    start : callable
        start(**around) gives the pretrained network anew, with what adaptation puts around its encoder.
    seen, training : Images
        What may be looked at; and the part of it to whose grey values the others are brought.
    groups : int
        Channels that are on a scale of their own: the colours of a image, the windows of a volume.
    fold, seed_of, views
        Name of the fold, and what draws from it.
    progress : callable
        progress(items, label) shows how far the items have come.
    ahead : callable
        Takes and gives what gives the items of a pass by its number; draws the next item while the present one is used.
    checkpoint : Checkpoint
        Where learning without labels is kept in case it is cut short, with the key of all that it depends on.
    tell : callable
        Called after each of its epochs.
    """

    method: str
    strength: float
    settings: Settings
    batch_size: int
    start: Callable[..., Classifier]
    seen: Images
    training: Images
    groups: int
    fold: str
    seed_of: Callable[..., int]
    views: Views
    progress: Callable[[Iterable[Any], str], Iterable[Any]]
    ahead: Callable[[Passes], Passes]
    checkpoint: Checkpoint
    device: str | None
    tell: Callable[[Epoch], None]

    def by(self, method: str, strength: float) -> "Adapting":
        """Give the same with another method."""
        settings = replace(self.settings, strength=min(strength, 1.0))
        return replace(self, method=method, strength=strength, settings=settings)


def adapt(plan: Adapting) -> tuple[Classifier, dict[str, Any], list[Epoch]]:
    """Apply the method to the pretrained network.

    Returns
    -------
    network : Classifier
    around : dict
        The arguments that adaptation gave it, plain values: `harmonise`, or `sites` and `per_site`.
    curve : list of Epoch
        Of learning without labels; else empty.

    Raises
    ------
    ValueError
        If the images do not allow it, e.g. one site for a method that compares sites.
    """
    around = around_of(plan) if plan.strength > 0 else {}
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


def around_of(plan: Adapting) -> dict[str, Any]:
    """Say what the method puts around the encoder."""
    if plan.method in HARMONISERS:
        return {"harmonise": harmonisation(plan)}
    if plan.method in PER_SITE:
        per_site = "features" if plan.method == "combat" else "normalisation"
        names, counts = np.unique(plan.seen.sites, return_counts=True)
        return {"sites": names[counts >= FEWEST].tolist(), "per_site": per_site}
    return {}


def harmonisation(plan: Adapting) -> dict[str, Any]:
    """Fit the standard scale of grey values on the training cases: the arguments of a `Harmoniser`."""
    percentiles = PERCENTILES[plan.method]
    cases = plan.progress(plan.training.cases, f"grey values of {plan.fold}")
    marks = [landmarks(plan.views.stored(case), percentiles, plan.groups) for case in cases]
    standard = standard_scale(marks, plan.method)
    return {"percentiles": list(percentiles), "standard": standard.tolist(), "strength": plan.strength}


def batches_of(network: Classifier, images: Images, plan: Adapting) -> Iterator[Tensor]:
    """Draw a slightly moved view of each case, as instances (B * S, C, H, W), cases in a random order."""
    order = np.random.default_rng(plan.seed_of("adapt", "order", plan.fold)).permutation(sorted(images.cases))
    size = max(CHANNELS_A_BATCH // len(plan.views.stored(order[0])), 1)
    for part in plan.progress(np.array_split(order, max(round(len(order) / size), 1)), f"adapt {plan.fold}"):
        yield instances_of(network, [plan.views.moved(case) for case in part])


def normalise_each_site(network: Classifier, plan: Adapting) -> None:
    """Re-estimate the normalisation statistics of each site, and those of all images for a site that is unknown."""
    batches = {
        site: partial(batches_of, network, plan.seen.where(plan.seen.sites == site), plan)
        for site in network.of_site.sites
    }
    of_sites = adabn_per_site(network.encoder, batches, plan.strength)
    of_all = adabn(network.encoder, batches_of(network, plan.seen, plan), plan.strength).state_dict()
    for site, statistics in [(None, of_all), *of_sites.items()]:
        network.of_site.remember(site, {f"encoder.{name}": value for name, value in statistics.items()})


def standardise_each_site(network: Classifier, plan: Adapting) -> None:
    """Fit ComBat on the features of the images seen; for each site it is a location and a spread of every feature.

    Covariates take part in the fit, so that a site of old patients is not taken for a site of another scanner; they
    are not asked for when a case is evaluated, which then stands at their means.
    """
    known = plan.seen.where(np.isin(plan.seen.sites, network.of_site.sites))
    features = features_of(network, known, plan)
    combat = fit_combat(features, known.sites, known.covariates, plan.strength)
    for site in network.of_site.sites:
        network.of_site.remember(site, as_standardisation(combat, site, features.shape[1]))


def as_standardisation(combat: Combat, site: str, width: int) -> dict[str, Tensor]:
    """Write what ComBat does at a site, at the means of the covariates y* = a y + b, as (y - centre) / spread."""
    at = np.array([site])
    offset = combat.apply(np.zeros((1, width)), at)[0]
    slope = combat.apply(np.ones((1, width)), at)[0] - offset
    return {"centre": torch.from_numpy(-offset / slope), "spread": torch.from_numpy(1 / slope)}


def features_of(network: Classifier, images: Images, plan: Adapting) -> NDArray[np.float64]:
    """Compute the features of cases as they are, the mean over their instances: (n, width)."""
    if not len(images):
        return np.zeros((0, network.encoder.width))
    first = len(network.encoder.stages)
    maps, pooled = frozen_views(network, views_of(images, 0, plan), first)
    return mean_features(network, maps[0], pooled[0], first)


def views_of(images: Images, views: int, plan: Adapting) -> list[Case]:
    """Name the site of each case, and draw, when asked, the case as it is with augmented views (1 + views, P, H, W)."""

    def draw(case: str) -> Tensor:
        return torch.from_numpy(plan.views.augmented(case, views))

    return [Case(case, str(site), partial(draw, case)) for case, site in zip(images.cases, images.sites, strict=True)]


def pretrain(network: Classifier, plan: Adapting) -> list[Epoch]:
    """Go on training the encoder without labels; stop by patients set aside, who are not trained on."""
    seen = plan.seen
    draws = np.random.default_rng(plan.seed_of("adapt", "watched", plan.fold))
    patients = draws.permutation(sorted(set(seen.patients)))
    if len(patients) < WATCHED + 2:
        raise ValueError(f"it needs at least {WATCHED + 2} patients to learn from, not {len(patients)}")
    watched = np.isin(seen.patients, patients[: max(len(patients) // WATCHED, 2)])
    draw = partial(pairs_of, network, plan)
    images = next(draw(seen, "shape"))[0]
    curve = continue_pretraining(
        network.encoder,
        OBJECTIVES[plan.method](network.encoder, images.shape[1], images.shape[-1]),
        plan.ahead(lambda number: draw(seen.where(~watched), str(number))),
        [pair for number in range(PAIRS) for pair in draw(seen.where(watched), f"watched/{number}")],
        plan.settings,
        make_accelerator(plan.device),
        plan.checkpoint,
        plan.tell,
    )
    plan.checkpoint.remove()
    return curve


def pairs_of(network: Classifier, plan: Adapting, images: Images, pass_name: str) -> Iterator[Pair]:
    """Draw two views of one instance of each patient, as the encoder takes them, in batches of about equal size.

    A patient stands once in a pass, in one of their cases, so that no method pushes two of their images apart.
    """
    draws = np.random.default_rng(plan.seed_of("adapt", "pass", plan.fold, pass_name))
    order = draws.permutation(np.argsort(images.cases))
    _, firsts = np.unique(images.patients[order], return_index=True)
    chosen = images.cases[order[np.sort(firsts)]]
    for part in np.array_split(chosen, max(round(len(chosen) / plan.batch_size), 1)):
        views = [plan.views.pair(case, plan.fold, pass_name) for case in part]
        first, second = (instances_of(network, side) for side in zip(*views, strict=True))
        yield first, second


def instances_of(network: Classifier, views: Sequence[Channels]) -> Tensor:
    """Bring views (P, H, W) to the network's device, as the encoder takes them."""
    return network.instances(torch.from_numpy(np.stack(views)).to(network.mean.device))
