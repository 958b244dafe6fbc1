"""Random views of many cases at once, on any device: training of all stages and contrastive pairs.

A view's numbers are drawn on the processor from its own seed, so that neither its batch nor the device changes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.imaging.augmentation.strengths import CONTRASTIVE, Kind, Strengths
from pipeline.imaging.geometry import masks_among

Floats = NDArray[np.float64]
Channels = NDArray[np.uint8]

WHITE = 255.0
EPSILON = 1e-7 * WHITE  # as MONAI's AdjustContrast, which counts from 0 to 1
CACHED = 2**18  # grey values that fit into a core's cache: 1.3 to 1.5 times as many views per second
FAINT = 1e-4  # weight of a kernel below which a pixel is left out
BIAS_TERMS = 6  # of a polynomial of degree 2 in two coordinates
DRAWN = (
    *("mirrored", "angle", "shear_x", "shear_y", "shift_x", "shift_y", "stretch_x", "stretch_y", "slices"),
    *("contrasted", "contrast", "brightness", "bent", "gamma", "scaled", "factor", "shaded", "coloured"),
    *("blurred", "sigma", "radius", "noisy", "noise_std", "noise_seed"),
)
DRAWN_LAST = ("coarsened", "coarse")  # after the numbers of the bias field and the channels


@dataclass(frozen=True)
class _Draws:
    """Numbers of B views of cases with C channels; shapes are (B,) where none is given.

    `coarse` is the share of rows and columns that are kept.
    `lead` (B, 2, 2) and `offset` (B, 2) map (x, y) of a view into its case, both from -1 at the left or upper border
    to 1 at the other one. `factor` is (B, C), `bias` (B, 3, 3) by row and column degree, `kernel` (B, 2 radius + 1).
    """

    slices: NDArray[np.int64]
    lead: Floats
    offset: Floats
    contrast: Floats
    brightness: Floats
    gamma: Floats
    factor: Floats
    bias: Floats
    kernel: Floats
    coarse: Floats
    noise_std: Floats
    noise_seed: NDArray[np.int64]


@torch.no_grad()
def batched_views(
    channels: Tensor, seeds: Sequence[int], strengths: Strengths, windows: int = 1, *, mask_every: int = 0
) -> Tensor:
    """Draw one augmented view of every case.

    Views have the distribution of the libraries' transforms of the same strengths, but other draws for the same seed.
    Grey values are rounded once, at the end; albumentations rounds after each step and shifts by whole pixels.

    Parameters
    ----------
    channels : (B, C, H, W) uint8 Tensor
        On any device. All channels of a case share the augmentation, except for noise, colour and shift along slices.
    seeds : sequence of int
        One per case, not negative.
    strengths : Strengths
    windows : int
        Channels that show the same slice.
    mask_every : int
        Each so many-th channel is a mask (0 or 255), which is moved as the others and not changed otherwise; 0: none.

    Returns
    -------
    (B, C, H, W) float32 Tensor
        Whole numbers from 0 to 255, on the device of `channels`; black outside the case. A view depends on its case
        and seed alone; on a processor bit for bit.

    Raises
    ------
    ValueError
        If the channels are not uint8, or the number of seeds is not the number of cases.
    """
    if channels.dtype != torch.uint8 or len(seeds) != len(channels):
        raise ValueError(
            f"{len(channels)} cases of {channels.dtype} and {len(seeds)} seeds; give uint8 and a seed per case"
        )
    views = torch.empty(channels.shape, device=channels.device)
    if mask_every:
        masks = torch.from_numpy(masks_among(channels.shape[1], mask_every))
        views[:, ~masks] = batched_views(channels[:, ~masks], seeds, strengths, windows - 1)
        views[:, masks] = (batched_views(channels[:, masks], seeds, strengths.moving) > WHITE / 2) * WHITE
        return views
    step = max(len(channels), 1)
    if channels.device.type == "cpu" and channels.numel():
        step = max(CACHED * torch.get_num_threads() // channels[0].numel(), 1)
    for rows in (slice(start, start + step) for start in range(0, len(channels), step)):
        views[rows] = _augment(channels[rows], _draw(seeds[rows], strengths, channels.shape), strengths, windows)
    return views


def contrastive_pair(
    channels: Channels, seed: int, kind: Kind, windows: int = 1, *, mask_every: int = 0
) -> tuple[Channels, Channels]:
    """Draw two strongly augmented views of one case, which learning without labels treats as the same.

    Each view is a random part of the case (half of it to all of it) at full size, rotated and mirrored left to right,
    with changed brightness, contrast, shading, noise and sharpness; in a volume, neighbouring slices count as the same.
    Views are never mirrored top to bottom, since scans are stored upright. The encoder learns to ignore what differs:
    where brightness itself is the finding (calibrated units, density), use `adaptation_view` twice.

    Parameters
    ----------
    channels : (C, H, W) uint8
        A case or one of its instances.
    seed : int
        In [0, 2**32).
    kind : {"volume", "image"}
    windows, mask_every : int
        See `batched_views`.

    Returns
    -------
    first, second : (C, H, W) uint8
    """
    seeds = np.random.SeedSequence(seed).generate_state(2).tolist()
    both = torch.from_numpy(np.stack([channels, channels]))
    views = batched_views(both, seeds, CONTRASTIVE[kind], windows, mask_every=mask_every)
    first, second = views.to(torch.uint8).numpy()
    return first, second


def channels_of_neighbours(count: int, shifts: int | NDArray[np.int64], windows: int) -> NDArray[np.int64]:
    """Index the channels of slices that are `shifts` further; the first or last slice is repeated at the border."""
    channel = np.arange(count)
    slices = np.clip(channel // windows + shifts, 0, count // windows - 1)
    return np.asarray(slices * windows + channel % windows)


def _augment(channels: Tensor, draws: _Draws, strengths: Strengths, windows: int) -> Tensor:
    if draws.slices.any():
        moved = torch.from_numpy(channels_of_neighbours(channels.shape[1], draws.slices[:, None], windows))
        channels = channels[torch.arange(len(channels))[:, None], moved]
    views = _move(channels, draws)
    views.mul_(_column(draws.contrast, views)).add_(_column(draws.brightness, views)).clamp_(0, WHITE)
    _apply_gamma(views, draws.gamma, strengths)
    views.mul_(_column(draws.factor, views))
    _apply_bias(views, draws.bias)
    _blur(views, draws.kernel)
    _coarsen(views, draws.coarse)
    _add_noise(views, draws)
    return views.clamp_(0, WHITE).round_()


def _draw(seeds: Sequence[int], s: Strengths, shape: Sequence[int]) -> _Draws:
    """Draw every number whether needed or not, so that no strength changes the draws of another one."""
    count = len(DRAWN) + BIAS_TERMS + shape[1] + len(DRAWN_LAST)
    numbers = np.array([np.random.default_rng(seed).random(count) for seed in seeds]).reshape(-1, count)
    named, bias, colours, last = np.split(numbers, np.cumsum([len(DRAWN), BIAS_TERMS, shape[1]]), axis=1)
    u = dict(zip((*DRAWN, *DRAWN_LAST), [*named.T, *last.T], strict=True))
    contrasted, blurred = u["contrasted"] < s.contrast_chance, u["blurred"] < s.blur_chance
    noisy = u["noisy"] < s.noise_chance
    if s.library == "albumentations":
        noisy = ~blurred & (u["blurred"] < s.blur_chance + s.noise_chance)
    factor = 1 + (u["scaled"] < s.factor_chance) * s.factor * _either_way(u["factor"])
    colour = 1 + (u["coloured"] < s.colour_chance)[:, None] * s.colour * _either_way(colours)
    fields = np.zeros((len(seeds), 3, 3))
    fields[:, *np.tril_indices(3)] = (u["shaded"] < s.bias_chance)[:, None] * s.bias * _either_way(bias)
    lead, offset = _placements(u, s, np.array([shape[3], shape[2]]))
    return _Draws(
        slices=np.floor(_between((-s.slices, s.slices + 1), u["slices"])).astype(np.int64),
        lead=lead,
        offset=offset,
        contrast=np.where(contrasted, s.contrast_middle + s.contrast * _either_way(u["contrast"]), 1),
        brightness=contrasted * WHITE * s.brightness * _either_way(u["brightness"]),
        gamma=np.where(u["bent"] < s.gamma_chance, _gammas(s, u["gamma"]), 1),
        factor=factor[:, None] * colour,
        bias=fields,
        kernel=_kernels(_between(s.blur_sigma, u["sigma"]), blurred, u["radius"], s.blur_radii),
        coarse=np.where(u["coarsened"] < s.coarse_chance, _between(s.coarse, u["coarse"]), 1),
        noise_std=noisy * WHITE * _between(s.noise_std, u["noise_std"]),
        noise_seed=(u["noise_seed"] * 2**32).astype(np.int64),
    )


def _placements(u: dict[str, Floats], s: Strengths, side: NDArray[np.int64]) -> tuple[Floats, Floats]:
    angle, none, one = np.deg2rad(s.degrees) * _either_way(u["angle"]), 0 * u["angle"], 1 + 0 * u["angle"]
    shear_x, shear_y = (np.tan(np.deg2rad(s.shear_degrees) * _either_way(u[name])) for name in ("shear_x", "shear_y"))
    stretch_x, stretch_y = (1 + _between(s.stretch, u[name]) for name in ("stretch_x", "stretch_y"))
    turn = _matrices([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slant, grow = _matrices([[one, shear_x], [shear_y, one]]), _matrices([[stretch_x, none], [none, stretch_y]])
    mirror = _matrices([[np.where(u["mirrored"] < s.flip_chance, -1.0, 1.0), none], [none, one]])
    if s.library == "MONAI":
        lead, moved = mirror @ turn @ slant @ grow, mirror @ turn @ slant
    else:
        lead = mirror @ np.linalg.inv(slant @ turn @ grow)
        moved = -lead
    shift = np.stack([_either_way(u["shift_x"]), _either_way(u["shift_y"])], axis=1)
    offset = np.einsum("bij,bj->bi", moved, shift * (s.shift_pixels + s.shift_share * side))
    return lead * side / side[:, None], offset * 2 / side


def _kernels(sigma: Floats, blurred: NDArray[np.bool_], share: Floats, radii: Sequence[int]) -> Floats:
    """Sample Gaussians at whole pixels up to one of the radii; a kernel that does not blur is 1 in the middle."""
    radius = np.where(blurred, np.array(radii)[(share * len(radii)).astype(int)], 0)
    distance = np.abs(np.arange(-max(radii), max(radii) + 1))
    kernels = np.where(distance <= radius[:, None], np.exp(-0.5 * (distance / sigma[:, None]) ** 2), 0)
    return np.asarray(kernels / kernels.sum(axis=1, keepdims=True))


def _gammas(s: Strengths, share: Floats) -> Floats:
    if not s.gamma_in_log:
        return _between(s.gamma, share)
    low, high = np.log(s.gamma)
    return np.asarray(np.exp(_between((low, high), share)))


def _between(limits: tuple[float, float], share: Floats) -> Floats:
    return limits[0] + (limits[1] - limits[0]) * share


def _either_way(share: Floats) -> Floats:
    return 2 * share - 1


def _matrices(entries: list[list[Floats]]) -> Floats:
    return np.moveaxis(np.array(entries), -1, 0)


def _column(values: Floats, views: Tensor) -> Tensor:
    return torch.from_numpy(values).to(views).reshape(len(values), -1, 1, 1)


def _move(channels: Tensor, draws: _Draws) -> Tensor:
    """Interpolate every pixel of the views between four pixels of their cases."""
    # By hand: affine_grid multiplies matrices, whose bits depend on the batch (and, on a GPU, on TF32).
    from_x, from_y, offset = (
        torch.from_numpy(values).float().to(channels.device)[:, None, None]
        for values in (draws.lead[..., 0], draws.lead[..., 1], draws.offset)
    )
    y, x = (((torch.arange(size, device=channels.device) * 2 + 1) / size - 1)[:, None] for size in channels.shape[-2:])
    grid = x * from_x + (y[:, None] * from_y + offset)
    return functional.grid_sample(channels.float(), grid, padding_mode="zeros", align_corners=False)


def _apply_gamma(views: Tensor, gammas: Floats, strengths: Strengths) -> None:
    """Apply gamma in place, case by case, because the last bit of a power depends on its place in memory."""
    for view, gamma in zip(views, gammas.tolist(), strict=True):
        if gamma != 1:
            low, high = (view.amin(), view.amax()) if strengths.library == "MONAI" else (0.0, WHITE)
            span = high - low
            view.sub_(low).div_(span + EPSILON).pow_(gamma).mul_(span).add_(low)


def _apply_bias(views: Tensor, coefficients: Floats) -> None:
    """Multiply by exp(sum of c_ij P_i(row) P_j(column)) in place, P Legendre polynomials, as MONAI's RandBiasField."""
    rows, columns = (np.polynomial.legendre.legvander(np.linspace(-1, 1, size), 2) for size in views.shape[-2:])
    for view, of_view in zip(views, coefficients, strict=True):
        if of_view.any():
            view.mul_(torch.from_numpy(np.exp(rows @ of_view @ columns.T)).to(view))


def _blur(views: Tensor, kernels: Floats) -> None:
    """Blur along rows and columns in place, reflecting at the borders."""
    for view, kernel in zip(views, kernels.tolist(), strict=True):
        half = [weight for weight in kernel[len(kernel) // 2 :] if weight > FAINT]
        if len(half) > 1:
            view.copy_(_blur_axis(_blur_axis(view, half, 2), half, 1))


def _blur_axis(view: Tensor, half: list[float], axis: int) -> Tensor:
    reach, size = len(half) - 1, view.shape[axis]
    wide = functional.pad(view, (reach, reach, 0, 0) if axis == 2 else (0, 0, reach, reach), mode="reflect")
    blurred = view * half[0]
    for step, weight in enumerate(half[1:], start=1):
        blurred += wide.narrow(axis, reach - step, size).add(wide.narrow(axis, reach + step, size)).mul_(weight)
    return blurred


def _coarsen(views: Tensor, shares: Floats) -> None:
    """Lose resolution in place: shrink with an antialiasing filter, and enlarge again."""
    for view, share in zip(views, shares.tolist(), strict=True):
        if share != 1:
            size = [max(round(side * share), 1) for side in view.shape[1:]]
            small = functional.interpolate(view[None], size, mode="bilinear", antialias=True, align_corners=False)
            view.copy_(functional.interpolate(small, view.shape[1:], mode="bilinear", align_corners=False)[0])


def _add_noise(views: Tensor, draws: _Draws) -> None:
    """Add Gaussian noise in place; it is drawn on the processor, so that every device sees the same noise."""
    for view, std, seed in zip(views, draws.noise_std.tolist(), draws.noise_seed.tolist(), strict=True):
        if std > 0:
            generator = torch.Generator().manual_seed(seed)
            view.add_(torch.randn(view.shape, generator=generator).mul_(std).to(view.device))
