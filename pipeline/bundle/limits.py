"""The operating limits of a released model: prediction sets, abstention and out-of-distribution detection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.decision import Rule, decide
from pipeline.imaging.preparation.placement import Prepared
from pipeline.metrics.ood import ClassGaussians, OODDetector, energy, scores_of, share_beyond

Floats = NDArray[np.float64]

OUT_OF_DISTRIBUTION, LOW_CONFIDENCE = "out of distribution", "low confidence"


@dataclass(frozen=True)
class ScanOutput:
    """The raw output of a network for one scan.

    Attributes
    ----------
    logits : (K,)
        Mean over members.
    features : list of (p,)
        Input of the head, of each member.
    appearance : (a,)
        See `imaging.appearance`.
    prepared : Prepared
        The channels that the network saw, and where they lie in the scan.
    """

    logits: Floats
    features: list[Floats]
    appearance: Floats
    prepared: Prepared


@dataclass(frozen=True)
class Decision:
    """What the operating limits say of one scan.

    Attributes
    ----------
    set : str
        The conformal prediction set in words, e.g. "control or lesion".
    abstains : tuple of str
        Names of the reasons for abstaining: `OUT_OF_DISTRIBUTION`, `LOW_CONFIDENCE`, both, or none.
    reason : str
        The reasons for abstaining as a sentence with numbers.
    ood_score : float or None
        Distance of the scan from the development scans: 0 is typical, and 5 % of them reach 1 in each of three scores.
    nearest_site : str
        The development site whose scans are nearest; empty if sites are not known.
    site_share : float or None
        Share of held-out development patients at least this far from their nearest site.
    """

    set: str = ""
    abstains: tuple[str, ...] = ()
    reason: str = ""
    ood_score: float | None = None
    nearest_site: str = ""
    site_share: float | None = None


@dataclass(frozen=True)
class OperatingLimits:
    """The limits that a bundle carries; see `decision` and `metrics.ood`.

    Attributes
    ----------
    rules : list of Rule
    gaussians, sites : list of ClassGaussians
        Of the classes and of the sites in each member; distances are averaged over members. `sites` is empty if they
        are not known.
    appearances : list of ClassGaussians
        Of the appearance of each member's training cases, see `imaging.appearance`.
    detector : OODDetector
    usual_site : tuple of float
        Quantiles of the distance to the nearest site; empty if sites are not known.
    several : bool
        Whether the task is multilabel.
    """

    rules: list[Rule]
    gaussians: list[ClassGaussians]
    sites: list[ClassGaussians]
    appearances: list[ClassGaussians]
    detector: OODDetector
    usual_site: tuple[float, ...]
    several: bool

    def decide(self, output: ScanOutput, probabilities: Floats, classes: Sequence[str]) -> Decision:
        """Apply the limits to a scan's output and its calibrated probabilities (K,)."""
        score = self.score(output)
        members, unsure = decide(self.rules, probabilities, classes)
        reasons = {}
        if self.detector.is_ood(score):
            reasons[OUT_OF_DISTRIBUTION] = (
                f"it is unlike the development scans (score {score[0]:.2f}, limit {self.detector.threshold:.2f})"
            )
        if unsure:
            reasons[LOW_CONFIDENCE] = f"the confidence is too low ({', '.join(unsure)})"
        nearest, share = self._nearest_site(output)
        return Decision(
            set=members,
            abstains=tuple(reasons),
            reason="; ".join(reasons.values()),
            ood_score=float(score[0]),
            nearest_site=nearest,
            site_share=share,
        )

    def score(self, output: ScanOutput) -> Floats:
        """Compute the out-of-distribution score (1,) of a scan."""
        features = [one[None] for one in output.features]
        distances = mean_distances(self.gaussians, features).min(axis=1)
        appearances = [output.appearance[None]] * len(self.appearances)
        appearance = mean_distances(self.appearances, appearances).min(axis=1)
        return self.detector.ood_score(scores_of(energy(output.logits[None], self.several), distances, appearance))

    def _nearest_site(self, output: ScanOutput) -> tuple[str, float | None]:
        if not self.sites:
            return "", None
        distances = mean_distances(self.sites, [one[None] for one in output.features])[0]
        share = share_beyond(float(distances.min()), self.usual_site) if self.usual_site else None
        return list(self.sites[0].means)[int(distances.argmin())], share

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {
            "rules": [rule.as_json() for rule in self.rules],
            "detector": self.detector.as_json(),
            "usual_site": list(self.usual_site),
            "several": self.several,
            "gaussians": [gaussian.as_json() for gaussian in self.gaussians],
            "sites": [gaussian.as_json() for gaussian in self.sites],
            "appearances": [gaussian.as_json() for gaussian in self.appearances],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "OperatingLimits":
        """Read the values that `as_json` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are something else.
        """
        gaussians, sites, appearances = (
            [ClassGaussians.from_json(one) for one in values[name]] for name in ("gaussians", "sites", "appearances")
        )
        return cls(
            rules=[Rule.from_json(one) for one in values["rules"]],
            gaussians=gaussians,
            sites=sites,
            appearances=appearances,
            detector=OODDetector.from_json(values["detector"]),
            usual_site=tuple(values["usual_site"]),
            several=bool(values["several"]),
        )


def mean_distances(gaussians: Sequence[ClassGaussians], features: Sequence[Floats]) -> Floats:
    """Average over members the distances (n, number of groups) of features, (n, p) of each, to each mean."""
    return np.asarray(
        np.mean([gaussian.distances(one) for gaussian, one in zip(gaussians, features, strict=True)], axis=0)
    )
