import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from pipeline.__main__ import main
from pipeline.assessing.monitoring.reference import reference_of
from pipeline.releasing.bundle import METADATA, REFERENCE
from pipeline.releasing.manifest import write_manifest
from tests.releasing.test_bundle import written

CLASSES = ["control", "lesion"]


def forecasts(seed, n, shift=0.0, intercept=0.0):
    """Forecasts of n patients: their logits are shifted, their events follow them but for an intercept."""
    rng = np.random.default_rng(seed)
    lesion = expit(rng.normal(size=n) + shift)
    event = rng.random(n) < expit(np.log(lesion / (1 - lesion)) + intercept)
    return lesion, np.where(event, "lesion", "control")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = written(tmp_path_factory.mktemp("use") / "model")
    metadata = json.loads((folder / METADATA).read_text()) | {"classes": CLASSES}
    (folder / METADATA).write_text(json.dumps(metadata))
    lesion, label = forecasts(0, 150)
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
    lesion, label = forecasts(seed, n, **changes)
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
    assert (
        "200 scans of 200 patients, 2 could not be read, 198 have labels; the order is that of their dates" in printed
    )
    assert printed.count("no alarm") == 5
    assert "labelled scans 1 to 100:" in printed and "labelled scans 101 to 198:" in printed


def test_other_patients_raise_an_alarm_that_names_what_changed_and_when(bundle, tmp_path, capsys):
    results, _ = in_use(tmp_path, seed=2, shift=1.5)
    assert monitored(bundle, results) == 1
    printed = capsys.readouterr()
    assert "error: alarm: probability of lesion;" in printed.err
    assert "ALARM at patient" in printed.out and "(2026-0" in printed.out
    assert "changed since about patient" in printed.out


def test_scans_that_lie_further_from_development_raise_an_alarm(bundle, tmp_path, capsys):
    results, _ = in_use(tmp_path, seed=10, apart=1.5)
    assert monitored(bundle, results) == 1
    assert "alarm: distance from development;" in capsys.readouterr().err


def test_scans_that_can_no_longer_be_read_raise_an_alarm(bundle, tmp_path, capsys):
    results, _ = in_use(tmp_path, seed=3, refused=60)
    assert monitored(bundle, results) == 1
    assert "alarm: scans that cannot be read;" in capsys.readouterr().err


def test_forecasts_that_are_no_longer_right_raise_an_alarm_although_they_look_as_before(bundle, tmp_path, capsys):
    results, labels = in_use(tmp_path, seed=4, intercept=1.5)
    assert monitored(bundle, results) == 0
    assert monitored(bundle, results, labels) == 1
    assert "calibration" in capsys.readouterr().err


def test_scans_of_one_patient_count_once(bundle, tmp_path, capsys):
    results, _ = in_use(tmp_path, seed=5, n=10, refused=0, shift=2)
    many = pd.concat([pd.read_csv(results).assign(patient=np.arange(10))] * 20)
    many.to_csv(results, index=False)
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
        (lambda results, labels: results.drop(columns="lesion", inplace=True), "there is no column 'lesion'"),
        (lambda results, labels: results.assign(lesion="high"), "something other than probabilities"),
        (lambda results, labels: results.update({"lesion": results["lesion"] + 5}), "other than probabilities"),
        (lambda results, labels: results.update({"date": ["soon"] * 200}), "'date' must hold a date"),
        (lambda results, labels: labels.update({"label": ["tumour"] * 200}), "'tumour' is no class of this model"),
        (lambda results, labels: labels.update({"scan": ["x"] * 200}), "'x' stands there twice"),
        (lambda results, labels: labels.update({"scan": [f"x{k}" for k in range(200)]}), "does not stand in the"),
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
    assert "none.csv: this is not a readable csv file" in capsys.readouterr().err
    old = written(tmp_path / "old")
    assert monitored(old, *in_use(tmp_path, seed=9)) == 1
    assert "release it anew" in capsys.readouterr().err
