"""Images that explain, on the page: histograms, places in the features, mistakes with their slices."""

import re

import pytest

from pipeline.stages.report.embedding import MOST, OTHERS, embedding_section, moved_in_words
from pipeline.stages.report.histograms import site_histograms
from pipeline.stages.report.mistakes import mistakes_section


def bins(site="north", state="after", counts=(900, 40, 30, 20, 10, 60, 20, 10, 5, 5), width=25.6):
    return [
        {"site": site, "state": state, "cases": 3, "low": width * place, "high": width * (place + 1), "count": count}
        for place, count in enumerate(counts)
    ]


def heights(svg):
    return [float(height) for height in re.findall(r'<rect class="column[^>]*height="([\d.]+)"', svg)]


def test_air_does_not_flatten_the_histogram_and_what_is_cut_is_said():
    (chart,) = site_histograms(bins())["north"]
    drawn = heights(chart["svg"])
    assert drawn[5] > 0.9 * drawn[0] > 0 and drawn[5] == pytest.approx(2 * drawn[3] * 1.5, rel=0.02)
    assert "truncated; they contain 82 % of the values" in chart["caption"]
    assert sum(row["share"] for row in chart["rows"]) == pytest.approx(1)


def test_stored_grey_values_share_one_scale_across_sites():
    low, high = (900, 0, 0, 0, 0, 10, 0, 0, 0, 90), (900, 0, 0, 0, 0, 50, 0, 0, 0, 50)
    rows = [*bins("a", "before", low), *bins("a", "after", low), *bins("b", "before", high), *bins("b", "after", high)]
    found = site_histograms(rows)
    before, after = ([heights(found[site][place]["svg"])[5] for site in "ab"] for place in (0, 1))
    assert after[1] / after[0] == pytest.approx(5, rel=0.05)
    assert before[1] / before[0] == pytest.approx(9, rel=0.05)  # each as high as its frame: 50/50 to 10/90


def test_a_histogram_of_black_alone_is_drawn():
    (chart,) = site_histograms(bins(counts=(7, 0, 0, 0)))["north"]
    assert heights(chart["svg"])[0] > 50


def places(sites, arms=("imagenet", "adapted"), labels=("well", "ill")):
    return [
        {"case": f"case-{number}", "site": site, "label": labels[number % 2], "side": "development", "arm": arm}
        | {"x": float(number), "y": float(number % 3), "explained_x": 0.4, "explained_y": 0.1}
        for arm in arms
        for number, site in enumerate(sites)
    ]


def test_every_case_has_a_mark_and_groups_differ_in_shape_and_colour():
    found = embedding_section(places(["a", "b", "b", None]), [])
    assert [len(view["plots"]) for view in found["views"]] == [2, 2] and found["n"] == 4
    marks = re.findall(r'class="dot place c(\d)" d="M[-\d.]+,[-\d.]+(\w[^"]*)"', found["views"][0]["plots"][0]["svg"])
    assert len(marks) == 4 and len(set(marks)) == len({colour for colour, _ in marks}) == 3
    assert [(group["name"], group["n"]) for group in found["views"][0]["key"]] == [("b", 2), ("(none)", 1), ("a", 1)]


def test_beyond_six_sites_the_smaller_ones_share_a_mark_and_none_is_lost():
    sites = [name for place, name in enumerate("abcdefghij") for _ in range(12 - place)]
    key = embedding_section(places(sites), [])["views"][0]["key"]
    assert len(key) == MOST and key[-1]["name"] == OTHERS and sum(group["n"] for group in key) == len(sites)


def test_unchanged_features_show_one_encoder_and_no_change():
    rows = [{"site": "a", "measure": m, "arm": "imagenet", "n": 9, "patients": 8} for m in ("mmd", "a_distance")]
    rows = [row | {"value": 0.5, "lower": 0.1, "upper": 0.9} for row in rows]
    found = embedding_section(places(["a", "b"], arms=("imagenet",)), rows)
    assert not found["both"] and [len(view["plots"]) for view in found["views"]] == [1, 1]
    assert [len(metrics) for metrics in found["sites"][0]["metrics"].values()] == [1, 1]
    assert embedding_section([], []) is None


def change(site, value, half=0.05):
    return {"site": site, "value": value, "lower": value - half, "upper": value + half}


def test_a_site_that_adaptation_moved_away_is_named():
    said = moved_in_words([change("north", 0.28), change("south", 0.01), change("east", -0.2)])
    assert said == (
        "By MMD², adaptation brought east (-0.20, -0.25 to -0.15) closer to the others; it moved north (+0.28, +0.23 "
        "to +0.33) further away; it did not clearly move south (+0.01, -0.04 to +0.06)."
    )
    assert moved_in_words([change("north", 0.28)]).endswith("further away. It did not draw the sites together.")
    assert moved_in_words([]) == ""


def mistake(**changes):
    known = {"scope": "internal", "case": "case-1", "site": "a", "label": "ill", "prediction": "well", "model": "0"}
    known |= {
        "probability": 0.9,
        "spoke_for": "well",
        "method": "gradcam",
        "outside": None,
        "background": None,
        "shown": 1,
        "slices": "1;4;9",
    }
    return known | {"attention": "0.2;0.5;0.3", "image": "A", "looked": "A", "thumbnail": "A", "overlay": "A"} | changes


def test_attention_is_drawn_under_the_slices_and_the_shown_one_stands_out():
    (group,) = mistakes_section([mistake()])
    (row,) = group["rows"]
    assert group["scope"] == "internal validation" and row["numbers"] == [1, 4, 9]
    found = re.findall(r'class="column c(\d)" x="(\d+)" width="8" y="[\d.]+" height="([\d.]+)"', row["bars"])
    assert [colour for colour, _, _ in found] == ["1", "2", "1"]
    tall = [float(height) for _, _, height in found]
    assert tall[0] / tall[1] == pytest.approx(0.4, abs=0.01) and tall[2] / tall[1] == pytest.approx(0.6, abs=0.01)
    assert row["attention"] == "Bars: attention, 20.0% to 50.0%"


@pytest.mark.parametrize(
    ("shares", "flat"), [("0.33;0.33;0.34", True), ("0.3;0.33;0.37", True), ("0.2;0.4;0.4", False)]
)
def test_attention_near_equal_shares_is_said_to_be_flat(shares, flat):
    said = mistakes_section([mistake(attention=shares)])[0]["rows"][0]["attention"]
    assert said.startswith("Attention is flat") == flat and ("33.3% of equal shares" in said) == flat


def test_errors_with_most_of_the_saliency_outside_are_counted():
    rows = [mistake(outside=share, background=0.4) for share in (0.2, 0.51, 0.9, None)]
    said = mistakes_section(rows)[0]["outside"]
    assert said.startswith("In 2 of 3 errors more than half of the saliency lies outside of the body.")
    assert "fills 40% of these images" in said and mistakes_section([mistake()])[0]["outside"] == ""
