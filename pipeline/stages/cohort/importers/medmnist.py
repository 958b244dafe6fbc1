"""Import the .npz files of MedMNIST, images and volumes."""

import importlib
import re
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.imaging.labels import NO_FINDING, SEPARATOR, renamed
from pipeline.imaging.reading.scan import compact
from pipeline.stages.cohort.importers.found import BadSource, Case, Import, row_of

SPLITS = {"train": "development", "val": "development", "test": "test"}
AXES_UNKNOWN = (
    "MedMNIST does not say what the axes of its volumes mean, nor how large a voxel is; they are written as running "
    "to the right, the front and the top in voxels of 1 mm, which no result may rely on"
)


class Frames:
    """Read the images or volumes of an array in a .npz one by one, because some files exceed the memory."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._stream = archive.open(f"{name}.npy")
        version = np.lib.format.read_magic(self._stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, by_column, self.dtype = read(self._stream)
        if self.dtype.hasobject or by_column:
            raise ValueError(f"{name} is no plain array")
        self._start = self._stream.tell()

    def __getitem__(self, index: int) -> NDArray[Any]:
        size = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        try:
            if self._stream.tell() != self._start + index * size:  # since Python 3.12, a seek disables the CRC check
                self._stream.seek(self._start + index * size)
            values = np.frombuffer(self._stream.read(size), self.dtype)
            return values.reshape(self.shape[1:])
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise BadSource(f"the .npz file is damaged; download it again ({error})") from error


def find_in_medmnist(file: Path, rename: Mapping[str, str]) -> Import:
    """Read the `train`, `val` and `test` images with their labels; train and val become "development".

    If the package medmnist is installed and knows the file name, it gives the names of the labels; otherwise a label
    is the index as text. A multilabel image (ChestMNIST) gets the names of all its findings, separated by semicolons,
    or "no finding". Images are written as PNG, volumes as NIfTI.

    Parameters
    ----------
    file : Path
        Downloaded file, e.g. `pneumoniamnist.npz` or `organmnist3d_64.npz`.
    rename : mapping
        New name of each label to rename.

    Raises
    ------
    BadSource
        If the file is not a MedMNIST .npz, is damaged, or holds Python objects (loading them could run code).
    """
    if not file.is_file():
        raise BadSource(f"{file} is not there; name the .npz file")
    found = Import()
    try:
        archive = zipfile.ZipFile(file)
        members = {Path(name).stem for name in archive.namelist()}
        splits = [split for split in SPLITS if {f"{split}_images", f"{split}_labels"} <= members]
        for split in splits:
            _take_split(archive, split, _class_names(file.stem), rename, found=found)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise BadSource(f"{file} is no MedMNIST file, or is damaged; download it again ({error})") from error
    if not splits:
        raise BadSource(f"{file} holds no train, val or test images and labels; it has {', '.join(sorted(members))}")
    used = {f"{split}_{kind}" for split in splits for kind in ("images", "labels")}
    found.left_out += [(name, "it is no array of images with labels") for name in sorted(members - used)]
    return found


def _take_split(
    archive: zipfile.ZipFile, split: str, names: Mapping[str, str], rename: Mapping[str, str], found: Import
) -> None:
    frames = Frames(archive, f"{split}_images")
    with archive.open(f"{split}_labels.npy") as stream:
        labels = np.lib.format.read_array(stream, allow_pickle=False)
    if len(labels) != frames.shape[0]:
        raise ValueError(f"{split} has {frames.shape[0]} images and {len(labels)} labels")
    ending, write = _writer(frames)
    if ending == ".nii.gz" and AXES_UNKNOWN not in found.notes:
        found.notes.append(AXES_UNKNOWN)
    for index, values in enumerate(labels.reshape(len(labels), -1).astype(int)):
        label = _label(values, names)
        image = Path(split, f"{index:06d}{ending}")
        row = row_of(f"{split}_{index:06d}", str(image), renamed(label, rename), split=SPLITS[split])
        found.cases.append(Case(row, {image: partial(write, frames, index)}))


def _writer(frames: Frames) -> tuple[str, Any]:
    """Choose file ending and writer by the shape of the array: PNG for images, NIfTI for volumes."""
    if len(frames.shape) == 3 or (len(frames.shape) == 4 and frames.shape[-1] == 3):
        if frames.dtype != np.uint8:
            raise ValueError(f"its images are {frames.dtype}, not 8 bits")
        return ".png", _write_image
    if len(frames.shape) == 4:
        return ".nii.gz", _write_volume
    raise ValueError(f"an array of shape {frames.shape} holds neither images nor volumes")


def _write_image(frames: Frames, index: int, target: Path) -> None:
    Image.fromarray(frames[index]).save(target)


def _write_volume(frames: Frames, index: int, target: Path) -> None:
    nib.save(nib.Nifti1Image(compact(frames[index]), np.eye(4)), target)


def _label(values: NDArray[np.int_], names: Mapping[str, str]) -> str:
    indices = [str(values[0])] if len(values) == 1 else [str(index) for index in np.flatnonzero(values)]
    return SEPARATOR.join(names.get(index, index) for index in indices) or NO_FINDING


def _class_names(stem: str) -> dict[str, str]:
    """Look up the class names by the file name without its size ("breastmnist_224")."""
    try:
        known = importlib.import_module("medmnist.info").INFO
    except ImportError:
        return {}
    return dict(known.get(re.sub(r"_\d+$", "", stem.lower()), {}).get("label", {}))
