"""adapt@k: the ImageNet encoder becomes the encoder of this domain, on the images that fold k may see."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline import engine, paths
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.views import adaptation_view
from pipeline.learning.adaptation import adabn
from pipeline.learning.classifier import Classifier
from pipeline.learning.encoder import UnknownEncoder, build_encoder, preprocessing_of
from pipeline.learning.weights import BadWeights, load_weights
from pipeline.params import Adapt, Params, seed_for
from pipeline.paths import Role
from pipeline.refusal import Refusal

SEEN = {
    "none": (Role.TRAIN,),
    "unlabelled": (Role.TRAIN, Role.UNLABELLED),
    "judged": (Role.TRAIN, Role.UNLABELLED, Role.HELD_OUT, Role.LOCKED),
}
CASES_A_BATCH = 4
PICTURES_A_BATCH = 64


def run(params: Params, fold: str) -> None:
    """Write the adapted encoder of one fold and the record of what it saw."""
    with engine.metered(paths.cost("adapt", fold)):
        geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
        cases = paths.read_table(paths.split(fold))
        seen = cases[cases["role"].isin(SEEN[params.adapt.target])]
        network, record = pretrained(params.adapt, geometry)
        if params.adapt.method == "adabn":
            batches = views_in_batches(seen["case"].tolist(), geometry, params.seed, fold)
            adabn(network.encoder, map(network.instances, batches), params.adapt.strength)
        else:
            seen = seen.iloc[:0]
        paths.adapted_encoder(fold).parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.contiguous() for name, value in network.encoder.state_dict().items()},
            paths.adapted_encoder(fold),
        )
        paths.write_json(record | what_was_seen(seen, params.adapt), paths.adaptation(fold))


def pretrained(adapt: Adapt, geometry: Geometry) -> tuple[Classifier, dict[str, object]]:
    """Build the network around the pretrained encoder, and say what it is made of."""
    try:
        state, provenance = load_weights(adapt.encoder, adapt.weights, adapt.weights_sha256)
        encoder = build_encoder(adapt.encoder, geometry.channels, state)
    except UnknownEncoder as error:
        raise Refusal(f"adapt.encoder: {error}") from error
    except ValueError as error:
        named = error if isinstance(error, BadWeights) else f"adapt.weights: {error}"
        raise Refusal(str(named)) from error
    mean, std = preprocessing_of(adapt.encoder)
    colour = geometry.kind == "picture" and geometry.channels == 3
    if not colour:  # grey planes share one mean and one deviation
        mean, std = (float(np.mean(mean)),), (float(np.mean(std)),)
    network = Classifier(encoder, geometry.channels, n_classes=2, mean=mean, std=std)
    return network.eval(), {"provenance": provenance.as_json(), "mean": mean, "std": std}


def views_in_batches(case_names: list[str], geometry: Geometry, seed: int, fold: str) -> Iterator[Tensor]:
    """Draw one adaptation view of each case, in batches (B, P, H, W) uint8, cases in a random order."""
    order = np.random.default_rng(seed_for(seed, "adapt", "order", fold)).permutation(sorted(case_names))
    size = CASES_A_BATCH if geometry.kind == "volume" else PICTURES_A_BATCH
    parts = np.array_split(order, max(round(len(order) / size), 1))
    for part in engine.progress(parts, f"adapt {fold}"):
        views = [
            adaptation_view(np.load(paths.prepared_case(case)), seed_for(seed, "adapt", "view", case)) for case in part
        ]
        yield torch.from_numpy(np.stack(views))


def what_was_seen(seen: pd.DataFrame, adapt: Adapt) -> dict[str, object]:
    """Put down which images adaptation saw without their labels, for the stamp on every figure."""
    return {
        "method": adapt.method,
        "strength": adapt.strength,
        "target": adapt.target,
        "images_seen": len(seen),
        "unlabelled_sites": sorted(set(seen.loc[seen["role"] == Role.UNLABELLED, "site"])),
        "judged_seen": bool(seen["role"].isin([Role.HELD_OUT, Role.LOCKED]).any()),
    }
