"""NRRD and MetaImage that state less than SimpleITK returns."""

import numpy as np
import pytest
import SimpleITK

from pipeline.imaging.reading.scan import Policy, Unreadable
from pipeline.imaging.reading.volumes import read_header, read_scan

VOXELS = np.random.default_rng(0).integers(0, 900, (5, 4, 3)).astype(np.int16)  # z, y, x
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "ElementSpacing": "1 2 3",
    "DimSize": "3 4 5",
    "ElementType": "MET_SHORT",
}
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "3 4 5",
    "space directions": "(1,0,0) (0,2,0) (0,0,3)",
    "endian": "little",
    "encoding": "raw",
}
ASSUME = Policy(unknown_orientation="assume")


def meta(folder, without=(), data=VOXELS, **changes):
    lines = [f"{name} = {value}" for name, value in (META | changes).items() if name not in without]
    (folder / "a.mha").write_bytes("\n".join([*lines, "ElementDataFile = LOCAL\n"]).encode() + data.tobytes())
    return folder / "a.mha"


def nrrd(folder, without=(), data=VOXELS, **changes):
    fields = NRRD | {name.replace("_", " "): value for name, value in changes.items()}
    fields = dict(sorted(fields.items(), key=lambda field: field[0] != "space dimension"))  # before the directions
    lines = [f"{name}: {value}" for name, value in fields.items() if name not in without]
    (folder / "a.nrrd").write_bytes("\n".join(["NRRD0004", *lines, "", ""]).encode() + data.tobytes())
    return folder / "a.nrrd"


@pytest.mark.parametrize("write", [meta, nrrd])
def test_a_header_that_states_all_is_no_finding(tmp_path, write):
    scan = read_scan(file := write(tmp_path))
    assert scan.header.findings == () and scan.header.spacing == (1, 2, 3)
    np.testing.assert_array_equal(scan.voxels[0].T, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file))))


LESS = {
    "MetaImage without directions": (meta, {"without": ["TransformMatrix"]}, "no orientation"),
    "MetaImage without sizes": (meta, {"without": ["ElementSpacing"]}, "no voxel size"),
    "MetaImage without both": (meta, {"without": ["ElementSpacing", "TransformMatrix"]}, "no orientation and no voxel"),
    "NRRD without directions": (
        nrrd,
        {"without": ["space", "space directions"], "spacings": "1 2 3"},
        "no orientation",
    ),
    "NRRD with nothing": (nrrd, {"without": ["space directions", "space"]}, "no orientation and no voxel size"),
    "NRRD of an unnamed space": (nrrd, {"without": ["space"], "space_dimension": "3"}, "no anatomical space"),
}


@pytest.mark.parametrize(("write", "changes", "told"), LESS.values(), ids=LESS)
def test_what_a_header_does_not_state_is_refused_or_told(tmp_path, write, changes, told):
    file = write(tmp_path, **changes)
    with pytest.raises(Unreadable, match=told) as refused:
        read_header(file)
    assert refused.value.finding.parameter == "cohort.reading.unknown_orientation"
    scan = read_scan(file, ASSUME)
    assert told in scan.header.findings[0].detail
    np.testing.assert_array_equal(scan.voxels[0].T, VOXELS)


@pytest.mark.parametrize(
    "kinds", ["list domain domain domain", "vector domain domain domain", "3-vector domain domain domain"]
)
@pytest.mark.parametrize("count", [3, 4])
def test_a_list_of_values_is_no_colour(tmp_path, kinds, count):
    if count == 4:
        kinds = kinds.replace("3-", "4-")
    data = np.random.default_rng(1).integers(0, 255, (*VOXELS.shape, count)).astype(np.uint8)
    file = nrrd(
        tmp_path,
        data=data,
        type="uchar",
        dimension="4",
        sizes=f"{count} 3 4 5",
        kinds=kinds,
        space_directions="none (1,0,0) (0,2,0) (0,0,3)",
    )
    with pytest.raises(Unreadable, match=f"{count} volumes"):
        read_scan(file)
    np.testing.assert_array_equal(read_scan(file, Policy(frames="first")).voxels[0].T, data[..., 0])
    np.testing.assert_allclose(read_scan(file, Policy(frames="mean")).voxels[0].T, data.mean(-1), rtol=1e-6)


def test_three_large_values_of_a_metaimage_are_times_and_bytes_are_colours(tmp_path):
    data = np.random.default_rng(1).integers(0, 255, (*VOXELS.shape, 3))
    wide = meta(tmp_path, data=data.astype(np.int16), ElementNumberOfChannels="3")
    with pytest.raises(Unreadable, match="3 volumes"):
        read_scan(wide)
    colours = meta(tmp_path, data=data.astype(np.uint8), ElementNumberOfChannels="3", ElementType="MET_UCHAR")
    np.testing.assert_array_equal(read_scan(colours).voxels.T, data)


def test_rgb_colours_of_a_nrrd_are_colours(tmp_path):
    data = np.random.default_rng(1).integers(0, 255, (*VOXELS.shape, 3)).astype(np.uint8)
    file = nrrd(
        tmp_path,
        data=data,
        type="uchar",
        dimension="4",
        sizes="3 3 4 5",
        kinds="RGB-color domain domain domain",
        space_directions="none (1,0,0) (0,2,0) (0,0,3)",
    )
    np.testing.assert_array_equal(read_scan(file).voxels.T, data)
