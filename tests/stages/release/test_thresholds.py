from pipeline.stages.release.thresholds import ON_ALL, ON_FOLDS, thresholds_to_use

SCOPES = ("internal_patients", "external_patients")


def point(scope, aim, threshold):
    return {"scope": scope, "of": "ill", "rule": f"sensitivity at {aim}", "threshold": threshold}


RELEASED = {
    "scan": {"specificity": {"ill": 0.3}},
    "patient": {"specificity": {"ill": 0.42}},
}


def test_the_threshold_to_use_is_that_of_the_released_model():
    rows = [point("internal_patients", "specificity 0.90", 0.5), point("internal", "specificity 0.90", 0.6)]
    [closed] = thresholds_to_use(rows, SCOPES, RELEASED)
    assert (closed["threshold"], closed["chosen"], closed["aim"]) == (0.42, ON_FOLDS, "specificity 0.90")
    [images] = thresholds_to_use(rows, ("internal", "external"), RELEASED)
    assert images["threshold"] == 0.3
    rows += [point("external_patients", "specificity 0.90", 0.42), point("external", "specificity 0.90", 0.3)]
    [shown] = thresholds_to_use(rows, SCOPES, RELEASED)
    assert (shown["scope"], shown["threshold"], shown["chosen"]) == ("external_patients", 0.42, ON_ALL)
