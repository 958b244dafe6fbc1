"""The page of --report: what a clinician sees of each scan, in one file."""

import re
import shutil

import pandas as pd
import pytest

from pipeline.__main__ import main
from pipeline.bundle.layout import METADATA
from tests.bundle.bundles import CLASSES, rewrite, written
from tests.conftest import save_nifti

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def page(limited, tmp_path, asymmetric):
    """The page of an answered, a withheld and an unreadable scan; the last one has a name that is a script."""
    folder, scans, _ = limited
    bundle = shutil.copytree(folder, tmp_path / "model")
    first = {"know_before_use": ["It was not tested on <children>."], "per_patient": "mean"}
    rewrite(bundle, METADATA, lambda metadata: metadata.update(first))
    shutil.copy(scans / "0.nii.gz", tmp_path / "answered.nii.gz")
    save_nifti(tmp_path / "odd.nii.gz", asymmetric)
    rows = {"image": ["answered.nii.gz", "odd.nii.gz", "gone.nii.gz"], "patient_id": ["p", "p", EVIL]}
    pd.DataFrame(rows).to_csv(tmp_path / "list.csv", index=False)
    assert main(["predict", str(bundle), str(tmp_path / "list.csv"), "--report", str(tmp_path / "page.html")]) == 0
    return (tmp_path / "page.html").read_text()


def sections(page):
    return re.findall(r'<article class="scan">(.*?)</article>', page, flags=re.DOTALL)


def test_facts_to_know_stand_before_the_scans(page):
    assert page.index("What to know before you use it") < page.index("It was not tested on &lt;children&gt;.")
    assert page.index("It was not tested") < page.index("scans: 3; without an answer: 2".capitalize())
    assert page.index("without an answer") < page.index('<article class="scan">')


def test_an_answer_has_words_set_decision_image_and_map(page):
    answered, odd, gone = sections(page)
    assert re.search(rf"Most probable: <b>({'|'.join(CLASSES)})</b> \(\d+%\)", answered)
    assert "Decision: <b>" in answered and "Prediction set" in answered
    assert answered.count('src="data:image/png;base64,') == 2 and "regions that support" in answered
    assert odd.count('src="data:image/png;base64,') == 1 and gone.count("<img") == 0


def test_a_withheld_answer_is_a_reason_and_no_number_or_map(page):
    _, odd, gone = sections(page)
    assert "The model gives no answer</span>: the scan is unlike those" in odd
    assert "%" not in odd.replace("width: 100%", "") and "support" not in odd and "Decision" not in odd
    assert "The model gives no answer</span>: the scan cannot be used" in gone and "does not exist" in gone


def test_the_page_is_one_file_that_runs_and_fetches_nothing(page):
    assert EVIL not in page and "&lt;script&gt;" in page and "<script" not in page
    assert "http" not in page.replace("http-equiv", "") and "default-src 'none'" in page


def test_an_unwritable_page_is_refused_before_the_work(limited, tmp_path, capsys):
    (tmp_path / "file").touch()
    scan = str(limited[1] / "0.nii.gz")
    assert main(["predict", str(limited[0]), scan, "--report", str(tmp_path / "file" / "page.html")]) == 1
    assert capsys.readouterr().err.startswith("error: --report: ")


def test_it_fits_wide_and_narrow_screens(page, chromium, tmp_path):
    for width in (1400, 390):
        view, said = chromium.new_page(viewport={"width": width, "height": 900}), []
        view.on("console", lambda message, said=said: said.append(message.text))
        view.goto((tmp_path / "page.html").as_uri())
        assert view.evaluate("document.documentElement.scrollWidth") == width and not said
        assert view.evaluate("[...document.images].every(one => one.naturalWidth > 0)")


def test_measured_sensitivity_stands_beside_the_threshold(tmp_path, asymmetric):
    bundle = written(tmp_path / "model", classes=("control", "lesion"))
    metric = {"value": 0.88, "lower": 0.76, "upper": 0.95}
    evaluated = {"internal": {"n": 71, "sensitivity": metric, "specificity": metric}}
    points = [{"class": "lesion", "unit": "scan", "threshold": 0.43, "evaluated": evaluated}]
    values = {"rule": "sensitivity at specificity 0.90", "points": points}
    rewrite(bundle, METADATA, lambda metadata: metadata.update(operating_point=values))
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    assert main(["predict", str(bundle), str(scan), "--report", str(tmp_path / "page.html")]) == 0
    page = re.sub(r"<[^>]*>", "", (tmp_path / "page.html").read_text())
    assert "lesion from a probability of 0.43 upwards" in page
    assert "71 scans" in page and "sensitivity 0.88 (0.76 to 0.95)" in page
