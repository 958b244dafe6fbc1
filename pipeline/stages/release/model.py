"""The model that `calibrate` evaluated, which is the one that is released."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pipeline import paths
from pipeline.learning.models.ensemble import state_of_members
from pipeline.metrics.calibrators.calibrator import Calibrator, calibrator_from

Config = dict[str, Any]
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class ReleasedModel:
    """What data/calibrated says of the released model.

    Attributes
    ----------
    form : {"refit", "ensemble"}
    members : sequence of str
        The folds whose logits are averaged; of a refit, one.
    fitted_on : dict
        Number of `cases` and `patients` that the calibrator was fitted on, and their `folds`.
    calibrator : Calibrator
    """

    form: str
    members: Sequence[str]
    fitted_on: Config
    calibrator: Calibrator

    @property
    def network(self) -> Config:
        """The arguments that rebuild the network: of the one model, or of all `members`."""
        networks: list[Config] = [paths.read_json(paths.network(member)) for member in self.members]
        return {"members": networks} if self.form == ENSEMBLE else networks[0]

    @property
    def provenance(self) -> Config:
        """The weights that the model started from, which all members of a run share."""
        provenance: Config = paths.read_json(paths.adaptation(self.members[0]))["provenance"]
        return provenance

    def join(self, states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Make one state dict of those of the members."""
        return state_of_members(states) if self.form == ENSEMBLE else states[0]


def read_released() -> ReleasedModel:
    """Read data/calibrated."""
    values = paths.read_json(paths.CALIBRATOR)
    return ReleasedModel(values["form"], values["members"], values["fitted_on"], calibrator_from(values))
