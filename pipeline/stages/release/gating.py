"""Whether a model may be called validated: its figures, its stamps and what people said, held against the gates."""

from dataclasses import dataclass
from typing import Any

from safetensors import safe_open

from pipeline import paths
from pipeline.errors import Refusal
from pipeline.schema import Release
from pipeline.stages.release.enclosed import read_figures
from pipeline.stages.release.gates import Gate, Shown, check_gates
from pipeline.stages.release.statements import FIELDS, BadStatements, read_statements

Config = dict[str, Any]

BANK = "head.bank"  # of a head whose nearest neighbours vote


@dataclass(frozen=True)
class Judgement:
    """What is known of the model when it is packed: gates, those switched `off`, figures by scope, what people said."""

    gates: list[Gate]
    off: list[str]
    figures: dict[str, Config]
    statements: dict[str, str]

    @property
    def status(self) -> str:
        """Call it validated if it passes every gate."""
        return "validated" if all(gate.passed for gate in self.gates) else "candidate"


def judge(release: Release, members: list[str]) -> Judgement:
    """Hold figures, stamps, statements and what the members hold against the gates; a failing one blocks nothing."""
    limits, stamps = release.gates, paths.read_json(paths.STAMPS)
    figures = {scope: paths.read_json(paths.pooled_metrics(f"{scope}_calibrated")) for scope in stamps["scopes"]}
    statements = statements_for(limits.card)
    seen = shown(figures, stamps, statements, sum(map(neighbours_in, members)), release.include_features)
    gates = check_gates(seen, limits.model_dump())
    off = [name for name, limit in limits.model_dump().items() if limit is None]
    return Judgement(gates, off, figures, statements)


def statements_for(required: tuple[str, ...] | None) -> dict[str, str]:
    """Read card.yaml, and make sure that the fields which a gate asks for are fields."""
    if unknown := set(required or ()) - set(FIELDS):
        raise Refusal(f"release.gates.card names '{min(unknown)}'; the fields of a card are {', '.join(FIELDS)}")
    try:
        return read_statements(paths.STATEMENTS)
    except BadStatements as error:
        raise Refusal(str(error)) from error


def neighbours_in(member: str) -> int:
    """Count the training cases whose features a member holds, to let them vote."""
    with safe_open(paths.model(member), "np") as weights:
        return int(weights.get_slice(BANK).get_shape()[0]) if BANK in weights.keys() else 0  # noqa: SIM118 - no mapping


def shown(
    figures: dict[str, Config], stamps: Config, statements: dict[str, str], neighbours: int, features_agreed: bool
) -> Shown:
    """Collect what the gates judge: patients where they have figures of their own, else images."""
    level = "_patients" if "internal_patients" in figures else ""
    locked = f"{stamps['locked_set']['scope']}{level}"
    classes, subgroups = (read_figures(file) for file in (paths.PER_CLASS, paths.assessed("subgroups")))
    return Shown(
        internal=figures[f"internal{level}"],
        locked=figures.get(locked),
        stamps=stamps,
        leaks=len(stamps["locked_set"]["acknowledged_leaks"]),
        copies=paths.read_json(paths.SPLIT_SUMMARY)["copies_across_locked_door"],
        classes=classes[classes["scope"] == f"internal{level}"],
        subgroups=subgroups[subgroups["scope"].isin([f"internal{level}", locked])],
        statements=statements,
        neighbours=neighbours,
        features_agreed=features_agreed,
    )
