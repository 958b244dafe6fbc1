"""Times until an event, from the cohort to `predict`, `verify`, ONNX Runtime and MONAI's `run`."""

import html
import re
import shutil

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from pipeline import paths
from pipeline.__main__ import main
from pipeline.bundle import Predictor
from pipeline.imaging.labels import times_of
from pipeline.metrics.survival.cox import baseline_hazard, fit_cox
from pipeline.metrics.survival.curves import kaplan_meier
from pipeline.schema import Cohort
from pipeline.stages.cohort.originals import original_files
from tests.stages.clinic import RAW, cohort
from tests.stages.conftest import lay_out
from tests.stages.running import FOLDS, by_monai, refusal, run
from tests.stages.stored import channels_of
from tests.stages.times import as_survival

NAMES = "names.json"
BUNDLE = "data/released/side_of_squares"


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Release a model of times that the side of a square shortens, once for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("times") / "project"
        as_survival(
            lay_out(root, patch),
            release__exports=["onnx", "torchscript"],
            calibrate__per_patient="auto",
            split__folds=[0, 1, 2, "final", "without-inside"],
        )
        run("cohort", "preprocess", "split")
        for fold in (*FOLDS, "without-inside"):
            run(f"adapt --fold {fold}", f"finetune --fold {fold}")
        run("calibrate", "evidence", "explain", "release", "report")
        files = original_files(Cohort(path=RAW, task="survival", unit="months"))
        paths.write_json({case: file.name for case, file in files.items()}, root / NAMES)
        yield root


@pytest.fixture
def there(released, monkeypatch):
    monkeypatch.chdir(released)
    return released


def page():
    """Read the report as a browser shows it."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", paths.REPORT.read_text())).split())


def risks():
    return paths.read_json(paths.CALIBRATOR)["risks"]


def test_hazards_are_learned_and_told_as_risks(there):
    found = paths.read_json(paths.pooled_metrics("internal_patients_calibrated"))
    assert found["c"]["lower"] > 0.5 and found["n"] == found["patients"] == 40
    assert found["ipa"]["lower"] < found["ipa"]["value"] < found["ipa"]["upper"]
    told = page()
    assert re.search(r"patients are ranked by their risk with a C-index of 0\.\d+ \(0\.\d+ to 0\.\d+\)", told)
    assert "Kaplan-Meier curves of the risk groups, internal validation" in told and "Log-rank test" in told
    assert re.search(r"(no event until|event at) [\d.]+ months; predicted risk until [\d.]+ months: \d+ %", told)
    assert not re.search(r"ROC|R²|prediction sets? of", told.partition("Glossary Terms")[0].partition(" Release ")[0])


def test_every_fold_is_recalibrated_by_what_others_fitted(there):
    table = pd.read_csv(paths.PREDICTIONS).query("scope == 'internal'")
    times, events = times_of(table["label"].tolist())
    at = np.array(risks()["times"])
    for fold in "012":
        here = (table["fold"].astype(str) == fold).to_numpy()
        others = table[~here]
        weights = (1 / others.groupby("patient")["case"].transform("count")).to_numpy()
        outputs = others["logit_0"].to_numpy()
        slope = fit_cox(outputs[:, None], times[~here], events[~here], weights=weights)[0]
        centre = np.average(outputs, weights=weights)
        expected = slope * (table.loc[here, "logit_0"].to_numpy() - centre)
        np.testing.assert_allclose(table.loc[here, "log_hazard"], expected, rtol=1e-6, atol=1e-9)
        hazard = baseline_hazard(slope * (outputs - centre), times[~here], events[~here], weights)
        told = table.loc[here, [f"risk_{time:g}" for time in at]].to_numpy()
        np.testing.assert_allclose(told, 1 - np.exp(-hazard.at(at) * np.exp(expected)[:, None]), rtol=1e-6, atol=1e-9)


def concordance(part, column):
    """Count the pairs of an event and a later time in which the event has the higher hazard; ties count half."""
    events, right, pairs = part[part["event"] == 1], 0.0, 0
    for one in events.itertuples():
        later = part[(part["time"] > one.time) | ((part["time"] == one.time) & (part["event"] == 0))]
        lower, own = later[column], getattr(one, column)
        right, pairs = right + (own > lower).sum() + 0.5 * (own == lower).sum(), pairs + len(later)
    return right / pairs


def test_hazards_without_the_image_are_compared_pooled_and_within_folds(there):
    cases = pd.read_csv(paths.PREDICTIONS).query("scope == 'internal'")
    rows = pd.read_csv(paths.assessed("baselines")).query("scope == 'internal'")
    of_folds = np.mean([concordance(part, "log_hazard") for _, part in cases.groupby("fold")])
    for over, expected in (("all cases together", concordance(cases, "log_hazard")), ("mean of folds", of_folds)):
        some = rows[rows["over"] == over].set_index("baseline")
        np.testing.assert_allclose(some["model_c"], expected, atol=1e-6)
        np.testing.assert_allclose(some["difference"], some["model_c"] - some["c"], atol=2e-6)
        assert some.loc["Kaplan-Meier", "c"] == 0.5 and some["integrated_brier"].notna().all()
    alone = pd.read_csv(paths.assessed("baselines")).query("scope == 'external'")
    assert set(alone["over"]) == {"all cases together"} and "mean of folds" in page()


def test_the_largest_errors_are_deviance_residuals_by_other_folds(there):
    cases = pd.read_csv(paths.PREDICTIONS).query("scope == 'internal'")
    for fold in (0, 1, 2):
        others, here = cases[cases["fold"] != fold], cases[cases["fold"] == fold]
        weights = (1 / others.groupby("patient")["case"].transform("count")).to_numpy()
        times, events, outputs = (others[name].to_numpy() for name in ("time", "event", "logit_0"))
        slope = fit_cox(outputs[:, None], times, events.astype(bool), weights=weights)[0]
        hazards = slope * (outputs - np.average(outputs, weights=weights))
        curve = baseline_hazard(hazards, times, events.astype(bool), weights)
        # Before the first event of the other folds the cumulative hazard is taken as half of its first step.
        expected = np.maximum(curve.at(here["time"].to_numpy()), curve.values[0] / 2) * np.exp(here["log_hazard"])
        martingale = here["event"] - expected
        inside = martingale + np.where(here["event"] == 1, np.log(expected), 0)
        np.testing.assert_allclose(here["residual"], np.sign(martingale) * np.sqrt(-2 * inside), rtol=1e-5, atol=1e-5)
    told = pd.read_csv(paths.MISTAKES).query("scope == 'internal'")
    assert told["error"].tolist() == pytest.approx(cases["residual"].abs().nlargest(len(told)).tolist())


def test_times_are_the_quartiles_of_the_events_of_development_patients(there):
    table = pd.read_csv(paths.PREDICTIONS).query("scope == 'internal_patients'")
    times, events = times_of(table["label"].tolist())
    np.testing.assert_allclose(risks()["times"], np.quantile(times[events], [0.25, 0.5, 0.75]), rtol=0.06)


def test_risk_groups_stand_beside_their_kaplan_meier_risk(there):
    table = pd.read_csv(paths.PREDICTIONS).query("scope == 'internal_patients'")
    rows = pd.read_csv(paths.assessed("risk_groups")).query("scope == 'internal_patients'")
    assert set(rows["group"]) == {"low", "intermediate", "high"} and (rows["p"] < 0.05).all()
    for group, some in rows.groupby("group"):
        times, events = times_of(table.loc[table["group"] == group, "label"].tolist())
        assert set(some["patients"]) == {len(times)} and set(some["events"]) == {events.sum()}
        curve = kaplan_meier(times, events)
        reached = some[some["time"] < times.max()]
        np.testing.assert_allclose(reached["observed"], 1 - curve.at(reached["time"].to_numpy()), atol=1e-6)
        assert some.loc[some["time"] >= times.max(), "observed"].isna().all()
    first = rows[rows["time"] == rows["time"].min()].set_index("group")["observed"]
    assert first["high"] > first["low"]
    follow_up = pd.read_csv(paths.assessed("follow_up")).query("scope == 'internal_patients'").set_index("site")
    assert follow_up.loc["all", "patients"] == follow_up.drop("all")["patients"].sum() == 40


def test_folds_hold_events_and_censored_patients(there):
    for fold in "012":
        held = pd.read_csv(paths.split(fold)).query("role == 'held_out'")
        _, events = times_of(held["label"].tolist())
        assert 0.35 < events.mean() < 0.85


def test_the_bundle_predicts_risks_and_groups(there, capsys):
    assert main(["verify", BUNDLE]) == 0
    out = there / "out.csv"
    assert main(["predict", BUNDLE, f"{RAW}/cohort.csv", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    columns = [f"risk_{time:g}" for time in risks()["times"]]
    assert f"risk until {risks()['times'][0]:g} months" in printed and "by patient" in printed
    rows = pd.read_csv(out)
    answered = rows[rows["abstains"].isna()]
    assert set(answered["group"]) <= {"low", "intermediate", "high"} and len(answered) > len(rows) / 2
    expected = 1 - np.array(risks()["baseline"]) ** np.exp(answered["log_hazard"].to_numpy())[:, None]
    np.testing.assert_allclose(answered[columns], expected, rtol=1e-9)
    assert (answered[columns].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    withheld = rows[rows["abstains"].notna()]
    assert withheld[columns].isna().all(axis=None) and withheld["withheld_group"].notna().all()
    assert set(rows["unit"]) == {"months"} and "set" not in rows
    patients = pd.read_csv(there / "out_patients.csv").dropna()
    assert set(patients["group"]) <= {"low", "intermediate", "high"} and patients[columns].notna().all(axis=None)


def test_onnx_runtime_and_monai_give_the_hazard_of_the_evaluation(there, tmp_path):
    names = paths.read_json(there / NAMES)
    predictor = Predictor.from_bundle(BUNDLE)
    evaluated = pd.read_csv(paths.PREDICTIONS).query("scope == 'external'").set_index("case")
    session = onnxruntime.InferenceSession(f"{BUNDLE}/models/model.onnx")
    files = {case: f"{RAW}/{names[case]}" for case in evaluated.index[:3]}
    theirs = by_monai(BUNDLE, tmp_path, files.values())
    for case, file in files.items():
        channels = channels_of(case)[None].astype(np.float32)
        hazard, output = session.run(["pred", "logits"], {"image": channels})
        row = evaluated.loc[case]
        assert hazard[0, 0] == pytest.approx(row["log_hazard"], rel=1e-4, abs=1e-4)
        assert output[0, 0] == pytest.approx(row["logit_0"], rel=1e-4, abs=1e-4)
        assert theirs[names[case]] == [pytest.approx(row["log_hazard"], rel=1e-4, abs=1e-4)]
        found = predictor(file)
        shown = found.probabilities or found.withheld_probabilities
        assert shown["log_hazard"] == pytest.approx(row["log_hazard"], rel=1e-6, abs=1e-9)
        told, last = predictor.limits.numbers.columns(shown["log_hazard"]), f"risk_{risks()['times'][-1]:g}"
        assert told["group"] == row["group"] and told[last] == pytest.approx(row[last], rel=1e-6)
        assert found.unit == "months" and found.columns == ({} if found.abstains else told)


def test_a_new_scan_gets_its_risk(there, tmp_path):
    new = tmp_path / "new.png"
    shutil.copy(f"{RAW}/Doe_03_0.png", new)
    assert main(["predict", BUNDLE, str(new), "--out", str(tmp_path / "out.csv")]) == 0
    (row,) = pd.read_csv(tmp_path / "out.csv").to_dict("records")
    found = Predictor.from_bundle(BUNDLE)(new)
    assert found.set.endswith(("low", "intermediate", "high")) and "% until" in found.set
    assert row["log_hazard"] == pytest.approx(found.probabilities["log_hazard"])


def test_the_model_is_monitored_with_and_without_times(there, capsys):
    assert main(["predict", BUNDLE, f"{RAW}/cohort.csv", "--out", "use.csv"]) == 0
    pd.read_csv(f"{RAW}/cohort.csv").rename(columns={"image": "scan"})[["scan", "time", "event"]].to_csv("seen.csv")
    capsys.readouterr()
    assert main(["monitor", BUNDLE, "use.csv"]) in (0, 3)
    assert "  log_hazard  " in capsys.readouterr().out
    assert main(["monitor", BUNDLE, "use.csv", "seen.csv", "--window", "30", "--out", "use.html"]) in (0, 3)
    printed = capsys.readouterr().out
    assert "  events  " in printed and re.search(r"labelled scans 1 to 30: \d+ events; c [\d.]+ \(", printed)
    page = (there / "use.html").read_text()
    assert "Monitoring of the model for risks until times in months" in page and "Harrell" in page


def test_what_needs_classes_is_refused_and_tables_have_no_rows(there, capsys):
    record = paths.read_json(paths.EVIDENCE / "record.json")
    assert record["task"] == "survival" and record["left_out"] in page()
    assert set(pd.read_csv(paths.evidence("final"))["metric"]) == {"c"}
    assert pd.read_csv(paths.ROC).empty and pd.read_csv(paths.PER_CLASS).empty
    (row,) = pd.read_csv(paths.LEFT_OUT).to_dict("records")
    assert row["site"] == "inside" and row["c"] > 0.5
    for command in ("serve BUNDLE", "predict BUNDLE x.png --report p.html"):
        message = refusal(capsys, command.replace("BUNDLE", BUNDLE))
        assert "gives risks until times in months" in message and "medadapt predict" in message


@pytest.mark.parametrize(
    ("column", "text", "said"),
    [
        ("time", "soon", "row 3, column 'time': it is no number"),
        ("time", "-2", "row 3, column 'time': it is negative"),
        ("time", "", "row 3, column 'time': there is an event without a time"),
        ("event", "2", "row 3, column 'event': it is neither 0 nor 1; several kinds of events (competing risks)"),
        ("event", "", "row 3, column 'event': there is a time without an event"),
    ],
)
def test_a_bad_row_is_refused_with_file_row_and_cure(project, capsys, column, text, said):
    root = as_survival(project, 24)
    cohort(root, lambda table: table.assign(**{column: table[column].mask(table.index == 2, text)}))
    message = refusal(capsys, "cohort")
    assert said in message and f"{RAW}/cohort.csv" in message


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("cohort__unit", "", "cohort.unit is '', but a time needs its unit, e.g. months"),
        ("cohort__unit", "1", "a time needs its unit"),
        ("cohort__classes", ["a", "b"], "a time has no classes"),
        ("cohort__task", "auto", "only a regression and survival have a unit"),
        ("finetune__strategy", "knn", "finetune.strategy is knn, but cohort.task is survival"),
        ("calibrate__method", "platt", "calibrate.method is platt"),
        ("calibrate__times", [24, 12], "does not increase"),
    ],
)
def test_a_setting_that_does_not_suit_times_is_refused_with_the_cure(project, capsys, key, value, said):
    as_survival(project, 24, **{key: value})
    assert said in refusal(capsys, "cohort")


def test_times_beyond_what_was_observed_are_refused(there, capsys):
    settings = (there / "params.yaml").read_text()
    changed = re.sub(r"  times: \[\]", "  times: [5000.0]", settings)
    assert changed != settings
    (there / "params.yaml").write_text(changed)
    try:
        message = refusal(capsys, "calibrate")
    finally:
        (there / "params.yaml").write_text(settings)
    assert "calibrate.times is [5000.0]" in message and "choose times between, or [] for the quartiles" in message


def test_columns_time_and_event_without_their_task_are_told(project, capsys):
    as_survival(project, 24, cohort__task="auto", cohort__unit="")
    assert "has the columns time and event, but no label; set cohort.task to survival" in refusal(capsys, "cohort")
