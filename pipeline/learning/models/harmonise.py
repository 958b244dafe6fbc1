"""Harmonise grey values inside the network: map each case, by its own landmarks, to the scale of the training cases.

Landmarks are percentiles of the values above the lowest one. The site is not needed, so that any new scan can be
mapped.
nyul uses deciles: Nyúl, Udupa, Zhang 2000, "New variants of a method of MRI scale standardization", IEEE TMI 19(2).
histogram uses every percentile, and their mean as the standard: the quantile function of the Wasserstein-2 barycentre
(Agueh, Carlier 2011, "Barycenters in the Wasserstein space", SIAM J. Math. Anal. 43(2); of images Delon 2004, "Midway
image equalization", JMIV 21(2)). Not for calibrated units: the relation between Hounsfield units and tissue is lost.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

PERCENTILES = {"nyul": (1, *range(10, 100, 10), 99), "histogram": tuple(range(101))}
WHITE = 255

Landmarks = NDArray[np.float64]


def landmarks(channels: NDArray[np.uint8], percentiles: Sequence[int], groups: int = 1) -> Landmarks:
    """Compute percentiles (0 to 100) of the values above the lowest one in each group of channels: (groups, L).

    Channel p of channels (P, H, W) belongs to group p % groups: 1 group for slices, the number of windows for windowed
    slices, 3 for colours. The bright background of a colour image counts as foreground. In a group without foreground
    all landmarks are its one value.
    """
    hundredths, _ = _percentiles(_by_group(torch.tensor(channels)[None], groups), torch.tensor(percentiles))
    return np.asarray(hundredths[0].numpy() / 100)


def standard_scale(of_cases: Sequence[Landmarks], method: str) -> Landmarks:
    """Average the landmarks m_j (groups, L) of training cases j, leaving out constant ones, m_j1 = m_jL.

    A group that is constant in all cases, such as the channel of masks, keeps its landmarks, and so its values.

    histogram: s_l = mean_j m_jl. nyul: the outer landmarks of all cases are mapped to their means first, so that a
    cohort of one site hardly changes: s_l = s_1 + (s_L - s_1) mean_j (m_jl - m_j1) / (m_jL - m_j1) (section II).

    Raises
    ------
    ValueError
        If all cases are constant in every group, or the method is unknown.
    """
    if method not in PERCENTILES:
        raise ValueError(f"{method} is no harmonisation of grey values; take {' or '.join(PERCENTILES)}")
    groups = [np.array([marks for marks in group if marks[-1] > marks[0]]) for group in zip(*of_cases, strict=True)]
    if not any(map(len, groups)):
        raise ValueError("no case has a histogram with any width; there is nothing to harmonise")
    same = [np.mean(group, axis=0) for group in zip(*of_cases, strict=True)]
    average = _nyul if method == "nyul" else _mean
    return np.stack([average(wide) if len(wide) else kept for wide, kept in zip(groups, same, strict=True)])


def _mean(marks: Landmarks) -> Landmarks:
    return np.asarray(marks.mean(axis=0))


def _nyul(marks: Landmarks) -> Landmarks:
    low, high = marks[:, :1], marks[:, -1:]
    return np.asarray(low.mean() + (high.mean() - low.mean()) * ((marks - low) / (high - low)).mean(axis=0))


class Harmoniser(nn.Module):
    """Map the grey values v of each case so that its landmarks m fall on the standard ones s.

    T(v) = s_l + (s_(l+1) - s_l) / (m_(l+1) - m_l) (v - m_l) from m_l to m_(l+1), clipped to 0 to 255; the outer pieces
    are extended, and of equal landmarks the last one counts. v becomes v + strength (T(v) - v). The lowest value of a
    group, its background, is kept, and no value falls below it, so that the order of values never changes. A constant
    case is not changed.

    Parameters
    ----------
    percentiles, standard : sequence of int (L,), nested sequence of float (G, L)
        Percentiles of the landmarks, and the `standard_scale` of G groups of channels.
    strength : float
        In [0, 1]; 0 changes no bit.
    """

    percentiles: Tensor
    standard: Tensor

    def __init__(self, percentiles: Sequence[int], standard: Sequence[Sequence[float]], strength: float = 1.0) -> None:
        super().__init__()
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}; it goes from 0 to 1")
        self.strength = strength
        self.register_buffer("percentiles", torch.tensor(percentiles), persistent=False)
        self.register_buffer("standard", torch.tensor(standard, dtype=torch.float32), persistent=False)

    def forward(self, channels: Tensor) -> Tensor:
        """Map channels (B, P, H, W), rounded to integers from 0 to 255, to float32; gradients do not pass through."""
        if self.strength == 0:
            return channels.float()
        values = _by_group(channels, len(self.standard))
        mapped: Tensor = self._table(values).gather(-1, values).unflatten(-1, (-1, *channels.shape[2:]))
        return mapped.transpose(1, 2).flatten(1, 2)

    def _table(self, values: Tensor) -> Tensor:
        """Compute the mapping of each grey value (B, G, 256) for cases with values (B, G, N)."""
        # In hundredths of a grey level, so that rounding keeps the order of the pieces.
        own, lowest = _percentiles(values, self.percentiles)
        standard, grey = self.standard.expand(own.shape), torch.arange(WHITE + 1, device=values.device)
        slopes = torch.where(own.diff() > 0, 100 * standard.diff() / own.diff(), 0)
        piece = ((own.unsqueeze(-2) <= 100 * grey.unsqueeze(-1)).sum(-1) - 1).clamp(min=0)
        slope = torch.cat([slopes, slopes[..., -1:]], -1).gather(-1, piece)
        mapped = standard.gather(-1, piece) + slope * ((100 * grey - own.gather(-1, piece)) / 100)
        mixed = (1 - self.strength) * grey + self.strength * mapped.clamp(0, WHITE)
        changes = (grey > lowest) & (own[..., -1:] > own[..., :1])
        return torch.where(changes, mixed.clamp(max=WHITE).maximum(lowest), grey.float())


def _by_group(channels: Tensor, groups: int) -> Tensor:
    """Concatenate the channels (B, P, H, W) of each group (B, G, N), as integers from 0 to 255."""
    whole: Tensor = channels.clamp(0, WHITE).round_().long().unflatten(1, (-1, groups))
    return whole.transpose(1, 2).flatten(2)


def _percentiles(values: Tensor, percentiles: Tensor) -> tuple[Tensor, Tensor]:
    """Compute percentiles (B, G, L) above the lowest value, in hundredths of a grey level, and the lowest value."""
    ones = values.new_ones(()).expand_as(values)
    upto = values.new_zeros((*values.shape[:2], WHITE + 1)).scatter_add_(-1, values, ones).cumsum(-1)
    lowest = (upto == 0).sum(-1, keepdim=True)
    background, last = upto.gather(-1, lowest), values.shape[-1] - 1
    place = (100 * background + percentiles * (last - background)).clamp(max=100 * last)  # hundredths of a rank
    lower, upper = ((upto.unsqueeze(-2) <= rank.unsqueeze(-1)).sum(-1) for rank in (place // 100, place // 100 + 1))
    return 100 * lower + (upper - lower) * (place % 100), lowest
