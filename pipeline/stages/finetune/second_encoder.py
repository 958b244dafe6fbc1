"""A second pretrained encoder, frozen: the probe on its features is one more member of a portfolio."""

from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from pipeline import paths, prepared
from pipeline.errors import UserError
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.geometry import Geometry
from pipeline.learning.models.backbones import preprocessing_of
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.families import UnknownEncoder
from pipeline.learning.models.state_files import BadWeights
from pipeline.learning.models.weights import pretrained_network
from pipeline.schema import Finetune, Params
from pipeline.seeds import seed_for
from pipeline.stages.finetune.fold_data import labelled_cases, network_arguments
from pipeline.stages.finetune.members import Member, Start, train_member

NAME = "second_encoder"  # of the member, which is the last one
HERE = "finetune.second_encoder"


def second_member(params: Params, start: Start, settings: Finetune, cases: pd.DataFrame, *, fold: str) -> Member:
    """Fit a probe on the features of the second encoder, for the fold that `start` belongs to."""
    geometry, facts = Geometry.from_json(paths.read_json(paths.GEOMETRY)), paths.read_json(paths.COHORT_FACTS)
    depth = int(start.arguments["encoder"]["filter_depth"])
    network, arguments, provenance = load_second(settings, geometry, len(facts["classes"]), depth)
    network.to(start.setting.accelerator.device)
    views = AugmentedViews(prepared.read_channels, partial(seed_for, params.seed), geometry, network.encoder.volumetric)
    labelled = labelled_cases(
        network, cases, views, facts=facts, settings=settings, label=f"{fold}, {NAME}", stops_early=False
    )
    own = replace(start, network=network, arguments=arguments, cases=labelled)
    return replace(train_member(own, "probe", NAME, settings), provenance=provenance)


def load_second(
    settings: Finetune, geometry: Geometry, n_classes: int, filter_depth: int
) -> tuple[Classifier, dict[str, Any], dict[str, Any]]:
    """Build a network around the second encoder; its head is untrained.

    Returns
    -------
    network : Classifier
    arguments : dict
        The arguments of `Classifier` that rebuild it.
    provenance : dict
        Encoder, source, licence, SHA-256 and pretraining of its weights.

    Raises
    ------
    UserError
        If the encoder is unknown or does not fit the cases, or the weights are not the expected ones.
    """
    asked, colour = settings.second_encoder, geometry.colour
    name = str(asked.encoder)
    try:
        network, provenance = pretrained_network(
            name,
            asked.weights,
            asked.weights_sha256,
            in_channels=geometry.channels,
            colour=colour,
            pooled_stages=settings.pooled_stages,
            filter_depth=filter_depth,
            n_classes=n_classes,
        )
    except (UnknownEncoder, BadWeights) as error:
        said = str(error).removeprefix("adapt.encoder: ").replace("adapt.weights", f"{HERE}.weights")
        raise UserError(said if said.startswith(HERE) else f"{HERE}.encoder: {said}") from error
    mean, std = preprocessing_of(name, colour, geometry.channels)
    plain = {"pooled_stages": settings.pooled_stages, "filter_depth": filter_depth, "mean": mean, "std": std}
    record = plain | {"provenance": {"encoder": name}, "test_time_steps": 0, "test_time_rate": 0.0}
    return network, network_arguments(record, geometry, n_classes), provenance.as_json()
