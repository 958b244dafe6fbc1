"""VICReg: make the embeddings of two views equal, with dimensions that vary and are not redundant."""

import torch
from torch import Tensor

from pipeline.learning.models.encoder import Encoder
from pipeline.stages.adapt.pretraining.objective import Objective, View, mlp


class VicReg(Objective):
    """Invariance, variance and covariance of two views' embeddings.

    l(Z, Z') = lambda s(Z, Z') + mu [v(Z) + v(Z')] + nu [c(Z) + c(Z')]
    (Bardes, Ponce, LeCun 2022, "VICReg: variance-invariance-covariance regularization for self-supervised learning",
    equation 6), with s as in the authors' code, see `invariance`. It needs no negatives, so images of one patient may
    share a batch. What a small batch costs is in `covariance`: keep `embedded` at a few times the batch at most.

    Parameters
    ----------
    encoder : Encoder
        Gives features (B, width).
    weights : (lambda, mu, nu)
        25, 12.5, 1 are the authors' 25, 25, 1: their code halves the variance term, their equation 6 does not.
    hidden, embedded : int
        Units of the expander's two hidden layers and of its output; 8192 in the paper, for batches of 2048.
    seed : int
        Of the expander's first weights; the global generator is left as it is.
    """

    def __init__(
        self,
        encoder: Encoder,
        weights: tuple[float, float, float] = (25.0, 12.5, 1.0),
        hidden: int = 256,
        embedded: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.head = mlp((encoder.width, hidden, hidden, embedded), seed)

    def forward(self, encoder: Encoder, first: View, second: View, draws: torch.Generator) -> Tensor:
        """Compare two views (B, C, H, W), B at least 2; at least 0."""
        one, other = self.head(encoder(first)).float(), self.head(encoder(second)).float()
        alike, spread, apart = self.weights
        return (
            alike * invariance(one, other)
            + spread * (variance(one) + variance(other))
            + apart * (covariance(one) + covariance(other))
        )

    def extra_repr(self) -> str:
        """Name the weights."""
        return f"weights={self.weights}"


def invariance(one: Tensor, other: Tensor) -> Tensor:
    """Average the squared distance of paired embeddings (n, d): s = 1 / (n d) sum_i |z_i - z'_i|^2.

    Equation 5 divided by d, as the authors' code does; their weights were found with it.
    """
    return (one - other).square().mean()


def variance(embedded: Tensor, wanted: float = 1.0, epsilon: float = 1e-4) -> Tensor:
    """Hinge on each dimension's deviation over a batch (n, d): v = 1/d sum_j max(0, gamma - sqrt(Var(z_j) + epsilon)).

    Equations 1 and 2, Var with n - 1.
    """
    return (wanted - (embedded.var(dim=0) + epsilon).sqrt()).clamp(min=0).mean()


def covariance(embedded: Tensor) -> Tensor:
    """Punish dimensions of a batch (n, d) that repeat each other: c = 1/d sum_{i != j} C_ij^2 (equations 3 and 4).

    C = 1/(n-1) sum_i (z_i - mean)(z_i - mean)'. Dimensions that ARE independent, of variance 1, still cost
    (d - 1) / (n - 1) on average: the noise of C in a small batch.
    """
    with torch.autocast(embedded.device.type, enabled=False):  # a product in bfloat16 would be off by a percent
        centred = embedded - embedded.mean(dim=0)
        squared = (centred.T @ centred / (len(embedded) - 1)).square()
    return (squared.sum() - squared.diagonal().sum()) / embedded.shape[1]
