"""DANN: a classifier of sites learns from the features, and the features learn to give it nothing."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class Dann(nn.Module):
    """Log-loss of a domain classifier behind a gradient reversal.

    R(x) = x,  dR/dx = -lambda I,  E = L_y(theta_f, theta_y) + L_d(R(theta_f), theta_d)
    (Ganin et al. 2016, "Domain-adversarial training of neural networks", equations 16 to 18): the classifier of this
    term descends the domain log-loss, what is below the features ascends it, lambda times as fast. Lambda grows from
    0 towards 1 as section 5.2.2 says, so that the first, noisy domain classifier does no harm.

    Warning: it asks the features to have ONE distribution over sites. Where sites differ in the share of classes
    (label shift: the usual thing in hospitals), that is right only for features that have lost the class, and strong
    weights lead there. Such a collapse does not show in the domain loss; watch the recall of each class.

    Parameters
    ----------
    width : int
        Of the features.
    n_domains : int
        Sites, numbered from 0.
    steps : int
        Calls over which lambda runs its course; the training steps.
    hidden : int
        Units of the classifier's one hidden layer.
    gamma : float
        Steepness of the course of lambda; 10 in the paper.
    seed : int
        Of the classifier's first weights; the global generator is left as it is.
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
        """Tell the domains of a batch apart; every call with two of them moves lambda on.

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
            Scalar in nats; 0 where the batch holds one domain only.
        """
        if len(domains.unique()) < 2:
            return 0 * features.sum()
        strength = reversal(self.calls / self.steps, self.gamma)
        self.calls += 1
        guess: Tensor = self.classifier(Reversed.apply(features, strength))
        return nn.functional.cross_entropy(guess, domains)


def reversal(progress: float, gamma: float = 10.0) -> float:
    """Lambda at a share of the training: 2 / (1 + exp(-gamma p)) - 1, from 0 at p = 0 towards 1 (section 5.2.2)."""
    return 2 / (1 + math.exp(-gamma * min(progress, 1.0))) - 1


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned round and scaled."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        """Pass the values through."""
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Turn the gradient round."""
        return -ctx.strength * gradients[0], None
