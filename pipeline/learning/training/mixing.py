"""Mix the cases of a batch and their targets: mixup and CutMix, on images or on feature maps."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Mixing = Literal["none", "mixup", "cutmix"]


def mixed(
    maps: Tensor, pooled: Tensor, targets: Tensor, *, how: Mixing, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix each case of a batch with another one by a share drawn from Beta(alpha, alpha).

    mixup: x = a x_i + (1 - a) x_j (Zhang, Cisse, Dauphin, Lopez-Paz 2018, equation 1); on maps behind frozen stages
    it is manifold mixup (Verma et al. 2019, section 3). cutmix: a box of x_j, with the share 1 - a of the area,
    replaces that part of x_i (Yun et al. 2019, equations 1 and 2). Targets and pooled features are mixed by the same
    share.

    Parameters
    ----------
    maps : (B, S, C, h, w)
        Or (B, 1, C, D, h, w); all slices get the same box.
    pooled : (B, S, w)
    targets : (B, n_classes)
        A target that is unknown (NaN) for either case is unknown for the mixture.
    alpha : float
        Above 0; small values leave most cases almost unchanged.

    Raises
    ------
    ValueError
        If `how` is "cutmix" and the maps are tokens, which have no rows and columns.
    """
    if how == "none":
        return maps, pooled, targets
    others, share = torch.from_numpy(rng.permutation(len(maps))), float(rng.beta(alpha, alpha))
    if how == "mixup":
        blended = share * maps + (1 - share) * maps[others]
    else:
        if maps.shape[-1] == 1:
            raise ValueError("finetune.mix: cutmix needs images, and a vision transformer has tokens; take mixup")
        box = _box(maps.shape[-2], maps.shape[-1], 1 - share, rng)
        blended = maps.clone()
        blended[..., box[0], box[1]] = maps[others][..., box[0], box[1]]
        share = 1 - blended[0, 0, 0, ..., box[0], box[1]].numel() / blended[0, 0, 0].numel()
    return (
        blended,
        share * pooled + (1 - share) * pooled[others],
        share * targets + (1 - share) * targets[others.to(targets.device)],
    )


def _box(height: int, width: int, area: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """Draw a box with about this share of the area, clipped at the border."""
    centre = rng.integers(height), rng.integers(width)
    half = np.sqrt(area) / 2
    rows, columns = (
        slice(max(round(middle - half * length), 0), min(round(middle + half * length), length))
        for middle, length in zip(centre, (height, width), strict=True)
    )
    return rows, columns
