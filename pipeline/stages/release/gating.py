"""Evaluate the gates on the metrics, the stamps and card.yaml."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safetensors import safe_open

from pipeline import paths
from pipeline.errors import UserError
from pipeline.schema import Release
from pipeline.stages.cohort.statements import FIELDS
from pipeline.stages.release.gates import Gate, GateInputs, check_gates
from pipeline.stages.release.metric_tables import read_metrics

Config = dict[str, Any]

BANK = "head.bank"  # the weights of a nearest-neighbour head


@dataclass(frozen=True)
class Assessment:
    """The gates, the names of those that are `off`, the metrics by scope, and the texts of card.yaml."""

    gates: list[Gate]
    off: list[str]
    metrics: dict[str, Config]
    statements: dict[str, str]

    @property
    def status(self) -> str:
        """The status: "validated" if every gate is passed, else "candidate"."""
        return "validated" if all(gate.passed for gate in self.gates) else "candidate"


def assess(release: Release, members: Sequence[str]) -> Assessment:
    """Evaluate the gates; a gate that fails does not stop the release."""
    limits, stamps = release.gates, paths.read_json(paths.STAMPS)
    metrics = {scope: paths.read_json(paths.pooled_metrics(f"{scope}_calibrated")) for scope in stamps["scopes"]}
    statements = statements_for(limits.card)
    inputs = gate_inputs(
        metrics,
        stamps,
        statements,
        neighbours=sum(map(neighbours_in, members)),
        features_agreed=release.include_features,
    )
    gates = check_gates(inputs, limits.model_dump())
    off = [name for name, limit in limits.model_dump().items() if limit is None]
    return Assessment(gates, off, metrics, statements)


def statements_for(required: tuple[str, ...] | None) -> dict[str, str]:
    """Read the texts of card.yaml, and check that the fields which a gate requires exist."""
    if unknown := set(required or ()) - set(FIELDS):
        raise UserError(f"release.gates.card names '{min(unknown)}'; the fields of a card are {', '.join(FIELDS)}")
    found: dict[str, str] = paths.read_json(paths.STATEMENTS)
    return found


def neighbours_in(member: str) -> int:
    """Count the training cases whose features a nearest-neighbour member holds."""
    with safe_open(paths.model(member), "np") as weights:
        return int(weights.get_slice(BANK).get_shape()[0]) if BANK in weights.keys() else 0  # noqa: SIM118 - no mapping


def gate_inputs(
    metrics: dict[str, Config], stamps: Config, statements: dict[str, str], *, neighbours: int, features_agreed: bool
) -> GateInputs:
    """Collect what the gates evaluate: metrics of patients if there are any, else of images."""
    level = "_patients" if "internal_patients" in metrics else ""
    test = f"{stamps['test_set']['scope']}{level}"
    classes, subgroups = (read_metrics(file) for file in (paths.PER_CLASS, paths.assessed("subgroups")))
    return GateInputs(
        internal=metrics[f"internal{level}"],
        test=metrics.get(test),
        stamps=stamps,
        leaks=len(stamps["test_set"]["acknowledged_leaks"]),
        duplicates=paths.read_json(paths.SPLIT_SUMMARY)["duplicates_across_test_boundary"],
        classes=classes[classes["scope"] == f"internal{level}"],
        subgroups=subgroups[subgroups["scope"].isin([f"internal{level}", test])],
        statements=statements,
        neighbours=neighbours,
        features_agreed=features_agreed,
    )
