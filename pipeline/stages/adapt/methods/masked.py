"""Masked image modelling: hide patches of an image, and predict their pixels from the encoder's maps."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.learning.models.encoder import Encoder
from pipeline.stages.adapt.pretraining.objective import Objective, View


class Masked(Objective):
    """SimMIM: L1 of the pixels under the mask, predicted by one linear layer from the last maps.

    L = 1 / Omega(x_M) |y_M - x_M|_1,  M the masked pixels, Omega their number
    (Xie et al. 2022, "SimMIM: a simple framework for masked image modeling", section 3). There a learned token
    replaces the EMBEDDING of a masked patch; here a learned patch of pixels (C, p, p) replaces the patch itself, which
    behind a ViT's patch embedding, an affine map of the patch, is a learned embedding as well, and which any encoder
    can take whose maps or tokens lie over the image at a stride that divides p. A convolution, unlike a ViT, tells a
    masked place from its borders.

    Images are predicted as the encoder takes them, standardised. Each view of a pair is masked by itself. Where early
    stages are frozen, gradients still run through them, to the token.

    Parameters
    ----------
    encoder : Encoder
        Its last stage gives maps (B, C', h, w), or a ViT's tokens (B, C', tokens, 1). Put into evaluation mode.
    channels, size : int
        Of an image (channels, size, size).
    patch : int, optional
        p, a multiple of the stride that divides `size`; the stride where absent. The paper's best is 32.
    ratio : float
        Share of patches masked, in (0, 1); 0.6 in the paper.
    """

    needs_images = True

    def __init__(
        self, encoder: Encoder, channels: int, size: int, patch: int | None = None, ratio: float = 0.6
    ) -> None:
        super().__init__()
        self.layout = layout_of(encoder, channels, size)
        stride = self.layout.stride
        self.patch, self.ratio = patch or stride, ratio
        if self.patch % stride or size % self.patch:
            raise ValueError(f"a patch of {self.patch} does not fit images of {size} and maps of stride {stride}")
        self.token = nn.Parameter(torch.zeros(channels, self.patch, self.patch))
        linear = nn.utils.skip_init(nn.Conv2d, self.layout.width, channels * stride**2, 1)
        for value in linear.parameters():
            nn.init.zeros_(value)
        self.head = nn.Sequential(linear, nn.PixelShuffle(stride))

    def forward(self, encoder: Encoder, first: View, second: View, draws: torch.Generator) -> Tensor:
        """Paint patches of both views (B, C, H, W) over and predict them; the mean absolute error."""
        images = torch.cat([first, second])  # type: ignore[list-item]  # `needs_images`
        grid = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        hidden = random_masks(len(images), grid, self.ratio, draws).to(images.device)
        hidden = hidden.repeat_interleave(self.patch, dim=2).repeat_interleave(self.patch, dim=3)
        painted = torch.where(hidden, self.token.repeat(1, *grid), images)
        guess = self.head(self.layout.last_maps(encoder, painted)).float()
        error = (guess - images).abs().mean(dim=1, keepdim=True)
        mean: Tensor = (error * hidden).sum() / hidden.sum()
        return mean

    def extra_repr(self) -> str:
        """Name them."""
        return f"patch={self.patch}, ratio={self.ratio}"


def random_masks(images: int, grid: tuple[int, int], ratio: float, draws: torch.Generator) -> Tensor:
    """Draw masks (images, 1, *grid) of bool, each with the same number of patches, at least one, hidden."""
    patches = grid[0] * grid[1]
    order = torch.rand(images, patches, generator=draws).argsort(dim=1)
    return (order < max(round(ratio * patches), 1)).view(images, 1, *grid)


@dataclass(frozen=True)
class Layout:
    """How the last stage's output lies over an image.

    Attributes
    ----------
    width, stride : int
        Channels, and pixels from one place to the next.
    prefix : int or None
        Class and register tokens before the patches of a ViT; None for maps (B, C, h, w).
    """

    width: int
    stride: int
    prefix: int | None

    def last_maps(self, encoder: Encoder, images: Tensor) -> Tensor:
        """Run images (B, C, H, W) through every stage: (B, width, H / stride, W / stride)."""
        maps = _through(encoder, images)
        if self.prefix is not None:
            rows, columns = images.shape[2] // self.stride, images.shape[3] // self.stride
            maps = maps[:, :, self.prefix :].reshape(len(maps), self.width, rows, columns)
        return maps


@torch.no_grad()
def layout_of(encoder: Encoder, channels: int, size: int) -> Layout:
    """Find how outputs lie over images (channels, size, size), by blank ones of this size and twice as large."""
    blank = next(encoder.parameters()).new_zeros(1, channels, 2 * size, 2 * size)
    small, large = _through(encoder.eval(), blank[..., :size, :size]).shape, _through(encoder, blank).shape
    if len(large) == 4:
        tokens = large[3] == 1
        side = math.isqrt(max(large[2] - small[2], 0) // 3) if tokens else small[2]
        prefix = small[2] - side**2 if tokens else 0
        whole = (prefix + 4 * side**2, 1) if tokens else (2 * side, 2 * side)
        if side and size % side == 0 and prefix >= 0 and large[2:] == whole:
            return Layout(large[1], size // side, prefix if tokens else None)
    raise ValueError(f"masked modelling needs maps that lie evenly over {size} pixels; these are {tuple(small)}")


def _through(encoder: Encoder, maps: Tensor) -> Tensor:
    return encoder.begin(maps, len(encoder.stages)).maps
