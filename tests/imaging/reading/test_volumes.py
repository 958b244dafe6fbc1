import gzip

import pytest

from pipeline.imaging.reading.scan import Policy, Unreadable
from pipeline.imaging.reading.volumes import read_scan
from tests.conftest import SHARED, shared


def test_the_reason_for_refusing_a_file_never_contains_its_name(tmp_path):
    for ending in (".png", ".nii", ".nii.gz", ".mha", ".nrrd", ".dcm", ".tif"):
        file = tmp_path / f"Doe_Jane{ending}"
        file.write_bytes(b"nothing of the kind" * 10)
        with pytest.raises(Unreadable) as refused:
            read_scan(file)
        assert "Doe" not in str(refused.value) and str(tmp_path) not in str(refused.value)


def test_other_files_are_refused_by_their_ending(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(Unreadable, match="it is a text file, not an image; give NIfTI"):
        read_scan(tmp_path / "notes.txt")
    (tmp_path / "scan.raw").write_bytes(bytes(range(256)))
    with pytest.raises(Unreadable, match="its ending is not one of .nii"):
        read_scan(tmp_path / "scan.raw")


def test_a_missing_file_is_reported_as_missing(tmp_path):
    with pytest.raises(Unreadable, match="does not exist"):
        read_scan(tmp_path / "a.nii")


def test_a_file_that_only_calls_itself_nifti_is_refused(tmp_path):
    with gzip.open(tmp_path / "x.nii.gz", "wb") as file:
        file.write(b"nothing of the kind" * 100)
    with pytest.raises(Unreadable, match="not NIfTI"):
        read_scan(tmp_path / "x.nii.gz")


# Per file of the reader zoo: shape from left to right, back to front, feet to head, or the check that refuses it.
ZOO = {
    "dicom_series_hcrop": (35, 51, 32),
    "dicom_series_hcrop/7.dcm": (51, 35),
    "dicom_siemens_epi/mr_0003": "frames",
    "dicom_siemens_epi/mr_0004": "frames",
    "dicom_siemens_epi/mr_0005": "frames",
    "dicom_siemens_epi/mr_0006": "frames",
    "dicom_siemens_epi/Ref/EPI_PE=AP_3.nii": "frames",
    "dicom_siemens_epi/Ref/EPI_PE=LR_6.nii": "frames",
    "dicom_siemens_epi/Ref/EPI_PE=PA_4.nii": "frames",
    "dicom_siemens_epi/Ref/EPI_PE=RL_5.nii": "frames",
    "dicom_siemens_epi/Ref": "no image",
    "dicom_siemens_epi/README-Study.txt": "unknown format",
    "dicom_siemens_epi/Ref/EPI_PE=AP_3.json": "unknown format",
    "manifest.csv": "unknown format",
    "nnunet_ct/example_ct_sm.nii.gz": (122, 101, 30),
    "nnunet_ct/example_ct_sm_T300_output.nii.gz": (122, 101, 30),
    "sct/dmri/dmri.nii.gz": "frames",
    "sct/fmri/fmri.nii.gz": "frames",
    "sct/mt/mtr.nii.gz": "not finite",
    "sct/t1/t1w.nii.gz": (42, 76, 77),
    "sct/t2/t2.nii.gz": (52, 60, 55),
    "sct/t2s/t2s.nii.gz": (49, 54, 9),
}


@pytest.mark.parametrize("name", ZOO)
def test_every_file_of_the_reader_zoo_is_read_or_refused_with_the_reason(name):
    file, expected = shared("reader_zoo") / name, ZOO[name]
    try:
        found = read_scan(file).header.shape
    except Unreadable as refused:
        found = refused.finding.check
    assert found == expected


@pytest.mark.parametrize("name", [name for name, found in ZOO.items() if found in ("frames", "not finite")])
def test_a_file_refused_because_of_a_parameter_is_read_when_it_changes(name):
    scan = read_scan(shared("reader_zoo") / name, Policy(frames="mean", not_finite="darken"))
    assert [finding.action for finding in scan.header.findings] == ["repaired"]


def test_the_table_lists_every_file_of_the_reader_zoo():
    zoo = shared("reader_zoo")
    kinds = {".nii", ".gz", ".txt", ".json", ".csv"}
    files = {str(file.relative_to(zoo)) for file in zoo.rglob("*") if file.suffix in kinds}
    series = {str(folder.relative_to(zoo)) for folder in zoo.rglob("*") if any(folder.glob("*.dcm"))}
    told = {"README-Series.txt", "README-Study.txt"}
    left = {name for name in files | series if not any(name.endswith(end) for end in (*told, ".json"))}
    assert left <= set(ZOO), SHARED
