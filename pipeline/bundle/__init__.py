"""Write, open, verify and run released bundles.

The names below are public: bundles carry them in `_target_`, and notebooks import them. They stay as they are from
release 0.1.0 on, wherever the code behind them moves. Each is imported when it is first used, so that opening a
bundle imports no torch.
"""

import importlib
from typing import Any

PUBLIC = {
    "Classifier": "pipeline.learning.models.classifier",
    "Ensemble": "pipeline.learning.models.ensemble",
    "Portfolio": "pipeline.learning.models.ensemble",
    "Prediction": "pipeline.bundle.predictor",
    "Predictor": "pipeline.bundle.predictor",
    "PrepareScand": "pipeline.bundle.transforms",
    "scans_in": "pipeline.bundle.transforms",
    "calibrator_from": "pipeline.metrics.calibrators.calibrator",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *PUBLIC])
