"""What adaptation starts from, and what it works with; `adapt` and `evidence` adapt by the same."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pipeline import live, paths, runtime
from pipeline.errors import UserError
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.geometry import Geometry
from pipeline.learning.models.backbones import preprocessing_of
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.families import NotInflatable, UnknownEncoder
from pipeline.learning.models.weights import BadWeights, pretrained_network
from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.learning.training.loop import make_accelerator
from pipeline.paths import Role
from pipeline.schema import Adapt
from pipeline.seeds import seed_for
from pipeline.stages.adapt.adapting import Adapting, Images
from pipeline.stages.adapt.pretraining.continued import Epoch, Settings

log = logging.getLogger(__name__)

SEEN = {
    "none": (Role.TRAIN,),
    "unlabelled": (Role.TRAIN, Role.UNLABELLED),
    "evaluated": (Role.TRAIN, Role.UNLABELLED, Role.HELD_OUT, Role.TEST),
}


def pretrained(
    settings: Adapt, geometry: Geometry, pooled_stages: int
) -> tuple[Callable[..., Classifier], dict[str, Any]]:
    """Load the pretrained weights; return what builds the network around them, and what it is made of."""
    if settings.filter_depth > 1 and (geometry.kind == "image" or geometry.channels > geometry.windows):
        raise UserError(
            f"adapt.filter_depth: {settings.filter_depth} needs volumes, slice by slice, but these cases are images "
            "or slabs; set preprocess.instances to isotropic, or adapt.filter_depth to 1"
        )
    encoder, colour = settings.encoder, geometry.kind == "image" and geometry.channels == 3
    given = (settings.weights, settings.weights_sha256)
    depth = settings.filter_depth
    build = partial(pretrained_network, encoder, *given, geometry.channels, colour, pooled_stages, depth)
    try:
        _, provenance = build()
    except UnknownEncoder as error:
        raise UserError(str(error) if isinstance(error, NotInflatable) else f"adapt.encoder: {error}") from error
    except BadWeights as error:
        raise UserError(str(error)) from error
    device = make_accelerator(runtime.device()).device

    def start(**around: Any) -> Classifier:
        return build(**around)[0].to(device)

    mean, std = preprocessing_of(encoder, colour)
    made_of = {"mean": mean, "std": std, "pooled_stages": pooled_stages, "filter_depth": depth}
    return start, {"provenance": provenance.as_json(), **made_of}


def plan_of(
    cases: pd.DataFrame,
    start: Callable[..., Classifier],
    settings: Adapt,
    geometry: Geometry,
    seed: int,
    fold: str,
    key: str,
    stage: str = "adapt",
) -> Adapting:
    """Collect what the methods work with, for a stage that may be watched while it runs.

    Parameters
    ----------
    key : str
        Of all that a training without labels depends on, from `scratch.fingerprint`: the key of its checkpoint.
    """
    names = [name for name in Settings.__dataclass_fields__ if name in Adapt.model_fields]
    chosen = {name: getattr(settings, name) for name in names}
    seed_of = partial(seed_for, seed)
    load = partial(np.load, mmap_mode="r")
    return Adapting(
        settings.method,
        settings.strength,
        Settings(**chosen, seed=seed_of("adapt", fold)),
        settings.batch_size,
        start,
        images_of(cases[cases["role"].isin(SEEN[settings.target])]),
        images_of(cases[cases["role"] == Role.TRAIN]),
        geometry.channels if geometry.kind == "image" else geometry.windows,
        fold,
        seed_of,
        AugmentedViews(lambda case: load(paths.prepared_case(case)), seed_of, geometry, settings.filter_depth > 1),
        runtime.progress,
        runtime.prefetch_passes,
        Checkpoint(paths.checkpoints(stage, fold) / "pretraining.pt", key, every=0),
        runtime.device(),
        live.watched(partial(tell_epoch, fold), stage, fold),
    )


def images_of(cases: pd.DataFrame) -> Images:
    """Take what may be known of cases without their labels."""
    known = paths.read_table(paths.CASES).set_index("case").filter(like="covariate_").loc[cases["case"]]
    case, patient, site = (cases[name].to_numpy(dtype=str) for name in ("case", "patient", "site"))
    return Images(case, patient, site, known.to_numpy(dtype=np.float64))


def tell_epoch(fold: str, epoch: Epoch) -> None:
    """Write one log line."""
    losses = f"train {epoch.train_loss:.4f}, set aside {epoch.held_out_loss:.4f}, control {epoch.control_loss:.4f}"
    log.info("adapt %s epoch %2d: %s", fold, epoch.epoch, losses)
