"""The files, code and expressions that a bundle may hold, so that opening it runs installed code only."""

import re
from collections.abc import Iterable
from typing import Any

CLASSIFIER = "pipeline.bundle.Classifier"
ENSEMBLE = "pipeline.bundle.Ensemble"
PORTFOLIO = "pipeline.bundle.Portfolio"
PREPARATION = "pipeline.bundle.PrepareScand"
SCANS = "pipeline.bundle.scans_in"
CALIBRATOR = "pipeline.bundle.calibrator_from"
OF_MONAI = (
    "Activationsd",
    "CheckpointLoader",
    "ClassificationSaver",
    "Compose",
    "DataLoader",
    "Dataset",
    "ScaleIntensityd",
    "SimpleInferer",
    "SupervisedEvaluator",
    "monai.handlers.from_engine",
    "torch.device",
)
TARGETS = {CLASSIFIER, ENSEMBLE, PORTFOLIO, PREPARATION, SCANS, CALIBRATOR, *OF_MONAI}
MOVED = ("pipeline.assessing.", "pipeline.imaging.", "pipeline.learning.")  # where bundles named code before 0.1.0
RUN = "$@evaluator.run()"  # the only expression that a bundle needs

# MONAI also reads files that no configuration names: Python evaluates parts of configs/logging.conf.
FILES = re.compile(
    r"LICENSE|STATUS|configs/(metadata|metadata_schema|inference|operating_limits|limits_of_use|columns)\.json"
    r"|models/model\.(safetensors|pt|ts|onnx)|docs/(README\.md|sbom\.cdx\.json)"
    r"|phantoms/[\w-]+\.(json|nii\.gz|png)|monitoring/reference\.json|evidence/(split/)?[\w-]+\.(csv|json)"
)


def unknown_file(names: Iterable[str]) -> str | None:
    """Find a file, by its path relative to the bundle, that is not on the allow-list."""
    return next((name for name in sorted(names) if not FILES.fullmatch(name)), None)


def unknown_code(values: Any) -> str | None:
    """Find a target, expression or macro of a configuration that is not on the allow-list."""
    if isinstance(values, dict):
        target = values.get("_target_")
        if "_target_" in values and not (isinstance(target, str) and target in TARGETS):
            return str(target)
        return next(filter(None, map(unknown_code, values.values())), None)
    if isinstance(values, list):
        return next(filter(None, map(unknown_code, values)), None)
    return values if isinstance(values, str) and values.startswith(("$", "%")) and values != RUN else None
