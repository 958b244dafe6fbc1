import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.__main__ import main
from pipeline.bundle.layout import LIMITS, METADATA
from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.opening import Opened, open_bundle
from pipeline.bundle.predictor import Predictor
from pipeline.metrics.calibrators.updating import Recalibration
from pipeline.metrics.conformal import Thresholds, conformal_thresholds, sets_of
from tests.bundle.bundles import CLASSES, expected, fitted, rewrite, written
from tests.commands.predict.limits import predicted
from tests.conftest import save_nifti


@pytest.mark.parametrize("members", [0, 3])
@pytest.mark.parametrize(
    ("method", "activation"), [("temperature", "softmax"), ("temperature", "sigmoid"), ("platt", "softmax")]
)
def test_a_scan_is_given_one_probability_for_each_class_or_label(tmp_path, asymmetric, method, activation, members):
    calibrator = fitted(method, activation)
    folder = written(tmp_path / "model", calibrator, members)
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    assert main(["predict", str(folder), str(scan), "--out", str(tmp_path / "found.csv")]) == 0
    found = pd.read_csv(tmp_path / "found.csv")
    [row] = found[CLASSES].to_numpy()
    assert found["model_status"].tolist() == ["candidate"]
    np.testing.assert_array_equal(row, expected(folder, scan, calibrator))
    assert np.ptp(row) > 0.01


def test_a_map_that_this_version_does_not_know_is_refused_with_the_cure(tmp_path, asymmetric, capsys):
    values = {"method": "splines", "activation": "softmax", "knots": [1.0]}
    folder = written(tmp_path / "model", fitted("platt"))
    for file in (folder / "configs").glob("*.json"):
        text = file.read_text().replace(json.dumps(fitted("platt")), json.dumps(values))
        file.write_text(text)
    rewrite(folder, METADATA, lambda content: content.update(calibration=values))
    write_manifest(folder, {})
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    assert main(["predict", str(folder), str(scan)]) == 1
    assert "splines" in (message := capsys.readouterr().err) and "update medadapt" in message


def test_the_sites_of_an_ensemble_are_those_that_any_member_knows(tmp_path):
    members = [{"sites": {"names": ["north", "south"]}}, {}, {"sites": {"names": ["south", "west"]}}]
    bundle = Opened(tmp_path, {}, {"members": members}, {}, [], "volume", "candidate")
    assert bundle.sites == ("north", "south", "west")


def test_a_folder_gives_a_line_per_file_with_prediction_or_reason(limited, tmp_path, asymmetric, capsys):
    folder, scans, limits = limited
    inbox = tmp_path / "inbox"
    shutil.copytree(scans, inbox / "usual")
    save_nifti(inbox / "odd.nii.gz", np.where(asymmetric > 60, asymmetric, 0))
    save_nifti(inbox / "flat.nii.gz", np.ones((12, 14, 10), dtype=np.float32))
    (inbox / "usual" / "letter.txt").write_text("Dear colleague")
    found = predicted(tmp_path, folder, inbox)
    assert len(found) == 26
    flat = found.loc["flat.nii.gz"]
    assert flat["abstains"] == "bad image"
    assert flat["reason"] == "every voxel has the value 1; copy or export it again"
    odd, ood_score = found.loc["odd.nii.gz"], found["ood_score"].replace("", "nan").astype(float)
    assert "out of distribution" in odd["abstains"] and ood_score["odd.nii.gz"] > limits.detector.threshold
    assert f"unlike the development scans (score {ood_score['odd.nii.gz']:.2f}, limit" in odd["reason"]
    usual = found[found.index.str.startswith("usual/")]
    assert (usual["abstains"].str.contains("out of") == (ood_score[usual.index] > limits.detector.threshold)).all()
    assert usual["abstains"].str.contains("out of").sum() <= 2  # 5 % of 24
    probabilities = usual[CLASSES].where(
        usual["abstains"] == "", usual[[f"withheld_{name}" for name in CLASSES]].values
    )
    highest = probabilities.astype(float).max(axis=1)
    assert (usual["abstains"].str.contains("low") == (highest < limits.rules[0].min_confidence)).all()
    sets = usual["set"] + usual["withheld_set"]
    assert sets.str.contains("|".join(CLASSES)).all() and set(usual["nearest_site"]) == {"dim", "bright"}
    printed = capsys.readouterr().out
    assert "scans: 26; without an answer: " in printed and "flat.nii.gz: every voxel has the value 1" in printed
    assert "documents, not images: 1 (usual/letter.txt)" in printed


def test_a_table_of_scans_keeps_names_and_predicts_as_single_files(limited, tmp_path):
    folder, scans, _ = limited
    rows = {"image": ["3.nii.gz", "1.nii.gz", "gone.nii.gz"], "case_id": ["c", "a", "g"], "patient_id": ["p"] * 3}
    pd.DataFrame(rows).to_csv(scans.parent / "list.csv", index=False)
    shutil.move(scans.parent / "list.csv", scans / "list.csv")
    found = predicted(tmp_path, folder, scans / "list.csv")
    (scans / "list.csv").unlink()
    assert (
        found["case"].tolist() == ["c", "a", "g"]
        and found["reason"].iloc[2] == "the file does not exist; check the path"
    )
    alone = predicted(tmp_path, folder, scans / "1.nii.gz", scans / "3.nii.gz")
    columns = [*CLASSES, *(f"withheld_{name}" for name in CLASSES), "ood_score", "set", "nearest_site"]
    pd.testing.assert_frame_equal(found.loc[alone.index, columns].astype(str), alone[columns].astype(str))


def test_saliency_maps_have_the_grid_of_their_scan_and_unique_names(limited, tmp_path, asymmetric):
    folder, _, _ = limited
    for side in "ab":
        save_nifti(tmp_path / "in" / side / "scan.nii.gz", asymmetric + ord(side), "PSR", (1, 1.5, 2))
    found = predicted(tmp_path, folder, tmp_path / "in", "--saliency", tmp_path / "maps", "--show-withheld")
    assert found["saliency"].tolist() == ["1_scan_saliency.nii.gz", "2_scan_saliency.nii.gz"]
    for name, file in found["saliency"].items():
        scan, overlay = nib.load(tmp_path / "in" / name), nib.load(tmp_path / "maps" / file)
        assert overlay.shape == scan.shape and 0 < overlay.get_fdata().max() <= 1
        np.testing.assert_array_equal(overlay.affine, scan.affine)
    pngs = [Image.open(tmp_path / "maps" / f"{number}_scan_overlay.png") for number in (1, 2)]
    assert [png.size for png in pngs] == [(32, 32)] * 2 and np.ptp(np.asarray(pngs[0]), axis=2).max() > 50  # colours


def labelled(scans, names=None):
    table = pd.DataFrame({"scan": names or [f"{number}.nii.gz" for number in range(24)]})
    table.assign(label=[CLASSES[number % 3] for number in range(len(table))]).to_csv(scans / "labels.csv", index=False)
    return scans / "labels.csv"


def test_a_site_is_recalibrated_beside_a_bundle_that_stays_what_it_is(limited, tmp_path, capsys):
    folder, scans, _ = limited
    before, out = (folder / "MANIFEST.json").read_bytes(), tmp_path / "site.json"
    assert main(["predict", str(folder), "--site-recalibrate", str(labelled(scans)), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "updated: intercept (too few" in printed and "log-loss: " in printed and "cross-fitted" in printed
    assert (folder / "MANIFEST.json").read_bytes() == before and open_bundle(folder)
    values = json.loads(out.read_text())
    assert values["before"]["log-loss"]["value"] > values["after"]["log-loss"]["value"]
    change = Recalibration(tuple(values["change"]["intercepts"]), values["change"]["slope"])
    plain = predicted(tmp_path, folder, scans / "1.nii.gz")
    updated = predicted(tmp_path, folder, scans / "1.nii.gz", "--calibration", out)
    expected = change.apply(plain[CLASSES].to_numpy(dtype=float))
    np.testing.assert_array_equal(updated[CLASSES].to_numpy(dtype=float), expected)
    assert np.abs(expected - plain[CLASSES].to_numpy(dtype=float)).max() > 0.01
    out.write_text(json.dumps(values | {"change": {"intercepts": [50.0, 0.0, -50.0], "slope": 1.0}}))
    sure = predicted(tmp_path, folder, scans / "1.nii.gz", "--calibration", out)
    assert float(sure["a"].iloc[0]) > 0.999  # but what is promised is promised of the release's probabilities
    assert sure[["abstains", "reason"]].equals(plain[["abstains", "reason"]])


def test_prediction_sets_of_a_recalibrated_site_hold_for_its_patients(limited, tmp_path, capsys):
    folder, scans, _ = limited
    out = tmp_path / "site.json"
    words = ["predict", str(folder), "--site-recalibrate", str(labelled(scans)), "--out", str(out), "--force"]
    assert main(words) == 0 and "hold the truth for 90% of the patients of this site" in capsys.readouterr().out
    predictor, labels = Predictor.from_bundle(folder), np.arange(24) % 3
    outputs = [predictor(scans / f"{number}.nii.gz").output for number in range(24)]
    released = predictor.calibrator.apply(np.array([one.logits for one in outputs]))
    expected = conformal_thresholds(released, labels, np.arange(24).astype(str), alpha=0.1)
    assert Thresholds.from_json(json.loads(out.read_text())["sets"][""]) == expected
    found = predicted(tmp_path, folder, scans / "1.nii.gz", scans / "7.nii.gz", "--calibration", out)
    for name, one in found.iterrows():
        [marks] = sets_of(released[[int(name.removesuffix(".nii.gz"))]], expected)
        assert one["set"] == " or ".join(np.array(CLASSES)[marks])
    few = labelled(scans, names=["0.nii.gz", "1.nii.gz", "2.nii.gz", "3.nii.gz", "4.nii.gz", "5.nii.gz"])
    assert main(["predict", str(folder), "--site-recalibrate", str(few), "--out", str(out), "--force"]) == 0
    assert "those of the release; a promise of 90% takes 9 labelled patients" in capsys.readouterr().out
    assert json.loads(out.read_text())["sets"] == {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda values: values["bundle"].update(manifest="0"), "fitted to another release"),
        (lambda values: values["change"].update(slope="nan"), "finite"),
        (lambda values: values.pop("change"), "not the recalibration of a site"),
        (lambda values: values.update(sets=["b"]), "not the recalibration of a site"),
        (lambda values: values.update(sets={"": {"alpha": 0.1}}), "not the recalibration of a site"),
    ],
)
def test_a_calibration_of_another_release_or_a_broken_one_is_refused(limited, tmp_path, capsys, change, told):
    folder, scans, _ = limited
    out = tmp_path / "site.json"
    assert main(["predict", str(folder), "--site-recalibrate", str(labelled(scans)), "--out", str(out)]) == 0
    values = json.loads(out.read_text())
    change(values)
    out.write_text(json.dumps(values))
    assert main(["predict", str(folder), str(scans / "1.nii.gz"), "--calibration", str(out)]) == 1
    assert told in (message := capsys.readouterr().err) and "--site-recalibrate" in message


def test_unknown_labels_and_a_missing_class_are_refused_with_the_scan(limited, tmp_path, capsys):
    folder, scans, _ = limited
    file = labelled(scans)
    words = ["predict", str(folder), "--site-recalibrate", str(file), "--out", str(tmp_path / "s.json")]
    table = pd.read_csv(file)
    table.replace("b", "zebra").to_csv(file, index=False)
    assert main(words) == 1
    assert "1.nii.gz: 'zebra' is no class of this model" in capsys.readouterr().err
    table.replace("b", "a").to_csv(file, index=False)
    assert main(words) == 1
    assert "no scan is labelled 'b'" in capsys.readouterr().err
    assert main(words[:-2]) == 1
    assert "--out" in capsys.readouterr().err and not (tmp_path / "s.json").exists()


def several_labels(tmp_path, label="a;?c"):
    """Write a bundle of labels that stand each by itself, and a table of a dozen scans of which `c` is never known."""
    torch.manual_seed(0)
    folder = written(tmp_path / "model", fitted("temperature", "sigmoid"))
    rng, labels = np.random.default_rng(0), [label, "b;?c", "a; b;?c", "no finding;?c"] * 3
    for number in range(12):
        volume = rng.normal(50 + number % 2 * 20, 12, (12, 14, 10)).astype(np.float32)
        save_nifti(tmp_path / "scans" / f"{number}.nii.gz", volume)
    table = pd.DataFrame({"scan": [f"{number}.nii.gz" for number in range(12)], "label": labels})
    table.to_csv(tmp_path / "scans" / "labels.csv", index=False)
    return folder, tmp_path / "scans"


def test_labels_that_stand_each_by_itself_are_recalibrated_one_by_one(tmp_path, capsys):
    folder, scans = several_labels(tmp_path)
    out = tmp_path / "site.json"
    words = ["predict", str(folder), "--site-recalibrate", str(scans / "labels.csv"), "--out", str(out)]
    assert main(words) == 1 and not out.exists()
    told = capsys.readouterr()
    assert "does NOT lower the log-loss" in told.out and "nothing is written" in told.err
    assert main([*words, "--force"]) == 0
    printed = capsys.readouterr().out
    assert "a; scans, each counted as one patient: 6 no a, 6 a" in printed and "c: unchanged" in printed
    labels = json.loads(out.read_text())["labels"]
    assert list(labels) == CLASSES and labels["c"] is None
    plain = predicted(tmp_path, folder, scans / "1.nii.gz")[CLASSES].astype(float)
    updated = predicted(tmp_path, folder, scans / "1.nii.gz", "--calibration", out)[CLASSES].astype(float)
    assert updated["c"].equals(plain["c"])
    for name in "ab":
        low, high = labels[name]["change"]["intercepts"]
        odds = plain[name] / (1 - plain[name]) * np.exp(high - low)
        np.testing.assert_allclose(updated[name], odds / (1 + odds))
        assert abs(updated[name].iloc[0] - plain[name].iloc[0]) > 0.01
    out.write_text(json.dumps(json.loads(out.read_text()) | {"labels": {"a": None}}))
    assert main(["predict", str(folder), str(scans / "1.nii.gz"), "--calibration", str(out)]) == 1
    assert "an update of each of the labels a, b, c" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("a;zebra", "0.nii.gz: 'zebra' is no class of this model; the column label takes a, b, c, joined by ;"),
        ("", "0.nii.gz: it has no label"),
        ("a;?a", "0.nii.gz: 'a' is named twice"),
    ],
)
def test_several_labels_that_cannot_be_read_are_refused_by_the_scan(tmp_path, capsys, label, told):
    folder, scans = several_labels(tmp_path, label)
    words = ["--site-recalibrate", str(scans / "labels.csv"), "--out", str(tmp_path / "site.json")]
    assert main(["predict", str(folder), *words]) == 1
    assert told in capsys.readouterr().err


def test_limits_that_are_none_are_refused_and_so_is_nothing_to_predict(tmp_path, asymmetric, capsys):
    folder = written(tmp_path / "model")
    (folder / LIMITS).write_text('{"limits": {"rules": 3}}')
    write_manifest(folder, {})
    assert main(["predict", str(folder), str(save_nifti(tmp_path / "a.nii.gz", asymmetric))]) == 1
    assert str(LIMITS) in capsys.readouterr().err
    assert main(["predict", str(folder)]) == 1
    assert "name a scan" in capsys.readouterr().err
