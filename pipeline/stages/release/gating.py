"""Evaluate the gates and find the key facts in what earlier stages wrote and in card.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from safetensors import safe_open

from pipeline import paths
from pipeline.errors import UserError
from pipeline.imaging.labels import REGRESSION, SURVIVAL
from pipeline.learning.models.encoder_catalogue import is_restricted
from pipeline.schema import Params
from pipeline.stages.cohort.statements import FIELDS
from pipeline.stages.release.gates import Gate, check_gates
from pipeline.stages.release.key_facts import Fact, key_facts
from pipeline.stages.release.measured import PATIENTS, Measured
from pipeline.stages.release.metric_tables import plain_rows, read_metrics
from pipeline.stages.release.model import ReleasedModel
from pipeline.stages.release.number_facts import NUMBER_CHECKS
from pipeline.stages.release.number_gates import NUMBER_GATES
from pipeline.stages.release.origin import origins_in
from pipeline.stages.release.time_facts import TIME_CHECKS
from pipeline.stages.release.time_gates import TIME_GATES

Config = dict[str, Any]

WITHOUT_CLASSES = {REGRESSION: (NUMBER_GATES, NUMBER_CHECKS), SURVIVAL: (TIME_GATES, TIME_CHECKS)}
BANK = "head.bank"  # the weights of a nearest-neighbour head


@dataclass(frozen=True)
class Assessment:
    """The gates and the names of those that are `off`, the key facts, the metrics by scope, the texts of card.yaml.

    `checks` names the checks of a task without classes; None for those of a classifier.
    """

    gates: list[Gate]
    off: list[str]
    facts: list[Fact]
    metrics: dict[str, Config]
    statements: dict[str, str]
    checks: tuple[str, ...] | None = None

    @property
    def status(self) -> str:
        """The status: "validated" if every gate is passed, else "candidate"."""
        return "validated" if all(gate.passed for gate in self.gates) else "candidate"


def assess(params: Params, model: ReleasedModel, statements: dict[str, str], limits: Config) -> Assessment:
    """Evaluate the gates and find the key facts; a gate that fails does not stop the release.

    Parameters
    ----------
    params : Params
    model : ReleasedModel
    statements : dict
        Texts of card.yaml by field.
    limits : dict
        As `operating_limits.limits_of` returns them.
    """
    stamps, values = paths.read_json(paths.STAMPS), params.release.gates.model_dump()
    gates, checks = WITHOUT_CLASSES.get(paths.read_json(paths.COHORT_FACTS)["task"], (None, None))
    metrics = {scope: paths.read_json(paths.pooled_metrics(f"{scope}_calibrated")) for scope in stamps["scopes"]}
    measured = Measured(
        **evaluated(metrics, stamps),
        **(of_numbers(params) if gates else tables(metrics, stamps, limits["limits"]["rules"])),
        **of_cohort(stamps),
        answered=limits["answered"],
        recipes={fold: recipe_of(fold) for fold in [*params.split.numbered, *model.members]},
        members=model.members,
        statements=statements,
        neighbours=sum(map(neighbours_in, model.members)),
        features_agreed=params.release.include_features,
        licences={licence: is_restricted(licence) for licence in licences_of(model.provenance)},
        non_commercial=params.release.non_commercial,
    )
    return Assessment(
        gates=check_gates(measured, values, gates),
        off=[name for name, limit in values.items() if limit is None and (gates is None or name in gates)],
        facts=key_facts(measured, values, checks),
        checks=tuple(checks) if checks else None,
        metrics=metrics,
        statements=statements,
    )


def statements_for(required: tuple[str, ...] | None) -> dict[str, str]:
    """Read the texts of card.yaml, and check that the fields which a gate requires exist."""
    if unknown := set(required or ()) - set(FIELDS):
        raise UserError(f"release.gates.card names '{min(unknown)}'; the fields of a card are {', '.join(FIELDS)}")
    found: dict[str, str] = paths.read_json(paths.STATEMENTS)
    return found


def neighbours_in(member: str) -> int:
    """Count the training cases whose features a nearest-neighbour member holds."""
    with safe_open(paths.model(member), "np") as weights:
        banks = [name for name in weights.keys() if name.endswith(BANK)]  # noqa: SIM118 - no mapping
        return max((int(weights.get_slice(name).get_shape()[0]) for name in banks), default=0)


def licences_of(provenance: Config) -> list[str]:
    """List the licences of the pretrained weights."""
    return list(dict.fromkeys(str(origin["licence"]) for origin in origins_in(provenance)))


def recipe_of(fold: str) -> Config:
    """Read by which training, adaptation and encoder the model of a fold was made."""
    adaptation = paths.read_json(paths.adaptation(fold))
    return {
        "training": paths.read_json(paths.recipe(fold))["strategy"],
        "adaptation": adaptation["method"],
        "encoder": adaptation["provenance"]["encoder"],
    }


def evaluated(metrics: Mapping[str, Config], stamps: Config) -> Config:
    """Choose the metrics of patients if there are any, else of images."""
    internal, test = scopes = scopes_of(metrics, stamps)
    return {"scopes": scopes, "internal": metrics[internal], "test": metrics.get(test), "stamps": stamps}


def scopes_of(metrics: Mapping[str, Config], stamps: Config) -> tuple[str, str]:
    """Name the internal set and the test set."""
    level = PATIENTS if f"internal{PATIENTS}" in metrics else ""
    return f"internal{level}", f"{stamps['test_set']['scope']}{level}"


def tables(metrics: Mapping[str, Config], stamps: Config, rules: Sequence[Config]) -> Config:
    """Read the tables of the evaluated sets; a table that does not apply, or was not measured, is empty.

    Of conformal sets those are read that are made like the released ones: for all patients, or for each class.
    """
    scopes = scopes_of(metrics, stamps)
    classes, subgroups = (read_metrics(file) for file in (paths.PER_CLASS, paths.assessed("subgroups")))
    by = "class" if any(rule["sets"]["by"] == "class" for rule in rules) else "all"
    sets = [row for row in plain_rows(paths.assessed("conformal")) if (row["kind"], row["by"]) == ("marginal", by)]
    return {
        "classes": classes[classes["scope"] == scopes[0]],
        "subgroups": subgroups[subgroups["scope"].isin(scopes)],
        "baselines": plain_rows(paths.assessed("baselines")),
        "columns": plain_rows(paths.assessed("inputs")),
        "decisions": plain_rows(paths.assessed("decision_curve")),
        "coverage": sets,
        "differences": plain_rows(paths.evidence("differences")),
    }


def of_numbers(params: Params) -> Config:
    """Read the tables of a task without classes; those about classes have no rows."""
    nothing: Config = {name: [] for name in ("decisions", "coverage", "differences")}
    inputs = paths.assessed("inputs")
    nothing["columns"] = plain_rows(inputs) if inputs.exists() else []
    tables = {"classes": pd.DataFrame(), "subgroups": pd.DataFrame(), **nothing}
    tables |= {"baselines": plain_rows(paths.assessed("baselines"))}
    return tables | {"promised": params.calibrate.set_coverage, "unit": params.cohort.unit}


def of_cohort(stamps: Config) -> Config:
    """Read what the cohort and its split say."""
    facts, split = paths.read_json(paths.COHORT_FACTS), paths.read_json(paths.SPLIT_SUMMARY)
    return {
        "patients_known": facts["patients_known"],
        "binary": len(facts["classes"]) == 2 and facts["task"] != "multilabel",
        "test_cases": split["cases"].get("test", 0),
        "leaks": len(stamps["test_set"]["acknowledged_leaks"]),
        "duplicates": split["duplicates_across_test_boundary"],
    }
