"""Prepared cases in packs: read as they were written, the same bytes from the same cases, few files for many cases."""

import numpy as np
import pytest

from pipeline import paths, prepared
from pipeline.errors import UserError

CASES = [f"case-{number:012x}" for number in range(600)]


def array_of(number):
    return np.random.default_rng(number).integers(0, 256, (3, 4, 1 + number % 3), np.uint8)


def write(cases, array=array_of):
    numbers = {case: int(case.removeprefix("case-"), 16) for case in cases}
    prepared.write_arrays(paths.PREPARED_CASES, numbers, lambda number: prepared.as_npy(array(number)))
    return {file.name: file.read_bytes() for file in paths.PREPARED_CASES.iterdir()}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("array", [array_of, lambda number: array_of(number).T, lambda number: array_of(number) > 99])
def test_channels_are_read_as_they_were_written_and_read_only(array):
    assert len(write(CASES, array)) <= 256
    for number, case in enumerate(CASES):
        found = prepared.read_channels(case)
        assert found.dtype == array(number).dtype and np.array_equal(found, array(number))
        assert found.strides == array(number).copy(order="K").strides and not found.flags.writeable


def test_cases_give_the_same_bytes_in_any_order_and_a_new_one_changes_one():
    before = write(CASES)
    assert write(CASES[::-1]) == before
    after = write([*CASES, "case-fff"])
    assert sum(before.get(name) != content for name, content in after.items()) == 1
    assert write(CASES) == before and len(write(CASES[:1])) == 1


def test_a_case_that_is_written_anew_is_read_anew():
    for shift in (0, 7, 0):
        write(CASES[:3], lambda number, shift=shift: array_of(number + shift))
        assert np.array_equal(prepared.read_channels(CASES[2]), array_of(2 + shift))


def test_a_case_that_is_not_there_is_named_with_the_cure():
    with pytest.raises(UserError, match=r"data/prepared/cases/..\.pack lacks case-0{12}: `dvc repro` runs the stage"):
        prepared.read_channels(CASES[0])
    write(CASES[:1])
    with pytest.raises(UserError, match=f"lacks {CASES[1]}"):
        prepared.read_channels(CASES[1])
    assert prepared.read_mask(CASES[0]) is None


def test_without_cases_there_is_no_folder():
    write(CASES[:3])
    prepared.write_arrays(paths.PREPARED_CASES, {}, array_of)
    assert not paths.PREPARED_CASES.exists()
