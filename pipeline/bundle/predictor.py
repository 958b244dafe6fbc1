"""Predict scans with a released bundle: probabilities, prediction set, and abstention with its reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.columns import Value, texts_of
from pipeline.bundle.cures import sentence_of
from pipeline.bundle.layout import LIMITS, METADATA
from pipeline.bundle.limits import Decision, OperatingLimits, ScanOutput
from pipeline.bundle.manifest import BrokenBundle
from pipeline.bundle.masks import MaskNeeds, needs_of
from pipeline.bundle.opening import Opened, open_bundle
from pipeline.bundle.operating_point import OperatingPoint
from pipeline.bundle.plain import read_plain
from pipeline.bundle.scoring import Scorer, ScoreScan
from pipeline.bundle.zipped import unpacked
from pipeline.imaging.preparation.region import MaskFile
from pipeline.imaging.reading.scan import Unreadable
from pipeline.metrics.calibrators.calibrator import Calibrator, calibrator_from
from pipeline.metrics.fusion import Fusion

BAD_IMAGE = "bad image"
WITHHELD = "withheld_"  # in tables, before the class of a probability that is no answer
Floats = NDArray[np.float64]


class SiteCalibration(Protocol):
    """A change of released probabilities for one site."""

    def apply(self, probabilities: Floats) -> Floats:
        """Recalibrate (n, K) probabilities."""


@dataclass(frozen=True)
class Prediction(Decision):
    """The prediction of one scan; without an answer if the model abstains.

    It also has the attributes of `Decision`; `abstains` is (`BAD_IMAGE`,) if the scan cannot be read, and `set` is
    empty if the model abstains.

    Attributes
    ----------
    probabilities : dict of str to float, or None
        Calibrated, by class; they sum to one unless the task is multilabel. None if the model abstains. Of a
        regression the released number, under the name "value"; of a survival model the "log_hazard".
    decision : str
        The decision at the bundle's operating point: a class, or labels joined by "; ". Empty if the model abstains,
        or the bundle has no operating point.
    withheld_probabilities : dict of str to float, or None
        What `probabilities` would be if the model did not abstain; it is no answer. Monitoring needs it. None for a
        scan that is answered or cannot be read.
    withheld_set : str
        What `set` would be if the model did not abstain.
    interval : (float, float) or None
        Of a regression the prediction interval; of a withheld number as well, which is no answer either.
    unit : str
        Unit of the number or of time; empty for classes.
    columns : dict
        What follows from a number or a log hazard: limits, or risks until times and the group. Empty if the model
        abstains.
    output : ScanOutput or None
        Logits, features and the channels that the network saw.
    logits : (K,) or None
        What the calibrator takes: the logits of the image, fused with the columns if the model takes columns.
    """

    probabilities: dict[str, float] | None = None
    decision: str = ""
    withheld_probabilities: dict[str, float] | None = field(default=None, repr=False)
    withheld_set: str = field(default="", repr=False)
    interval: tuple[float, float] | None = None
    unit: str = ""
    columns: dict[str, Any] = field(default_factory=dict, repr=False)
    output: ScanOutput | None = field(default=None, repr=False, compare=False)
    logits: Floats | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Predictor:
    """A released model that predicts one scan at a time.

    Attributes
    ----------
    classes : sequence of str
    score : callable
        From a scan's file and its site to its `ScanOutput`.
    calibrator : Calibrator
        From logits to probabilities; a `Fusion` if the model takes columns besides the scan.
    limits : OperatingLimits or None
        None for a release without them: the model never abstains, and sets are empty.
    sites : tuple of str
        Sites for which the model has values of its own.
    status : str
        "validated" or "candidate".
    site_calibration : SiteCalibration or None
        Change of the probabilities that are returned. Limits and operating point are applied to the released
        probabilities, on which they were set.
    operating_point : OperatingPoint or None
        None for a release without one: `decision` is empty.
    masks : MaskNeeds or None
        What the model does with masks of scans.

    Examples
    --------
    >>> predictor = Predictor.from_bundle("data/released/demo_lesion_classification")  # doctest: +SKIP
    >>> predictor("scan.nii.gz").probabilities  # doctest: +SKIP
    {'control': 0.31, 'lesion': 0.69}
    """

    classes: Sequence[str]
    score: ScoreScan
    calibrator: Calibrator
    limits: OperatingLimits | None = None
    sites: tuple[str, ...] = ()
    status: str = "candidate"
    site_calibration: SiteCalibration | None = None
    operating_point: OperatingPoint | None = None
    masks: MaskNeeds | None = None

    @classmethod
    def from_bundle(cls, bundle: str | Path) -> "Predictor":
        """Check a bundle's checksums and configuration, then load it.

        Parameters
        ----------
        bundle : str or Path
            A bundle's folder, or a zip of it. Nothing is needed from it afterwards.

        Raises
        ------
        BrokenBundle
            If the bundle is missing, changed, not one of medadapt's, or of a version that this one cannot read.
        BadModel
            If the weights do not fit the network.
        """
        with unpacked(Path(bundle)) as folder:
            return cls.from_opened(open_bundle(folder))

    @classmethod
    def from_opened(cls, bundle: Opened) -> "Predictor":
        """Load a bundle that is open; errors as for `from_bundle`."""
        score = Scorer(bundle.network, bundle.weights, bundle.preparation)
        return cls(
            classes=bundle.classes,
            score=score,
            calibrator=bundle.fusion or _calibrator_of(bundle),
            limits=_limits_in(bundle.folder),
            sites=bundle.sites,
            status=bundle.status,
            operating_point=bundle.operating_point,
            masks=needs_of(score.steps, bundle.fusion),
        )

    @property
    def unit(self) -> str:
        """The unit of the number of a regression or of time; empty for classes."""
        return self.limits.numbers.unit if self.limits and self.limits.numbers else ""

    @property
    def multilabel(self) -> bool:
        """Whether each label has a probability by itself."""
        return self.calibrator.activation == "sigmoid"

    @property
    def fusion(self) -> Fusion | None:
        """How the columns enter; None for a model of the image alone."""
        return self.calibrator if isinstance(self.calibrator, Fusion) else None

    def recalibrated(self, change: SiteCalibration) -> "Predictor":
        """Return a predictor whose probabilities are changed for one site."""
        return replace(self, site_calibration=change)

    def __call__(
        self,
        scan: str | Path,
        site: str | None = None,
        inputs: Mapping[str, Value] | None = None,
        *,
        mask: MaskFile = None,
    ) -> Prediction:
        """Predict a scan.

        A scan that cannot be read is no error, so that one of them does not end a loop over many: `probabilities` is
        None, `abstains` is ("bad image",), and `reason` says what is wrong with the file and what to do.

        Parameters
        ----------
        scan : str or Path
            An image file, or a folder with one DICOM series.
        site : str, optional
            One of `sites`; any other is treated as a site that the model has not seen.
        inputs : mapping, optional
            By name, the values of the columns that the model takes besides the scan; None, NaN or "" if missing. Those
            that are measured in the mask need not be given.
        mask : Path, optional
            The mask of the scan, if the model takes masks; "whole" takes the whole scan as its region.

        Raises
        ------
        BadInputs
            If the model takes columns, and one is not given or has a value that the model cannot use.
        """
        try:
            inputs = self._measured(Path(scan), inputs, mask)
        except Unreadable as error:
            return Prediction(abstains=(BAD_IMAGE,), reason=sentence_of(error.finding))
        texts = texts_of(self.fusion, inputs) if self.fusion else {}
        try:
            seen = [mask] if self.masks and self.masks.steps.sees_masks else []
            output = self.score(Path(scan), site, *seen)
        except Unreadable as error:
            return Prediction(abstains=(BAD_IMAGE,), reason=sentence_of(error.finding))
        try:
            logits = self._fused(output.logits[None], texts)
            released = self.calibrator.apply(logits)
            found = self.limits.decide(output, released[0], self.classes) if self.limits else Decision()
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise BrokenBundle(f"calibrator or operating limits do not fit the model: {error}") from error
        shown = self.site_calibration.apply(released) if self.site_calibration else released
        probabilities = dict(zip(self.classes, shown[0].tolist(), strict=True))
        raw: dict[str, Any] = {"output": output, "logits": logits[0]}
        if self.limits and (numbers := self.limits.numbers):
            value = float(shown[0, 0])
            raw |= {"interval": numbers.interval(value), "unit": self.unit}
            raw |= {} if found.abstains else {"columns": numbers.columns(value)}
        if found.abstains:
            silent = vars(replace(found, set=""))
            return Prediction(**silent, withheld_probabilities=probabilities, withheld_set=found.set, **raw)
        decision = self.operating_point.decide(released[0], self.classes) if self.operating_point else ""
        return Prediction(**vars(found), probabilities=probabilities, decision=decision, **raw)

    def _measured(self, scan: Path, inputs: Mapping[str, Value] | None, mask: MaskFile) -> Mapping[str, Value] | None:
        """Add the columns that are measured in the mask; raise Unreadable if the model cannot use them."""
        names = [name for name in self.masks.features if name not in (inputs or {})] if self.masks else []
        if not self.masks or not self.fusion or not names:
            return inputs
        found = self.masks.measured(scan, mask)
        if flaws := self.fusion.flaws_of({**(inputs or {}), **found}, names):
            raise Unreadable("mask", "; ".join(flaws))
        return {**(inputs or {}), **{name: found[name] for name in names}}

    def _fused(self, logits: Floats, texts: Mapping[str, str]) -> Floats:
        """Fuse the logits (1, K) of the image with the columns, if the model takes any."""
        return self.fusion.fuse(logits, {name: [text] for name, text in texts.items()}) if self.fusion else logits


def _calibrator_of(bundle: Opened) -> Calibrator:
    try:
        return calibrator_from(bundle.calibrator)
    except ValueError as error:
        raise BrokenBundle(
            f"{METADATA} of the bundle: {error}; update medadapt, or get the bundle from its source again"
        ) from error


def _limits_in(folder: Path) -> OperatingLimits | None:
    file = folder / LIMITS
    if not file.exists():
        return None
    try:
        return OperatingLimits.from_json(read_plain(file)["limits"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BrokenBundle):
            raise
        raise BrokenBundle(
            f"{file} has another format than this version of medadapt writes ({error}); use the version that "
            "MANIFEST.json names, release the model again, or get the bundle from its source again"
        ) from error
