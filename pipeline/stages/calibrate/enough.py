"""Say what the cases of a question suffice for, and how many patients validation and development need."""

from pipeline.metrics.questions import TOP_LABEL, Question
from pipeline.metrics.sample_size import WIDTHS, patients_for_development, patients_for_width
from pipeline.stages.calibrate.subject import Subject


def enough_for(events: int, n: int) -> str:
    """Say whether these numbers of events and non-events suffice for a "curve", a "slope", or "neither".

    100 of each for intercept and slope (Collins, Ogundimu, Altman 2016), 200 of each for a flexible curve (Van Calster
    et al. 2016, "A calibration hierarchy"). Even these are imprecise (Snell et al. 2021): read the interval.
    """
    rarer = min(events, n - events)
    return "curve" if rarer >= 200 else "slope" if rarer >= 100 else "neither"


def patients_needed(subject: Subject, question: Question, auc: float | None) -> dict[str, int | None]:
    """Compute how many patients are enough for a question, in columns `patients_for_<what>`.

    New patients for intervals of `WIDTHS`; and, where folds were evaluated, patients for the development of the model.
    """
    needed = {
        f"patients_for_{metric}": patients_for_width(
            metric, question.prediction, question.events, auc=0.0 if auc is None else auc, width=width
        )
        for metric, width in WIDTHS.items()
    }
    folds = len(subject.elsewhere)
    if folds < 2 or question.name == TOP_LABEL:
        return needed | {"patients_for_development": None}
    [raw] = [one for one in subject.questions("uncalibrated") if one.name == question.name]
    trained = round(len(set(subject.evaluated.patients[raw.rows])) * (folds - 1) / folds)
    return needed | {"patients_for_development": patients_for_development(raw.prediction, raw.events, trained)}
