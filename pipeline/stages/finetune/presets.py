"""What the `auto` values of the section `finetune` stand for; DVC watches this file as code of the stage."""

from pipeline.learning.models.tta import View
from pipeline.schema import Finetune, Full

PORTFOLIO, FULL = "portfolio", "full"

PRESETS: dict[str, dict[str, object]] = {
    "quick": {"epochs": 6, "sides": (96, 128), "instances": 3, "seeds": 1},
    "standard": {"epochs": 12, "sides": (128, 160), "instances": 4, "seeds": 1},
    "best": {"epochs": 20, "sides": (128, 160, 224), "instances": 8, "seeds": 3},
}


def full_of(settings: Finetune) -> Full:
    """Return `finetune.full` with the values of the preset in place of `auto`."""
    chosen = {key: value for key, value in PRESETS[settings.preset].items() if getattr(settings.full, key) == "auto"}
    return settings.full.model_copy(update=chosen)


def augmentations_of(settings: Finetune) -> tuple[View, ...]:
    """Return `finetune.tta` with a value in place of `auto`."""
    if settings.tta != "auto":
        return settings.tta
    return ("mirror",) if settings.strategy in (PORTFOLIO, FULL) else ()
