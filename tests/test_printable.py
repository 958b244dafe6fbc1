"""Texts of others neither steer a terminal nor put HTML into the model card."""

import logging

import pytest

from pipeline.__main__ import main
from pipeline.logs import PrintableFormatter
from pipeline.printable import inert, printable

HOSTILE = "ill\x1b]0;title\x07\x9b2J\u202egnp.exe\rwell"


def test_control_characters_are_shown_and_lines_stay():
    assert printable("a\nb\tc é 日") == "a\nb\tc é 日"
    assert printable(HOSTILE) == "ill\\x1b]0;title\\x07\\x9b2J\\u202egnp.exe\\rwell"


def test_errors_and_output_of_commands_show_control_characters(tmp_path, capsys):
    assert main(["verify", str(tmp_path / HOSTILE)]) == 1
    out, errors = capsys.readouterr()
    assert "ill\\x1b]0;title" in errors and "\x1b" not in out + errors


def test_logs_show_control_characters():
    record = logging.LogRecord("pipeline", logging.INFO, "", 1, "site %s", (HOSTILE,), None)
    assert PrintableFormatter("%(message)s").format(record) == f"site {printable(HOSTILE)}"


@pytest.mark.parametrize(
    ("text", "inert_text"),
    [
        ("<script>alert(4)</script>", "&lt;script>alert(4)&lt;/script>"),
        ("[x](javascript:alert(1))", "[x](javascript&#58;alert(1))"),
        ("![x]( DATA:text/html,y)", "![x]( DATA&#58;text/html,y)"),
        ("[x]: vbscript:y", "[x]: vbscript&#58;y"),
        ("Data: 5 < 7 & [a](https://b)", "Data: 5 &lt; 7 & [a](https://b)"),
    ],
)
def test_html_and_links_that_run_code_are_inert(text, inert_text):
    assert inert(text) == inert_text == inert(inert_text)
