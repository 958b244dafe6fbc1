"""Whether a model may be called validated: its metrics, its stamps and what people said, held against the gates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safetensors import safe_open

from pipeline import paths
from pipeline.errors import UserError
from pipeline.schema import Release
from pipeline.stages.release.gates import Gate, Shown, check_gates
from pipeline.stages.release.metric_tables import read_metrics
from pipeline.stages.release.statements import FIELDS, BadStatements, read_statements

Config = dict[str, Any]

BANK = "head.bank"  # of a head whose nearest neighbours vote


@dataclass(frozen=True)
class Assessment:
    """What is known of the model when it is packed: gates, those switched `off`, metrics by scope, what people said."""

    gates: list[Gate]
    off: list[str]
    metrics: dict[str, Config]
    statements: dict[str, str]

    @property
    def status(self) -> str:
        """Call it validated if it passes every gate."""
        return "validated" if all(gate.passed for gate in self.gates) else "candidate"


def assess(release: Release, members: Sequence[str]) -> Assessment:
    """Hold metrics, stamps, statements and what the members hold against the gates; a failing one blocks nothing."""
    limits, stamps = release.gates, paths.read_json(paths.STAMPS)
    metrics = {scope: paths.read_json(paths.pooled_metrics(f"{scope}_calibrated")) for scope in stamps["scopes"]}
    statements = statements_for(limits.card)
    seen = shown(metrics, stamps, statements, sum(map(neighbours_in, members)), release.include_features)
    gates = check_gates(seen, limits.model_dump())
    off = [name for name, limit in limits.model_dump().items() if limit is None]
    return Assessment(gates, off, metrics, statements)


def statements_for(required: tuple[str, ...] | None) -> dict[str, str]:
    """Read card.yaml, and make sure that the fields which a gate asks for are fields."""
    if unknown := set(required or ()) - set(FIELDS):
        raise UserError(f"release.gates.card names '{min(unknown)}'; the fields of a card are {', '.join(FIELDS)}")
    try:
        return read_statements(paths.STATEMENTS)
    except BadStatements as error:
        raise UserError(str(error)) from error


def neighbours_in(member: str) -> int:
    """Count the training cases whose features a member holds, to let them vote."""
    with safe_open(paths.model(member), "np") as weights:
        return int(weights.get_slice(BANK).get_shape()[0]) if BANK in weights.keys() else 0  # noqa: SIM118 - no mapping


def shown(
    metrics: dict[str, Config], stamps: Config, statements: dict[str, str], neighbours: int, features_agreed: bool
) -> Shown:
    """Collect what the gates evaluate: patients where they have metrics of their own, else images."""
    level = "_patients" if "internal_patients" in metrics else ""
    test = f"{stamps['test_set']['scope']}{level}"
    classes, subgroups = (read_metrics(file) for file in (paths.PER_CLASS, paths.assessed("subgroups")))
    return Shown(
        internal=metrics[f"internal{level}"],
        test=metrics.get(test),
        stamps=stamps,
        leaks=len(stamps["test_set"]["acknowledged_leaks"]),
        copies=paths.read_json(paths.SPLIT_SUMMARY)["duplicates_across_test_boundary"],
        classes=classes[classes["scope"] == f"internal{level}"],
        subgroups=subgroups[subgroups["scope"].isin([f"internal{level}", test])],
        statements=statements,
        neighbours=neighbours,
        features_agreed=features_agreed,
    )
