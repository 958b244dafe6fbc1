"""Run the frozen stages of a network once for every case and view; training starts from their activations."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.learning.models.classifier import Activations, Classifier
from pipeline.learning.models.sites import FEATURES
from pipeline.learning.training.checkpoint import fingerprint

Parts = dict[str, Tensor]
Keep = Callable[[str, Callable[[], Parts]], Parts]
Allocate = Callable[[tuple[int, ...]], Tensor]


class Case(NamedTuple):
    """A case whose views are to be run.

    Attributes
    ----------
    site : str
    views : mapping
        Views of the case in parts that are cached apart: from the name of a part in the cache to a function that draws
        it, (V, P, H, W) uint8, and is not called if its activations are in the cache.
    """

    site: str
    views: Mapping[str, Callable[[], Tensor]]


def as_tensors(
    views: Mapping[str, Callable[[], NDArray[np.uint8]]], suffix: str = ""
) -> dict[str, Callable[[], Tensor]]:
    """Let the parts of a case's views be drawn as tensors, and add a suffix to their names in the cache."""

    def tensor(draw: Callable[[], NDArray[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.array(draw()))  # a copy, which may be written to

    return {f"{name}{suffix}": partial(tensor, draw) for name, draw in views.items()}


def compute(name: str, function: Callable[[], Parts]) -> Parts:
    """Compute without a cache."""
    return function()


def in_memory(shape: tuple[int, ...]) -> Tensor:
    """Allocate half-precision numbers in memory."""
    return torch.empty(shape, dtype=torch.float16)


def frozen_views(
    network: Classifier,
    cases: Sequence[Case],
    first: int,
    *,
    keep: Keep = compute,
    allocate: Allocate = in_memory,
    progress: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> tuple[Tensor, Tensor]:
    """Run the stages before `first` on every view of every case.

    Parameters
    ----------
    network : Classifier
        Each case is run with the values of its site. If values differ between sites, the features are standardised
        here, by the values of the site. Later code uses the values for unknown sites, which change nothing.
    cases : sequence of Case
        All cases have the same number of views.
    first : int
        The stage at the freeze boundary; equal to the number of stages if all are frozen.
    keep : callable
        keep(name, function) returns the cached result of function() for that part of the views, or computes and caches
        it.
    allocate : callable
        From a shape to an empty float16 Tensor, in memory or on disk.
    progress : callable
        Iterates over the cases and shows the progress.

    Returns
    -------
    maps : (V, n, S, C, h, w) float16
        With zero channels if all stages are frozen.
    pooled : (V, n, S, w) float16
    """
    maps, pooled = torch.empty(0), torch.empty(0)
    for number, case in enumerate(progress(cases)):
        parts = [keep(name, partial(_run, network, draw, case.site, first)) for name, draw in case.views.items()]
        found = [torch.cat([part[kind] for part in parts]) for kind in ("maps", "pooled")]
        if number == 0:
            maps, pooled = (allocate((len(one), len(cases), *one.shape[1:])) for one in found)
        maps[:, number], pooled[:, number] = found
    return maps, pooled


@torch.inference_mode()
def _run(network: Classifier, draw: Callable[[], Tensor], site: str, first: int) -> Parts:
    with torch.autocast(network.device.type, torch.bfloat16, enabled=network.device.type == "cuda"):
        found = network.activations(draw().to(network.device), last=first, site=site)
    done = first == len(network.encoder.stages)
    features = network.standardised(found.pooled, site) if network.site_values.sites else found.pooled
    maps = (found.maps[:, :, :0] if done else found.maps).half().cpu()
    return {"maps": maps.contiguous(), "pooled": features.half().cpu().contiguous()}


def prefix_fingerprint(network: Classifier, first: int) -> str:
    """Hash everything that determines the activations before stage `first`; the norm follows the last stage."""
    own, stages = len(network.site_values.sites) > 0, network.encoder.stages
    later = [f"encoder.stages.{number}." for number in range(first, len(stages))] + ["encoder.norm."]
    skipped = (*(later if first < len(stages) else ()), "attention.", "head.", *(() if own else FEATURES))
    state = dict(network.named_buffers()) | dict(network.named_parameters())
    kept = {name: value for name, value in sorted(state.items()) if not name.startswith(skipped)}
    pooled = (network.encoder.first_pooled, network.encoder.pooled)
    described = f"{list(kept)} {network.instances.channels} {pooled} {stages[:first]} {first} {network.device.type}"
    return fingerprint(f"{described} {network.site_values.sites} {torch.__version__}", kept.values())


@torch.inference_mode()
def mean_features(network: Classifier, maps: Tensor, pooled: Tensor, first: int) -> NDArray[np.float64]:
    """Average the features over a case's instances: (n, S, C, h, w) and (n, S, w), one view, to (n, width)."""
    device = network.device
    parts = [
        network.features(Activations(some.to(device).float(), few.to(device).float()), first).mean(dim=1)
        for some, few in zip(maps.split(16), pooled.split(16), strict=True)
    ]
    return torch.cat(parts).double().cpu().numpy()
