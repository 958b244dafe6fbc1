"""Scans of any values, sizes and grids: each is prepared, or refused with a reason, without a warning of numpy."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation import preprocessor
from pipeline.imaging.preparation.brain_fit import NotAHead
from pipeline.imaging.preparation.deface import deface
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.reading.scan import Policy
from pipeline.stages.preprocess.run import prepare_case
from tests.conftest import save_nifti
from tests.fuzzing import EXAMPLES

SIZES = st.sampled_from([1, 2, 3, 5, 17])
SPACINGS = st.sampled_from([0.05, 1.0, 3.0, 20.0])
TYPES = st.sampled_from(["uint8", "int16", "int32", "uint32", "float32", "float64"])
INTENSITIES = st.sampled_from(["keep", "percentile", "zscore", ((-1000.0, 400.0),)])


@st.composite
def volumes(draw):
    """Draw normal values at any scale and place, sets of few values, and outliers at the ends of the type."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.normal(size=tuple(draw(SIZES) for _ in range(3)))
    kind = draw(st.sampled_from(["scaled", "shifted", "two values", "outlier", "skewed"]))
    if kind == "outlier":
        values.flat[0] = draw(st.sampled_from([np.nan, -(2.0**31), 3.4e38, -1e30, 65535.0]))
    elif kind == "skewed":
        values = np.exp(values * draw(st.sampled_from([1, 10, 30])))
    else:
        values = (values > 0) * 1.0 if kind == "two values" else values
        values = values * 10.0 ** draw(st.integers(-44, 38))
        values = values + (10.0 ** draw(st.integers(0, 37)) if kind == "shifted" else 0)
    stored = np.dtype(draw(TYPES))
    ends = np.iinfo(stored) if stored.kind in "iu" else np.finfo(stored)
    kept = np.nan_to_num(values) if stored.kind in "iu" else values
    affine = np.diag([*(draw(SPACINGS) for _ in range(3)), 1.0])
    affine[0, 1] = draw(st.sampled_from([0, 0, 0.3]))
    return kept.clip(float(ends.min), float(ends.max)).astype(stored), affine


@settings(max_examples=EXAMPLES, deadline=None)
@given(volumes(), INTENSITIES, st.sampled_from(["none", "foreground"]), st.sampled_from(["pad", "stretch"]))
def test_a_volume_of_any_values_is_prepared_or_refused(tmp_path_factory, volume, intensity, crop, fit):
    folder = tmp_path_factory.getbasetemp()
    nib.save(nib.Nifti1Image(*volume), folder / "a.nii")
    geometry = Geometry("volume", 16, 2, 3, (1.0, 1.0, 2.0), fit, intensity, crop)
    steps = Preprocessor(geometry, Policy(not_finite="darken"))
    found, arrays = prepare_case(("case-1", folder / "a.nii", None), steps)
    if "finding" in found:
        assert found["finding"]["detail"] and found["finding"]["action"] == "refused"
    else:
        stored = arrays["channels"]
        assert stored.shape == (geometry.stored_channels, 16, 16) and stored.dtype == np.uint8


def test_a_volume_without_anything_bright_is_no_head():
    values = np.full((1, 17, 17, 17), 3, dtype=np.float32)
    values[0, 0, 0, 0] = 4
    with pytest.raises(NotAHead):
        deface(values, np.diag([20.0, 20.0, 20.0, 1.0]))


def test_a_scan_on_which_a_library_fails_is_refused_by_itself(tmp_path, asymmetric, monkeypatch):
    def failing(scan, geometry, region):
        raise ValueError("Jane Doe")

    monkeypatch.setattr(preprocessor, "prepare", failing)
    steps = Preprocessor(Geometry("volume", 16, 2, 3, (1.0, 1.0, 2.0), "pad", "keep"))
    found, _ = prepare_case(("case-1", save_nifti(tmp_path / "a.nii", asymmetric), None), steps)
    assert found["finding"]["check"] == "preparation" and "ValueError" in found["finding"]["detail"]
    assert "Doe" not in found["finding"]["detail"]
