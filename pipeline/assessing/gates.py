"""What a model must show before it is called validated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gate:
    """One condition, whether it holds, and the figures behind it in a sentence."""

    name: str
    passed: bool
    detail: str


def check_gates(internal: Mapping[str, Any], stamps: Mapping[str, Any], min_auc_lower: float) -> list[Gate]:
    """Judge a released model by its cross-fitted internal figures and by what was let through.

    Parameters
    ----------
    internal : mapping
        Figures as `summary.summarise` returns them, calibrated and cross-fitted.
    stamps : mapping
        `locked_set.acknowledged_leaks`, `judged_images_seen`, `simulated`.
    min_auc_lower : float
        Least lower bound of the AUC's interval.
    """
    auc, slope = internal["auc"], internal["calibration_slope"]
    leaks = stamps["locked_set"]["acknowledged_leaks"]
    return [
        Gate(
            "discrimination",
            auc["lower"] is not None and auc["lower"] >= min_auc_lower,
            f"internal AUC {_show(auc)}; the lower bound must reach {min_auc_lower:g}",
        ),
        Gate(
            "calibration slope",
            slope["lower"] is not None and slope["lower"] <= 1 <= slope["upper"],
            f"internal slope {_show(slope)}; its interval must hold 1",
        ),
        Gate("no leak", not leaks, f"{len(leaks)} patients or images acknowledged on both sides of the locked door"),
        Gate(
            "judged images unseen",
            not stamps["judged_images_seen"],
            "adaptation may not see the images it is judged on",
        ),
        Gate("real patients", not stamps["simulated"], "a model of simulated scans is never validated"),
    ]


def _show(figure: Mapping[str, Any]) -> str:
    if figure["lower"] is None:
        return "not computable"
    return f"{figure['value']:.3f} ({figure['lower']:.3f} to {figure['upper']:.3f})"
