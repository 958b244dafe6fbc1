"""Where on the page the metric of each gate stands."""

OF_GATES = {  # name of a gate to the place that its row links to
    "discrimination": "discrimination",
    "calibration slope": "calibration",
    "external drop": "discrimination",
    "events": "cohort",
    "worst subgroup": "subgroups",
    "better than without images": "baselines",
    "prediction sets": "sets",
    "answered": "certainty",
    "recipe evaluated": "recipes",
    "patients known": "cohort",
    "no leak": "leaks",
    "evaluated images unseen": "adaptation",
    "real patients": "cohort",
    "features of cases": "recipes",
    "licence of weights": "adaptation",
    "better than the mean": "folds",
    "patients": "cohort",
    "better than Kaplan-Meier": "times",
    "prediction intervals": "intervals",
}
