"""Set up an adaptation from the files of the earlier stages, for `adapt` and `evidence` alike."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pipeline import paths, prepared, runtime
from pipeline.errors import UserError
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.geometry import Geometry
from pipeline.learning.models.backbones import preprocessing_of
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.families import NotInflatable, UnknownEncoder
from pipeline.learning.models.state_files import BadWeights
from pipeline.learning.models.weights import network_around, pretrained_network
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.paths import Role
from pipeline.schema import Adapt
from pipeline.seeds import seed_for
from pipeline.stages.adapt.adapting import AdaptationPlan, Images
from pipeline.stages.adapt.pretraining.continued import Settings

SEEN = {  # the roles whose images adaptation sees, by adapt.target
    "none": (Role.TRAIN,),
    "unlabelled": (Role.TRAIN, Role.UNLABELLED),
    "evaluated": (Role.TRAIN, Role.UNLABELLED, Role.HELD_OUT, Role.TEST),
}


def pretrained(
    settings: Adapt, geometry: Geometry, pooled_stages: int
) -> tuple[Callable[..., Classifier], dict[str, Any]]:
    """Load the pretrained weights.

    Returns
    -------
    start : callable
        start(**around) builds a new network around a copy of the pretrained encoder, or around one with new random
        weights; `around` are `n_classes`, `harmonise` and `sites` of `pretrained_network`.
    arguments : dict
        The provenance of the weights and the arguments of the network, as plain values.

    Raises
    ------
    UserError
        If the encoder is unknown or does not fit the cases, or the weights are not the expected ones.
    """
    depth = settings.filter_depth
    if depth > 1 and (geometry.kind == "image" or geometry.channels > geometry.windows):
        raise UserError(
            f"params.yaml: adapt.filter_depth is {depth}, which needs volumes of single slices, but these cases are "
            "images or slabs; set preprocess.instances to isotropic, or adapt.filter_depth to 1"
        )
    colour = geometry.colour
    build = partial(
        pretrained_network,
        settings.encoder,
        source=settings.weights,
        sha256=settings.weights_sha256,
        in_channels=geometry.channels,
        colour=colour,
        pooled_stages=pooled_stages,
        filter_depth=depth,
    )
    try:
        first, provenance = build()
    except UnknownEncoder as error:
        raise UserError(str(error) if isinstance(error, NotInflatable) else f"adapt.encoder: {error}") from error
    except BadWeights as error:
        raise UserError(str(error)) from error
    device = make_accelerator(runtime.device()).device

    encoder, (mean, std) = first.encoder, preprocessing_of(settings.encoder, colour, geometry.channels)

    def start(**around: Any) -> Classifier:
        if settings.weights == "none":
            return build(**around)[0].to(device)
        instances = {"channels": geometry.channels, "mean": mean, "std": std}
        return network_around(deepcopy(encoder), instances, **around).to(device)

    arguments = {"mean": mean, "std": std, "pooled_stages": pooled_stages, "filter_depth": depth}
    return start, {"provenance": provenance.as_json(), **arguments}


def make_plan(
    cases: pd.DataFrame,
    *,
    start: Callable[..., Classifier],
    settings: Adapt,
    geometry: Geometry,
    seed: int,
    stage: str,
    fold: str,
    key: str,
) -> AdaptationPlan:
    """Collect what the adaptation methods work with.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns case, patient, site, role.
    start : callable
        From `pretrained`.
    seed : int
        The project's seed.
    stage, fold : str
        Name the checkpoint and the live curves.
    key : str
        Key of the checkpoint: `cache.fingerprint` of everything that pretraining depends on.
    """
    names = [name for name in Settings.__dataclass_fields__ if name in Adapt.model_fields]
    chosen = {name: getattr(settings, name) for name in names}
    seed_of = partial(seed_for, seed)
    return AdaptationPlan(
        method=settings.method,
        strength=settings.strength,
        settings=Settings(**chosen, seed=seed_of("adapt", fold)),
        batch_size=settings.batch_size,
        start=start,
        seen=images_of(cases[cases["role"].isin(SEEN[settings.target])]),
        training=images_of(cases[cases["role"] == Role.TRAIN]),
        groups=geometry.channels if geometry.kind == "image" else geometry.windows,
        views=AugmentedViews(prepared.read_channels, seed_of, geometry, settings.filter_depth > 1),
        seed=seed,
        stage=stage,
        fold=fold,
        checkpoint=Checkpoint(paths.checkpoints(stage, fold) / "pretraining.pt", key, every=0),
    )


def images_of(cases: pd.DataFrame) -> Images:
    """Collect what adaptation may know of cases: everything but their labels."""
    table = paths.read_table(paths.CASES).set_index("case").filter(like="covariate_").loc[cases["case"]]
    return Images(
        cases=cases["case"].to_numpy(dtype=str),
        patients=cases["patient"].to_numpy(dtype=str),
        sites=cases["site"].to_numpy(dtype=str),
        covariates=table.to_numpy(dtype=np.float64),
    )
