"""A network as other programs can hold it: what is looked up or learned for each case anew cannot travel with it."""

from collections.abc import Iterator

from torch import nn

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.ensemble import Ensemble
from pipeline.learning.models.heads import NeighboursHead
from pipeline.learning.models.sites import SiteValues


class NotPortable(ValueError):
    """A network that no other program can run; the message says why."""


def portable(network: Classifier | Ensemble) -> nn.Module:
    """Settle a network, in place, on the values of a site that nobody has seen, and forget those of the known ones.

    Raises
    ------
    NotPortable
        If the network adapts itself to every case (TENT): that takes gradients, of which an export has none.
    """
    for one in _classifiers(network):
        if one.test_time.tent_steps:
            raise NotPortable("it adapts itself to every case (adapt.test_time_steps), and an export cannot learn")
        one.site_values.write_unknown(one)
        one.site_values = SiteValues((), {})
        if isinstance(one.head, NeighboursHead):
            count = int(one.head.neighbours)
            del one.head.neighbours  # a number among the weights cannot be the size of something in an export
            one.head.neighbours = count  # type: ignore[assignment]
    return network


def _classifiers(network: Classifier | Ensemble) -> Iterator[Classifier]:
    for module in network.modules():
        if isinstance(module, Classifier):
            yield module
