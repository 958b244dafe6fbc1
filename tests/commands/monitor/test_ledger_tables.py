"""A ledger is monitored as the table of the same scans is; labels arrive by accession number."""

import json

import pandas as pd
import pytest

from pipeline.commands.ledger import Ledger
from pipeline.commands.monitor.ledger_tables import as_tables
from pipeline.commands.monitor.scans import read_monitored
from pipeline.errors import UserError

CLASSES = ["control", "lesion"]


@pytest.fixture
def ledger(tmp_path):
    """A ledger of two studies, the first with two scans, and of another bundle; its last line is cut off."""
    with Ledger(tmp_path / "ledger") as one:
        for key, accession, share in (("case-a", "ACC1", 0.25), ("case-b", "ACC1", 0.5), ("case-c", "ACC2", 0.75)):
            row = {"scan": key, "control": 1 - share, "lesion": share, "abstains": "", "patient": f"of {accession}"}
            known = {"accession": one.pseudonym("accession", accession), "sha256": "mine"}
            one.add(key, "answered", "", scans=[row], **known)
        one.add("case-d", "left out", "modality SR is not one of MR", sha256="mine")
        one.add("case-e", "answered", "", sha256="other", scans=[{"scan": "case-e", "control": 1, "lesion": 0}])
    with (tmp_path / "ledger" / "ledger.jsonl").open("a") as file:
        file.write('{"series"')
    return tmp_path / "ledger"


def labels_in(tmp_path, names, column="accession"):
    pd.DataFrame({column: names, "label": ["lesion"] * len(names)}).to_csv(tmp_path / "labels.csv", index=False)
    return str(tmp_path / "labels.csv")


def test_answers_of_this_bundle_are_read_with_labels_by_accession(ledger, tmp_path):
    with as_tables(ledger, labels_in(tmp_path, ["ACC1"]), "mine") as (results, labels):
        found = read_monitored(results, labels, CLASSES, False)
    scans = found.scans.set_index("scan")
    assert scans["lesion"].to_dict() == {"case-a": 0.25, "case-b": 0.5, "case-c": 0.75}
    assert scans["label"].dropna().to_dict() == {"case-a": "lesion", "case-b": "lesion"}
    assert found.dated and list(found.patients["scan"]) == ["case-a", "case-c"]
    assert not results.exists()


def test_labels_by_pseudonym_or_scan_are_read_too(ledger, tmp_path):
    first = json.loads((ledger / "ledger.jsonl").read_text().splitlines()[0])["accession"]
    for names, column in (([first], "accession"), (["case-a", "case-b"], "scan")):
        with as_tables(ledger, labels_in(tmp_path, names, column), "mine") as (results, labels):
            found = read_monitored(results, labels, CLASSES, False)
        assert found.scans["label"].notna().sum() == 2


def test_a_strange_accession_or_bundle_is_refused(ledger, tmp_path):
    with (
        pytest.raises(UserError, match="1 accession numbers are not in the ledger"),
        as_tables(ledger, labels_in(tmp_path, ["ACC1", "ACC9"]), "mine"),
    ):
        pass
    with pytest.raises(UserError, match="no answer of this bundle"), as_tables(ledger, None, "third"):
        pass
