from pipeline.stages.release.thresholds import ON_ALL, ON_FOLDS, thresholds_to_use

SCOPES = ("internal_patients", "external_patients")


def point(scope, aim, threshold):
    return {"scope": scope, "of": "ill", "rule": f"sensitivity at {aim}", "threshold": threshold}


def test_one_threshold_for_each_operating_point_is_to_be_used():
    rows = [point("internal_patients", "specificity 0.90", 0.5), point("internal", "specificity 0.90", 0.6)]
    [of_folds] = thresholds_to_use(rows, SCOPES)
    assert (of_folds["threshold"], of_folds["chosen"], of_folds["aim"]) == (0.5, ON_FOLDS, "specificity 0.90")
    rows += [point("external_patients", "specificity 0.90", 0.43), point("external", "specificity 0.90", 0.7)]
    rows += [point("internal_patients", "specificity 0.95", 0.8), point("external_patients", "specificity 0.95", None)]
    found = {row["aim"]: (row["threshold"], row["chosen"]) for row in thresholds_to_use(rows, SCOPES)}
    assert found == {"specificity 0.90": (0.43, ON_ALL), "specificity 0.95": (0.8, ON_FOLDS)}
