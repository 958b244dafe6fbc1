"""The model that `calibrate` evaluated, which is the one that is released."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor

from pipeline import paths
from pipeline.bundle.masks import MaskNeeds, needs_of
from pipeline.errors import UserError
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.learning.models.ensemble import state_of_members
from pipeline.metrics.calibrators.calibrator import Calibrator, calibrator_from
from pipeline.metrics.evaluation import logits_of
from pipeline.metrics.fusion import Fusion, fusion_from
from pipeline.metrics.regression.intervals import Intervals
from pipeline.metrics.survival.recalibration import Risks
from pipeline.stages.release.origin import origin_of

Config = dict[str, Any]
Floats = NDArray[np.float64]
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
        Of the image alone.
    model_sha256 : dict
        By member, the hash of the weights that were evaluated.
    fusion : Fusion or None
        Of the image with columns, which gives the probabilities where it is there.
    intervals : Intervals or None
        Prediction intervals of the number of a regression.
    risks : Risks or None
        Of a survival model.
    """

    form: str
    members: Sequence[str]
    fitted_on: Config
    calibrator: Calibrator
    model_sha256: dict[str, str]
    fusion: Fusion | None = None
    intervals: Intervals | None = None
    risks: Risks | None = None

    @property
    def of_output(self) -> Config:
        """What belongs to an output without classes, by its name in metadata; empty for classes."""
        known = {"intervals": self.intervals, "risks": self.risks}
        return {name: one.as_json() for name, one in known.items() if one}

    def probabilities(self, cases: pd.DataFrame) -> Floats:
        """Predict probabilities (n, K) from a table with the logits of the image and the columns."""
        if self.fusion:
            return self.fusion.apply(logits_of(self.fusion.fused(cases)))
        return self.calibrator.apply(logits_of(cases))

    @property
    def network(self) -> Config:
        """The arguments that rebuild the network: of the one model, or of all `members`."""
        networks: list[Config] = [paths.read_json(paths.network(member)) for member in self.members]
        return {"members": networks} if self.form == ENSEMBLE else networks[0]

    @property
    def provenance(self) -> Config:
        """The weights that the model started from, which all members of a run share."""
        return origin_of(self.members[0])

    def state(self) -> dict[str, Tensor]:
        """Read the weights of all members as one state dict.

        Raises
        ------
        UserError
            If the weights of a member are not those that were evaluated.
        """
        states = [self.state_of(member) for member in self.members]
        return state_of_members(states) if self.form == ENSEMBLE else states[0]

    def state_of(self, member: str) -> dict[str, Tensor]:
        """Read the weights of a member, and compare their hash with that of the evaluated model."""
        content = paths.model(member).read_bytes()
        if hashlib.sha256(content).hexdigest() != self.model_sha256[member]:
            raise UserError(
                f"{paths.model(member)} is not the model that `calibrate` evaluated ({paths.CALIBRATOR} has its hash); "
                "`medadapt repair` restores it if it is damaged; else run `dvc repro calibrate`"
            )
        return dict(sorted(load(content).items()))  # `load` returns the weights in another order each time


def preprocessor() -> Preprocessor:
    """Rebuild the preprocessing that prepared the cases."""
    return Preprocessor.from_json({"geometry": paths.read_json(paths.GEOMETRY), **paths.read_json(paths.READING)})


def masks_of(model: ReleasedModel) -> MaskNeeds:
    """Say what the released model does with masks."""
    return needs_of(preprocessor(), model.fusion)


def read_released() -> ReleasedModel:
    """Read data/calibrated."""
    values = paths.read_json(paths.CALIBRATOR)
    return ReleasedModel(
        form=values["form"],
        members=values["members"],
        fitted_on=values["fitted_on"],
        calibrator=calibrator_from(values),
        model_sha256=values["model_sha256"],
        fusion=fusion_from(values["fusion"]) if "fusion" in values else None,
        intervals=Intervals.from_json(values["intervals"]) if "intervals" in values else None,
        risks=Risks.from_json(values["risks"]) if "risks" in values else None,
    )
