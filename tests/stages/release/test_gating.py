"""Gates: a model that misses one is released as a candidate, and says so wherever it is named."""

import json

import pandas as pd

from pipeline import paths
from pipeline.bundle.layout import METADATA
from pipeline.stages.cohort.statements import FIELDS
from pipeline.stages.release.card import OPEN
from tests.stages.release.by_hand import NAME, evaluate_by_hand, train
from tests.stages.running import refusal, run

MET = {"min_auc_lower": 0.7, "slope": [0.5, 2.0], "min_events": 9, "card": ["intended_use"]}
OFF = ("max_external_drop", "min_subgroup_auc", "min_baseline_gain", "max_coverage_shortfall", "min_answered")
ASKED = MET | dict.fromkeys(OFF)


def told(gates):
    """What STATUS, metadata and card say, each by itself."""
    bundle = paths.bundle(NAME)
    status, *lines = (bundle / "STATUS").read_text().splitlines()
    metadata, card = json.loads((bundle / METADATA).read_text()), (bundle / "docs" / "README.md").read_text()
    assert metadata["status"] == status and f"**Status: {status}.**" in card
    assert metadata["gates"] == [json.loads(line) for line in lines]
    facts = json.loads((bundle / "evidence" / "key_facts.json").read_text())
    assert metadata["know_before_use"] == [fact["sentence"] for fact in facts[:5]]
    summary = card[card.index("## Summary") : card.index("## Intended use")]
    assert all(f"{number}. {said}" in summary for number, said in enumerate(metadata["know_before_use"], start=1))
    for gate in metadata["gates"]:
        assert f"| {gate['name']} | {gate['verdict']} |" in card
    return status, {gate["name"]: gate["verdict"] for gate in metadata["gates"]}, card


def test_status_metadata_and_card_agree_on_validated_or_candidate(
    calibrated,
    capsys,
):
    calibrated(split__folds=[0, 1, 2], release__gates=ASKED)
    train("0", "1", "2")
    evaluate_by_hand("ensemble", ["0", "1", "2"])
    texts = dict.fromkeys(FIELDS, "") | {"intended_use": "On <adults> & others."}
    paths.write_json(texts, paths.STATEMENTS)
    run("release")
    status, gates, card = told(ASKED)
    assert status == "validated" and all(verdict.startswith("Passed: ") for verdict in gates.values())
    assert len(gates) == 11 and f"Not required in this release: {', '.join(OFF)}." in card

    calibrated(split__folds=[0, 1, 2], release__gates={"min_auc_lower": 0.75, "min_events": 12})
    run("release")
    status, gates, card = told({})
    assert status == "candidate" and "Not required" not in card
    assert gates["discrimination"] == "Failed: lower limit 0.700, required 0.75"
    assert gates["events"] == "Failed: 9 events, 12 required"
    unknown = {name for name, verdict in gates.items() if verdict == "Failed: not evaluated"}
    on_test_set = {"external drop", "better than without images", "answered"}
    assert unknown == {*on_test_set, "worst subgroup", "prediction sets"}
    assert gates["card"] == "Failed: 5 of 6 required fields are empty"
    assert card.count(OPEN) == sum(not text for text in paths.read_json(paths.STATEMENTS).values()) > 5
    assert "events: Failed: 9 events, 12 required; events are cases of the rarest" in capsys.readouterr().out

    calibrated(split__folds=[0, 1, 2], release__gates=ASKED)
    images = pd.DataFrame({"class": ["well", "ill"], "n": [11, 3], "scope": "external"})
    paths.write_table(pd.concat([pd.read_csv(paths.PER_CLASS), images]), paths.PER_CLASS)
    summary = paths.read_json(paths.SPLIT_SUMMARY) | {"duplicates_across_test_boundary": 2}
    paths.write_json(summary, paths.SPLIT_SUMMARY)
    run("release")
    status, gates, _ = told(ASKED)
    assert {name for name, verdict in gates.items() if verdict.startswith("Failed")} == {
        "no leak"
    }  # events are internal ones

    assert texts["intended_use"].replace("<", "&lt;") in told(ASKED)[2]
    paths.write_json({field: f"About {field}." for field in FIELDS}, paths.STATEMENTS)
    group = {
        "column": "site",
        "value": "A|B <i>",
        "too_few": True,
        "of": "ill",
        "scope": "internal",
        "n": 4,
        "events": 1,
    }
    table = pd.concat([pd.read_csv(paths.assessed("subgroups")), pd.DataFrame([group])])
    paths.write_table(table, paths.assessed("subgroups"))
    run("release")
    card = told(ASKED)[2]
    assert OPEN not in card and "open:" not in card and all(f"About {field}." in card for field in FIELDS)
    assert "| internal | site A\\|B &lt;i> | ill | 4 (1) | too few | too few |" in card
    assert "| internal | site inside | ill | 20 (9) | 0.800 (0.700 to 0.900) | too few |" in card
    calibrated(split__folds=[0, 1, 2], release__gates=MET | {"card": ["intention"]})
    assert "release.gates.card names 'intention'" in refusal(capsys, "release")
    calibrated(split__folds=[0, 1, 2], release__gates={"min_auc": 0.5})
    assert "unknown key 'release.gates.min_auc'; the nearest known one is 'release.gates.min_" in refusal(
        capsys, "release"
    )
