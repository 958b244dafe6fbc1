"""Compute the entropy of predictions."""

from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Compute the entropy (B,) in nats of the softmax of logits (B, k)."""
    shares = logits.log_softmax(dim=1)
    return -(shares.exp() * shares).sum(dim=1)
