"""SimCLR: distinguish two views of one image from all other images of the batch."""

import torch
from torch import Tensor

from pipeline.learning.models.encoder import Encoder
from pipeline.stages.adapt.pretraining.objective import Objective, View, mlp

LOWEST_TEMPERATURE = 0.05


class SimClr(Objective):
    """NT-Xent of the two views' projections.

    l_ij = - ln ( exp(sim(z_i, z_j) / t) / sum_{k != i} exp(sim(z_i, z_k) / t) ),  sim the cosine, averaged over the
    2 B ordered positive pairs (Chen, Kornblith, Norouzi, Hinton 2020, "A simple framework for contrastive learning of
    visual representations", equation 1 and algorithm 1), z = W_2 relu(norm(W_1 h)) as in their section 2.1.

    MONAI's `ContrastiveLoss` is that formula (tests/stages/adapt/methods/test_simclr.py holds it to a log-softmax,
    value and gradient). It divides the exponentials as they are, up to exp(2 / t) apart, which leaves the numbers of
    float32 under t = 0.023; hence the lowest t here. Its memory is (2 B)^2 d.

    A batch of B has 2 B - 2 negatives, and ln(2 B - 1) is what knowing nothing costs: losses of different B do not
    compare. Small batches mean few and easy negatives; a bank of older features would give more, of an encoder that
    has moved on. Other images of the SAME patient in a batch are pushed apart as if they were strangers: a batch
    should hold a patient once.

    Parameters
    ----------
    encoder : Encoder
        Gives features (B, width).
    temperature : float
        t. 0.1 was best on ImageNet (their table 5), 0.5 is MONAI's.
    hidden, projected : int
        Units of the head's hidden layer and of its output.
    seed : int
        Of the head's first weights; the global generator is left as it is.
    """

    def __init__(
        self, encoder: Encoder, temperature: float = 0.2, hidden: int = 256, projected: int = 128, seed: int = 0
    ) -> None:
        from monai.losses import ContrastiveLoss  # not above: most adaptations do without

        super().__init__()
        if temperature < LOWEST_TEMPERATURE:
            raise ValueError(f"a temperature of {temperature} leaves float32; the lowest is {LOWEST_TEMPERATURE}")
        self.temperature = temperature
        self.head = mlp((encoder.width, hidden, projected), seed)
        self.loss = ContrastiveLoss(temperature)

    def forward(self, encoder: Encoder, first: View, second: View, draws: torch.Generator) -> Tensor:
        """Contrast two views (B, C, H, W); nats, between 0 and ln(2 B - 1) + 2 / t."""
        loss: Tensor = self.loss(self.head(encoder(first)).float(), self.head(encoder(second)).float())
        return loss

    def extra_repr(self) -> str:
        """Name the temperature."""
        return f"temperature={self.temperature}"
