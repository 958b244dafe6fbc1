"""What explains by images, from the stages to the page, on a project of images and a tiny encoder."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline import paths
from tests.stages.running import run, until_calibrated
from tests.stages.stored import channels_of

ODD = "<script>alert(1)</script>"


def with_odd_site(root):
    file = root / "data" / "raw" / "clinic" / "cohort.csv"
    table = pd.read_csv(file)
    table["site"] = table["site"].replace("next door", ODD)
    table.to_csv(file, index=False)


def table(file):
    return pd.read_csv(file, dtype={"model": str}, keep_default_na=False)


def test_histograms_count_every_voxel_of_a_site_before_and_after(project):
    project()
    run("cohort", "preprocess")
    found, cases = table(paths.HISTOGRAMS), table(paths.CASES)
    assert set(found["site"]) == {"inside", "next door", "outside"} and set(found["state"]) == {"before", "after"}
    for (site, state), rows in found.groupby(["site", "state"]):
        n = (cases["site"] == site).sum()
        assert (rows["cases"] == n).all() and len(rows) <= 64
        channels = sum(channels_of(case).size for case in cases.loc[cases["site"] == site, "case"])
        assert rows["count"].sum() == (channels if state == "after" else n * 40 * 48)
        assert (rows["low"].to_numpy()[1:] == rows["high"].to_numpy()[:-1]).all()
    before = found[found["state"] == "before"]
    mean = (before["low"] + before["high"]).mul(before["count"]).groupby(before["site"]).sum() / 2
    mean /= before["count"].groupby(before["site"]).sum()
    assert mean["outside"] + 20 < mean["inside"]  # it is darker, by 30


def test_most_confident_errors_show_the_prediction_of_their_model(project):
    project(explain__errors=3)
    until_calibrated()
    run("explain")
    found, predictions = table(paths.MISTAKES), table(paths.PREDICTIONS)
    assert set(found["scope"]) <= {"internal", "external"} and len(found)
    for scope, rows in found.groupby("scope"):
        own = predictions[predictions["scope"] == scope].set_index("case")
        said = np.where(own["probability_1"] > own["probability_0"], "ill", "well")
        wrong = own[said != own["label"]]
        most_confident = wrong[["probability_0", "probability_1"]].max(axis=1).sort_values(ascending=False)
        assert len(rows) == min(3, len(wrong))
        assert rows["probability"].tolist() == pytest.approx(most_confident.head(3).tolist())
        assert (own.loc[rows["case"], "label"].to_numpy() == rows["label"].to_numpy()).all()
        assert (own.loc[rows["case"], "fold"].astype(str).to_numpy() == rows["model"].to_numpy()).all()
    image = Image.open(io.BytesIO(base64.b64decode(found.loc[0, "image"])))
    channels = channels_of(found.loc[0, "case"])
    assert np.abs(np.asarray(image).mean(axis=(0, 1)) - channels.mean()).max() < 12 and not found["thumbnail"].any()


def test_a_closed_test_set_is_neither_shown_nor_labelled(project):
    project(calibrate__test="closed")
    until_calibrated()
    run("explain", "evidence")
    assert set(table(paths.MISTAKES)["scope"]) <= {"internal"}
    places = table(paths.evidence("embedding"))
    test = places["side"] == "test"
    assert test.any() and (places.loc[test, "label"] == "").all() and (places.loc[~test, "label"] != "").all()


def test_embedding_holds_both_encoders_and_all_cases(project):
    project()
    until_calibrated()
    run("evidence")
    places, distances = table(paths.evidence("embedding")), table(paths.evidence("domain_distance"))
    split = table(paths.split("final"))
    for _, rows in places.groupby("arm"):
        assert set(rows["case"]) == set(split.loc[split["role"].isin(["train", "validation", "test"]), "case"])
        assert rows["explained_x"].iloc[0] >= rows["explained_y"].iloc[0] > 0
    assert set(places["arm"]) == {"imagenet", "adapted"} and set(distances["arm"]) == {"imagenet", "adapted", "change"}
    assert (distances["lower"] <= distances["value"]).all() and (distances["value"] <= distances["upper"]).all()


def test_page_escapes_them_without_names_and_says_what_has_not_run(project):
    root = project()
    with_odd_site(root)
    until_calibrated()
    run("evidence", "release", "report")
    assert "medadapt explain" in paths.REPORT.read_text()
    run("explain", "report")
    page = paths.REPORT.read_text()
    assert ODD not in page and "&lt;script&gt;alert(1)" in page
    assert "Doe_" not in page and "Jane" not in page and str(root) not in page
    assert 'id="errors"' in page and "Features of the cases" in page
    for case in table(paths.MISTAKES)["case"]:
        assert case in page
    images = re.findall(r"<img [^>]*>", page)
    assert images and all(re.search(r'alt="[^"]+"', image) for image in images)
    assert not re.search(r'(src|href)="(?!data:|#)', page)
