"""A fold's network and cases as a training meets them; `finetune` and `evidence` train by the same."""

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from pipeline import cache, paths, runtime
from pipeline.errors import UserError
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.augmentation.batched import batched_views
from pipeline.imaging.augmentation.strengths import TRAINING
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.labels import targets_of
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.training.alignment.base import Alignment, Target
from pipeline.learning.training.alignment.losses import ALIGNMENT_LOSSES, build_alignment
from pipeline.learning.training.cases import FrozenCases, WholeCases
from pipeline.learning.training.finetuning import Labelled
from pipeline.learning.training.frozen import Case, frozen_views, prefix_fingerprint
from pipeline.learning.training.recipe import Recipe, first_trained_stage
from pipeline.learning.training.strategies import STRATEGIES
from pipeline.paths import Role
from pipeline.schema import Finetune, Params
from pipeline.seeds import seed_for
from pipeline.stages.finetune import activation_cache

ALIGNED = {"unlabelled": (Role.UNLABELLED,), "evaluated": (Role.UNLABELLED, Role.HELD_OUT, Role.TEST)}


def load_adapted(fold: str, geometry: Geometry, n_classes: int) -> tuple[Classifier, dict[str, Any]]:
    """Rebuild the adapted encoder inside a network with an untrained head, and all that adaptation put around it."""
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
    """Keep what the training loop needs."""
    return Recipe(**{name: getattr(settings, name) for name in Recipe.__dataclass_fields__ if hasattr(settings, name)})


def labelled_cases(
    network: Classifier,
    cases: pd.DataFrame,
    views: AugmentedViews,
    facts: dict[str, Any],
    settings: Finetune,
    fold: str,
) -> Labelled:
    """Run the frozen stages on the training cases with their views, and on the validation cases as they are."""
    first = boundary_of(network, settings)
    training, validation = (cases[cases["role"] == role] for role in (Role.TRAIN, Role.VALIDATION))
    targets = [
        torch.from_numpy(targets_of(some["label"], facts["classes"], facts["task"])) for some in (training, validation)
    ]
    frozen, stopping = (
        FrozenCases(*frozen_stages(network, some, views, first, count, fold), of_some, first)
        for some, of_some, count in zip((training, validation), targets, (settings.views, 0), strict=True)
    )

    def whole() -> tuple[WholeCases, WholeCases]:
        both = zip((training, validation), targets, strict=True)
        one, two = (whole_cases(network, some, of_some, views.geometry) for some, of_some in both)
        return one, two

    return Labelled(frozen, stopping, training["patient"].to_numpy(dtype=str), whole)


def boundary_of(network: Classifier, settings: Finetune) -> int:
    """Find the stage from which on activations may change; what trains every stage needs them for its probe alone."""
    n_stages = len(network.encoder.stages)
    strategy = STRATEGIES["lp_ft" if settings.strategy == "auto" else settings.strategy]
    trained = strategy.recipe(recipe_of(settings), n_stages).trainable_stages
    return n_stages if network.site_values.sites or trained == n_stages else n_stages - trained


def frozen_stages(
    network: Classifier, cases: pd.DataFrame, views: AugmentedViews, first: int, count: int, fold: str
) -> tuple[Tensor, Tensor]:
    """Run the stages before `first` on views of cases; what another fold or run has made of the same is found again.

    The cache belongs to `finetune`, whose code makes its files; `evidence` reads and writes it by the same key.
    """

    def draw(case: str) -> Tensor:
        return torch.from_numpy(views.augmented(case, count))

    key = hashlib.sha256((prefix_fingerprint(network, first) + cache.code_of("finetune")).encode()).hexdigest()
    activations = activation_cache.ActivationCache(
        paths.ACTIVATIONS, key[:32], runtime.number("MEDADAPT_CACHE_GIB", 20) * 2**30
    )
    todo = [
        Case(f"{views.name(case, count)}{site if network.site_values.sites else ''}", site, partial(draw, case))
        for case, site in zip(cases["case"], cases["site"], strict=True)
    ]
    progress = partial(runtime.progress, doing=f"frozen stages of {fold}")
    return frozen_views(network, todo, first, keep=activations, allocate=activation_cache.allocate, progress=progress)


def whole_cases(network: Classifier, cases: pd.DataFrame, targets: Tensor, geometry: Geometry) -> WholeCases:
    """Keep the cases as images on the device where they fit, else read them batch by batch."""
    names = cases["case"].to_numpy(dtype=str)
    augment = partial(batched_views, strengths=TRAINING[geometry.kind], windows=geometry.windows)

    def load(rows: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([stored(names[row]) for row in rows])).to(network.device)

    def prepare(channels: Tensor) -> tuple[Tensor, Tensor]:
        found = network.activations(channels, last=0)
        return found.maps, found.pooled

    size = len(names) * geometry.stored_channels * geometry.image_size**2
    if activation_cache.fits_in_memory(size):
        return WholeCases(load(torch.arange(len(names))).__getitem__, prepare, augment, targets)
    return WholeCases(load, prepare, augment, targets)


def stored(case: str) -> NDArray[np.uint8]:
    """Read the channels of a case."""
    channels: NDArray[np.uint8] = np.load(paths.prepared_case(case), mmap_mode="r")
    return channels


def alignment_of(
    network: Classifier,
    cases: pd.DataFrame,
    views: AugmentedViews,
    task: str,
    params: Params,
    fold: str,
    recipe: Recipe,
) -> Alignment | None:
    """Set up the loss term that `adapt@k` chose, with sites as domains; None where it chose none."""
    record = paths.read_json(paths.adaptation(fold))
    method, weight = record["method"], record["strength"]
    if method not in ALIGNMENT_LOSSES or weight == 0:
        return None
    if task == "multilabel":
        raise UserError(f"adapt.method: {method} is for one class a case, and these have several; take adabn or combat")
    training = cases[cases["role"] == Role.TRAIN]
    others = cases[cases["role"].isin(ALIGNED.get(record["target"], ()))]
    sites = sorted({*training["site"], *others["site"]})
    if others.empty or len(sites) < 2:
        raise UserError(
            f"adapt.method: {method} draws sites together, but there are {len(others)} unlabelled cases and "
            f"{len(sites)} site(s) to train on; mark cases as unlabelled, set adapt.target, or choose another method"
        )
    first = first_trained_stage(network, recipe)
    unlabelled = frozen_stages(network, others, views, first, params.finetune.views, fold)
    domains, of_target = (torch.tensor([sites.index(site) for site in some["site"]]) for some in (training, others))
    seed = seed_for(params.seed, "align", fold)
    return build_alignment(
        method,
        network,
        weight=weight,
        target=Target(*unlabelled, of_target),
        domains=domains,
        recipe=recipe,
        seed=seed,
    )
