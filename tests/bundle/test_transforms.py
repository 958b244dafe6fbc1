import json

import numpy as np
from monai.bundle import ConfigParser
from PIL import Image

from pipeline.bundle.transforms import preparation_config, scans_in
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.preprocessor import Preprocessor
from tests.conftest import save_nifti
from tests.imaging.phantoms import save_series

STEPS = Preprocessor(Geometry("volume", 32, 4, 3, (1.0, 1.0, 1.0), "pad", "percentile"))


def test_monai_builds_the_transform_from_json_with_equal_channels(tmp_path, asymmetric):
    file = save_nifti(tmp_path / "a.nii.gz", asymmetric, "PSR", (1, 1.5, 2))
    config = json.loads(json.dumps(preparation_config(STEPS)))
    prepared = ConfigParser({"step": config}).get_parsed_content("step")({"image": str(file), "other": 1})
    np.testing.assert_array_equal(prepared["image"].numpy(), STEPS.prepare_file(file).channels)
    assert prepared["other"] == 1 and str(prepared["image"].dtype) == "torch.float32"


def test_a_folder_of_scans_lists_files_and_series_by_name_alone(tmp_path, asymmetric):
    save_nifti(tmp_path / "b.nii.gz", asymmetric)
    save_series(tmp_path / "a", asymmetric.astype(np.int16))
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "c.png")
    (tmp_path / "notes.txt").write_text("x")
    assert [scan["filename_or_obj"] for scan in scans_in(str(tmp_path))] == ["a", "b.nii.gz", "c.png"]
