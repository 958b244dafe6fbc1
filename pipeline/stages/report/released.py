"""Collect what the page says of the released model: status, gates, key facts, origin."""

import json
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.errors import UserError
from pipeline.params import cohort_name
from pipeline.schema import FINAL, Params
from pipeline.stages.calibrate.openings import openings_of
from pipeline.stages.release.origin import origin_of
from pipeline.stages.report.first_screen import to_know_first
from pipeline.stages.report.provenance import provenance_of


def released(params: Params) -> dict[str, Any]:
    """Collect the verdict on what is released, what to know of it before use, and where it comes from."""
    bundle = paths.bundle(params.release.name)
    if not (bundle / "STATUS").exists():
        raise UserError(f"{bundle} is not there yet: `dvc repro` runs the stage release, which writes it")
    status, *gates = (bundle / "STATUS").read_text().splitlines()
    facts, metadata, manifest = (
        read_if_there(bundle / name) for name in ("evidence/key_facts.json", "configs/metadata.json", "MANIFEST.json")
    )
    encoder = origin_of(told_of(params))
    openings, unnamed = openings_of(paths.OPENINGS, cohort_name(params.cohort.path))
    return {
        "status": status,
        "gates": [json.loads(gate) for gate in gates],
        "know": to_know_first(facts or []),
        "no_finding": "" if facts or metadata is None else metadata["know_before_use"][0],
        "bundle": str(bundle),
        "openings": openings,
        "openings_of_no_cohort": unnamed,
        "origin": provenance_of(encoder, manifest),
    }


def read_if_there(file: Path) -> Any:
    """Read plain values, or None if the file was not written."""
    return paths.read_json(file) if file.exists() else None


def told_of(params: Params) -> str:
    """Name the fold that is told in words: the released model, or else the first."""
    return FINAL if FINAL in params.split.folds else params.split.folds[0]
