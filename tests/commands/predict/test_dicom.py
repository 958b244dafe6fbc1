"""Results as DICOM objects: what they say, what they refer to, and that other programs read them."""

import shutil
import subprocess

import nibabel as nib
import numpy as np
import pydicom
import pytest
from highdicom.seg import segread
from highdicom.sr import MeasurementReport, srread

from pipeline.__main__ import main
from tests.bundle.bundles import CLASSES, written
from tests.commands.predict.limits import predicted
from tests.conftest import save_nifti
from tests.imaging.phantoms import data_set, save, save_series

CANARY = "Canary^Other"
HEADER = {
    "SpecificCharacterSet": "ISO_IR 192",
    "PatientName": "Müller^Jürgen",
    "PatientID": "patient 7",
    "AccessionNumber": "A77",
    "StudyDate": "20260131",
    "FrameOfReferenceUID": "1.2.3.5",
    "InstitutionName": "Hospital of the source",
}


def series_of(file, folder, **attributes):
    volume = np.asarray(nib.load(file).dataobj).clip(0).astype(np.uint16)
    return save_series(folder, volume, "LPS", **(HEADER | attributes))


@pytest.fixture(scope="module")
def results(limited, tmp_path_factory):
    """The table, the study, and the folder of objects of an answered scan, another patient, and a strange scan."""
    folder, scans, _ = limited
    place = tmp_path_factory.mktemp("dicom")
    found = predicted(place, folder, scans)
    name = found.index[found["abstains"] == ""][0]
    study = place / "study"
    series_of(scans / name, study / "answered", SeriesInstanceUID="1.2.3.4.1")
    noise = np.random.default_rng(1).integers(0, 2000, (12, 14, 10)).astype(np.uint16)
    save_nifti(place / "noise.nii.gz", noise.astype(np.float32))
    other = {"SeriesInstanceUID": "1.2.3.4.2", "PatientName": CANARY, "PatientID": "canary", "StudyInstanceUID": "1.9"}
    series_of(place / "noise.nii.gz", study / "odd", **other)
    table = predicted(place, folder, study, "--dicom", place / "objects", "--saliency", place / "maps")
    return table, study, place / "objects"


def measured(report):
    """Numbers and texts of a report by the meaning of their names."""
    found = {}
    for item in report.ContentSequence[-1].ContentSequence[0].ContentSequence:
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        if item.ValueType == "NUM":
            value = item.MeasuredValueSequence[0]
            found[name] = value.get("FloatingPointValue", float(value.NumericValue))
        elif item.ValueType == "TEXT":
            found[name] = item.TextValue
        elif item.ValueType == "CODE":
            found[name] = item.ConceptCodeSequence[0].CodeMeaning
    return found


def test_a_report_has_the_probabilities_set_and_decision_of_the_table(results, limited):
    table, _, objects = results
    row = table.loc["answered"]
    assert row["dicom"] == "1_answered_report.dcm; 1_answered_segmentation.dcm; 1_answered_capture.dcm"
    report = srread(objects / "1_answered_report.dcm")
    assert isinstance(report.content, MeasurementReport)
    found = measured(report)
    assert [found[f"Probability of {name}"] for name in CLASSES] == [float(row[name]) for name in CLASSES]
    assert found["Prediction set"] == row["set"] and found["Answer of the model"] == "answered"
    assert found["Nearest development site"].startswith(row["nearest_site"])
    assert found["Intended use"] == "Research use only, not a medical device"
    digest = (limited[0] / "MANIFEST.json.sha256").read_text().split()[0]
    assert digest in str(report) and "1.0.0" in str(report)


def test_a_withheld_answer_has_its_reason_and_no_number(results):
    table, _, objects = results
    row = table.loc["odd"]
    assert row["dicom"] == "2_odd_report.dcm"
    report = pydicom.dcmread(objects / "2_odd_report.dcm")
    found = measured(report)
    assert found["Reason for giving no answer"] == f"{row['abstains']}: {row['reason']}"
    assert found["Answer of the model"] == "no answer"
    assert not [name for name in found if name.startswith(("Probability", "Prediction set", "Decision"))]
    assert row["withheld_a"] and str(row["withheld_a"])[:8] not in str(report)


def test_objects_go_back_to_the_patient_and_study_of_the_series(results):
    _, study, objects = results
    source = [pydicom.dcmread(file) for file in (study / "answered").iterdir()]
    uids = {one.SOPInstanceUID for one in source}
    for kind in ("report", "segmentation", "capture"):
        found = pydicom.dcmread(objects / f"1_answered_{kind}.dcm")
        for name in ("PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
            assert found[name].value == source[0][name].value, (kind, name)
        assert found.SeriesInstanceUID != source[0].SeriesInstanceUID
        assert found.SeriesDescription.startswith("Research use only")
    report = pydicom.dcmread(objects / "1_answered_report.dcm")
    [evidence] = report.CurrentRequestedProcedureEvidenceSequence
    [series] = evidence.ReferencedSeriesSequence
    assert {one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence} == uids
    assert series.SeriesInstanceUID == "1.2.3.4.1"


def test_nothing_of_another_patient_is_in_an_object(results):
    _, _, objects = results
    for file in objects.iterdir():
        content = file.read_bytes()
        mine, others = (b"canary", b"patient 7") if "odd" in file.name else (b"patient 7", b"anary")
        assert mine in content and others not in content, file.name
        assert b"Doe" not in content


def test_the_segmentation_is_the_strong_half_of_the_map_in_space(results):
    table, study, objects = results
    overlay = nib.load(objects.parent / "maps" / table.loc["answered", "saliency"])
    strong = np.asarray(overlay.dataobj) >= 0.5
    found = segread(objects / "1_answered_segmentation.dcm")
    assert list(found.segment_numbers) == [1] and "Saliency of" in found.get_segment_description(1).SegmentLabel
    source = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, (study / "answered").iterdir())}
    heights = {uid: one.ImagePositionPatient[2] for uid, one in source.items()}
    uids = sorted(heights, key=heights.get)
    pixels = found.get_pixels_by_source_instance(uids, segment_numbers=[1], ignore_spatial_locations=True)
    np.testing.assert_array_equal(pixels[..., 0].astype(bool), strong.transpose(2, 1, 0))
    assert 0 < strong.mean() < 1


def test_the_capture_is_a_colour_image_of_the_frame_with_most_saliency(results):
    table, study, objects = results
    overlay = nib.load(objects.parent / "maps" / table.loc["answered", "saliency"])
    found = pydicom.dcmread(objects / "1_answered_capture.dcm")
    [reference] = found.SourceImageSequence
    peak = float(np.asarray(overlay.dataobj).sum(axis=(0, 1)).argmax())
    source = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, (study / "answered").iterdir())}
    lowest = min(one.ImagePositionPatient[2] for one in source.values())
    assert source[reference.ReferencedSOPInstanceUID].ImagePositionPatient[2] - lowest == pytest.approx(peak)
    assert np.ptp(found.pixel_array.astype(int), axis=2).max() > 50 and found.Columns >= 480
    assert found.pixel_array[-30:].max() == 255  # the caption


def uids_in(folder):
    found = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    return [[one.SOPInstanceUID, one.SeriesInstanceUID, *of_dimensions(one)] for one in found]


def of_dimensions(one):
    return [part.DimensionOrganizationUID for part in one.get("DimensionOrganizationSequence", [])]


def test_the_same_input_and_bundle_give_the_same_uids(results, limited, tmp_path):
    _, study, objects = results
    shutil.copytree(study / "answered", tmp_path / "in" / "answered")
    shutil.copytree(study / "odd", tmp_path / "in" / "odd")
    assert main(["predict", str(limited[0]), str(tmp_path / "in"), "--dicom", str(tmp_path / "again")]) == 0
    assert uids_in(tmp_path / "again") == uids_in(objects)
    other = written(tmp_path / "other")
    assert main(["predict", str(other), str(tmp_path / "in"), "--dicom", str(tmp_path / "others")]) == 0
    of_other, known = ({uid for one in uids_in(place) for uid in one} for place in (tmp_path / "others", objects))
    assert len(of_other) > 6 and not of_other & known


def test_scans_without_a_study_are_told_or_refused(limited, tmp_path, capsys):
    folder, scans, _ = limited
    single = ["predict", str(folder), str(scans / "0.nii.gz"), "--dicom", str(tmp_path / "out")]
    assert main(single) == 1
    assert "--dicom: no scan is DICOM" in capsys.readouterr().err
    series_of(scans / "0.nii.gz", tmp_path / "in" / "nameless", StudyInstanceUID="")
    assert main(["predict", str(folder), str(tmp_path / "in"), str(scans / "0.nii.gz"), *single[3:]]) == 0
    printed = capsys.readouterr().out
    assert "nothing is written for nameless: 10 of 10 images state no StudyInstanceUID" in printed
    assert "nothing is written for 0.nii.gz: it is not DICOM" in printed
    assert not list((tmp_path / "out").iterdir())


def test_headers_without_optional_attributes_still_get_a_report(limited, tmp_path):
    for file in series_of(limited[1] / "0.nii.gz", tmp_path / "in" / "bare").iterdir():
        fields = pydicom.dcmread(file)
        for name in ("PatientID", "PatientName", "AccessionNumber", "StudyDate", "FrameOfReferenceUID", "Modality"):
            del fields[name]
        save(fields, file)
    assert main(["predict", str(limited[0]), str(tmp_path / "in"), "--dicom", str(tmp_path / "out")]) == 0
    found = pydicom.dcmread(tmp_path / "out" / "1_bare_report.dcm")
    assert found.PatientID in ("", None) and found.StudyInstanceUID == "1.2.3"


def test_an_image_gets_a_report_and_a_capture_in_its_own_pixels(image_model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4000, (40, 60)).astype(np.uint16)
    save(data_set(pixels, Modality="DX", **HEADER), tmp_path / "in" / "chest.dcm")
    assert main(["predict", str(image_model), str(tmp_path / "in"), "--dicom", str(tmp_path / "out")]) == 0
    assert [file.name for file in sorted((tmp_path / "out").iterdir())] == [
        "1_chest_capture.dcm",
        "1_chest_report.dcm",
    ]
    found = pydicom.dcmread(tmp_path / "out" / "1_chest_capture.dcm")
    assert (found.Rows, found.Columns) == (8 * 40 + 45, 8 * 60)


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="no dciodvfy on this machine; Debian's package is dicom3tools")
def test_dciodvfy_finds_no_error(results):
    _, _, objects = results
    kinds = set()
    for file in objects.iterdir():
        done = subprocess.run(["dciodvfy", file], capture_output=True, text=True)
        kinds.add(file.stem.split("_")[-1])
        assert not [line for line in done.stderr.splitlines() if line.startswith("Error")], done.stderr
    assert kinds == {"report", "segmentation", "capture"}


@pytest.mark.skipif(not shutil.which("dsrdump"), reason="no dsrdump on this machine; Debian's package is dcmtk")
def test_dsrdump_prints_the_report(results):
    _, _, objects = results
    done = subprocess.run(["dsrdump", objects / "1_answered_report.dcm"], capture_output=True, text=True)
    assert done.returncode == 0 and "Measurement Report" in done.stdout and "Probability of a" in done.stdout
