"""`dvc repro` in a fresh clone, with the network cut off: twice from nothing, then again and again with changes."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.clones import edit, fresh_clone
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
EVALUATING = {"calibrate", "evidence", "explain", "release", "report"}


def offline(*command: str) -> list[str]:
    """Cut the network off where the system lets us; the suite says so where it does not."""
    allowed = (
        shutil.which("unshare") and subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
    )
    return ["unshare", "-rn", *command] if allowed else list(command)


def dvc(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(offline("dvc", *words), cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    os.environ["MEDADAPT_KEYS"] = str(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def first_run(tmp_path_factory, keys):
    folder = fresh_clone(tmp_path_factory.mktemp("clone"))
    return folder, stages_run(dvc(folder, "repro")), outs_of(folder)


def outs_of(folder: Path) -> dict[str, str]:
    """Hash of every out, metric and plot, as DVC's lock has it, but for the report: it tells seconds, too."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in lock.values() for out in stage["outs"] if out["path"] != "data/report"}


def changed_stages(folder: Path) -> set[str]:
    return set(json.loads(dvc(folder, "status", "--json")))


def test_one_command_leads_from_the_recipe_to_a_released_model(first_run):
    folder, stages, _ = first_run
    assert stages[0] == "cohort" and {"evidence", "explain", "release"} < set(stages) and stages[-1] == "report"
    assert len(stages) == 14
    assert (folder / "data/report/index.html").is_file()
    assert list((folder / "data/released").glob("*/configs/metadata.json"))
    assert "up to date" in dvc(folder, "status")


def test_every_column_of_every_table_has_its_line_in_the_reference(first_run):
    folder, *_ = first_run
    pages, missing = (ROOT / "docs/reference" / name for name in ("tables.md", "metrics.md")), set()
    reference = "".join(page.read_text() for page in pages)
    for file in sorted((folder / "data").glob("*/**/*.csv")):
        place = file.relative_to(folder / "data")
        if place.parts[0] in ("released", "scratch", "demo", "cost") or place.name == "cohort.csv":
            continue
        with file.open() as lines:
            header = lines.readline().strip().split(",")
        columns = {re.sub(r"(_null|_se)?(_lower|_upper|_\d+)?$", "", column) for column in header}
        missing |= {
            (place.as_posix(), column)
            for column in columns
            if not re.search(rf"`{re.escape(column)}(_0)?`", reference) and not column.startswith(("column_", "group_"))
        }
    assert not missing


def test_a_second_repro_runs_nothing(first_run):
    folder, *_ = first_run
    start = time.perf_counter()
    assert stages_run(dvc(folder, "repro")) == []
    print(f"a second repro took {time.perf_counter() - start:.1f} s")


def test_git_takes_metrics_and_curves_but_no_image_or_table_of_cases(first_run):
    folder, *_ = first_run
    status = ["git", "status", "--porcelain", "-uall"]
    new = [line[3:] for line in subprocess.run(status, cwd=folder, capture_output=True, text=True).stdout.splitlines()]
    allowed = ("data/metrics/", "data/openings.csv", "dvc.lock", "data/folds/")
    assert new and all(name.startswith(allowed) for name in new)
    assert all(name.endswith("history.csv") for name in new if name.startswith("data/folds/"))


def test_dvc_shows_one_short_set_of_metrics_with_equal_keys(first_run):
    folder, *_ = first_run
    shown = json.loads(dvc(folder, "metrics", "show", "--json"))[""]["data"]
    assert [Path(name).name for name in shown] == ["summary.json"]
    (sets,) = (entry["data"] for entry in shown.values())
    assert set(sets) == {"internal", "test"}
    metrics = {"n", "events", "auc", "log_loss", "brier", "calibration_slope", "ece"}
    for one in sets.values():
        # DVC shows no metric without a value, such as the slope of predictions that separate the classes.
        assert metrics - {"calibration_slope"} <= set(one) <= metrics
        assert set(one["auc"]) == {"value", "lower", "upper"}
    files = {file.stem for file in (folder / "data/metrics").glob("*/*.json")}
    assert {"0", "1", "internal_calibrated", "internal_uncalibrated", "external_calibrated"} <= files
    assert "history.csv" in dvc(folder, "plots", "show", "--json") or (folder / "data/folds/0/history.csv").exists()


EVERY_STAGE = """
import sys
from pipeline.__main__ import main
for stage in sys.argv[1:]:
    assert main(stage.split()) == 0, stage
"""


def test_a_second_run_from_nothing_in_one_process_gives_the_same_bits(first_run, tmp_path):
    _, stages, outs = first_run
    other = fresh_clone(tmp_path / "other")
    (other / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
    names = [stage.replace("@", " --fold ") for stage in stages]
    at = names.index("release")  # the names in TorchScript count what a process has traced before
    for some in (names[:at], names[at:]):
        command = offline(sys.executable, "-c", EVERY_STAGE, *some)
        done = subprocess.run(command, cwd=other, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    dvc(other, "commit", "-f")
    assert outs_of(other) == outs and len(outs) > 40


def test_a_change_in_calibration_or_in_metrics_retrains_nothing(first_run):
    folder, *_ = first_run
    code = folder / "pipeline/metrics/discrimination.py"
    before = (code.read_text(), (folder / "params.yaml").read_text())
    code.write_text(before[0] + "\n# another comment\n")
    edit(folder / "params.yaml", {"calibrate": {"bins": 7}})
    assert "calibrate" in changed_stages(folder) <= EVALUATING
    assert stages_run(dvc(folder, "repro", "calibrate")) == ["calibrate"]
    code.write_text(before[0])
    (folder / "params.yaml").write_text(before[1])


def test_a_new_name_in_the_list_of_folds_trains_that_one_only(first_run):
    folder, *_ = first_run
    edit(folder / "params.yaml", {"split": {"folds": [0, 1, 2, "final"]}})
    assert stages_run(dvc(folder, "repro", "finetune@2")) == ["split", "adapt@2", "finetune@2"]
    assert changed_stages(folder) <= EVALUATING


def test_report_uses_no_network_and_reads_well_in_a_browser(first_run, chromium):
    folder, *_ = first_run
    page = chromium.new_page(viewport={"width": 390, "height": 844}, offline=True)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((folder / "data/report/index.html").as_uri())
    assert said == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("img").count() > 5
    assert all(page.locator("img").evaluate_all("images => images.map(image => image.naturalWidth > 0)"))
    assert page.get_by_text("Simulated demo data").is_visible()
    for heading in ("Cohort", "Folds", "Discrimination", "Calibration", "Release"):
        assert page.get_by_role("heading", name=heading, exact=True).is_visible()
