"""The columns of a bundle: its file, its examples, and the values of a new scan."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.bundle.columns import (
    COLUMNS,
    BadInputs,
    check_examples,
    columns_config,
    columns_metadata,
    fusion_in,
    texts_of,
    typical_inputs,
)
from pipeline.bundle.manifest import BrokenBundle
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.fusion import fit_fusion


@pytest.fixture
def fusion():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"column_age": ["", *map(str, range(40, 79))], "column_code": ["a", "b"] * 20})
    logits = pd.DataFrame(rng.normal(size=(40, 3)), columns=["logit_0", "logit_1", "logit_2"])
    columns = [InputColumn("age", "numeric"), InputColumn("code", "categorical", ("a", "b"))]
    return fit_fusion(table.join(logits), rng.integers(0, 3, 40), columns)


@pytest.fixture
def folder(tmp_path, fusion):
    (tmp_path / "configs").mkdir()
    (tmp_path / COLUMNS).write_text(json.dumps(columns_config(fusion, 3)))
    return tmp_path


def test_the_file_is_read_back_and_its_examples_hold(folder, fusion):
    assert fusion_in(folder, {"columns": columns_metadata(fusion)}, 3) == fusion
    assert check_examples(folder) == "the model takes age, code; 6 examples are fused as at the release, within 1e-09"


def test_a_bundle_without_columns_has_no_fusion(tmp_path):
    assert fusion_in(tmp_path, {}, 3) is None and typical_inputs(None) is None


@pytest.mark.parametrize("metadata", [{}, {"columns": {"names": ["age"]}}, {"columns": None}])
def test_a_file_that_the_metadata_do_not_name_is_refused(folder, metadata):
    with pytest.raises(BrokenBundle, match=r"columns\.json was not written by medadapt"):
        fusion_in(folder, metadata, 3)


def test_a_missing_file_or_another_number_of_classes_is_refused(folder, fusion, tmp_path):
    with pytest.raises(BrokenBundle, match="other classes"):
        fusion_in(folder, {"columns": columns_metadata(fusion)}, 2)
    (folder / COLUMNS).unlink()
    with pytest.raises(BrokenBundle, match="was not written by medadapt"):
        fusion_in(folder, {"columns": columns_metadata(fusion)}, 3)


def test_an_example_that_no_longer_holds_is_refused(folder):
    values = json.loads((folder / COLUMNS).read_text())
    values["intercepts"][0] += 1e-6
    (folder / COLUMNS).write_text(json.dumps(values))
    with pytest.raises(BrokenBundle, match="a fused logit differs by 1e-06"):
        check_examples(folder)


def test_values_are_texts_and_none_and_nan_are_missing(fusion):
    assert texts_of(fusion, {"age": 61, "code": "a", "more": 1}) == {"age": "61", "code": "a"}
    assert texts_of(fusion, {"age": None, "code": "b"})["age"] == texts_of(fusion, {"age": np.nan, "code": "b"})["age"]
    assert texts_of(fusion, typical_inputs(fusion))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (None, "the model takes the columns age, code besides the scan; give age, code"),
        ({"age": 61}, "give code"),
        ({"age": "x", "code": None}, "column 'age': 'x' is no number.*; column 'code': it is missing"),
    ],
)
def test_values_that_a_model_cannot_use_are_refused(fusion, inputs, said):
    with pytest.raises(BadInputs, match=said):
        texts_of(fusion, inputs)
