"""Write synthetic scans in the formats that hospitals send."""

from itertools import permutations, product
from pathlib import Path

import highdicom
import imagecodecs
import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

OF_A_PATIENT = {  # what a segmentation takes over from its images
    **{"StudyID": "1", "StudyDate": "", "StudyTime": "", "AccessionNumber": "", "PatientBirthDate": ""},
    **{"PatientSex": "", "ReferringPhysicianName": "", "FrameOfReferenceUID": "1.2.3.9"},
}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ORIENTATIONS = [
    "".join(codes)
    for order in permutations(("LR", "PA", "IS"))
    for codes in product(*order)
]  # fmt: skip


def stored_as(volume: np.ndarray, orientation: str, spacing=(1.0, 1.0, 1.0)) -> nib.Nifti1Image:
    """Convert a RAS volume into the voxels and affine of another orientation."""
    image = nib.Nifti1Image(volume, np.diag([*spacing, 1.0]))
    wanted = nib.orientations.axcodes2ornt(orientation)
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))


def data_set(pixels: np.ndarray, **attributes) -> FileDataset:
    """Build an uncompressed DICOM image from (rows, columns) or (rows, columns, 3) unsigned or signed pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    fields = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    fields.SOPClassUID, fields.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    fields.StudyInstanceUID, fields.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    fields.PatientID, fields.PatientName, fields.Modality = "id", "Doe^Jane", "MR"
    fields.Rows, fields.Columns = pixels.shape[:2]
    fields.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        fields.PlanarConfiguration = 0
    fields.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    fields.BitsAllocated = fields.BitsStored = pixels.dtype.itemsize * 8
    fields.HighBit = fields.BitsStored - 1
    fields.PixelRepresentation = int(pixels.dtype.kind == "i")
    fields.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(fields, name, value)
    return fields


def save(fields: FileDataset, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    fields.save_as(file, enforce_file_format=True)
    return file


def save_series(folder: Path, volume: np.ndarray, orientation="LPS", spacing=(1.0, 1.0, 1.0), **attributes) -> Path:
    """Write a RAS volume as a series, its files named and numbered in no order."""
    image = stored_as(volume, orientation, spacing)
    affine, zooms = LPS @ image.affine, nib.affines.voxel_sizes(image.affine)
    voxels = np.asarray(image.dataobj)
    shuffled = np.random.default_rng(0).permutation(voxels.shape[2])
    for name, index in zip(shuffled, range(voxels.shape[2]), strict=True):
        fields = data_set(np.ascontiguousarray(voxels[:, :, index].T), **attributes)
        fields.ImagePositionPatient = [float(v) for v in (affine @ [0, 0, index, 1])[:3]]
        fields.ImageOrientationPatient = [float(v) for v in [*affine[:3, 0] / zooms[0], *affine[:3, 1] / zooms[1]]]
        fields.PixelSpacing = [float(zooms[1]), float(zooms[0])]
        fields.SliceThickness = float(zooms[2])
        fields.InstanceNumber = int(name) + 1
        save(fields, folder / f"IM{name:04d}")
    return folder


def save_enhanced(file: Path, volume: np.ndarray, spacing=(1.0, 1.0, 1.0), slope=1.0, intercept=0.0) -> Path:
    """Write a RAS volume as one multi-frame file, frames in reverse order, geometry in functional groups."""
    image = stored_as(volume, "LPS", spacing)
    voxels, affine = np.asarray(image.dataobj), LPS @ image.affine
    frames = np.ascontiguousarray(voxels.transpose(2, 1, 0)[::-1])
    fields = data_set(frames[0])
    fields.PixelData, fields.NumberOfFrames = frames.tobytes(), len(frames)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [spacing[1], spacing[0]], spacing[2]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    values = Dataset()
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = slope, intercept, "US"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [values]
    fields.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for index in reversed(range(len(frames))):
        group, place = Dataset(), Dataset()
        place.ImagePositionPatient = [float(v) for v in (affine @ [0, 0, index, 1])[:3]]
        group.PlanePositionSequence = [place]
        groups.append(group)
    fields.PerFrameFunctionalGroupsSequence = groups
    return save(fields, file)


ENCODERS = {
    pydicom.uid.JPEGLossless: lambda pixels: imagecodecs.ljpeg_encode(pixels),
    pydicom.uid.JPEGLosslessSV1: lambda pixels: imagecodecs.ljpeg_encode(pixels),
    pydicom.uid.JPEGLSLossless: lambda pixels: imagecodecs.jpegls_encode(pixels),
    pydicom.uid.JPEG2000Lossless: lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True),
    pydicom.uid.HTJ2KLossless: lambda pixels: imagecodecs.htj2k_encode(pixels, reversible=True),
}


def compress(fields: FileDataset, syntax: str) -> FileDataset:
    """Replace the pixels by a lossless encoding of them."""
    if syntax == pydicom.uid.RLELossless:
        fields.compress(syntax)
        return fields
    kind = {8: np.uint8, 16: np.uint16}[fields.BitsAllocated]
    shape = (fields.Rows, fields.Columns, 3)[: 2 + (fields.SamplesPerPixel == 3)]
    pixels = np.frombuffer(fields.PixelData, dtype=kind).reshape(shape)
    fields.PixelData = encapsulate([ENCODERS[syntax](pixels)])
    fields["PixelData"].is_undefined_length = True
    fields.file_meta.TransferSyntaxUID = syntax
    return fields


def segments(slices: list, labels: np.ndarray, *, count: int = 2, name: str = "part") -> highdicom.seg.Segmentation:
    """Make a DICOM segmentation with highdicom, of label numbers (n, rows, columns) or segments (..., count)."""
    code = highdicom.sr.CodedConcept("49755003", "SCT", "Morphologically abnormal structure")
    described = [
        highdicom.seg.SegmentDescription(
            number, f"{name} {number}", code, code, algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number in range(1, count + 1)
    ]
    return highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=labels,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=highdicom.UID(),
        series_number=2,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )
