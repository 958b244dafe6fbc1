"""TENT: adapt the normalisation layers to a single case by entropy minimisation before it is predicted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from pipeline.learning.models.entropy import entropy

NORMALISATIONS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)


def tent(network: nn.Module, steps: int, learning_rate: float) -> Callable[[Tensor], Tensor]:
    """Make a function that adapts to each case and predicts it: views (V, ...) to logits (V, n_classes).

    Arguments as in `adapted`; with steps = 0 the function is the network in evaluation mode, bit for bit.
    """

    def predict(views: Tensor) -> Tensor:
        with adapted(network, views, steps=steps, learning_rate=learning_rate), torch.inference_mode():
            logits: Tensor = network(views)
        return logits

    return predict


@contextmanager
def adapted(
    network: nn.Module,
    views: Tensor,
    *,
    steps: int,
    learning_rate: float,
    logits_of: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[nn.Module]:
    """Adapt the network to one case inside the block, in evaluation mode; restore it afterwards, bit for bit.

    Each step is one of Adam on the scale and shift of every normalisation layer against
    L = mean over the views of H(y) = - sum_c p(y_c) ln p(y_c)
    (Wang, Shelhamer, Liu, Olshausen, Darrell 2021, "Tent: fully test-time adaptation by entropy minimization",
    section 3.1 and 3.2), in its episodic form: reset after every case. Unlike there, batch normalisation keeps the
    STORED mean and variance: the statistics of one case reflect its anatomy, not its scanner.

    Entropy falls whether the prediction is right or wrong; use only a few small steps per case.

    Parameters
    ----------
    network : nn.Module
        Maps the views to logits (V, n_classes).
    views : (V, ...) Tensor
        The case as network input, and augmented views of it; V = 1 is allowed. A view holds all instances of a case.
    steps : int
        0 leaves the network unchanged.
    learning_rate : float
        About the size of a step of each scale and shift.
    logits_of : callable, optional
        From views to the network's logits; `network(views)` by default.
    """
    training = [(module, module.training) for module in network.modules()]
    affine = affine_parameters(network) if steps > 0 else []
    before = [(value, value.detach().clone(), value.requires_grad, value.grad) for value in affine]
    network.eval()
    try:
        if affine:
            _descend(logits_of or network, affine, views, steps=steps, learning_rate=learning_rate)
        yield network
    finally:
        for value, data, wanted, gradient in before:
            value.data.copy_(data)
            value.requires_grad_(wanted)
            value.grad = gradient
        for module, mode in training:
            module.training = mode


def affine_parameters(network: nn.Module) -> list[nn.Parameter]:
    """List the scales and shifts of the normalisation layers."""
    layers = [module for module in network.modules() if isinstance(module, NORMALISATIONS)]
    return [value for layer in layers for value in layer.parameters(recurse=False)]


@torch.inference_mode(False)
@torch.enable_grad()
def _descend(
    logits_of: Callable[[Tensor], Tensor],
    affine: list[nn.Parameter],
    views: Tensor,
    *,
    steps: int,
    learning_rate: float,
) -> None:
    views = views.clone()  # tensors made in inference mode cannot enter a graph
    for value in affine:
        value.requires_grad_(True)
    optimizer = torch.optim.Adam(affine, lr=learning_rate)
    for _ in range(steps):
        loss = entropy(logits_of(views)).mean()
        for value, gradient in zip(affine, torch.autograd.grad(loss, affine, allow_unused=True), strict=True):
            value.grad = gradient
        optimizer.step()
