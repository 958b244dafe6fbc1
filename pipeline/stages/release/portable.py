"""Make a network exportable: an export has no parameters of sites, and cannot adapt to single cases."""

from torch import nn

from pipeline.learning.models.ensemble import classifiers_in
from pipeline.learning.models.heads import NeighboursHead
from pipeline.learning.models.sites import SiteValues


class NotPortable(ValueError):
    """A network that cannot be exported; the message says why."""


def portable(network: nn.Module) -> nn.Module:
    """Remove, in place, the values of the known sites; those for unknown sites stay.

    Activations no longer overwrite their input: ONNX has no such operation, and to replace each takes much of an
    export's time.

    Raises
    ------
    NotPortable
        If the network adapts itself to every case (TENT), because an export has no gradients.
    """
    for one in classifiers_in(network):
        if one.test_time.tent_steps:
            raise NotPortable("it adapts itself to every case (adapt.test_time_steps), which an export cannot do")
        one.site_values.write_unknown(one)
        one.site_values = SiteValues((), {})
        if isinstance(one.head, NeighboursHead):
            count = int(one.head.neighbours)
            del one.head.neighbours  # a number among the weights cannot be the size of something in an export
            one.head.neighbours = count  # type: ignore[assignment]
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
    return network
