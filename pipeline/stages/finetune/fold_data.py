"""Prepare the network and the cases of a fold for training, for `finetune` and `evidence` alike."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline import cache, paths, prepared, runtime
from pipeline.errors import UserError
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.augmentation.batched import batched_views
from pipeline.imaging.augmentation.strengths import AUGMENTATION, Profile
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.labels import targets_of
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.training.alignment.loss_term import Alignment, Target
from pipeline.learning.training.alignment.losses import ALIGNMENT_LOSSES, build_alignment
from pipeline.learning.training.cases import FrozenCases, WholeCases
from pipeline.learning.training.frozen import Case, as_tensors, frozen_views, prefix_fingerprint
from pipeline.learning.training.labelled import Labelled
from pipeline.learning.training.recipe import Recipe, first_trained_stage
from pipeline.learning.training.strategies import STRATEGIES
from pipeline.paths import Role
from pipeline.progress import progress
from pipeline.schema import Finetune, Params
from pipeline.seeds import seed_for
from pipeline.stages.finetune import activation_cache
from pipeline.stages.finetune.presets import JOINT, augmentations_of, full_of, has_statistics_of_views, views_of

OF_FULL = ("epochs", "sides", "learning_rate", "rate_decay", "weight_decay", "label_smoothing")
WARM_UP, CLIP, FEWEST_STEPS = 0.25, 1.0, 8  # of the training of every stage; steps of an epoch
ALIGNED = {"unlabelled": (Role.UNLABELLED,), "evaluated": (Role.UNLABELLED, Role.HELD_OUT, Role.TEST)}


def load_adapted(fold: str, geometry: Geometry, n_classes: int) -> tuple[Classifier, dict[str, Any]]:
    """Build a network from the adapted encoder and the arguments that adaptation added; its head is untrained.

    Returns
    -------
    network : Classifier
        In evaluation mode.
    arguments : dict
        The arguments of `Classifier` that rebuild it.
    """
    arguments = network_arguments(paths.read_json(paths.adaptation(fold)), geometry, n_classes)
    torch.manual_seed(0)  # of the attention's hidden layer
    network = Classifier(**arguments)
    network.encoder.load_state_dict(load_file(paths.adapted_encoder(fold)))
    network.site_values.load_state_dict(load_file(paths.adapted_sites(fold)))
    network.site_values.write_unknown(network)
    return network.eval(), arguments


def network_arguments(record: Mapping[str, Any], geometry: Geometry, n_classes: int) -> dict[str, Any]:
    """Turn the record of an adaptation into the arguments of a `Classifier` with a linear head, plain JSON values."""
    return {
        "encoder": {
            "name": record["provenance"]["encoder"],
            "pooled_stages": record["pooled_stages"],
            "filter_depth": record["filter_depth"],
        },
        "instances": {
            "channels": geometry.channels,
            "mean": record["mean"],
            "std": record["std"],
            "harmonise": record.get("harmonise"),
        },
        "head": {"n_classes": n_classes},
        "sites": record.get("sites"),
        "test_time": {"tent_steps": record["test_time_steps"], "tent_rate": record["test_time_rate"]},
    }


def recipe_of(settings: Finetune) -> Recipe:
    """Select the settings of the training loop."""
    return Recipe(**{name: getattr(settings, name) for name in Recipe.__dataclass_fields__ if hasattr(settings, name)})


def full_recipe_of(settings: Finetune, n_cases: int) -> Recipe:
    """Select the settings of the training of every stage; with few cases, smaller batches."""
    own: dict[str, Any] = {name: getattr(full_of(settings), name) for name in OF_FULL}
    recipe = replace(recipe_of(settings), average="ema", batch_statistics=True, warm_up=WARM_UP, clip=CLIP)
    recipe = replace(recipe, statistics_of_views=has_statistics_of_views(settings))
    return replace(recipe, batch_size=min(recipe.batch_size, max(n_cases // FEWEST_STEPS, 2)), **own)


def labelled_cases(
    network: Classifier,
    cases: pd.DataFrame,
    views: AugmentedViews,
    *,
    facts: dict[str, Any],
    settings: Finetune,
    label: str,
    stops_early: bool = True,
) -> Labelled:
    """Run the frozen stages on the training cases with augmented views, and on the validation cases without.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns case, patient, site, label, role.
    facts : dict
        The classes and the task, from cohort.json.
    label : str
        For the progress bar.
    stops_early : bool
        Whether the validation cases are set aside; otherwise they are training cases.
    """
    training, validation = training_cases(cases, stops_early), cases[cases["role"] == Role.VALIDATION]
    first = boundary_of(network, settings)

    def targets(some: pd.DataFrame) -> Tensor:
        return torch.from_numpy(targets_of(some["label"], facts["classes"], facts["task"]))

    def frozen(some: pd.DataFrame, count: int = 0, mirrored: bool = False) -> FrozenCases:
        maps, pooled = frozen_stages(network, some, views, first=first, count=count, mirrored=mirrored, label=label)
        return FrozenCases(maps, pooled, targets(some), first)

    def whole(some: pd.DataFrame) -> WholeCases:
        profile = "mild" if stops_early else settings.full.augmentation
        found = whole_cases(network, some, targets(some), views.geometry, profile=profile)
        every = stops_early or network.encoder.volumetric
        return found if every else replace(found, instances=int(full_of(settings).instances))

    return Labelled(
        train=frozen(training, views_of(settings), "mirror" in augmentations_of(settings)),
        validation=frozen(validation) if stops_early else None,
        patients=training["patient"].to_numpy(dtype=str),
        whole=lambda: (whole(training), whole(validation) if stops_early else None),
    )


def training_cases(cases: pd.DataFrame, stops_early: bool) -> pd.DataFrame:
    """Select the cases that train; those for validation are among them if they do not stop the training."""
    return cases[cases["role"].isin([Role.TRAIN] if stops_early else [Role.TRAIN, Role.VALIDATION])]


def boundary_of(network: Classifier, settings: Finetune) -> int:
    """Find the freeze boundary, the first stage whose activations can change during training.

    A strategy that trains every stage freezes all of them here, because it uses cached activations for its probe only.
    """
    n_stages = len(network.encoder.stages)
    if settings.strategy in JOINT:
        return n_stages
    strategy = STRATEGIES["lp_ft" if settings.strategy == "auto" else settings.strategy]
    trained = strategy.recipe(recipe_of(settings), n_stages).trainable_stages
    return n_stages if network.site_values.sites or trained == n_stages else n_stages - trained


def frozen_stages(
    network: Classifier,
    cases: pd.DataFrame,
    views: AugmentedViews,
    *,
    first: int,
    count: int,
    label: str,
    mirrored: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run the stages before `first` on cases and their augmented views, or read the result from the activation cache.

    Activations of the same stages on the same views are shared by folds and runs, and by `finetune` and `evidence`;
    the key of the cache covers the code of `finetune`.

    Parameters
    ----------
    count : int
        Augmented views of each case, besides the case itself.
    label : str
        For the progress bar.
    mirrored : bool
        Whether the mirror image of each case is a view as well.

    Returns
    -------
    maps, pooled : Tensor
        As from `frozen_views`.
    """
    key = hashlib.sha256((prefix_fingerprint(network, first) + cache.code_of("finetune")).encode()).hexdigest()
    limit = runtime.number("MEDADAPT_CACHE_GIB", 20) * 2**30
    activations = activation_cache.ActivationCache(paths.ACTIVATIONS, key[:32], limit)
    todo = [
        Case(site, as_tensors(views.named_parts(case, count, mirrored), site if network.site_values.sites else ""))
        for case, site in zip(cases["case"], cases["site"], strict=True)
    ]
    counted = partial(progress, doing=f"frozen stages of {label}")
    return frozen_views(network, todo, first, keep=activations, allocate=activation_cache.allocate, progress=counted)


def whole_cases(
    network: Classifier, cases: pd.DataFrame, targets: Tensor, geometry: Geometry, profile: Profile = "mild"
) -> WholeCases:
    """Load the cases as images onto the device if they fit, else read them batch by batch.

    Parameters
    ----------
    profile : {"mild", "strong"}
        Strengths of the augmentation.
    """
    names = cases["case"].to_numpy(dtype=str)
    augment, vary = (
        partial(
            batched_views,
            strengths=AUGMENTATION[one][geometry.kind],
            windows=geometry.windows,
            mask_every=geometry.mask_every,
        )
        for one in (profile, "strong")
    )

    def read(rows: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([prepared.read_channels(names[row]) for row in rows])).to(network.device)

    def prepare(channels: Tensor) -> tuple[Tensor, Tensor]:
        found = network.activations(channels, last=0)
        return found.maps, found.pooled

    size = len(names) * geometry.stored_channels * geometry.image_size**2
    load = read(torch.arange(len(names))).__getitem__ if activation_cache.fits_in_memory(size) else read
    return WholeCases(load, prepare, augment, targets, channels=network.instances.channels, vary=vary)


def alignment_of(
    network: Classifier,
    cases: pd.DataFrame,
    views: AugmentedViews,
    recipe: Recipe,
    *,
    task: str,
    params: Params,
    fold: str,
    stops_early: bool = True,
) -> Alignment | None:
    """Set up the alignment loss that `adapt@k` chose, with sites as domains; None if it chose none.

    Parameters
    ----------
    stops_early : bool
        As for `labelled_cases`.

    Raises
    ------
    UserError
        If the task is multilabel, or there are no unlabelled cases or fewer than two sites.
    """
    record = paths.read_json(paths.adaptation(fold))
    method, weight = record["method"], record["strength"]
    if method not in ALIGNMENT_LOSSES or weight == 0:
        return None
    if task == "multilabel":
        raise UserError(
            f"adapt.method: {method} needs one class per case, but cases have several labels; choose adabn or combat"
        )
    training = training_cases(cases, stops_early)
    others = cases[cases["role"].isin(ALIGNED.get(record["target"], ()))]
    sites = sorted({*training["site"], *others["site"]})
    if others.empty or len(sites) < 2:
        raise UserError(
            f"adapt.method: {method} aligns sites, but there are {len(others)} unlabelled cases and "
            f"{len(sites)} site(s) for training; mark cases as unlabelled, set adapt.target, or choose another method"
        )
    first = first_trained_stage(network, recipe)
    maps, pooled = frozen_stages(network, others, views, first=first, count=views_of(params.finetune), label=fold)
    return build_alignment(
        method,
        network,
        weight=weight,
        target=Target(maps, pooled, torch.tensor([sites.index(site) for site in others["site"]])),
        domains=torch.tensor([sites.index(site) for site in training["site"]]),
        recipe=recipe,
        seed=seed_for(params.seed, "align", fold),
    )
