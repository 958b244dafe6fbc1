from functools import partial

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.uid import MediaStorageDirectoryStorage, RLELossless

from pipeline.imaging.reading.volumes import read_scan
from pipeline.imaging.tables.pseudonyms import PUBLIC_SALT, pseudonym
from pipeline.stages.cohort.importers.dicom_facts import age_of
from pipeline.stages.cohort.importers.dicom_tree import Choices, find_in_dicom_tree, read_labels
from pipeline.stages.cohort.importers.found import BadSource, describe, write_import
from tests.conftest import shared
from tests.stages.cohort.importers.conftest import dicom_image, dicom_series, save, write_image

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")  # the canaries

NAME = partial(pseudonym, PUBLIC_SALT)


def found_in(folder, **choices):
    return find_in_dicom_tree(folder, Choices(**choices), NAME)


def rows_of(found):
    return pd.DataFrame([case.row for case in found.cases]).set_index("case_id")


def written(found, into, link=False):
    """Write, and give the folders of the images by case."""
    assert write_import(found, into, link) == []
    table = pd.read_csv(into / "cohort.csv", dtype=str, keep_default_na=False).set_index("case_id")
    return {case: into / image for case, image in table["image"].items()}


def assert_same_scan(one, other):
    one, other = read_scan(one), read_scan(other)
    assert np.array_equal(one.voxels, other.voxels) and one.voxels.dtype == other.voxels.dtype
    assert np.array_equal(one.affine, other.affine) and one.header == other.header


def test_series_are_taken_apart_however_they_lie(tmp_path):
    for number in (3, 1, 2):
        for uid in ("1.2.7", "1.2.8"):
            image = dicom_image(number, SeriesInstanceUID=uid, SOPInstanceUID=f"{uid}.{number}", PatientID=uid)
            save(image, tmp_path / "src" / "ABC"[number - 1] / uid.replace(".", "_"))
    found = found_in(tmp_path / "src")
    assert [(case.row["case_id"], case.row["patient_id"], len(case.parts)) for case in found.cases] == [
        ("1.2.7", "1.2.7", 3),
        ("1.2.8", "1.2.8", 3),
    ]
    folders = written(found, tmp_path / "raw")
    assert read_scan(folders["1.2.7"]).voxels.shape == (1, 7, 6, 3)


def test_a_copied_series_reads_as_the_original_voxel_by_voxel(tmp_path):
    dicom_series(tmp_path / "src" / "even")
    for number in range(1, 4):
        image = dicom_image(number, SeriesInstanceUID="1.2.8", SOPInstanceUID=f"1.2.8.{number}", RescaleSlope=0.5)
        image.ImageOrientationPatient, image.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [-3.3 * number, 1, 2]
        image.compress(RLELossless, generate_instance_uid=False)
        save(image, tmp_path / "src" / "tilted" / f"{9 - number}")
    image_like = dicom_image(pixels=np.random.default_rng(0).integers(0, 255, (5, 6, 3)).astype(np.uint8))
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"):
        del image_like[keyword]
    image_like.SeriesInstanceUID, image_like.SOPInstanceUID = "1.2.6", "1.2.6.1"
    save(image_like, tmp_path / "src" / "image" / "1.dcm")
    for link in (False, True):
        folders = written(found_in(tmp_path / "src", link=link), tmp_path / f"raw{link}", link)
        for uid, name in (("1.2.3.4", "even"), ("1.2.8", "tilted"), ("1.2.6", "image")):
            assert_same_scan(folders[uid], tmp_path / "src" / name)
            assert all(file.is_symlink() == link for file in folders[uid].iterdir())


def test_a_real_series_reads_as_the_original_and_names_nobody(tmp_path):
    source = shared("reader_zoo") / "dicom_series_hcrop"
    ((uid, folder),) = written(found_in(source), tmp_path / "raw").items()
    assert_same_scan(folder, source)
    assert len(list(folder.iterdir())) == 32
    assert not any(b"PGBM" in file.read_bytes() or b"Avasarala" in file.read_bytes() for file in folder.iterdir())
    assert uid.encode() not in next(folder.iterdir()).read_bytes()


def test_a_siemens_mosaic_is_left_out_with_the_cure_unless_it_is_linked(tmp_path):
    source = shared("reader_zoo") / "dicom_siemens_epi"
    found = found_in(source)
    assert found.cases == []
    assert sum("--link, or convert it with dcm2niix" in reason for _, reason in found.left_out) == 8
    assert len(found_in(source, link=True).cases) == 4


def test_what_is_no_scan_is_left_out_with_the_reason(tmp_path):
    dicom_series(tmp_path / "scan")
    for name, changes in {
        "sr": {"Modality": "SR", "Rows": None, "Columns": None, "PixelData": None},
        "fid": {"Modality": "MR", "Rows": None},
        "seg": {"Modality": "SEG"},
        "scout": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "orphan": {"SeriesInstanceUID": None},
    }.items():
        save(dicom_image(SOPInstanceUID=f"1.9.{len(name)}", **changes), tmp_path / name)
    save(dicom_image(1, SOPInstanceUID="1.2.3.4.1"), tmp_path / "scan" / "copy.dcm")
    directory = dicom_image(Rows=None, DirectoryRecordSequence=[], SOPClassUID=MediaStorageDirectoryStorage)
    save(directory, tmp_path / "DICOMDIR")
    write_image(tmp_path / "preview.png")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0broken")
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "nowhere")
    found = found_in(tmp_path)
    assert [len(case.parts) for case in found.cases] == [4]
    assert dict(found.left_out) | {"broken.dcm": ""} == {
        "sr": "a report (SR)",
        "fid": "no pixels (MR)",
        "seg": "a segmentation (SEG)",
        "scout": "a localizer",
        "orphan": "it names no series (SeriesInstanceUID)",
        "scan/copy.dcm": "another file holds the same image",
        "DICOMDIR": "a DICOMDIR, which only lists other files",
        "preview.png": "not a DICOM file",
        ".DS_Store": "not a DICOM file",
        "broken.dcm": "",
        "gone.dcm": "it cannot be read (FileNotFoundError)",
    }
    assert dict(found.left_out)["broken.dcm"]


def test_labels_are_given_by_patient_study_series_or_accession_number(tmp_path):
    for uid, patient in (("1.2.7", "007"), ("1.2.8", "8")):
        more = {"StudyInstanceUID": f"{uid}.0", "AccessionNumber": f"A{patient}"}
        dicom_series(tmp_path / "src" / uid, SeriesInstanceUID=uid, PatientID=patient, **more)
    for key, one in (("patient", "007"), ("study", "1.2.7.0"), ("series", "1.2.7"), ("accession", "A007")):
        (tmp_path / "t.csv").write_text(f"{key},dx\n {one},1\nunknown,0\n")
        labels = read_labels(tmp_path / "t.csv", key, "dx", {"1": "ill"})
        found = found_in(tmp_path / "src", labels=labels, key=key)
        assert rows_of(found)[["label", "split"]].values.tolist() == [["ill", ""], ["", "unlabelled"]]
        assert found.left_out == [("unknown", f"it has a label, but no series has it as its {key}")]
        assert "1 series have no label and stay unlabelled" in found.notes
    assert set(rows_of(found_in(tmp_path / "src"))["split"]) == {"unlabelled"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("who,dx\n1,2\n", r"no column patient or patient_id or PatientID for --key patient \(it has who, dx\)"),
        ("PatientID,class\n1,2\n", r"no column 'dx'; name it with --label \(it has PatientID, class\)"),
        ("patient,dx\n1,a\n1,b\n", "gives patient 1 two labels; correct it, or choose a finer --key"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_by_file_and_option(tmp_path, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadSource, match=rf"t\.csv .*{said}"):
        read_labels(tmp_path / "t.csv", "patient", "dx", {})


def test_sites_are_called_by_pseudonyms_unless_they_are_renamed(tmp_path):
    places = {"1": "St  Mary ", "2": "St Mary", "3": "North", "4": None}
    for n, place in places.items():
        more = {"InstitutionName": place} if place else {}
        more |= {"StationName": f"MR{n}", "Manufacturer": "ACME", "ManufacturerModelName": "One"}
        dicom_series(tmp_path / n, 2, SeriesInstanceUID=f"1.2.{n}", **more)
    found = found_in(tmp_path, rename={"North": "N"})
    mary, scanner = NAME("site", "St Mary")[:11], NAME("site", "ACME One")[:11]
    assert rows_of(found)["site"].tolist() == [mary, mary, "N", scanner]
    assert found.sites == {mary: "St Mary", scanner: "ACME One"}
    assert f"{mary}: St Mary (2 images)" in describe(found) and "site N is North" in describe(found)
    assert rows_of(found_in(tmp_path, site="station"))["site"].nunique() == 4
    assert set(rows_of(found_in(tmp_path, site="scanner"))["site"]) == {scanner}
    assert set(rows_of(found_in(tmp_path, site="none"))["site"]) == {""}


def test_two_sites_never_share_a_pseudonym(tmp_path):
    for n in ("1", "2"):
        dicom_series(tmp_path / n, 1, SeriesInstanceUID=f"1.2.{n}", InstitutionName=n)
    with pytest.raises(BadSource, match="'2' and '1' share a pseudonym; name one with --rename"):
        find_in_dicom_tree(tmp_path, Choices(), lambda kind, original: f"{kind}-0123456789ab")


def test_facts_for_subgroups_reach_the_table(tmp_path):
    facts = {"PatientSex": "F", "PatientAge": "045Y", "Manufacturer": "ACME", "ManufacturerModelName": "One"}
    dicom_series(tmp_path, **facts)
    row = rows_of(found_in(tmp_path)).iloc[0]
    assert row[["study", "modality", "sex", "age", "manufacturer", "model"]].tolist() == [
        *("1.2.3", "CT", "F", "45", "ACME", "One")
    ]


@pytest.mark.parametrize(
    ("stated", "born", "seen", "age"),
    [
        ("045Y", "", "", "45"),
        ("006M", "", "", "0.5"),
        ("026W", "", "", "0.5"),
        ("", "19800615", "20200614", "39"),
        ("", "19800615", "20200616", "40"),
        ("45", "1980", "20200616", ""),
        ("", "20200616", "19800615", ""),
    ],
)
def test_the_age_is_the_stated_one_or_from_birth_to_study(stated, born, seen, age):
    fields = pydicom.Dataset()
    fields.PatientAge, fields.PatientBirthDate, fields.StudyDate = stated, born, seen
    assert age_of(fields) == age


def test_a_patient_without_id_is_known_by_the_study_and_it_is_said(tmp_path):
    dicom_series(tmp_path, PatientID="", PatientName="")
    found = found_in(tmp_path)
    assert found.cases[0].row["patient_id"] == "1.2.3"
    assert "1 series name no patient; each of their studies counts as one" in found.notes


def test_burned_in_text_and_uncleaned_parts_are_reported(tmp_path):
    dicom_series(tmp_path, BurnedInAnnotation="YES")
    assert "1 series are marked as having text burned into the pixels, maybe names" in found_in(tmp_path).notes
    assert any("pixels are not changed" in note for note in found_in(tmp_path).notes)
    assert any("all names in their headers" in note for note in found_in(tmp_path, link=True).notes)


def test_a_file_without_pixels_is_not_in_the_table_and_the_others_are(tmp_path):
    dicom_series(tmp_path / "src" / "whole")
    save(dicom_image(SeriesInstanceUID="1.2.9", PixelData=None), tmp_path / "src" / "x.dcm")
    assert write_import(found_in(tmp_path / "src"), tmp_path / "raw", link=False) == [
        ("1.2.9", "x.dcm holds no pixels")
    ]
    assert pd.read_csv(tmp_path / "raw" / "cohort.csv")["case_id"].tolist() == ["1.2.3.4"]


def test_a_file_without_preamble_is_copied_with_one_and_not_linked(tmp_path):
    fields = dicom_image(pixels=np.random.default_rng(0).integers(0, 255, (6, 7)).astype(np.uint8))
    del fields.file_meta
    (tmp_path / "src").mkdir()
    fields.save_as(tmp_path / "src" / "x.dcm", implicit_vr=True, little_endian=True)
    (folder,) = written(found_in(tmp_path / "src"), tmp_path / "raw").values()
    assert np.array_equal(read_scan(folder).voxels.ravel(), np.frombuffer(fields.PixelData, "u1").astype(int) - 1024)
    linked = found_in(tmp_path / "src", link=True)
    assert linked.cases == [] and "leave out --link, so that its copy gets one" in linked.left_out[0][1]


def test_the_same_secret_gives_the_same_bytes(tmp_path):
    dicom_series(tmp_path / "src")
    for into in ("one", "two"):
        written(found_in(tmp_path / "src"), tmp_path / into)
    one, two = ([file.read_bytes() for file in sorted((tmp_path / into).rglob("*.dcm"))] for into in ("one", "two"))
    assert one == two and len(one) == 4


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadSource, match="is no folder; name the one that holds the DICOM files"):
        found_in(tmp_path / "x")


CANARY = "CANARY"
OF_KIND = {
    **dict.fromkeys(("LO", "SH", "ST", "LT", "PN", "UT", "UC", "UR", "AE"), CANARY),
    **dict.fromkeys(("DA", "TM", "DT", "AS"), CANARY),
    "UI": f"1.2.{CANARY}",
    "OB": CANARY.encode(),
    "UN": CANARY.encode(),
}


def canaries(fields, but=()):
    """Fill every text-like attribute of the dictionary, and some private ones, overlays and curves with the canary."""
    for tag, (kind, _, _, _, keyword) in DicomDictionary.items():
        if kind in OF_KIND and 2 < tag >> 16 < 0x7FE0 and keyword not in but:
            fields[tag] = pydicom.DataElement(tag, kind, OF_KIND[kind], validation_mode=pydicom.config.IGNORE)
    fields.add_new(0x00091010, "LO", CANARY)
    fields.add_new(0x00090010, "LO", CANARY)
    fields.add_new(0x60003000, "OW", CANARY.encode())
    fields.add_new(0x60000022, "LO", CANARY)
    fields.add_new(0x50003000, "OW", CANARY.encode())
    return fields


def test_no_byte_of_a_copy_holds_what_a_header_said(tmp_path):
    needed = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
    for number in (1, 2):
        fields = canaries(dicom_image(number), but=needed)
        fields.SeriesInstanceUID = f"1.2.{CANARY}.4"
        fields.SOPInstanceUID = f"1.2.{CANARY}.{number}"
        item = canaries(pydicom.Dataset())
        item.ImagePositionPatient = [0, 0, 0]
        item.RequestAttributesSequence = [canaries(pydicom.Dataset())]
        fields.PlanePositionSequence = [item]
        fields.RequestAttributesSequence = [canaries(pydicom.Dataset())]
        fields.preamble = CANARY.encode().ljust(128, b"\0")
        fields.file_meta.SourceApplicationEntityTitle = CANARY
        fields.file_meta.PrivateInformationCreatorUID = "1.2.3"
        fields.file_meta.PrivateInformation = CANARY.encode()
        file = save(fields, tmp_path / "src" / f"{CANARY}{number}" / f"{CANARY}.dcm")
        assert file.read_bytes().count(CANARY.encode()) > 1000
        with file.open("ab") as stream:
            stream.write(b"\xfc\xff\xfc\xffOB\0\0\x08\0\0\0" + CANARY.encode().ljust(8))
    folders = written(found_in(tmp_path / "src"), tmp_path / "raw")
    files = [path for path in (tmp_path / "raw" / "images").rglob("*") if path.is_file()]
    assert len(files) == 2 and len(folders) == 1
    for file in files:
        assert CANARY.encode() not in file.read_bytes() and CANARY not in str(file.relative_to(tmp_path))
    assert read_scan(files[0].parent).voxels.shape == (1, 7, 6, 2)
