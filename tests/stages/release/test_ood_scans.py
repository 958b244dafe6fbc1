import numpy as np
import pytest
from PIL import Image

from pipeline import paths
from pipeline.bundle.limits import OperatingLimits, ScanOutput
from pipeline.bundle.predictor import Predictor
from pipeline.errors import UserError
from pipeline.imaging.preparation.placement import Prepared
from pipeline.imaging.reading.scan import Unreadable
from pipeline.metrics.calibrators.calibrator import calibrator_from
from pipeline.metrics.ood import ClassGaussians, OODDetector
from pipeline.stages.release.ood_scans import MOST, folders, held_back

GAUSSIAN = ClassGaussians({"all": np.zeros(2)}, np.ones(2), np.array([[1.0, 0.0]]), np.array([1.0]), 1.0)
APPEARANCES = ClassGaussians({"all": np.zeros(28)}, np.ones(28), np.eye(28)[:1], np.array([1.0]), 1.0)
BLANK = Prepared(np.zeros((1, 8, 8), np.uint8), None)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths.OUT_OF_DISTRIBUTION.mkdir(parents=True)
    (paths.OUT_OF_DISTRIBUTION / "README.md").write_text("what goes here")


def put(kind, *names):
    (paths.OUT_OF_DISTRIBUTION / kind).mkdir()
    for name in names:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(paths.OUT_OF_DISTRIBUTION / kind / name)


def predictor(threshold, score=None):
    detector = OODDetector((0.0, 0.0, 0.0), (1e6, 1.0, 1e6), threshold, 0.05, 40, ())  # of the features' distance alone
    limits = OperatingLimits([], [GAUSSIAN], [], [APPEARANCES], detector, (), False)
    return Predictor(
        ["a", "b"],
        score or far_by_name,
        calibrator_from({"method": "temperature", "activation": "softmax", "temperature": 1.0}),
        limits,
    )


def far_by_name(file, site):
    """Look at a scan whose name says how far it lies from development, or that it cannot be read."""
    assert site is None
    if file.stem == "broken":
        raise Unreadable("image", "it is none")
    return ScanOutput(np.zeros(2), [np.array([float(file.stem), 0.0])], np.zeros(28), BLANK)


def test_flagged_and_refused_scans_of_each_kind_are_counted(project):
    put("knee_mri", "1.png", "5.png", "7.png", "broken.png")
    put("near", "0.png", "2.png")
    assert held_back(predictor(np.log(3)), "image") == {
        "out-of-distribution scans: knee_mri; 1 of them refused when read": (3, 4),
        "out-of-distribution scans: near": (0, 2),
    }


def test_of_many_scans_some_from_the_whole_folder_are_tested(project):
    put("many", *(f"{number:04d}.png" for number in range(2 * MOST + 1)))
    [(_, tried)] = held_back(predictor(np.log(3)), "image").values()
    seen = []
    score = lambda file, site: seen.append(int(file.stem)) or far_by_name(file, site)  # noqa: E731
    held_back(predictor(np.log(3), score), "image")
    assert tried == len(seen) <= MOST and max(seen) > 1.9 * MOST


def test_without_a_threshold_or_folders_nothing_is_tested(project):
    assert held_back(predictor(np.log(3)), "image") == {}
    put("knee_mri", "1.png")
    assert held_back(predictor(None), "image") == {}
    (paths.OUT_OF_DISTRIBUTION / "README.md").unlink()
    paths.OUT_OF_DISTRIBUTION.rename("elsewhere")
    assert folders() == []


@pytest.mark.parametrize(
    ("lay_out", "message"),
    [
        (lambda: (paths.OUT_OF_DISTRIBUTION / "scan.png").touch(), "scan.png: put it into a folder"),
        (lambda: put("<script>", "1.png"), "name the folder with letters"),
        (lambda: put("empty"), "empty is empty; .*or remove the folder"),
    ],
)
def test_a_wrong_folder_is_named_with_its_cure(project, lay_out, message):
    lay_out()
    with pytest.raises(UserError, match=message):
        folders()
