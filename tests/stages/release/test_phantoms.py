import nibabel as nib
import numpy as np
from PIL import Image

from pipeline.stages.release.phantoms import as_image, write_phantoms


def test_phantoms_are_the_same_bytes_every_time_and_differ_from_each_other(tmp_path):
    for kind, ending in (("volume", ".nii.gz"), ("image", ".png")):
        written = []
        for folder in (tmp_path / f"{kind} a", tmp_path / f"{kind} b"):
            folder.mkdir()
            files = write_phantoms(folder, kind)
            assert [file.name for file in files] == [f"phantom_1{ending}", f"phantom_2{ending}"]
            written.append([file.read_bytes() for file in files])
        assert written[0] == written[1] and written[0][0] != written[0][1]
        assert sum(map(len, written[0])) < 500_000


def test_a_volume_has_a_grid_and_an_image_three_channels_of_eight_bits(tmp_path):
    [head, _], [drawn, _] = (write_phantoms(tmp_path, kind) for kind in ("volume", "image"))
    image = nib.load(head)
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S") and image.header["descrip"] == b""
    np.testing.assert_allclose(image.header.get_zooms(), (3, 3, 5), rtol=1e-6)
    pixels = np.asarray(Image.open(drawn))
    assert pixels.shape == (image.shape[1], image.shape[0], 3) and pixels.dtype == np.uint8 and pixels.max() == 255


def test_an_image_is_the_slices_around_the_middle():
    voxels = np.zeros((2, 3, 5))
    voxels[1, 2, 1:4] = [10, 20, 40]
    assert as_image(voxels).shape == (3, 2, 3) and as_image(voxels)[2, 1].tolist() == [64, 128, 255]
