import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.imaging.reading.scan import Finding, Header, Policy
from pipeline.imaging.tables.cohort_table import findings_table
from pipeline.stages.cohort.audit import Audited, all_findings, audit_file, audit_table, finding_lines
from tests.conftest import save_nifti

COLUMNS = ["case_id", "patient_id", "image", "label", "site", "split"]


def test_a_sound_scan_has_no_finding(tmp_path, asymmetric):
    audited = audit_file(save_nifti(tmp_path / "a.nii.gz", asymmetric))
    assert audited.findings == () and audited.refused is None
    assert audited.header.shape == (12, 14, 10)


@pytest.mark.parametrize(
    ("corrupt", "check"),
    [
        (lambda v: np.where(v == 100, np.nan, v), "not finite"),
        (lambda v: np.where(v == 100, np.inf, v), "not finite"),
        (lambda v: np.zeros_like(v), "constant"),
    ],
)
def test_scans_with_unusable_voxels_are_refused(tmp_path, asymmetric, corrupt, check):
    file = save_nifti(tmp_path / "a.nii.gz", corrupt(asymmetric).astype(np.float32))
    assert audit_file(file).refused.check == check


def test_spacing_of_a_kilometre_is_reported_with_its_parameter(tmp_path, asymmetric):
    file = save_nifti(tmp_path / "a.nii", asymmetric, spacing=(1, 1, 1e6))
    assert audit_file(file).refused.parameter == "cohort.reading.spacing_mm"
    assert audit_file(file, Policy(spacing_mm=(0.01, 2e6))).refused is None


def test_a_missing_a_broken_and_a_black_file_are_found(tmp_path):
    (tmp_path / "b.png").write_bytes(b"not an image")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "c.png")
    checks = [audit_file(tmp_path / name).refused.check for name in ("a.nii", "b.png", "c.png")]
    assert checks == ["missing", "unreadable", "constant"]


def test_repairs_are_reported_and_not_refused(tmp_path, asymmetric):
    file = save_nifti(tmp_path / "a.nii.gz", np.where(asymmetric == 100, np.nan, asymmetric))
    audited = audit_file(file, Policy(not_finite="darken"))
    assert audited.refused is None
    assert [(one.action, one.check) for one in audited.findings] == [("repaired", "not finite")]
    assert Audited.from_json(json.loads(json.dumps(audited.as_json()))) == audited


def test_what_the_table_says_of_each_case_is_checked_in_one_go():
    rows = [
        ("a", "p1", "a.png", "ill", "", ""),
        ("a", "p2", "b.png", "well", "", ""),
        ("", "p3", "c.png", "well", "", ""),
        ("d", "d", "d.png", "sick", "", ""),
        ("e", "p4", "e.png", "", "", "test"),
        ("f", "p5", "f.png", "well", "", ""),
        ("g", "p6", "g.png", "", "", "unlabelled"),
    ]
    found = audit_table(pd.DataFrame(rows, columns=COLUMNS), ["ill", "well"], n_folds=2)
    checks = [[(one.check, one.action) for one in findings] for findings in found]
    assert checks[0] == [("case id twice", "refused"), ("rare class", "warned")]
    assert checks[1] == [("case id twice", "refused")]
    assert checks[2] == [("case id missing", "refused")]
    assert checks[3] == [("label", "excluded"), ("patient missing", "warned")]
    assert checks[4] == [("label missing", "warned")]
    assert checks[5] == checks[6] == []


def test_each_label_of_several_is_checked_and_counted_both_ways():
    rows = [
        ("a", "p1", "a.png", "edema;mass", "", ""),
        ("b", "p2", "b.png", "edema;?mass", "", ""),
        ("c", "p3", "c.png", "edema;mas", "", ""),
        ("d", "p4", "d.png", "edema;no finding", "", ""),
        ("e", "p5", "e.png", "?edema;?mass", "", "test"),
        ("f", "p6", "f.png", "no finding", "", ""),
        ("g", "p7", "g.png", "no finding", "", "test"),
        ("h", "p8", "h.png", "mass;?edema", "", ""),
        ("i", "p1", "i.png", "edema;mass", "", ""),
    ]
    found = audit_table(pd.DataFrame(rows, columns=COLUMNS), ["edema", "mass"], n_folds=2, task="multilabel")
    absent_edema = "'edema' is known to be absent in 1 patients for 2 folds"
    absent_mass = "'mass' is known to be absent in 1 patients for 2 folds"
    told = [[(one.action, one.detail) for one in findings] for findings in found]
    assert told[0] == told[1] == told[7] == told[8] == []
    assert told[2] == [("excluded", "'mas' is not a class")]
    assert told[3] == [("refused", "'no finding' is combined with 'edema'")]
    assert told[4] == [("warned", "counted as unlabelled, though it is in test")]
    assert told[5] == told[6] == [("warned", absent_edema), ("warned", absent_mass)]
    more = audit_table(pd.DataFrame(rows, columns=COLUMNS), ["edema", "mass"], n_folds=3, task="multilabel")
    assert [one.detail for one in more[0]] == [
        "'edema' has 2 patients for 3 folds",
        "'mass' has 2 patients for 3 folds",
    ]


def test_images_without_any_patient_are_not_reported_one_by_one():
    rows = [(name, name, f"{name}.png", label, "", "") for name, label in ("ax", "by", "cx", "dy")]
    assert audit_table(pd.DataFrame(rows, columns=COLUMNS), ["x", "y"], n_folds=2) == [[], [], [], []]


def test_findings_are_one_table():
    table = findings_table(["a", "b"], [[Finding("x", "y")], [Finding("u", "v", "warned", "p"), Finding("x", "y")]])
    assert table["case"].tolist() == ["a", "b", "b"]
    assert table.iloc[1].tolist() == ["b", "u", "v", "warned", "p"]


def test_findings_of_one_kind_are_one_line_with_a_count_and_examples():
    labels = ["0"] * 397 + ["1"] * 349 + ["ill", "well"]
    rows = [(f"case {n}", f"p{n}", f"{n}.png", label, "", "") for n, label in enumerate(labels)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    found = audit_table(table, ["ill", "well"], n_folds=1)
    found[0].append(Finding("truncated", "it ends early"))
    assert finding_lines(table["image"].tolist(), found) == [
        "refused   1  truncated: it ends early: 0.png",
        "excluded  746  label: '0' is not a class (397), '1' is not a class (349) "
        "(params.yaml: cohort.classes decides): e.g. 0.png, 1.png, 2.png",
    ]


def test_the_rarer_of_volumes_and_images_is_named():
    volume, image = Header((4, 4, 4), 1, (1.0, 1.0, 1.0), 16), Header((4, 4), 1, (1.0, 1.0), 8)
    found = all_findings([Audited(volume), Audited(image), Audited(volume), Audited(None)], [[]] * 4)
    assert [[one.detail[:14] for one in of_case] for of_case in found] == [[], ["it is an image"], [], []]
    assert all_findings([Audited(volume)] * 3, [[]] * 3) == [[], [], []]


def test_a_row_without_an_image_is_not_told_of_a_missing_file():
    of_row, of_file = Finding("no image", "the row names no image"), Finding("missing", "the file does not exist")
    assert all_findings([Audited(None, (of_file,))] * 2, [[of_row], []]) == [[of_row], [of_file]]
