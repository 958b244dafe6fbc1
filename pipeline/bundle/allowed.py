"""What a bundle may hold and name, so that whatever opens it, ours or MONAI's, runs installed code only."""

import re
from collections.abc import Iterable
from typing import Any

CLASSIFIER = "pipeline.bundle.Classifier"
ENSEMBLE = "pipeline.bundle.Ensemble"
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
TARGETS = {CLASSIFIER, ENSEMBLE, PREPARATION, SCANS, CALIBRATOR, *OF_MONAI}
MOVED = ("pipeline.assessing.", "pipeline.imaging.", "pipeline.learning.")  # where bundles named code before 0.1.0
RUN = "$@evaluator.run()"  # the only expression that a bundle needs

# MONAI reads more of a folder than its bundle's configuration: of configs/logging.conf Python evaluates parts.
FILES = re.compile(
    r"LICENSE|STATUS|configs/(metadata|metadata_schema|inference|limits_of_use)\.json"
    r"|models/model\.(safetensors|pt|ts|onnx)|docs/(README\.md|sbom\.cdx\.json)"
    r"|phantoms/[\w-]+\.(json|nii\.gz|png)|monitoring/reference\.json|evidence/(split/)?[\w-]+\.(csv|json)"
)


def foreign_file(names: Iterable[str]) -> str | None:
    """Name a file, of paths relative to the bundle, that no bundle of ours holds."""
    return next((name for name in sorted(names) if not FILES.fullmatch(name)), None)


def foreign_code(values: Any) -> str | None:
    """Name a target, an expression or a macro of a configuration that is not one of ours."""
    if isinstance(values, dict):
        target = values.get("_target_")
        if "_target_" in values and not (isinstance(target, str) and target in TARGETS):
            return str(target)
        return next(filter(None, map(foreign_code, values.values())), None)
    if isinstance(values, list):
        return next(filter(None, map(foreign_code, values)), None)
    return values if isinstance(values, str) and values.startswith(("$", "%")) and values != RUN else None
