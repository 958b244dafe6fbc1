"""Minimum class confusion: an alignment loss on the predictions for the unlabelled cases."""

import torch
from torch import Tensor, nn

from pipeline.learning.models.entropy import entropy


class Mcc(nn.Module):
    """Alignment loss: how often two classes are confused in the predictions for the unlabelled cases.

    With logits Z (B, k) of the unlabelled cases (Jin, Wang, Long, Wang 2020, "Minimum class confusion for versatile
    domain adaptation", section 3.2, in its four steps)
    Y = softmax(Z / T);  W_i = B (1 + exp(-H(Y_i))) / sum_j (1 + exp(-H(Y_j)));  C = Y' W Y;  C_c = C_c / sum_c' C_cc';
    L = sum_{c != c'} C_cc' / k.
    The loss favours certain predictions for each case and does not favour equally frequent classes, so that it
    tolerates label shift better than losses on features. H is in nats, and W is a constant for the gradient, as in the
    authors' code.

    Parameters
    ----------
    temperature : float
        T; 2.5 in most of the paper.
    """

    def __init__(self, temperature: float = 2.5) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, features: Tensor, domains: Tensor, labelled: Tensor, logits: Tensor) -> Tensor:
        """Measure the confusion among the unlabelled cases of a batch.

        Parameters
        ----------
        features
            Not used.
        domains : (B,) int64
        labelled : (B,) bool
        logits : (B, k)

        Returns
        -------
        Tensor
            Scalar in [0, (k - 1) / k]; 0 if the batch holds one domain only, or no unlabelled case.
        """
        if len(domains.unique()) < 2 or bool(labelled.all()):
            return 0 * logits.sum()
        scaled = logits[~labelled] / self.temperature
        predicted = scaled.softmax(dim=1)
        sureness = 1 + torch.exp(-entropy(scaled).detach())
        weights = len(predicted) * sureness / sureness.sum()
        confusion = (predicted * weights[:, None]).T @ predicted
        confusion = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=torch.finfo(confusion.dtype).tiny)
        return (confusion.sum() - confusion.trace()) / logits.shape[1]
