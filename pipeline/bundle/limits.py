"""The limits within which a released model answers: what goes with it, and what they say of one scan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.decision import Rule, told
from pipeline.metrics.ood import Alarm, Cloud, energy, share_beyond, signs_of

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
        The same with its figures.
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
    """All of it, as it goes with a model; see `answers` and `outliers`.

    Attributes
    ----------
    rules : list of Rule
    clouds, sites : list of Cloud
        Of the classes and of the sites in each member; distances are averaged over members. None of sites where they
        are not known.
    looks : list of Cloud
        Of what the training cases of each member look like, see `imaging.appearance`.
    alarm : Alarm
    usual_site : tuple of float
        Quantiles of the distance to the nearest site; empty where they are not known.
    several : bool
        Whether labels stand each by itself.
    """

    rules: list[Rule]
    clouds: list[Cloud]
    sites: list[Cloud]
    looks: list[Cloud]
    alarm: Alarm
    usual_site: tuple[float, ...]
    several: bool

    def judge(
        self,
        logits: Floats,
        features: Sequence[Floats],
        appearance: Floats,
        probabilities: Floats,
        classes: Sequence[str],
    ) -> Verdict:
        """Judge a scan by its logits (K,), each member's features (p,), its appearance (a,) and probabilities (K,)."""
        score = self.score(logits, features, appearance)
        members, unsure = told(self.rules, probabilities, classes)
        reasons = {}
        if self.alarm.rings(score):
            reasons[UNLIKE] = f"{UNLIKE}: score {score[0]:.2f} is above {self.alarm.threshold:.2f}"
        if unsure:
            reasons[UNSURE] = f"{UNSURE}: {', '.join(unsure)}"
        nearest, share = "", None
        if self.sites:
            apart = mean_distances(self.sites, [one[None] for one in features])[0]
            nearest = list(self.sites[0].means)[int(apart.argmin())]
            share = share_beyond(float(apart.min()), self.usual_site) if self.usual_site else None
        return Verdict(members, tuple(reasons), "; ".join(reasons.values()), float(score[0]), nearest, share)

    def score(self, logits: Floats, features: Sequence[Floats], appearance: Floats) -> Floats:
        """Score (1,) how far one scan is from the development scans, as `alarm` does."""
        apart = mean_distances(self.clouds, [one[None] for one in features]).min(axis=1)
        looks = mean_distances(self.looks, [appearance[None]] * len(self.looks)).min(axis=1)
        return self.alarm.score(signs_of(energy(logits[None], self.several), apart, looks))

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return {
            "rules": [rule.as_json() for rule in self.rules],
            "alarm": self.alarm.as_json(),
            "usual_site": list(self.usual_site),
            "several": self.several,
            "clouds": [cloud.as_json() for cloud in self.clouds],
            "sites": [cloud.as_json() for cloud in self.sites],
            "looks": [cloud.as_json() for cloud in self.looks],
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
        clouds, sites, looks = ([Cloud.from_json(one) for one in values[what]] for what in ("clouds", "sites", "looks"))
        usual = tuple(values["usual_site"])
        return cls(rules, clouds, sites, looks, Alarm.from_json(values["alarm"]), usual, bool(values["several"]))


def mean_distances(clouds: Sequence[Cloud], features: Sequence[Floats]) -> Floats:
    """Average over members the distances (n, number of groups) of features, (n, p) of each, to each mean."""
    return np.asarray(np.mean([cloud.distances(one) for cloud, one in zip(clouds, features, strict=True)], axis=0))
