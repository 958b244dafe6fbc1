"""Forbidden words of docs/glossary.md stand nowhere else."""

import re
import subprocess
from pathlib import Path

from tests.conftest import ROOT

GLOSSARY = "docs/glossary.md"
EXEMPT = (GLOSSARY, "CHANGELOG.md", "docs/decisions/", "requirements.txt", "LICENSE", "tests/test_words.py")
NAMES_OF_DRAWS = re.compile(r"(seed_for|seed_of|draws_for|bootstrap_for)\(.*")  # never change, see pipeline/seeds.py
KINDS = (".py", ".html", ".js", ".css", ".md", ".yaml", ".toml", ".sh")


def forbidden_words() -> list[str]:
    table = (ROOT / GLOSSARY).read_text().split("## Not this, but that")[1].split("## How sentences")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def texts() -> dict[str, str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.splitlines() if name.endswith(KINDS) and not name.startswith(EXEMPT)]
    return {name: (ROOT / name).read_text() for name in names if (ROOT / name).exists()}


def test_forbidden_words_stand_nowhere_but_in_the_glossary() -> None:
    words = forbidden_words()
    lower, exact = ([word for word in words if word.islower() == wanted] for wanted in (True, False))
    pattern = re.compile(rf"(?<![A-Za-z])(?:(?i:{'|'.join(lower)})|{'|'.join(exact)})(?![a-z])")
    found = [
        f"{name}:{number}: {hit[0]}: {line.strip()[:100]}"
        for name, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if (hit := pattern.search(NAMES_OF_DRAWS.sub("", line)))
    ]
    assert not found, "\n" + "\n".join(found)


def test_the_glossary_has_forbidden_words() -> None:
    assert {"forecast", "judged", "rung"} <= set(forbidden_words())
    assert Path(ROOT / GLOSSARY).read_text().count("\n") > 60
