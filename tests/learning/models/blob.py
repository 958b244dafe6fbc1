"""A network whose saliency is known."""

import torch
from torch import nn

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import Encoder
from pipeline.learning.models.families import Cut


def blob_network(deepest=0.0):
    """Logit 1 rises with what is bright in the first stage, logit 0 falls; the second stage adds `deepest` to both."""
    first, second = nn.Conv2d(1, 1, 4, stride=4), nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        first.weight.fill_(1 / 16), first.bias.fill_(-0.5)
        second.weight.fill_(-1.0), second.bias.fill_(1.0)
    stages = [nn.Sequential(first, nn.ReLU()), nn.Sequential(second, nn.ReLU())]
    network = Classifier(
        Encoder(Cut(stages), 1, 2), {"channels": 1, "mean": (0.0,), "std": (1.0,)}, {"n_classes": 2}
    ).eval()
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[-10.0, deepest], [10.0, deepest]]))
    return network
