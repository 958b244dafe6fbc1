"""Maximum mean discrepancy: align the distributions of the features of two sites."""

from itertools import combinations

import torch
from torch import Tensor, nn

from pipeline.learning.training.alignment.loss_term import by_domain

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # bandwidths in medians


class Mmd(nn.Module):
    """Alignment loss: unbiased squared MMD under a mean of Gaussian kernels, averaged over pairs of domains.

    MMD^2 = sum_{i != j} k(x_i, x_j) / (m (m - 1)) + sum_{i != j} k(y_i, y_j) / (n (n - 1)) - 2 mean_{ij} k(x_i, y_j)
    (Gretton et al. 2012, "A kernel two-sample test", equation 3), with k(x, y) the mean over the factors f of
    exp(-||x - y||^2 / (f g)): the multi-kernel of Long et al. 2015, "Learning transferable features with deep
    adaptation networks", section 3, its weights equal. g is the median of the squared distances of different cases
    in the batch; it is a constant for the gradient, which therefore aligns the domains instead of widening the kernel.

    The unbiased estimate is 0 on average if the domains are equal, so that aligned features are not changed; for a
    single batch it may be slightly negative.

    Parameters
    ----------
    factors : tuple of float
        Bandwidths as multiples of g.
    """

    def __init__(self, factors: tuple[float, ...] = FACTORS) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, features: Tensor, domains: Tensor, labelled: Tensor, logits: Tensor) -> Tensor:
        """Compare the domains of a batch.

        Parameters
        ----------
        features : (B, width)
        domains : (B,) int64
        labelled, logits
            Not used.

        Returns
        -------
        Tensor
            Scalar in about [0, 2]; 0 if fewer than two domains have two cases.
        """
        parts = by_domain(features, domains, fewest=2)
        if len(parts) < 2:
            return 0 * features.sum()
        kernel = self.kernel(torch.cat(parts))
        sizes = [len(part) for part in parts]
        blocks = [row.split(sizes, dim=1) for row in kernel.split(sizes)]
        within = [
            (block[i].sum() - block[i].trace()) / (n * (n - 1))
            for i, (block, n) in enumerate(zip(blocks, sizes, strict=True))
        ]
        pairs = [within[i] + within[j] - 2 * blocks[i][j].mean() for i, j in combinations(range(len(parts)), 2)]
        return torch.stack(pairs).mean()

    def kernel(self, features: Tensor) -> Tensor:
        """Compute k (B, B) between features (B, width), B at least 2."""
        centred = features - features.mean(dim=0).detach()  # k is invariant; this reduces rounding
        squares = centred.square().sum(dim=1)
        distances = (squares[:, None] + squares[None] - 2 * centred @ centred.T).clamp(min=0)
        apart = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
        median = distances.detach()[apart].median().clamp(min=torch.finfo(features.dtype).eps)
        return torch.stack([torch.exp(-distances / (factor * median)) for factor in self.factors]).mean(dim=0)
