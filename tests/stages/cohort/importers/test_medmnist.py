import sys
import zipfile

import numpy as np
import pytest

from pipeline.imaging.reading.volumes import read_scan
from pipeline.imaging.tables.cohort_table import read_cohort_table
from pipeline.stages.cohort.importers.found import BadSource, describe, write_import
from pipeline.stages.cohort.importers.medmnist import Frames, find_in_medmnist

COUNTS = {"train": 3, "val": 2, "test": 2}


@pytest.fixture
def known(monkeypatch):
    """The package's table of names, without the package."""
    labels = {"0": "normal", "1": "pneumonia"}
    findings = {"0": "mass", "1": "nodule", "2": "edema"}
    info = {"pneumoniamnist": {"label": labels}, "chestmnist": {"label": findings}}
    monkeypatch.setitem(sys.modules, "medmnist", type(sys)("medmnist"))
    module = type(sys)("medmnist.info")
    module.INFO = info
    monkeypatch.setitem(sys.modules, "medmnist.info", module)


def arrays(shape, label=lambda n: np.arange(n)[:, None] % 2, dtype=np.uint8):
    draw = np.random.default_rng(0)
    made = {f"{split}_images": draw.integers(0, 255, (n, *shape)).astype(dtype) for split, n in COUNTS.items()}
    return made | {f"{split}_labels": label(n) for split, n in COUNTS.items()}


def written(file, into, rename=None):
    found = find_in_medmnist(file, rename or {})
    assert write_import(found, into, link=False) == []
    cohort = read_cohort_table(into)
    return found, cohort, [read_scan(into / image).voxels for image in cohort["image"]]


@pytest.mark.parametrize("shape", [(28, 28), (64, 64, 3)])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_come_out_as_they_went_in_with_official_splits_and_names(tmp_path, known, shape, save):
    made = arrays(shape)
    save(tmp_path / "pneumoniamnist_64.npz", **made)
    _, cohort, images = written(tmp_path / "pneumoniamnist_64.npz", tmp_path / "raw", {"pneumonia": "ill"})
    assert cohort["split"].tolist() == ["development"] * 5 + ["test"] * 2
    assert cohort["label"].tolist() == ["normal", "ill", "normal", "normal", "ill", "normal", "ill"]
    assert cohort["case_id"][5] == "test_000000" and cohort["image"][5] == "images/test/000000.png"
    expected = np.concatenate([made[f"{split}_images"] for split in COUNTS])
    expected = expected[:, None] if len(shape) == 2 else np.moveaxis(expected, -1, 1)
    assert np.array_equal(np.stack(images), expected)


def test_volumes_come_out_as_they_went_in_with_unknown_axes(tmp_path, known):
    made = arrays((28, 28, 28))
    np.savez(tmp_path / "newmnist3d.npz", **made)
    found, cohort, images = written(tmp_path / "newmnist3d.npz", tmp_path / "raw")
    assert np.array_equal(np.stack(images)[:, 0], np.concatenate([made[f"{split}_images"] for split in COUNTS]))
    assert np.array_equal(read_scan(tmp_path / "raw" / cohort["image"][0]).affine, np.eye(4))
    assert cohort["label"].tolist()[:2] == ["0", "1"]
    assert "does not say what the axes" in describe(found)


def test_several_findings_are_joined_and_none_is_named_no_finding(tmp_path, known):
    def findings(n):
        return np.array([[0, 0, 0], [1, 0, 1], [0, 1, 0]])[:n]

    np.savez(tmp_path / "chestmnist.npz", **arrays((28, 28), findings))
    labels = [case.row["label"] for case in find_in_medmnist(tmp_path / "chestmnist.npz", {}).cases]
    assert labels[:3] == ["no finding", "mass;edema", "nodule"]


def test_without_the_package_labels_stay_indices(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "medmnist.info", None)
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays((28, 28)))
    assert find_in_medmnist(tmp_path / "pneumoniamnist.npz", {}).cases[1].row["label"] == "1"


def test_python_objects_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("it ran",))

    for name in ("train_images", "train_labels"):
        made = arrays((28, 28)) | {name: np.array([Trap()] * 3, dtype=object)}
        np.savez(tmp_path / "trap.npz", **made)
        with pytest.raises(BadSource, match=r"trap\.npz is no MedMNIST file"):
            find_in_medmnist(tmp_path / "trap.npz", {})


def test_a_file_of_another_kind_is_refused_by_name(tmp_path):
    with pytest.raises(BadSource, match=r"x\.npz is not there"):
        find_in_medmnist(tmp_path / "x.npz", {})
    (tmp_path / "x.npz").write_bytes(b"x")
    with pytest.raises(BadSource, match=r"x\.npz is no MedMNIST file, or is damaged; download it again"):
        find_in_medmnist(tmp_path / "x.npz", {})
    np.savez(tmp_path / "x.npz", images=np.zeros(3))
    with pytest.raises(BadSource, match="no train, val or test images and labels; it has images"):
        find_in_medmnist(tmp_path / "x.npz", {})
    for change, said in (
        ({"val_labels": np.zeros((9, 1))}, "val has 2 images and 9 labels"),
        ({"test_images": np.zeros((2, 5))}, "neither images nor volumes"),
        ({"test_images": np.zeros((2, 5, 5))}, "float64, not 8 bits"),
    ):
        np.savez(tmp_path / "x.npz", **(arrays((28, 28)) | change))
        with pytest.raises(BadSource, match=said):
            find_in_medmnist(tmp_path / "x.npz", {})


def test_arrays_that_are_no_split_are_reported(tmp_path):
    np.savez(tmp_path / "x.npz", **arrays((28, 28)), weights=np.zeros(3))
    assert find_in_medmnist(tmp_path / "x.npz", {}).left_out == [("weights", "it is no array of images with labels")]


def test_damaged_file_with_readable_images_is_refused_by_checksum(tmp_path):
    made = arrays((64, 64, 3))
    np.savez(tmp_path / "x.npz", **made)
    raw = bytearray((tmp_path / "x.npz").read_bytes())
    raw[raw.index(made["train_images"][1].tobytes()) + 50] ^= 1
    (tmp_path / "x.npz").write_bytes(raw)
    found = find_in_medmnist(tmp_path / "x.npz", {})
    with pytest.raises(BadSource, match="damaged; download it again .*train_images"):
        write_import(found, tmp_path / "raw", link=False)
    assert not (tmp_path / "raw" / "cohort.csv").exists()


def test_images_are_found_in_any_order(tmp_path):
    made = arrays((64, 64))
    np.savez_compressed(tmp_path / "x.npz", **made)
    frames = Frames(zipfile.ZipFile(tmp_path / "x.npz"), "train_images")
    assert all(np.array_equal(frames[index], made["train_images"][index]) for index in (2, 0, 1, 1))
