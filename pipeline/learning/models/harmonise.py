"""Harmonisation of grey values inside the network: each case, by its own landmarks, to the scale of the training cases.

Landmarks are percentiles of all that lies above the lowest value. No site is asked for, so any new scan will do.
nyul has deciles: Nyúl, Udupa, Zhang 2000, "New variants of a method of MRI scale standardization", IEEE TMI 19(2).
histogram has every percentile, and their mean is the standard: the quantile function of the Wasserstein-2 barycentre
(Agueh, Carlier 2011, "Barycenters in the Wasserstein space", SIAM J. Math. Anal. 43(2); of images Delon 2004, "Midway
image equalization", JMIV 21(2)). Not for calibrated units: what a window of Hounsfield units tells of tissue is lost.
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
    """Find percentiles (0 to 100) of what lies above the lowest value of each group of channels: (groups, L).

    Channel p of channels (P, H, W) is of group p % groups: 1 for slices, the number of windows for windowed slices, 3
    for colours. The bright ground of a colour image is foreground. A group without foreground has its one value only.
    """
    hundredths, _ = _percentiles(_by_group(torch.tensor(channels)[None], groups), torch.tensor(percentiles))
    return np.asarray(hundredths[0].numpy() / 100)


def standard_scale(of_cases: Sequence[Landmarks], method: str) -> Landmarks:
    """Average the landmarks m_j (groups, L) of training cases j; those without width, m_j1 = m_jL, do not count.

    histogram: s_l = mean_j m_jl. nyul: the outer landmarks of all cases are put on their means first, so that a cohort
    of one site hardly changes, s_l = s_1 + (s_L - s_1) mean_j (m_jl - m_j1) / (m_jL - m_j1) (section II of the paper).

    Raises
    ------
    ValueError
        If in a group no case has any width, or there is no such method.
    """
    if method not in PERCENTILES:
        raise ValueError(f"{method} is no harmonisation of grey values; take {' or '.join(PERCENTILES)}")
    groups = [np.array([marks for marks in group if marks[-1] > marks[0]]) for group in zip(*of_cases, strict=True)]
    if not groups or not all(map(len, groups)):
        raise ValueError("no case has a histogram with any width; there is nothing to harmonise")
    return np.stack([wide.mean(axis=0) if method == "histogram" else _nyul(wide) for wide in groups])


def _nyul(marks: Landmarks) -> Landmarks:
    low, high = marks[:, :1], marks[:, -1:]
    return np.asarray(low.mean() + (high.mean() - low.mean()) * ((marks - low) / (high - low)).mean(axis=0))


class Harmoniser(nn.Module):
    """Map the grey values v of each case so that its landmarks m fall on the standard ones s.

    T(v) = s_l + (s_(l+1) - s_l) / (m_(l+1) - m_l) (v - m_l) from m_l to m_(l+1), clipped to 0 to 255; the outer pieces
    go on, and of landmarks that coincide the last one counts. v becomes v + strength (T(v) - v). The lowest value of a
    group, its background, stays and nothing falls below it: order never changes. A case without width stays.

    Parameters
    ----------
    percentiles, standard : sequence of int (L,), nested sequence of float (G, L)
        Of the landmarks, and `standard_scale` of G groups of channels.
    strength : float
        In [0, 1]; 0 leaves every value as it is, to the bit.
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
        """Map channels (B, P, H, W), rounded to whole numbers from 0 to 255, to float32; no gradient passes."""
        if self.strength == 0:
            return channels.float()
        values = _by_group(channels, len(self.standard))
        mapped: Tensor = self._table(values).gather(-1, values).unflatten(-1, (-1, *channels.shape[2:]))
        return mapped.transpose(1, 2).flatten(1, 2)

    def _table(self, values: Tensor) -> Tensor:
        """Say what becomes of each grey value (B, G, 256) in cases of values (B, G, N)."""
        own, lowest = _percentiles(values, self.percentiles)  # in hundredths: no piece is rounded past the next
        standard, grey = self.standard.expand(own.shape), torch.arange(WHITE + 1, device=values.device)
        slopes = torch.where(own.diff() > 0, 100 * standard.diff() / own.diff(), 0)
        piece = ((own.unsqueeze(-2) <= 100 * grey.unsqueeze(-1)).sum(-1) - 1).clamp(min=0)
        slope = torch.cat([slopes, slopes[..., -1:]], -1).gather(-1, piece)
        mapped = standard.gather(-1, piece) + slope * ((100 * grey - own.gather(-1, piece)) / 100)
        mixed = (1 - self.strength) * grey + self.strength * mapped.clamp(0, WHITE)
        changes = (grey > lowest) & (own[..., -1:] > own[..., :1])
        return torch.where(changes, mixed.clamp(max=WHITE).maximum(lowest), grey.float())


def _by_group(channels: Tensor, groups: int) -> Tensor:
    """Lay the channels (B, P, H, W) of each group side by side (B, G, N), as whole numbers from 0 to 255."""
    whole: Tensor = channels.clamp(0, WHITE).round_().long().unflatten(1, (-1, groups))
    return whole.transpose(1, 2).flatten(2)


def _percentiles(values: Tensor, percentiles: Tensor) -> tuple[Tensor, Tensor]:
    """Count, in hundredths of a grey level, percentiles (B, G, L) of what is above the lowest value; and that value."""
    ones = values.new_ones(()).expand_as(values)
    upto = values.new_zeros((*values.shape[:2], WHITE + 1)).scatter_add_(-1, values, ones).cumsum(-1)
    lowest = (upto == 0).sum(-1, keepdim=True)
    background, last = upto.gather(-1, lowest), values.shape[-1] - 1
    place = (100 * background + percentiles * (last - background)).clamp(max=100 * last)  # hundredths of a rank
    lower, upper = ((upto.unsqueeze(-2) <= rank.unsqueeze(-1)).sum(-1) for rank in (place // 100, place // 100 + 1))
    return 100 * lower + (upper - lower) * (place % 100), lowest
