"""Every table by which one set of cases is evaluated, from its predictions and from development cases elsewhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics import discrimination, multilabel
from pipeline.metrics.baseline import baseline_table
from pipeline.metrics.bootstrap import cluster_weights, estimate_all
from pipeline.metrics.calibrators.updating import recalibration_curve
from pipeline.metrics.conformal import ABSENT_OR_PRESENT
from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec
from pipeline.metrics.operating import operating_table
from pipeline.metrics.questions import Question, both_ways, questions_of
from pipeline.metrics.selective import abstention_table, selective_metrics, selective_table
from pipeline.metrics.subgroups import subgroup_table
from pipeline.metrics.summary import in_columns
from pipeline.stages.calibrate.calibration_curve import calibration_row, curve_table, distribution
from pipeline.stages.calibrate.coverage import Prediction, coverage_table, sets_elsewhere
from pipeline.stages.calibrate.discrimination_curves import pr_band, roc_band, roc_of_folds, threshold_table
from pipeline.stages.calibrate.label_shift import prevalence_table
from pipeline.stages.calibrate.subject import Settings, Subject, class_questions
from pipeline.stages.calibrate.utility import decision_curve

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLASSES = "classes"
DECISIONS = 19  # thresholds of the decision curve
SIZES = (5, 10, 20, 40, 80)  # patients of a new site by whom calibration is updated there
DRAWS = 50
STATES = ("uncalibrated", "calibrated")


def assess(
    evaluated: EvaluatedCases,
    elsewhere: Mapping[str, EvaluatedCases],
    labelling: TaskSpec,
    settings: Settings,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Evaluate a set of cases in every way.

    Parameters
    ----------
    evaluated, elsewhere, labelling
        See `Subject`.
    settings : Settings
    seed : int
        Of every draw.

    Returns
    -------
    dict of str to pandas.DataFrame
        By the names in `TABLES`; the column `of` names the question (`questions.Question.name`) where a table has one.
    """
    weights = cluster_weights(evaluated.patients, settings.n_bootstrap, seed)
    subject = Subject(evaluated, elsewhere, labelling, weights, seed)
    return {name: pd.concat(list(rows(subject, settings)) or [pd.DataFrame()]) for name, rows in TABLES.items()}


def calibration_rows(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Evaluate every question before and after calibration, in one row each."""
    for state in STATES:
        for question in subject.questions(state):
            patients, weights = subject.evaluated.patients[question.rows], subject.weights[:, question.rows]
            known = (question.prediction, question.events, patients, weights)
            row = calibration_row(*known, settings.confidence, settings.bins, subject.seed)
            proper = estimate_all(proper_metrics(question), weights, settings.confidence)
            more = in_columns({name: vars(one) for name, one in proper.items()})
            asked = {"state": state, "of": question.name, "enough_for": enough_for(row["events"], row["n"])}
            yield pd.DataFrame([{**asked, **row, **more}])


def proper_metrics(question: Question) -> dict[str, Callable[[Floats], Floats]]:
    """Bind what does not depend on a threshold to a question."""
    known = (question.prediction, question.events)
    return {
        "auc": partial(discrimination.roc_auc, *known),
        "average_precision": partial(discrimination.average_precision, *known),
        "log_loss": partial(multilabel.log_loss, *known),
        "brier": partial(multilabel.brier, *known),
    }


def enough_for(events: int, n: int) -> str:
    """Say what so many events and non-events are enough for: a "curve", a "slope", or "neither".

    100 of each for intercept and slope (Collins, Ogundimu, Altman 2016), 200 of each for a flexible curve (Van Calster
    et al. 2016, "A calibration hierarchy"). Even these are imprecise (Snell et al. 2021): read the interval.
    """
    rarer = min(events, n - events)
    return "curve" if rarer >= 200 else "slope" if rarer >= 100 else "neither"


def curves(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Draw the smooth calibration curve of every question, before and after calibration."""
    for state in STATES:
        for question in subject.questions(state):
            found = curve_table(
                question.prediction, question.events, subject.weights[:, question.rows], settings.confidence
            )
            yield found.assign(state=state, of=question.name)


def distributions(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Count the calibrated predictions of events and of non-events."""
    for question in subject.questions():
        yield distribution(question.prediction, question.events, settings.bins).assign(of=question.name)


def roc_curves(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Draw the ROC curve of every class with its band."""
    for question in class_questions(subject):
        known = (question.prediction, question.events, subject.weights[:, question.rows])
        yield roc_band(*known, settings.confidence).assign(of=question.name)


def roc_curves_of_folds(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Draw the ROC curve of every class in each fold, where there are several."""
    for question in class_questions(subject) if len(subject.elsewhere) > 1 else []:
        yield roc_of_folds(question.prediction, question.events, subject.evaluated.folds[question.rows]).assign(
            of=question.name
        )


def pr_curves(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Draw the precision-recall curve of every class with its band."""
    for question in class_questions(subject):
        known = (question.prediction, question.events, subject.weights[:, question.rows])
        yield pr_band(*known, settings.confidence).assign(of=question.name)


def thresholds(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Count what acting from any threshold upwards would find and spare."""
    for question in class_questions(subject):
        known = (question.prediction, question.events, subject.weights[:, question.rows])
        yield threshold_table(*known, settings.confidence).assign(of=question.name)


def decisions(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Draw the decision curve over the thresholds that were declared."""
    thresholds = np.linspace(*settings.thresholds, DECISIONS)
    for question in class_questions(subject):
        weights = subject.weights[:, question.rows]
        yield decision_curve(question.prediction, question.events, weights, thresholds, settings.confidence).assign(
            of=question.name
        )


def operating_points(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Evaluate the thresholds that were chosen elsewhere for a sensitivity and for a specificity."""
    for question in class_questions(subject):
        development = {
            fold: (there.prediction, there.events) for fold, there in subject.questions_elsewhere(question.name).items()
        }
        own = (
            question.prediction,
            question.events,
            subject.evaluated.patients[question.rows],
            subject.evaluated.folds[question.rows],
        )
        found = operating_table(
            *own, development, settings.levels, subject.weights[:, question.rows], settings.confidence
        )
        yield found.assign(of=question.name)


def risks(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Draw the risk-coverage curve."""
    yield selective_table(subject.evaluated.calibrated, subject.evaluated.labels, subject.weights, settings.confidence)


def selective_rows(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Sum the risk-coverage curve up."""
    metrics = selective_metrics(subject.evaluated.calibrated, subject.evaluated.labels)
    found = estimate_all(metrics, subject.weights, settings.confidence)
    yield pd.DataFrame([in_columns({name: vars(one) for name, one in found.items()})])


def abstentions(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Evaluate rules of abstention that were fixed elsewhere."""
    evaluated = subject.evaluated
    development = {fold: (there.calibrated, there.labels) for fold, there in subject.elsewhere.items()}
    own = (evaluated.calibrated, evaluated.labels, subject.evaluated.folds, development)
    yield abstention_table(*own, subject.weights, settings.confidence)


def conformal_sets(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Evaluate sets of classes, promised to everyone, to each class, and to each site."""
    own = predictions(subject.evaluated, subject.labelling)
    elsewhere = {fold: predictions(there, subject.labelling) for fold, there in subject.elsewhere.items()}
    for name, (classes, rows, evaluated) in own.items():
        others = {fold: there[name][2] for fold, there in elsewhere.items() if name in there}
        for by in (None, "class", "site"):
            sets = sets_elsewhere(evaluated, others, 1 - settings.set_coverage, by)
            found = coverage_table(sets, evaluated, classes, subject.weights[:, rows], settings.confidence)
            yield found.assign(of=name)


def predictions(evaluated: EvaluatedCases, labelling: TaskSpec) -> dict[str, tuple[Sequence[str], Ints, Prediction]]:
    """Put the question for a class, or those for each label by itself, with the classes and rows that it has."""
    everyone = np.arange(len(evaluated.labels))
    known = evaluated.patients, evaluated.cases["site"].to_numpy(dtype=str), evaluated.folds
    if evaluated.labels.ndim == 1:
        return {CLASSES: (labelling.classes, everyone, Prediction(evaluated.calibrated, evaluated.labels, *known))}
    return {
        question.name: (
            ABSENT_OR_PRESENT,
            question.rows,
            Prediction(
                both_ways(question.prediction), question.events.astype(np.int64), *(one[question.rows] for one in known)
            ),
        )
        for question in questions_of(evaluated.calibrated, evaluated.labels, labelling.classes)
    }


def subgroups(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Tell metrics apart by site and by the columns that were named."""
    for question in subject.questions():
        patients, weights = subject.evaluated.patients[question.rows], subject.weights[:, question.rows]
        groups = subject.groups(question.rows)
        known = (question.prediction, question.events, patients, weights, settings.confidence)
        yield subgroup_table(groups, *known).assign(of=question.name)


def baselines(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Set the model beside predictions that saw no image."""
    evaluated = subject.evaluated
    several = evaluated.folds if len(subject.elsewhere) > 1 else None
    known = (evaluated.labels, evaluated.patients, subject.weights, settings.confidence, several)
    yield baseline_table(evaluated.calibrated, evaluated.baselines, *known)


def at_prevalences(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Say what the metrics would be at the prevalences that were declared."""
    threshold = settings.thresholds[0]
    for question in class_questions(subject):
        weights = subject.weights[:, question.rows]
        known = (question.prediction, question.events, settings.prevalences, threshold, weights, settings.confidence)
        calibrated_on = [there.events.mean() for there in subject.questions_elsewhere(question.name).values()]
        share = float(np.mean(calibrated_on)) if calibrated_on else 0.0
        yield prevalence_table(*known, fitted=share if 0 < share < 1 else None).assign(of=question.name)


def recalibrations(subject: Subject, settings: Settings) -> Iterator[pd.DataFrame]:
    """Say how many labelled patients of this place an update of the calibration needs, if it is a place of its own."""
    if len(subject.elsewhere) == 1:
        evaluated = subject.evaluated
        known = (evaluated.calibrated, evaluated.labels, evaluated.patients, subject.labelling.classes)
        yield recalibration_curve(*known, SIZES, DRAWS, subject.seed)


TABLES: dict[str, Callable[[Subject, Settings], Iterator[pd.DataFrame]]] = {
    "calibration": calibration_rows,
    "calibration_curve": curves,
    "distribution": distributions,
    "roc_band": roc_curves,
    "roc_of_folds": roc_curves_of_folds,
    "pr_band": pr_curves,
    "decision_curve": decisions,
    "thresholds": thresholds,
    "operating_points": operating_points,
    "risk_coverage": risks,
    "selective": selective_rows,
    "abstention": abstentions,
    "conformal": conformal_sets,
    "subgroups": subgroups,
    "baselines": baselines,
    "prevalence": at_prevalences,
    "recalibration": recalibrations,
}
