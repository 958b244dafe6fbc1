"""The part of a network that is trained on top of a frozen prefix."""

from torch import Tensor, nn

from pipeline.learning.models.classifier import Activations, Classifier


class TrainableTop(nn.Module):
    """The end of a network, from the activations at the freeze boundary to logits; it shares the network's weights.

    Creating it sets `requires_grad` of every parameter of the network.

    Parameters
    ----------
    network : Classifier
    first : int
        The stage that takes the activations.
    lowest : int, optional
        The lowest stage that is trained; `first` if not given.
    updates : bool
        Whether only the low-rank updates of the stages are trained (`lora.low_rank`).
    """

    def __init__(self, network: Classifier, first: int, lowest: int | None = None, updates: bool = False) -> None:
        super().__init__()
        self.network = network
        self.first = first
        network.requires_grad_(False)
        for module in (network.encoder.norm, network.attention, network.head):
            module.requires_grad_(True)
        for name, value in network.encoder.stages[first if lowest is None else lowest :].named_parameters():
            value.requires_grad_(not updates or name.endswith((".down", ".up")))

    def forward(self, maps: Tensor, pooled: Tensor) -> Tensor:
        """Compute logits (B, n_classes) from activations: maps (B, S, C, h, w) and pooled (B, S, w)."""
        return self.network.logits_from(Activations(maps, pooled), self.first)

    def features_and_logits(self, maps: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features (B, width) that the head sees, and its logits (B, n_classes), from activations."""
        features, _ = self.network.attention(self.network.features(Activations(maps, pooled), self.first))
        return features, self.network.head(features)
