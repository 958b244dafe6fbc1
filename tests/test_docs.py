"""The documentation: generated pages are fresh, every name has its line, every command of a page can be parsed."""

import shlex
import subprocess

import pytest
import yaml

from pipeline.__main__ import build_parser
from pipeline.commands.reference import reference_page
from pipeline.metrics.summary import METRICS, OF_GRADES
from pipeline.stages.calibrate.assessment import TABLES
from tests.conftest import ROOT
from tests.pages import PAGES, PROGRAMS, blocks_of, commands_of


def calls_of(page):
    """List the words of each `medadapt` command of a page's shell blocks."""
    for block in blocks_of(page, "sh"):
        for command in commands_of(block):
            words = shlex.split(command.replace("\\\n", " "), comments=True)
            if words[0] == "medadapt":
                yield words[1:]


def test_the_page_of_commands_is_generated_from_the_parsers():
    assert (ROOT / "docs/reference/commands.md").read_text() == reference_page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_can_be_parsed(page):
    for words in calls_of(page):
        try:
            build_parser().parse_args(words)
        except SystemExit as end:
            assert not end.code, words


def test_commands_are_found_on_the_pages():
    assert sum(len(list(calls_of(page))) for page in PAGES) > 50


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_commands_are_marked_as_shell_so_that_they_are_run(page):
    assert not [block for block in blocks_of(page, "") if block.split()[0] in PROGRAMS]


def test_every_metric_has_its_line_in_the_reference():
    text = (ROOT / "docs/reference/metrics.md").read_text()
    missing = [name for name in (*METRICS, *OF_GRADES, *TABLES) if f"`{name}`" not in text]
    assert not missing


def test_every_output_of_a_stage_has_its_folder_in_the_reference():
    text = (ROOT / "docs/reference/data.md").read_text()
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    outputs = [
        next(iter(one)) if isinstance(one, dict) else one
        for stage in stages
        for kind in ("outs", "metrics", "plots")
        for one in (stage.get("do", stage)).get(kind, [])
    ]
    folders = {path.split("/")[1] for path in outputs if path.startswith("data/")}
    assert folders and not {name for name in folders if f"`{name}/" not in text}


def test_the_site_has_every_page_and_no_other():
    listed = subprocess.run(["git", "ls-files", "docs/*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]

    def pages(entry):
        values = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else [entry]
        return [entry] if isinstance(entry, str) else [page for value in values for page in pages(value)]

    assert sorted(pages(nav)) == sorted(name.removeprefix("docs/") for name in listed.stdout.split())


def test_the_site_loads_nothing_from_a_network():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert settings["theme"]["font"] is False
    assert all((ROOT / "docs" / script).exists() for script in settings["extra"]["polyfills"])
