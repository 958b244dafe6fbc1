"""Run stages in the current project, and read what they refuse."""

import re

from pipeline.__main__ import main

FOLDS = ("0", "1", "2", "final")


def run(*stages):
    for stage in stages:
        assert main(stage.split()) == 0, stage


def refusal(capsys, stage):
    capsys.readouterr()
    assert main(stage.split()) == 1
    message = capsys.readouterr().err
    assert re.search(r"^error: ", message, re.MULTILINE) and "Traceback" not in message
    return message


def until_calibrated(folds=FOLDS):
    run("cohort", "preprocess", "split")
    for fold in folds:
        run(f"adapt --fold {fold}", f"finetune --fold {fold}")
    run("calibrate")


def run_all(folds=FOLDS):
    until_calibrated(folds)
    run("evidence", "release", "report")
