"""Rebuild the networks that `finetune` trained."""

from safetensors.torch import load_file

from pipeline import paths
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.ensemble import Portfolio, model_from


def trained(fold: str) -> Classifier | Portfolio:
    """Load the network that a fold trained, in evaluation mode."""
    network = model_from(paths.read_json(paths.network(fold)))
    network.load_state_dict(load_file(paths.model(fold)))
    return network.eval()
