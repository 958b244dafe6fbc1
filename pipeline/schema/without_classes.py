"""What `cohort.task: regression` and `survival` do not support yet: a setting, its refused values, and the cure."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.schema.adapting import ALIGNMENT_LOSSES

if TYPE_CHECKING:
    from pipeline.schema import Params

Refused = Callable[[Any], bool]


def _one_of(*values: Any) -> Refused:
    return lambda value: value in values


OUTPUTS = {"regression": "number", "survival": "time"}  # by task without classes: what it is about

# By setting: when it is refused, why, and what to choose instead; {output} is a word of `OUTPUTS`.
REFUSED: dict[str, tuple[Refused, str]] = {
    "cohort.classes": (bool, "a {output} has no classes; set it to []"),
    "cohort.positive": (bool, "a {output} has no positive class; set it to null"),
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
        "it calibrates probabilities of classes; choose auto (the slope of the {output}) or none",
    ),
    "calibrate.form": (_one_of("ensemble"), "an ensemble of folds is released for classes only; choose refit"),
    "calibrate.per_patient": (_one_of("max"), "the highest probability of a class is meant; choose auto, mean or none"),
}


def problem_without_classes(params: "Params") -> str:
    """Say in sentences which settings do not suit a task without classes, or which it lacks; "" if all do."""
    cohort = params.cohort
    times = f"calibrate.times is {list(params.calibrate.times)}, but only survival has times; set it to []"
    found = [times] if params.calibrate.times and cohort.task != "survival" else []
    if cohort.task not in OUTPUTS:
        unit = f"cohort.unit is '{cohort.unit}', but only a regression and survival have a unit; set it to ''"
        return "; ".join(([unit] if cohort.unit else []) + found)
    found += _problems_of_unit(cohort.task, cohort.unit)
    for name, (refused, why) in REFUSED.items():
        section, key = name.split(".")
        value = getattr(getattr(params, section), key)
        if refused(value):
            shown = list(value) if isinstance(value, tuple) else value
            why = why.format(output=OUTPUTS[cohort.task])
            found.append(f"{name} is {shown}, but cohort.task is {cohort.task}: {why}")
    return "; ".join(found)


def _problems_of_unit(task: str, unit: str) -> list[str]:
    if task == "regression":
        return [] if unit else ["cohort.unit is empty, but a number needs its unit, e.g. ml or years; 1 for none"]
    return [] if unit not in ("", "1") else [f"cohort.unit is '{unit}', but a time needs its unit, e.g. months"]
