import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from pipeline.__main__ import main
from pipeline.bundle.layout import METADATA, REFERENCE
from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.monitoring_reference import reference_of
from tests.bundle.bundles import fitted, written

CLASSES = ["control", "lesion"]
LABELS = ["edema", "mass", "<cyst>"]


def predictions(seed, n, shift=0.0, intercept=0.0):
    """Predictions of n patients: their logits are shifted, their events follow them but for an intercept."""
    rng = np.random.default_rng(seed)
    lesion = expit(rng.normal(size=n) + shift)
    event = rng.random(n) < expit(np.log(lesion / (1 - lesion)) + intercept)
    return lesion, np.where(event, "lesion", "control")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = written(tmp_path_factory.mktemp("use") / "model")
    metadata = json.loads((folder / METADATA).read_text()) | {"classes": CLASSES}
    (folder / METADATA).write_text(json.dumps(metadata))
    lesion, label = predictions(0, 150)
    table = pd.DataFrame({"patient": np.arange(150), "probability_0": 1 - lesion})
    table["probability_1"] = lesion
    table["ood_score"] = np.random.default_rng(1).normal(size=150)
    known = reference_of(table, (label == "lesion").astype(int), CLASSES, scans=153, refused=3)
    (folder / REFERENCE).parent.mkdir()
    (folder / REFERENCE).write_text(json.dumps(known))
    write_manifest(folder, {})
    return folder


def in_use(tmp_path, seed, n=200, refused=2, apart=0.0, **changes):
    """What predict wrote of scans in use, and their labels."""
    lesion, label = predictions(seed, n, **changes)
    names = [f"scan-{number}.nii.gz" for number in range(n)]
    results = pd.DataFrame({"scan": names, "control": 1 - lesion, "lesion": lesion, "reason": ""})
    results.loc[n - refused :, CLASSES] = np.nan
    results["ood_score"] = np.random.default_rng(100 + seed).normal(size=n) + apart
    results["date"] = pd.date_range("2026-01-01", periods=n).astype(str)
    results.to_csv(tmp_path / "results.csv", index=False)
    pd.DataFrame({"scan": names, "label": label}).to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path / "results.csv", tmp_path / "labels.csv"


def monitored(bundle, *arguments):
    return main(["monitor", str(bundle), *map(str, arguments)])


def test_patients_like_those_of_development_raise_no_alarm(bundle, tmp_path, capsys):
    assert monitored(bundle, *in_use(tmp_path, seed=1)) == 0
    printed = capsys.readouterr().out
    assert "200 scans of 200 patients, 2 unreadable, 198 with labels; ordered by date" in printed
    assert printed.count("no alarm") == 5
    assert "labelled scans 1 to 100:" in printed and "labelled scans 101 to 198:" in printed


def test_an_auc_that_is_the_same_in_every_draw_has_a_lower_limit(bundle, tmp_path, capsys):
    results, labels = in_use(tmp_path, seed=1, n=60)
    found = pd.read_csv(results)
    pd.DataFrame({"scan": found["scan"], "label": np.where(found["lesion"] > 0.5, "lesion", "control")}).to_csv(labels)
    monitored(bundle, results, labels)
    lower = float(re.search(r"events; auc 1\.000 \((0\.\d+) to 1\.000\), ", capsys.readouterr().out)[1])
    assert 0.8 < lower < 1


def test_the_page_does_without_dates(bundle, tmp_path):
    results, labels = in_use(tmp_path, seed=7)
    pd.read_csv(results).drop(columns="date").to_csv(results, index=False)
    assert monitored(bundle, results, labels, "--out", tmp_path / "use.html") == 0
    assert "101 to 198" in (tmp_path / "use.html").read_text()


def test_other_patients_raise_an_alarm_that_names_what_changed_and_when(bundle, tmp_path, capsys):
    results, _ = in_use(tmp_path, seed=2, shift=1.5)
    assert monitored(bundle, results) == 3
    printed = capsys.readouterr()
    assert "error: alarm: probability of lesion;" in printed.err
    assert "ALARM at patient" in printed.out and "(2026-0" in printed.out
    assert "the change began at about patient" in printed.out


def test_scans_that_lie_further_from_development_raise_an_alarm(bundle, tmp_path, capsys):
    results, _ = in_use(tmp_path, seed=10, apart=1.5)
    assert monitored(bundle, results) == 3
    assert "alarm: out-of-distribution score;" in capsys.readouterr().err


def test_scans_that_can_no_longer_be_read_raise_an_alarm(bundle, tmp_path, capsys):
    results, _ = in_use(tmp_path, seed=3, refused=60)
    assert monitored(bundle, results) == 3
    assert "alarm: unreadable scans;" in capsys.readouterr().err


def test_miscalibration_raises_an_alarm_with_unchanged_predictions(bundle, tmp_path, capsys):
    results, labels = in_use(tmp_path, seed=4, intercept=1.5)
    assert monitored(bundle, results) == 0
    assert monitored(bundle, results, labels) == 3
    assert "calibration" in capsys.readouterr().err


def test_withheld_answers_are_monitored_like_the_others(bundle, tmp_path, capsys):
    """The reference holds all development cases, answered or not; so must the scans in use."""
    files = in_use(tmp_path, seed=12)
    assert monitored(bundle, *files) == 0
    before, table = capsys.readouterr().out, pd.read_csv(files[0])
    silent = (table.index % 3 == 0) & table["lesion"].notna()
    table["abstains"] = np.where(silent, "out of distribution", np.where(table["lesion"].isna(), "bad image", ""))
    for name in CLASSES:
        table[f"withheld_{name}"] = table[name].where(silent)
        table[name] = table[name].mask(silent)
    table.to_csv(files[0], index=False)
    assert monitored(bundle, *files) == 0
    assert capsys.readouterr().out == before
    table.drop(columns=[f"withheld_{name}" for name in CLASSES]).to_csv(files[0], index=False)
    assert monitored(bundle, *files) == 1
    assert "scan-0.nii.gz' was not answered, and the columns withheld_control, ..." in capsys.readouterr().err


def test_labels_may_name_a_scan_by_its_path(bundle, tmp_path, capsys):
    results, labels = in_use(tmp_path, seed=1)
    assert monitored(bundle, results, labels) == 0
    before, table = capsys.readouterr().out, pd.read_csv(labels)
    table.assign(scan="archive/inbox/" + table["scan"]).to_csv(labels, index=False)
    assert monitored(bundle, results, labels) == 0
    assert capsys.readouterr().out == before


def test_scans_of_one_patient_count_once(bundle, tmp_path, capsys):
    results, _ = in_use(tmp_path, seed=5, n=10, refused=0, shift=2)
    many = pd.concat([pd.read_csv(results).assign(patient=np.arange(10))] * 20)
    many.assign(scan=np.arange(200)).to_csv(results, index=False)
    assert monitored(bundle, results) == 0
    assert "200 scans of 10 patients" in capsys.readouterr().out


def test_the_order_of_rows_does_not_matter_where_dates_are_known(bundle, tmp_path, capsys):
    results, labels = in_use(tmp_path, seed=6)
    monitored(bundle, results, labels)
    first = capsys.readouterr().out
    pd.read_csv(results).sample(frac=1, random_state=0).to_csv(results, index=False)
    monitored(bundle, results, labels)
    assert capsys.readouterr().out == first


def test_the_page_shows_charts_and_windows_in_one_file(bundle, tmp_path):
    results, labels = in_use(tmp_path, seed=7)
    page = tmp_path / "use.html"
    assert monitored(bundle, results, labels, "--window", "50", "--out", page) == 0
    text = page.read_text()
    assert text.count("<svg") == 5 + 4
    assert "1 to 50" in text and "No alarm" in text and "2026-01-01 to 2026-02-19" in text
    assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda results, labels: results.drop(columns="lesion", inplace=True), "column 'lesion' is missing"),
        (lambda results, labels: results.assign(lesion="high"), "values that are not probabilities"),
        (lambda results, labels: results.update({"lesion": results["lesion"] + 5}), "that are not probabilities"),
        (lambda results, labels: results.update({"date": ["soon"] * 200}), "'date' needs a date"),
        (lambda results, labels: labels.update({"label": ["tumour"] * 200}), "'tumour' is no class of this model"),
        (lambda results, labels: labels.update({"scan": ["x"] * 200}), "'x' is listed twice"),
        (
            lambda results, labels: labels.update({"scan": [f"x{k}" for k in range(200)]}),
            "is not among the predicted scans",
        ),
    ],
)
def test_a_table_that_cannot_be_used_is_named_with_what_is_wrong(bundle, tmp_path, capsys, change, told):
    files = in_use(tmp_path, seed=8)
    tables = [pd.read_csv(file) for file in files]
    changed = change(*tables)
    tables[0] = tables[0] if changed is None else changed
    for table, file in zip(tables, files, strict=True):
        table.to_csv(file, index=False)
    assert monitored(bundle, *files) == 1
    assert told in capsys.readouterr().err


def test_files_that_are_not_there_and_bundles_without_a_reference_are_told(bundle, tmp_path, capsys):
    assert monitored(bundle, tmp_path / "none.csv") == 1
    assert "none.csv does not exist; check the path" in capsys.readouterr().err
    old = written(tmp_path / "old")
    assert monitored(old, *in_use(tmp_path, seed=9)) == 1
    assert "release the model again" in capsys.readouterr().err


def findings(seed, n, intercept=0.0):
    """Predictions (n, 3) of labels that stand each by itself, what is written of them; mass is predicted too low."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3))
    there = rng.random((n, 3)) < expit(logits + np.array([0, intercept, 0]))
    unknown = rng.random((n, 3)) < 0.1
    marked = [
        [("?" if asked else "") + name for name, yes, asked in zip(LABELS, *rows, strict=True) if yes or asked]
        for rows in zip(there, unknown, strict=True)
    ]
    return expit(logits), np.where(unknown, np.nan, there), [";".join(names) or "no finding" for names in marked]


@pytest.fixture(scope="module")
def of_labels(tmp_path_factory):
    folder = written(tmp_path_factory.mktemp("labels") / "model", fitted("temperature", "sigmoid"))
    metadata = json.loads((folder / METADATA).read_text()) | {"classes": LABELS}
    (folder / METADATA).write_text(json.dumps(metadata))
    prediction, labels, _ = findings(0, 150)
    table = pd.DataFrame(prediction, columns=[f"probability_{number}" for number in range(3)])
    table = table.assign(patient=np.arange(150), ood_score=np.random.default_rng(1).normal(size=150))
    (folder / REFERENCE).parent.mkdir()
    (folder / REFERENCE).write_text(json.dumps(reference_of(table, labels, LABELS, 153, 3)))
    write_manifest(folder, {})
    return folder


def labels_in_use(tmp_path, seed, n=200, intercept=0.0):
    prediction, _, written_labels = findings(seed, n, intercept)
    names = [f"scan-{number}.nii.gz" for number in range(n)]
    results = pd.DataFrame({"scan": names, **dict(zip(LABELS, prediction.T, strict=True))})
    results.assign(ood_score=np.random.default_rng(50 + seed).normal(size=n)).to_csv(
        tmp_path / "results.csv", index=False
    )
    pd.DataFrame({"scan": names, "label": written_labels}).to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path / "results.csv", tmp_path / "labels.csv"


def test_each_label_of_a_multilabel_model_is_monitored_and_evaluated(of_labels, tmp_path, capsys):
    files, page = labels_in_use(tmp_path, seed=1), tmp_path / "use.html"
    assert monitored(of_labels, *files, "--window", "60", "--out", page) == 0
    printed, text = capsys.readouterr().out, page.read_text()
    assert printed.count("no alarm") == 3 + 2 + 3 + 1  # probabilities, OOD and unreadable, losses, calibration
    assert "alarm at evidence 180; " in printed
    for name in LABELS:
        assert f"loss of {name}" in printed and f"  {name}: labelled scans 1 to 60:" in printed
    assert "<h3>Edema</h3>" in text and "&lt;cyst&gt;" in text and "<cyst>" not in text
    assert text.count("<svg") == 9 + 3 * 4


def test_one_miscalibrated_label_raises_an_alarm_that_names_it(of_labels, tmp_path, capsys):
    results, labels = labels_in_use(tmp_path, seed=2, n=400, intercept=1.5)
    assert monitored(of_labels, results) == 0
    assert monitored(of_labels, results, labels) == 3
    printed = capsys.readouterr()
    assert "calibration of mass" in printed.err
    assert printed.out.count("ALARM of mass at patient") == 1


def test_the_limit_does_not_depend_on_which_labels_are_known(of_labels, tmp_path, capsys):
    results, labels = labels_in_use(tmp_path, seed=3)
    table = pd.read_csv(labels)
    for known in (table.assign(label="?edema;mass;?<cyst>"), table.assign(label="?edema;?mass;?<cyst>"), None):
        if known is not None:
            known[:5].to_csv(labels, index=False)
        assert monitored(of_labels, results, *([] if known is None else [labels])) == 0
        assert "alarm at evidence 180; " in capsys.readouterr().out


def test_dates_and_losses_of_a_label_use_only_scans_with_a_known_value(of_labels, tmp_path, capsys):
    results, labels = labels_in_use(tmp_path, seed=5, n=120)
    table, known = pd.read_csv(results), pd.read_csv(labels)
    table["date"] = pd.date_range("2026-01-01", periods=120).astype(str)
    known["label"] = ["?edema"] * 60 + ["edema", "no finding"] * 30
    table["edema"] = [0.5] * 60 + [0.001, 0.999] * 30  # wrong of everybody of whom it is known
    table.to_csv(results, index=False)
    known.to_csv(labels, index=False)
    assert monitored(of_labels, results, labels, "--out", tmp_path / "use.html") == 3
    text = (tmp_path / "use.html").read_text()
    assert text.count("2026-03-02 to 2026-04-30") == 1 and text.count("2026-01-01 to 2026-04-30") == 2
    [told] = [line for line in capsys.readouterr().out.splitlines() if "loss of edema" in line]
    assert "(2026-03-" in told.partition("ALARM")[2].partition("the change")[0]


@pytest.mark.parametrize(
    ("label", "told"),
    [("edema;tumour", "scan-0.nii.gz: 'tumour' is no class of this model"), ("mass;mass", "is named twice")],
)
def test_a_label_that_cannot_be_read_is_named_with_its_scan(of_labels, tmp_path, capsys, label, told):
    results, labels = labels_in_use(tmp_path, seed=4, n=30)
    pd.read_csv(labels).assign(label=label).to_csv(labels, index=False)
    assert monitored(of_labels, results, labels) == 1
    assert told in (message := capsys.readouterr().err) and "joined by ;" in message


def test_a_window_whose_slope_has_no_interval_is_shown_without(bundle, tmp_path, capsys):
    """Nearly every prediction is right, so that too few replicates have a slope."""
    ill, rng = np.repeat([True, False], 12), np.random.default_rng(1)
    lesion = expit(rng.normal(size=24) * 0.3 + np.where(ill, 2.5, -2.5))
    lesion[0], lesion[12] = 0.30, 0.31  # one pair is in the wrong order
    table = pd.DataFrame({"scan": [f"s{n}" for n in range(24)], "control": 1 - lesion, "lesion": lesion})
    table.to_csv(tmp_path / "r.csv", index=False)
    table.assign(label=np.where(ill, "lesion", "control"))[["scan", "label"]].to_csv(tmp_path / "l.csv", index=False)
    assert monitored(bundle, tmp_path / "r.csv", tmp_path / "l.csv", "--out", tmp_path / "use.html") in (0, 3)
    assert "calibration_slope" in capsys.readouterr().out and (tmp_path / "use.html").stat().st_size > 1000
