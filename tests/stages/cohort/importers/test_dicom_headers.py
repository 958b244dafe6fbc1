"""The table of the standard that the allow-list is held against is the one that `dicomanonymizer` ships."""

import importlib

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.encaps import encapsulate
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from pipeline.imaging.reading.volumes import read_scan
from pipeline.imaging.tables.pseudonyms import PUBLIC_SALT, pseudonym
from pipeline.stages.cohort.importers.dicom_headers import (
    FREE_TEXT,
    KEPT,
    REPLACED_UIDS,
    deidentified,
    patient_of,
    renamed_uid,
    why_not_copied,
    without_remarks,
)
from tests.stages.cohort.importers.conftest import SHAPE, dicom_image, save

ADDED = {"PatientID", "PatientName", "PatientIdentityRemoved", "DeidentificationMethod"}
ADDED |= {"LongitudinalTemporalInformationModified"}


def rename(name):
    return pseudonym(PUBLIC_SALT, "patient", name)


def copied(file, target):
    fields = pydicom.dcmread(file)
    deidentified(fields, rename).save_as(target, enforce_file_format=True)
    return pydicom.dcmread(target)


def all_elements(fields):
    for element in fields:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from all_elements(item)


@pytest.mark.parametrize("edition", ["2023", "2024b", "2026c"])
def test_no_attribute_in_the_table_of_the_standard_is_kept(edition):
    name = f"dicomanonymizer.dicom_anonymization_databases.dicomfields_{edition}"
    database = pytest.importorskip("dicomanonymizer") and importlib.import_module(name)
    table = {tag[0] << 16 | tag[1] for tag in database.ALL_TAGS if len(tag) == 2}
    replaced = {tag[0] << 16 | tag[1] for tag in database.U_TAGS}
    assert len(table) > 500 and tag_for_keyword("PatientBirthDate") in table
    assert not {keyword for keyword in KEPT if tag_for_keyword(keyword) in table}
    assert all(tag_for_keyword(keyword) in replaced for keyword in REPLACED_UIDS)
    emptied = {tag[0] << 16 | tag[1] for tag in (*database.Z_TAGS, *database.Z_D_TAGS)}
    assert {keyword for keyword in ADDED if tag_for_keyword(keyword) in table} == {"PatientID", "PatientName"}
    assert {tag_for_keyword("PatientID"), tag_for_keyword("PatientName")} <= emptied  # Z allows a dummy value


def test_every_listed_attribute_exists_and_identifies_nobody():
    kinds = {keyword: dictionary_VR(tag_for_keyword(keyword)) for keyword in KEPT}
    assert not {keyword for keyword, kind in kinds.items() if kind in FREE_TEXT}
    assert {keyword for keyword, kind in kinds.items() if kind == "UI"} == {"SOPClassUID"}


def test_a_file_holds_what_is_listed_and_nothing_else_at_any_depth(tmp_path):
    fields = dicom_image(StudyDate="20200101", PatientSex="F", BodyPartExamined="CHEST", Manufacturer="X")
    fields.add_new(0x00091001, "LO", "private")
    item = pydicom.Dataset()
    item.ImagePositionPatient, item.FrameAcquisitionDateTime = [1, 2, 3], "20200101"
    fields.PlanePositionSequence = [item]
    written = copied(save(fields, tmp_path / "a.dcm"), tmp_path / "b.dcm")
    keywords = {element.keyword for element in all_elements(written)}
    assert keywords <= KEPT | set(REPLACED_UIDS) | ADDED
    assert {"BodyPartExamined", "PlanePositionSequence", "RescaleIntercept"} <= keywords
    assert [element.keyword for element in written.PlanePositionSequence[0]] == ["ImagePositionPatient"]
    assert fields.StudyDate == "20200101" and fields.PlanePositionSequence[0].FrameAcquisitionDateTime  # untouched


def test_what_is_stored_as_text_against_the_standard_is_not_kept(tmp_path):
    fields = dicom_image()
    fields.add_new("BodyPartExamined", "LT", "Jane's chest")
    written = copied(save(fields, tmp_path / "a.dcm"), tmp_path / "b.dcm")
    assert "BodyPartExamined" not in written and b"Jane" not in (tmp_path / "b.dcm").read_bytes()


def test_uids_are_replaced_alike_everywhere_and_only_with_the_secret(tmp_path):
    one, other = (copied(save(dicom_image(n), tmp_path / f"{n}.dcm"), tmp_path / f"c{n}.dcm") for n in (1, 2))
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert one[keyword].value == other[keyword].value != dicom_image()[keyword].value
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SOPInstanceUID == one.file_meta.MediaStorageSOPInstanceUID
    assert one.SOPInstanceUID.is_valid and one.SOPInstanceUID.startswith("2.25.")
    assert renamed_uid("1.2.3", rename) != renamed_uid("1.2.3", lambda name: pseudonym(b"other", "patient", name))


def test_a_patient_is_named_by_id_else_by_name_and_birth_else_by_study():
    fields = dicom_image(PatientBirthDate="19500101")
    assert patient_of(fields) == "P1"
    fields.PatientID = " "
    assert patient_of(fields) == "Doe^Jane 19500101"
    del fields.PatientName
    assert patient_of(fields) == fields.StudyInstanceUID
    assert deidentified(fields, rename).PatientID == rename(fields.StudyInstanceUID)


SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_a_copy_reads_as_the_original_in_every_encoding(tmp_path, syntax, dtype):
    lookup = pydicom.Dataset()
    kind, first = ("US", 0) if dtype == "uint16" else ("SS", -7)
    lookup.add_new("LUTDescriptor", kind, [4096, first, 16])
    lookup.add_new("LUTData", "US", list(range(5000, 904, -1)))
    pixels = np.random.default_rng(0).integers(0, 4000, SHAPE).astype(dtype)
    fields = dicom_image(pixels=pixels, RescaleSlope=None, RescaleIntercept=None, PixelPaddingValue=3)
    fields.ModalityLUTSequence = [lookup]
    if syntax == ExplicitVRBigEndian:
        fields.PixelData = pixels.byteswap().tobytes()
    fields.file_meta.TransferSyntaxUID = syntax
    original, written = tmp_path / "a.dcm", tmp_path / "b.dcm"
    if syntax == ExplicitVRBigEndian:
        fields._read_little = fields._read_implicit = False
    save(fields, original)
    assert copied(original, written).file_meta.TransferSyntaxUID == syntax
    one, other = read_scan(original), read_scan(written)
    assert np.array_equal(one.voxels, other.voxels) and one.header == other.header
    assert one.voxels.max() > 4000  # the lookup table was applied


def compressed(syntax, channels=1):
    shape = (32, 40) if channels == 1 else (32, 40, 3)
    fields = dicom_image(pixels=np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8))
    fields["PixelData"].VR = "OB"
    fields.compress(syntax)
    return fields


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_pixels_stay_compressed_and_readable(tmp_path, syntax, channels):
    fields = compressed(syntax, channels)
    original = save(fields, tmp_path / "a.dcm")
    written = copied(original, tmp_path / "b.dcm")
    assert written.file_meta.TransferSyntaxUID == syntax and len(written.PixelData) == len(fields.PixelData)
    assert np.array_equal(read_scan(tmp_path / "b.dcm").voxels, read_scan(original).voxels)


def commented(stream, marker, text=b"CANARY"):
    """Put a segment behind the first marker segment of a codestream."""
    at = 4 + int.from_bytes(stream[4:6], "big") if stream[:2] == b"\xff\x4f" else 2
    return stream[:at] + b"\xff" + bytes([marker]) + (len(text) + 2).to_bytes(2, "big") + text + stream[at:]


def test_comment_in_a_compressed_frame_is_blanked(tmp_path):
    fields = compressed(JPEG2000Lossless)
    plain = read_scan(save(fields, tmp_path / "plain.dcm")).voxels
    (frame,) = pydicom.encaps.generate_frames(fields.PixelData, number_of_frames=1)
    fields.PixelData = encapsulate([commented(frame, 0x64, b"\0\1CANARY")])
    original = save(fields, tmp_path / "a.dcm")
    assert b"CANARY" in original.read_bytes()
    copied(original, tmp_path / "b.dcm")
    assert b"CANARY" not in (tmp_path / "b.dcm").read_bytes()
    assert np.array_equal(read_scan(tmp_path / "b.dcm").voxels, plain)


def test_jpeg_application_data_is_blanked_except_for_the_colours():
    coded = b"\xff\xda\x00\x02CANARY-like data\xff\xfe\x00\x08CANARY\xff\xd9"
    segments = {0xE0: b"JFIF", 0xE1: b"Exif CANARY", 0xE8: b"mrfx", 0xEE: b"Adobe", 0xFE: b"CANARY", 0xED: b"CANARY"}
    stream = b"\xff\xd8" + b"".join(
        b"\xff" + bytes([marker]) + (len(text) + 2).to_bytes(2, "big") + text for marker, text in segments.items()
    )
    blanked = without_remarks(encapsulate([stream + coded]))
    assert b"JFIF" in blanked and b"mrfx" in blanked and b"Adobe" in blanked and coded in blanked
    assert b"CANARY" not in blanked.replace(coded, b"") and len(blanked) == len(encapsulate([stream + coded]))


@pytest.mark.parametrize("pixels", [b"", b"\xfe\xff\x00\xe0\xff\xff\xff\x7f\xff\xd8\xff\xfe\xff\xff", b"\xff" * 40])
def test_pixels_that_are_no_proper_items_are_left_as_long_as_they_are(pixels):
    assert len(without_remarks(pixels)) == len(pixels)


def test_numbers_keep_all_their_digits(tmp_path):
    fields = dicom_image()
    long = "-123.456789012345678"  # longer than the standard allows, as many scanners write it
    fields["ImagePositionPatient"]._value[0] = pydicom.valuerep.DSfloat(long)
    original = save(fields, tmp_path / "a.dcm")
    assert long.encode() in original.read_bytes()
    copied(original, tmp_path / "b.dcm")
    assert long.encode() in (tmp_path / "b.dcm").read_bytes()


def test_enhanced_image_retains_position_and_rescaling_of_each_frame(tmp_path):
    frames = np.random.default_rng(0).integers(0, 99, (3, *SHAPE)).astype(np.uint16)
    fields = dicom_image(pixels=frames[0], ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None)
    fields.SOPClassUID, fields.NumberOfFrames, fields.PixelData = EnhancedMRImageStorage, 3, frames.tobytes()

    def item(**attributes):
        made = pydicom.Dataset()
        for keyword, value in attributes.items():
            setattr(made, keyword, value)
        return made

    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=[1, 2], SliceThickness=3)],
    )
    fields.SharedFunctionalGroupsSequence = [shared]
    fields.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 3.0 * place])],
            PixelValueTransformationSequence=[item(RescaleSlope=place + 1, RescaleIntercept=0, RescaleType="CANARY")],
            FrameContentSequence=[item(StackID="CANARY", InStackPositionNumber=place + 1)],
        )
        for place in (2, 0, 1)
    ]
    original = save(fields, tmp_path / "a.dcm")
    written = copied(original, tmp_path / "b.dcm")
    one, other = read_scan(original), read_scan(tmp_path / "b.dcm")
    assert one.voxels.shape == (1, 7, 6, 3)
    assert np.array_equal(one.voxels, other.voxels) and np.array_equal(one.affine, other.affine)
    assert b"CANARY" not in (tmp_path / "b.dcm").read_bytes() and written.NumberOfFrames == 3


def test_images_that_need_more_than_the_listed_attributes_are_not_copied(tmp_path):
    assert why_not_copied(dicom_image()) == ""
    assert "--link, or convert it with dcm2niix" in why_not_copied(dicom_image(ImageType=["ORIGINAL", "MOSAIC"]))
    overlay = dicom_image()
    overlay.add_new(0x60000102, "US", 0)
    assert why_not_copied(overlay) == ""
    overlay.add_new(0x60020102, "US", 12)
    assert "an overlay lies between the bits" in why_not_copied(overlay)
    assert "lacks SOPClassUID" in why_not_copied(dicom_image(SOPInstanceUID=None))


def test_the_copy_of_a_file_without_meta_information_gets_one(tmp_path):
    fields = dicom_image()
    del fields.file_meta
    fields.save_as(tmp_path / "a.dcm", implicit_vr=True, little_endian=True)
    raw = pydicom.dcmread(tmp_path / "a.dcm", force=True)
    deidentified(raw, rename).save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert pydicom.dcmread(tmp_path / "b.dcm").file_meta.TransferSyntaxUID in SYNTAXES
    assert np.array_equal(
        pydicom.dcmread(tmp_path / "b.dcm").pixel_array.ravel(), np.frombuffer(fields.PixelData, "u2")
    )
