"""What the images add, in sentences."""

import pytest

from pipeline.stages.report.increment import named, verdicts_on_images


def row(verdict, scope="internal_patients", **changes):
    gain = {"log_loss": 0.1, "log_loss_lower": 0.05, "log_loss_upper": 0.15, "minimum_detectable": 0.07}
    return {"scope": scope, "prediction": "image and columns", "over": "columns", "verdict": verdict, **gain, **changes}


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("adds", "the image adds to the columns; the log-loss falls by 0.100"),
        ("takes away", "the image makes predictions worse than those from the columns alone"),
        ("not shown", "a true fall of 0.070 would be found in four of five such studies"),
    ],
)
def test_each_verdict_has_its_sentence_with_the_gain(verdict, said):
    [sentence] = verdicts_on_images([row(verdict), row("adds", over="image"), row("adds", over=None)])
    assert said in sentence and "(0.050 to 0.150)" in sentence


def test_a_gain_is_named_by_both_predictions():
    assert named(row("adds")) == "gain of image and columns over columns"
    assert named({"prediction": "image", "over": None}) == "image"
