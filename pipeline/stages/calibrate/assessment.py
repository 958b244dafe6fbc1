"""The tables that evaluate one set of cases, from its predictions and from development cases of other patients."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.baseline import baseline_table
from pipeline.metrics.bootstrap import cluster_weights, estimate_all
from pipeline.metrics.calibrators.updating import recalibration_curve
from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec
from pipeline.metrics.levels import level_for, uncalibrated
from pipeline.metrics.operating import operating_table
from pipeline.metrics.selective import abstention_table, selective_metrics, selective_table
from pipeline.metrics.subgroups import subgroup_table
from pipeline.metrics.summary import in_columns
from pipeline.progress import progress
from pipeline.stages.calibrate.calibration_curve import calibration_row, curve_table, distribution
from pipeline.stages.calibrate.coverage import coverage_table, labelled_cases, sets_elsewhere
from pipeline.stages.calibrate.discrimination_curves import pr_band, roc_band, roc_of_folds, threshold_table
from pipeline.stages.calibrate.enough import enough_for, patients_needed
from pipeline.stages.calibrate.increment import increment_table
from pipeline.stages.calibrate.label_shift import prevalence_table
from pipeline.stages.calibrate.subject import Settings, Subject, class_questions
from pipeline.stages.calibrate.threshold_free import threshold_free
from pipeline.stages.calibrate.utility import decision_curve

Floats = NDArray[np.float64]
Tables = Iterator[pd.DataFrame]

DECISIONS = 19  # thresholds of the decision curve
SIZES = (5, 10, 20, 40, 80)  # numbers of labelled patients of a new site that update its calibration
DRAWS = 50
STATES = ("uncalibrated", "calibrated")


def assess(
    evaluated: EvaluatedCases,
    elsewhere: Mapping[str, EvaluatedCases],
    spec: TaskSpec,
    settings: Settings,
    *,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Compute every table of a set of evaluated cases.

    Parameters
    ----------
    evaluated, elsewhere, spec
        See `Subject`.
    settings : Settings
    seed : int
        Seed of all random draws.

    Returns
    -------
    dict of str to pandas.DataFrame
        By the names in `TABLES`; the column `of` names the question (`questions.Question.name`) where a table has one.
    """
    weights = cluster_weights(evaluated.patients, settings.n_bootstrap, seed)
    subject = Subject(evaluated, elsewhere, spec, weights=weights, seed=seed)
    folds, fitted = evaluated.folds, evaluated.cross_fitted
    level = level_for(settings.confidence, evaluated.patients, folds, cross_fitted=fitted)
    settings = replace(settings, confidence=level)
    return {
        name: pd.concat(list(rows(subject, settings)) or [pd.DataFrame()])
        for name, rows in progress(TABLES.items(), "table")
    }


def calibration_rows(subject: Subject, settings: Settings) -> Tables:
    """Compute the calibration metrics of every question before and after calibration, one row each."""
    for state in STATES:
        level = settings.confidence if state == "calibrated" else uncalibrated(settings.confidence)
        for question in subject.questions(state):
            patients, weights = subject.evaluated.patients[question.rows], subject.weights[:, question.rows]
            row = calibration_row(
                question.prediction,
                question.events,
                patients,
                weights,
                confidence=level,
                bins=settings.bins,
                seed=subject.seed,
            )
            proper = threshold_free(question, patients, weights, settings.confidence)
            more = in_columns({name: vars(one) for name, one in proper.items()})
            asked = {"state": state, "of": question.name, "enough_for": enough_for(row["events"], row["n"])}
            needed = patients_needed(subject, question, proper["auc"].value)
            yield pd.DataFrame([{**asked, **row, **more, **needed}])


def curves(subject: Subject, settings: Settings) -> Tables:
    """Tabulate the smooth calibration curve of every question, before and after calibration."""
    for state in STATES:
        for question in subject.questions(state):
            weights = subject.weights[:, question.rows]
            table = curve_table(question.prediction, question.events, weights, settings.confidence)
            yield table.assign(state=state, of=question.name)


def distributions(subject: Subject, settings: Settings) -> Tables:
    """Count the calibrated predictions of events and of non-events."""
    for question in subject.questions():
        yield distribution(question.prediction, question.events, settings.bins).assign(of=question.name)


def of_each_class(table: Callable[[Floats, NDArray[np.bool_], Floats, float], pd.DataFrame]) -> "Rows":
    """Make a table of a question's predictions, events, weights and confidence one of every question but the top label.

    Used for the ROC curve and the precision-recall curve.
    """

    def tables(subject: Subject, settings: Settings) -> Tables:
        for question in class_questions(subject):
            weights = subject.weights[:, question.rows]
            found = table(question.prediction, question.events, weights, settings.confidence)
            yield found.assign(of=question.name)

    return tables


def roc_curves_of_folds(subject: Subject, settings: Settings) -> Tables:
    """Tabulate the ROC curve of every class in each fold, if there are several folds."""
    for question in class_questions(subject) if len(subject.elsewhere) > 1 else []:
        folds = subject.evaluated.folds[question.rows]
        yield roc_of_folds(question.prediction, question.events, folds).assign(of=question.name)


def decisions(subject: Subject, settings: Settings) -> Tables:
    """Tabulate the decision curve of every class over the declared range of thresholds."""
    lowest, highest = settings.thresholds
    thresholds = np.linspace(lowest, highest, DECISIONS)
    for question in class_questions(subject):
        weights = subject.weights[:, question.rows]
        table = decision_curve(
            question.prediction, question.events, weights, thresholds, confidence=settings.confidence
        )
        yield table.assign(of=question.name)


def thresholds(subject: Subject, settings: Settings) -> Tables:
    """Tabulate the counts and metrics of every class at all thresholds."""
    for question in class_questions(subject):
        weights, patients = subject.weights[:, question.rows], subject.evaluated.patients[question.rows]
        table = threshold_table(question.prediction, question.events, weights, settings.confidence, patients=patients)
        yield table.assign(of=question.name)


def operating_points(subject: Subject, settings: Settings) -> Tables:
    """Evaluate thresholds that were chosen on other patients for a sensitivity and for a specificity."""
    for question in class_questions(subject):
        others = subject.questions_elsewhere(question.name)
        table = operating_table(
            question.prediction,
            question.events,
            subject.evaluated.patients[question.rows],
            subject.evaluated.folds[question.rows],
            development={fold: (there.prediction, there.events) for fold, there in others.items()},
            levels=settings.levels,
            weights=subject.weights[:, question.rows],
            confidence=settings.confidence,
        )
        yield table.assign(of=question.name)


def risks(subject: Subject, settings: Settings) -> Tables:
    """Tabulate the risk-coverage curve."""
    yield selective_table(subject.evaluated.calibrated, subject.evaluated.labels, subject.weights, settings.confidence)


def selective_rows(subject: Subject, settings: Settings) -> Tables:
    """Summarise the risk-coverage curve in one row."""
    metrics = selective_metrics(subject.evaluated.calibrated, subject.evaluated.labels)
    found = estimate_all(metrics, subject.weights, settings.confidence)
    yield pd.DataFrame([in_columns({name: vars(one) for name, one in found.items()})])


def abstentions(subject: Subject, settings: Settings) -> Tables:
    """Evaluate rules of abstention that were set on other patients."""
    evaluated = subject.evaluated
    yield abstention_table(
        evaluated.calibrated,
        evaluated.labels,
        evaluated.folds,
        development={fold: (there.calibrated, there.labels) for fold, there in subject.elsewhere.items()},
        weights=subject.weights,
        confidence=settings.confidence,
    )


def conformal_sets(subject: Subject, settings: Settings) -> Tables:
    """Evaluate conformal sets whose coverage holds for all patients, for each class, and for each site."""
    own = labelled_cases(subject.evaluated, subject.spec)
    elsewhere = {fold: labelled_cases(there, subject.spec) for fold, there in subject.elsewhere.items()}
    for name, (classes, rows, evaluated) in own.items():
        others = {fold: there[name][2] for fold, there in elsewhere.items() if name in there}
        weights = subject.weights[:, rows]
        for by in (None, "class", "site"):
            sets = sets_elsewhere(evaluated, others, 1 - settings.set_coverage, by)
            table = coverage_table(sets, evaluated, classes, weights=weights, confidence=settings.confidence)
            yield table.assign(of=name)


def subgroups(subject: Subject, settings: Settings) -> Tables:
    """Tabulate the metrics by site and by each declared subgroup column."""
    for question in subject.questions():
        table = subgroup_table(
            subject.groups(question.rows),
            question.prediction,
            question.events,
            subject.evaluated.patients[question.rows],
            weights=subject.weights[:, question.rows],
            confidence=settings.confidence,
        )
        yield table.assign(of=question.name)


def baselines(subject: Subject, settings: Settings) -> Tables:
    """Compare the model with predictions made without the image."""
    evaluated = subject.evaluated
    yield baseline_table(
        evaluated.calibrated,
        evaluated.baselines,
        evaluated.labels,
        evaluated.patients,
        weights=subject.weights,
        confidence=settings.confidence,
        folds=evaluated.folds if len(subject.elsewhere) > 1 else None,
    )


def increments(subject: Subject, settings: Settings) -> Tables:
    """Evaluate what the images add to the declared columns."""
    yield increment_table(subject, settings)


def at_prevalences(subject: Subject, settings: Settings) -> Tables:
    """Estimate the metrics at the declared prevalences."""
    for question in class_questions(subject):
        calibrated_on = [there.events.mean() for there in subject.questions_elsewhere(question.name).values()]
        share = float(np.mean(calibrated_on)) if calibrated_on else 0.0
        table = prevalence_table(
            question.prediction,
            question.events,
            prevalences=settings.prevalences,
            threshold=settings.thresholds[0],
            weights=subject.weights[:, question.rows],
            confidence=settings.confidence,
            fitted=share if 0 < share < 1 else None,
        )
        yield table.assign(of=question.name)


def recalibrations(subject: Subject, settings: Settings) -> Tables:
    """Tabulate how many labelled patients of a test set an update of its calibration needs; nothing for the folds."""
    if len(subject.elsewhere) == 1:
        evaluated, classes = subject.evaluated, subject.spec.classes
        yield recalibration_curve(
            evaluated.calibrated,
            evaluated.labels,
            evaluated.patients,
            classes,
            sizes=SIZES,
            draws=DRAWS,
            seed=subject.seed,
        )


Rows = Callable[[Subject, Settings], Tables]
TABLES: dict[str, Rows] = {
    "calibration": calibration_rows,
    "calibration_curve": curves,
    "distribution": distributions,
    "roc_band": of_each_class(roc_band),
    "roc_of_folds": roc_curves_of_folds,
    "pr_band": of_each_class(pr_band),
    "decision_curve": decisions,
    "thresholds": thresholds,
    "operating_points": operating_points,
    "risk_coverage": risks,
    "selective": selective_rows,
    "abstention": abstentions,
    "conformal": conformal_sets,
    "subgroups": subgroups,
    "baselines": baselines,
    "increment": increments,
    "prevalence": at_prevalences,
    "recalibration": recalibrations,
}
