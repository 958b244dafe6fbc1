"""The report in a real browser with the network cut off: what moves, what prints, and whom it shuts out."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline import paths
from tests.conftest import offline_page
from tests.stages.by_hand import predict_two_classes
from tests.stages.conftest import lay_out, write_status
from tests.stages.running import FOLDS, run

EVIL = "<script>alert(1)</script>"
AXE = "axe.run({resultTypes: ['violations']})"
GRAVE = ("serious", "critical")
OPEN_ALL = "document.querySelectorAll('details').forEach(one => { one.open = true })"
MARK_PLOTS = """document.querySelectorAll('figure:has(svg)').forEach((one, number) => {
    one.insertAdjacentHTML('afterbegin', `<small>TOP${number}.</small>`);
    one.insertAdjacentHTML('beforeend', `<small>END${number}.</small>`);
})"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report on 72 patients, some with two images, one of whose sites has a name that is a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDADAPT_KEYS", str(tmp_path_factory.mktemp("keys")))
        project = lay_out(tmp_path_factory.mktemp("browser") / "project", patch, patients=72)
        table = pd.read_csv("data/raw/clinic/cohort.csv").replace({"site": {"inside": EVIL}})
        table.to_csv("data/raw/clinic/cohort.csv", index=False)
        predict_two_classes(project, FOLDS, calibrate__per_patient="auto")
        run("calibrate")
        write_status()
        run("report")
        yield paths.REPORT.resolve()


@pytest.fixture
def opened(chromium, report):
    """A function that opens the report; whatever asks for the network, or goes wrong, fails the test in the end."""
    wrong, contexts = [], []

    def visit(width=1200, **options):
        page = offline_page(chromium, contexts, wrong, width, **options)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(report.as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


def column(table, number):
    return [text.strip() for text in table.locator(f"tbody td:nth-child({number})").all_inner_texts()]


def at_threshold(percent):
    table = pd.read_csv(paths.assessed("thresholds"))
    return table[(table["threshold"] * 100).round() == percent].set_index("scope")


def test_the_page_opens_with_the_network_cut_and_nothing_in_its_text_runs(opened):
    page = opened()
    assert page.get_by_text("Research use only").first.is_visible()
    assert not [text for text in page.locator("script").all_inner_texts() if "alert" in text]
    assert page.get_by_role("heading", name=EVIL, exact=True).is_visible()


def test_the_slider_moves_all_metrics_to_those_that_were_counted(opened, report, monkeypatch):
    monkeypatch.chdir(report.parents[2])
    page = opened()
    slider = page.locator(".slider").first
    handle = slider.get_by_role("slider")
    seen = []
    for percent, key in ((50, None), (51, "ArrowRight"), (1, "Home"), (99, "End")):
        if key:
            handle.press(key)
        rows = slider.locator("tbody tr")
        assert rows.count() == 2
        counts = at_threshold(percent)
        for row, scope in zip(rows.all(), ("internal_patients", "external_patients"), strict=True):
            known, cells = counts.loc[scope], [text.split() for text in row.locator("td").all_inner_texts()]
            right, alarms = known["true_positives"], known["false_positives"]
            spared, missed = known["negatives"] - alarms, known["positives"] - right
            assert cells[0] == [f"{percent / 100:.2f}"]
            among = [(right, known["positives"]), (spared, known["negatives"])]
            among += [(right, right + alarms), (spared, spared + missed)]
            assert [cell[-3:] for cell in cells[1:5]] == [[f"{of:.0f}", "of", f"{all_:.0f}"] for of, all_ in among]
            assert cells[1][0] == f"{known['sensitivity']:.2f}" and cells[5][0] == f"{known['net_benefit']:.3f}"
            seen.append(tuple(map(tuple, cells[1:])))
        said = slider.locator("output").inner_text()
        assert said.startswith(f"{percent / 100:.2f}") and ("not declared" in said) == (percent not in (5, 50))
        assert handle.get_attribute("aria-valuetext") == said
    assert len(set(seen)) > 4


def test_a_table_sorts_by_the_metric_and_not_by_its_text(opened):
    page = opened()
    page.evaluate(OPEN_ALL)
    table = page.locator("table", has=page.get_by_role("button", name="Adjusted p")).first
    before = table.locator("tbody tr").all_inner_texts()
    button = table.get_by_role("button", name="Sort by AUC", exact=True)
    header = table.locator("th", has=page.get_by_role("button", name="Sort by AUC", exact=True))
    button.click()
    assert header.get_attribute("aria-sort") == "ascending"
    rising = [float(text.split()[0]) for text in column(table, 5) if re.match(r"\d", text)]
    assert len(rising) > 2 and rising == sorted(rising)
    button.press("Enter")
    assert header.get_attribute("aria-sort") == "descending" and table.locator("[aria-sort]").count() == 1
    falling = [float(text.split()[0]) for text in column(table, 5) if re.match(r"\d", text)]
    assert falling == sorted(rising, reverse=True)
    after = table.locator("tbody tr")
    assert after.count() == len(before) and after.first.locator("th").inner_text() in (
        "internal validation",
        "external validation",
    )


def test_what_has_no_metric_stays_last_in_both_directions(opened):
    page = opened()
    page.evaluate(
        """document.querySelector('main').insertAdjacentHTML('beforeend', `<table id="own"><thead><tr><th>Name</th>
        <th>Needs</th></tr></thead><tbody><tr><th rowspan="2">a</th><td>20k</td></tr><tr><td>1,500</td></tr>
        <tr><th>b</th><td><span class="none">too few</span></td></tr>
        <tr><th>c</th><td>-3 (1 to 9)</td></tr>
        </tbody></table>`);
        makeSortable(document.querySelector('#own'))"""
    )
    table = page.locator("#own")
    for wanted in (["-3 (1 to 9)", "1,500", "20k", "too few"], ["20k", "1,500", "-3 (1 to 9)", "too few"]):
        table.get_by_role("button", name="Sort by Needs").press("Space")
        assert table.locator("td").all_inner_texts() == wanted
    assert table.locator("tbody th").all_inner_texts() == ["a", "a", "c", "b"]


def test_a_pooled_row_stays_below_the_folds_whatever_they_are_sorted_by(opened):
    table = opened().locator("#folds + .wide table")
    table.get_by_role("button", name="Log-loss").click()
    names = table.locator("tr > :first-child").all_inner_texts()
    assert names[-2:] == ["pooled", "pooled, patients"]


def test_a_fold_is_switched_off_in_its_charts_and_in_no_others(opened):
    page = opened()
    training, roc = page.locator(".switched").nth(0), page.locator(".switched").nth(1)
    assert training.locator("figure").count() == len(FOLDS)
    training.get_by_label("1", exact=True).uncheck()
    shown = [plot.is_visible() for plot in training.locator("figure").all()]
    assert shown == [True, False, *[True] * (len(FOLDS) - 2)]
    assert all(curve.is_visible() for curve in roc.locator("polyline.f1").all())
    roc.get_by_label("0", exact=True).press("Space")
    assert not roc.locator("polyline.f0").first.is_visible() and roc.locator("polyline.f1").first.is_visible()


@pytest.mark.parametrize("everything", [False, True])
def test_a_telephone_needs_no_scrolling_sideways(opened, everything):
    page = opened(390)
    if everything:
        page.evaluate(OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_thresholds_and_curves_can_be_read_without_a_script(opened):
    page = opened(java_script_enabled=False)
    assert not page.locator(".slider").first.is_visible() and page.locator("th button").count() == 0
    page.get_by_text("Every threshold, as a table").first.click()
    assert page.locator("tr[data-at='37']").first.is_visible()
    page.locator(".switched").first.get_by_label("0", exact=True).uncheck()
    assert not page.locator(".switched").first.locator("figure").first.is_visible()


def test_no_plot_is_cut_by_the_edge_of_a_printed_page(opened):
    pypdf = pytest.importorskip("pypdf")
    page = opened()
    page.evaluate(MARK_PLOTS)
    printed = page.pdf(format="A4", margin=dict.fromkeys(("top", "bottom", "left", "right"), "12mm"))
    sheets = [sheet.extract_text() for sheet in pypdf.PdfReader(io.BytesIO(printed)).pages]
    places = {mark: number for number, text in enumerate(sheets) for mark in re.findall(r"(?:TOP|END)\d+(?=\.)", text)}
    plots = page.locator("figure:has(svg)").count()
    assert plots > 10 and len(sheets) > 5
    assert len(places) == 2 * plots  # those that are folded away on the screen are printed, too
    assert {n for n in range(plots) if places[f"TOP{n}"] != places[f"END{n}"]} == set()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_axe_finds_nothing_that_shuts_a_reader_out(opened, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.base")
    page = opened(width, color_scheme=scheme)
    page.evaluate(OPEN_ALL)
    page.evaluate(axe.AXE_SCRIPT)
    found = page.evaluate(AXE)
    assert found["testEngine"]["name"] == "axe-core"
    grave = [one for one in found["violations"] if one["impact"] in GRAVE]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in grave] == []


def in_view(locator):
    return locator.evaluate(
        "one => { const at = one.getBoundingClientRect(); return at.top >= 0 && at.bottom <= innerHeight }"
    )


def test_contents_stay_beside_the_page_and_mark_what_is_read(opened):
    page = opened(1400)
    contents = page.get_by_role("navigation", name="Contents")
    contents.get_by_role("link", name="Calibration").click()
    assert in_view(page.locator("#calibration")) and in_view(contents.get_by_role("link", name="Cohort"))
    page.wait_for_function("document.querySelector('#contents [aria-current]')?.textContent === 'Calibration'")
    contents.get_by_role("link", name="Back to top").click()
    assert page.evaluate("scrollY") == 0


@pytest.mark.parametrize("script", [True, False])
def test_a_narrow_screen_has_a_menu_that_stays_in_view(opened, script):
    page = opened(390, java_script_enabled=script)
    contents = page.locator("#contents")
    page.locator("#evidence").scroll_into_view_if_needed()
    assert not contents.is_visible() and in_view(page.get_by_role("button", name="Contents"))
    page.get_by_role("button", name="Contents").click()
    contents.get_by_role("link", name="Folds").click()
    assert contents.is_visible() != script  # without the script a tap beside the menu closes it
    page.get_by_role("heading", name="Folds", exact=True).wait_for()
    assert in_view(page.locator("#folds"))


def test_a_table_that_goes_on_behind_the_edge_has_a_shade_there(opened):
    page = opened(390)
    table = page.locator("#folds + .wide")
    assert table.evaluate("one => one.scrollWidth - one.clientWidth") > 50

    def edge():
        return np.asarray(Image.open(io.BytesIO(table.screenshot())))[4:16, -4:, :3].mean()

    cut = edge()
    table.evaluate("one => { one.scrollLeft = one.scrollWidth }")
    assert cut < edge() - 15 and table.get_attribute("tabindex") == "0"


def test_a_table_is_saved_with_its_limits_in_columns_of_their_own(opened, report, monkeypatch):
    monkeypatch.chdir(report.parents[2])
    page = opened()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save as CSV: Folds").first.click()
    assert waiting.value.suggested_filename == "folds.csv"
    table = pd.read_csv(waiting.value.path(), dtype={"Fold": str}).set_index("Fold")
    known = paths.read_json(paths.fold_metrics("1"))
    assert table.loc["1", "Cases"] == known["n"] and len(table) == len(FOLDS) - 1 + 2
    limits = table.loc["1", ["AUC", "AUC, lower", "AUC, upper"]].astype(float).tolist()
    assert limits == pytest.approx(list(known["auc"].values()), abs=0.005)


def test_a_text_that_looks_like_a_formula_is_saved_as_text(opened):
    page = opened()
    page.evaluate(
        """document.querySelector('main').insertAdjacentHTML('beforeend', `<table id="own"><thead>
        <tr><th rowspan="2">Name</th><th colspan="2">Both</th></tr><tr><th>a</th><th>b</th></tr></thead>
        <tbody><tr><th rowspan="2">=1+1</th><td>0.5 <small>(0.1 to 0.9)</small></td><td>-3</td></tr>
        <tr><td>none</td><td>a, "b"</td></tr></tbody></table>`)"""
    )
    lines = page.evaluate("csvOf(document.querySelector('#own'))").split("\r\n")
    assert lines == [
        '"Name","Both a","Both a, lower","Both a, upper","Both b"',
        '"\'=1+1","0.5","0.1","0.9","-3"',
        '"\'=1+1","none","","","a, ""b"""',
    ]


def test_no_table_is_wider_than_a_printed_page(opened):
    page = opened(703)  # A4 without its margins, in pixels
    page.emulate_media(media="print")
    page.evaluate(OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth") <= 703
    assert not page.get_by_role("button", name="Contents").is_visible()
