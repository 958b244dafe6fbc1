"""The operating point that a release carries."""

import pandas as pd
import pytest

from pipeline import params, paths
from pipeline.bundle.operating_point import OperatingPoint
from pipeline.metrics.evaluation import TaskSpec
from pipeline.stages.release.operating_point import operating_point
from tests.stages.by_hand import predict_two_classes
from tests.stages.running import FOLDS, run


@pytest.mark.parametrize("kind", ["specificity", "sensitivity"])
def test_thresholds_are_those_that_the_test_set_was_evaluated_with(project, kind):
    predict_two_classes(project, FOLDS, calibrate__per_patient="auto", release__operating_point=kind)
    run("calibrate")
    found = operating_point(params.load(), TaskSpec(["well", "ill"]))
    table = pd.read_csv(paths.assessed("operating_points")).set_index(["scope", "rule"])
    assert found["kind"] == kind and found["level"] == 0.9
    assert [(one["class"], one["unit"]) for one in found["points"]] == [("ill", "scan"), ("ill", "patient")]
    sets = ({"internal", "external"}, {"internal_patients", "external_patients"})
    for one, scopes in zip(found["points"], sets, strict=True):
        external = table.loc[next(scope for scope in scopes if scope.startswith("external")), :].loc[found["rule"]]
        assert one["threshold"] == pytest.approx(external["threshold"], abs=1e-6)
        assert set(one["evaluated"]) == scopes
        for scope, metrics in one["evaluated"].items():
            row = table.loc[scope, :].loc[found["rule"]]
            assert metrics["n"] == row["n"] and metrics["sensitivity"]["value"] == row["sensitivity"]
            assert metrics["specificity"]["lower"] == row["specificity_lower"]
    point = OperatingPoint.from_json(found, multilabel=False)
    assert point.thresholds["scan"]["ill"] == found["points"][0]["threshold"]


def test_more_than_two_classes_and_grades_are_decided_by_probability(project):
    project()
    for spec in (TaskSpec(["a", "b", "c"]), TaskSpec(["low", "high"], "ordinal")):
        assert operating_point(params.load(), spec) == {"rule": "the most probable class", "points": []}
