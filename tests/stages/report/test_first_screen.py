"""The first screen, from plain values: what to know before use, gates and thresholds."""

from pipeline.stages.release.key_facts import CHECKS
from pipeline.stages.report.first_screen import to_know_first
from pipeline.stages.report.page import HERE, templates
from pipeline.stages.report.tasks import words_of
from tests.stages.report.page import text_of

METRIC = {"value": 0.9, "lower": 0.8, "upper": 0.95}
SET = {"n": 24, "patients": 24, "events": 12, "auc": METRIC, "calibration_slope": METRIC, "auc_of_site_alone": None}
FAILED = {"name": "events", "passed": False, "verdict": "Failed: 12 events, 100 required"}
PASSED = {"name": "no leak", "passed": True, "verdict": "Passed: no leak was found"}
SCREEN = {
    **{"title": "Ill or well", "about": "24 images."},
    **{"stamps": {"simulated": False, "evaluated_images_seen": False}, "doubts": [], "never": {"rows": []}},
    **{"patients_first": True, "unit": "patient", "internal": SET, "test": SET, "test_scope": "external"},
    **{"words_of_task": words_of("multiclass", ["well", "ill"], "mean"), "classes": ["well", "ill"]},
    **{"status": "candidate", "gates": [PASSED, FAILED], "several_sites": True, "thresholds": [], "no_finding": ""},
}


def fact(kind, anchor="folds"):
    return {"kind": kind, "sentence": f"About {kind}.", "anchor": anchor}


def screen(*facts, **changes):
    values = SCREEN | {"know": to_know_first(facts)} | changes
    values["stamps"] = {"test_set": {"acknowledged_leaks": [], "shown": True}, **values["stamps"]}
    return templates().get_template("first_screen.html").render(**values)


def test_five_facts_stand_open_and_those_with_a_banner_are_not_repeated():
    kinds = [*CHECKS][:9]
    found = to_know_first([fact(kind) for kind in kinds])
    told = [kind for kind in kinds if kind not in ("simulated scans", "leak", "evaluated images seen")]
    assert [[one["kind"] for one in found[part]] for part in ("first", "more")] == [told[:5], told[5:]]


def test_a_fact_links_to_the_section_with_its_numbers():
    markup = screen(fact("prediction sets", "certainty"))
    assert 'About prediction sets. <a href="#certainty">Certainty</a>' in markup
    pages = "".join(file.read_text() for file in HERE.glob("*.html"))
    assert all(f'id="{anchor}"' in pages for _, anchor in CHECKS.values())


def test_without_a_fact_the_checks_are_named():
    assert "What to know before you use it No serious finding." in text_of(screen(no_finding="No serious finding."))
    assert "What to know" not in screen()


def test_failed_gates_are_named_with_the_number_that_decides():
    said = text_of(screen())
    assert "Failed gates: events (12 events, 100 required)." in said and "1 of 2 gates passed" in said
    assert "no leak" not in said and "Failed gates" not in text_of(screen(gates=[PASSED]))


def test_an_auc_of_the_site_below_one_half_is_no_signal():
    assert "site alone, mean of folds: 0.35 (no signal, because it is below 0.50)" in text_of(
        screen(internal=SET | {"auc_of_site_alone": 0.35})
    )
    assert "no signal" not in text_of(screen(internal=SET | {"auc_of_site_alone": 0.5}))


def test_the_positive_class_is_named():
    assert "24 images. Events are cases of ill." in text_of(screen())


def test_one_threshold_for_each_operating_point_is_named():
    points = [{"threshold": 0.4306, "aim": "specificity 0.90", "chosen": "chosen on all development cases"}]
    said = text_of(screen(thresholds=points))
    assert "Threshold to use: 0.431 for specificity 0.90; chosen on all development cases" in said


def test_a_failed_gate_leads_to_its_metric():
    gates = [FAILED | {"name": "calibration slope"}, FAILED | {"name": "card"}]
    markup = screen(gates=gates)
    assert '<a href="#calibration">calibration slope</a> (12 events' in markup
    assert "; card (12 events" in markup  # no metric decides it
