import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from pipeline.imaging.reading.scan import Policy, Unreadable
from pipeline.imaging.reading.volumes import read_header, read_scan
from tests.imaging.phantoms import LPS, stored_as

ENDINGS = [".nrrd", ".nhdr", ".mha", ".mhd"]


def save_itk(file, volume, orientation="RAS", spacing=(1.0, 1.0, 1.0), compress=False):
    file.parent.mkdir(exist_ok=True)
    image = stored_as(volume, orientation, spacing)
    affine, zooms = LPS @ image.affine, nib.affines.voxel_sizes(image.affine)
    itk = SimpleITK.GetImageFromArray(np.asarray(image.dataobj).transpose(2, 1, 0))
    itk.SetSpacing([float(zoom) for zoom in zooms])
    itk.SetOrigin([float(value) for value in affine[:3, 3]])
    itk.SetDirection((affine[:3, :3] / zooms).ravel().tolist())
    SimpleITK.WriteImage(itk, str(file), useCompression=compress)
    return file


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("compress", [False, True])
def test_a_volume_is_read_into_the_space_that_it_was_written_in(tmp_path, asymmetric, ending, compress):
    file = save_itk(tmp_path / f"a{ending}", asymmetric.astype(np.int16), "PSL", (1.0, 2.0, 3.0), compress=compress)
    scan = read_scan(file)
    read = nib.as_closest_canonical(nib.Nifti1Image(scan.voxels[0], scan.affine))
    np.testing.assert_array_equal(read.get_fdata(), asymmetric)
    np.testing.assert_allclose(read.affine, np.diag([1, 2, 3, 1]), atol=1e-9)
    assert read_header(file).spacing == pytest.approx((1, 2, 3))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_truncated_volume_is_refused(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 3000, (20, 20, 20)).astype(np.int16)
    save_itk(tmp_path / f"a{ending}", noise)
    data = next(file for file in tmp_path.iterdir() if file.stat().st_size > 10_000)
    data.write_bytes(data.read_bytes()[: data.stat().st_size * 2 // 3])
    with pytest.raises(Unreadable):
        read_scan(tmp_path / f"a{ending}")


def test_an_image_keeps_its_rows_and_colours(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 9, 3), dtype=np.uint8)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels, isVector=True), str(tmp_path / "a.mha"))
    scan = read_scan(tmp_path / "a.mha")
    np.testing.assert_array_equal(scan.voxels, np.moveaxis(pixels, -1, 0))
    assert scan.header.shape == (5, 9) and scan.header.channels == 3


def test_several_volumes_are_refused_or_reduced_as_the_policy_says(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 5)).astype(np.int16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(frames, isVector=False), str(tmp_path / "a.nrrd"))
    with pytest.raises(Unreadable, match="2 volumes"):
        read_scan(tmp_path / "a.nrrd")
    scan = read_scan(tmp_path / "a.nrrd", Policy(frames="first"))
    np.testing.assert_array_equal(scan.voxels[0], frames[0].transpose(2, 1, 0))


def test_a_huge_declaration_is_refused_before_it_takes_memory(tmp_path):
    (tmp_path / "a.mha").write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        "DimSize = 30000 30000 300\nElementSpacing = 1 1 1\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    with pytest.raises(Unreadable, match="too large"):
        read_scan(tmp_path / "a.mha")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("how", ["above", "absolute", "link", "other spelling"])
def test_a_header_that_names_a_file_elsewhere_is_refused(tmp_path, asymmetric, ending, how):
    header = save_itk(tmp_path / "scan" / f"a{ending}", asymmetric)
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(range(256)) * 100)
    named = {"above": "../secret.raw", "absolute": str(secret), "link": "link.raw", "other spelling": "./../secret.raw"}
    (header.parent / "link.raw").symlink_to(secret)
    lines = header.read_bytes().partition(b"\n\n" if "n" in ending[:2] else b"ElementDataFile")[0]
    lines = b"\n".join(line for line in lines.split(b"\n") if b"data" not in line.lower() or b"CompressedData" in line)
    sign = b" : " if how == "other spelling" else b" = "
    key = b"\ndata file: " if "n" in ending[:2] else b"ElementDataFile" + sign
    lines = lines.rstrip().replace(b"encoding: gzip", b"encoding: raw")
    header.write_bytes(lines + (key if "n" in ending[:2] else b"\n" + key) + named[how].encode() + b"\n")
    with pytest.raises(Unreadable, match="names a file outside of its folder"):
        read_scan(header)


def test_a_header_and_its_voxels_may_be_linked_together(tmp_path, asymmetric):
    header = save_itk(tmp_path / "source" / "a.mhd", asymmetric)
    (tmp_path / "linked").mkdir()
    for file in header.parent.iterdir():
        (tmp_path / "linked" / file.name).symlink_to(file)
    np.testing.assert_array_equal(read_scan(tmp_path / "linked" / "a.mhd").voxels, read_scan(header).voxels)
