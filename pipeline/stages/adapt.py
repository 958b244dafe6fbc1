"""adapt@k: the ImageNet encoder becomes the encoder of this domain, on the images that fold k may see.

Three kinds of method: adabn re-estimates statistics; simclr, vicreg, byol and masked go on training without labels;
coral, mmd, dann and mcc are terms that finetune@k adds to its loss, and are only written down here.
"""

import copy
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from pipeline import engine, paths
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.views import adaptation_view, contrastive_pair
from pipeline.learning.classifier import Classifier
from pipeline.learning.encoder import Encoder, UnknownEncoder, build_encoder, preprocessing_of
from pipeline.learning.loop import make_accelerator
from pipeline.learning.methods.adabn import adabn
from pipeline.learning.methods.byol import Byol
from pipeline.learning.methods.masked import Masked
from pipeline.learning.methods.objective import Objective
from pipeline.learning.methods.self_supervision import Epoch, Settings, continue_pretraining
from pipeline.learning.methods.simclr import SimClr
from pipeline.learning.methods.vicreg import VicReg
from pipeline.learning.weights import BadWeights, load_weights
from pipeline.params import Adapt, Params, seed_for
from pipeline.paths import Role
from pipeline.refusal import Refusal

log = logging.getLogger(__name__)

SEEN = {
    "none": (Role.TRAIN,),
    "unlabelled": (Role.TRAIN, Role.UNLABELLED),
    "judged": (Role.TRAIN, Role.UNLABELLED, Role.HELD_OUT, Role.LOCKED),
}
OBJECTIVES: dict[str, Callable[[Encoder, Geometry], Objective]] = {
    "simclr": lambda encoder, geometry: SimClr(encoder),
    "vicreg": lambda encoder, geometry: VicReg(encoder),
    "byol": lambda encoder, geometry: Byol(encoder),
    "masked": lambda encoder, geometry: Masked(encoder, geometry.channels, geometry.image_size),
}
CASES_A_BATCH = 4
PICTURES_A_BATCH = 64
WATCHED = 5  # one patient in so many is set aside to judge the progress of learning without labels
LOOKS = 4  # pairs of views of each case set aside
Pair = tuple[Tensor, Tensor]


def run(params: Params, fold: str) -> None:
    """Write the adapted encoder of one fold and the record of what it saw."""
    adapt = params.adapt
    with engine.metered(paths.cost("adapt", fold)):
        geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
        cases = paths.read_table(paths.split(fold))
        seen = cases[cases["role"].isin(SEEN[adapt.target])]
        network, record = pretrained(adapt, geometry)
        before = copy.deepcopy(network.encoder.state_dict())
        curve: list[Epoch] = []
        if adapt.method == "adabn":
            batches = views_in_batches(seen["case"].tolist(), geometry, params.seed, fold)
            adabn(network.encoder, map(network.instances, batches), adapt.strength)
        elif adapt.method in OBJECTIVES:
            curve = pretrain(network, seen, adapt, geometry, params.seed, fold)
        elif adapt.method == "none":
            seen = seen.iloc[:0]
        paths.adapted_encoder(fold).parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.contiguous() for name, value in network.encoder.state_dict().items()},
            paths.adapted_encoder(fold),
        )
        moved = any(not torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())
        record |= what_was_seen(seen, adapt) | {"encoder_moved": moved, "curve": [asdict(epoch) for epoch in curve]}
        paths.write_json(record, paths.adaptation(fold))


def pretrain(
    network: Classifier, seen: pd.DataFrame, adapt: Adapt, geometry: Geometry, seed: int, fold: str
) -> list[Epoch]:
    """Go on training the encoder without labels; stop by patients set aside, who are not trained on."""
    patients = np.random.default_rng(seed_for(seed, "adapt", "watched", fold)).permutation(sorted(set(seen["patient"])))
    watched = seen["patient"].isin(patients[: max(len(patients) // WATCHED, 2)])
    if len(patients) < WATCHED + 2:
        raise Refusal(
            f"adapt.method: {adapt.method} needs at least {WATCHED + 2} patients to learn from, not {len(patients)}"
        )
    names = [name for name in Settings.__dataclass_fields__ if name in Adapt.model_fields]
    settings = Settings(**{name: getattr(adapt, name) for name in names}, seed=seed_for(seed, "adapt", fold))
    checkpoint = paths.SCRATCH / "adapt" / f"{fold}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    draw = partial(pairs_in_batches, network, geometry=geometry, seed=seed, batch_size=adapt.batch_size)
    held_out = [pair for look in range(LOOKS) for pair in draw(seen[watched], pass_name=f"watched/{look}", fold=fold)]
    try:
        curve = continue_pretraining(
            network.encoder,
            OBJECTIVES[adapt.method](network.encoder, geometry),
            lambda number: draw(seen[~watched], pass_name=str(number), fold=fold),
            held_out,
            settings,
            make_accelerator(engine.device()),
            checkpoint,
            partial(tell_epoch, fold),
        )
    except (FloatingPointError, ValueError) as error:
        raise Refusal(f"adapt.method {adapt.method}, fold {fold}: {error}") from error
    checkpoint.unlink(missing_ok=True)
    return curve


def tell_epoch(fold: str, epoch: Epoch) -> None:
    """Write one log line."""
    losses = f"train {epoch.train_loss:.4f}, set aside {epoch.held_out_loss:.4f}, control {epoch.control_loss:.4f}"
    log.info("adapt %s epoch %2d: %s", fold, epoch.epoch, losses)


def pairs_in_batches(
    network: Classifier, cases: pd.DataFrame, geometry: Geometry, seed: int, batch_size: int, pass_name: str, fold: str
) -> Iterator[Pair]:
    """Draw two views of one instance of each patient, as the encoder takes them, in batches of about equal size.

    A patient stands once in a pass, in one of their cases, so that no method pushes two of their images apart.
    """
    draws = np.random.default_rng(seed_for(seed, "adapt", "pass", fold, pass_name))
    chosen = cases.sort_values("case").sample(frac=1, random_state=draws).drop_duplicates("patient")
    for part in np.array_split(chosen["case"].to_numpy(), max(round(len(chosen) / batch_size), 1)):
        views = [views_of_an_instance(case, geometry, seed_for(seed, "pair", fold, case, pass_name)) for case in part]
        first, second = (network.instances(torch.from_numpy(np.stack(side))) for side in zip(*views, strict=True))
        yield first, second


def views_of_an_instance(case: str, geometry: Geometry, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Choose one instance of a case and draw a pair of strong views of it."""
    planes = np.load(paths.prepared_case(case), mmap_mode="r")
    start = int(np.random.default_rng(seed).integers(geometry.slices)) * geometry.channels
    return contrastive_pair(np.array(planes[start : start + geometry.channels]), seed, geometry.kind, geometry.windows)


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
