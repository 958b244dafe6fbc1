"""The operating limits of a released model: prediction sets, abstention and out-of-distribution detection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.decision import Rule, decide
from pipeline.bundle.numbers import NumberLimits, unusual
from pipeline.bundle.times import TimeLimits
from pipeline.imaging.preparation.placement import Prepared
from pipeline.metrics.ood import ClassGaussians, OODDetector, energy, scores_of, share_beyond

Floats = NDArray[np.float64]

PRIOR = 1.0  # patients; what the development scans count beside those of a new site
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
    foreign : float or None
        Median appearance score, scaled, of the corruption that changes the appearance least; a site whose scans reach
        it shows something else. None if it was not measured.
    numbers : NumberLimits, TimeLimits or None
        Of a regression or of survival, which have no rules.
    """

    rules: list[Rule]
    gaussians: list[ClassGaussians]
    sites: list[ClassGaussians]
    appearances: list[ClassGaussians]
    detector: OODDetector
    usual_site: tuple[float, ...]
    several: bool
    foreign: float | None = None
    numbers: NumberLimits | TimeLimits | None = None

    def unsure(self, probabilities: Floats, classes: Sequence[str]) -> tuple[str, list[str]]:
        """Give set, interval or risks of one case (K,) in words, and why it is too uncertain for an answer."""
        if self.numbers:
            value = float(probabilities[0])
            return self.numbers.in_words(value), self.numbers.too_wide(value)
        return decide(self.rules, probabilities, classes)

    def decide(self, output: ScanOutput, probabilities: Floats, classes: Sequence[str]) -> Decision:
        """Apply the limits to a scan's output and its calibrated probabilities (K,)."""
        score = self.score(output)
        members, unsure = self.unsure(probabilities, classes)
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
        return self.detector.ood_score(self.scores([output]))

    def scores(self, outputs: Sequence[ScanOutput]) -> Floats:
        """Compute the three scores (n, 3) of scans, see `metrics.ood.scores_of`."""
        logits, features, appearances = _stacked(outputs)
        logits = unusual(logits, self.numbers.middle) if self.numbers else logits
        distances = mean_distances(self.gaussians, features).min(axis=1)
        appearance = mean_distances(self.appearances, [appearances] * len(self.appearances)).min(axis=1)
        return scores_of(energy(logits, self.several), distances, appearance)

    def at_site(self, outputs: Sequence[ScanOutput], patients: Sequence[str]) -> "OperatingLimits":
        """Refit the statistics to unlabelled scans of one site; threshold and rules stay.

        Means and scales of features and appearance, then medians and scales of the scores, are mixed with those of the
        development scans, which count as `PRIOR` patients (as Schneider et al. 2020, "Improving robustness against
        common corruptions by covariate shift adaptation", equation 2, do for normalisation). The scores of a patient
        are computed without the patient's own scans.

        Parameters
        ----------
        outputs : sequence of ScanOutput
        patients : sequence of str
            Patient of each scan; two or more different ones.
        """
        scores = []
        for patient in sorted(set(patients)):
            others = [one for one, whose in zip(outputs, patients, strict=True) if whose != patient]
            own = [one for one, whose in zip(outputs, patients, strict=True) if whose == patient]
            scores.append(self._moved(others, len(set(patients)) - 1).scores(own))
        n_patients = len(set(patients))
        detector = self.detector.at_site(np.concatenate(scores), _weight(n_patients))
        return replace(self._moved(outputs, n_patients), detector=detector)

    def _moved(self, outputs: Sequence[ScanOutput], n_patients: int) -> "OperatingLimits":
        _, features, appearances = _stacked(outputs)
        weight = _weight(n_patients)
        return replace(
            self,
            gaussians=[one.at_site(found, weight) for one, found in zip(self.gaussians, features, strict=True)],
            appearances=[one.at_site(appearances, weight) for one in self.appearances],
        )

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
            "foreign": self.foreign,
            "gaussians": [gaussian.as_json() for gaussian in self.gaussians],
            "sites": [gaussian.as_json() for gaussian in self.sites],
            "appearances": [gaussian.as_json() for gaussian in self.appearances],
            **({"numbers": self.numbers.as_json()} if self.numbers else {}),
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
            foreign=values.get("foreign"),
            numbers=_numbers_in(values["numbers"]) if "numbers" in values else None,
        )


def _numbers_in(values: Mapping[str, Any]) -> NumberLimits | TimeLimits:
    return TimeLimits.from_json(values) if "risks" in values else NumberLimits.from_json(values)


def _weight(n_patients: int) -> float:
    return n_patients / (n_patients + PRIOR)


def _stacked(outputs: Sequence[ScanOutput]) -> tuple[Floats, list[Floats], Floats]:
    """Stack logits (n, K), features (n, p) of each member, and appearances (n, a) of scans."""
    logits, appearances = np.array([one.logits for one in outputs]), np.array([one.appearance for one in outputs])
    features = [np.array(of_member) for of_member in zip(*(one.features for one in outputs), strict=True)]
    return logits, features, appearances


def mean_distances(gaussians: Sequence[ClassGaussians], features: Sequence[Floats]) -> Floats:
    """Average over members the distances (n, number of groups) of features, (n, p) of each, to each mean."""
    return np.asarray(
        np.mean([gaussian.distances(one) for gaussian, one in zip(gaussians, features, strict=True)], axis=0)
    )
