"""Collect what the model card shows."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from pipeline import paths
from pipeline.bundle.columns import FORMULAS
from pipeline.bundle.layout import LIMITS, WEIGHTS, sites_of
from pipeline.metrics.calibrators.calibrator import digest_of
from pipeline.metrics.evaluation import TaskSpec
from pipeline.metrics.wording import BOTH, COLUMNS, VERDICTS
from pipeline.schema import Params
from pipeline.stages.release.characteristics import characteristics
from pipeline.stages.release.gating import Assessment, scopes_of
from pipeline.stages.release.key_facts import to_know
from pipeline.stages.release.metric_tables import plain_rows, rows_with
from pipeline.stages.release.model import ReleasedModel, masks_of
from pipeline.stages.release.thresholds import thresholds_to_use

Config = dict[str, Any]

OF_A_CLASSIFIER = ("auc", "calibration_slope")
OF_A_GROUP = {"intervals": ("mae", "bias", "coverage"), "risks": ("c", "observed_expected", "integrated_brier")}
OF_A_TIME = ("auc", "brier", "null_brier", "observed_expected")
METRICS_OF_A_DECISION = ("threshold", "sensitivity", "specificity", "ppv", "npv")


@dataclass(frozen=True)
class Results:
    """What is measured before a bundle is written, for its metadata and its card.

    Attributes
    ----------
    assessment : Assessment
    exports : dict
        By format, its largest differences from the network, or why it was not shipped.
    preparation_parity : dict
        Largest difference between the bundle's preprocessing and the stored channels.
    released_on : str
        Date in UTC.
    """

    assessment: Assessment
    exports: Config
    preparation_parity: Config
    released_on: str


def card_values(bundle: Path, params: Params, model: ReleasedModel, results: Results) -> Config:
    """Collect what the model card shows."""
    assessment = results.assessment
    metrics, stamps = assessment.metrics, paths.read_json(paths.STAMPS)
    return {
        **params.release.model_dump(include={"name", "version", "description", "answered"}),
        "status": assessment.status,
        "metrics": metrics,
        "gates": [asdict(gate) for gate in assessment.gates],
        "gates_off": assessment.off,
        "statements": assessment.statements,
        "operating_points": rows_with(metrics, "operating_points", METRICS_OF_A_DECISION),
        "thresholds": []
        if model.of_output
        else thresholds_to_use(
            plain_rows(paths.assessed("operating_points")),
            scopes_of(metrics, stamps),
            paths.read_json(paths.THRESHOLDS),
        ),
        **of_output(model, metrics),
        "headlines": {scope: metrics[scope] for scope in scopes_of(metrics, stamps) if scope in metrics},
        "know_before_use": to_know(assessment.facts, assessment.checks),
        "released_on": results.released_on,
        "class_weights": params.finetune.class_weights,
        **data_of(model.members[0]),
        "geometry": paths.read_json(paths.GEOMETRY),
        "stamps": stamps,
        "per_patient": stamps["per_patient"],
        "form": model.form,
        "members": [member(name) for name in model.members],
        "provenance": model.provenance,
        "parameters": f"{sum(value.numel() for value in load_file(bundle / WEIGHTS).values()):,}",
        "exports": results.exports,
        "preparation_parity": results.preparation_parity,
        "signed": params.release.signing_key is not None,
        "sites": sorted(sites_of(model.network)),
        "calibrator": model.calibrator.as_json(),
        "digest": digest_of(model.calibrator),
        "increment": gains_of_the_image() if model.fusion else [],
        "verdicts": VERDICTS,
        "fusion": model.fusion.as_json() | {"formula": FORMULAS[model.fusion.activation]} if model.fusion else None,
        "masks": masks_of(model).words,
        "fitted_on": model.fitted_on["cases"],
        "confidence": params.calibrate.confidence,
        "operating_limits": paths.read_json(bundle / LIMITS),
    }


def of_output(model: ReleasedModel, metrics: dict[str, Config]) -> Config:
    """Read what depends on the task: metrics of subgroups, and, without classes, what stands in their place."""
    of_a_group = next((OF_A_GROUP[name] for name in model.of_output), OF_A_CLASSIFIER)
    return {
        "subgroups": rows_with(metrics, "subgroups", of_a_group),
        "baselines": plain_rows(paths.assessed("baselines")) if model.of_output else [],
        **{name: model.of_output.get(name) for name in OF_A_GROUP},
        "by_time": rows_with(metrics, "by_time", OF_A_TIME) if model.risks else [],
        "risk_groups": rows_with(metrics, "risk_groups", ("observed",)) if model.risks else [],
        "follow_up": plain_rows(paths.assessed("follow_up")) if model.risks else [],
    }


def gains_of_the_image() -> list[Config]:
    """Read what image and columns together gain over the columns alone, on each evaluated set.

    `first` names the metric of the verdict.
    """
    rows = plain_rows(paths.assessed("increment"))
    gains = [row for row in rows if (row["prediction"], row["over"]) == (BOTH, COLUMNS)]
    return [row | {"first": next(name for name in VERDICTS if name in row)} for row in gains]


def member(name: str) -> Config:
    """Read how a model was adapted and trained."""
    known = {"adaptation": paths.adaptation, "recipe": paths.recipe}
    return {"name": name} | {what: paths.read_json(file(name)) for what, file in known.items()}


def data_of(member: str) -> Config:
    """Describe the cases that the model was developed and evaluated on, as they were assigned to a member of it."""
    facts = paths.read_json(paths.COHORT_FACTS)
    return {
        "facts": facts,
        "classes": facts["classes"],
        "task": facts["task"],
        "split": paths.read_json(paths.SPLIT_SUMMARY),
        "characteristics": characteristics(member, TaskSpec(facts["classes"], facts["task"])),
    }
