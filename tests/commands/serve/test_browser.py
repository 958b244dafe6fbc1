"""The page in a browser: what it shows, by keyboard too, on wide and narrow screens; axe finds nothing serious."""

import re
from pathlib import Path

import pytest

SERIOUS = ("serious", "critical")
LONG = "Schilddrüsenüberfunktionsbehandlungsnachsorgeuntersuchung"


@pytest.fixture
def opened(chromium, served, limited):
    """Open the page with an answered and a withheld scan in a window of a size and colour scheme."""
    contexts = []

    def open_at(width, scheme="light"):
        contexts.append(chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme))
        page, said = contexts[-1].new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if served.address not in request.url else None)
        page.goto(f"{served.address}/?token={served.token}")
        page.set_input_files("#files", [limited[1] / "0.nii.gz", limited[1] / "4.nii.gz"])
        page.get_by_text("Scans: 2; answered: 1.").wait_for(timeout=120000)
        return page, said

    yield open_at
    for context in contexts:
        context.close()


def test_it_shows_answer_abstention_and_slices_by_keyboard(opened):
    page, said = opened(1200)
    answered, withheld = page.locator("article").all()
    assert re.search(r"Most probable: [abc] \(\d+%\)", answered.inner_text())
    assert "The model gives no answer: the model is not confident enough." in withheld.inner_text()
    assert "%" not in withheld.inner_text()
    canvas, where = answered.locator("canvas"), answered.locator(".where")
    canvas.focus()
    page.keyboard.press("Home")
    assert where.inner_text().startswith("slice 1 of 10; bright: regions that support")
    first = canvas.evaluate("one => one.toDataURL()")
    page.keyboard.press("ArrowUp")
    assert where.inner_text().startswith("slice 2 of 10")
    assert canvas.evaluate("one => one.toDataURL()") != first
    canvas.hover()
    page.mouse.wheel(0, -100)
    assert where.inner_text().startswith("slice 1 of 10")
    assert canvas.evaluate("one => one.toDataURL()") == first
    answered.get_by_label("Saliency").fill("0")
    pixels = canvas.evaluate("one => [...one.getContext('2d').getImageData(0, 0, one.width, one.height).data]")
    assert pixels[::4] == pixels[1::4] == pixels[2::4]  # without the map the slice is grey
    assert not withheld.get_by_label("Saliency").is_visible() and not said


def test_the_table_is_downloaded_as_predict_writes_it(opened):
    page, _ = opened(1200)
    with page.expect_download() as found:
        page.get_by_role("button", name="CSV").click()
    assert Path(found.value.path()).read_text().startswith("scan,a,b,c,set,decision,abstains,reason")


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_axe_finds_nothing_serious_and_nothing_overflows(opened, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, said = opened(width, scheme)
    found = axe.Axe().run(page).response["violations"]
    assert not [one["id"] for one in found if one["impact"] in SERIOUS]
    page.evaluate(f"document.querySelectorAll('dt, h3, label, b').forEach(one => one.prepend('{LONG} '))")
    assert page.evaluate("document.documentElement.scrollWidth") == width and not said
