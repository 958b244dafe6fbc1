"""What `cohort.task: regression` does not support yet, in one table: a setting, its refused values, and the cure."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.schema.adapting import ALIGNMENT_LOSSES

if TYPE_CHECKING:
    from pipeline.schema import Params

Refused = Callable[[Any], bool]


def _one_of(*values: Any) -> Refused:
    return lambda value: value in values


# By setting: when it is refused, why, and what to choose instead.
REFUSED: dict[str, tuple[Refused, str]] = {
    "cohort.classes": (bool, "a number has no classes; set it to []"),
    "cohort.positive": (bool, "a number has no positive class; set it to null"),
    "cohort.inputs": (bool, "columns are fused with classes only; set it to []"),
    "adapt.method": (
        _one_of("auto", *ALIGNMENT_LOSSES),
        "its choice or its loss needs classes; choose none, adabn, nyul, histogram, adabn_per_site, combat, simclr, "
        "vicreg, byol or masked",
    ),
    "adapt.test_time_steps": (bool, "it lowers the entropy of classes; set it to 0"),
    "finetune.strategy": (
        _one_of("knn", "distilled", "auto"),
        "it votes for, teaches or compares classes; choose portfolio, probe, last_stage, lp_ft, gradual, lora or full",
    ),
    "finetune.members": (lambda names: "knn" in names, "neighbours vote for classes; choose probe, full or both"),
    "finetune.mix": (_one_of("mixup", "cutmix"), "it blends classes; set it to none"),
    "finetune.class_weights": (_one_of("sampling"), "it samples classes; set it to none"),
    "calibrate.method": (
        lambda name: name not in ("auto", "none"),
        "it calibrates probabilities; choose auto (slope and intercept of the value) or none",
    ),
    "calibrate.form": (_one_of("ensemble"), "an ensemble of folds is released for classes only; choose refit"),
    "calibrate.per_patient": (_one_of("max"), "the highest probability of a class is meant; choose auto, mean or none"),
}


def problem_of_regression(params: "Params") -> str:
    """Say in sentences which settings do not suit a regression, or which it lacks; "" if all do."""
    cohort = params.cohort
    if cohort.task != "regression":
        return f"cohort.unit is '{cohort.unit}', but only a regression has a unit; set it to ''" if cohort.unit else ""
    found = [] if cohort.unit else ["cohort.unit is empty, but a number needs its unit, e.g. ml or years; 1 for none"]
    for name, (refused, why) in REFUSED.items():
        section, key = name.split(".")
        value = getattr(getattr(params, section), key)
        if refused(value):
            shown = list(value) if isinstance(value, tuple) else value
            found.append(f"{name} is {shown}, but cohort.task is regression: {why}")
    return "; ".join(found)
