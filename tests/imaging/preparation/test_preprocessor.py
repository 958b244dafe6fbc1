import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.preprocessor import Preprocessor, prepare
from pipeline.imaging.preparation.volumes import stored_axis
from pipeline.imaging.reading.scan import Header, Scan, Unreadable
from pipeline.imaging.reading.volumes import read_header, read_scan
from tests.conftest import save_nifti, shared
from tests.imaging.phantoms import ORIENTATIONS, save_series, stored_as
from tests.imaging.preparation.monai_twin import as_channels, volume_twin

VOLUME = Geometry(
    "volume", image_size=32, slices=4, channels=3, spacing=(1.0, 1.0, 1.0), fit="pad", intensity="percentile"
)
SNUG = Geometry(
    "volume", image_size=16, slices=16, channels=1, spacing=(1.0, 1.0, 1.0), fit="pad", intensity=((0.0, 100.0),)
)
IMAGE = Geometry("image", image_size=32, slices=1, channels=1, spacing=None, fit="pad", intensity="keep")


def channels_of(file, geometry):
    return Preprocessor(geometry).prepare_file(file).channels


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_head_is_the_same_in_every_orientation_and_maps_back_to_its_grid(tmp_path, asymmetric, orientation):
    head = asymmetric.astype(np.int16)
    reference = channels_of(save_nifti(tmp_path / "a.nii", head), SNUG)
    assert reference.shape == (16, 16, 16) and reference.dtype == np.uint8
    stored = stored_as(head, orientation)
    for scan in (save_nifti(tmp_path / "b.nii.gz", head, orientation), save_series(tmp_path / "s", head, orientation)):
        prepared = Preprocessor(SNUG).prepare_file(scan)
        np.testing.assert_array_equal(prepared.channels, reference)
        back = prepared.placement.on_scan(prepared.channels.astype(np.float32)) * 100 / 255
        original = read_scan(scan)
        assert back.shape == original.voxels.shape[1:]
        np.testing.assert_allclose(back, original.voxels[0], atol=0.25)  # a grey level is 0.4
        np.testing.assert_array_equal(prepared.placement.scan_affine, original.affine)
    np.testing.assert_allclose(read_scan(tmp_path / "b.nii.gz").affine, stored.affine)


def test_channels_show_the_front_up_the_right_side_left_and_the_top_last(tmp_path, asymmetric):
    channels = channels_of(save_nifti(tmp_path / "a.nii", asymmetric), VOLUME).astype(float)

    def centre_of(low, high):
        return [axis.mean() for axis in np.nonzero((channels >= low) & (channels <= high))]

    scale = 255 / np.percentile(asymmetric, 99.5)
    right, front, top = (centre_of(v * scale * 0.95 - 1, min(v * scale * 1.05 + 1, 255)) for v in (40, 70, 100))
    assert right[2] < 15 and abs(right[1] - 15.5) < 3
    assert front[1] < 13
    assert top[0] > 6


GEOMETRIES = {
    "shrunk": replace(VOLUME, spacing=(1.7, 2.3, 3.1)),
    "grown and cut": replace(VOLUME, spacing=(0.31, 0.27, 0.8)),
    "windowed": replace(VOLUME, intensity=((20.0, 140.0),)),
    "cropped": replace(VOLUME, crop="foreground", spacing=(0.9, 1.1, 1.3)),
    "odd sizes": replace(VOLUME, image_size=48, slices=5, spacing=(0.53, 0.61, 1.9)),
}


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.uint8])
@pytest.mark.parametrize("orientation", ["RAS", "PSL"])
def test_stock_monai_transforms_give_the_same_channels_within_a_grey_level(tmp_path, name, kind, orientation):
    rng = np.random.default_rng(0)
    head = rng.gamma(2, 20, (21, 30, 17)).clip(0, 250)
    head[:4], head[:, :5] = 0, 0
    file = save_nifti(tmp_path / "a.nii.gz", head.astype(kind), orientation, (1.0, 1.5, 2.0))
    ours = channels_of(file, GEOMETRIES[name])
    theirs = as_channels(volume_twin(GEOMETRIES[name])({"image": str(file)})["image"]).numpy()
    assert ours.max() > 100
    np.testing.assert_allclose(ours, theirs, atol=0.51)  # they do not round


@pytest.mark.parametrize("set_name", ["hippocampus3d", "ixi_t1_2mm"])
def test_monai_prepares_real_volumes_as_we_do(set_name):
    for file in sorted(shared(set_name).glob("*.nii.gz"))[:4]:
        geometry = replace(VOLUME, image_size=64, spacing=(2.5, 2.5, 4.0) if "ixi" in set_name else (0.8, 0.8, 3.0))
        theirs = as_channels(volume_twin(geometry)({"image": str(file)})["image"]).numpy()
        np.testing.assert_allclose(channels_of(file, geometry), theirs, atol=0.51)


def test_each_intensity_window_gives_separate_channels():
    geometry = replace(SNUG, channels=2, intensity=((0.0, 100.0), (50.0, 60.0)))
    voxels = np.tile(np.arange(16, dtype=np.int16)[:, None, None] * 10, (1, 1, 16, 16))
    channels = prepare(scan_of(voxels), geometry).channels
    assert channels.shape == (32, 16, 16)
    for window, (low, high) in enumerate(geometry.intensity):
        expected = np.rint((np.arange(16) * 10.0 - low).clip(0, high - low) / (high - low) * 255)
        np.testing.assert_array_equal(channels[window::2][3, 5], expected[::-1])


def scan_of(voxels, affine=None):
    shape = voxels.shape[1:]
    return Scan(voxels, np.eye(4) if affine is None else affine, Header(shape, 1, (1.0,) * len(shape), 16))


def test_a_window_makes_black_and_white_of_its_limits():
    voxels = np.full((1, 32, 32, 12), -300, dtype=np.int16)
    voxels[0, :16] = 3000
    channels = prepare(scan_of(voxels), replace(VOLUME, intensity=((-1000.0, 400.0),))).channels
    assert set(np.unique(channels)) == {128, 255}


@pytest.mark.parametrize("orientation", ["RAS", "PSL", "ILP"])
def test_an_oblique_volume_is_resampled_at_its_position_in_space(orientation):
    turned = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, -0.15, 0.1) * [1.2, 1.5, 2.5], [-30, 12, 7])
    upright = nib.Nifti1Image(np.zeros((30, 26, 20), dtype=np.float32), turned)
    codes = nib.orientations.axcodes2ornt(orientation)
    image = upright.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(turned), codes))
    index = np.stack([*np.indices(image.shape), np.ones(image.shape)])
    ramp = np.array([0.9, -1.1, 2.0, 100.0])
    voxels = np.einsum("i,ij,jxyz->xyz", ramp, image.affine, index).astype(np.float32)
    geometry = Geometry(
        "volume", image_size=16, slices=12, channels=1, spacing=(1.7, 1.7, 3.0), fit="pad", intensity=((0.0, 255.0),)
    )
    prepared = prepare(scan_of(voxels[None], image.affine), geometry)
    points = np.stack([*np.indices(prepared.channels.shape), np.ones(prepared.channels.shape)])
    truth = np.einsum("i,ij,jzrc->zrc", ramp, prepared.placement.scan_affine @ prepared.placement.to_scan, points)
    np.testing.assert_allclose(prepared.channels, truth.clip(0, 255), atol=0.51)


def test_a_tilted_gantry_is_straightened():
    upright = np.zeros((20, 40, 20), dtype=np.float32)
    upright[5:15, 12:22, 4:16] = 100
    tilted = np.zeros_like(upright)
    for z in range(20):
        tilted[:, :, z] = np.roll(upright[:, :, z], -round(0.5 * z), axis=1)
    affine = np.eye(4)
    affine[1, 2] = 0.5
    geometry = Geometry(
        "volume", image_size=48, slices=24, channels=1, spacing=(1.0, 1.0, 1.0), fit="pad", intensity=((0.0, 100.0),)
    )
    straight = prepare(scan_of(upright[None]), geometry).channels.astype(float)
    again = prepare(scan_of(tilted[None], affine), geometry)
    share = [channels[channels.sum(axis=(1, 2)) > 0].mean() for channels in (straight, again.channels.astype(float))]
    assert share[0] == pytest.approx(share[1], rel=0.1)
    rows = [
        np.nonzero(channel.sum(axis=1) > 2000)[0] for channel in again.channels.astype(float) if channel.sum() > 1e5
    ]
    assert len({(int(found[0]), int(found[-1])) for found in rows[1:-1]}) <= 2  # all slices stand upright again
    back = again.placement.on_scan(again.channels.astype(np.float32)) * 100 / 255
    assert np.abs(back - tilted).mean() < 3


def test_a_foreground_crop_centres_the_foreground():
    voxels = np.zeros((1, 60, 60, 60), dtype=np.int16)
    voxels[0, 2:12, 40:55, 30:50] = 500
    geometry = Geometry(
        "volume",
        image_size=32,
        slices=32,
        channels=1,
        spacing=(1.0, 1.0, 1.0),
        fit="pad",
        intensity=((0.0, 500.0),),
        crop="foreground",
    )
    prepared = prepare(scan_of(voxels), geometry)
    filled = np.argwhere(prepared.channels > 128)
    assert np.abs((filled.min(axis=0) + filled.max(axis=0)) / 2 - 15.5).max() <= 1
    back = prepared.placement.on_scan(prepared.channels.astype(np.float32))
    np.testing.assert_array_equal(back > 128, voxels[0] > 250)


def test_an_image_is_padded_to_a_square_and_maps_back(tmp_path):
    pixels = np.full((40, 80), 100, dtype=np.uint8)
    pixels[:, 60:] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    prepared = Preprocessor(IMAGE).prepare_file(tmp_path / "a.png")
    channels = prepared.channels
    assert channels.shape == (1, 32, 32)
    assert (channels[0, :7] == 0).all() and (channels[0, -7:] == 0).all()
    assert channels[0, 16, 4] == 100 and channels[0, 16, 29] == 200
    back = prepared.placement.on_scan(channels.astype(np.float32))[0]
    assert back.shape == (40, 80) and np.abs(back - pixels)[3:-3, 3:-3].mean() < 3


def test_stretching_fills_the_square(tmp_path):
    Image.fromarray(np.full((40, 80), 100, dtype=np.uint8) + np.arange(80, dtype=np.uint8)).save(tmp_path / "a.png")
    assert (channels_of(tmp_path / "a.png", replace(IMAGE, fit="stretch")) >= 99).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_grey_images_of_every_mode_come_out_alike(tmp_path, mode):
    grey = Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1)))
    grey.convert(mode).save(tmp_path / "a.png")
    for channels in (1, 3):
        stored = channels_of(tmp_path / "a.png", replace(IMAGE, channels=channels))
        assert stored.shape == (channels, 32, 32)
        assert np.abs(stored.astype(int) - np.asarray(grey)).max() <= 1


def test_colour_becomes_grey_by_luma(tmp_path):
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[..., 1], pixels[0, 0] = 200, 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    channels = channels_of(tmp_path / "a.png", IMAGE)
    assert (channels[0, 1:] == round(0.587 * 200)).all()


def test_one_case_never_depends_on_another_nor_on_the_scanners_scale(tmp_path, asymmetric):
    scan = read_scan(save_nifti(tmp_path / "a.nii", asymmetric))
    first = prepare(scan, VOLUME).channels
    prepare(replace(scan, voxels=scan.voxels * 1e6), VOLUME)
    np.testing.assert_array_equal(prepare(scan, VOLUME).channels, first)
    np.testing.assert_array_equal(prepare(replace(scan, voxels=scan.voxels * 3), VOLUME).channels, first)


def test_a_scan_is_left_as_it_was(tmp_path, asymmetric):
    scan = read_scan(save_nifti(tmp_path / "a.nii", asymmetric))
    before = scan.voxels.copy()
    prepare(scan, replace(VOLUME, crop="foreground"))
    np.testing.assert_array_equal(scan.voxels, before)


def test_an_image_among_volumes_is_refused(tmp_path):
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(Unreadable, match="a 2D image; volumes are needed"):
        channels_of(tmp_path / "a.png", VOLUME)


def test_preprocessors_and_placements_survive_json(tmp_path, asymmetric):
    steps = Preprocessor(replace(VOLUME, intensity=((-1000.0, 400.0), (0.0, 80.0))), deface=True)
    assert Preprocessor.from_json(json.loads(json.dumps(steps.as_json()))) == steps
    placement = Preprocessor(VOLUME).prepare_file(save_nifti(tmp_path / "a.nii", asymmetric, "PSL")).placement
    again = json.loads(placement.as_text())
    assert tuple(again["shape"]) == placement.scan_shape
    np.testing.assert_array_equal(again["to_scan"], placement.to_scan)
    np.testing.assert_array_equal(again["affine"], placement.scan_affine)


def test_points_beyond_the_scan_are_black_and_those_inside_interpolate():
    axis = stored_axis(points=6, size=3, zoom=2.0, spacing=1.0)
    weights, needed = axis.matrix()
    np.testing.assert_allclose(weights.sum(axis=1), [1, 1, 1, 1, 1, 0])
    assert needed == slice(0, 3)
    np.testing.assert_allclose(weights @ [0.0, 10.0, 20.0], [0, 5, 10, 15, 20, 0])


SETS = {
    "hippocampus3d": ("*.nii.gz", 157, replace(VOLUME, spacing=(1.5, 1.5, 3.0))),
    "ixi_t1_2mm": ("*.nii.gz", 10, replace(VOLUME, spacing=(7.0, 7.0, 12.0))),
    "wbc_two_source": ("dataset*/*.png", 400, replace(IMAGE, channels=3)),
    "covid_ct": ("Images/**/*.*", 746, IMAGE),
    "luna_slices": ("*.png", 125, IMAGE),
}


@pytest.mark.parametrize("name", SETS)
def test_every_scan_of_the_real_sets_is_prepared(name):
    pattern, count, geometry = SETS[name]
    files = sorted(shared(name).glob(pattern))
    assert len(files) == count
    for file in files:
        channels = channels_of(file, geometry)
        assert channels.shape == (geometry.stored_channels, 32, 32) and channels.max() > channels.min()


def test_every_file_of_the_reader_zoo_is_prepared_or_refused():
    zoo = shared("reader_zoo")
    files = [*zoo.rglob("*.*"), *(folder for folder in zoo.rglob("*") if any(folder.glob("*.dcm")))]
    reasons = {"frames": 0, "not finite": 0, "unknown format": 0, "no image": 0, "prepared": 0}
    for file in files:
        try:
            header = read_header(file)
            steps = Preprocessor(replace(VOLUME if header.is_volume else IMAGE, intensity="percentile"))
            assert steps.prepare_file(file).channels.any()
            reasons["prepared"] += 1
        except Unreadable as refused:
            reasons[refused.finding.check] += 1
    assert reasons["prepared"] >= 38 and reasons["frames"] == 10 and reasons["not finite"] == 1
    assert sum(reasons.values()) == len(files)
