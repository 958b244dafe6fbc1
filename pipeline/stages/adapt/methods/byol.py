"""BYOL: predict, from one view, the projection of the other view by a moving average of the encoder."""

import copy

import torch
from torch import Tensor, nn

from pipeline.learning.models.encoder import Encoder
from pipeline.stages.adapt.pretraining.objective import Objective, View, mlp


class Byol(Objective):
    """Distance of prediction and slow projection, both ways.

    L = | q(z) / |q(z)| - z' / |z'| |^2 = 2 - 2 cos(q(z), z'),  z' the target's, plus the same with the views swapped;
    after each step the target's weights are xi <- tau xi + (1 - tau) theta
    (Grill et al. 2020, "Bootstrap your own latent", section 3.1). No negatives: small batches are fine, and images of
    one patient may share one. Two constant networks would cost nothing; the predictor and the slow target keep
    training away from them, but nothing in the loss does: see the rank that `continue_pretraining` watches.

    Parameters
    ----------
    encoder : Encoder
        Gives features (B, width); the target starts as a copy of it, with the memory and a forward run that costs.
    momentum : float
        tau, constant. The paper's 0.996, rising to 1, is for 100,000s of steps; a few hundred images give hundreds,
        in which 0.99 forgets half in 69.
    hidden, projected : int
        Units of the hidden layers of projector and predictor, and of their outputs.
    seed : int
        Of the heads' first weights; the global generator is left as it is.
    """

    def __init__(
        self, encoder: Encoder, momentum: float = 0.99, hidden: int = 256, projected: int = 128, seed: int = 0
    ) -> None:
        from monai.losses import ContrastiveLoss  # not above: most adaptations do without

        super().__init__()
        self.momentum = momentum
        self.head = mlp((encoder.width, hidden, projected), seed)
        self.predictor = mlp((projected, hidden, projected), seed + 1)
        self.slow_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.slow_head = copy.deepcopy(self.head).requires_grad_(False)
        self.yardstick = ContrastiveLoss(temperature=0.2)

    def forward(self, encoder: Encoder, first: View, second: View, draws: torch.Generator) -> Tensor:
        """Predict each of two views (B, C, H, W), B at least 2, from the other; between 0 and 8."""
        with torch.no_grad():
            slow = [self.slow_head(self.slow_encoder(view)) for view in (second, first)]
        guesses = [self.predictor(self.head(encoder(view))) for view in (first, second)]
        return distance(guesses[0], slow[0]) + distance(guesses[1], slow[1])

    def score(self, encoder: Encoder, first: View, second: View, draws: torch.Generator) -> Tensor:
        """Evaluate held-out pairs by NT-Xent (`SimClr`) of the encoder's features, centred over the batch.

        The loss itself rises while the target learns to tell images apart and falls where all become one.
        """
        features = [encoder(view).float() for view in (first, second)]
        mean = torch.cat(features).mean(dim=0)
        loss: Tensor = self.yardstick(features[0] - mean, features[1] - mean)
        return loss

    @torch.no_grad()
    def after_step(self, encoder: Encoder) -> None:
        """Let the target follow encoder and projector by 1 - tau."""
        for fast, slow in ((encoder, self.slow_encoder), (self.head, self.slow_head)):
            for new, old in zip(fast.parameters(), slow.parameters(), strict=True):
                old.lerp_(new, 1 - self.momentum)

    def extra_repr(self) -> str:
        """Name the momentum."""
        return f"momentum={self.momentum}"


def distance(guess: Tensor, truth: Tensor) -> Tensor:
    """Average 2 - 2 cos over the rows of two (B, d); between 0 and 4."""
    return 2 - 2 * nn.functional.cosine_similarity(guess.float(), truth.float()).mean()
