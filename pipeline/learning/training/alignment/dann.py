"""DANN: train the features against a classifier of sites (domain-adversarial training)."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class Dann(nn.Module):
    """Alignment loss: log-loss of a domain classifier behind a gradient reversal.

    R(x) = x,  dR/dx = -lambda I,  E = L_y(theta_f, theta_y) + L_d(R(theta_f), theta_d)
    (Ganin et al. 2016, "Domain-adversarial training of neural networks", equations 16 to 18): the domain
    classifier descends the domain log-loss, and the layers below the features ascend it, lambda times as fast. Lambda
    grows from 0 towards 1 (section 5.2.2), so that the untrained domain classifier does no harm.

    Warning: the loss demands the same feature distribution at all sites. If sites differ in class prevalence (label
    shift, usual between hospitals), only features without information on the class satisfy it, and strong weights
    lead there. The domain loss does not show such a collapse; check the recall of each class.

    Parameters
    ----------
    width : int
        Width of the features.
    n_domains : int
        Number of sites, which are numbered from 0.
    steps : int
        Number of training steps, over which lambda grows.
    hidden : int
        Units of the classifier's hidden layer.
    gamma : float
        Steepness of the schedule of lambda; 10 in the paper.
    seed : int
        Seed of the classifier's initial weights; the state of the global generator is restored.
    """

    def __init__(
        self, width: int, n_domains: int, steps: int, hidden: int = 64, gamma: float = 10.0, seed: int = 0
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.classifier = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, n_domains))
        self.steps = steps
        self.gamma = gamma
        self.calls = 0

    def forward(self, features: Tensor, domains: Tensor, labelled: Tensor, logits: Tensor) -> Tensor:
        """Compute the domain log-loss of a batch; every call with two domains advances lambda.

        Parameters
        ----------
        features : (B, width)
        domains : (B,) int64
            In [0, n_domains).
        labelled, logits
            Not used.

        Returns
        -------
        Tensor
            Scalar in nats; 0 if the batch holds one domain only.
        """
        if len(domains.unique()) < 2:
            return 0 * features.sum()
        strength = reversal(self.calls / self.steps, self.gamma)
        self.calls += 1
        guess: Tensor = self.classifier(Reversed.apply(features, strength))
        return nn.functional.cross_entropy(guess, domains)


def reversal(progress: float, gamma: float = 10.0) -> float:
    """Compute lambda = 2 / (1 + exp(-gamma p)) - 1 at progress p in [0, 1] of the training (section 5.2.2)."""
    return 2 / (1 + math.exp(-gamma * min(progress, 1.0))) - 1


class Reversed(torch.autograd.Function):
    """Identity with a negated and scaled gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        """Return the values."""
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Negate and scale the gradient."""
        return -ctx.strength * gradients[0], None
