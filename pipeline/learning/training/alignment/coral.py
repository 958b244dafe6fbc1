"""Deep CORAL: align the covariances of the features of two sites."""

from itertools import combinations

import torch
from torch import Tensor, nn

from pipeline.learning.training.alignment.loss_term import by_domain


class Coral(nn.Module):
    """Alignment loss: squared distance of covariances, averaged over the pairs of domains in the batch.

    L = ||C_S - C_T||_F^2 / (4 d^2),  C = (D'D - (1'D)'(1'D) / n) / (n - 1)
    for the (n, d) features D of a domain (Sun, Saenko 2016, "Deep CORAL", equations 1 to 3). Means are not compared.
    For d standardised features without any shift, n and m cases give about (1/n + 1/m) / 4 by chance alone, which
    training can lower only by shrinking the features.

    Parameters
    ----------
    shrinkage : float
        s in [0, 1]: C becomes (1 - s) C + s diag(C), which reduces the noise of covariances of few cases; 0 is the
        paper's loss, 1 compares variances only.
    """

    def __init__(self, shrinkage: float = 0.0) -> None:
        super().__init__()
        self.shrinkage = shrinkage

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
            Scalar, at least 0; 0 if fewer than two domains have two cases.
        """
        covariances = [self.covariance(part) for part in by_domain(features, domains, fewest=2)]
        scale = 4 * features.shape[1] ** 2
        distances = [(one - other).square().sum() / scale for one, other in combinations(covariances, 2)]
        return torch.stack(distances).mean() if distances else 0 * features.sum()

    def covariance(self, features: Tensor) -> Tensor:
        """Estimate the covariance (d, d) of features (n, d), n at least 2."""
        centred = features - features.mean(dim=0)
        plain = centred.T @ centred / (len(features) - 1)
        return plain.lerp(plain.diagonal().diag(), self.shrinkage) if self.shrinkage else plain
