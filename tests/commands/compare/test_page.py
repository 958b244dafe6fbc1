"""The page that compares runs: its words, what it escapes, and that it needs neither script nor network."""

import re

import pytest

from pipeline.commands.compare.page import METRICS, WIDTH, difference, sets_of, write_comparison
from pipeline.stages.report.glossary import TERMS

OWN = {"value": 0.9, "lower": 0.85, "upper": 0.95}


def row(metric="auc", value=0.04, lower=0.01, upper=0.07, verdict="better", least=0.05):
    by = {"value": value, "lower": lower, "upper": upper, "se": 0.015, "minimum_detectable": least}
    return {"metric": metric, "reference": OWN, "run": OWN, "better_by": by, "verdict": verdict}


def section(run="new", scope="internal", **changes):
    metrics = [row(name, **changes) for name in METRICS]
    return {"scope": scope, "run": run, "words": "64 cases of 60 patients, evaluated by both", "metrics": metrics}


def page(names=("old", "new"), sections=None, parameters=None, files=None, simulated=False):
    files = {name: [] for name in names[1:]} if files is None else files
    given = {"parameters": parameters or {}, "files": files, "confidence": 0.9, "simulated": simulated}
    return write_comparison(list(names), sections or [section(names[1])], **given)


def test_every_metric_is_a_term_that_is_explained():
    assert set(METRICS.values()) <= set(TERMS)
    assert page().count("<abbr") >= len(METRICS)


def test_the_page_needs_neither_script_nor_network():
    written = page()
    assert (
        "<script" not in written
        and not re.search(r"(src|href)=", written)
        and "http" not in re.sub(r"http-equiv", "", written)
    )
    assert "default-src 'none'" in written and "prefers-color-scheme: dark" in written


def test_text_from_runs_and_parameters_stays_text():
    evil = "<script>alert(1)</script>"
    written = page(("old", evil), [section(evil)], {evil: [evil, "b"]}, {evil: [evil]})
    assert evil not in written and written.count("&lt;script&gt;") >= 5


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("better", "new is better</span>: its"),
        ("worse", "new is worse</span>: its"),
        ("no evidence", "No evidence that new is better or worse"),
        ("the same", "new ranks the cases as old does"),
        ("not computable", "new cannot be compared"),
    ],
)
def test_the_first_sentence_says_what_the_interval_allows(verdict, said):
    assert said in page(sections=[section(verdict=verdict)])


def test_unpaired_runs_are_shown_without_a_difference():
    alone = section()
    alone["metrics"] = [one | {"better_by": None, "verdict": "not compared"} for one in alone["metrics"]]
    written = page(sections=[alone])
    assert "<svg" not in written and written.count(">not compared<") == len(METRICS)
    assert written.count("0.900 <small>(0.850 to 0.950)") == 2 * len(METRICS)


def test_the_level_of_the_intervals_and_the_simulated_cases_are_told():
    assert "a level of 90%" in page() and "Simulated demo data" not in page()
    assert "Simulated demo data" in page(simulated=True)


def test_a_test_set_warns_of_choosing_by_it():
    assert "test set" not in page()
    assert "choosing by a test set" in page(sections=[section(), section(scope="external")])


def test_what_was_different_is_listed_or_said_not_to_be_known():
    written = page(parameters={"finetune.epochs": ["10", "20"]}, files={"new": ["pipeline/learning/training/loop.py"]})
    assert "<code>finetune.epochs</code></th><td>10</td><td>20</td>" in written
    assert "1 file differs: <code>pipeline/learning/training/loop.py</code>" in written
    assert "All parameters are the same." in page() and "unknown, because a run has no" in page(files={"new": None})


def test_all_runs_of_a_set_stand_together_patients_before_images():
    made = [section(run, scope) for run in "ab" for scope in ("internal_patients", "internal", "external")]
    found = sets_of(made)
    assert [one["heading"] for one in found] == [
        "internal validation",
        "internal validation, image by image",
        "external validation",
    ]
    assert all([run["run"] for run in one["runs"]] == ["a", "b"] for one in found)


def places(svg):
    return [float(re.search(rf'{name}="([-0-9.]+)"', svg.split(tag)[1])[1]) for tag, name in (("<circle", "cx"),)]


def test_an_improvement_is_drawn_right_of_the_middle_inside_the_chart():
    (better,), (worse,) = (places(difference(row(value=sign * 0.04), 0.07)) for sign in (1, -1))
    assert better > WIDTH / 2 > worse and better - WIDTH / 2 == pytest.approx(WIDTH / 2 - worse, abs=0.11)
    assert WIDTH / 2 < better < WIDTH


def test_all_runs_of_a_set_share_the_scale_of_a_metric():
    wide = section("wide", value=0.4, lower=0.1, upper=0.7)
    alone, beside = (sets_of(some)[0]["runs"][0]["metrics"][0]["svg"] for some in ([section()], [section(), wide]))
    assert places(beside)[0] - WIDTH / 2 < (places(alone)[0] - WIDTH / 2) / 5


def test_what_has_no_interval_is_not_drawn():
    assert difference(row(lower=None, upper=None, least=None), 0.1) == ""
    assert difference(row() | {"better_by": None}, 0.1) == ""
    assert difference(row(value=0.0, lower=0.0, upper=0.0, least=0.0), 0.0) == ""
