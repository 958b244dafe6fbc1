import gzip
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.imaging.reading.scan import Policy, Unreadable
from pipeline.imaging.reading.volumes import read_header, read_scan
from tests.conftest import ROOT, save_nifti, shared
from tests.imaging.phantoms import ORIENTATIONS


def canonical(scan):
    return nib.as_closest_canonical(nib.Nifti1Image(scan.voxels[0].astype(np.float32), scan.affine))


def noise(shape=(12, 14, 10), kind=np.float32):
    return np.random.default_rng(0).normal(100, 30, shape).astype(kind)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_file_of_any_orientation_is_read_into_the_same_space(tmp_path, asymmetric, orientation):
    read = canonical(read_scan(save_nifti(tmp_path / "a.nii.gz", asymmetric, orientation, (1.0, 2.0, 3.0))))
    np.testing.assert_array_equal(read.get_fdata(), asymmetric)
    np.testing.assert_allclose(read.affine, np.diag([1, 2, 3, 1]), atol=1e-6)
    header = read_header(tmp_path / "a.nii.gz")
    assert header.shape == (12, 14, 10) and header.spacing == pytest.approx((1, 2, 3))


KINDS = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_nibabel_writes_is_read_as_nibabel_reads_it(tmp_path, data):
    """Vary types, shapes, byte orders, scalings, affines and containers; nibabel in double precision is the oracle."""
    kind = data.draw(st.sampled_from(KINDS))
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    elements = st.floats(-1e6, 1e6, width=32) if kind in KINDS[-2:] else arrays.from_dtype(np.dtype(kind))
    voxels = data.draw(arrays.arrays(np.dtype(kind), shape, elements=elements))
    angles = data.draw(st.tuples(*[st.floats(-0.7, 0.7)] * 3))
    zooms = data.draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(*angles) * zooms, [5, -3, 1])
    image_class = data.draw(st.sampled_from([nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair]))
    image = image_class(voxels, affine, dtype=voxels.dtype)
    image.header.set_data_dtype(voxels.dtype)
    header_class = image.header.__class__
    if data.draw(st.booleans()):
        image = image_class(voxels, affine, header_class.from_header(image.header).as_byteswapped())
    scaled = data.draw(st.sampled_from([None, (1.0, -1024.0), (0.5, 3.0), (2.25, -7.5)]))
    ending = ".img" if image_class is nib.Nifti1Pair else data.draw(st.sampled_from([".nii", ".nii.gz"]))
    file = tmp_path / f"a{ending}"
    if scaled:
        image.header.set_slope_inter(*scaled)
        image._dataobj = np.asarray(voxels) * scaled[0] + scaled[1]
    nib.save(image, file)
    truth = nib.load(file)
    expected = truth.get_fdata(dtype=np.float64)
    try:
        scan = read_scan(file)
    except Unreadable as refused:
        narrow = (
            256 * np.spacing(np.abs(expected).max().astype(np.float32)) if refused.finding.check == "precision" else 0
        )
        assert refused.finding.check in ("constant", "precision") and np.ptp(expected) <= narrow
        return
    if scan.background is not None:  # an end of a data type, far from all other values
        assert set(expected[scan.voxels[0] == scan.background]) <= {expected.min(), expected.max()}
        expected = np.where(scan.voxels[0] == scan.background, scan.background, expected)
    # int64 beyond 2^24 and the like are rounded once, to float32
    np.testing.assert_allclose(scan.voxels[0], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scan.affine, truth.affine)


def test_whole_numbers_stay_whole_and_small(tmp_path):
    for kind, offset, expected in [
        (np.uint8, None, np.uint8),
        (np.uint16, None, np.int16),
        (np.int16, -1024, np.int16),
        (np.float64, None, np.float32),
    ]:
        image = nib.Nifti1Image(
            (300 + np.arange(60) if kind != np.uint8 else np.arange(60)).reshape(3, 4, 5).astype(kind), np.eye(4)
        )
        if offset:
            image.header.set_slope_inter(1, offset)
        nib.save(image, tmp_path / "a.nii")
        assert read_scan(tmp_path / "a.nii").voxels.dtype == expected


def test_a_volume_of_colours_has_three_channels(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3), dtype=np.uint8)
    stored = colours.view(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))[..., 0]
    nib.save(nib.Nifti1Image(stored, np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.nii.gz").voxels, np.moveaxis(colours, -1, 0))


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000.0), ("micron", 0.001)])
def test_voxel_sizes_are_millimetres_whatever_the_file_counts_in(tmp_path, unit, factor):
    image = nib.Nifti1Image(noise(), np.diag([2 / factor, 2 / factor, 3 / factor, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii").spacing == pytest.approx((2, 2, 3))


def test_a_series_of_volumes_is_refused_or_reduced_as_asked(tmp_path):
    frames = noise((3, 4, 5, 6))
    nib.save(nib.Nifti1Image(frames, np.eye(4)), tmp_path / "fmri.nii")
    with pytest.raises(Unreadable) as refused:
        read_scan(tmp_path / "fmri.nii")
    assert refused.value.finding.parameter == "cohort.reading.frames"
    np.testing.assert_array_equal(read_scan(tmp_path / "fmri.nii", Policy(frames="first")).voxels[0], frames[..., 0])
    mean = read_scan(tmp_path / "fmri.nii", Policy(frames="mean"))
    np.testing.assert_allclose(mean.voxels[0], frames.mean(-1), rtol=1e-5)
    assert mean.header.findings[0].action == "repaired"


def with_affines(file, sform, qform, s_code=1, q_code=1):
    image = nib.Nifti1Image(noise(), np.eye(4))
    image.set_sform(sform, s_code)
    image.set_qform(qform, q_code)
    nib.save(image, file)
    return file


def test_affines_that_disagree_on_left_and_right_are_refused_or_chosen(tmp_path):
    file = with_affines(tmp_path / "a.nii", np.eye(4), np.diag([-1, 1, 1, 1]))
    with pytest.raises(Unreadable, match="affine conflict"):
        read_scan(file)
    assert read_scan(file, Policy(affine_conflict="sform")).affine[0, 0] == 1
    assert read_scan(file, Policy(affine_conflict="qform")).affine[0, 0] == -1


def test_affines_with_different_origins_are_only_reported(tmp_path):
    moved = np.eye(4)
    moved[:3, 3] = 40
    scan = read_scan(with_affines(tmp_path / "a.nii", np.eye(4), moved))
    assert scan.header.findings[0].action == "warned" and "69.3 mm apart" in scan.header.findings[0].detail


def test_a_file_without_an_affine_is_refused_unless_one_is_assumed(tmp_path):
    file = with_affines(tmp_path / "a.nii", None, None, s_code=0, q_code=0)
    with pytest.raises(Unreadable, match="orientation"):
        read_scan(file)
    assumed = read_scan(file, Policy(unknown_orientation="assume"))
    assert nib.aff2axcodes(assumed.affine) == ("L", "A", "S")


@pytest.mark.parametrize(("row", "why"), [([0, 0, 0, 0], "singular"), ([np.nan, 0, 0, 0], "not finite")])
def test_an_affine_that_makes_no_sense_is_refused(tmp_path, row, why):
    file = with_affines(tmp_path / "a.nii", np.eye(4), None, q_code=0)
    with open(file, "r+b") as stream:
        stream.seek(280)
        stream.write(np.array(row, dtype="<f4").tobytes())
    with pytest.raises(Unreadable, match=why):
        read_scan(file)


def test_an_implausible_voxel_size_is_refused(tmp_path):
    with pytest.raises(Unreadable, match="spacing.*0.001 x 1 x 1"):
        read_scan(save_nifti(tmp_path / "a.nii", noise(), spacing=(0.001, 1, 1)))


def test_a_nan_is_refused_or_darkened_as_asked(tmp_path):
    voxels = noise()
    voxels[0, 0, 0], voxels[1, 1, 1] = np.nan, np.inf
    file = save_nifti(tmp_path / "a.nii.gz", voxels)
    with pytest.raises(Unreadable, match="2 voxels are NaN or infinite"):
        read_scan(file)
    scan = read_scan(file, Policy(not_finite="darken"))
    assert scan.voxels[0, 0, 0, 0] == scan.voxels[0, 1, 1, 1] == scan.voxels.min() == np.nanmin(voxels)


def test_a_constant_scan_is_refused(tmp_path):
    with pytest.raises(Unreadable, match="every voxel has the value 7"):
        read_scan(save_nifti(tmp_path / "a.nii", np.full((4, 4, 4), 7, dtype=np.int16)))


def test_300_flipped_bits_are_each_noticed_or_change_no_voxel(tmp_path):
    rng = np.random.default_rng(1)
    files = [save_nifti(tmp_path / f"{i}.nii.gz", noise((16, 12, 9), kind)) for i, kind in enumerate(KINDS[:6])]
    unharmed = 0
    for number in range(300):
        file = files[number % len(files)]
        sound, clean = file.read_bytes(), read_scan(file)
        broken = bytearray(sound)
        broken[rng.integers(len(broken))] ^= 1 << int(rng.integers(8))
        file.write_bytes(broken)
        try:
            scan = read_scan(file)
        except Unreadable:
            continue
        finally:
            file.write_bytes(sound)
        np.testing.assert_array_equal(scan.voxels, clean.voxels)
        unharmed += 1
    assert unharmed < 30  # only bytes of the gzip header that carry no data


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_100_truncations_are_all_noticed(tmp_path, ending):
    file = save_nifti(tmp_path / f"a{ending}", noise())
    sound = file.read_bytes()
    for length in np.random.default_rng(2).integers(0, len(sound) - 1, 100):
        file.write_bytes(sound[:length])
        with pytest.raises(Unreadable):
            read_scan(file)


def bomb(file):
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).header
    header.set_data_shape((600, 600, 700))
    with gzip.open(file, "wb", compresslevel=9) as stream:
        stream.write(header.binaryblock + bytes(4))
        for _ in range(252):
            stream.write(bytes(1_000_000))
    return file


def endless(file):
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).header
    header.set_data_shape((4, 4, 4))
    with gzip.open(file, "wb", compresslevel=9) as stream:
        stream.write(header.binaryblock + bytes(4) + bytes(range(64)))
        for _ in range(300):
            stream.write(bytes(1_000_000))
    return file


def giant(file):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4))
    nib.save(image, file)
    with open(file, "r+b") as stream:
        stream.seek(42)
        stream.write(np.array([30000, 30000, 300], dtype="<i2").tobytes())
    return file


@pytest.mark.parametrize("make", [bomb, endless, giant])
def test_a_decompression_bomb_is_refused_before_it_takes_memory(tmp_path, make):
    """Read in a separate process, so that its peak memory is that of the read."""
    file = make(tmp_path / ("a.nii" if make is giant else "a.nii.gz"))
    code = (
        "import sys; from pathlib import Path\n"
        "from pipeline.imaging.reading.volumes import read_scan\n"
        "from pipeline.imaging.reading.scan import Unreadable\n"
        "peak = lambda: int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])\n"
        "idle = peak()\n"
        "try: read_scan(Path(sys.argv[1]))\n"
        "except Unreadable as e: print(peak() - idle, e)\n"
    )
    told = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, cwd=ROOT, check=True)
    kib, _, reason = told.stdout.partition(" ")
    assert int(kib) < 200 * 1024
    assert "declared" in reason


def test_an_analyze_file_is_refused_because_left_is_unknown(tmp_path):
    nib.save(nib.AnalyzeImage(noise(), np.eye(4)), tmp_path / "a.img")
    with pytest.raises(Unreadable, match="which side is left"):
        read_scan(tmp_path / "a.hdr")


def test_a_header_without_its_voxels_is_refused(tmp_path):
    nib.save(nib.Nifti1Pair(noise(), np.eye(4)), tmp_path / "a.img")
    (tmp_path / "a.img").unlink()
    with pytest.raises(Unreadable, match=r"\.img file"):
        read_scan(tmp_path / "a.hdr")


def test_complex_voxels_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(noise().astype(np.complex64), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(Unreadable, match="complex"):
        read_scan(tmp_path / "a.nii")


def test_every_real_volume_is_read_as_nibabel_reads_it():
    for file in [*sorted(shared("hippocampus3d").glob("*.nii.gz"))[::8], *shared("ixi_t1_2mm").glob("*.nii.gz")]:
        np.testing.assert_array_equal(read_scan(file).voxels[0], nib.load(file).get_fdata(dtype=np.float32))
