import pytest

from pipeline.stages.finetune.scored import scored_roles

WITHOUT_CALIBRATION = ["train", "validation", "held_out", "test"]


@pytest.mark.parametrize(
    ("fold", "present", "expected"),
    [
        ("final", WITHOUT_CALIBRATION, {"test"}),
        ("0", WITHOUT_CALIBRATION, {"held_out"}),
        ("0", [*WITHOUT_CALIBRATION, "calibration"], {"held_out", "test", "calibration"}),
        ("without-north", [*WITHOUT_CALIBRATION, "calibration"], {"held_out"}),
        ("r2-0", [*WITHOUT_CALIBRATION, "calibration"], {"held_out"}),
    ],
)
def test_a_fold_scores_the_cases_whose_scores_are_read(fold, present, expected):
    assert set(scored_roles(fold, present)) == expected
