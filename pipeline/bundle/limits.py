"""The limits within which a released model answers: what goes with it, and what they say of one scan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.decision import Rule, told
from pipeline.metrics.ood import ClassGaussians, OODDetector, energy, scores_of, share_beyond

Floats = NDArray[np.float64]

UNLIKE, UNSURE = "out of distribution", "low confidence"


@dataclass(frozen=True)
class Verdict:
    """What is said of one scan beside its probabilities.

    Attributes
    ----------
    members : str
        The set of classes, in words.
    abstains : tuple of str
        Why no answer is given: `UNLIKE`, `UNSURE`, both or nothing.
    reason : str
        The same with its metrics.
    score : float
        How far the scan is from the development scans; 0 is usual, 1 is what one in twenty reaches.
    nearest_site : str
        The development site whose scans it is most like; empty where sites are not known.
    site_share : float or None
        The share of left-out development patients who lay as far from their nearest site.
    """

    members: str
    abstains: tuple[str, ...]
    reason: str
    score: float
    nearest_site: str
    site_share: float | None


@dataclass(frozen=True)
class Limits:
    """All of it, as it goes with a model; see `decision` and `metrics.ood`.

    Attributes
    ----------
    rules : list of Rule
    gaussians, sites : list of ClassGaussians
        Of the classes and of the sites in each member; distances are averaged over members. None of sites where they
        are not known.
    appearances : list of ClassGaussians
        Of what the training cases of each member look like, see `imaging.appearance`.
    detector : OODDetector
    usual_site : tuple of float
        Quantiles of the distance to the nearest site; empty where they are not known.
    several : bool
        Whether labels stand each by itself.
    """

    rules: list[Rule]
    gaussians: list[ClassGaussians]
    sites: list[ClassGaussians]
    appearances: list[ClassGaussians]
    detector: OODDetector
    usual_site: tuple[float, ...]
    several: bool

    def evaluate(
        self,
        logits: Floats,
        features: Sequence[Floats],
        appearance: Floats,
        probabilities: Floats,
        classes: Sequence[str],
    ) -> Verdict:
        """Evaluate a scan by logits (K,), features (p,) of each member, appearance (a,) and probabilities (K,)."""
        score = self.score(logits, features, appearance)
        members, unsure = told(self.rules, probabilities, classes)
        reasons = {}
        if self.detector.is_ood(score):
            reasons[UNLIKE] = f"{UNLIKE}: score {score[0]:.2f} is above {self.detector.threshold:.2f}"
        if unsure:
            reasons[UNSURE] = f"{UNSURE}: {', '.join(unsure)}"
        nearest, share = "", None
        if self.sites:
            apart = mean_distances(self.sites, [one[None] for one in features])[0]
            nearest = list(self.sites[0].means)[int(apart.argmin())]
            share = share_beyond(float(apart.min()), self.usual_site) if self.usual_site else None
        return Verdict(members, tuple(reasons), "; ".join(reasons.values()), float(score[0]), nearest, share)

    def score(self, logits: Floats, features: Sequence[Floats], appearance: Floats) -> Floats:
        """Score (1,) how far one scan is from the development scans, as `detector` does."""
        apart = mean_distances(self.gaussians, [one[None] for one in features]).min(axis=1)
        appearances = mean_distances(self.appearances, [appearance[None]] * len(self.appearances)).min(axis=1)
        return self.detector.ood_score(scores_of(energy(logits[None], self.several), apart, appearances))

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
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
    def from_json(cls, values: Mapping[str, Any]) -> "Limits":
        """Read what `as_json` gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is something else.
        """
        rules = [Rule.from_json(one) for one in values["rules"]]
        gaussians, sites, appearances = (
            [ClassGaussians.from_json(one) for one in values[what]] for what in ("gaussians", "sites", "appearances")
        )
        usual = tuple(values["usual_site"])
        detector, several = OODDetector.from_json(values["detector"]), bool(values["several"])
        return cls(rules, gaussians, sites, appearances, detector, usual, several)


def mean_distances(gaussians: Sequence[ClassGaussians], features: Sequence[Floats]) -> Floats:
    """Average over members the distances (n, number of groups) of features, (n, p) of each, to each mean."""
    return np.asarray(
        np.mean([gaussian.distances(one) for gaussian, one in zip(gaussians, features, strict=True)], axis=0)
    )
