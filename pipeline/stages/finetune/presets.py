"""What the `auto` values of the section `finetune` stand for; DVC watches this file as code of the stage."""

from pipeline.learning.models.tta import View
from pipeline.schema import Finetune, Full

PORTFOLIO, DISTILLED, FULL = "portfolio", "distilled", "full"
JOINT = (PORTFOLIO, DISTILLED)  # strategies that train `finetune.members`
WHOLE = (*JOINT, FULL)  # strategies that set no patient aside

PRESETS: dict[str, dict[str, object]] = {
    "quick": {"epochs": 6, "sides": (128, 160), "instances": 6, "seeds": 1},
    "standard": {"epochs": 12, "sides": (160, 224), "instances": 12, "seeds": 1},
    "best": {"epochs": 20, "sides": (160, 224), "instances": 32, "seeds": 3},
}
FEW = 100  # development cases below which `preset: auto` is quick


def with_preset(settings: Finetune, n_development: int) -> Finetune:
    """Return the settings with a preset in place of `auto`, by the number of development cases."""
    if settings.preset != "auto":
        return settings
    return settings.model_copy(update={"preset": "quick" if n_development < FEW else "standard"})


def full_of(settings: Finetune) -> Full:
    """Return `finetune.full` with the values of the preset in place of `auto`; the preset itself is not `auto`."""
    chosen = {key: value for key, value in PRESETS[settings.preset].items() if getattr(settings.full, key) == "auto"}
    return settings.full.model_copy(update=chosen)


def has_statistics_of_views(settings: Finetune) -> bool:
    """Tell whether `finetune.full.statistics` asks for views, with a value in place of `auto`."""
    asked = settings.full.statistics
    return settings.full.augmentation == "strong" if asked == "auto" else asked == "views"


def views_of(settings: Finetune) -> int:
    """Return `finetune.views` with a value in place of `auto`."""
    if settings.views != "auto":
        return settings.views
    return 0 if settings.strategy in WHOLE else 4


def augmentations_of(settings: Finetune) -> tuple[View, ...]:
    """Return `finetune.tta` with a value in place of `auto`."""
    if settings.tta != "auto":
        return settings.tta
    return ("mirror",) if settings.strategy in WHOLE else ()
