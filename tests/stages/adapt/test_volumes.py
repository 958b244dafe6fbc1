"""adapt@k with a three-dimensional encoder."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline import paths
from tests.stages.running import refusal, run


@pytest.fixture
def volumes(sites):
    """The same cohort as small volumes with a bright ball in the middle of the ill."""

    def write(**changes):
        root = sites(preprocess__instances="isotropic", preprocess__slices=8, preprocess__image_size=32, **changes)
        folder, rng = root / "data/raw/clinic", np.random.default_rng(0)
        table = pd.read_csv(folder / "cohort.csv", keep_default_na=False)
        number = table["patient_id"].str.split().str[-1].astype(int)
        for row, ill in zip(table.itertuples(), number // 3 % 2, strict=True):
            voxels = rng.normal(60 + 30 * (row.site != "outside"), 15, (20, 20, 12))
            voxels[7:13, 7:13, 4:8] += 90 * ill
            nib.save(
                nib.Nifti1Image(voxels.clip(0, 255).astype(np.uint8), np.diag([2, 2, 2, 1.0])),
                folder / f"{row.image}.nii.gz",
            )
        table.assign(image=table["image"] + ".nii.gz").to_csv(folder / "cohort.csv", index=False)
        return root

    return write


@pytest.mark.parametrize("method", ["adabn", "adabn_per_site", "combat", "nyul", "simclr", "coral"])
def test_a_three_dimensional_encoder_goes_through_every_kind_of_method(volumes, method):
    volumes(adapt__filter_depth=3, adapt__method=method)
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")
    assert paths.read_json(paths.network("0"))["encoder"]["filter_depth"] == 3
    attention = np.load(paths.features("0"))["attention"]
    assert attention.shape[1] == 1  # a volume is one instance


def test_a_three_dimensional_encoder_of_slabs_is_refused_with_the_cure(sites, capsys):
    sites(adapt__filter_depth=3)
    run("cohort", "preprocess", "split")
    assert "set preprocess.instances to isotropic" in refusal(capsys, "adapt --fold 0")
