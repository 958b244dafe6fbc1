import numpy as np
import pytest
from monai.bundle import ConfigParser
from PIL import Image

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.transforms import build_preprocessing, preprocessing_config
from pipeline.imaging.volumes import Scan, read_scan
from tests.conftest import save_nifti

VOLUME = Geometry("volume", 32, 4, 3, (1.0, 1.0, 1.0), "pad", "percentile")


def picture_geometry(**changes):
    return Geometry(
        **{
            **dict(kind="picture", image_size=32, slices=1, channels=1, spacing=None, fit="pad", intensity="keep"),
            **changes,
        }
    )


def prepared(file, geometry):
    return build_preprocessing(preprocessing_config(geometry))(read_scan(file))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "ASL", "IRP"])
def test_a_head_looks_the_same_however_it_was_stored(tmp_path, asymmetric, orientation):
    reference = prepared(save_nifti(tmp_path / "a.nii", asymmetric), VOLUME)
    stored = prepared(save_nifti(tmp_path / "b.nii.gz", asymmetric, orientation), VOLUME)
    assert reference.shape == (12, 32, 32) and reference.dtype == np.uint8
    np.testing.assert_array_equal(stored, reference)


def test_planes_show_the_front_up_the_right_side_left_and_the_top_last(tmp_path, asymmetric):
    planes = prepared(save_nifti(tmp_path / "a.nii", asymmetric), VOLUME).astype(float)

    def centre_of(low, high):
        return [axis.mean() for axis in np.nonzero((planes >= low) & (planes <= high))]

    scale = 255 / np.percentile(asymmetric, 99.5)
    right, front, top = (centre_of(v * scale * 0.95 - 1, min(v * scale * 1.05 + 1, 255)) for v in (40, 70, 100))
    assert right[2] < 15 and abs(right[1] - 15.5) < 3
    assert front[1] < 13
    assert top[0] > 6


def test_a_picture_is_padded_to_a_square_without_being_turned(tmp_path):
    pixels = np.full((40, 80), 100, dtype=np.uint8)
    pixels[:, 60:] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    planes = prepared(tmp_path / "a.png", picture_geometry())
    assert planes.shape == (1, 32, 32)
    assert (planes[0, :7] == 0).all() and (planes[0, -7:] == 0).all()
    assert planes[0, 16, 4] == 100 and planes[0, 16, 29] == 200


def test_stretching_fills_the_square(tmp_path):
    Image.fromarray(np.full((40, 80), 100, dtype=np.uint8) + np.arange(80, dtype=np.uint8)).save(tmp_path / "a.png")
    assert (prepared(tmp_path / "a.png", picture_geometry(fit="stretch")) >= 99).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_grey_pictures_of_every_mode_come_out_alike(tmp_path, mode):
    grey = Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1)))
    grey.convert(mode).save(tmp_path / "a.png")
    for channels in (1, 3):
        planes = prepared(tmp_path / "a.png", picture_geometry(channels=channels))
        assert planes.shape == (channels, 32, 32)
        assert np.abs(planes.astype(int) - np.asarray(grey)).max() <= 1


def test_colour_becomes_grey_by_luma(tmp_path):
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[..., 1] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (prepared(tmp_path / "a.png", picture_geometry()) == round(0.587 * 200)).all()


def test_a_window_makes_black_and_white_of_its_limits():
    geometry = Geometry("volume", 32, 4, 3, (1.0, 1.0, 1.0), "pad", (-1000.0, 400.0))
    voxels = np.full((1, 32, 32, 12), -300, dtype=np.float32)
    voxels[0, :16] = 3000
    planes = build_preprocessing(preprocessing_config(geometry))(Scan(voxels, np.eye(4)))
    assert set(np.unique(planes)) == {128, 255}


def test_one_case_never_depends_on_another(tmp_path, asymmetric):
    steps = build_preprocessing(preprocessing_config(VOLUME))
    scan = read_scan(save_nifti(tmp_path / "a.nii", asymmetric))
    first = steps(scan)
    steps(Scan(scan.voxels * 1e6, scan.affine))
    np.testing.assert_array_equal(steps(scan), first)
    np.testing.assert_array_equal(steps(Scan(scan.voxels * 3, scan.affine)), first)  # nor on the scanner's scale


@pytest.mark.parametrize("kind", ["volume", "picture"])
def test_monai_gives_the_same_from_the_file_as_we_do(tmp_path, asymmetric, kind):
    """The twin of our reader is MONAI's LoadImaged: what the bundle carries is what was evaluated."""
    from pipeline.releasing.bundle import inference_config

    if kind == "volume":
        file, geometry = save_nifti(tmp_path / "a.nii.gz", asymmetric, "PSR", (1, 1.5, 2)), VOLUME
    else:
        file, geometry = tmp_path / "a.png", picture_geometry(channels=3)
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 30, 4), dtype=np.uint8)).save(file)
    config = inference_config(preprocessing_config(geometry), {}, 1.0, kind)["preprocessing"]
    theirs = ConfigParser({"preprocessing": config}).get_parsed_content("preprocessing")({"image": str(file)})["image"]
    np.testing.assert_array_equal(np.asarray(theirs), prepared(file, geometry))
