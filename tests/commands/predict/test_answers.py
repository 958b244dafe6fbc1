"""Withheld answers, decisions at the operating point, results by patient, and what the terminal shows of them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import softmax

from pipeline.__main__ import main
from pipeline.bundle import Predictor
from pipeline.bundle.layout import METADATA
from pipeline.bundle.manifest import MANIFEST, sha256_of
from pipeline.commands.predict.run import write_results
from pipeline.errors import UserError
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.reading.scan import Unreadable
from tests.bundle.bundles import CLASSES, GEOMETRY, fitted, rewrite, written
from tests.commands.predict.limits import predicted
from tests.conftest import save_nifti


@pytest.fixture
def odd(limited, tmp_path, asymmetric):
    """A scan that the model does not answer."""
    return save_nifti(tmp_path / "odd.nii.gz", np.where(asymmetric > 60, asymmetric, 0))


def with_point(folder, points, per_patient="none"):
    """Give a bundle an operating point."""
    values = {"rule": "sensitivity at specificity 0.90", "points": points}
    rewrite(folder, METADATA, lambda metadata: metadata.update(operating_point=values, per_patient=per_patient))
    return folder


def point(label, threshold, unit="scan"):
    return {"class": label, "unit": unit, "threshold": threshold}


def test_a_withheld_answer_stands_in_columns_of_its_own(limited, tmp_path, odd):
    folder, scans, _ = limited
    found = predicted(tmp_path, folder, odd, *sorted(scans.glob("*.nii.gz"))[:5])
    silent = found["abstains"] != ""
    assert silent["odd.nii.gz"] and not silent.all()
    answers, withheld = [*CLASSES, "set"], [f"withheld_{name}" for name in (*CLASSES, "set")]
    for blank, filled in (
        (found.loc[silent, answers], found.loc[silent, withheld]),
        (found.loc[~silent, withheld], found.loc[~silent, answers]),
    ):
        assert (blank == "").all(axis=None) and (filled != "").all(axis=None)


def test_the_api_gives_no_number_of_a_withheld_answer(limited, odd):
    found = Predictor.from_bundle(limited[0])(odd)
    assert found.probabilities is None and found.set == "" and found.decision == ""
    assert sum(found.withheld_probabilities.values()) == pytest.approx(1) and found.withheld_set
    assert "withheld" not in repr(found)
    assert not any(f"{value:.3f}" in repr(found) for value in found.withheld_probabilities.values())


def test_the_terminal_shows_withheld_answers_on_request_only(limited, odd, capsys):
    assert main(["predict", str(limited[0]), str(odd)]) == 0
    printed = capsys.readouterr().out
    assert "0." not in printed and "--show-withheld prints them" in printed
    assert printed.splitlines()[-1].startswith("scans: 1; without an answer: 1 (1 out of distribution")
    assert main(["predict", str(limited[0]), str(odd), "--show-withheld"]) == 0
    printed = capsys.readouterr().out
    assert "(0." in printed and "in brackets: withheld, no answer of the model" in printed


def test_a_decision_changes_at_the_threshold_of_the_operating_point(tmp_path, asymmetric, capsys):
    folder = written(tmp_path / "model", classes=("control", "lesion"))
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    assert "decision" not in predicted(tmp_path, folder, scan)
    lesion = float(predicted(tmp_path, folder, scan)["lesion"].iloc[0])
    for threshold, said in ((lesion, "lesion"), (np.nextafter(lesion, 1), "control")):
        with_point(folder, [point("lesion", threshold)])
        assert predicted(tmp_path, folder, scan)["decision"].tolist() == [said]
    assert "decisions (sensitivity at specificity 0.90): control: 1" in capsys.readouterr().out


def test_several_classes_are_decided_by_probability_and_labels_one_by_one(tmp_path, asymmetric):
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    several = written(tmp_path / "several")
    row = predicted(tmp_path, several, scan).iloc[0]
    assert row["decision"] == CLASSES[row[CLASSES].astype(float).argmax()]
    labels = written(tmp_path / "labels", fitted("temperature", "sigmoid"))
    a = float(predicted(tmp_path, labels, scan)["a"].iloc[0])
    for points, said in (
        ([point("a", a), point("b", 1), point("c", 0)], "a; c"),
        ([point("a", 1), point("b", 1), point("c", 1)], "no finding"),
        ([point("a", a)], "a; b: undecided; c: undecided"),
    ):
        assert predicted(tmp_path, with_point(labels, points), scan)["decision"].tolist() == [said]


def test_a_site_calibration_changes_probabilities_and_no_decision(tmp_path, asymmetric, capsys):
    folder = with_point(written(tmp_path / "model", classes=("control", "lesion")), [point("lesion", 0.0)])
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    made_for = {"manifest": sha256_of(folder / MANIFEST)}
    change = {"bundle": made_for, "change": {"intercepts": [9.0, 0.0], "slope": 1.0}}
    (tmp_path / "site.json").write_text(json.dumps(change))
    row = predicted(tmp_path, folder, scan, "--calibration", tmp_path / "site.json").iloc[0]
    assert float(row["lesion"]) < 0.01 and row["decision"] == "lesion"
    assert "sets, decisions and abstention stay those of the released ones" in capsys.readouterr().out


def test_a_patient_is_predicted_from_the_mean_logits_of_the_scans(tmp_path, asymmetric, capsys):
    folder = written(tmp_path / "model", classes=("control", "lesion"))
    for number in range(3):
        save_nifti(tmp_path / f"{number}.nii.gz", asymmetric + 20 * number)
    rows = {"image": ["0.nii.gz", "1.nii.gz", "2.nii.gz", "gone.nii.gz"], "patient_id": ["p", "p", "q", "r"]}
    pd.DataFrame(rows).to_csv(tmp_path / "list.csv", index=False)
    predictor = Predictor.from_bundle(folder)
    logits = np.array([predictor(tmp_path / f"{number}.nii.gz").output.logits for number in range(2)])
    wanted = softmax(logits.mean(axis=0) / predictor.calibrator.value)[1]
    with_point(folder, [point("lesion", 0), point("lesion", np.nextafter(wanted, 1), "patient")], "mean")
    scans = predicted(tmp_path, folder, tmp_path / "list.csv")
    assert scans["decision"].tolist() == ["lesion"] * 3 + [""]
    table = pd.read_csv(tmp_path / "found_patients.csv", keep_default_na=False).set_index("patient")
    assert float(table.loc["p", "lesion"]) == pytest.approx(wanted, abs=1e-12)
    assert table["decision"]["p"] == "control" and table.loc["r"].tolist() == [1, 0, "", "", ""]
    assert "2 of 2" in (printed := capsys.readouterr().out) and "by patient, from the answered scans (mean" in printed


@pytest.mark.parametrize("labels", [2, 14])
def test_a_table_is_at_most_120_characters_wide(tmp_path, asymmetric, capsys, labels):
    classes = [f"finding number {number}" for number in range(labels)] if labels > 2 else ["control", "lesion"]
    activation = ("temperature", "sigmoid") if labels > 2 else ("temperature", "softmax")
    folder = written(tmp_path / "model", fitted(*activation, n_classes=labels), classes=classes)
    with_point(folder, [point(name, 0.0) for name in classes[-1:] + classes[:-1]])
    scan = save_nifti(tmp_path / "a very long folder" / ("name" * 20 + ".nii.gz"), asymmetric)
    assert main(["predict", str(folder), str(scan), "--out", str(tmp_path / "found.csv")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("scan  ", "…"))]
    assert len(lines) == 2 and max(map(len, lines)) <= 120 and lines[1].startswith("…") and ".nii.gz" in lines[1]
    assert labels == 2 or "most probable" in lines[0]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.nii.gz", b"", "the file is empty; copy or export it again"),
        ("letter.txt", b"Dear colleague", "it is a text file, not an image; give NIfTI"),
        ("image.png", "png", "it is a 2D image; volumes are needed"),
        ("noise.nii.gz", bytes(range(200)), "; copy or export it again"),
        ("gone.nii.gz", None, "the file does not exist; check the path"),
    ],
)
def test_a_bad_scan_is_named_once_with_the_cure(limited, tmp_path, capsys, name, content, told):
    file = tmp_path / name
    if content == "png":
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(file)
    elif content is not None:
        file.write_bytes(content)
    assert main(["predict", str(limited[0]), str(file), "--out", str(tmp_path / "found.csv")]) == 1
    printed = capsys.readouterr().out
    assert printed.count(told) == 1 and "None" not in printed and "nan" not in printed
    [row] = pd.read_csv(tmp_path / "found.csv", keep_default_na=False).to_dict("records")
    assert row["abstains"] == "bad image" and told in row["reason"]


def test_a_model_of_images_says_so_of_a_volume(tmp_path, asymmetric):
    steps = Preprocessor(replace(GEOMETRY, kind="image", slices=1))
    with pytest.raises(Unreadable, match="it is a volume; 2D images are needed"):
        steps.prepare_file(save_nifti(tmp_path / "scan.nii.gz", asymmetric))


def test_a_folder_without_images_is_told_as_such(limited, tmp_path, capsys):
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "README").write_text("x")
    assert main(["predict", str(limited[0]), str(tmp_path / "inbox")]) == 1
    assert "holds no image, only other files such as README" in capsys.readouterr().err


def test_labels_of_a_site_may_name_scans_or_paths(limited, tmp_path, capsys):
    folder, scans, _ = limited
    names = [f"{number}.nii.gz" for number in range(24)]
    for forms in (names, [f"development/{name}" for name in names], [str(scans / name) for name in names]):
        table = pd.DataFrame({"scan": forms, "label": [CLASSES[number % 3] for number in range(24)]})
        table.to_csv(tmp_path / "labels.csv", index=False)
        words = ["--site-recalibrate", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "site.json")]
        assert main(["predict", str(folder), str(scans), *words]) == 0
    table.assign(scan="x.nii.gz").to_csv(tmp_path / "labels.csv", index=False)
    assert main(["predict", str(folder), str(scans), *words]) == 1
    assert "scan 'x.nii.gz' is not among the predicted scans" in capsys.readouterr().err


def test_a_table_of_patients_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "found_patients.csv").mkdir()
    with pytest.raises(UserError, match="found_patients.csv cannot be written"):
        write_results(pd.DataFrame(), pd.DataFrame(), str(tmp_path / "found.csv"))
