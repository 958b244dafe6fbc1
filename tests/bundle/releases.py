"""Bundles with all that `release` puts into one."""

import json

from pipeline.bundle.layout import CARD, EXPECTED, METADATA, STATUS
from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.opening import open_bundle
from pipeline.bundle.scoring import Scorer, outcomes, processor
from pipeline.stages.release.card import OPEN, TEMPLATE
from pipeline.stages.release.phantoms import write_phantoms
from tests.bundle.bundles import written

GATES = [{"name": "events", "passed": False}, {"name": "no leak", "passed": True}]
TITLES = [line[3:] for line in TEMPLATE.read_text().splitlines() if line.startswith("## ")]


def released(folder):
    """A bundle with all that a release has."""
    written(folder)
    metadata = json.loads((folder / METADATA).read_text()) | {"gates": GATES}
    (folder / METADATA).write_text(json.dumps(metadata))
    (folder / STATUS).write_text("\n".join(["candidate", *map(json.dumps, GATES)]) + "\n")
    (folder / CARD).parent.mkdir()
    sections = "".join(f"## {title}\n\nwords\n\n" for title in TITLES)
    (folder / CARD).write_text(f"# model\n\n**Status: candidate.**\n{OPEN}\n\n{sections}")
    write_manifest(folder, {})
    opened = open_bundle(folder)
    (folder / EXPECTED).parent.mkdir()
    files = write_phantoms((folder / EXPECTED).parent, "volume")
    found = outcomes(Scorer(opened.network, opened.weights, opened.preparation), files)
    expected = {"scans": found, "computed_on": processor(), "tolerance": 1e-3}
    (folder / EXPECTED).write_text(json.dumps(expected))
    write_manifest(folder, {})
    return folder
