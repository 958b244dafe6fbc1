"""The site that `make docs` builds, in a real browser with the network cut off."""

import pytest

from tests.conftest import ROOT, offline_page

SITE = ROOT / "site"
READY = ".md-search[aria-label]"
pytestmark = pytest.mark.skipif(not SITE.exists(), reason="no site/; `make docs` builds it")


@pytest.fixture
def page_of(chromium):
    """A function that opens a page; whatever asks for the network fails the test in the end."""
    asked, contexts = [], []

    def visit(name, width=1400, **options):
        page = offline_page(chromium, contexts, asked, width, **options)
        page.goto((SITE / name).as_uri())
        page.wait_for_selector(READY, state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert asked == []


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_axe_finds_nothing_that_shuts_a_reader_out(page_of, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.base")
    names = sorted(page.relative_to(SITE).as_posix() for page in SITE.rglob("*.html") if page.name != "404.html")
    assert len(names) > 60
    page, faults = page_of(names[0], width, color_scheme=scheme), {}
    for name in names:
        page.goto((SITE / name).as_uri())
        page.wait_for_selector(READY, state="attached")
        page.evaluate(axe.AXE_SCRIPT)
        found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        grave = [one for one in found if one["impact"] in ("serious", "critical")]
        faults[name] = [(one["id"], one["nodes"][0]["html"]) for one in grave]
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            faults[name].append(("wider than the window", width))
    assert {name: those for name, those in faults.items() if those} == {}


def test_the_search_finds_a_page_without_a_server(page_of):
    page = page_of("index.html")
    page.fill(".md-search__input", "temperature")
    page.wait_for_selector(".md-search-result__item")
    assert "calibrat" in page.inner_text(".md-search-result__list").lower()
