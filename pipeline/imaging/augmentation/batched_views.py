"""Training views of many cases at once, on whatever device they lie: `views.training_view` without its overhead.

A case's numbers are drawn on the processor from its own seed alone, so neither its neighbours in the batch nor the
device change them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.imaging.augmentation.strengths import STRENGTHS, Kind, Strengths

Floats = NDArray[np.float64]

WHITE = 255.0
EPSILON = 1e-7 * WHITE  # as MONAI's AdjustContrast, which counts from 0 to 1
REACH = 2  # pixels to either side that a blur takes in
NUMBERS = 21  # that a view is made of, apart from its noise
CACHED = 2**18  # grey values that a core keeps close: a third to a half more views per second than all at once


@dataclass(frozen=True)
class _Draws:
    """The numbers of B views: arrays (B,), but for those that say otherwise.

    `lead` (B, 2, 2) and `offset` (B, 2) take (x, y) of a view into its case, both from -1 at the left or upper border
    to 1 at the other. `kernel` is (B, 2 * REACH + 1).
    """

    slices: NDArray[np.int64]
    lead: Floats
    offset: Floats
    contrast: Floats
    brightness: Floats
    gamma: Floats
    factor: Floats
    kernel: Floats
    noise_std: Floats
    noise_seed: NDArray[np.int64]

    def some(self, rows: slice) -> "_Draws":
        return _Draws(**{name: values[rows] for name, values in vars(self).items()})


@torch.no_grad()
def batched_views(
    channels: Tensor, seeds: Sequence[int], kind: Kind, windows: int = 1, strengths: Strengths | None = None
) -> Tensor:
    """Draw one augmented view of every case for training, as `views.training_view` distributes them.

    The draws are not those of `training_view` for the same seed. A image's grey values are rounded once, at the end,
    and its shift is not cut to whole pixels, where albumentations rounds after each step (and down after gamma).

    Parameters
    ----------
    channels : (B, P, H, W) uint8 Tensor
        On any device; every channel of a case is moved and its grey values changed alike, but for the noise.
    seeds : sequence of int
        One per case, not negative.
    kind : {"volume", "image"}
    windows : int
        Channels that show the same slice.
    strengths : Strengths, optional
        In place of those of the kind.

    Returns
    -------
    (B, P, H, W) float32 Tensor
        Whole numbers from 0 to 255, on the device of `channels`; beyond the case it is black. A case's view depends on
        the case and its seed alone, on a processor to the bit.

    Raises
    ------
    ValueError
        If the channels are not uint8, or the seeds are not one per case.
    """
    if channels.dtype != torch.uint8 or len(seeds) != len(channels):
        raise ValueError(f"{len(channels)} cases, {channels.dtype}, {len(seeds)} seeds: give uint8 and a seed for each")
    views = torch.empty(channels.shape, device=channels.device)
    draws = _draw(seeds, kind, STRENGTHS[kind] if strengths is None else strengths, *channels.shape[-2:])
    step = _at_once(channels)
    for rows in (slice(start, start + step) for start in range(0, len(channels), step)):
        views[rows] = _views(channels[rows], draws.some(rows), kind, windows)
    return views


def _at_once(channels: Tensor) -> int:
    """Count the cases that one step takes on: on a GPU all, on a processor as many as its cores keep close."""
    if channels.device.type != "cpu" or not channels.numel():
        return max(len(channels), 1)
    return max(CACHED * torch.get_num_threads() // channels[0].numel(), 1)


def _views(channels: Tensor, draws: _Draws, kind: Kind, windows: int) -> Tensor:
    views = _move(_shift_through_channels(channels, draws.slices, windows), draws)
    views.mul_(_column(draws.contrast, views)).add_(_column(draws.brightness, views)).clamp_(0, WHITE)
    _bend(views, draws.gamma, kind)
    views.mul_(_column(draws.factor, views))
    _blur(views, draws.kernel)
    _add_noise(views, draws)
    return views.clamp_(0, WHITE).round_()


def _draw(seeds: Sequence[int], kind: Kind, strengths: Strengths, height: int, width: int) -> _Draws:
    """Draw every number, needed or not, so that no strength changes what another one draws."""
    numbers = np.array([np.random.default_rng(seed).random(NUMBERS) for seed in seeds]).reshape(-1, NUMBERS).T
    contrasted, bent, scaled, contrast, brightness, factor, gamma = numbers[8:15]
    slices, corrupted, sigma, radius, noise_std, noise_seed = numbers[15:]
    radius = np.where(corrupted < strengths.blur_chance, np.where(radius < 1 / 3, 1, REACH), 0)
    noisy = (radius == 0) & (corrupted < strengths.blur_chance + strengths.noise_chance)
    contrasted = contrasted < strengths.contrast_chance
    lead, offset = _placements(numbers[:8], kind, strengths, np.array([width, height]))
    return _Draws(
        slices=np.floor(_between(-strengths.slices, strengths.slices + 1, slices)).astype(np.int64),
        lead=lead,
        offset=offset,
        contrast=1 + contrasted * strengths.contrast * _either_way(contrast),
        brightness=contrasted * WHITE * strengths.brightness * _either_way(brightness),
        gamma=np.where(bent < strengths.gamma_chance, _between(*strengths.gamma, gamma), 1),
        factor=1 + (scaled < strengths.factor_chance) * strengths.factor * _either_way(factor),
        kernel=_kernels(_between(*strengths.blur_sigma, sigma), radius),
        noise_std=noisy * WHITE * _between(*strengths.noise_std, noise_std),
        noise_seed=(noise_seed * 2**32).astype(np.int64),
    )


def _placements(numbers: Floats, kind: Kind, strengths: Strengths, side: NDArray[np.int64]) -> tuple[Floats, Floats]:
    mirrored = numbers[0] < strengths.flip_chance
    angle = np.deg2rad(strengths.degrees) * _either_way(numbers[1])
    slants = np.tan(np.deg2rad(strengths.shear_degrees) * _either_way(numbers[2:4]))
    shift = _either_way(numbers[4:6]).T * (strengths.shift_pixels + strengths.shift_share * side)
    scale = _between(*strengths.scale, numbers[6:8])
    one, none = np.ones_like(angle), np.zeros_like(angle)
    turn = _matrices([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slant, grow = _matrices([[one, slants[0]], [slants[1], one]]), _matrices([[scale[0], none], [none, scale[1]]])
    mirror = _matrices([[np.where(mirrored, -1.0, 1.0), none], [none, one]])
    if kind == "volume":  # MONAI's matrix leads from the view into the case
        lead, moved = mirror @ turn @ slant @ grow, mirror @ turn @ slant
    else:  # that of albumentations the other way
        lead = mirror @ np.linalg.inv(slant @ turn @ grow)
        moved = -lead
    offset = np.einsum("bij,bj->bi", moved, shift)
    return lead * side / side[:, None], offset * 2 / side


def _kernels(sigma: Floats, radius: Floats) -> Floats:
    """Sample Gaussians at whole pixels up to `radius`; those of radius 0 leave the image as it is."""
    distance = np.abs(np.arange(-REACH, REACH + 1))
    kernels = np.where(distance <= radius[:, None], np.exp(-0.5 * (distance / sigma[:, None]) ** 2), 0)
    return np.asarray(kernels / kernels.sum(axis=1, keepdims=True))


def _between(low: float, high: float, share: Floats) -> Floats:
    return low + (high - low) * share


def _either_way(share: Floats) -> Floats:
    return _between(-1, 1, share)


def _matrices(entries: list[list[Floats]]) -> Floats:
    return np.moveaxis(np.array(entries), -1, 0)


def _column(values: Floats, views: Tensor) -> Tensor:
    return torch.from_numpy(values).to(views).reshape(-1, 1, 1, 1)


def _shift_through_channels(channels: Tensor, shifts: NDArray[np.int64], windows: int) -> Tensor:
    """Let the borders between instances of neighbouring slices fall elsewhere; the last channel is repeated."""
    if not shifts.any():
        return channels
    channel = np.arange(channels.shape[1])
    slices = np.clip(channel // windows + shifts[:, None], 0, channels.shape[1] // windows - 1)
    moved = torch.from_numpy(slices * windows + channel % windows).to(channels.device)
    return channels[torch.arange(len(channels), device=channels.device)[:, None], moved]


def _move(channels: Tensor, draws: _Draws) -> Tensor:
    """Look up every pixel of the views in their cases, between four of them; the channels of a case share a grid."""
    # By hand: affine_grid multiplies matrices, whose bits depend on the batch (and, on a GPU, on TF32).
    from_x, from_y, offset = (
        torch.from_numpy(values).float().to(channels.device)[:, None, None]
        for values in (draws.lead[..., 0], draws.lead[..., 1], draws.offset)
    )
    y, x = (((torch.arange(size, device=channels.device) * 2 + 1) / size - 1)[:, None] for size in channels.shape[-2:])
    grid = x * from_x + (y[:, None] * from_y + offset)
    return functional.grid_sample(channels.float(), grid, padding_mode="zeros", align_corners=False)


def _bend(views: Tensor, gammas: Floats, kind: Kind) -> None:
    """Apply gamma, in place; one case after the other, since a power's last bit depends on where in memory it is."""
    for view, gamma in zip(views, gammas.tolist(), strict=True):
        if gamma != 1:
            low, high = (view.amin(), view.amax()) if kind == "volume" else (0.0, WHITE)
            span = high - low
            view.sub_(low).div_(span + EPSILON).pow_(gamma).mul_(span).add_(low)


def _blur(views: Tensor, kernels: Floats) -> None:
    """Blur along rows and columns, in place, reflecting at the borders."""
    rows = np.flatnonzero(kernels[:, REACH] < 1)
    if not len(rows):
        return
    weights = torch.from_numpy(kernels[rows]).to(views)[..., None, None, None]
    height, width = views.shape[-2:]
    wide = functional.pad(views[rows], (REACH, REACH, REACH, REACH), mode="reflect")
    tall = reduce(torch.add, (weights[:, k] * wide[..., k : k + width] for k in range(2 * REACH + 1)))
    views[rows] = reduce(torch.add, (weights[:, k] * tall[..., k : k + height, :] for k in range(2 * REACH + 1)))


def _add_noise(views: Tensor, draws: _Draws) -> None:
    """Add Gaussian noise, in place; drawn on the processor, so that every device sees the same."""
    for view, std, seed in zip(views, draws.noise_std.tolist(), draws.noise_seed.tolist(), strict=True):
        if std > 0:
            generator = torch.Generator().manual_seed(seed)
            view.add_(torch.randn(view.shape, generator=generator).mul_(std).to(view.device))
