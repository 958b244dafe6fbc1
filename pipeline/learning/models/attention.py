"""Pool the features of a case's instances by attention."""

import torch
from torch import Tensor, nn


class AttentionPool(nn.Module):
    """Gated attention over the instances of a bag (Ilse, Tomczak, Welling 2018, equation 9).

    a_k = softmax_k( w' ( tanh(V h_k) * sigmoid(U h_k) ) ),  z = sum_k a_k h_k.
    Training starts at w = 0, where pooling is the plain mean, as for the linear probe on mean features.
    """

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.tangent = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Pool (B, S, width) features; return (B, width) and the attention (B, S), which sums to one."""
        if features.shape[1] == 1:
            return features[:, 0], features.new_ones(features.shape[:2])
        scores = self.score(torch.tanh(self.tangent(features)) * torch.sigmoid(self.gate(features)))
        attention = scores.squeeze(-1).softmax(dim=1)
        return (attention.unsqueeze(-1) * features).sum(dim=1), attention
