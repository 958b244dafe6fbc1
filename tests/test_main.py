"""The command line as a person meets it: help, versions, completion, exit codes and log files."""

import logging
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline import __version__, params
from pipeline.__main__ import COMMANDS, HEADINGS, PER_FOLD, STAGES, build_parser, main
from pipeline.commands.status import run as status
from pipeline.errors import UserError
from pipeline.logs import LOGS
from tests.conftest import ROOT
from tests.stages.conftest import project  # noqa: F401 - a fixture

HEAVY = ("torch", "numpy", "pandas", "scipy", "sklearn", "monai", "dvc", "pydantic", "yaml")


def exit_code(*words):
    """Run the command line where argparse ends the program."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    return stop.value.code or 0


@pytest.fixture
def failing(project, monkeypatch):  # noqa: F811
    """A project in which `status` raises an error; returns a function that sets it."""
    project()
    return lambda error: monkeypatch.setattr(status, "survey", lambda: throw(error))


def throw(error):
    raise error


def test_console_script_is_this_program():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert declared["scripts"] == {"medadapt": f"{main.__module__}:{main.__name__}"}
    assert any(need.startswith("shtab") for need in declared["dependencies"])


def test_version_is_that_of_the_package(capsys):
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"medadapt {__version__}\n"


@pytest.mark.parametrize("name", [*STAGES, *COMMANDS])
def test_help_explains_every_stage_and_command(name, capsys):
    assert exit_code(name, "--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: medadapt {name}") and "--verbose" in shown
    assert ("--fold" in shown.split()) == (name in PER_FOLD)


def test_help_imports_no_large_library():
    program = f"""
import contextlib, io, sys
from pipeline.__main__ import COMMANDS, STAGES, build_parser
for name in (*STAGES, *COMMANDS):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        build_parser().parse_args([name, "--help"])
    assert shown.getvalue(), name
print(*(name for name in {HEAVY} if name in sys.modules))
"""
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize(("shell", "sign"), [("bash", "_shtab_medadapt medadapt"), ("zsh", "#compdef medadapt")])
def test_completion_script_is_printed_for_a_shell(shell, sign, capsys):
    assert exit_code("--print-completion", shell) == 0
    script = capsys.readouterr().out
    assert sign in script and all(name in script for name in (*STAGES, *COMMANDS)) and "--saliency" in script


def test_bash_accepts_the_completion_script(capsys):
    exit_code("--print-completion", "bash")
    script = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--print-completion", "fish-and-chips"], "choose one of bash"),
        (["nothing"], "there is no stage or command 'nothing'; `medadapt --help` lists"),
        (["predikt", "x"], "there is no stage or command 'predikt'; did you mean 'predict'?"),
        (["plan", "--nothing"], "usage: medadapt plan"),
        (["plan", "--nothing"], "unrecognized arguments: --nothing"),
        (["import", "csv", "a.csv", "--into", "b", "--nothing"], "unrecognized arguments: --nothing"),
        (["adapt"], "the following arguments are required: --fold"),
        (["whois"], "the following arguments are required"),
    ],
)
def test_wrong_options_exit_with_2(words, said, capsys):
    assert exit_code(*words) == 2
    assert said in capsys.readouterr().err


def test_a_reader_that_ends_first_leaves_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "--print-completion", "bash"],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_broken_pipe_elsewhere_is_raised(failing):
    failing(BrokenPipeError())
    with pytest.raises(BrokenPipeError):
        main(["status"])


def test_no_arguments_print_the_help_in_groups(capsys):
    assert exit_code() == 2
    shown = capsys.readouterr().out
    stages, commands, released = (shown.index(f"  {heading}:") for heading in HEADINGS.values())
    assert stages < shown.index("    cohort ") < shown.index("    report ") < commands < shown.index("    import ")
    assert shown.index("    whois ") < released < shown.index("    predict ") < shown.index("    monitor ")


@pytest.mark.parametrize(
    "words",
    [
        "predict B S1 S2 --site north --out r.csv",
        "predict --site north B S1 --out r.csv S2",
        "predict B --out r.csv S1 --site north S2",
        "predict --out r.csv --site north -- B S1 S2",
    ],
)
def test_options_stand_anywhere_between_bundle_and_scans(words):
    found = build_parser().parse_args(words.split())
    assert (found.bundle, found.scans, found.site, found.out) == ("B", ["S1", "S2"], "north", "r.csv")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("verify --allowed-signers F B", {"bundle": "B", "allowed_signers": "F"}),
        ("monitor B --window 5 R --out P L", {"bundle": "B", "results": "R", "labels": "L", "window": 5, "out": "P"}),
        ("compare a --out P b", {"out": "P"}),
        ("folds 0 --jobs 2 1", {"folds": ["0", "1"]}),
        ("whois --verbose a b", {"pseudonym": ["a", "b"], "verbose": True}),
        ("adapt --fold 0 --verbose", {"fold": "0", "verbose": True}),
    ],
)
def test_options_stand_anywhere_in_other_commands(words, expected):
    found = vars(build_parser().parse_args(words.split()))
    assert {name: found[name] for name in expected} == expected


def test_help_of_predict_has_examples(capsys):
    assert exit_code("predict", "--help") == 0
    assert "\nFor example:\n  medadapt predict " in capsys.readouterr().out


def test_status_exits_with_0_and_logs_begin_and_end(failing, monkeypatch):
    monkeypatch.setattr(status, "survey", list)
    assert main(["status"]) == 0
    first, last = (LOGS / "status.log").read_text().splitlines()
    assert first.endswith(f"DEBUG pipeline: status begins, medadapt {__version__}")
    assert last.endswith("status ends: done")


def test_an_explained_error_exits_with_1_and_without_a_traceback(failing, capsys):
    failing(UserError("scans/Jane_Doe.nii is empty; send it again"))
    assert main(["status"]) == 1
    assert capsys.readouterr().err == "error: scans/Jane_Doe.nii is empty; send it again\n"


def test_verbose_prints_the_traceback_and_debug_messages(failing, capsys):
    failing(UserError("scans/Jane_Doe.nii is empty"))
    assert main(["status", "--verbose"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown and "error: scans/Jane_Doe.nii is empty\n" in shown
    assert f"status begins, medadapt {__version__}" in shown


@pytest.mark.parametrize("error", [UserError("Jane Doe"), ValueError("Jane Doe"), KeyboardInterrupt("Jane Doe")])
def test_log_file_names_the_type_of_an_error_and_not_its_message(failing, error):
    failing(error)
    if isinstance(error, UserError):
        assert main(["status", "--verbose"]) == 1
    else:
        with pytest.raises(type(error)):
            main(["status", "--verbose"])
    written = (LOGS / "status.log").read_text()
    assert f"status ends: {type(error).__name__}" in written
    assert "Jane" not in written and "Traceback" not in written


def test_log_files_hold_no_name_of_a_patient_or_file(project, capsys):  # noqa: F811
    root = project()
    for name in ("cohort", "preprocess", "split"):
        assert main([name]) == 0
    assert main(["adapt", "--fold", "no/such fold"]) == 1
    assert main(["predict", "Jane_Doe_bundle", "Jane_Doe.nii.gz"]) == 1
    files = {file.name: file.read_text() for file in (root / LOGS).iterdir()}
    assert set(files) == {"cohort.log", "preprocess.log", "split.log", "adapt_no_such_fold.log", "predict.log"}
    assert "cases of 24 patients" in files["cohort.log"]
    for written in files.values():
        assert " begins, medadapt " in written and " ends: " in written
        assert not any(word in written for word in ("Jane", "Doe", ".png", ".nii", "--fold", str(root)))


def test_git_ignores_log_files():
    ignored = subprocess.run(["git", "check-ignore", "-q", str(LOGS / "adapt_0.log")], cwd=ROOT)
    assert ignored.returncode == 0


def test_whois_writes_no_log_file(project):  # noqa: F811
    root = project()
    assert main(["whois", "case-0123456789ab"]) == 1
    assert not (root / LOGS).exists()


def test_no_log_file_is_written_outside_a_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plan"]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_stops_nothing(failing, monkeypatch):
    monkeypatch.setattr(status, "survey", list)
    LOGS.parent.mkdir(exist_ok=True)
    LOGS.write_text("a file where the folder should be")
    assert main(["status"]) == 0


def test_each_run_has_its_own_handlers(failing, monkeypatch):
    monkeypatch.setattr(status, "survey", list)
    main(["status"])
    main(["status"])
    assert len(logging.getLogger("pipeline").handlers) == 2
    assert (LOGS / "status.log").read_text().count("begins") == 2


@pytest.mark.parametrize("name", ["predict", "verify"])
def test_help_names_the_bundle_that_the_demo_writes(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = re.findall(r"data/released/\w+", " ".join(capsys.readouterr().out.split()))
    assert shown == [f"data/released/{params.load(ROOT / 'params.yaml').release.name}"]


@pytest.mark.parametrize("name", ["plan", "cohort", "predict x y"])
def test_outside_a_project_the_top_folder_is_asked_for(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main(name.split()) == 1
    assert re.search("top folder|there is no bundle", capsys.readouterr().err)


@pytest.mark.parametrize("name", ["predict bundle scan", "monitor bundle results.csv", "compare a b", "encoders"])
def test_an_unwritable_out_file_is_reported_before_any_computation(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    for place, why in {"file/results.csv": "exists", ".": "directory"}.items():
        assert main([*name.split(), "--out", place]) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"error: --out: {place} cannot be written") and why in told
    main([*name.split(), "--out", "new/results.csv"])  # something else is wrong, and no empty file is left behind
    assert "--out" not in capsys.readouterr().err and list(Path("new").iterdir()) == []
